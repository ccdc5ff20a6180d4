//! What a Lease says and what follows from it: no IO, the clock passed in.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::limits::LEASE_DURATION;

/// What a Lease that does not say how long it lasts is taken for.
const LEASE: Duration = Duration::from_secs(15);

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Empty when it was released.
    pub holder: String,
    /// How long it must be seen unchanged before another may take it.
    pub duration: Duration,
    /// Only ever compared with itself: a change is a sign of life.
    pub renewed: Option<Timestamp>,
    pub transitions: i32,
}

impl LeaseRecord {
    /// What a Lease says; what it leaves out, as client-go takes it.
    pub fn of(lease: &Lease) -> Self {
        let empty = LeaseSpec::default();
        let spec = lease.spec.as_ref().unwrap_or(&empty);
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.clone().unwrap_or_default(),
            duration: seconds.map_or(LEASE, Duration::from_secs).min(LEASE_DURATION.1),
            renewed: spec.renew_time.as_ref().map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }
}

/// The record as the operator last saw it, and since when it has been like that.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    last: Option<(LeaseRecord, Instant)>,
}

impl Seen {
    /// Takes note of a record that was read just now.
    pub fn note(&mut self, record: Option<&LeaseRecord>, now: Instant) {
        match (&self.last, record) {
            (Some((last, _)), Some(record)) if last == record => {}
            (_, record) => self.last = record.map(|record| (record.clone(), now)),
        }
    }

    fn since(&self, record: &LeaseRecord) -> Option<Instant> {
        self.last.as_ref().filter(|(last, _)| last == record).map(|(_, since)| *since)
    }
}

/// What to do about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is free, or has run out: take it.
    Acquire,
    /// It is the operator's already; at the start, from a run of this Pod that the kubelet has ended.
    Renew,
    /// Another holds it, at least for so long.
    Wait(Duration),
}

/// Decides from what the Lease says, how long the operator has seen it say so, and who the operator is.
pub fn decide(record: Option<&LeaseRecord>, seen: &Seen, me: &str, now: Instant) -> Decision {
    let Some(record) = record.filter(|record| !record.holder.is_empty()) else { return Decision::Acquire };
    if record.holder == me {
        return Decision::Renew;
    }
    let unchanged = seen.since(record).map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    match record.duration.checked_sub(unchanged) {
        None | Some(Duration::ZERO) => Decision::Acquire,
        Some(left) => Decision::Wait(left),
    }
}

/// The Lease with the operator as its holder, from now.
pub(super) fn held(mut lease: Lease, identity: &str, duration: Duration, now: Timestamp) -> Lease {
    let before = LeaseRecord::of(&lease);
    let spec = lease.spec.get_or_insert_default();
    if before.holder != identity {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(before.transitions.saturating_add(1));
    }
    spec.holder_identity = Some(identity.to_owned());
    spec.lease_duration_seconds = Some(i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX));
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// The Lease without a holder.
pub(super) fn released(mut lease: Lease, now: Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str) -> LeaseRecord {
        LeaseRecord { holder: holder.to_owned(), duration: LEASE, renewed: None, transitions: 0 }
    }

    fn seen(record: &LeaseRecord, since: Instant) -> Seen {
        let mut seen = Seen::default();
        seen.note(Some(record), since);
        seen
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_ours_or_seen_unchanged_for_its_duration() {
        let start = Instant::now();
        let after = |millis: u64| start + Duration::from_millis(millis);
        let (other, mine, free) = (record("other"), record("me"), record(""));
        let short = LeaseRecord { duration: Duration::from_secs(1), ..record("other") };
        let wait = |millis: u64| Decision::Wait(Duration::from_millis(millis));
        let cases = [
            ("there is none", None, Seen::default(), 0, Decision::Acquire),
            ("it was released", Some(&free), seen(&free, start), 0, Decision::Acquire),
            ("it is ours from before", Some(&mine), seen(&mine, start), 0, Decision::Renew),
            ("it is ours and old", Some(&mine), seen(&mine, start), 60_000, Decision::Renew),
            ("just seen", Some(&other), seen(&other, start), 0, wait(15_000)),
            ("seen for a while", Some(&other), seen(&other, start), 9_000, wait(6_000)),
            ("the last moment", Some(&other), seen(&other, start), 14_999, wait(1)),
            ("it has run out", Some(&other), seen(&other, start), 15_000, Decision::Acquire),
            ("long since", Some(&other), seen(&other, start), 600_000, Decision::Acquire),
            ("never seen before", Some(&other), Seen::default(), 60_000, wait(15_000)),
            ("a shorter one has run out", Some(&short), seen(&short, start), 1_000, Decision::Acquire),
            ("what we saw was something else", Some(&other), seen(&short, start), 60_000, wait(15_000)),
        ];
        for (case, record, seen, millis, expected) in cases {
            assert_eq!(decide(record, &seen, "me", after(millis)), expected, "{case}");
        }
    }

    #[test]
    fn a_renewal_starts_the_time_again_and_its_clock_does_not_matter() {
        let start = Instant::now();
        let later = start + Duration::from_secs(14);
        let first = LeaseRecord { renewed: Some("1970-01-01T00:00:00Z".parse().unwrap()), ..record("other") };
        let renewed =
            LeaseRecord { renewed: Some("2999-01-01T00:00:00Z".parse().unwrap()), ..record("other") };
        let mut seen = seen(&first, start);
        seen.note(Some(&first), later);
        assert_eq!(decide(Some(&first), &seen, "me", later), Decision::Wait(Duration::from_secs(1)));
        seen.note(Some(&renewed), later);
        assert_eq!(decide(Some(&renewed), &seen, "me", later), Decision::Wait(LEASE));
        seen.note(None, later);
        assert_eq!(decide(None, &seen, "me", later), Decision::Acquire);
    }

    #[test]
    fn a_takeover_counts_as_a_transition_and_a_renewal_does_not() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let first = held(Lease::default(), "a", LEASE, now);
        let renewed = held(first.clone(), "a", LEASE, "2026-01-01T00:00:02Z".parse().unwrap());
        let taken = held(released(renewed.clone(), now), "b", LEASE, now);
        let transitions = |lease: &Lease| LeaseRecord::of(lease).transitions;
        assert_eq!((transitions(&first), transitions(&renewed), transitions(&taken)), (1, 1, 2));
        let (first, renewed) = (first.spec.unwrap(), renewed.spec.unwrap());
        assert_eq!(first.acquire_time, renewed.acquire_time);
        assert_ne!(first.renew_time, renewed.renew_time);
        assert_eq!(renewed.lease_duration_seconds, Some(15));
    }

    #[test]
    fn a_lease_that_says_nothing_or_nonsense_is_read_with_bounds() {
        assert_eq!(LeaseRecord::of(&Lease::default()), record(""));
        for (seconds, expected) in [(-5, 15), (0, 0), (30, 30), (i32::MAX, 60)] {
            let spec = LeaseSpec { lease_duration_seconds: Some(seconds), ..LeaseSpec::default() };
            let lease = Lease { spec: Some(spec), ..Lease::default() };
            assert_eq!(LeaseRecord::of(&lease).duration, Duration::from_secs(expected), "{seconds}");
        }
    }
}

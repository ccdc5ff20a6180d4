//! When an object is due.
//!
//! Due times lie on an absolute grid, `k · interval + offset`, so that a restart needs no record of the last
//! refresh and waits for the next slot. The objects of one interval share a few offsets, chosen by a hash of
//! the uid: spread enough for the server, together enough for full batches.

use std::time::Duration;

use jiff::Timestamp;

use crate::limits::SYNC_NOW_PAUSE;

/// How many offsets the objects of one interval share.
pub const OFFSETS: u32 = 16;
/// The same where versions are asked for first: each offset costs a walk through the list of all variables.
pub const VERSION_OFFSETS: u32 = 4;

/// How many objects are woken at one moment at most, where something makes many due at once: their variables fill a
/// batch or two.
const TOGETHER: usize = 64;
/// The time between two such moments.
const BETWEEN: Duration = Duration::from_millis(100);
/// In which time all of them are woken, however many there are.
const ALL_WITHIN: Duration = Duration::from_secs(5);

/// When the `nth` of `count` objects is to be woken that are due all at once, as after an outage of their connection:
/// spread enough for Conjur and the API server, together enough for full batches. A few are woken at once.
pub fn spread(nth: usize, count: usize) -> Duration {
    let moments = u32::try_from(count.div_ceil(TOGETHER)).unwrap_or(u32::MAX).max(1);
    let moment = u32::try_from(nth / TOGETHER).unwrap_or(u32::MAX).min(moments - 1);
    BETWEEN.min(ALL_WITHIN / moments) * moment
}

/// The refresh grid of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    interval: i128,
    offset: i128,
}

impl Slots {
    /// The grid of the object with that uid.
    pub fn new(interval: Duration, uid: &str, offsets: u32) -> Self {
        let interval = i128::try_from(interval.as_nanos()).unwrap_or(i128::MAX).max(1);
        let group = i128::from(fnv1a(uid) % u64::from(offsets.max(1)));
        Self { interval, offset: interval / i128::from(offsets.max(1)) * group }
    }

    /// The number of the slot that `now` lies in.
    pub fn current(self, now: Timestamp) -> i128 {
        (now.as_nanosecond() - self.offset).div_euclid(self.interval)
    }

    /// How long ago the slot that `now` lies in began.
    pub fn since(self, now: Timestamp) -> Duration {
        let passed = (now.as_nanosecond() - self.offset).rem_euclid(self.interval);
        Duration::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// How long until the next slot begins; never zero.
    pub fn next_in(self, now: Timestamp) -> Duration {
        let left = self.interval - (now.as_nanosecond() - self.offset).rem_euclid(self.interval);
        Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

/// A share (0 to 1) of some time, the same over restarts, that spreads objects over it.
pub fn share_of(uid: &str) -> f64 {
    f64::from(u32::try_from(fnv1a(uid) >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

/// FNV-1a: a hash that stays the same over restarts and releases, for spreading only.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// What is known of the Secret without asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSeen {
    /// It is as the operator last wrote or saw it.
    AsLeft,
    /// It is there with another resource version: a label of someone, or drift.
    Changed,
    /// It is gone.
    Gone,
}

/// What decides whether an object is due.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[expect(clippy::struct_field_names, reason = "one is named as in the status")]
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// `status.observedGeneration`.
    pub observed_generation: Option<i64>,
    /// The annotation `sync-now`.
    pub sync_now: Option<&'a str>,
    /// `status.lastHandledSyncNow`.
    pub handled_sync_now: Option<&'a str>,
    /// The hash over what it refers to, now.
    pub inputs: &'a str,
    /// `status.observedInputs`.
    pub handled_inputs: Option<&'a str>,
    /// Whether Ready is True.
    pub ready: bool,
    /// Whether Reconciling is True: the last attempt failed.
    pub retrying: bool,
    /// The target.
    pub target: TargetSeen,
    /// The slot that was last handled by this process; none after a start.
    pub handled_slot: Option<i128>,
    /// When what it found is to be looked at once more: the list was from before it.
    pub look_again: Option<Timestamp>,
    /// The Secret was made, and is left alone while it is there (`refreshPolicy: CreatedOnce`).
    pub made_once: bool,
    /// Nothing but restarts of workloads is left to do of what the last attempt was for.
    pub only_rollout: bool,
}

/// Whether an object is due, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Something asks for it.
    Now(Cause),
    /// Nothing does; the next slot begins after the time.
    In(Duration),
    /// Nothing does, and it has no slots: something will wake it.
    WhenWoken,
}

/// Why an object is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A generation that was not yet handled.
    Generation,
    /// A `sync-now` text that was not yet handled.
    SyncNow,
    /// What it refers to is another.
    Inputs,
    /// The Secret is gone or changed.
    Drift,
    /// It is not Ready, or the last attempt failed.
    Unfinished,
    /// Its slot came.
    Slot,
    /// Its Secret is done, and workloads are still to be restarted for it.
    Rollout,
}

impl Cause {
    /// Whether someone waits for it: such objects don't wait behind refreshes.
    pub fn is_foreground(self) -> bool {
        !matches!(self, Cause::Slot | Cause::Unfinished | Cause::Rollout)
    }
}

/// What the annotation `sync-now` of an object comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncNow {
    /// Nothing new.
    Nothing,
    /// A text that was not yet handled.
    Due,
    /// The same, but another was handled a moment ago: it is handled after the time.
    In(Duration),
}

/// Decides whether a `sync-now` is to be handled: each new text once, and the texts of one object at most once in
/// [`SYNC_NOW_PAUSE`], so that whoever changes it all the time costs no more than who changes it now and then.
/// `handled`: the text that was handled last, and `at`: when, where that is known.
pub fn sync_now(text: Option<&str>, handled: Option<&str>, at: Option<Timestamp>, now: Timestamp) -> SyncNow {
    if text.is_none() || text == handled {
        return SyncNow::Nothing;
    }
    // A clock that was set back makes no pause longer.
    let since = at.and_then(|at| Duration::try_from(now.duration_since(at)).ok());
    match since.and_then(|since| SYNC_NOW_PAUSE.checked_sub(since)).filter(|rest| !rest.is_zero()) {
        Some(rest) => SyncNow::In(rest),
        None => SyncNow::Due,
    }
}

/// Decides whether an object is due. `slots`: none where it is refreshed only on a change.
pub fn due(seen: &Observed, slots: Option<Slots>, now: Timestamp) -> Due {
    let slot_came = |slots: Slots| {
        seen.handled_slot.is_some_and(|handled| slots.current(now) > handled)
            || seen.look_again.is_some_and(|at| now >= at)
    };
    if seen.generation != seen.observed_generation {
        Due::Now(Cause::Generation)
    } else if seen.sync_now.is_some() && seen.sync_now != seen.handled_sync_now {
        Due::Now(Cause::SyncNow)
    } else if Some(seen.inputs) != seen.handled_inputs && !seen.made_once {
        Due::Now(Cause::Inputs)
    } else if (!seen.ready || seen.retrying) && !seen.only_rollout {
        Due::Now(Cause::Unfinished)
    } else if seen.target != TargetSeen::AsLeft && !seen.made_once {
        Due::Now(Cause::Drift)
    } else if slots.is_some_and(slot_came) {
        Due::Now(Cause::Slot)
    } else if seen.only_rollout {
        Due::Now(Cause::Rollout)
    } else {
        slots.map_or(Due::WhenWoken, |slots| {
            let look_again = seen.look_again.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
            Due::In(look_again.into_iter().fold(slots.next_in(now), Duration::min))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn settled() -> Observed<'static> {
        Observed {
            generation: Some(3),
            observed_generation: Some(3),
            sync_now: None,
            handled_sync_now: None,
            inputs: "a",
            handled_inputs: Some("a"),
            ready: true,
            retrying: false,
            target: TargetSeen::AsLeft,
            handled_slot: None,
            look_again: None,
            made_once: false,
            only_rollout: false,
        }
    }

    #[test]
    fn after_a_restart_a_settled_object_waits_for_its_next_slot() {
        let slots = Slots::new(Duration::from_secs(3600), "uid", OFFSETS);
        let Due::In(wait) = due(&settled(), Some(slots), at(1_800_000_000)) else { panic!("due at once") };
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(3600));
    }

    #[test]
    fn each_cause_makes_an_object_due_now() {
        let slots = Slots::new(Duration::from_secs(3600), "uid", OFFSETS);
        let now = at(1_800_000_000);
        let s = settled;
        for (seen, cause) in [
            (Observed { generation: Some(4), ..s() }, Cause::Generation),
            (Observed { observed_generation: Some(-1), ..s() }, Cause::Generation),
            (Observed { sync_now: Some("x"), ..s() }, Cause::SyncNow),
            (Observed { inputs: "b", ..s() }, Cause::Inputs),
            (Observed { ready: false, ..s() }, Cause::Unfinished),
            (Observed { retrying: true, ..s() }, Cause::Unfinished),
            (Observed { target: TargetSeen::Gone, ..s() }, Cause::Drift),
            (Observed { target: TargetSeen::Changed, ..s() }, Cause::Drift),
            (Observed { handled_slot: Some(slots.current(now) - 1), ..s() }, Cause::Slot),
            (Observed { look_again: Some(now), ..s() }, Cause::Slot),
            (Observed { only_rollout: true, ..s() }, Cause::Rollout),
            (Observed { only_rollout: true, retrying: true, ready: false, ..s() }, Cause::Rollout),
            // Restarts that fail hold no refresh up.
            (Observed { only_rollout: true, handled_slot: Some(slots.current(now) - 1), ..s() }, Cause::Slot),
            (Observed { only_rollout: true, generation: Some(4), ..s() }, Cause::Generation),
        ] {
            assert_eq!(due(&seen, Some(slots), now), Due::Now(cause));
        }
        for seen in [
            Observed { handled_slot: Some(slots.current(now)), ..s() },
            Observed { sync_now: Some("x"), handled_sync_now: Some("x"), ..s() },
            Observed { handled_sync_now: Some("x"), ..s() },
        ] {
            assert!(matches!(due(&seen, Some(slots), now), Due::In(_)));
        }
    }

    #[test]
    fn what_is_to_be_looked_at_once_more_does_not_wait_for_the_next_slot() {
        let (slots, now) = (Slots::new(Duration::from_secs(3600), "uid", OFFSETS), at(1_800_000_000));
        let seen = Observed { look_again: Some(at(1_800_000_005)), ..settled() };
        assert_eq!(due(&seen, Some(slots), now), Due::In(Duration::from_secs(5)));
        assert_eq!(due(&seen, None, now), Due::WhenWoken);
    }

    #[test]
    fn without_slots_an_object_is_due_only_on_a_change() {
        let now = at(1_800_000_000);
        assert_eq!(due(&Observed { handled_slot: Some(0), ..settled() }, None, now), Due::WhenWoken);
        let changed = Observed { inputs: "b", ..settled() };
        assert_eq!(due(&changed, None, now), Due::Now(Cause::Inputs));
        assert_eq!(due(&Observed { sync_now: Some("x"), ..settled() }, None, now), Due::Now(Cause::SyncNow));
    }

    #[test]
    fn sync_now_counts_once_in_five_seconds_and_none_is_lost() {
        let (start, pause) = (at(1_800_000_000), SYNC_NOW_PAUSE);
        let after = |ms: u64| start + Duration::from_millis(ms);
        for (text, handled, at, now, expected) in [
            (None, None, None, start, SyncNow::Nothing),
            (None, Some("a"), None, start, SyncNow::Nothing),
            (Some("a"), Some("a"), None, start, SyncNow::Nothing),
            (Some("a"), None, None, start, SyncNow::Due),
            (Some("b"), Some("a"), None, start, SyncNow::Due),
            (Some("b"), Some("a"), Some(start), start, SyncNow::In(pause)),
            (Some("b"), Some("a"), Some(start), after(1_500), SyncNow::In(Duration::from_millis(3_500))),
            (Some("a"), Some("a"), Some(start), after(1_500), SyncNow::Nothing),
            (Some("b"), Some("a"), Some(start), after(5_000), SyncNow::Due),
            (Some("b"), Some("a"), Some(after(1)), start, SyncNow::Due),
        ] {
            assert_eq!(sync_now(text, handled, at, now), expected, "{text:?} {handled:?} {at:?}");
        }
    }

    proptest! {
        /// Whoever changes it all the time gets one look in each pause, and the last text is handled in the end.
        #[test]
        fn many_sync_nows_cost_one_in_each_pause(gaps in prop::collection::vec(1_u64..3_000, 1..60)) {
            let (mut now, mut handled, mut looks) = (at(1_800_000_000), (None::<String>, None), Vec::new());
            let mut text = String::new();
            let mut look = |now: Timestamp, text: &str, handled: &mut (Option<String>, Option<Timestamp>)| {
                let said = sync_now(Some(text), handled.0.as_deref(), handled.1, now);
                if said == SyncNow::Due {
                    *handled = (Some(text.to_owned()), Some(now));
                    looks.push(now);
                }
                said
            };
            for (nth, gap) in gaps.iter().enumerate() {
                now += Duration::from_millis(*gap);
                text = nth.to_string();
                look(now, &text, &mut handled);
            }
            if let SyncNow::In(rest) = look(now, &text, &mut handled) {
                prop_assert_eq!(look(now + rest, &text, &mut handled), SyncNow::Due);
            }
            prop_assert_eq!(handled.0, Some(text));
            for two in looks.windows(2) {
                prop_assert!(Duration::try_from(two[1].duration_since(two[0])).unwrap() >= SYNC_NOW_PAUSE);
            }
        }
    }

    #[test]
    fn a_secret_that_is_made_once_is_due_only_when_it_is_gone() {
        let now = at(1_800_000_000);
        let once = || Observed { made_once: true, ..settled() };
        for seen in [Observed { inputs: "b", ..once() }, Observed { target: TargetSeen::Changed, ..once() }] {
            assert_eq!(due(&seen, None, now), Due::WhenWoken);
        }
        let gone = Observed { target: TargetSeen::Gone, made_once: false, ..once() };
        assert_eq!(due(&gone, None, now), Due::Now(Cause::Drift));
        // Looked at, so that its status follows; the Secret stays as it is.
        assert_eq!(due(&Observed { generation: Some(4), ..once() }, None, now), Due::Now(Cause::Generation));
    }

    #[test]
    fn what_is_due_at_once_is_spread_over_a_time_that_grows_with_its_number_up_to_a_bound() {
        let millis = Duration::from_millis;
        for (nth, count, expected) in [
            (0, 0, millis(0)),
            (0, 1, millis(0)),
            (63, 64, millis(0)),
            (63, 65, millis(0)),
            (64, 65, millis(100)),
            (999, 1_000, millis(1_500)),
            (3_199, 3_200, millis(4_900)),
        ] {
            assert_eq!(spread(nth, count), expected, "{nth} of {count}");
        }
        for count in [10_000, 1_000_000] {
            let all: Vec<_> = (0..count).map(|nth| spread(nth, count)).collect();
            assert!(all.is_sorted());
            assert!(all[count - 1] < ALL_WITHIN && all[count - 1] > millis(4_900), "{count}");
        }
    }

    #[test]
    fn the_objects_of_one_interval_share_sixteen_slots() {
        let now = at(1_800_000_000);
        let starts: std::collections::BTreeSet<_> = (0..1000)
            .map(|i| Slots::new(Duration::from_secs(60), &format!("uid-{i}"), OFFSETS).next_in(now))
            .collect();
        assert_eq!(starts.len(), 16);
    }

    proptest! {
        #[test]
        fn a_slot_follows_the_other(seconds in 10u64..1_000_000, uid in ".{0,40}", now in 1_700_000_000i64..2_000_000_000) {
            let slots = Slots::new(Duration::from_secs(seconds), &uid, OFFSETS);
            let now = at(now);
            let wait = slots.next_in(now);
            prop_assert!(wait > Duration::ZERO && wait <= Duration::from_secs(seconds));
            prop_assert_eq!(slots.current(now + wait), slots.current(now) + 1);
            prop_assert_eq!(slots.since(now) + wait, Duration::from_secs(seconds));
            prop_assert_eq!(slots.current(now - slots.since(now)), slots.current(now));
        }
    }
}

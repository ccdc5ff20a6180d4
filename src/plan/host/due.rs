//! When a host is looked at, and when its key is to be rotated. Rotations lie on the grid of [`crate::plan::schedule`].

use std::time::Duration;

use jiff::Timestamp;

use super::step::RotationAsked;
use crate::plan::schedule::{Slots, TargetSeen};

/// What decides whether an object is looked at.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Clone, Debug)]
pub struct HostObserved {
    /// The generation was handled, the object is Ready, and the last attempt did not fail.
    pub done: bool,
    /// A `sync-now` or `rotate-now` that was not handled.
    pub asked: bool,
    /// This process looked at it, as it is connected now.
    pub looked: bool,
    /// Something is announced; until when it may still come through, where that is known.
    #[expect(clippy::option_option, reason = "nothing pending, and pending without a time, are two things")]
    pub pending: Option<Option<i64>>,
    /// A rotation is due by the grid.
    pub rotates: bool,
    /// The Secret.
    pub target: TargetSeen,
    /// Whether there is to be one.
    pub keeps_key: bool,
    /// Workloads are still to be restarted.
    pub rollout: bool,
}

/// Whether an object is looked at now; else after which time, where nothing wakes it before.
pub fn look_in(seen: &HostObserved, slots: Option<Slots>, now: Timestamp) -> Option<Duration> {
    let disturbed = seen.keeps_key && seen.target != TargetSeen::AsLeft;
    if !seen.done || seen.asked || !seen.looked || seen.rotates || disturbed || seen.rollout {
        return None;
    }
    let waits = match seen.pending {
        None => None,
        Some(until) => {
            let left = until.map_or(0, |until| until.saturating_sub(now.as_second()));
            // Looked at now: what was announced is resolved.
            Some(u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_secs)?)
        }
    };
    let next = slots.map(|slots| slots.next_in(now));
    Some(waits.into_iter().chain(next).min().unwrap_or(Duration::MAX))
}

/// What asks for another key: a new text of `rotate-now`, or a slot that began since the stored one was made (`last`, in
/// seconds since 1970; none where there is none yet, for then one is made anyway).
pub fn rotation_asked(
    text: Option<&str>,
    handled: Option<&str>,
    last: Option<i64>,
    slots: Option<Slots>,
    now: Timestamp,
) -> RotationAsked {
    // In one piece: a slot need not begin with a second, and two roundings would make two slots of one.
    let began = slots.map(|slots| {
        let since = i128::try_from(slots.since(now).as_nanos()).unwrap_or(i128::MAX);
        let began = now.as_nanosecond().saturating_sub(since).div_euclid(1_000_000_000);
        i64::try_from(began).unwrap_or(i64::MIN)
    });
    RotationAsked {
        text: text.filter(|text| Some(*text) != handled).map(str::to_owned),
        since: began.filter(|began| last.is_some_and(|last| last < *began)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn settled() -> HostObserved {
        HostObserved {
            done: true,
            asked: false,
            looked: true,
            pending: None,
            rotates: false,
            target: TargetSeen::AsLeft,
            keeps_key: true,
            rollout: false,
        }
    }

    #[test]
    fn a_host_is_looked_at_when_something_asks_for_it_and_else_at_its_slot() {
        let now = at(1_800_000_000);
        let hour = Duration::from_secs(3600);
        let slots = Slots::new(hour, "uid", 16);
        assert_eq!(look_in(&settled(), Some(slots), now), Some(slots.next_in(now)));
        assert_eq!(look_in(&settled(), None, now), Some(Duration::MAX));
        for (seen, what) in [
            (HostObserved { done: false, ..settled() }, "not done"),
            (HostObserved { asked: true, ..settled() }, "asked"),
            (HostObserved { looked: false, ..settled() }, "after a start"),
            (HostObserved { rotates: true, ..settled() }, "its slot"),
            (HostObserved { target: TargetSeen::Changed, ..settled() }, "the Secret was edited"),
            (HostObserved { target: TargetSeen::Gone, ..settled() }, "the Secret is gone"),
            (HostObserved { pending: Some(None), ..settled() }, "announced"),
            (
                HostObserved { pending: Some(Some(now.as_second())), ..settled() },
                "it can't come through any more",
            ),
            (HostObserved { rollout: true, ..settled() }, "restarts"),
        ] {
            assert_eq!(look_in(&seen, Some(slots), now), None, "{what}");
        }
        let soon = HostObserved { pending: Some(Some(now.as_second() + 7)), ..settled() };
        assert_eq!(look_in(&soon, None, now), Some(Duration::from_secs(7)));
        let none = HostObserved { target: TargetSeen::Gone, keeps_key: false, ..settled() };
        assert_eq!(look_in(&none, None, now), Some(Duration::MAX));
    }

    #[test]
    fn a_slot_asks_once_and_a_missed_one_at_the_next_look() {
        let slots = Slots::new(Duration::from_secs(3600), "uid", 16);
        let now = at(1_800_000_000);
        let began = now.as_second() - i64::try_from(slots.since(now).as_secs()).unwrap();
        for (last, asks) in [(None, false), (Some(began - 1), true), (Some(began), false), (Some(0), true)] {
            let asked = rotation_asked(None, None, last, Some(slots), now);
            assert_eq!(asked.since, asks.then_some(began), "{last:?}");
        }
        assert_eq!(rotation_asked(None, None, Some(0), None, now), RotationAsked::default());
    }

    #[test]
    fn a_slot_that_begins_within_a_second_begins_once() {
        // A sixteenth of the interval is no whole second.
        let slots = (0..100).map(|nth| Slots::new(Duration::from_secs(3601), &format!("uid {nth}"), 16));
        for slots in slots {
            let start = at(1_800_000_000) + slots.next_in(at(1_800_000_000));
            let all = (0..50_u64).map(|step| {
                let now = start + Duration::from_millis(step * 97);
                rotation_asked(None, None, Some(0), Some(slots), now).since
            });
            assert_eq!(all.collect::<std::collections::BTreeSet<_>>().len(), 1, "{slots:?}");
        }
    }

    #[test]
    fn each_new_text_of_rotate_now_asks_once() {
        let now = at(1_800_000_000);
        for (text, handled, asks) in [
            (None, None, None),
            (Some("a"), None, Some("a")),
            (Some("a"), Some("a"), None),
            (Some("b"), Some("a"), Some("b")),
            (None, Some("a"), None),
        ] {
            assert_eq!(rotation_asked(text, handled, Some(0), None, now).text.as_deref(), asks);
        }
    }
}

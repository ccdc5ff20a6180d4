//! Bounds repairs of a Secret that another writer keeps changing: they go on, but no faster than a bucket of them fills again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// So many repairs in a row are at once: more than someone makes necessary by hand.
const AT_ONCE: i32 = 20;
/// After them, one each time this has passed.
const EVERY: SignedDuration = SignedDuration::from_secs(30);

/// The repairs of one Secret: a leaky bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairBudget {
    /// When the bucket is full again; none where it is.
    full: Option<Timestamp>,
}

impl RepairBudget {
    /// With one more, made at `now`.
    #[must_use]
    pub fn and_one(self, now: Timestamp) -> Self {
        let from = self.full.map_or(now, |full| full.max(now));
        Self { full: from.checked_add(EVERY).ok() }
    }

    /// How long the next repair has to wait; none where it may be now.
    pub fn pause(self, now: Timestamp) -> Option<Duration> {
        let missing = self.full?.duration_since(now);
        // A clock that was set back is no reason to wait for longer than one takes.
        let pause = missing.saturating_sub(EVERY * (AT_ONCE - 1)).min(EVERY);
        Duration::try_from(pause).ok().filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn full() -> RepairBudget {
        (0..20).fold(RepairBudget::default(), |repairs, _| {
            assert_eq!(repairs.pause(at(0)), None);
            repairs.and_one(at(0))
        })
    }

    #[test]
    fn twenty_repairs_are_at_once_and_then_one_every_half_minute() {
        let (mut repairs, mut now) = (full(), 0);
        for _ in 0..5 {
            let pause = repairs.pause(at(now)).unwrap();
            assert_eq!(pause, Duration::from_secs(30));
            assert_eq!(repairs.pause(at(now + 10)), Some(Duration::from_secs(20)));
            now += 30;
            assert_eq!(repairs.pause(at(now)), None);
            repairs = repairs.and_one(at(now));
        }
    }

    #[test]
    fn peace_fills_the_bucket() {
        let repairs = full();
        assert!(repairs.pause(at(1)).is_some());
        assert_eq!(repairs.and_one(at(600)).pause(at(600)), None);
        assert_eq!(repairs.and_one(at(600)), RepairBudget::default().and_one(at(600)));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_wait_longer() {
        assert_eq!(full().pause(at(-100_000)), Some(Duration::from_secs(30)));
    }
}

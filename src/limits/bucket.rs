//! A budget in time: so many at once, and so many a second after that. Pure: the clock is passed in.

use std::time::{Duration, Instant};

/// How much a [`Bucket`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once, after a rest.
    pub burst: u32,
    /// In a second, for ever.
    pub per_second: u32,
}

/// What is left of a rate; full in the beginning.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: Rate,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// Full at `now`.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, left: f64::from(rate.burst), at: now }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// How long until there is one.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.refill(now);
        let lacks = (1.0 - self.left).max(0.0);
        // A little longer, or rounding would make a wait that is over find nothing.
        let nanos = Duration::from_nanos(if lacks > 0.0 { 1000 } else { 0 });
        Duration::from_secs_f64(lacks / f64::from(self.rate.per_second.max(1))) + nanos
    }

    /// Whether nothing was taken for so long that a new one would be the same.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= f64::from(self.rate.burst)
    }

    fn refill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + since * f64::from(self.rate.per_second)).min(f64::from(self.rate.burst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_given_at_once_and_then_the_rate() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut bucket = Bucket::new(Rate { burst: 3, per_second: 2 }, start);
        // When, how many are taken then, and how long the next takes.
        for (millis, taken, wait) in
            [(0, 3, 500), (400, 0, 100), (500, 1, 500), (10_000, 3, 500), (9_000, 0, 500), (11_000, 2, 500)]
        {
            let got = std::iter::repeat_with(|| bucket.take(at(millis))).take_while(|took| *took).count();
            assert_eq!((got, bucket.wait(at(millis)).as_millis()), (taken, wait), "at {millis}");
        }
        assert!(!bucket.is_full(at(11_000)) && bucket.is_full(at(12_500)));
    }

    #[test]
    fn what_was_waited_for_is_there() {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(Rate { burst: 1, per_second: 7 }, now);
        for _ in 0..1000 {
            now += bucket.wait(now);
            assert!(bucket.take(now));
        }
    }
}

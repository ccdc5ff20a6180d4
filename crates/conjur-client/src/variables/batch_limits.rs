//! How much goes into one batch, and how that shrinks when a proxy finds it too long.

use std::time::Duration;

use tokio::time::Instant;

/// The limits of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchLimits {
    pub count: usize,
    pub bytes: usize,
}

impl BatchLimits {
    /// How many of the `weights`, in order, fit into one batch; at least one, however heavy.
    pub(super) fn fitting(self, weights: impl IntoIterator<Item = usize>) -> usize {
        let (mut count, mut bytes) = (0, 0_usize);
        for weight in weights {
            bytes = bytes.saturating_add(weight);
            if count > 0 && (count == self.count || bytes > self.bytes) {
                break;
            }
            count += 1;
        }
        count
    }

    /// Half of both, and again while a batch of `count` and `bytes`, which was too long, would still fit.
    fn halved_below(self, count: usize, bytes: usize) -> Self {
        let mut halved = self;
        loop {
            halved = Self { count: (halved.count / 2).max(1), bytes: (halved.bytes / 2).max(1) };
            if halved.count < count || halved.bytes < bytes || halved.count == 1 {
                return halved;
            }
        }
    }
}

/// The configured limits, or less for a while.
#[derive(Debug)]
pub(super) struct Adaptive {
    configured: BatchLimits,
    lowered: Option<(BatchLimits, Instant)>,
    memory: Duration,
}

impl Adaptive {
    pub(super) fn new(configured: BatchLimits, memory: Duration) -> Self {
        Self { configured, lowered: None, memory }
    }

    pub(super) fn now(&self, now: Instant) -> BatchLimits {
        match self.lowered {
            Some((limits, until)) if now < until => limits,
            _ => self.configured,
        }
    }

    /// A batch of `count` and `bytes` was too long. Where several of the same size were under way, only the first
    /// to say so lowers the limits.
    pub(super) fn too_long(&mut self, count: usize, bytes: usize, now: Instant) -> BatchLimits {
        let current = self.now(now);
        let limits = if count <= current.count && bytes <= current.bytes {
            current.halved_below(count, bytes)
        } else {
            current
        };
        self.lowered = Some((limits, now + self.memory));
        limits
    }
}

/// Cuts `items` into batches.
pub(super) fn batches<T>(items: Vec<T>, limits: BatchLimits, weight: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut batches = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        let tail = rest.split_off(limits.fitting(rest.iter().map(&weight)));
        batches.push(std::mem::replace(&mut rest, tail));
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn batches_never_exceed_their_limits_and_lose_nothing(
            weights in proptest::collection::vec(1_usize..200, 0..300),
            count in 1_usize..50,
            bytes in 200_usize..2000,
        ) {
            let cut = batches(weights.clone(), BatchLimits { count, bytes }, |weight| *weight);
            for batch in &cut {
                prop_assert!(!batch.is_empty() && batch.len() <= count && batch.iter().sum::<usize>() <= bytes);
            }
            prop_assert_eq!(cut.concat(), weights);
        }

        #[test]
        fn a_batch_that_was_too_long_is_cut_by_the_new_limits(
            count in 2_usize..250, each in 1_usize..100, limit in 250_usize..500,
        ) {
            let mut adaptive =
                Adaptive::new(BatchLimits { count: limit, bytes: 30_000 }, Duration::from_secs(600));
            let limits = adaptive.too_long(count, count * each, Instant::now());
            prop_assert!(batches(vec![each; count], limits, |weight| *weight).len() > 1);
        }
    }

    #[test]
    fn lowered_limits_last_a_while_and_are_lowered_once_by_batches_of_one_size() {
        let now = Instant::now();
        let configured = BatchLimits { count: 100, bytes: 8000 };
        let mut adaptive = Adaptive::new(configured, Duration::from_secs(600));
        let half = BatchLimits { count: 50, bytes: 4000 };
        assert_eq!(adaptive.too_long(100, 8000, now), half);
        assert_eq!(adaptive.too_long(100, 7900, now), half, "the second of the same size");
        assert_eq!(adaptive.too_long(50, 4000, now), BatchLimits { count: 25, bytes: 2000 });
        assert_eq!(adaptive.now(now + Duration::from_secs(599)).count, 25);
        assert_eq!(adaptive.now(now + Duration::from_secs(601)), configured);
    }
}

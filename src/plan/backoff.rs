//! The pause after failures in a row.

use std::time::Duration;

/// The pause after the `count`-th failure in a row: doubling from `first` up to `longest`, and up to a fifth
/// shorter by `jitter` (0 to 1), so that many do not come back at once.
pub fn backoff(count: u32, first: Duration, longest: Duration, jitter: f64) -> Duration {
    let full = first.saturating_mul(1 << count.saturating_sub(1).min(20)).min(longest);
    full.mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_longest() {
        let s = Duration::from_secs;
        for (count, expected) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            assert_eq!(backoff(count, s(1), s(300), 0.0), s(expected));
        }
        assert_eq!(backoff(1, s(10), s(300), 1.0), s(8));
    }
}

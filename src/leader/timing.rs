//! How long a Lease lasts, and what follows from that.

use std::time::Duration;

use crate::limits::{HEARTBEAT_LEASE, LEASE_DURATION};

/// How long a Lease lasts, and what follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How long others wait for a sign of life before they take it.
    pub(super) lease: Duration,
    /// How often it is renewed, or asked for.
    pub(super) renew_every: Duration,
    /// Who could not renew it for so long has lost it.
    pub(super) renew_deadline: Duration,
    /// For one call: the client itself has no deadline, and repeats a call for minutes.
    pub(super) call: Duration,
    /// A starting API server may refuse for a moment what it allows.
    pub(super) forbidden_patience: Duration,
    /// How long a runtime may be silent.
    pub(super) heartbeat: Duration,
}

/// Times of a Lease that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// A Lease says whole seconds, and no replica waits longer than the bound.
    #[error(
        "--lease-duration {0:?}: write whole seconds, {least} to {most}: a Lease has no others",
        least = LEASE_DURATION.0.as_secs(),
        most = LEASE_DURATION.1.as_secs()
    )]
    Duration(Duration),
    /// Two would act at once.
    #[error(
        "--lease-renew-deadline {deadline:?} must be shorter than --lease-duration {lease:?}: who can't renew the Lease has to \
         end before another may take it"
    )]
    Deadline {
        /// The one.
        deadline: Duration,
        /// The other.
        lease: Duration,
    },
    /// One call that fails would lose the Lease.
    #[error(
        "--lease-retry-period {retry:?} must be longer than nothing, and at most half of --lease-renew-deadline {deadline:?}: \
         one failed renewal would lose the Lease"
    )]
    Retry {
        /// The one.
        retry: Duration,
        /// The other.
        deadline: Duration,
    },
}

impl LeaseTiming {
    /// With these, where they go together.
    ///
    /// # Errors
    /// In a sentence, what does not.
    pub fn new(lease: Duration, deadline: Duration, retry: Duration) -> Result<Self, TimingError> {
        let (shortest, longest) = LEASE_DURATION;
        if !(shortest..=longest).contains(&lease) || lease.subsec_nanos() != 0 {
            return Err(TimingError::Duration(lease));
        }
        if deadline >= lease {
            return Err(TimingError::Deadline { deadline, lease });
        }
        if retry.is_zero() || retry > deadline / 2 {
            return Err(TimingError::Retry { retry, deadline });
        }
        Ok(Self {
            lease,
            renew_every: retry,
            renew_deadline: deadline,
            // Two that hang leave time for a third.
            call: deadline * 2 / 5,
            forbidden_patience: Duration::from_secs(30),
            heartbeat: HEARTBEAT_LEASE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lease: u64, deadline: u64, retry: u64) -> Result<LeaseTiming, TimingError> {
        LeaseTiming::new(
            Duration::from_millis(lease),
            Duration::from_millis(deadline),
            Duration::from_millis(retry),
        )
    }

    #[test]
    fn times_that_go_together_are_taken_and_others_refused_with_both_of_them() {
        for (lease, deadline, retry) in [(15_000, 10_000, 2_000), (60_000, 59_999, 1), (1_000, 500, 250)] {
            let timing = of(lease, deadline, retry).unwrap();
            assert!(timing.call < timing.renew_deadline && timing.renew_deadline < timing.lease);
        }
        for (lease, deadline, retry, words) in [
            (0, 10_000, 2_000, ["--lease-duration", "1 to 60"]),
            (61_000, 10_000, 2_000, ["--lease-duration", "61s"]),
            (1_500, 1_000, 200, ["--lease-duration", "whole seconds"]),
            (15_000, 15_000, 2_000, ["--lease-renew-deadline 15s", "--lease-duration 15s"]),
            (15_000, 10_000, 0, ["--lease-retry-period 0ns", "--lease-renew-deadline 10s"]),
            (15_000, 10_000, 5_001, ["--lease-retry-period 5.001s", "half"]),
        ] {
            let message = of(lease, deadline, retry).unwrap_err().to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        }
    }
}

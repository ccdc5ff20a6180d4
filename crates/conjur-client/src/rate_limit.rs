//! How fast requests follow each other.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// Spaces requests out: at most `per_second` over any second, a tenth of a second's worth at once.
#[derive(Debug)]
pub(crate) struct Pace {
    step: Duration,
    slack: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(per_second: u32) -> Self {
        let step = Duration::from_secs(1) / per_second.max(1);
        Self { step, slack: Duration::from_millis(100), next: Mutex::new(Instant::now()) }
    }

    /// Waits for the next free place.
    pub(crate) async fn wait(&self) {
        let place = {
            let mut next = lock(&self.next);
            let place = (*next).max(Instant::now().checked_sub(self.slack).unwrap_or(*next));
            *next = place + self.step;
            place
        };
        tokio::time::sleep_until(place).await;
    }

    /// Lets nothing go before `pause` is over: the server asked for it.
    pub(crate) fn hold(&self, pause: Duration) {
        let mut next = lock(&self.next);
        *next = (*next).max(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_spaced_out() {
        let pace = Pace::new(100);
        let start = Instant::now();
        for _ in 0..31 {
            pace.wait().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(180), "{:?}", start.elapsed());
    }
}

//! What was begun in Conjur and is not brought to its end: when the process is told to stop, nothing is begun any more, and the
//! Lease is kept for what was.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{api::Reason, plan::Failure, runtime::failure::ROOM_AGAIN};

/// See the module.
pub struct InFlight {
    count: watch::Sender<usize>,
    stop: CancellationToken,
}

/// One thing that was begun. Dropping it ends it.
pub struct Begun(watch::Sender<usize>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl InFlight {
    /// Nothing yet. `stop`: nothing is begun any more.
    pub fn new(stop: CancellationToken) -> Self {
        Self { count: watch::Sender::new(0), stop }
    }

    /// Begins something: from before it is announced until it is recorded, its keys stored.
    ///
    /// # Errors
    /// `OperatorBusy`: the process stops. It is not told; the next leader begins it.
    pub fn begin(&self) -> Result<Begun, Failure> {
        // Counted first: who waits for what was begun sees it, or it sees that it must not begin.
        self.count.send_modify(|count| *count += 1);
        let begun = Begun(self.count.clone());
        if self.stop.is_cancelled() {
            let message = "the operator is stopping; the next leader begins this";
            return Err(Failure::waiting(Reason::OperatorBusy, ROOM_AGAIN, message));
        }
        Ok(begun)
    }

    /// Whether the process is told to stop, so that of what was begun only the parts under way go on.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// How much was begun.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Ends when nothing is under way.
    pub async fn none(&self) {
        // Its sender lives as long as this.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn what_was_begun_goes_on_and_nothing_is_begun_when_it_stops() {
        let stop = CancellationToken::new();
        let all = InFlight::new(stop.clone());
        let (first, second) = (all.begin().unwrap(), all.begin().unwrap());
        stop.cancel();
        assert_eq!(all.begin().err().unwrap().reason, Reason::OperatorBusy);
        assert_eq!(all.count(), 2);
        drop(first);
        assert!(all.none().now_or_never().is_none());
        drop(second);
        assert!(all.none().now_or_never().is_some());
    }
}

//! How many requests are in flight, whose turn it is, and how fast they follow each other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Which queue a request waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// New and changed things, and a person waiting: always before refreshes.
    Foreground,
    /// What is repeated on a schedule. Never takes the last connection.
    Refresh,
}

/// A lock whose holder can't have panicked halfway through anything that matters.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Permits for requests in flight; the foreground is served first, and one permit is out of the refreshes' reach
/// (unless there is only one).
#[derive(Debug)]
pub(crate) struct Gate {
    total: usize,
    state: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    foreground_out: usize,
    refresh_out: usize,
    foreground: VecDeque<oneshot::Sender<Permit>>,
    refresh: VecDeque<oneshot::Sender<Permit>>,
}

/// The right to have one request in flight; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    lane: Lane,
}

impl Gate {
    pub(crate) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total: total.max(1), state: Mutex::default() })
    }

    /// How many permits refreshes may hold.
    pub(crate) fn refresh_share(total: usize) -> usize {
        total.saturating_sub(1).max(1)
    }

    /// Waits for a permit.
    pub(crate) async fn enter(self: &Arc<Self>, lane: Lane) -> Permit {
        let mut waiting = {
            let (sender, receiver) = oneshot::channel();
            let mut queue = lock(&self.state);
            match lane {
                Lane::Foreground => queue.foreground.push_back(sender),
                Lane::Refresh => queue.refresh.push_back(sender),
            }
            receiver
        };
        loop {
            self.hand_out();
            match (&mut waiting).await {
                Ok(permit) => return permit,
                // The sender lives in the queue of a gate that `self` keeps alive, so it is never dropped unsent.
                Err(_) => std::future::pending::<()>().await,
            }
        }
    }

    fn hand_out(self: &Arc<Self>) {
        while let Some((sender, permit)) = self.next() {
            // A waiter that went away hands its permit back by dropping it, outside of the lock.
            drop(sender.send(permit));
        }
    }

    fn next(self: &Arc<Self>) -> Option<(oneshot::Sender<Permit>, Permit)> {
        let mut queue = lock(&self.state);
        queue.foreground.retain(|waiter| !waiter.is_closed());
        queue.refresh.retain(|waiter| !waiter.is_closed());
        if queue.foreground_out + queue.refresh_out >= self.total {
            return None;
        }
        if let Some(sender) = queue.foreground.pop_front() {
            queue.foreground_out += 1;
            return Some((sender, Permit { gate: Arc::clone(self), lane: Lane::Foreground }));
        }
        if queue.refresh_out < Self::refresh_share(self.total) {
            let sender = queue.refresh.pop_front()?;
            queue.refresh_out += 1;
            return Some((sender, Permit { gate: Arc::clone(self), lane: Lane::Refresh }));
        }
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut queue = lock(&self.gate.state);
            match self.lane {
                Lane::Foreground => queue.foreground_out -= 1,
                Lane::Refresh => queue.refresh_out -= 1,
            }
        }
        self.gate.hand_out();
    }
}

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
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_foreground_goes_first_and_refreshes_never_take_the_last_permit() {
        let gate = Gate::new(2);
        let refresh = gate.enter(Lane::Refresh).await;
        let mut second_refresh = Box::pin(gate.enter(Lane::Refresh));
        assert!((&mut second_refresh).now_or_never().is_none(), "the last permit is the foreground's");
        let foreground = gate.enter(Lane::Foreground).await;
        let mut waiting = Box::pin(gate.enter(Lane::Foreground));
        assert!((&mut waiting).now_or_never().is_none());
        drop(refresh);
        let waiting = waiting.now_or_never().expect("the foreground is served before the older refresh");
        assert!((&mut second_refresh).now_or_never().is_none());
        drop(foreground);
        second_refresh.now_or_never().expect("then the refresh");
        drop(waiting);
    }

    #[tokio::test]
    async fn a_waiter_that_went_away_keeps_no_permit() {
        let gate = Gate::new(1);
        let held = gate.enter(Lane::Foreground).await;
        let mut gone = Box::pin(gate.enter(Lane::Foreground));
        assert!((&mut gone).now_or_never().is_none());
        drop(held);
        drop(gone);
        gate.enter(Lane::Refresh).now_or_never().expect("free again");
    }

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

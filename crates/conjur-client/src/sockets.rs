//! Connections to all Conjur servers together: so many at most, and one for each client that has something to do.
//!
//! A connection that is idle is still one, for as long as the pool keeps it. So what a client had in flight at once
//! counts for a while after, as long as its connections may live.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::{self, Limit, SOCKET_IDLE};
use crate::lock::lock;

/// So long may a connection live that is not used any more: the pool looks for such ones as often as they may be idle.
const LIFE: Duration = SOCKET_IDLE.saturating_mul(2);
/// How often who waits for a connection looks whether others let go of theirs.
const LOOK_ROUND: Duration = Duration::from_secs(1);

/// All that there may be.
pub(crate) struct Connections {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: usize,
    clients: Vec<Weak<Own>>,
    swept: Option<Instant>,
}

/// The connections of one client.
pub(crate) struct Sockets {
    all: Arc<Connections>,
    own: Arc<Own>,
}

#[derive(Default)]
struct Own {
    uses: Mutex<Uses>,
    freed: Notify,
}

#[derive(Default)]
struct Uses {
    in_flight: usize,
    /// How many connections it may have open.
    open: usize,
    /// The most that were in flight at once lately, and since when that is counted.
    peak: usize,
    since: Option<Instant>,
    /// No one will use it any more.
    gone: bool,
}

/// The right to use one connection; given back on drop.
pub(crate) struct Socket {
    all: Arc<Connections>,
    own: Arc<Own>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// One more for a client that has `open`: the first one always.
    fn open(&self, open: usize, now: Instant) -> bool {
        let mut state = lock(&self.state);
        if open == 0 || state.open < self.most {
            state.open += 1;
            limits::used(Limit::Sockets, 1);
            return true;
        }
        let due = state.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= LOOK_ROUND);
        if due {
            state.swept = Some(now);
            state.clients.retain(|client| client.strong_count() > 0);
        }
        let clients: Vec<_> =
            if due { state.clients.iter().filter_map(Weak::upgrade).collect() } else { vec![] };
        drop(state);
        // Outside of the lock: each client's own is taken first elsewhere.
        let closed: usize = clients.iter().filter_map(|own| own.uses.try_lock().ok()?.close(now)).sum();
        self.closed(closed);
        let mut state = lock(&self.state);
        let free = state.open < self.most;
        state.open += usize::from(free);
        if free {
            limits::used(Limit::Sockets, 1);
        } else {
            limits::hit(Limit::Sockets);
        }
        free
    }

    fn closed(&self, count: usize) {
        let mut state = lock(&self.state);
        state.open = state.open.saturating_sub(count);
        limits::used(Limit::Sockets, -i64::try_from(count).unwrap_or_default());
    }
}

impl Uses {
    /// Lets go of what was not used for as long as a connection lives; how many that are.
    fn close(&mut self, now: Instant) -> Option<usize> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < LIFE {
            return None;
        }
        let kept = self.peak.max(self.in_flight);
        let closed = self.open.saturating_sub(kept);
        self.open -= closed;
        self.peak = self.in_flight;
        self.since = Some(now);
        Some(closed)
    }
}

impl Sockets {
    pub(crate) fn of(all: &Arc<Connections>) -> Self {
        let own = Arc::new(Own::default());
        lock(&all.state).clients.push(Arc::downgrade(&own));
        Self { all: Arc::clone(all), own }
    }

    /// How many there may be, of all clients together.
    pub(crate) fn most(&self) -> usize {
        self.all.most
    }

    /// Waits until there may be one more request in flight.
    pub(crate) async fn enter(&self) -> Socket {
        loop {
            let freed = self.own.freed.notified();
            if self.may_enter() {
                return Socket { all: Arc::clone(&self.all), own: Arc::clone(&self.own) };
            }
            tokio::time::timeout(LOOK_ROUND, freed).await.ok();
        }
    }

    fn may_enter(&self) -> bool {
        let now = Instant::now();
        let mut uses = lock(&self.own.uses);
        if uses.in_flight >= uses.open {
            if !self.all.open(uses.open, now) {
                return false;
            }
            uses.open += 1;
        }
        uses.in_flight += 1;
        uses.peak = uses.peak.max(uses.in_flight);
        true
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let idle = {
            let mut uses = lock(&self.own.uses);
            uses.gone = true;
            let idle = uses.open - uses.in_flight;
            uses.open -= idle;
            idle
        };
        self.all.closed(idle);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let closed = {
            let mut uses = lock(&self.own.uses);
            uses.in_flight -= 1;
            if uses.gone {
                uses.open -= 1;
                1
            } else {
                uses.close(Instant::now()).unwrap_or_default()
            }
        };
        self.all.closed(closed);
        self.own.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn open(all: &Connections) -> usize {
        lock(&all.state).open
    }

    #[tokio::test]
    async fn each_client_has_one_connection_and_more_only_while_there_are() {
        let all = Arc::new(Connections::new(4));
        let greedy = Sockets::of(&all);
        let held: Vec<_> = (0..4).map(|_| greedy.enter().now_or_never().unwrap()).collect();
        assert!(greedy.enter().now_or_never().is_none());
        let others: Vec<_> = (0..3).map(|_| Sockets::of(&all)).collect();
        for other in &others {
            let first = other.enter().now_or_never().expect("the first one is sure");
            assert!(other.enter().now_or_never().is_none(), "a second is not");
            drop(first);
            drop(other.enter().now_or_never().expect("it is kept for the next"));
        }
        assert_eq!(open(&all), 7);
        drop(held);
        drop(greedy);
        assert_eq!(open(&all), 3, "a client that is gone has none");
        let two = (others[0].enter().now_or_never(), others[0].enter().now_or_never());
        assert!(two.0.is_some() && two.1.is_some());
        drop(others);
        assert_eq!(open(&all), 2, "what is in flight still is");
        drop(two);
        assert_eq!(open(&all), 0);
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_one_of_its_own_is_free() {
        let all = Arc::new(Connections::new(1));
        let client = Sockets::of(&all);
        let held = client.enter().await;
        let mut next = client.enter().boxed();
        assert!((&mut next).now_or_never().is_none());
        drop(held);
        assert!(next.now_or_never().is_some());
    }

    #[test]
    fn what_was_in_flight_counts_for_as_long_as_a_connection_lives() {
        let now = Instant::now();
        let mut uses = Uses { in_flight: 1, open: 4, peak: 4, since: Some(now), gone: false };
        assert_eq!(uses.close(now + LIFE / 2), None);
        assert_eq!(uses.close(now + LIFE), Some(0), "four were used at once in that time");
        assert_eq!(uses.close(now + LIFE * 2), Some(3));
        assert_eq!((uses.open, uses.in_flight), (1, 1));
    }
}

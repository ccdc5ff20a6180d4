//! When each connection last worked: what its clients see tells it, and no request is made for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    api::ConnectionId,
    conjur::{Endpoint, Lane, Observer, Outcome},
    metrics::Metrics,
};

/// By connection, whatever its identities are; lost with the process.
pub struct WorkedTimes {
    began: Instant,
    times: Mutex<HashMap<ConnectionId, Arc<LastWorked>>>,
}

/// Milliseconds from the start of the process until a connection last worked; zero where it has not since.
#[derive(Default)]
struct LastWorked(AtomicU64);

/// Counts the requests of a connection's client, and takes note of those that show that it works.
pub struct ConnectionObserver {
    metrics: Metrics,
    began: Instant,
    last: Arc<LastWorked>,
}

impl WorkedTimes {
    /// Nothing worked yet.
    pub fn new() -> Self {
        Self { began: Instant::now(), times: Mutex::default() }
    }

    /// What observes a new client of a connection.
    pub fn observer(&self, connection: &ConnectionId, metrics: Metrics) -> ConnectionObserver {
        let last = self.times().entry(connection.clone()).or_default().clone();
        ConnectionObserver { metrics, began: self.began, last }
    }

    /// How long ago a connection last worked, or since when it could have.
    pub fn ago(&self, connection: &ConnectionId) -> Duration {
        let last = self.times().get(connection).map_or(0, |last| last.0.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(Duration::from_millis(last))
    }

    /// A connection is gone.
    pub fn forget(&self, connection: &ConnectionId) {
        self.times().remove(connection);
    }

    fn times(&self) -> MutexGuard<'_, HashMap<ConnectionId, Arc<LastWorked>>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for ConnectionObserver {
    fn request(&self, endpoint: Endpoint, outcome: Outcome, took: Duration) {
        self.metrics.request(endpoint, outcome, took);
        // Whoever is told that a variable is missing was let in.
        if matches!(outcome, Outcome::Ok | Outcome::NotFound | Outcome::Forbidden | Outcome::Conflict) {
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last.0.store(now, Ordering::Relaxed);
        }
    }

    fn batch(&self, variables: usize) {
        Observer::batch(&self.metrics, variables);
    }

    fn waited(&self, priority: Lane, wait: Duration) {
        Observer::waited(&self.metrics, priority, wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ConnectionKind;

    #[test]
    fn what_lets_the_operator_in_shows_that_a_connection_works() {
        let began = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        let times = WorkedTimes { began, times: Mutex::default() };
        let id = ConnectionId {
            kind: ConnectionKind::ConjurConnection,
            namespace: "n".to_owned(),
            name: "c".to_owned(),
        };
        let observer = times.observer(&id, Metrics::default());
        for outcome in
            [Outcome::Unauthenticated, Outcome::Timeout, Outcome::ServerError, Outcome::RateLimited]
        {
            observer.request(Endpoint::WhoAmI, outcome, Duration::ZERO);
            assert!(times.ago(&id) >= Duration::from_secs(100), "{outcome:?}");
        }
        for outcome in [Outcome::Ok, Outcome::NotFound] {
            let observer = times.observer(&id, Metrics::default());
            observer.request(Endpoint::SecretBatch, outcome, Duration::ZERO);
            assert!(times.ago(&id) < Duration::from_secs(50), "{outcome:?}");
            times.forget(&id);
            assert!(times.ago(&id) >= Duration::from_secs(100));
        }
    }
}

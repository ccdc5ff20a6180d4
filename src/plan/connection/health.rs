//! Whether a connection works, when it is tried again, and what there is to tell of it. Pure: the clock is passed in.
//!
//! ```text
//! untried ── works ──► ready ── fails ──► failing ── works ──► ready
//!    └────── fails ─────────────────────────┘ (tried again after a pause that doubles, and not before the server asked)
//! ```

use std::time::{Duration, Instant};

use crate::{
    api::Reason,
    plan::{Failure, backoff::backoff},
};

/// Longest pause between two tries of a connection that can't be reached.
const LONGEST_UNREACHABLE: Duration = Duration::from_secs(30);
/// Longest pause between two tries of a login that is refused, and longest `Retry-After` that is kept.
const LONGEST_REFUSED: Duration = Duration::from_secs(300);
/// Failures older than this no longer count as in a row, nor those before it worked for as long.
const FORGIVEN_AFTER: Duration = Duration::from_secs(120);

/// What there is to tell the users of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// It works, for the first time since the start: those that came with it are as many as were made at once.
    Works,
    /// It works again, or has changed: many that wait may have gathered.
    WorksAgain,
    /// It fails, or is gone. Nothing is asked of Conjur for it.
    Fails,
}

/// What is known of a connection as it is made now.
#[derive(Debug, Default)]
pub struct Health {
    failing: Option<Failure>,
    /// Why it fails, as those who use it were told.
    told: Option<Reason>,
    failures: u32,
    failed_at: Option<Instant>,
    works_since: Option<Instant>,
    /// The server asked not to be asked before.
    not_before: Option<Instant>,
    checked_at: Option<Instant>,
    /// An earlier client of the connection worked or failed: objects may wait for this one.
    tried_before: bool,
}

impl Health {
    /// Of a connection that takes the place of one with this health: nothing is known of it yet.
    pub fn untried_after(earlier: &Self) -> Self {
        let tried_before = earlier.tried_before || earlier.failing.is_some() || earlier.checked_at.is_some();
        Self { tried_before, ..Self::default() }
    }

    /// Why it fails, while it does.
    pub fn failing(&self) -> Option<&Failure> {
        self.failing.as_ref()
    }

    /// When it was last seen to work by its own check; none where it does not work now.
    pub fn checked_at(&self) -> Option<Instant> {
        self.checked_at.filter(|_| self.failing.is_none())
    }

    /// A check found that it works; `another`: with another identity than before. What its users are to be told, where
    /// that is news.
    pub fn works(&mut self, another: bool, now: Instant) -> Option<ConnectionEvent> {
        self.told = None;
        let again = self.failing.take().is_some() || std::mem::take(&mut self.tried_before);
        let first = self.checked_at.is_none();
        self.checked_at = Some(now);
        self.works_since = self.works_since.or(self.checked_at);
        match (again, first, another) {
            (true, ..) | (false, false, true) => Some(ConnectionEvent::WorksAgain),
            (false, true, _) => Some(ConnectionEvent::Works),
            (false, false, false) => None,
        }
    }

    /// It fails, or could not even be made. After how long it is tried again, and whether its users don't know yet that it
    /// fails for this reason. `jitter` is 0 to 1.
    pub fn fails(&mut self, failure: &Failure, now: Instant, jitter: f64) -> (Duration, bool) {
        let news = self.told != Some(failure.reason);
        self.told = Some(failure.reason);
        (self.fail(failure, now, jitter), news)
    }

    /// A call through it failed by the connection's fault, for which the server may have asked to wait. Whether that is
    /// the first to tell.
    pub fn call_fails(&mut self, failure: &Failure, wait: Option<Duration>, now: Instant) -> bool {
        if self.failing.is_some() {
            return false;
        }
        self.asks_to_wait(wait, now);
        self.fail(failure, now, 0.0);
        true
    }

    /// Takes note of a `Retry-After`, up to a bound.
    pub fn asks_to_wait(&mut self, wait: Option<Duration>, now: Instant) {
        if let Some(wait) = wait {
            self.not_before = Some(now + wait.min(LONGEST_REFUSED));
        }
    }

    /// How long it still rests before it is tried again, while it fails.
    pub fn rests(&self, now: Instant) -> Option<Duration> {
        let pause =
            backoff(self.failures, Duration::from_secs(1), longest(self.failing.as_ref()?.reason), 0.0);
        pause.checked_sub(now.saturating_duration_since(self.failed_at?)).max(self.asked_to_wait(now))
    }

    fn fail(&mut self, failure: &Failure, now: Instant, jitter: f64) -> Duration {
        let longest = longest(failure.reason);
        let since = |at: Instant| now.saturating_duration_since(at);
        let in_a_row = self.failed_at.is_some_and(|at| since(at) < FORGIVEN_AFTER.max(longest * 2));
        // One that worked for a while in between begins anew, however long its pauses had become.
        let worked = self.works_since.take().is_some_and(|at| since(at) >= FORGIVEN_AFTER);
        self.failures = if in_a_row && !worked { self.failures.saturating_add(1) } else { 1 };
        self.failed_at = Some(now);
        self.failing = Some(failure.clone());
        let pause = backoff(self.failures, Duration::from_secs(1), longest, jitter);
        pause.max(self.asked_to_wait(now).unwrap_or_default())
    }

    fn asked_to_wait(&self, now: Instant) -> Option<Duration> {
        self.not_before?.checked_duration_since(now)
    }
}

fn longest(reason: Reason) -> Duration {
    match reason {
        Reason::AuthenticationFailed | Reason::HostDenied => LONGEST_REFUSED,
        _ => LONGEST_UNREACHABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Class;

    fn failure(reason: Reason) -> Failure {
        Failure { class: Class::Connection, reason, message: String::new() }
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_told_is_told_once() {
        let (start, down) = (Instant::now(), failure(Reason::ConjurUnavailable));
        let mut health = Health::default();
        assert_eq!(health.works(true, start), Some(ConnectionEvent::Works));
        assert_eq!(health.works(false, at(start, 1)), None);
        assert_eq!(
            health.works(true, at(start, 2)),
            Some(ConnectionEvent::WorksAgain),
            "as another identity"
        );
        assert!(health.fails(&down, at(start, 3), 0.0).1);
        assert!(!health.fails(&down, at(start, 4), 0.0).1, "its users know");
        assert!(health.fails(&failure(Reason::TlsFailed), at(start, 5), 0.0).1, "for another reason");
        assert_eq!(health.checked_at(), None, "it does not work now");
        assert_eq!(health.works(false, at(start, 6)), Some(ConnectionEvent::WorksAgain));
        assert_eq!(health.checked_at(), Some(at(start, 6)));
        let mut next = Health::untried_after(&health);
        assert_eq!(
            next.works(true, at(start, 7)),
            Some(ConnectionEvent::WorksAgain),
            "objects may wait for it"
        );
        assert_eq!(
            Health::untried_after(&Health::default()).works(true, start),
            Some(ConnectionEvent::Works)
        );
    }

    #[test]
    fn pauses_double_up_to_their_longest_and_begin_anew_after_it_worked_for_a_while() {
        let start = Instant::now();
        for (reason, longest) in [(Reason::ConjurUnavailable, 30), (Reason::AuthenticationFailed, 300)] {
            let mut health = Health::default();
            let mut now = 0;
            for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512] {
                let (pause, _) = health.fails(&failure(reason), at(start, now), 0.0);
                assert_eq!(pause, Duration::from_secs(expected.min(longest)), "{reason}");
                assert_eq!(health.rests(at(start, now)), Some(pause));
                now += pause.as_secs();
                assert_eq!(health.rests(at(start, now)), Some(Duration::ZERO));
                assert_eq!(health.rests(at(start, now + 1)), None);
            }
            // It worked for a moment: the pauses go on.
            health.works(false, at(start, now));
            let (pause, _) = health.fails(&failure(reason), at(start, now + 1), 0.0);
            assert_eq!(pause, Duration::from_secs(longest));
            health.works(false, at(start, now + 2));
            let (pause, _) = health.fails(&failure(reason), at(start, now + 2 + 120), 0.0);
            assert_eq!(pause, Duration::from_secs(1), "after two minutes they begin anew");
            let later = at(start, now + 122 + 1_000);
            assert_eq!(health.fails(&failure(reason), later, 1.0).0, Duration::from_millis(800), "jitter");
        }
    }

    #[test]
    fn a_server_that_asks_to_wait_is_not_asked_before() {
        let (start, down) = (Instant::now(), failure(Reason::RateLimited));
        let mut health = Health::default();
        let wait = |seconds| Some(Duration::from_secs(seconds));
        assert!(health.call_fails(&down, wait(60), start));
        assert!(!health.call_fails(&down, wait(5), start), "the first call tells of it");
        assert_eq!(health.rests(at(start, 10)), wait(50));
        assert_eq!(health.rests(at(start, 61)), None);
        health.asks_to_wait(wait(10_000), at(start, 61));
        assert_eq!(health.rests(at(start, 61)), wait(300), "up to a bound");
        assert_eq!(health.fails(&down, at(start, 62), 0.0).0, Duration::from_secs(299));
    }
}

//! What the policies of one process share of a server: one load at a time per branch, and who waits for others' loads.

mod turns;
mod waiting;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    limits::BUSY_PAUSE,
    metrics::{LaneLabel, Metrics, TurnOf},
    plan::policy::branch_claims::BranchPlace,
};

pub use self::{
    turns::{Turn, Turns},
    waiting::{Made, Waiting},
};

/// A branch, as one identity loads it.
///
/// Not the branch alone: whoever knows its name could ask for a turn there with a login of their own, and keep the turn
/// as long as their own limits let their requests take. Loads of one branch by two identities exclude each other in
/// Conjur (409), and what an announcement claims is of its own identity's loads only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loader {
    /// The branch.
    pub place: BranchPlace,
    /// The login that the server confirmed.
    pub identity: String,
}

/// One load at a time per branch and identity, over all objects; and who waits.
#[derive(Default)]
pub struct Branches {
    /// Whose turn it is.
    pub turns: Turns,
    /// Who waits for what others load.
    pub waiting: Waiting,
    pauses: Mutex<HashMap<Loader, Pause>>,
}

/// A branch that Conjur said is busy.
struct Pause {
    until: Instant,
    /// Its words.
    message: String,
}

impl Branches {
    /// Takes a branch when those before have let go of it, as [`Turns::take`].
    pub async fn take(&self, loader: &Loader, namespace: &str, metrics: &Metrics) -> Turn {
        let start = Instant::now();
        let turn = self.turns.take(loader, namespace).await;
        metrics.waited(TurnOf::Branch, LaneLabel::Foreground, start.elapsed());
        turn
    }

    /// Conjur said that this branch is busy, and how long it is to be left alone.
    pub fn pause_for(&self, loader: &Loader, pause: Duration, message: &str) {
        let Some(until) = Instant::now().checked_add(pause.min(BUSY_PAUSE)) else { return };
        let pause = Pause { until, message: message.to_owned() };
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner).insert(loader.clone(), pause);
    }

    /// For how long a branch is still to be left alone, and what Conjur said.
    pub fn pause(&self, loader: &Loader) -> Option<(Duration, String)> {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        pauses.retain(|_, pause| pause.until > now);
        let pause = pauses.get(loader)?;
        Some((pause.until - now, pause.message.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loader(branch: &str, identity: &str) -> Loader {
        Loader { place: BranchPlace::new("https://conjur", "demo", branch), identity: identity.into() }
    }

    #[test]
    fn a_branch_that_conjur_says_is_busy_is_left_alone_for_that_time() {
        let branches = Branches::default();
        let ours = loader("app", "host/ops");
        branches.pause_for(&ours, Duration::from_secs(60), "busy");
        let (rest, message) = branches.pause(&ours).unwrap();
        assert!(rest > Duration::from_secs(50) && rest <= Duration::from_secs(60), "{rest:?}");
        assert_eq!(message, "busy");
        assert_eq!(branches.pause(&loader("app/eu", "host/ops")), None);
        assert_eq!(branches.pause(&loader("app", "host/other")), None, "another is not held up by it");
        branches.pause_for(&ours, Duration::ZERO, "busy");
        assert_eq!(branches.pause(&ours), None);
    }

    #[test]
    fn a_pause_has_an_end_whatever_is_asked_for() {
        let branches = Branches::default();
        let ours = loader("app", "host/ops");
        for asked in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(31_536_000)] {
            branches.pause_for(&ours, asked, "busy");
            assert!(branches.pause(&ours).unwrap().0 <= BUSY_PAUSE, "{asked:?}");
        }
    }
}

//! What the policies of one process share of a server: one load at a time per branch, and who waits for others' loads.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::sync::Mutex as AsyncMutex;

use crate::{controllers::Key, plan::branches::Place};

/// One load at a time per branch of a server's account, over all objects.
#[derive(Default)]
pub struct Branches {
    locks: Mutex<HashMap<Place, Weak<AsyncMutex<()>>>>,
    waiting: Mutex<Waiting>,
    pauses: Mutex<HashMap<(String, String), Pause>>,
}

/// A branch that Conjur said is busy.
struct Pause {
    until: Instant,
    /// Its words.
    message: String,
}

#[derive(Default)]
struct Waiting {
    /// By server: how many loads succeeded.
    loads: HashMap<String, u64>,
    /// Who failed for want of what another policy may make, and on which server.
    policies: HashMap<Key, String>,
}

impl Branches {
    /// The lock of a branch.
    pub fn lock(&self, url: &str, account: &str, branch: &str) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        let key = Place::new(url, account, branch);
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }

    /// Conjur said that this branch of a server is busy, and how long it is to be left alone.
    pub fn pause_for(&self, server: &str, branch: &str, pause: Duration, message: &str) {
        let pause = Pause { until: Instant::now() + pause, message: message.to_owned() };
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.insert((server.to_owned(), branch.to_owned()), pause);
    }

    /// For how long a branch is still to be left alone, and what Conjur said.
    pub fn pause(&self, server: &str, branch: &str) -> Option<(Duration, String)> {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        pauses.retain(|_, pause| pause.until > now);
        let pause = pauses.get(&(server.to_owned(), branch.to_owned()))?;
        Some((pause.until - now, pause.message.clone()))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many loads into a server have succeeded.
    pub fn loads(&self, server: &str) -> u64 {
        self.waiting().loads.get(server).copied().unwrap_or_default()
    }

    /// A policy waits for what others load, and last looked when so many loads had succeeded. Says whether it is to look
    /// again, for there was one meanwhile.
    pub fn wait(&self, policy: Key, server: &str, looked: u64) -> bool {
        let mut waiting = self.waiting();
        if waiting.loads.get(server).copied().unwrap_or_default() > looked {
            return true;
        }
        waiting.policies.insert(policy, server.to_owned());
        false
    }

    /// A load succeeded: who is to look again.
    pub fn loaded(&self, server: &str) -> Vec<Key> {
        let mut waiting = self.waiting();
        *waiting.loads.entry(server.to_owned()).or_default() += 1;
        waiting.policies.extract_if(|_, of| of == server).map(|(key, _)| key).collect()
    }

    /// A policy is gone.
    pub fn forget(&self, policy: &Key) {
        self.waiting().policies.remove(policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_branch_has_one_lock_however_its_address_is_spelled() {
        let branches = Branches::default();
        let mine = branches.lock("https://conjur/api", "demo", "app");
        let _held = mine.lock().await;
        for (url, branch, free) in [
            ("https://conjur/api/", "app", false),
            ("https://CONJUR:443/api", "app", false),
            ("https://conjur/api", "app/eu", true),
            ("https://other/api", "app", true),
        ] {
            assert_eq!(branches.lock(url, "demo", branch).try_lock().is_ok(), free, "{url} {branch}");
        }
    }

    #[test]
    fn who_failed_before_or_during_a_load_of_another_looks_again() {
        let branches = Branches::default();
        let key = |name: &str| Key { namespace: "n".into(), name: name.into() };
        let looked = branches.loads("s");
        assert!(!branches.wait(key("before"), "s", looked));
        assert!(!branches.wait(key("elsewhere"), "other", 0));
        assert_eq!(branches.loaded("s"), [key("before")]);
        assert!(branches.wait(key("during"), "s", looked), "its failure came after the load that mended it");
        assert_eq!(branches.loaded("s"), []);
        branches.forget(&key("elsewhere"));
        assert_eq!(branches.loaded("other"), []);
    }

    #[test]
    fn a_branch_that_conjur_says_is_busy_is_left_alone_for_that_time() {
        let branches = Branches::default();
        branches.pause_for("s", "app", Duration::from_secs(60), "busy");
        let (rest, message) = branches.pause("s", "app").unwrap();
        assert!(rest > Duration::from_secs(50) && rest <= Duration::from_secs(60), "{rest:?}");
        assert_eq!(message, "busy");
        assert_eq!(branches.pause("s", "app/eu"), None);
        assert_eq!(branches.pause("other", "app"), None);
        branches.pause_for("s", "app", Duration::ZERO, "busy");
        assert_eq!(branches.pause("s", "app"), None);
    }
}

//! One load at a time: a lock for each branch and identity, whose waiters have their turns by namespace.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::Loader;
use crate::fair::FairQueue;

/// Who has a branch, and who waits for it.
#[derive(Default)]
pub struct Turns(Arc<Mutex<Lines>>);

/// By branch that someone has: who waits for it, by namespace.
type Lines = HashMap<Loader, FairQueue<String, oneshot::Sender<Turn>>>;

/// A load holds the branch until this is dropped.
pub struct Turn {
    lines: Arc<Mutex<Lines>>,
    loader: Loader,
}

fn lock(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    /// Takes a branch, unless someone has it.
    pub fn try_take(&self, loader: &Loader) -> Option<Turn> {
        let mut lines = lock(&self.0);
        if lines.contains_key(loader) {
            return None;
        }
        lines.insert(loader.clone(), FairQueue::default());
        Some(Turn { lines: self.0.clone(), loader: loader.clone() })
    }

    /// Takes a branch when those before have let go of it: each namespace that waits has its turn, however many
    /// objects another has waiting. Who gives up waiting loses the place.
    pub async fn take(&self, loader: &Loader, namespace: &str) -> Turn {
        loop {
            let comes = {
                let mut lines = lock(&self.0);
                let Some(line) = lines.get_mut(loader) else {
                    lines.insert(loader.clone(), FairQueue::default());
                    return Turn { lines: self.0.clone(), loader: loader.clone() };
                };
                let (sender, comes) = oneshot::channel();
                // Whoever gave up is not to take room until the branch is free.
                line.retain(|_, waits| !waits.is_closed());
                line.push(namespace.to_owned(), sender);
                comes
            };
            // A turn that can't be given to anybody frees the branch, so that this does not fail.
            if let Ok(turn) = comes.await {
                return turn;
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut lines = lock(&self.lines);
            let Some(line) = lines.get_mut(&self.loader) else { return };
            let next = std::iter::from_fn(|| line.pop()).map(|(_, waits)| waits).find(|w| !w.is_closed());
            if next.is_none() {
                lines.remove(&self.loader);
            }
            next
        };
        if let Some(next) = next {
            // Given up just now, it comes back and is dropped, which gives it to the one after.
            drop(next.send(Self { lines: self.lines.clone(), loader: self.loader.clone() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::plan::policy::branch_claims::BranchPlace;

    fn loader(url: &str, branch: &str, identity: &str) -> Loader {
        Loader { place: BranchPlace::new(url, "demo", branch), identity: identity.into() }
    }

    #[test]
    fn a_branch_has_one_turn_however_its_address_is_spelled() {
        let turns = Turns::default();
        let held = turns.try_take(&loader("https://conjur/api", "app", "host/ops"));
        assert!(held.is_some());
        for (url, branch, identity, free) in [
            ("https://conjur/api/", "app", "host/ops", false),
            ("https://CONJUR:443/api", "app", "host/ops", false),
            ("https://conjur/api", "app/eu", "host/ops", true),
            ("https://other/api", "app", "host/ops", true),
            // Someone with a login of their own keeps no one out.
            ("https://conjur/api", "app", "host/stranger", true),
        ] {
            assert_eq!(turns.try_take(&loader(url, branch, identity)).is_some(), free, "{url} {branch}");
        }
        drop(held);
        assert!(turns.try_take(&loader("https://conjur/api", "app", "host/ops")).is_some());
        assert!(lock(&turns.0).is_empty(), "a branch that nobody has is forgotten");
    }

    #[tokio::test]
    async fn each_namespace_has_its_turn_however_many_objects_another_has_waiting() {
        let turns = Arc::new(Turns::default());
        let app = loader("https://conjur", "app", "host/ops");
        let held = turns.take(&app, "a").await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for namespace in std::iter::repeat_n("a", 50).chain(["b", "c"]) {
            let (turns, app, order) = (turns.clone(), app.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let _turn = turns.take(&app, namespace).await;
                order.lock().unwrap().push(namespace);
            }));
            tokio::task::yield_now().await;
        }
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(order.lock().unwrap()[..3], ["a", "b", "c"]);
        assert!(turns.try_take(&app).is_some());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_holds_nobody_up() {
        let turns = Turns::default();
        let app = loader("https://conjur", "app", "host/ops");
        let held = turns.take(&app, "a").await;
        assert!(timeout(Duration::from_millis(20), turns.take(&app, "b")).await.is_err());
        drop(held);
        assert!(turns.try_take(&app).is_some());
    }
}

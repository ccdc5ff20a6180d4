//! Which `sync-now` texts were handled, and when: one of an object counts once in a few seconds, of every kind.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use super::Key;
use crate::{
    limits::{Limit, hit},
    metrics::Kind,
    plan::schedule::{SyncNow, sync_now},
};

/// By object; forgotten with it. A restart forgets all, and then looks at every object anyway.
#[derive(Default)]
pub struct SyncNows(Mutex<HashMap<(Kind, Key), Handled>>);

struct Handled {
    text: Option<String>,
    at: Option<Timestamp>,
    /// The generation of the object's last reconcile.
    generation: Option<i64>,
    /// It is not taken note of yet.
    new: bool,
}

impl SyncNows {
    /// What the annotation of an object comes to, whose reconcile is about to begin. The text that an object is first seen
    /// with is handled by that. An edit of its spec waits for no pause.
    pub fn look(
        &self,
        at: (Kind, &Key),
        text: Option<&str>,
        generation: Option<i64>,
        now: Timestamp,
    ) -> SyncNow {
        let mut all = self.lock();
        let entry = (at.0, at.1.clone());
        let Some(handled) = all.get_mut(&entry) else {
            all.insert(entry, Handled { text: text.map(str::to_owned), at: None, generation, new: false });
            return SyncNow::Nothing;
        };
        let edited = std::mem::replace(&mut handled.generation, generation) != generation;
        match sync_now(text, handled.text.as_deref(), handled.at, now) {
            SyncNow::Nothing => SyncNow::Nothing,
            SyncNow::In(rest) if !edited => {
                hit(Limit::SyncNowPause);
                SyncNow::In(rest)
            }
            SyncNow::Due | SyncNow::In(_) => {
                *handled = Handled { text: text.map(str::to_owned), at: Some(now), generation, new: true };
                SyncNow::Due
            }
        }
    }

    /// Whether an object's reconcile is to handle a new text, for a kind whose status does not say which one was handled.
    pub fn take(&self, kind: Kind, key: &Key) -> bool {
        let mut all = self.lock();
        all.get_mut(&(kind, key.clone())).is_some_and(|handled| std::mem::take(&mut handled.new))
    }

    /// An object is gone.
    pub fn forget(&self, kind: Kind, key: &Key) {
        self.lock().remove(&(kind, key.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Kind, Key), Handled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::SYNC_NOW_PAUSE;

    #[test]
    fn of_every_kind_one_counts_in_a_pause_and_the_last_is_handled() {
        let (all, start) = (SyncNows::default(), Timestamp::from_second(1_800_000_000).unwrap());
        let key = Key { namespace: "n".into(), name: "p".into() };
        let look = |text, now| all.look((Kind::Policy, &key), text, Some(1), now);
        assert_eq!(look(Some("a"), start), SyncNow::Nothing, "it is looked at when it is first seen");
        assert_eq!((look(Some("b"), start), look(Some("b"), start)), (SyncNow::Due, SyncNow::Nothing));
        assert_eq!((all.take(Kind::Policy, &key), all.take(Kind::Policy, &key)), (true, false));
        let soon = start + Duration::from_secs(2);
        assert_eq!(look(Some("c"), soon), SyncNow::In(Duration::from_secs(3)));
        assert_eq!(look(Some("d"), soon), SyncNow::In(Duration::from_secs(3)));
        assert!(!all.take(Kind::Policy, &key));
        assert_eq!(look(Some("d"), start + SYNC_NOW_PAUSE), SyncNow::Due);
        let edited = all.look((Kind::Policy, &key), Some("e"), Some(2), start + SYNC_NOW_PAUSE);
        assert_eq!(edited, SyncNow::Due, "an edit waits for nothing");
        all.forget(Kind::Policy, &key);
        assert!(all.lock().is_empty());
    }
}

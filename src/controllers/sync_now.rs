//! Which `sync-now` texts were handled, and when: one of an object counts once in a few seconds, of every kind.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::Key;
use crate::{
    metrics::Kind,
    plan::schedule::{SyncNow, sync_now},
};

/// By object; forgotten with it. A restart forgets all, and then looks at every object anyway.
#[derive(Default)]
pub struct SyncNows(Mutex<HashMap<(Kind, Key), Handled>>);

#[derive(Default)]
struct Handled {
    text: Option<String>,
    at: Option<Timestamp>,
}

impl SyncNows {
    /// When the last one of an object was handled, for a kind whose status says which that was.
    pub fn at(&self, kind: Kind, key: &Key) -> Option<Timestamp> {
        self.lock().get(&(kind, key.clone()))?.at
    }

    /// What the annotation of an object comes to, for a kind whose status does not say what was handled. The text that
    /// an object is first seen with is not new: it is looked at then anyway.
    pub fn look(&self, kind: Kind, key: &Key, text: Option<&str>, now: Timestamp) -> SyncNow {
        let mut all = self.lock();
        let handled = all
            .entry((kind, key.clone()))
            .or_insert_with(|| Handled { text: text.map(str::to_owned), at: None });
        sync_now(text, handled.text.as_deref(), handled.at, now)
    }

    /// A text of an object is handled from now on.
    pub fn handled(&self, kind: Kind, key: &Key, text: Option<&str>, now: Timestamp) {
        let handled = Handled { text: text.map(str::to_owned), at: Some(now) };
        self.lock().insert((kind, key.clone()), handled);
    }

    /// How long a text of an object still waits, since another was handled a moment ago; none where it is handled by
    /// whatever is done now.
    pub fn rest(&self, kind: Kind, key: &Key, text: Option<&str>, now: Timestamp) -> Option<Duration> {
        let all = self.lock();
        let handled = all.get(&(kind, key.clone()))?;
        match sync_now(text, handled.text.as_deref(), handled.at, now) {
            SyncNow::In(rest) => Some(rest),
            SyncNow::Nothing | SyncNow::Due => None,
        }
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
    use super::*;
    use crate::limits::SYNC_NOW_PAUSE;

    #[test]
    fn a_kind_without_the_field_in_its_status_has_the_same_pause() {
        let (all, start) = (SyncNows::default(), Timestamp::from_second(1_800_000_000).unwrap());
        let key = Key { namespace: "n".into(), name: "p".into() };
        let look = |text, now| all.look(Kind::Policy, &key, text, now);
        assert_eq!(look(Some("a"), start), SyncNow::Nothing, "it is looked at when it is first seen");
        assert_eq!(look(Some("b"), start), SyncNow::Due);
        all.handled(Kind::Policy, &key, Some("b"), start);
        assert_eq!(look(Some("b"), start), SyncNow::Nothing);
        assert_eq!(look(Some("c"), start + Duration::from_secs(2)), SyncNow::In(Duration::from_secs(3)));
        assert_eq!(look(Some("c"), start + SYNC_NOW_PAUSE), SyncNow::Due);
        let rest = |text, now| all.rest(Kind::Policy, &key, text, now);
        assert_eq!(rest(Some("c"), start + Duration::from_secs(2)), Some(Duration::from_secs(3)));
        assert_eq!(rest(Some("c"), start + SYNC_NOW_PAUSE), None);
        assert_eq!((rest(Some("b"), start), rest(None, start)), (None, None));
        all.forget(Kind::Policy, &key);
        assert!(all.lock().is_empty());
    }
}

//! The statuses that were written and that the watch has not shown yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::{
    Resource,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::reflector::Store,
};
use serde_json::Value;

use crate::{
    cluster,
    metrics::Kind,
    plan::scope::WatchScope,
    runtime::{Key, Object},
};

/// Statuses that the memory for them is kept for when there is none.
const ROOM: usize = 64;

/// The statuses that the operator wrote and that the watch has not shown yet: what the operator wrote last beats its older news.
#[derive(Default)]
pub struct Statuses {
    unseen: Mutex<Unseen>,
    scope: WatchScope,
}

#[derive(Default)]
struct Unseen {
    written: HashMap<(Kind, Key), WrittenStatus>,
    /// The newest change that the watch of a kind has shown, in the part that the watch is of. It shows them in their order.
    shown: HashMap<(Kind, String), u64>,
}

struct WrittenStatus {
    version: u64,
    status: Value,
    /// The reconcile that wrote it goes on, with the object as it was before.
    needed: bool,
}

impl Statuses {
    /// Where watches are of these parts each.
    pub fn of(scope: WatchScope) -> Self {
        Self { scope, ..Self::default() }
    }

    /// The object as it is now: from the store, with the status that the operator wrote last; none where it is gone.
    pub fn freshest<K: Object>(
        &self,
        key: &Key,
        store: &Store<DeserializeGuard<K>>,
    ) -> Option<Result<K, InvalidObject>> {
        // Before the store is looked at: what the watch shows in between is forgotten here, and is there.
        let written = self.lock().written.get(&(K::KIND, key.clone())).map(|w| (w.version, w.status.clone()));
        let found = store.get(&key.reference())?;
        let mut object = match &found.0 {
            Ok(object) => object.clone(),
            Err(invalid) => return Some(Err(invalid.clone())),
        };
        if let Some((_, status)) = written.filter(|(written, _)| *written > version(&object)) {
            object.set_status(status);
        }
        Some(Ok(object))
    }

    /// The status that an object had when it was last written or shown, for a reconcile to change; empty where it has none.
    pub fn draft<K: Object>(&self, object: &K) -> K::Status {
        let written = self.newer::<K>(&Key::of(object), object);
        let written = written.and_then(|status| serde_json::from_value(status).ok());
        written.or_else(|| object.status().cloned()).unwrap_or_default()
    }

    pub(super) fn newest<K: Object>(&self, key: &Key, object: &K) -> Option<Value> {
        self.newer::<K>(key, object).or_else(|| object.status_json())
    }

    pub(super) fn newer<K: Object>(&self, key: &Key, object: &K) -> Option<Value> {
        let unseen = self.lock();
        let written = unseen.written.get(&(K::KIND, key.clone()))?;
        (written.version > version(object)).then(|| written.status.clone())
    }

    /// The version that an object had when its status was last written or shown.
    pub(super) fn version<K: Object>(&self, object: &K) -> String {
        let unseen = self.lock();
        let written = unseen.written.get(&(K::KIND, Key::of(object))).map_or(0, |written| written.version);
        written.max(version(object)).to_string()
    }

    /// Takes note of the status of an object, unless it was another one of its name that was written to.
    pub(super) fn remember<K: Object>(&self, object: &K, written: &cluster::Written, status: Value) {
        if object.meta().uid.as_deref() != Some(&written.uid) {
            return;
        }
        let written = WrittenStatus { version: number(&written.resource_version), status, needed: true };
        self.lock().written.insert((K::KIND, Key::of(object)), written);
    }

    /// A change came by the watch of a kind, and is in its store: what the operator wrote before it need not be kept.
    pub fn shown<K: Resource>(&self, kind: Kind, object: &K) {
        let (version, entry) = (version(object), (kind, Key::of(object)));
        let watch = self.watch_of(kind, &entry.1);
        let mut unseen = self.lock();
        let newest = unseen.shown.entry(watch).or_default();
        *newest = version.max(*newest);
        if unseen.written.get(&entry).is_some_and(|w| !w.needed && w.version <= version) {
            unseen.remove(&entry);
        }
    }

    /// A reconcile has ended, so that the watch may take over.
    pub fn settle(&self, kind: Kind, key: &Key) {
        let watch = self.watch_of(kind, key);
        let mut unseen = self.lock();
        let shown = unseen.shown.get(&watch).copied().unwrap_or_default();
        let entry = (kind, key.clone());
        let Some(written) = unseen.written.get_mut(&entry) else { return };
        written.needed = false;
        // The watch may be faster than the answer.
        if written.version <= shown {
            unseen.remove(&entry);
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, kind: Kind, key: &Key) {
        self.lock().remove(&(kind, key.clone()));
    }

    /// The watch that shows an object.
    fn watch_of(&self, kind: Kind, key: &Key) -> (Kind, String) {
        (kind, self.scope.part_of(&key.namespace).unwrap_or_default().to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, Unseen> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unseen {
    fn remove(&mut self, entry: &(Kind, Key)) {
        self.written.remove(entry);
        if self.written.is_empty() {
            self.written.shrink_to(ROOM);
        }
    }
}

/// Resource versions of one object are ordered as numbers (guaranteed since Kubernetes 1.35, so long before).
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().map_or(0, number)
}

fn number(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher};

    use super::*;
    use crate::api::{ConjurSecret, ConjurSecretSpec};

    fn object(version: &str, keys: Option<i32>) -> ConjurSecret {
        let spec: ConjurSecretSpec =
            serde_json::from_value(serde_json::json!({ "connectionRef": { "name": "conjur" } })).unwrap();
        let mut object = ConjurSecret::new("db", spec);
        object.metadata.namespace = Some("billing".into());
        object.metadata.uid = Some("u".into());
        object.metadata.resource_version = Some(version.into());
        object.status = keys.map(|keys| {
            let status = serde_json::json!({ "keys": keys });
            serde_json::from_value(status).unwrap()
        });
        object
    }

    #[test]
    fn what_we_wrote_last_stands_until_the_store_has_it() {
        let (store, mut writer) = reflector::store::<DeserializeGuard<ConjurSecret>>();
        let (statuses, key) = (Statuses::default(), Key { namespace: "billing".into(), name: "db".into() });
        let keys = || {
            let object = statuses.freshest(&key, &store)?.unwrap();
            Some(object.status.and_then(|status| status.keys))
        };
        assert_eq!(keys(), None, "it is gone");
        let mut show = |object: ConjurSecret| {
            let event = watcher::Event::Apply(DeserializeGuard(Ok(object)));
            writer.apply_watcher_event(&event);
        };
        show(object("7", None));
        assert_eq!(keys(), Some(None));
        let written = |uid: &str| cluster::Written { uid: uid.into(), resource_version: "9".into() };
        let status = serde_json::json!({ "keys": 2 });
        statuses.remember(&object("7", None), &written("another"), status.clone());
        assert_eq!(keys(), Some(None), "one that was made anew has nothing of the former one");
        statuses.remember(&object("7", None), &written("u"), status);
        assert_eq!(keys(), Some(Some(2)));
        let draft = |object: ConjurSecret| statuses.draft(&object).keys;
        assert_eq!((draft(object("7", Some(1))), draft(object("9", Some(3)))), (Some(2), Some(3)));
        statuses.settle(Kind::Secret, &key);
        show(object("8", None));
        statuses.shown(Kind::Secret, &object("8", None));
        assert_eq!(keys(), Some(Some(2)), "older news");
        show(object("9", Some(2)));
        statuses.shown(Kind::Secret, &object("9", Some(2)));
        assert!(statuses.lock().written.is_empty());
        assert_eq!(keys(), Some(Some(2)));
        show(object("10", Some(3)));
        assert_eq!(keys(), Some(Some(3)));
    }

    #[test]
    fn what_the_watch_of_another_namespace_has_shown_says_nothing_of_this_one() {
        let written = cluster::Written { uid: "u".into(), resource_version: "9".into() };
        for (scope, is_forgotten) in [
            (WatchScope::default(), true),
            (WatchScope::new(&["billing".to_owned(), "other".to_owned()], true).unwrap(), false),
        ] {
            let statuses = Statuses::of(scope);
            statuses.remember(&object("7", None), &written, serde_json::json!({ "keys": 2 }));
            let mut other = object("12", None);
            other.metadata.namespace = Some("other".into());
            statuses.shown(Kind::Secret, &other);
            statuses.settle(Kind::Secret, &Key::of(&object("7", None)));
            assert_eq!(statuses.lock().written.is_empty(), is_forgotten);
        }
    }
}

//! The only writer of status: conditions and fields, patched only where they differ, and Events for what a
//! person would want to know.

mod events;
mod queue;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::core::{DeserializeGuard, error_boundary::InvalidObject};
use kube::runtime::{events::EventType, reflector::Store};
use serde_json::{Map, Value};

use super::{Context, Key, Reconcile};
use crate::{
    api::{
        Reason,
        condition::{READY, State, conditions, find},
    },
    cluster,
    conjur::Lane,
    metrics::Kind,
};

pub use events::Events;

/// Statuses that the memory for them is kept for when there is none.
const ROOM: usize = 64;

/// What is to be said of an object after a reconcile.
#[derive(Debug)]
pub struct Report {
    /// The state that the conditions tell of.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// What happened, and what to do next.
    pub message: String,
    /// Further fields of the status; null removes one.
    pub fields: Map<String, Value>,
    /// Lane of the write.
    pub lane: Lane,
}

/// Writes what is to be said of an object, where it differs from what the status says.
///
/// # Errors
/// Those of the API server; that the object is gone is none.
pub async fn report<K: Reconcile>(object: &K, report: Report, ctx: &Context) -> Result<(), cluster::Error> {
    let (observed, old) = object.conditions();
    // The reconcile itself may have written some, which the object does not show.
    let newer = ctx.statuses.newer::<K>(&Key::of(object), object);
    let newer: Option<Vec<Condition>> =
        newer.and_then(|mut status| serde_json::from_value(status.get_mut("conditions")?.take()).ok());
    let old = newer.as_deref().unwrap_or(old);
    let generation = object.meta().generation;
    let new = conditions(old, report.state, report.reason, &report.message, generation, Timestamp::now());
    let mut fields = report.fields;
    if report.state.observes_generation() && observed != generation {
        fields.insert("observedGeneration".into(), generation.into());
    }
    let news = news::<K>(find(old, READY), find(&new, READY));
    if new != old {
        fields.insert("conditions".into(), serde_json::to_value(&new).unwrap_or_default());
    }
    write_fields(object, fields, report.lane, ctx).await?;
    if let Some(type_) = news {
        ctx.events.publish(object, type_, report.reason, "Reconcile", report.message);
    }
    Ok(())
}

/// What fails for all objects of a connection at once, and is told by the connection.
const OF_CONNECTION: [Reason; 5] = [
    Reason::ConnectionNotReady,
    Reason::AuthenticationFailed,
    Reason::TlsFailed,
    Reason::ConjurUnavailable,
    Reason::RateLimited,
];

/// Whether a changed Ready condition is worth an Event, and of which type. That a connection fails or works again is
/// one on the connection, and none on the thousands of objects that wait for it.
fn news<K: Reconcile>(old: Option<&Condition>, new: Option<&Condition>) -> Option<EventType> {
    let told = |ready: Option<&Condition>| ready.map(|c| (c.status.clone(), c.reason.clone()));
    let new = new.filter(|_| told(old) != told(new))?;
    let of_connection = |ready: &Condition| {
        matches!(K::KIND, Kind::Secret | Kind::Policy)
            && OF_CONNECTION.iter().any(|reason| reason.as_str() == ready.reason)
    };
    if new.status == "True" {
        let was_unready = old.is_some_and(|old| old.status != "True" && !of_connection(old));
        return was_unready.then_some(EventType::Normal);
    }
    (new.reason != Reason::Suspended.as_str() && !of_connection(new)).then_some(EventType::Warning)
}

/// Writes fields of the status, where they differ from what it says.
///
/// # Errors
/// Those of the API server; that the object is gone is none.
pub async fn write_fields<K: Reconcile>(
    object: &K,
    mut fields: Map<String, Value>,
    lane: Lane,
    ctx: &Context,
) -> Result<(), cluster::Error> {
    let key = Key::of(object);
    let mut standing = ctx.statuses.newest::<K>(&key, object).unwrap_or_default();
    fields.retain(|name, value| standing.get(name).unwrap_or(&Value::Null) != value);
    if fields.is_empty() {
        return Ok(());
    }
    let api = K::api(ctx.cluster.client(), &key.namespace);
    // Each call has a deadline of its own; waiting for its turn behind thousands of other writes is no fault.
    let fields = Value::Object(fields);
    match ctx.cluster.patch_status(&api, &key.name, &fields, lane).await {
        Ok(written) => {
            merge(&mut standing, fields);
            ctx.statuses.remember(object, &written, standing);
            Ok(())
        }
        Err(cluster::Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Fields over a status, as the API server merges them: null takes one away.
fn merge(status: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { return };
    if !status.is_object() {
        *status = Value::Object(Map::new());
    }
    let Value::Object(status) = status else { return };
    for (name, value) in fields {
        if value.is_null() {
            status.remove(&name);
        } else {
            status.insert(name, value);
        }
    }
}

/// The statuses that we wrote and that the watch has not shown yet: what we wrote last beats its older news.
#[derive(Default)]
pub struct Statuses(Mutex<Unseen>);

#[derive(Default)]
struct Unseen {
    written: HashMap<(Kind, Key), Written>,
    /// The newest change that the watch of a kind has shown. It shows them in their order.
    shown: HashMap<Kind, u64>,
}

struct Written {
    version: u64,
    status: Value,
    /// The reconcile that wrote it goes on, with the object as it was before.
    needed: bool,
}

impl Statuses {
    /// The object as it is now: from the store, with the status that we wrote last; none where it is gone.
    pub fn freshest<K: Reconcile>(
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

    fn newest<K: Reconcile>(&self, key: &Key, object: &K) -> Option<Value> {
        self.newer::<K>(key, object).or_else(|| object.status_json())
    }

    fn newer<K: Reconcile>(&self, key: &Key, object: &K) -> Option<Value> {
        let unseen = self.lock();
        let written = unseen.written.get(&(K::KIND, key.clone()))?;
        (written.version > version(object)).then(|| written.status.clone())
    }

    /// Takes note of the status of an object, unless it was another one of its name that was written to.
    fn remember<K: Reconcile>(&self, object: &K, written: &cluster::Written, status: Value) {
        if object.meta().uid.as_deref() != Some(&written.uid) {
            return;
        }
        let written = Written { version: number(&written.resource_version), status, needed: true };
        self.lock().written.insert((K::KIND, Key::of(object)), written);
    }

    /// A change came by the watch of a kind, and is in its store: what we wrote before it need not be kept.
    pub fn shown<K: Resource>(&self, kind: Kind, object: &K) {
        let version = version(object);
        let mut unseen = self.lock();
        let newest = unseen.shown.entry(kind).or_default();
        *newest = version.max(*newest);
        let entry = (kind, Key::of(object));
        if unseen.written.get(&entry).is_some_and(|w| !w.needed && w.version <= version) {
            unseen.remove(&entry);
        }
    }

    /// A reconcile has ended, so that the watch may take over.
    pub fn settle(&self, kind: Kind, key: &Key) {
        let mut unseen = self.lock();
        let shown = unseen.shown.get(&kind).copied().unwrap_or_default();
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

    fn lock(&self) -> MutexGuard<'_, Unseen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    use crate::api::{ConjurConnection, ConjurSecret, ConjurSecretSpec};

    #[test]
    fn an_event_tells_of_a_turn_and_a_failing_connection_tells_it_once() {
        let ready = |status: &str, reason: Reason| Condition {
            type_: READY.into(),
            status: status.into(),
            reason: reason.as_str().into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
        };
        let synced = ready("True", Reason::Synced);
        let invalid = ready("False", Reason::InvalidSpec);
        let (waits, down) =
            (ready("False", Reason::ConnectionNotReady), ready("False", Reason::ConjurUnavailable));
        let suspended = ready("False", Reason::Suspended);
        for (old, new, secret, connection) in [
            (None, &synced, None, None),
            (None, &invalid, Some("Warning"), Some("Warning")),
            (Some(&synced), &invalid, Some("Warning"), Some("Warning")),
            (Some(&invalid), &invalid, None, None),
            (Some(&invalid), &synced, Some("Normal"), Some("Normal")),
            (Some(&synced), &suspended, None, None),
            (Some(&synced), &down, None, Some("Warning")),
            (Some(&down), &waits, None, Some("Warning")),
            (Some(&waits), &synced, None, Some("Normal")),
            (Some(&waits), &invalid, Some("Warning"), Some("Warning")),
            (None, &waits, None, Some("Warning")),
        ] {
            let said = |news: Option<EventType>| news.map(|news| format!("{news:?}"));
            let what = format!("{:?} to {}", old.map(|old| &old.reason), new.reason);
            assert_eq!(said(news::<ConjurSecret>(old, Some(new))).as_deref(), secret, "{what}");
            assert_eq!(said(news::<ConjurConnection>(old, Some(new))).as_deref(), connection, "{what}");
        }
    }

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
    fn a_written_field_replaces_and_null_takes_away() {
        let mut status =
            serde_json::json!({ "keys": 1, "missing": ["a"], "conditions": [{ "type": "Ready" }] });
        merge(&mut status, serde_json::json!({ "keys": 2, "missing": null, "revision": "r" }));
        let all = serde_json::json!({ "keys": 2, "conditions": [{ "type": "Ready" }], "revision": "r" });
        assert_eq!(status, all);
        let mut none = Value::Null;
        merge(&mut none, serde_json::json!({ "keys": 2 }));
        assert_eq!(none, serde_json::json!({ "keys": 2 }));
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
}

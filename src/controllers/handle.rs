//! One kind among all: what there is of it, what wakes it, and what it is asked by those who do not know which it is.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::reflector::{self, Store, store::Writer},
};
use tokio::time::Instant;

use super::{connection::users::Users, watches::Unshown};
use crate::{
    api::{
        ConnectionRef, Reason,
        condition::{READY, RECONCILING, find, is_true},
    },
    conjur::Client,
    metrics::{Kind, ObjectState},
    plan::{schedule::spread, scope::WatchScope},
    runtime::{
        Key, Object, Reconcile,
        wake::{Waker, Woken, pending},
    },
};

/// What a kind tells of itself to those who ask all kinds alike.
pub trait Listed: Reconcile {
    /// Whether its objects write Secrets: a change of such a Secret wakes the object that the Secret names.
    const WRITES_SECRETS: bool = false;
    /// Whether all objects are woken at once when their connection begins to work or to fail, those that are not Ready first:
    /// only where one for which nothing is due costs nothing. Else they are woken a few at a time, over some seconds.
    const TOLD_AT_ONCE: bool = false;

    /// The objects that write into a Secret which names none of them.
    fn merging_into(_secret: &Key, _ctx: &Self::Context) -> Vec<Key> {
        Vec::new()
    }

    /// Whether a change of a Secret is news to the object that the Secret names. Asked once for each change.
    fn is_news(_secret: &PartialObjectMeta<Secret>, _ctx: &Self::Context) -> bool {
        true
    }

    /// Who is rotating a key that lies in one of these Secrets, or that of a login on a server (its hash), as messages say it: an
    /// object of another namespace is not named.
    fn rotates(
        _secrets: &[Key],
        _login: Option<&str>,
        _server: &str,
        _ctx: &Self::Context,
    ) -> Option<String> {
        None
    }

    /// A client was made for a connection, for these users of it.
    fn client_made(_client: &Client, _users: &Users, _ctx: &Self::Context) {}

    /// Adds to the state of an object, which metrics show, what only its kind knows.
    fn add_state(&self, _state: &mut ObjectState<'_>, _ctx: &Self::Context) {}

    /// Whether nothing is to be done for it, as its spec says.
    fn is_suspended(&self) -> bool {
        false
    }
}

/// The objects of a kind that there are, and what wakes them.
pub struct Handle<K: Object> {
    /// Those that there are, as the watch shows them.
    pub store: Store<DeserializeGuard<K>>,
    /// The parts that the watch can't show.
    pub unshown: Unshown,
    waker: Waker,
}

/// The other end of a handle, for who runs the kind.
pub struct HandleEnd<K: Object> {
    /// What the handle shows.
    pub store: Store<DeserializeGuard<K>>,
    /// What fills it, and what wakes its objects.
    pub incoming: Incoming<K>,
}

/// Where what comes of a kind arrives.
pub struct Incoming<K: Object> {
    /// Takes what the watch shows.
    pub writer: Writer<DeserializeGuard<K>>,
    /// Where those arrive that the handle wakes.
    pub woken: Woken,
    /// Takes note of what the watch can't show.
    pub unshown: Unshown,
}

/// Both ends.
pub fn handle<K: Object>() -> (Handle<K>, HandleEnd<K>) {
    let (store, writer) = reflector::store();
    let (waker, woken) = pending();
    let unshown = Unshown::default();
    (
        Handle { store: store.clone(), unshown: unshown.clone(), waker },
        HandleEnd { store, incoming: Incoming { writer, woken, unshown } },
    )
}

impl<K: Object> Handle<K> {
    /// Whether an object is gone: it is not there, decoded or not, and the watch would show it. What lies in a namespace that is
    /// not watched, or that may not be, is never gone: another operator of the cluster may have it.
    pub fn is_gone(&self, key: &Key, scope: &WatchScope) -> bool {
        self.store.get(&key.reference()).is_none()
            && scope.part_of(&key.namespace).is_some()
            && !self.unshown.is_hidden(&key.namespace)
    }

    /// Wakes an object.
    pub fn wake(&self, key: Key) {
        self.waker.wake(key, Instant::now());
    }

    /// Wakes many that may all be due: the first ones at once, the others over a few seconds, in this order.
    pub fn wake_spread(&self, keys: Vec<Key>) {
        let (count, now) = (keys.len(), Instant::now());
        self.waker.wake_all(keys.into_iter().enumerate().map(|(nth, key)| (key, now + spread(nth, count))));
    }
}

/// An object that uses a connection.
pub struct User {
    /// Which.
    pub key: Key,
    /// Whether it is Ready.
    pub ready: bool,
}

/// The handle of a kind, for those who do not know which it is. `C`: what the reconcilers of all kinds share.
pub trait AnyKind<C>: Send + Sync {
    /// Which it is.
    fn kind(&self) -> Kind;

    /// Its name, as manifests write it.
    fn name(&self) -> Cow<'static, str>;

    /// As [`Listed::WRITES_SECRETS`].
    fn writes_secrets(&self) -> bool;

    /// As [`Listed::TOLD_AT_ONCE`].
    fn is_told_at_once(&self) -> bool;

    /// As [`Handle::wake`].
    fn wake(&self, key: Key);

    /// As [`Handle::wake_spread`].
    fn wake_spread(&self, keys: Vec<Key>);

    /// All objects that there are, also those that do not decode.
    fn keys(&self) -> Vec<Key>;

    /// As [`Handle::is_gone`].
    fn is_gone(&self, key: &Key, scope: &WatchScope) -> bool;

    /// The objects of which this is true of the connection that they name, and of their namespace.
    fn users(&self, which: &dyn Fn(&ConnectionRef, &str) -> bool) -> Vec<User>;

    /// Wakes those whom a change of a Secret concerns. `owner`: the kind and name of the object that the Secret names.
    fn secret_changed(&self, secret: &PartialObjectMeta<Secret>, owner: Option<(&str, &str)>, ctx: &C);

    /// As [`Listed::rotates`].
    fn rotates(&self, secrets: &[Key], login: Option<&str>, server: &str, ctx: &C) -> Option<String>;

    /// As [`Listed::client_made`].
    fn client_made(&self, client: &Client, users: &Users, ctx: &C);

    /// Shows the state of each object.
    fn states(&self, see: &mut dyn FnMut(&ObjectState<'_>), ctx: &C);
}

impl<K: Listed> AnyKind<K::Context> for Handle<K> {
    fn kind(&self) -> Kind {
        K::KIND
    }

    fn name(&self) -> Cow<'static, str> {
        K::kind(&())
    }

    fn writes_secrets(&self) -> bool {
        K::WRITES_SECRETS
    }

    fn is_told_at_once(&self) -> bool {
        K::TOLD_AT_ONCE
    }

    fn wake(&self, key: Key) {
        Handle::wake(self, key);
    }

    fn wake_spread(&self, keys: Vec<Key>) {
        Handle::wake_spread(self, keys);
    }

    fn keys(&self) -> Vec<Key> {
        self.store.state().iter().map(|object| Key::of(object.as_ref())).collect()
    }

    fn is_gone(&self, key: &Key, scope: &WatchScope) -> bool {
        Handle::is_gone(self, key, scope)
    }

    fn users(&self, which: &dyn Fn(&ConnectionRef, &str) -> bool) -> Vec<User> {
        let Some(connection) = K::CONNECTION else { return Vec::new() };
        let all = self.store.state();
        let all = all.iter().filter_map(|object| object.0.as_ref().ok());
        let those = all.filter(|object| {
            let namespace = object.meta().namespace.as_deref().unwrap_or_default();
            which(connection(object), namespace)
        });
        those
            .map(|object| User { key: Key::of(object), ready: is_true(object.conditions().1, READY) })
            .collect()
    }

    fn secret_changed(
        &self,
        secret: &PartialObjectMeta<Secret>,
        owner: Option<(&str, &str)>,
        ctx: &K::Context,
    ) {
        if !K::WRITES_SECRETS {
            return;
        }
        self.wake_spread(K::merging_into(&Key::of(secret), ctx));
        if let Some((kind, name)) = owner
            && kind == K::kind(&())
            && K::is_news(secret, ctx)
        {
            self.wake(Key { namespace: secret.namespace().unwrap_or_default(), name: name.to_owned() });
        }
    }

    fn rotates(
        &self,
        secrets: &[Key],
        login: Option<&str>,
        server: &str,
        ctx: &K::Context,
    ) -> Option<String> {
        K::rotates(secrets, login, server, ctx)
    }

    fn client_made(&self, client: &Client, users: &Users, ctx: &K::Context) {
        K::client_made(client, users, ctx);
    }

    fn states(&self, see: &mut dyn FnMut(&ObjectState<'_>), ctx: &K::Context) {
        let now = Timestamp::now();
        for object in self.store.state() {
            match &object.0 {
                Ok(object) => {
                    let mut state = state_of(object.meta(), K::KIND, now);
                    let conditions = object.conditions().1;
                    if let Some(ready) = find(conditions, READY) {
                        state.ready = Some((&ready.status, &ready.reason));
                        state.since = Some(seconds(ready.last_transition_time.0, now));
                    }
                    let reconciling = find(conditions, RECONCILING).filter(|found| found.status == "True");
                    state.reconciling = reconciling.map(|found| found.reason.as_str());
                    state.suspended = object.is_suspended();
                    object.add_state(&mut state, ctx);
                    see(&state);
                }
                Err(invalid) => {
                    let mut state = state_of(&invalid.metadata, K::KIND, now);
                    state.ready = Some(("False", Reason::InvalidObject.as_str()));
                    see(&state);
                }
            }
        }
    }
}

/// What the metadata of an object says.
fn state_of(metadata: &ObjectMeta, kind: Kind, now: Timestamp) -> ObjectState<'_> {
    ObjectState {
        kind,
        namespace: metadata.namespace.as_deref().unwrap_or_default(),
        name: metadata.name.as_deref().unwrap_or_default(),
        ready: None,
        reconciling: None,
        since: metadata.creation_timestamp.as_ref().map(|made| seconds(made.0, now)),
        suspended: false,
        worked: None,
        rotation: None,
        certificate: None,
    }
}

/// From one time to another.
pub fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

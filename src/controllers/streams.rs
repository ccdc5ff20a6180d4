//! What wakes the controllers: watches, each failing alone, and wakeups from one controller to another.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, future::ready, stream::BoxStream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, DeserializeGuard, DynamicObject, PartialObjectMeta, error_boundary::InvalidObject},
    runtime::{
        Predicate, PredicateConfig, WatchStreamExt, predicates,
        reflector::{self, Store},
        watcher::{self, watcher},
    },
};
use tokio::time::Instant;

use super::{
    Context, Key, Reconcile, STALLED_AGAIN,
    facts::ConnectionId,
    memory::Memory,
    pending::{self, Waker, pending},
    policy::KeyWrites,
    slim,
    specs::{Fits, Specs},
};
use crate::{
    api::{
        ConjurPolicy, ConjurSecret, ConnectionKind, MANAGED_LABEL, OWNER_ANNOTATION, Reason,
        condition::{State, conditions},
    },
    conjur::Lane,
    limits::{LIST_PAGE, META_PAGE},
    metrics::Kind,
    plan::schedule::spread,
};

/// Wakes objects of other controllers.
#[derive(Clone)]
pub struct Wakeups {
    connections: Waker,
    cluster_connections: Waker,
    secrets: Waker,
    policies: Waker,
}

/// Where the wakeups arrive.
pub struct Woken {
    /// For the connections' controller.
    pub connections: pending::Woken,
    /// For the cluster connections' controller.
    pub cluster_connections: pending::Woken,
    /// For the secrets' controller.
    pub secrets: pending::Woken,
    /// For the policies' controller.
    pub policies: pending::Woken,
}

impl Wakeups {
    /// Both ends.
    pub fn new() -> (Self, Woken) {
        let (connections, woken_connections) = pending();
        let (cluster_connections, woken_cluster) = pending();
        let (secrets, woken_secrets) = pending();
        let (policies, woken_policies) = pending();
        let woken = Woken {
            connections: woken_connections,
            cluster_connections: woken_cluster,
            secrets: woken_secrets,
            policies: woken_policies,
        };
        (Self { connections, cluster_connections, secrets, policies }, woken)
    }

    /// Wakes a connection.
    pub fn connection(&self, id: &ConnectionId) {
        let waker = match id.kind {
            ConnectionKind::ConjurConnection => &self.connections,
            ConnectionKind::ClusterConjurConnection => &self.cluster_connections,
        };
        waker.wake(Key { namespace: id.namespace.clone(), name: id.name.clone() }, Instant::now());
    }

    /// Wakes a ConjurSecret.
    pub fn secret(&self, object: Key) {
        self.secrets.wake(object, Instant::now());
    }

    /// Wakes many ConjurSecrets that may all be due: the first at once, the others over a few seconds, in this order.
    pub fn secrets(&self, objects: Vec<Key>) {
        spread_out(&self.secrets, objects);
    }

    /// Wakes a ConjurPolicy.
    pub fn policy(&self, object: Key) {
        self.policies.wake(object, Instant::now());
    }

    /// Wakes many ConjurPolicies that may all be due, as [`Self::secrets`] does.
    pub fn policies(&self, objects: Vec<Key>) {
        spread_out(&self.policies, objects);
    }
}

fn spread_out(waker: &Waker, objects: Vec<Key>) {
    let (count, now) = (objects.len(), Instant::now());
    waker.wake_all(objects.into_iter().enumerate().map(|(nth, key)| (key, now + spread(nth, count))));
}

/// What wakes the objects of a kind: its watch, which fills the store, and the wakeups that reach it.
pub fn wakes<K>(
    client: Client,
    writer: reflector::store::Writer<DeserializeGuard<K>>,
    woken: pending::Woken,
    ctx: Arc<Context>,
) -> BoxStream<'static, (Key, Instant)>
where
    K: Reconcile,
{
    // Whoever depends on an object that is gone must learn of it now, not when the object would have been due.
    let (waker, deleted) = pending();
    let (specs, first) = (ctx.specs.clone(), ctx.clone());
    let main =
        watcher(Api::<DeserializeGuard<K>>::all(client), watcher::Config::default().page_size(LIST_PAGE))
            .default_backoff()
            .modify(move |object| slim_down(object, &specs))
            .inspect_ok(move |event| K::shown(event, &first))
            .reflect(writer)
            .inspect_ok(move |event| {
                match event {
                    watcher::Event::Apply(object) => ctx.statuses.shown(K::KIND, object),
                    watcher::Event::Delete(object) => {
                        ctx.specs.forget(K::KIND, &Key::of(object));
                        waker.wake(Key::of(object), Instant::now());
                    }
                    // A list comes in no order, and may have begun before what was written since.
                    watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::InitDone => {}
                }
            })
            .applied_objects()
            .filter_map(|result| ready(isolated::<_, _>(K::KIND.as_str(), result)))
            .predicate_filter(
                predicates::generation.combine(predicates::annotations),
                PredicateConfig::default(),
            );
    let main = main.filter_map(|object| ready(object.ok().map(|object| (Key::of(&object), Instant::now()))));
    futures::stream::select(main, futures::stream::select(woken, deleted)).boxed()
}

/// Leaves out of an object that goes into the store what need not lie there.
fn slim_down<K: Reconcile>(guarded: &mut DeserializeGuard<K>, specs: &Specs) {
    let object = match guarded.0.as_mut() {
        Ok(object) => object,
        Err(invalid) => return slim::invalid(invalid),
    };
    if K::KIND == Kind::Policy {
        slim::own_policy(object.meta_mut());
    } else {
        slim::own(object.meta_mut());
    }
    object.slim();
    if specs.keep(object) == Fits::No {
        let metadata = object.meta().clone();
        guarded.0 = Err(InvalidObject { error: String::new(), metadata });
    }
}

/// What a watch of Secrets shows.
pub enum Shown {
    /// One was made, changed or deleted.
    Touched(Box<PartialObjectMeta<Secret>>),
    /// All were listed anew, for the watch was broken: what was deleted meanwhile is not among them.
    ListedAgain,
}

/// The Secrets that we write to, by their label, metadata only; whose owner is to be woken by a change.
pub fn owned_secrets(
    client: Client,
    writer: reflector::store::Writer<PartialObjectMeta<Secret>>,
) -> impl Stream<Item = Shown> + Send {
    let config = watcher::Config::default().labels(&format!("{MANAGED_LABEL}=true"));
    let mut listed = false;
    watcher(Api::<PartialObjectMeta<Secret>>::all(client), config.page_size(META_PAGE))
        .default_backoff()
        .modify(|o| slim::secret(&mut o.metadata))
        .reflect(writer)
        .filter_map(move |result| {
            ready(match isolated("Secret", result) {
                Some(Ok(
                    watcher::Event::Apply(o) | watcher::Event::InitApply(o) | watcher::Event::Delete(o),
                )) => Some(Shown::Touched(Box::new(o))),
                // The first list is of a start, where every object has its turn anyway.
                Some(Ok(watcher::Event::InitDone)) => {
                    std::mem::replace(&mut listed, true).then_some(Shown::ListedAgain)
                }
                Some(Ok(watcher::Event::Init) | Err(_)) | None => None,
            })
        })
}

/// Wakes all objects that write Secrets; those whose Secret is as it was find nothing due.
pub fn wake_all(
    secrets: &Store<DeserializeGuard<ConjurSecret>>,
    policies: &Store<DeserializeGuard<ConjurPolicy>>,
    wakeups: &Wakeups,
) {
    wakeups.secrets(secrets.state().iter().map(|s| Key::of(s.as_ref())).collect());
    wakeups.policies(policies.state().iter().map(|p| Key::of(p.as_ref())).collect());
}

/// Wakes whom a Secret belongs to, by its controller reference, else by our annotation, and those that merge into it.
pub fn wake_owner(
    secret: &PartialObjectMeta<Secret>,
    wakeups: &Wakeups,
    key_writes: &KeyWrites,
    memory: &Memory,
) {
    let at = |name: &str| Key { namespace: secret.namespace().unwrap_or_default(), name: name.to_owned() };
    wakeups.secrets(memory.merging_into(&Key::of(secret)));
    let controller = secret.owner_references().iter().find(|o| o.controller == Some(true));
    let annotated = secret.annotations().get(OWNER_ANNOTATION).and_then(|text| text.split_once('/'));
    let owner = controller.map(|c| (c.kind.as_str(), c.name.as_str())).or(annotated);
    match owner {
        Some(("ConjurSecret", name)) => wakeups.secret(at(name)),
        Some(("ConjurPolicy", name))
            if key_writes.shown(&Key::of(secret), secret.metadata.resource_version.as_deref()) =>
        {
            wakeups.policy(at(name));
        }
        _ => {}
    }
}

/// Logs an error of one watch and drops it: in the controller it would hold up all the others.
fn isolated<T, E: std::fmt::Display>(kind: &str, result: Result<T, E>) -> Option<Result<T, E>> {
    match result {
        Ok(object) => Some(Ok(object)),
        Err(error) => {
            tracing::warn!(kind, "a watch failed and is tried again: {error}");
            None
        }
    }
}

/// Tells of an object that does not decode, in its own status; the others go on.
pub async fn report_invalid<K: Reconcile>(invalid: &InvalidObject, ctx: &Context) -> Option<Duration> {
    let (namespace, name) = (
        invalid.metadata.namespace.clone().unwrap_or_default(),
        invalid.metadata.name.clone().unwrap_or_default(),
    );
    // What does not decode may be anything, so the error's own text, which quotes it, stays out.
    let message = "the object does not decode: a field is missing or has another form than the CRD of this version says. \
                   Apply it again with the installed CRDs";
    tracing::warn!(
        kind = K::KIND.as_str(),
        namespace,
        name,
        reason = Reason::InvalidObject.as_str(),
        "{message}"
    );
    ctx.metrics.failed(K::KIND, Reason::InvalidObject.as_str());
    let now = jiff::Timestamp::now();
    let new =
        conditions(&[], State::Stalled, Reason::InvalidObject, message, invalid.metadata.generation, now);
    let status = serde_json::json!({ "conditions": new, "observedGeneration": invalid.metadata.generation });
    // The object as it is: its own type does not take it.
    let (client, resource) = (ctx.cluster.client(), ApiResource::erase::<K>(&()));
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client, &resource)
    } else {
        Api::namespaced_with(client, &namespace, &resource)
    };
    let written = ctx.cluster.patch_status(&api, &name, &status, Lane::Foreground).await;
    if let Err(error) = written {
        tracing::warn!(kind = K::KIND.as_str(), namespace, name, "{error}");
    }
    Some(STALLED_AGAIN)
}

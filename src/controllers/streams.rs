//! What wakes the controllers: watches, each failing alone, and wakeups from one controller to another.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, future::ready, stream::BoxStream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, DeserializeGuard, DynamicObject, PartialObjectMeta, error_boundary::InvalidObject},
    runtime::{
        Predicate, PredicateConfig, WatchStreamExt, predicates,
        reflector::{self, ObjectRef, Store},
        watcher::{self, watcher},
    },
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use super::{
    Context, Key, Reconcile, STALLED_AGAIN,
    facts::ConnectionId,
    memory::Memory,
    policy::KeyWrites,
    slim,
    specs::{Fits, Specs},
};
use crate::{
    api::{
        ClusterConjurConnection, ConjurConnection, ConjurPolicy, ConjurSecret, ConnectionKind, MANAGED_LABEL,
        OWNER_ANNOTATION, Reason,
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
    connections: UnboundedSender<ObjectRef<DeserializeGuard<ConjurConnection>>>,
    cluster_connections: UnboundedSender<ObjectRef<DeserializeGuard<ClusterConjurConnection>>>,
    secrets: UnboundedSender<ObjectRef<DeserializeGuard<ConjurSecret>>>,
    policies: UnboundedSender<ObjectRef<DeserializeGuard<ConjurPolicy>>>,
}

/// Where the wakeups arrive.
pub struct Woken {
    /// For the connections' controller.
    pub connections: UnboundedReceiver<ObjectRef<DeserializeGuard<ConjurConnection>>>,
    /// For the cluster connections' controller.
    pub cluster_connections: UnboundedReceiver<ObjectRef<DeserializeGuard<ClusterConjurConnection>>>,
    /// For the secrets' controller.
    pub secrets: UnboundedReceiver<ObjectRef<DeserializeGuard<ConjurSecret>>>,
    /// For the policies' controller.
    pub policies: UnboundedReceiver<ObjectRef<DeserializeGuard<ConjurPolicy>>>,
}

impl Wakeups {
    /// Both ends.
    pub fn new() -> (Self, Woken) {
        let (connections, woken_connections) = unbounded_channel();
        let (cluster_connections, woken_cluster) = unbounded_channel();
        let (secrets, woken_secrets) = unbounded_channel();
        let (policies, woken_policies) = unbounded_channel();
        let woken = Woken {
            connections: woken_connections,
            cluster_connections: woken_cluster,
            secrets: woken_secrets,
            policies: woken_policies,
        };
        (Self { connections, cluster_connections, secrets, policies }, woken)
    }

    /// Wakes a connection. A closed channel means that the process ends.
    pub fn connection(&self, id: &ConnectionId) {
        match id.kind {
            ConnectionKind::ConjurConnection => {
                drop(self.connections.send(ObjectRef::new(&id.name).within(&id.namespace)));
            }
            ConnectionKind::ClusterConjurConnection => {
                drop(self.cluster_connections.send(ObjectRef::new(&id.name)));
            }
        }
    }

    /// Wakes a ConjurSecret.
    pub fn secret(&self, object: ObjectRef<DeserializeGuard<ConjurSecret>>) {
        drop(self.secrets.send(object));
    }

    /// Wakes many ConjurSecrets that may all be due: the first at once, the others over a few seconds, in this order.
    pub fn secrets(&self, objects: Vec<ObjectRef<DeserializeGuard<ConjurSecret>>>) {
        let count = objects.len();
        let (now, later): (Vec<_>, Vec<_>) =
            objects.into_iter().enumerate().partition(|(nth, _)| spread(*nth, count).is_zero());
        for (_, object) in now {
            self.secret(object);
        }
        if later.is_empty() {
            return;
        }
        let (wakeups, start) = (self.clone(), Instant::now());
        tokio::spawn(async move {
            for (nth, object) in later {
                tokio::time::sleep_until(start + spread(nth, count)).await;
                wakeups.secret(object);
            }
        });
    }

    /// Wakes a ConjurPolicy.
    pub fn policy(&self, object: ObjectRef<DeserializeGuard<ConjurPolicy>>) {
        drop(self.policies.send(object));
    }
}

/// What wakes the objects of a kind: its watch, which fills the store, and the wakeups that reach it.
pub fn wakes<K>(
    client: Client,
    writer: reflector::store::Writer<DeserializeGuard<K>>,
    mut woken: UnboundedReceiver<ObjectRef<DeserializeGuard<K>>>,
    ctx: Arc<Context>,
) -> BoxStream<'static, Key>
where
    K: Reconcile,
{
    // Whoever depends on an object that is gone must learn of it now, not when the object would have been due.
    let (sender, mut deleted) = unbounded_channel();
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
                        drop(sender.send(ObjectRef::from_obj(object)));
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
    let main = main.filter_map(|object| ready(object.ok().map(|object| Key::of(&object))));
    let woken = futures::stream::select(
        futures::stream::poll_fn(move |cx| woken.poll_recv(cx)),
        futures::stream::poll_fn(move |cx| deleted.poll_recv(cx)),
    );
    futures::stream::select(main, woken.map(Key::of_ref)).boxed()
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
    secrets.state().iter().for_each(|s| wakeups.secret(ObjectRef::from_obj(s.as_ref())));
    policies.state().iter().for_each(|p| wakeups.policy(ObjectRef::from_obj(p.as_ref())));
}

/// Wakes whom a Secret belongs to, by its controller reference, else by our annotation, and those that merge into it.
pub fn wake_owner(
    secret: &PartialObjectMeta<Secret>,
    wakeups: &Wakeups,
    key_writes: &KeyWrites,
    memory: &Memory,
) {
    let namespace = secret.namespace().unwrap_or_default();
    for merging in memory.merging_into(&Key::of(secret)) {
        wakeups.secret(ObjectRef::new(&merging.name).within(&namespace));
    }
    let controller = secret.owner_references().iter().find(|o| o.controller == Some(true));
    let annotated = secret.annotations().get(OWNER_ANNOTATION).and_then(|text| text.split_once('/'));
    let owner = controller.map(|c| (c.kind.as_str(), c.name.as_str())).or(annotated);
    match owner {
        Some(("ConjurSecret", name)) => wakeups.secret(ObjectRef::new(name).within(&namespace)),
        Some(("ConjurPolicy", name))
            if key_writes.shown(&Key::of(secret), secret.metadata.resource_version.as_deref()) =>
        {
            wakeups.policy(ObjectRef::new(name).within(&namespace));
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

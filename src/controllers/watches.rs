//! What wakes the controllers: watches, each failing alone, and wakeups from one controller to another.

use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, future::ready, stream::BoxStream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta, error_boundary::InvalidObject},
    runtime::{
        Predicate, PredicateConfig, WatchStreamExt, predicates,
        reflector::{self, Store},
        watcher::{self, watcher},
    },
};
use tokio::time::Instant;

use super::{secret::cache::Memory, wakeups::Wakeups};
use crate::{
    api::{ConjurPolicy, ConjurSecret, MANAGED_LABEL, OWNER_ANNOTATION},
    effect::own_writes::KeyWrites,
    limits::{LIST_PAGE, META_PAGE},
    runtime::{
        Key, Object, Reconcile, compact,
        specs::{Fits, Specs},
        wake::{self, pending},
    },
};

/// What wakes the objects of a kind: its watch, which fills the store, and the wakeups that reach it.
pub fn wakes<K>(
    client: Client,
    writer: reflector::store::Writer<DeserializeGuard<K>>,
    woken: wake::Woken,
    ctx: Arc<K::Context>,
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
fn slim_down<K: Object>(guarded: &mut DeserializeGuard<K>, specs: &Specs) {
    let object = match guarded.0.as_mut() {
        Ok(object) => object,
        Err(invalid) => return compact::invalid(invalid),
    };
    K::compact_metadata(object.meta_mut());
    object.compact();
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

/// The Secrets that the operator writes to, by their label, metadata only; whose owner is to be woken by a change.
pub fn owned_secrets(
    client: Client,
    writer: reflector::store::Writer<PartialObjectMeta<Secret>>,
) -> impl Stream<Item = Shown> + Send {
    let config = watcher::Config::default().labels(&format!("{MANAGED_LABEL}=true"));
    let mut listed = false;
    watcher(Api::<PartialObjectMeta<Secret>>::all(client), config.page_size(META_PAGE))
        .default_backoff()
        .modify(|o| compact::secret(&mut o.metadata))
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

/// Wakes whom a Secret belongs to, by its controller reference, else by the operator's annotation, and those that merge into it.
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
            tracing::warn!(kind, "a watch failed; retrying: {error}");
            None
        }
    }
}

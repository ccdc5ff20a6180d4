//! What wakes the objects of a kind: its watch, which fails alone, and wakeups by others.

mod parts;
mod unshown;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, future::ready, stream::BoxStream};
use kube::{
    Client,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        Predicate, PredicateConfig, WatchStreamExt, predicates,
        watcher::{self, Event},
    },
};
use tokio::time::Instant;

pub use self::{
    parts::{WatchOptions, watch_parts},
    unshown::Unshown,
};
use super::handle::Incoming;
use crate::{
    limits::{LIST_PAGE, RIGHTS_PATIENCE},
    metrics::Kind,
    plan::scope::WatchScope,
    runtime::{
        Key, Object, Reconcile, compact,
        specs::{Fits, Specs},
        wake::pending,
    },
};

/// What wakes the objects of a kind: its watch, which fills the store, and the wakeups that reach it.
pub fn wakes<K>(
    client: &Client,
    scope: &WatchScope,
    incoming: Incoming<K>,
    ctx: Arc<K::Context>,
) -> BoxStream<'static, (Key, Instant)>
where
    K: Reconcile,
{
    let Incoming { writer, woken, unshown } = incoming;
    // Whoever depends on an object that is gone must learn of it now, not when the object would have been due.
    let (waker, deleted) = pending();
    let (specs, first) = (ctx.specs.clone(), ctx.clone());
    let parts = parts_of::<K>(scope).into_iter();
    let parts = parts.map(|part| (part.clone(), K::watched(client.clone(), &part))).collect();
    let options = WatchOptions {
        kind: K::KIND.as_str(),
        config: watcher::Config::default().page_size(LIST_PAGE),
        unshown,
        // Without the right to see them nothing goes: all else would say that its connection is not there.
        waits_for_rights: K::KIND == Kind::Connection,
        patience: RIGHTS_PATIENCE,
    };
    let main = watch_parts(parts, writer.as_reader(), options, move |object| slim_down(object, &specs))
        .inspect_ok(move |event| K::shown(event, &first))
        .reflect(writer)
        .inspect_ok(move |event| {
            match event {
                Event::Apply(object) => ctx.statuses.shown(K::KIND, object),
                Event::Delete(object) => {
                    ctx.specs.forget(K::KIND, &Key::of(object));
                    waker.wake(Key::of(object), Instant::now());
                }
                // A list comes in no order, and may have begun before what was written since.
                Event::Init | Event::InitApply(_) | Event::InitDone => {}
            }
        })
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::annotations),
            PredicateConfig::default(),
        );
    let main = main.filter_map(|object| ready(object.ok().map(|object| (Key::of(&object), Instant::now()))));
    // Where none is watched, its stream has no end all the same: wakeups by others have none either.
    futures::stream::select(main, futures::stream::select(woken, deleted)).boxed()
}

/// The parts that a kind is watched in.
fn parts_of<K: Object>(scope: &WatchScope) -> Vec<String> {
    match (K::KIND, scope.has_cluster_connections()) {
        (Kind::ClusterConnection, true) => vec![String::new()],
        (Kind::ClusterConnection, false) => Vec::new(),
        _ => scope.parts(),
    }
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

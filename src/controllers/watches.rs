//! What wakes the objects of a kind: its watch, which fails alone, and wakeups by others.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, future::ready, stream::BoxStream};
use kube::{
    Api, Client,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        Predicate, PredicateConfig, WatchStreamExt, predicates, reflector,
        watcher::{self, watcher},
    },
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    limits::LIST_PAGE,
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
    unserved: CancellationToken,
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
            .inspect_err(move |error| {
                if is_unserved(error) {
                    unserved.cancel();
                }
            })
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

/// Whether a watch failed because there is no such kind, its CRD not being installed, or because the operator may not list it.
fn is_unserved(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => matches!(status.code, 403 | 404),
        _ => false,
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

/// Logs an error of one watch and drops it: in the controller it would hold up all the others.
pub fn isolated<T, E: std::fmt::Display>(kind: &str, result: Result<T, E>) -> Option<Result<T, E>> {
    match result {
        Ok(object) => Some(Ok(object)),
        Err(error) => {
            tracing::warn!(kind, "a watch failed; retrying: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_without_a_crd_is_not_waited_for() {
        let failed = |code: u16| {
            let status = kube::core::Status::failure("", "").with_code(code);
            watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
        };
        for (error, expected) in [
            (failed(404), true),
            (failed(403), true),
            (failed(500), false),
            (failed(429), false),
            (watcher::Error::NoResourceVersion, false),
        ] {
            assert_eq!(is_unserved(&error), expected, "{error:?}");
        }
    }
}

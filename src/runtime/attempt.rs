//! One reconcile of one object, and what is said of it.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt;
use kube::{
    Api, ResourceExt,
    core::{ApiResource, DynamicObject, error_boundary::InvalidObject},
};
use tracing::Instrument as _;

use super::{
    Key, Object, Outcome, Reconcile, ReconcileError, Shared,
    backoff::Backoffs,
    compact,
    current::say,
    failure::{self, no_room, turn_to_read},
    report::{self, Report},
};
use crate::{
    api::{
        Reason, SYNC_NOW_ANNOTATION,
        condition::{State, conditions},
    },
    conjur::{Lane, request_id},
    memory_budget,
    metrics::ReconcileOutcome,
    plan::{Class, Failure, schedule::SyncNow},
};

/// Stalled objects are looked at again after this long, for what was mended may not announce itself.
const STALLED_AGAIN: Duration = Duration::from_secs(3600);

/// One reconcile of one object: guard, deadline, report, backoff. When it is to run again, where nothing wakes it before.
pub async fn attempt<K: Reconcile>(object: &K, ctx: &K::Context, backoffs: &Backoffs) -> Option<Duration> {
    let started = Instant::now();
    let key = Key::of(object);
    let text = object.annotations().get(SYNC_NOW_ANNOTATION).map(String::as_str);
    // A deletion is an edit, too: it moves the generation.
    let look = ctx.sync_nows.look((K::KIND, &key), text, object.meta().generation, jiff::Timestamp::now());
    if let SyncNow::In(rest) = look {
        // All that is due is done by it then. What would be done now would count as an answer to it.
        return Some(rest);
    }
    let mut status = ctx.statuses.draft(object);
    // Costs nothing where no one takes traces.
    let span = tracing::info_span!(
        target: "conjur_operator::trace",
        "reconcile",
        kind = K::KIND.as_str(),
        namespace = key.namespace,
        name = key.name,
        request_id = request_id::current().map(tracing::field::display),
        outcome = tracing::field::Empty,
    );
    // Boxed: thousands may wait at once, and each holds all of its largest state as long as it is not.
    let reconcile = Box::pin(memory_budget::until_done(async {
        let whole;
        let object = match compact::shortened(object.meta()) {
            None => object,
            Some(length) => {
                let Some(found) = read_whole(object, length, ctx).await? else {
                    // What comes in its place wakes it.
                    return Ok(Outcome::NotDue(None));
                };
                whole = Box::new(found);
                &whole
            }
        };
        // What is being deleted refers to nothing any more, and has to go all the same.
        if object.meta().deletion_timestamp.is_none() {
            object.check_references()?;
        }
        object.reconcile(&mut status, ctx).await
    }))
    .instrument(span.clone());
    let work = AssertUnwindSafe(tokio::time::timeout(K::DEADLINE, reconcile)).catch_unwind();
    let result = match work.await {
        Ok(Ok(result)) => result,
        cut_off => {
            // What it was about to say may not be so.
            status = ctx.statuses.draft(object);
            let message = match cut_off {
                Ok(_) => format!("this took longer than {:?}; it is tried again", K::DEADLINE),
                // What a panic says could hold a value.
                Err(_) => "internal error: this is a bug in the operator; its log shows where".to_owned(),
            };
            Err(Failure::transient(Reason::ApiServerError, message).into())
        }
    };
    let outcome = match &result {
        Ok(_) => ReconcileOutcome::Done,
        Err(trouble) => match trouble.failure.class {
            Class::Stalled => ReconcileOutcome::Stalled,
            Class::Waiting(_) | Class::Connection => ReconcileOutcome::Waiting,
            Class::Transient => ReconcileOutcome::Transient,
        },
    };
    ctx.metrics.reconciled(K::KIND, outcome, started.elapsed());
    span.record("outcome", outcome.as_str());
    tracing::debug!(
        kind = K::KIND.as_str(),
        namespace = key.namespace,
        name = key.name,
        outcome = outcome.as_str(),
        "reconciled"
    );
    let next = Box::pin(finish(object, &key, status, result, ctx, backoffs)).await;
    ctx.statuses.settle(K::KIND, &key);
    next
}

async fn finish<K: Object>(
    object: &K,
    key: &Key,
    status: K::Status,
    result: Result<Outcome, ReconcileError>,
    ctx: &Shared,
    backoffs: &Backoffs,
) -> Option<Duration> {
    let (to_say, next) = match result {
        Ok(Outcome::NotDue(again)) => {
            return again;
        }
        Ok(Outcome::Suspended) => {
            let message = "suspended: set spec.suspend to false to continue".to_owned();
            let (state, reason) = (State::Suspended, Reason::Suspended);
            (Report { state, reason, message, lane: Lane::Foreground }, None)
        }
        Ok(Outcome::Done { again, reason, message, lane }) => {
            backoffs.forget(key);
            (Report { state: State::Done, reason, message, lane }, again)
        }
        // The next leader begins what this one does not: nothing is wrong with the object.
        Err(ReconcileError { failure, .. })
            if ctx.stop.is_cancelled() && failure.reason == Reason::OperatorBusy =>
        {
            return None;
        }
        Err(ReconcileError { failure, asked, again }) => {
            let next = match failure.class {
                Class::Stalled => Some(STALLED_AGAIN),
                Class::Waiting(again) => Some(again),
                Class::Transient => Some(backoffs.failed(key)),
                // Its recovery wakes the object; this is for the case that it does not.
                Class::Connection => Some(failure::LOOK_AGAIN),
            };
            let next = next.into_iter().chain(again).min();
            ctx.metrics.failed(K::KIND, failure.reason.as_str());
            // The report says so in a line of its own where it is news.
            say!(DEBUG, reason = failure.reason.as_str(), "it failed: {}", failure.message);
            let lane = if asked { Lane::Foreground } else { Lane::Refresh };
            let (state, reason) = (failure.class.state(asked), failure.reason);
            (Report { state, reason, message: failure.message, lane }, next)
        }
    };
    match report::report(object, status, to_say, ctx).await {
        Ok(()) => {
            backoffs.tell_anew(key);
            next
        }
        Err(error) => {
            if backoffs.tell_once(key) {
                say!(WARN, "the status can't be written, which is tried again: {error}");
            }
            Some(backoffs.failed(key))
        }
    }
}

/// An object of which the store has only the head, with its whole spec of that length; none where it is gone, or another
/// meanwhile, which the watch shows soon. What it takes counts until the work that runs now is done.
///
/// # Errors
/// There is no room for it now; the API server's.
async fn read_whole<K: Object>(object: &K, length: usize, ctx: &Shared) -> Result<Option<K>, Failure> {
    let key = Key::of(object);
    let room = ctx.specs.room(&key.namespace, length).await;
    memory_budget::keep_memory(room.ok_or_else(|| no_room("the spec"))?);
    let turn = turn_to_read(&key.namespace, "the spec").await?;
    let found: Option<K> = ctx.cluster.read(&K::api(ctx.cluster.client(), &key.namespace), &key.name).await?;
    drop(turn);
    let same = |found: &K| {
        found.meta().uid == object.meta().uid && found.meta().generation == object.meta().generation
    };
    Ok(found.filter(same).map(|mut found| {
        let mut object = object.clone();
        std::mem::swap(object.spec_mut(), found.spec_mut());
        object.compact();
        object
    }))
}

/// Tells of an object that does not decode, in its own status; the others go on.
pub async fn report_invalid<K: Object>(
    invalid: &InvalidObject,
    ctx: &Shared,
    backoffs: &Backoffs,
) -> Option<Duration> {
    let (namespace, name) = (
        invalid.metadata.namespace.clone().unwrap_or_default(),
        invalid.metadata.name.clone().unwrap_or_default(),
    );
    // What does not decode may be anything, so the error's own text, which quotes it, stays out.
    let message = "the object does not decode: a field is missing or has another form than the CRD of this version says. \
                   Apply it again with the installed CRDs";
    let is_news = backoffs.tell_once(&Key { namespace: namespace.clone(), name: name.clone() });
    if is_news {
        say!(WARN, reason = Reason::InvalidObject.as_str(), "not Ready: {message}");
    }
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
    let written = ctx.cluster.patch_status(&api, &name, &status, None, Lane::Foreground).await;
    if let Err(error) = written
        && is_news
    {
        say!(WARN, "the status can't be written: {error}");
    }
    Some(STALLED_AGAIN)
}

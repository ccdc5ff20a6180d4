//! The only writer of status, patched only where it differs, and Events for what a person would want to know.

mod events;
mod queue;
mod statuses;
mod turns;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::EventType;
use serde_json::{Map, Value, json};

use self::turns::{StateTurn, turn};
use super::{Key, Object, Shared, current::say};
use crate::{
    api::{
        ConnectionId, Reason,
        condition::{Conditioned, READY, State, conditions, find},
    },
    cluster,
    conjur::Lane,
};

pub use events::Events;
pub use statuses::Statuses;

/// What is to be said of an object after a reconcile.
#[derive(Debug)]
pub struct Report {
    /// The state that the conditions tell of.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// What happened, and what to do next.
    pub message: String,
    /// Lane of the write.
    pub lane: Lane,
}

/// Writes the draft of a status with what is to be said of the object, where that differs from what the status says.
///
/// # Errors
/// Those of the API server; that the object is gone is none.
pub async fn report<K: Object>(
    object: &K,
    mut status: K::Status,
    report: Report,
    ctx: &Shared,
) -> Result<(), cluster::Error> {
    // The draft has also those that the reconcile itself wrote, which the object does not show.
    let old = status.conditions();
    let generation = object.meta().generation;
    let new = conditions(old, report.state, report.reason, &report.message, generation, Timestamp::now());
    let news = news::<K>(find(old, READY), find(&new, READY));
    let turn = turn(old, &new, is_told_elsewhere::<K>);
    if report.state.observes_generation() {
        status.set_observed_generation(generation);
    }
    status.set_conditions(new);
    write_status(object, &status, report.lane, ctx).await?;
    if let Some(turn) = turn {
        tell(turn, object, &report);
    }
    if let Some(type_) = news {
        ctx.events.publish(object, type_, report.reason, "Reconcile", report.message);
    }
    Ok(())
}

/// What fails for all objects of a connection at once, and is told by the connection.
const OF_CONNECTION: [Reason; 6] = [
    Reason::ConnectionNotReady,
    Reason::AuthenticationFailed,
    Reason::KeyRotating,
    Reason::TlsFailed,
    Reason::ConjurUnavailable,
    Reason::RateLimited,
];

/// Whether a log line of the object is none for this reason: the connection has one, and a load that takes its time is one when it
/// is done.
fn is_told_elsewhere<K: Object>(reason: &str) -> bool {
    let is = |other: &Reason| other.as_str() == reason;
    is(&Reason::LoadInProgress) || (K::CONNECTION.is_some() && OF_CONNECTION.iter().any(is))
}

/// Logs that a state begins or ends.
fn tell<K: Object>(turn: StateTurn, object: &K, report: &Report) {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let connection = K::CONNECTION.map(|of| ConnectionId::of(of(object), namespace).to_string());
    let (reason, message) = (report.reason.as_str(), &report.message);
    match turn {
        StateTurn::FirstReady => say!(INFO, reason, connection, "Ready: {message}"),
        StateTurn::ReadyAgain => say!(INFO, reason, connection, "Ready again: {message}"),
        StateTurn::Suspended => say!(INFO, reason, connection, "{message}"),
        StateTurn::NotReady => say!(WARN, reason, connection, "not Ready: {message}"),
        StateTurn::Retries => say!(WARN, reason, connection, "still Ready, and tried again: {message}"),
    }
}

/// Whether a changed Ready condition is worth an Event, and of which type. That a connection fails or works again is
/// one on the connection, and none on the thousands of objects that wait for it.
fn news<K: Object>(old: Option<&Condition>, new: Option<&Condition>) -> Option<EventType> {
    let told = |ready: Option<&Condition>| ready.map(|c| (c.status.clone(), c.reason.clone()));
    let new = new.filter(|_| told(old) != told(new))?;
    let of_connection = |ready: &Condition| {
        K::CONNECTION.is_some() && OF_CONNECTION.iter().any(|reason| reason.as_str() == ready.reason)
    };
    if new.status == "True" {
        let was_unready = old.is_some_and(|old| old.status != "True" && !of_connection(old));
        return was_unready.then_some(EventType::Normal);
    }
    (new.reason != Reason::Suspended.as_str() && !of_connection(new)).then_some(EventType::Warning)
}

/// Writes an edit of the status before its reconcile is done, and of the draft only that: the rest is said when it is done,
/// or not at all. Where it is not written, the draft stays as it was.
///
/// # Errors
/// As [`write_status`].
pub async fn write_edit<K: Object>(
    object: &K,
    draft: &mut K::Status,
    edit: impl Fn(&mut K::Status) + Send + Sync,
    lane: Lane,
    ctx: &Shared,
) -> Result<(), cluster::Error> {
    let mut status = ctx.statuses.draft(object);
    edit(&mut status);
    write_status(object, &status, lane, ctx).await?;
    edit(draft);
    Ok(())
}

/// The same of what is announced before it is done outside of the cluster: that is not to be done for an object that is gone, nor
/// for another that took its name.
///
/// # Errors
/// Those of the API server; `NotFound` where the object is gone.
pub async fn write_announcement<K: Object>(
    object: &K,
    draft: &mut K::Status,
    edit: impl Fn(&mut K::Status) + Send + Sync,
    lane: Lane,
    ctx: &Shared,
) -> Result<(), cluster::Error> {
    let mut status = ctx.statuses.draft(object);
    edit(&mut status);
    let uid = object.meta().uid.as_deref();
    if !is_still_there(&put_status(object, &status, None, lane, ctx).await?, uid) {
        return Err(gone(object));
    }
    edit(draft);
    Ok(())
}

fn gone<K: Object>(object: &K) -> cluster::Error {
    let key = Key::of(object);
    cluster::Error::NotFound(format!("{} {}/{} is gone", K::KIND.as_str(), key.namespace, key.name))
}

/// How often a write that another came before is tried again.
const GUARDED_TRIES: usize = 5;

/// The same as [`write_edit`], for what may only follow upon the status as this process knows it: a replica that still takes itself
/// for the leader must not write over what its successor announced. Changes of the object that leave what `same` compares as it was, a
/// user's edit say, do not matter. Whether the object is still there.
///
/// # Errors
/// Those of the API server; `Conflict` where the status is another.
pub async fn write_guarded<K: Object>(
    object: &K,
    draft: &mut K::Status,
    edit: impl Fn(&mut K::Status) + Send + Sync,
    same: impl Fn(&K::Status, &K::Status) -> bool + Send + Sync,
    lane: Lane,
    ctx: &Shared,
) -> Result<bool, cluster::Error> {
    let known = ctx.statuses.draft(object);
    let mut status = known.clone();
    edit(&mut status);
    let uid = object.meta().uid.as_deref();
    let mut version = ctx.statuses.version(object);
    let mut tries = 0;
    loop {
        match put_status(object, &status, Some(&version), lane, ctx).await {
            Ok(put) if !is_still_there(&put, uid) => return Ok(false),
            Ok(_) => {
                edit(draft);
                return Ok(true);
            }
            Err(cluster::Error::Conflict(message)) => {
                let key = Key::of(object);
                let api = K::api(ctx.cluster.client(), &key.namespace);
                let Some(now) = ctx.cluster.read_object(&api, &key.name).await? else { return Ok(false) };
                if now.meta().uid.as_deref() != uid {
                    return Ok(false);
                }
                let stands = now.status().cloned().unwrap_or_default();
                if !same(&known, &stands) || tries == GUARDED_TRIES {
                    return Err(cluster::Error::Conflict(message));
                }
                tries += 1;
                version = now.meta().resource_version.clone().unwrap_or_default();
            }
            Err(error) => return Err(error),
        }
    }
}

/// The same of what is announced before it is done outside of the cluster ([`write_announcement`]).
///
/// # Errors
/// As [`write_guarded`]; `NotFound` where the object is gone.
pub async fn announce_guarded<K: Object>(
    object: &K,
    draft: &mut K::Status,
    edit: impl Fn(&mut K::Status) + Send + Sync,
    same: impl Fn(&K::Status, &K::Status) -> bool + Send + Sync,
    lane: Lane,
    ctx: &Shared,
) -> Result<(), cluster::Error> {
    let is_there = write_guarded(object, draft, edit, same, lane, ctx).await?;
    if is_there { Ok(()) } else { Err(gone(object)) }
}

/// What became of the write of a status.
#[derive(Debug)]
enum Put {
    /// It says the same already.
    Same,
    /// It was written to the object with this uid.
    Written(String),
    /// There is no such object.
    Gone,
}

/// Whether a write reached the object with this uid.
fn is_still_there(put: &Put, uid: Option<&str>) -> bool {
    match put {
        Put::Same => true,
        Put::Written(of) => Some(of.as_str()) == uid,
        Put::Gone => false,
    }
}

/// Writes a status, where it differs from the one that stands.
///
/// # Errors
/// Those of the API server; that the object is gone is none.
pub async fn write_status<K: Object>(
    object: &K,
    status: &K::Status,
    lane: Lane,
    ctx: &Shared,
) -> Result<(), cluster::Error> {
    put_status(object, status, None, lane, ctx).await.map(|_| ())
}

async fn put_status<K: Object>(
    object: &K,
    status: &K::Status,
    version: Option<&str>,
    lane: Lane,
    ctx: &Shared,
) -> Result<Put, cluster::Error> {
    let key = Key::of(object);
    let standing = ctx.statuses.newest::<K>(&key, object).unwrap_or_else(|| json!({}));
    let status = serde_json::to_value(status)
        .map_err(|e| cluster::Error::Failed(format!("cannot write the status as JSON: {e}")))?;
    let Some(patch) = merge_patch(&standing, &status) else { return Ok(Put::Same) };
    let api = K::api(ctx.cluster.client(), &key.namespace);
    // Each call has a deadline of its own; waiting for its turn behind thousands of other writes is no fault.
    match ctx.cluster.patch_status(&api, &key.name, &patch, version, lane).await {
        Ok(written) => {
            ctx.statuses.remember(object, &written, status);
            Ok(Put::Written(written.uid))
        }
        Err(cluster::Error::NotFound(_)) => Ok(Put::Gone),
        Err(error) => Err(error),
    }
}

/// What makes one JSON document of another, as a JSON merge patch (RFC 7386); none where they say the same. Null says the
/// same as nothing at all.
fn merge_patch(from: &Value, to: &Value) -> Option<Value> {
    let Value::Object(to) = to else { return (from != to).then(|| to.clone()) };
    let old = |name: &str| from.get(name).unwrap_or(&Value::Null);
    let gone = from.as_object().into_iter().flat_map(Map::keys).filter(|name| !to.contains_key(*name));
    let gone = gone.filter(|name| !old(name).is_null()).map(|name| (name.clone(), Value::Null));
    let changed = to.iter().filter_map(|(name, new)| Some((name.clone(), merge_patch(old(name), new)?)));
    let patch: Map<_, _> = gone.chain(changed).collect();
    (!patch.is_empty() || !from.is_object()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ConjurConnection, ConjurSecret};

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

    #[test]
    fn nothing_is_announced_for_an_object_that_is_gone_or_another() {
        for (put, there) in [
            (Put::Same, true),
            (Put::Written("u".into()), true),
            (Put::Written("another".into()), false),
            (Put::Gone, false),
        ] {
            assert_eq!(is_still_there(&put, Some("u")), there, "{put:?}");
        }
        assert!(!is_still_there(&Put::Written("u".into()), None));
    }

    #[test]
    fn a_patch_says_what_differs_and_what_is_gone() {
        for (from, to, patch) in [
            (json!({}), json!({}), None),
            (json!({ "a": 1 }), json!({ "a": 1 }), None),
            (json!({ "a": 1, "b": 2 }), json!({ "a": 1, "b": 3 }), Some(json!({ "b": 3 }))),
            (json!({}), json!({ "a": [] }), Some(json!({ "a": [] }))),
            (json!({ "a": 1, "b": 2 }), json!({ "b": 2 }), Some(json!({ "a": null }))),
            (json!({ "a": 1 }), json!({ "a": null }), Some(json!({ "a": null }))),
            // Null is nothing.
            (json!({ "a": null }), json!({}), None),
            (json!({}), json!({ "a": null }), None),
            (json!({ "a": null }), json!({ "a": 1 }), Some(json!({ "a": 1 }))),
            // Of objects only what differs; an array is replaced as a whole.
            (
                json!({ "a": { "b": 1, "c": 2, "d": 3 } }),
                json!({ "a": { "b": 1, "c": 4 } }),
                Some(json!({ "a": { "c": 4, "d": null } })),
            ),
            (json!({ "a": [1, { "b": 2 }] }), json!({ "a": [1] }), Some(json!({ "a": [1] }))),
            (json!({ "a": { "b": 1 } }), json!({}), Some(json!({ "a": null }))),
            (json!({ "a": { "b": 1 } }), json!({ "a": {} }), Some(json!({ "a": { "b": null } }))),
            (json!({}), json!({ "a": {} }), Some(json!({ "a": {} }))),
            // What is new is sent without what it does not say.
            (json!({}), json!({ "a": { "b": 1, "c": null } }), Some(json!({ "a": { "b": 1 } }))),
            (json!({ "a": 1 }), json!({ "a": { "b": 2 } }), Some(json!({ "a": { "b": 2 } }))),
            (json!({ "a": { "b": 2 } }), json!({ "a": 1 }), Some(json!({ "a": 1 }))),
        ] {
            assert_eq!(merge_patch(&from, &to), patch, "{from} to {to}");
        }
    }
}

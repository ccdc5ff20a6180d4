//! Whose a host is among the objects of the cluster, and what the connection lets an object do with it.
//!
//! One host, one object: the older wins. An object counts that would keep the host: one whose connection does not let it, or
//! that was refused before it ever had the host, keeps no one out.

use kube::{Resource, ResourceExt};

use super::{
    identities, is_going,
    seen::{ObservedHost, server_of},
};
use crate::{
    api::{
        ConjurHost, Reason,
        condition::{STALLED, is_true},
        host::Enrolment,
    },
    controllers::{
        Context,
        connection::access::{self, BoundConnection},
        policy,
    },
    plan::{Failure, host::document::role_parts},
    runtime::{Key, Object},
};

/// Refuses a host that the object may not keep, as everything is now.
///
/// # Errors
/// `AccessDenied`, `HostTaken`; what the connection's look-up says.
pub fn check(seen: &ObservedHost, object: &ConjurHost, ctx: &Context) -> Result<(), Failure> {
    let named = access::named(&object.spec.connection_ref, &seen.key, ctx)?;
    check_access(&named, object, &seen.key, ctx)?;
    if let Some(other) = older(seen, object, ctx) {
        let message = format!(
            "host/{} belongs to the older ConjurHost {}/{}: two objects can't keep one key. Use another spec.id, or delete one of \
             the two",
            object.spec.id, other.namespace, other.name
        );
        return Err(Failure::stalled(Reason::HostTaken, message));
    }
    let role = format!("{}:host:{}", named.facts.settings.account, object.spec.id);
    if let Some(keeper) = policy::keeper_of(&role, &seen.server, ctx) {
        let message = format!(
            "the API key of host/{} is kept by ConjurPolicy {}/{}, which made it, in its createdRoles Secret: a rotation would kill it. \
             Take the host out of that policy's document, or use another spec.id",
            object.spec.id, keeper.namespace, keeper.name
        );
        return Err(Failure::stalled(Reason::HostTaken, message));
    }
    identities::check(seen, &named, object, ctx)
}

/// Whether the rules of the connection let an object of this namespace keep the host.
///
/// # Errors
/// `AccessDenied`.
pub fn check_access(
    named: &BoundConnection,
    object: &ConjurHost,
    key: &Key,
    ctx: &Context,
) -> Result<(), Failure> {
    let id = object.spec.id.as_str();
    let mut ids = vec![(format!("host/{id}"), id)];
    if let Some(Enrolment::Factory(factory)) = object.spec.enrolment() {
        ids.push((format!("host factory {factory}"), factory));
    }
    let roles = object
        .spec
        .memberships()
        .iter()
        .filter_map(|role| role_parts(role).map(|(_, id)| (role.clone(), id)));
    ids.extend(roles);
    named.check_hosts(&ids, key, ctx)
}

/// The older object that keeps the same host.
fn older(seen: &ObservedHost, object: &ConjurHost, ctx: &Context) -> Option<Key> {
    let age = |host: &ConjurHost| {
        let created = host.meta().creation_timestamp.as_ref().map_or(i64::MAX, |at| at.0.as_second());
        (created, host.uid().unwrap_or_default())
    };
    let mine = age(object);
    let others = ctx.host_notes.asking_for(&object.spec.id).into_iter().filter(|key| *key != seen.key);
    let others = others.filter_map(|key| Some((ctx.kinds.hosts.store.get(&key.reference())?, key)));
    let mut older: Vec<_> = others
        .filter_map(|(host, key)| {
            let host = host.0.as_ref().ok()?;
            let counts = age(host) < mine && keeps_others_out(host, &key, &seen.server, ctx);
            counts.then(|| (age(host), key))
        })
        .collect();
    older.sort();
    older.into_iter().next().map(|(_, key)| key)
}

fn keeps_others_out(host: &ConjurHost, key: &Key, server: &str, ctx: &Context) -> bool {
    let Ok(named) = access::named(&host.spec.connection_ref, key, ctx) else { return false };
    if server_of(&named) != server || check_access(&named, host, key, ctx).is_err() {
        return false;
    }
    let status = host.status.as_ref();
    let has_it = status.is_some_and(|status| {
        status.applied.as_ref().is_some_and(|applied| applied.server == server)
            || status.pending.as_ref().is_some_and(|pending| pending.server == server)
    });
    // Who never had it may be someone that can't: it counts as long as nothing is in its way.
    let refused = is_true(host.conditions().1, STALLED);
    has_it || !(refused || is_going(host) || host.spec.suspend == Some(true))
}

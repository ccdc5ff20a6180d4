//! Whose a host is among the objects of the cluster, and what the connection lets an object do with it.
//!
//! One host, one object: the older wins. An object counts that would keep the host: one whose connection does not let it, or
//! that was refused before it ever had the host, keeps no one out.

use kube::{Resource, ResourceExt};

use super::{
    identities,
    object::is_going,
    seen::{ObservedHost, server_of},
};
use crate::{
    api::{
        ConjurHost, Reason,
        condition::{READY, STALLED, find, is_true},
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
        let other = as_told("ConjurHost", &other, &seen.key.namespace);
        let message = format!(
            "host/{} belongs to an older object, {other}: two objects can't keep one key. Use another spec.id, or delete one of \
             the two",
            object.spec.id
        );
        return Err(Failure::stalled(Reason::HostTaken, message));
    }
    let role = format!("{}:host:{}", named.facts.settings.account, object.spec.id);
    if let Some(keeper) = policy::keeper_of(&role, &seen.server, ctx) {
        let keeper = as_told("ConjurPolicy", &keeper, &seen.key.namespace);
        let message = format!(
            "the API key of host/{} is kept by {keeper}, which made it, in its createdRoles Secret: a rotation would kill it. \
             Take the host out of that policy's document, or use another spec.id",
            object.spec.id
        );
        return Err(Failure::stalled(Reason::HostTaken, message));
    }
    identities::check(seen, &named, object, ctx)
}

/// Another object, as an object of a namespace may be told of it: what there is in other namespaces is not told.
fn as_told(kind: &str, other: &Key, namespace: &str) -> String {
    if other.namespace == namespace {
        format!("{kind} {}/{}", other.namespace, other.name)
    } else {
        format!("a {kind} of another namespace")
    }
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
    named.check_hosts(&ids(object), key, ctx)
}

/// The same as a question about another object: no one is tried or logs in by it.
pub fn may_keep(named: &BoundConnection, object: &ConjurHost, key: &Key, ctx: &Context) -> bool {
    named.judge_hosts(&ids(object), key, ctx).is_ok()
}

/// What must lie in a granted branch, by what messages call it.
fn ids(object: &ConjurHost) -> Vec<(String, &str)> {
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
    ids
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
            let counts = age(host) < mine && keeps_others_out(host, &key, &seen.key, &seen.server, ctx);
            counts.then(|| (age(host), key))
        })
        .collect();
    older.sort();
    older.into_iter().next().map(|(_, key)| key)
}

fn keeps_others_out(host: &ConjurHost, key: &Key, asking: &Key, server: &str, ctx: &Context) -> bool {
    let Ok(named) = access::named(&host.spec.connection_ref, key, ctx) else { return false };
    if server_of(&named) != server || !named.is_let_in(ctx) || !may_keep(&named, host, key, ctx) {
        return false;
    }
    let status = host.status.as_ref();
    let says_it_has_it = status.is_some_and(|status| {
        status.applied.as_ref().is_some_and(|applied| applied.server == server)
            || status.pending.as_ref().is_some_and(|pending| pending.server == server)
    });
    let conditions = host.conditions().1;
    Rival {
        is_neighbour: key.namespace == asking.namespace,
        says_it_has_it,
        stalled: is_true(conditions, STALLED),
        reason: find(conditions, READY).map(|ready| ready.reason.as_str()),
        rests: is_going(host) || host.spec.suspend == Some(true),
    }
    .counts()
}

/// An older object for the same host of the same server, through a connection that works and lets it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
struct Rival<'a> {
    /// It lies in the namespace of the object that asks.
    is_neighbour: bool,
    /// Its status says that it has the host.
    says_it_has_it: bool,
    /// It is Stalled.
    stalled: bool,
    /// The reason of its Ready condition.
    reason: Option<&'a str>,
    /// It is suspended, or is being deleted.
    rests: bool,
}

impl Rival<'_> {
    /// In a namespace who may write a status may do the same to the other object, too: there it is believed. From another
    /// namespace it keeps no one out where something else than the host is in its way.
    fn counts(self) -> bool {
        if self.is_neighbour && self.says_it_has_it {
            return true;
        }
        let is_kept_from_it =
            self.reason.is_some_and(|reason| KEEP_FROM_IT.iter().any(|r| r.as_str() == reason));
        !self.rests && !is_kept_from_it && (self.says_it_has_it || !self.stalled)
    }
}

/// Why an object can't have its host: that it says so keeps no other object from it.
const KEEP_FROM_IT: [Reason; 15] = [
    Reason::AccessDenied,
    Reason::BranchNotFound,
    Reason::BranchTaken,
    Reason::ConnectionNotFound,
    Reason::CredentialsNotFound,
    Reason::ForeignHost,
    Reason::ForeignSecret,
    Reason::HostNotFound,
    Reason::HostTaken,
    Reason::InvalidSpec,
    Reason::NotBranchOwner,
    Reason::PolicyForbidden,
    Reason::PolicyInvalid,
    Reason::SourceNotFound,
    Reason::TemplateInvalid,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_not_have_a_host_keeps_no_other_namespace_from_it() {
        let waits = Some("HostNotFound");
        for (is_neighbour, says_it_has_it, stalled, reason, rests, expected) in [
            // It has it.
            (false, true, false, Some("Enrolled"), false, true),
            (false, true, false, Some("ConjurUnavailable"), false, true),
            (false, true, true, Some("KeyNotStored"), false, true),
            (true, true, true, Some("InvalidSpec"), true, true),
            // It is about to.
            (false, false, false, None, false, true),
            (false, false, false, Some("ConjurUnavailable"), false, true),
            // It only says so, or can't.
            (false, true, true, Some("ForeignHost"), false, false),
            (false, true, false, waits, false, false),
            (false, false, false, waits, false, false),
            (true, false, false, waits, false, false),
            (false, true, false, Some("Suspended"), true, false),
            (false, false, true, Some("KeyInvalid"), false, false),
            (false, false, false, Some("CredentialsNotFound"), false, false),
        ] {
            let rival = Rival { is_neighbour, says_it_has_it, stalled, reason, rests };
            assert_eq!(rival.counts(), expected, "{rival:?}");
        }
    }

    #[test]
    fn what_lies_in_another_namespace_is_not_named() {
        let other = Key { namespace: "n".into(), name: "web".into() };
        assert_eq!(as_told("ConjurHost", &other, "n"), "ConjurHost n/web");
        let told = as_told("ConjurHost", &other, "m");
        assert!(!told.contains("web") && !told.contains("n/"), "{told}");
    }
}

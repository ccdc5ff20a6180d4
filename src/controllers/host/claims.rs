//! Whose a host is among the objects of the cluster, and what the connection lets an object do with it.
//!
//! One host, one object: the older wins. An object counts that would keep the host: one whose connection does not let it, or
//! that was refused before it ever had the host, keeps no one out.

use kube::{Resource, ResourceExt};

use super::{identities, object::is_going, seen::ObservedHost};
use crate::{
    api::{
        ConjurHost, Reason,
        condition::{READY, STALLED, find, is_true},
        host::Enrolment,
    },
    controllers::{
        Context,
        connection::{
            access::{self, BoundConnection},
            pool::ConnectionState,
        },
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
    if named.server() != server || !may_keep(&named, host, key, ctx) {
        return false;
    }
    let status = host.status.as_ref();
    let says_it_has_it = status.is_some_and(|status| {
        status.applied.as_ref().is_some_and(|applied| applied.server == server)
            || status.pending.as_ref().is_some_and(|pending| pending.server == server)
    });
    let conditions = host.conditions().1;
    let has_its_secret = identities::has_secret(host, key, server, ctx);
    // Who has it keeps it while the connection fails that it got it through.
    let was_let_in =
        says_it_has_it && has_its_secret && !identities::identities(&named.facts, ctx).is_empty();
    if !was_let_in && !named.is_let_in(ctx) {
        return false;
    }
    Rival {
        is_neighbour: key.namespace == asking.namespace,
        says_it_has_it,
        has_its_secret,
        is_connected: matches!(named.standing, ConnectionState::Ready(_)),
        stalled: is_true(conditions, STALLED),
        reason: find(conditions, READY).map(|ready| ready.reason.as_str()),
        rests: is_going(host) || host.spec.suspend == Some(true),
    }
    .counts()
}

/// An older object for the same host of the same server, through a connection whose rules let it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
struct Rival<'a> {
    /// It lies in the namespace of the object that asks.
    is_neighbour: bool,
    /// Its status says that it has the host.
    says_it_has_it: bool,
    /// And its Secret is there.
    has_its_secret: bool,
    /// Its connection works.
    is_connected: bool,
    /// It is Stalled.
    stalled: bool,
    /// The reason of its Ready condition.
    reason: Option<&'a str>,
    /// It is suspended, or is being deleted.
    rests: bool,
}

impl Rival<'_> {
    /// Who has the host keeps it, whatever is wrong with its spec, and also suspended. In a namespace who may write a status may do
    /// the same to the other object, too: there it is believed. From another namespace a status alone counts only as long as nothing
    /// is wrong but the host's key; and who does not have the host counts only through a connection that works, while it waits for
    /// what passes by itself.
    fn counts(self) -> bool {
        if self.says_it_has_it && (self.is_neighbour || self.has_its_secret) {
            return true;
        }
        let is_one_of =
            |all: &[Reason]| self.reason.is_none_or(|reason| all.iter().any(|one| one.as_str() == reason));
        let has_it =
            self.says_it_has_it && (is_one_of(&OF_ITS_KEY) || !self.stalled && is_one_of(&OF_WHO_HAS_IT));
        let gets_it = (self.says_it_has_it || self.is_connected) && !self.stalled && is_one_of(&PASSES);
        !self.rests && (has_it || gets_it)
    }
}

/// What an object waits for that passes by itself: it is about to have its host.
const PASSES: [Reason; 6] = [
    Reason::ConjurUnavailable,
    Reason::KeyRotating,
    Reason::LoadInProgress,
    Reason::Loading,
    Reason::OperatorBusy,
    Reason::RateLimited,
];

/// What else an object says that has its host.
const OF_WHO_HAS_IT: [Reason; 4] =
    [Reason::ConnectionNotReady, Reason::Enrolled, Reason::Suspended, Reason::TooManyClients];

/// What is wrong with the key of an object that has its host.
const OF_ITS_KEY: [Reason; 2] = [Reason::KeyInvalid, Reason::KeyNotStored];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_not_have_a_host_keeps_no_other_namespace_from_it() {
        let waits = Some("HostNotFound");
        let (has, none) = ((true, true), (false, false));
        for (is_neighbour, (says_it_has_it, has_its_secret), stalled, reason, rests, expected) in [
            // It has it, whatever else is wrong, or asked of it.
            (false, has, false, Some("Enrolled"), false, true),
            (false, has, true, Some("InvalidSpec"), false, true),
            (false, has, true, Some("ForeignSecret"), false, true),
            (false, has, false, Some("Suspended"), true, true),
            (false, has, true, Some("KeyInvalid"), false, true),
            (true, (true, false), true, Some("InvalidSpec"), true, true),
            // So its status says.
            (false, (true, false), false, Some("Enrolled"), false, true),
            (false, (true, false), false, Some("ConjurUnavailable"), false, true),
            (false, (true, false), true, Some("KeyNotStored"), false, true),
            // It is about to.
            (false, none, false, None, false, true),
            (false, none, false, Some("ConjurUnavailable"), false, true),
            (false, none, false, Some("KeyRotating"), false, true),
            (true, none, false, Some("LoadInProgress"), false, true),
            // It only says so, or can't.
            (false, (true, false), true, Some("ForeignHost"), false, false),
            (false, (true, false), true, Some("TemplateNotFound"), false, false),
            (false, (true, false), false, waits, false, false),
            (false, (true, false), false, Some("Suspended"), true, false),
            (false, (false, true), false, waits, false, false),
            (false, none, false, waits, false, false),
            (true, none, false, waits, false, false),
            (false, none, true, Some("KeyInvalid"), false, false),
            (false, none, false, Some("CredentialsNotFound"), false, false),
            (false, none, false, Some("TemplateNotFound"), false, false),
            (false, none, false, Some("TargetTerminating"), false, false),
            (false, none, false, Some("ApiServerError"), false, false),
            (false, none, false, Some("VariableNotFound"), false, false),
            (false, none, false, Some("SecretTooLarge"), false, false),
        ] {
            let is_connected = true;
            let rival =
                Rival { is_neighbour, says_it_has_it, has_its_secret, is_connected, stalled, reason, rests };
            assert_eq!(rival.counts(), expected, "{rival:?}");
        }
        // Who does not have it, and can't get at it.
        for reason in [None, Some("ConnectionNotReady"), Some("Enrolled"), Some("ConjurUnavailable")] {
            let rival = Rival {
                is_neighbour: false,
                says_it_has_it: false,
                has_its_secret: false,
                is_connected: false,
                stalled: false,
                reason,
                rests: false,
            };
            assert!(!rival.counts(), "{rival:?}");
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

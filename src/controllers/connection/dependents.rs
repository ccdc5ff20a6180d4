//! Those who use a connection.

use std::collections::HashSet;

use kube::{ResourceExt, core::DeserializeGuard, runtime::reflector::Store};

use super::view::ConnectionView;
use crate::{
    api::{
        ConjurPolicy, ConjurSecret, ConnectionId, ConnectionKind, ConnectionRef,
        condition::{READY, is_true},
    },
    conjur::Client,
    controllers::Context,
    plan::connection::health::ConnectionEvent,
    runtime::{Key, compact},
};

/// Whether an object of a namespace uses a connection; where it has tenants, as that one.
fn uses(reference: &ConnectionRef, namespace: &str, id: &ConnectionId, tenant: Option<&str>) -> bool {
    let here = match id.kind {
        ConnectionKind::ConjurConnection => namespace == id.namespace,
        ConnectionKind::ClusterConjurConnection => true,
    };
    here && reference.kind.unwrap_or_default() == id.kind
        && reference.name == id.name
        && tenant.is_none_or(|tenant| tenant == namespace)
}

/// Wakes every object that uses a connection: those that wait for it go on, the others find nothing due.
pub fn wake_users(id: &ConnectionId, tenant: Option<&str>, tell: ConnectionEvent, ctx: &Context) {
    let mut secrets = Vec::new();
    for secret in ctx.secrets.state() {
        if let Ok(s) = &secret.0
            && uses(&s.spec.connection_ref, &s.namespace().unwrap_or_default(), id, tenant)
        {
            let conditions = s.status.as_ref().and_then(|status| status.conditions.as_deref());
            let ready = is_true(conditions.unwrap_or_default(), READY);
            secrets.push((ready, Key::of(s)));
        }
    }
    // Those that have nothing come first.
    secrets.sort_by_key(|(ready, _)| *ready);
    let secrets = secrets.into_iter().map(|(_, secret)| secret);
    match tell {
        ConnectionEvent::WorksAgain => ctx.wakeups.secrets(secrets.collect()),
        ConnectionEvent::Works | ConnectionEvent::Fails => secrets.for_each(|key| ctx.wakeups.secret(key)),
    }
    let policies: &Store<DeserializeGuard<ConjurPolicy>> = &ctx.policies;
    let policies = policies.state();
    let policies = policies.iter().filter_map(|policy| policy.0.as_ref().ok());
    let theirs =
        policies.filter(|p| uses(&p.spec.connection_ref, &p.namespace().unwrap_or_default(), id, tenant));
    ctx.wakeups.policies(theirs.map(Key::of).collect());
}

/// Whether an object names one of these variables, or its status says that it misses one, as what it found.
fn waits_for(object: &ConjurSecret, ids: &HashSet<&str>) -> bool {
    if compact::shortened(&object.metadata).is_some() {
        // What it names is not known here.
        return object.status.iter().any(|status| status.missing.is_some());
    }
    let extracts = object.spec.sources().iter().filter_map(|source| source.extract.as_ref());
    let mut named =
        object.spec.entries().iter().map(|e| &e.variable).chain(extracts.map(|extract| &extract.variable));
    let missing = object.status.iter().flat_map(|status| status.missing.iter().flatten());
    named.any(|id| ids.contains(id.as_str()))
        || missing.map(|m| &m.variable).any(|id| ids.contains(id.as_str()))
}

/// Wakes the objects that name a variable which was missing or forbidden and can be read now.
pub fn listen_for_found(client: &Client, facts: &ConnectionView, ctx: &Context) {
    let mut found = client.bad_ids_found();
    let (secrets, wakeups, memory) = (ctx.secrets.clone(), ctx.wakeups.clone(), ctx.memory.clone());
    let (id, tenant) = (facts.id.clone(), facts.tenant.clone());
    // Ends when the client does: the channel is its own.
    tokio::spawn(async move {
        while let Some(ids) = found.next().await {
            let ids: HashSet<_> = ids.iter().map(|w| w.id.as_str()).collect();
            let named = |s: &ConjurSecret| waits_for(s, &ids);
            let state = secrets.state();
            let all = state.iter().filter_map(|secret| secret.0.as_ref().ok());
            let waits = |s: &&ConjurSecret| {
                let namespace = s.namespace().unwrap_or_default();
                uses(&s.spec.connection_ref, &namespace, &id, tenant.as_deref()) && named(s)
            };
            let those: Vec<Key> = all.filter(waits).map(Key::of).collect();
            // Where it was optional, the object is Ready, and would wait for its next slot.
            for key in &those {
                memory.reopen_slot(key);
            }
            wakeups.secrets(those);
        }
    });
}

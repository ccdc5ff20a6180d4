//! Variables that were missing or forbidden and can be read now.

use std::collections::HashSet;

use kube::ResourceExt;

use crate::{
    api::ConjurSecret,
    conjur::Client,
    controllers::{Context, connection::users::Users},
    runtime::{Key, compact},
};

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

/// From now on wakes those of the users that name a variable which the client has found.
pub fn listen(client: &Client, users: &Users, ctx: &Context) {
    let mut found = client.bad_ids_found();
    let (kinds, memory, users) = (ctx.kinds.clone(), ctx.memory.clone(), users.clone());
    // Ends when the client does: the channel is its own.
    tokio::spawn(async move {
        while let Some(ids) = found.next().await {
            let ids: HashSet<_> = ids.iter().map(|w| w.id.as_str()).collect();
            let state = kinds.secrets.store.state();
            let all = state.iter().filter_map(|secret| secret.0.as_ref().ok());
            let waits = |s: &&ConjurSecret| {
                let namespace = s.namespace().unwrap_or_default();
                users.include(&s.spec.connection_ref, &namespace) && waits_for(s, &ids)
            };
            let those: Vec<Key> = all.filter(waits).map(Key::of).collect();
            // Where it was optional, the object is Ready, and would wait for its next slot.
            for key in &those {
                memory.reopen_slot(key);
            }
            kinds.secrets.wake_spread(those);
        }
    });
}

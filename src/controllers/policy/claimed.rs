//! What is noted of who has which branch.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::{Resource, core::DeserializeGuard, runtime::watcher::Event};

use super::places::{Names, Places, Server, of_event};
use crate::{
    api::{ConjurPolicy, ConnectionId, ConnectionKind, Reason},
    controllers::connection::view::ConnectionView,
    plan::policy::branch_claims::Claim,
    runtime::Key,
};

/// The claims as they were when each object was last looked at, and where to look for others.
#[derive(Default)]
pub struct Claims {
    noted: Mutex<HashMap<Key, Noted>>,
    places: Mutex<Places>,
}

/// What was last found out of an object.
#[derive(Clone, Default)]
pub struct Noted {
    /// What it claims.
    pub claim: Option<Claim>,
    /// Why it was not done.
    pub refused: Option<Reason>,
}

impl Claims {
    /// Looks at what was noted, or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut HashMap<Key, Noted>) -> T) -> T {
        change(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same for where to look for others.
    pub fn places<T>(&self, change: impl FnOnce(&mut Places) -> T) -> T {
        change(&mut self.places.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of what policies name.
    pub fn policies_show(&self, event: &Event<DeserializeGuard<ConjurPolicy>>) {
        let event = of_event(event, |guard| {
            let key = Key::of(guard);
            let names = guard.0.as_ref().ok().map(|policy| Names {
                connection: ConnectionId::of(&policy.spec.connection_ref, &key.namespace),
                branch: policy.spec.branch.clone(),
            });
            (key, names)
        });
        self.places(|places| places.policies_show(event));
    }

    /// Takes note of where connections lead.
    pub fn connections_show<K>(&self, kind: ConnectionKind, event: &Event<DeserializeGuard<K>>)
    where
        K: Resource<DynamicType = ()>,
        for<'k> ConnectionView: From<&'k K>,
    {
        let event = of_event(event, |guard| {
            let Key { namespace, name } = Key::of(guard);
            let facts = guard.0.as_ref().ok().map(ConnectionView::from);
            let server =
                facts.map(|facts| Server { url: facts.settings.url, account: facts.settings.account });
            (ConnectionId { kind, namespace, name }, server)
        });
        self.places(|places| places.connections_show(kind, event));
    }
}

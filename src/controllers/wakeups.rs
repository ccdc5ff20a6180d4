//! Wakeups from one controller to another.

use tokio::time::Instant;

use crate::{
    api::{ConnectionId, ConnectionKind},
    plan::{schedule::spread, secret::Owner},
    runtime::{
        Key,
        wake::{self, Waker, pending},
    },
};

/// Wakes objects of other controllers.
#[derive(Clone)]
pub struct Wakeups {
    connections: Waker,
    cluster_connections: Waker,
    secrets: Waker,
    policies: Waker,
}

/// Where the wakeups arrive.
pub struct Woken {
    /// For the connections' controller.
    pub connections: wake::Woken,
    /// For the cluster connections' controller.
    pub cluster_connections: wake::Woken,
    /// For the secrets' controller.
    pub secrets: wake::Woken,
    /// For the policies' controller.
    pub policies: wake::Woken,
}

impl Wakeups {
    /// Both ends.
    pub fn new() -> (Self, Woken) {
        let (connections, woken_connections) = pending();
        let (cluster_connections, woken_cluster) = pending();
        let (secrets, woken_secrets) = pending();
        let (policies, woken_policies) = pending();
        let woken = Woken {
            connections: woken_connections,
            cluster_connections: woken_cluster,
            secrets: woken_secrets,
            policies: woken_policies,
        };
        (Self { connections, cluster_connections, secrets, policies }, woken)
    }

    /// Wakes a connection.
    pub fn connection(&self, id: &ConnectionId) {
        let waker = match id.kind {
            ConnectionKind::ConjurConnection => &self.connections,
            ConnectionKind::ClusterConjurConnection => &self.cluster_connections,
        };
        waker.wake(Key { namespace: id.namespace.clone(), name: id.name.clone() }, Instant::now());
    }

    /// Wakes a ConjurSecret.
    pub fn secret(&self, object: Key) {
        self.secrets.wake(object, Instant::now());
    }

    /// Wakes many ConjurSecrets that may all be due: the first at once, the others over a few seconds, in this order.
    pub fn secrets(&self, objects: Vec<Key>) {
        spread_out(&self.secrets, objects);
    }

    /// Wakes a ConjurPolicy.
    pub fn policy(&self, object: Key) {
        self.policies.wake(object, Instant::now());
    }

    /// Wakes the object that something was written for.
    pub fn owner(&self, owner: &Owner) {
        let key = Key { namespace: owner.namespace.clone(), name: owner.name.clone() };
        match owner.kind.as_ref() {
            "ConjurSecret" => self.secret(key),
            "ConjurPolicy" => self.policy(key),
            kind => tracing::debug!(kind, "no object of this kind is woken"),
        }
    }

    /// Wakes many ConjurPolicies that may all be due, as [`Self::secrets`] does.
    pub fn policies(&self, objects: Vec<Key>) {
        spread_out(&self.policies, objects);
    }
}

fn spread_out(waker: &Waker, objects: Vec<Key>) {
    let (count, now) = (objects.len(), Instant::now());
    waker.wake_all(objects.into_iter().enumerate().map(|(nth, key)| (key, now + spread(nth, count))));
}

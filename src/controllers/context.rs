//! What the reconcilers of all kinds share.

use std::{ops::Deref, sync::Arc};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::reflector::Store,
};

use super::{
    connection::{Audiences, pool::Clients},
    dependencies::Dependencies,
    policy::Notes,
    secret::cache::Memory,
    wakeups::Wakeups,
};
use crate::{
    api::{ClusterConjurConnection, ConjurConnection, ConjurPolicy, ConjurSecret},
    conjur::reach::Reach,
    effect::{branch_locks::Branches, own_writes::KeyWrites},
    heavy::Heavy,
    plan::secret::FingerprintKey,
    runtime::Shared,
};

/// What all reconcilers share.
pub struct Context {
    /// What the runtime works with.
    pub shared: Shared,
    /// The clients of Conjur, one per connection.
    pub clients: Clients,
    /// The connections there are.
    pub connections: Store<DeserializeGuard<ConjurConnection>>,
    /// The ClusterConjurConnections there are.
    pub cluster_connections: Store<DeserializeGuard<ClusterConjurConnection>>,
    /// Metadata of the namespaces, for the labels that access rules select by.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Whom tokens of ServiceAccounts may be for.
    pub audiences: Audiences,
    /// Where the connections of namespaces may lead.
    pub reach: Arc<Reach>,
    /// The ConjurSecrets there are.
    pub secrets: Store<DeserializeGuard<ConjurSecret>>,
    /// The ConjurPolicies there are.
    pub policies: Store<DeserializeGuard<ConjurPolicy>>,
    /// Metadata of the Secrets that the operator writes to.
    pub owned: Store<PartialObjectMeta<Secret>>,
    /// Wakes objects of other controllers.
    pub wakeups: Wakeups,
    /// Watches of what connections refer to.
    pub inputs: Arc<Dependencies>,
    /// What is remembered of the Secrets that were written.
    pub memory: Arc<Memory>,
    /// Makes fingerprints of Secrets.
    pub fingerprints: FingerprintKey,
    /// One load at a time per branch.
    pub branches: Branches,
    /// What is remembered of the policies.
    pub policy_notes: Notes,
    /// The operator's own writes of Secrets that keep keys.
    pub key_writes: Arc<KeyWrites>,
    /// Does what is heavy.
    pub heavy: Heavy,
    /// Whether workloads are restarted for objects that ask for it.
    pub rollout_restart: bool,
}

impl Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

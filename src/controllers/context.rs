//! What the reconcilers of all kinds share.

use std::{ops::Deref, sync::Arc};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{core::PartialObjectMeta, runtime::reflector::Store};
use tokio::sync::OnceCell;

use super::{
    connection::{Audiences, pool::Clients},
    dependencies::Dependencies,
    host::HostNotes,
    kinds::Kinds,
    policy::Notes,
    push::PushNotes,
    secret::cache::Memory,
};
use crate::{
    conjur::reach::Reach,
    effect::{
        branch_locks::Branches, in_flight::InFlight, own_writes::KeyWrites, variables::queue::VariableLoads,
    },
    heavy::Heavy,
    plan::{scope::WatchScope, secret::FingerprintKey},
    runtime::Shared,
};

/// What all reconcilers share.
pub struct Context {
    /// What the runtime works with.
    pub shared: Shared,
    /// The objects there are of each kind, and what wakes them.
    pub kinds: Arc<Kinds>,
    /// The clients of Conjur, one per connection.
    pub clients: Clients,
    /// Which namespaces are watched.
    pub scope: WatchScope,
    /// What tells this cluster from others, once it was read.
    pub cluster_uid: OnceCell<String>,
    /// Metadata of the namespaces, for the labels that access rules select by.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Whom tokens of ServiceAccounts may be for.
    pub audiences: Audiences,
    /// Where the connections of namespaces may lead.
    pub reach: Arc<Reach>,
    /// Metadata of the Secrets that the operator writes to.
    pub owned: Store<PartialObjectMeta<Secret>>,
    /// Watches of what connections refer to.
    pub inputs: Arc<Dependencies>,
    /// What is remembered of the Secrets that were written.
    pub memory: Arc<Memory>,
    /// Makes fingerprints of Secrets.
    pub fingerprints: FingerprintKey,
    /// What was begun in Conjur.
    pub in_flight: InFlight,
    /// One load at a time per branch.
    pub branches: Branches,
    /// What is remembered of the policies.
    pub policy_notes: Notes,
    /// What is remembered of the pushes.
    pub push_notes: PushNotes,
    /// Variables that are to be made and changed, by branch.
    pub variable_loads: VariableLoads,
    /// What is remembered of the hosts.
    pub host_notes: HostNotes,
    /// The operator's own writes of Secrets that keep keys.
    pub key_writes: KeyWrites,
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

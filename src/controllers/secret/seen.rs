//! What a reconcile of a ConjurSecret goes by.

use super::cache::Remembered;
use crate::controllers::{connection::access::BoundConnection, dependencies::Dependency};
use crate::{
    plan::{
        Failure,
        schedule::{Slots, TargetSeen},
        secret::{Desired, Owner},
    },
    runtime::Key,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{core::PartialObjectMeta, runtime::reflector::ObjectRef};

/// What was observed of one object, from the stores: no IO.
pub struct ObservedSecret {
    pub key: Key,
    pub owner: Owner,
    pub named: Result<BoundConnection, Failure>,
    /// What its templates lie in.
    pub sources: Vec<Dependency>,
    /// None where it is refreshed only on a change.
    pub slots: Option<Slots>,
    pub remembered: Remembered,
    pub target: TargetSeen,
    pub desired: Desired,
    /// The Secret is there, and is left alone.
    pub made_once: bool,
    /// Only restarts of workloads are left to do.
    pub only_rollout: bool,
}

impl ObservedSecret {
    /// The target in the store.
    pub fn secret_ref(&self) -> ObjectRef<PartialObjectMeta<Secret>> {
        ObjectRef::new(&self.desired.name).within(&self.key.namespace)
    }
}

//! What is told of an object by its manifest alone.

use kube::{Resource, ResourceExt};

use crate::{
    api::{ConjurPush, PUSH_FINALIZER},
    controllers::dependencies::Dependent,
    metrics::Kind,
    runtime::Key,
};

/// Whether the object is being deleted and waits for the operator.
pub fn is_due(object: &ConjurPush) -> bool {
    object.meta().deletion_timestamp.is_some() && object.finalizers().iter().any(|f| f == PUSH_FINALIZER)
}

/// Whether an object is being deleted and removes nothing from Conjur, or not any more.
pub fn has_given_up(object: &ConjurPush) -> bool {
    object.meta().deletion_timestamp.is_some() && !is_due(object)
}

/// The object, as one whom changes wake.
pub fn user(key: &Key) -> Dependent {
    Dependent::Object(Kind::Push, key.clone())
}

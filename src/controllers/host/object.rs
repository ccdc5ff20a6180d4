//! What is told of an object by its manifest alone.

use kube::{Resource, ResourceExt};

use crate::api::ConjurHost;

/// Whether an object is being deleted.
pub fn is_going(object: &ConjurHost) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The name of the Secret that a spec asks for.
pub fn target_name(object: &ConjurHost) -> String {
    object.spec.target().name.unwrap_or_else(|| object.name_any())
}

//! From errors of Conjur and of the API server to what is to happen then. No wildcard arm: a new error must be
//! thought about here.

use std::time::Duration;

use crate::{
    api::Reason,
    cluster,
    conjur::{self, share},
    plan::{Class, Failure},
};

pub use crate::plan::LOOK_AGAIN;

/// What found no room in memory is looked at again after this.
const ROOM_AGAIN: Duration = Duration::from_secs(10);

impl From<cluster::Error> for Failure {
    fn from(error: cluster::Error) -> Self {
        let message = error.to_string();
        match error {
            cluster::Error::Invalid(_) => Failure::stalled(Reason::InvalidSpec, message),
            cluster::Error::FieldConflict { .. } => Failure::stalled(Reason::FieldConflict, message),
            // Somebody was in between, a right is missing, or the API server has a fault: it may pass.
            cluster::Error::NotFound(_)
            | cluster::Error::AlreadyExists(_)
            | cluster::Error::Conflict(_)
            | cluster::Error::Forbidden(_)
            | cluster::Error::Failed(_) => Failure::transient(Reason::ApiServerError, message),
        }
    }
}

/// Takes room for a text of an object that was read from the cluster, until its reconcile ends.
///
/// # Errors
/// There is none now: other objects have long texts, too.
pub fn take_room(namespace: &str, what: &str, length: usize) -> Result<(), Failure> {
    if share::hold(namespace, length) {
        return Ok(());
    }
    let message = format!(
        "{what} are long, and those of other objects take all the memory that there is for them; it is tried again in \
         {} s",
        ROOM_AGAIN.as_secs()
    );
    Err(Failure::waiting(Reason::ApiServerError, ROOM_AGAIN, message))
}

impl From<conjur::Error> for Failure {
    fn from(error: conjur::Error) -> Self {
        let message = error.to_string();
        let (class, reason) = match error {
            conjur::Error::HostDenied { .. } => (Class::Connection, Reason::HostDenied),
            conjur::Error::Unauthenticated { .. } => (Class::Connection, Reason::AuthenticationFailed),
            conjur::Error::RateLimited { .. } => (Class::Connection, Reason::RateLimited),
            conjur::Error::Unavailable { .. } => (Class::Connection, Reason::ConjurUnavailable),
            conjur::Error::Tls { .. } => (Class::Connection, Reason::TlsFailed),
            conjur::Error::Forbidden { .. } => (Class::Waiting(LOOK_AGAIN), Reason::VariableForbidden),
            conjur::Error::NotFound { .. } => (Class::Waiting(LOOK_AGAIN), Reason::VariableNotFound),
            conjur::Error::Conflict { retry_after, .. } => {
                (Class::Waiting(retry_after.unwrap_or(Duration::from_secs(5))), Reason::LoadInProgress)
            }
            conjur::Error::Config { .. } | conjur::Error::Invalid { .. } => {
                (Class::Stalled, Reason::InvalidSpec)
            }
            conjur::Error::TooLarge { .. } => (Class::Stalled, Reason::SecretTooLarge),
            conjur::Error::Unexpected { .. } => (Class::Transient, Reason::ConjurUnavailable),
        };
        Failure { class, reason, message }
    }
}

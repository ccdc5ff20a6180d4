//! From errors of Conjur and of the API server to what is to happen then. A new error must be thought about here: the
//! client's list may grow, and `tests/it/shape.rs` sees that it is named.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::{
    api::Reason,
    budget::Taken,
    cluster, conjur, memory_budget,
    plan::{Class, Failure},
};

pub use crate::plan::LOOK_AGAIN;

/// What found no room in memory is looked at again after this.
pub const ROOM_AGAIN: Duration = Duration::from_secs(10);

impl From<cluster::Error> for Failure {
    fn from(error: cluster::Error) -> Self {
        let message = error.to_string();
        match error {
            cluster::Error::Invalid(_) => Failure::stalled(Reason::InvalidSpec, message),
            cluster::Error::FieldConflict { .. } => Failure::stalled(Reason::FieldConflict, message),
            // Someone was in between, a right is missing, or the API server has a fault: it may pass.
            cluster::Error::NotFound(_)
            | cluster::Error::AlreadyExists(_)
            | cluster::Error::Conflict(_)
            | cluster::Error::Forbidden(_)
            | cluster::Error::Failed(_) => Failure::transient(Reason::ApiServerError, message),
        }
    }
}

/// Reads texts of an object from the cluster, which count against the budget until its reconcile ends. `read` gives their
/// length, too. Where there is no room for them they are let go of, and read again when there is.
///
/// # Errors
/// Those of `read`; there is no room for long: other objects have long texts, too.
pub async fn read_in_room<'a, T>(
    namespace: &str,
    what: &str,
    read: impl Fn() -> BoxFuture<'a, Result<(T, usize), Failure>>,
) -> Result<T, Failure> {
    let (texts, length) = read().await?;
    if memory_budget::room_now(namespace, length).is_some_and(|room| room.hold(length)) {
        return Ok(texts);
    }
    drop(texts);
    let room = memory_budget::room(namespace, length).await.ok_or_else(|| no_room(what))?;
    let (texts, length) = read().await?;
    if room.hold(length) { Ok(texts) } else { Err(no_room(what)) }
}

/// The turn of a namespace to read a long text, until it is dropped.
///
/// # Errors
/// It did not come for long.
pub(crate) async fn turn_to_read(namespace: &str, what: &str) -> Result<Taken, Failure> {
    memory_budget::reader(namespace).await.ok_or_else(|| no_room(what))
}

/// What there is to say where something long of an object can't be in memory now.
pub fn no_room(what: &str) -> Failure {
    let message = format!(
        "{what} is long, and others take all the memory that there is for long ones; this is tried again in {} s",
        ROOM_AGAIN.as_secs()
    );
    Failure::waiting(Reason::OperatorBusy, ROOM_AGAIN, message)
}

impl From<conjur::Error> for Failure {
    fn from(error: conjur::Error) -> Self {
        let message = error.to_string();
        let (class, reason) = match error {
            conjur::Error::HostDenied { .. } => (Class::Connection, Reason::HostDenied),
            conjur::Error::Unauthenticated { .. } => (Class::Connection, Reason::AuthenticationFailed),
            conjur::Error::RateLimited { .. } => (Class::Connection, Reason::RateLimited),
            conjur::Error::Unavailable { .. } => (Class::Connection, Reason::ConjurUnavailable),
            conjur::Error::NoRoom { .. } => (Class::Waiting(ROOM_AGAIN), Reason::OperatorBusy),
            conjur::Error::Tls { .. } => (Class::Connection, Reason::TlsFailed),
            conjur::Error::Forbidden { .. } => (Class::Waiting(LOOK_AGAIN), Reason::VariableForbidden),
            conjur::Error::NotFound { .. } => (Class::Waiting(LOOK_AGAIN), Reason::VariableNotFound),
            conjur::Error::Conflict { retry_after, .. } => {
                (Class::Waiting(retry_after.unwrap_or(Duration::from_secs(5))), Reason::LoadInProgress)
            }
            conjur::Error::Config { .. } | conjur::Error::Invalid { .. } => {
                (Class::Stalled, Reason::InvalidSpec)
            }
            conjur::Error::Unsupported { .. } | conjur::Error::ContractVersion { .. } => {
                (Class::Stalled, Reason::Unsupported)
            }
            conjur::Error::TooLarge { .. } => (Class::Stalled, Reason::SecretTooLarge),
            conjur::Error::NoRoute { .. } | conjur::Error::Unexpected { .. } | _ => {
                (Class::Transient, Reason::ConjurUnavailable)
            }
        };
        Failure { class, reason, message }
    }
}

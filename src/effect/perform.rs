//! The calls that change something in Conjur and tell something once. Nothing else makes them.
//!
//! Three callers need no announcement: keys that a person permits to rotate (who lost the answer rotates again), `!delete`
//! statements of a removal, and statements about variables (sent again, they change nothing).

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    api::Reason,
    conjur::{CreatedHost, Error, HostFactoryToken, LoadError, LoadMode, Loaded, PolicyBranch, RoleId},
    controllers::{Context, connection::pool::ReadyConnection},
    metrics::{ChangeOutcome, KeyChange},
    plan::Failure,
    runtime::current::say,
    sensitive::Sensitive,
};

/// Loads a document into a branch.
///
/// # Errors
/// Conjur's: that it refused the document, or that no one knows what became of it.
pub async fn load(
    through: &ReadyConnection,
    branch: &PolicyBranch,
    mode: LoadMode,
    document: &[u8],
    ctx: &Context,
) -> Result<Loaded, LoadError> {
    let loaded = through.client.load_policy(branch, mode, document).await;
    ctx.metrics.loaded(match &loaded {
        Ok(_) => ChangeOutcome::Done,
        Err(LoadError::Refused(_)) => ChangeOutcome::Refused,
        Err(LoadError::Unknown(_)) => ChangeOutcome::Unknown,
    });
    if let Ok(Loaded { version, created_roles, .. }) = &loaded {
        let (connection, roles) = (&through.connection, created_roles.len());
        say!(INFO, %connection, %branch, mode = ?mode, version, roles, "loaded policy");
    }
    loaded
}

/// What came of a call that changes one thing.
fn outcome<T>(result: &Result<T, Error>) -> ChangeOutcome {
    match result {
        Ok(_) => ChangeOutcome::Done,
        Err(error) if error.is_connection() => ChangeOutcome::Unknown,
        Err(_) => ChangeOutcome::Refused,
    }
}

/// Rotates the key of a role, and gives the new one. The old one dies with the rotation, so only for roles whose
/// key no one has.
///
/// # Errors
/// `KeyNotStored` where Conjur refuses; that the connection fails. Both leave the role owed.
pub async fn rotate(
    role: &RoleId,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<Sensitive<String>, Failure> {
    rotate_host(role, through, ctx).await.map_err(|error| match error {
        Error::NotFound { .. } | Error::Forbidden { .. } | Error::Invalid { .. } => {
            let message =
                format!("no API key is stored for {}, and it can't be rotated: {error}", role.login());
            Failure::stalled(Reason::KeyNotStored, message)
        }
        error => ctx.clients.failure(through, error),
    })
}

/// Gives a variable a value. The same one again makes no new version (recording 740).
///
/// # Errors
/// Conjur's.
pub async fn fill(through: &ReadyConnection, id: &str, value: &[u8], ctx: &Context) -> Result<(), Error> {
    let filled = through.client.set_secret("variable", id, value).await;
    ctx.metrics.pushed(outcome(&filled));
    filled
}

/// Rotates the key of a host, and gives the new one. The old one dies with the rotation.
///
/// # Errors
/// Conjur's: that it refused, or that no one knows whether it was done.
pub async fn rotate_host(
    role: &RoleId,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<Sensitive<String>, Error> {
    let rotated = through.client.rotate_api_key(role).await;
    ctx.metrics.key_changed(KeyChange::Rotate, outcome(&rotated));
    if rotated.is_ok() {
        say!(INFO, connection = %through.connection, role = %role, "rotated an API key");
    }
    rotated
}

/// Makes one token of a host factory that ends then.
///
/// # Errors
/// Conjur's. `NotFound` also where it made none.
pub async fn make_factory_token(
    factory: &str,
    expires: Timestamp,
    through: &ReadyConnection,
) -> Result<HostFactoryToken, Error> {
    let made = through.client.create_host_factory_tokens(factory, expires, &[], 1).await?;
    made.into_iter().next().ok_or_else(|| Error::NotFound {
        target: format!("host_factory {factory}"),
        message: format!("host factory {factory} made no token"),
    })
}

/// Enrols a host with a host factory's token, and gives its key. One that the factory made before gets a new key.
///
/// # Errors
/// Conjur's: that it refused the token or the host, or that no one knows whether it was done.
pub async fn enrol(
    token: &Sensitive<String>,
    id: &str,
    annotations: &BTreeMap<String, String>,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<CreatedHost, Error> {
    let enrolled = through.client.create_host(token, id, annotations).await;
    ctx.metrics.key_changed(KeyChange::Enrol, outcome(&enrolled));
    if enrolled.is_ok() {
        // As it was asked for: what the server says of it could be anything.
        say!(INFO, connection = %through.connection, role = %format_args!("host/{id}"), "enrolled a host");
    }
    enrolled
}

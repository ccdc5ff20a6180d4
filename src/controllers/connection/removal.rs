//! The way to Conjur for what is to be removed there with an object that is being deleted.

use kube::runtime::reflector::ObjectRef;

use super::{
    access::{self, BoundConnection},
    pool::{ConnectionState, ReadyConnection},
};
use crate::{
    api::{ConnectionRef, Reason},
    controllers::Context,
    plan::{Failure, connection::access::Verb},
    runtime::Key,
};

/// Why there is no way.
pub enum NoWay {
    /// There is none any more, nor will there be.
    Ever(String),
    /// It fails now.
    Now(Failure),
}

/// The connection of an object that is being deleted; none where it was not tried yet, whose first try wakes the object. Where
/// the namespace goes, too, a connection that fails is one that is gone.
///
/// # Errors
/// There is no way to Conjur, or not to these branches.
pub fn connect(
    reference: &ConnectionRef,
    branches: &[&str],
    key: &Key,
    ctx: &Context,
) -> Result<Option<(BoundConnection, ReadyConnection)>, NoWay> {
    let named = access::named(reference, key, ctx).map_err(|failure| {
        if failure.reason == Reason::ConnectionNotFound {
            NoWay::Ever(failure.message)
        } else {
            NoWay::Now(failure)
        }
    })?;
    named.check_access(Verb::Load, branches, key, ctx).map_err(NoWay::Now)?;
    match &named.standing {
        ConnectionState::Ready(connected) => {
            let connected = connected.clone();
            Ok(Some((named, connected)))
        }
        ConnectionState::Failing(why) => {
            let namespace = ctx.namespaces.get(&ObjectRef::new(&key.namespace));
            let going = namespace.is_some_and(|n| n.metadata.deletion_timestamp.is_some());
            let failure = access::not_ready(&named.facts, why);
            Err(if going {
                NoWay::Ever(format!("namespace {} is going, and {}", key.namespace, failure.message))
            } else {
                NoWay::Now(failure)
            })
        }
        ConnectionState::Untried => Ok(None),
    }
}

//! Who uses a connection.

use super::view::ConnectionView;
use crate::api::{ConnectionId, ConnectionKind, ConnectionRef};

/// The objects that use a connection; where it has tenants, as one of them.
#[derive(Clone, Debug)]
pub struct Users {
    /// The connection.
    pub connection: ConnectionId,
    /// The namespace whose objects they are; none where all of them are meant.
    pub tenant: Option<String>,
}

impl Users {
    /// Of a connection, as it is looked at.
    pub fn of(facts: &ConnectionView) -> Self {
        Self { connection: facts.id.clone(), tenant: facts.tenant.clone() }
    }

    /// Whether an object of a namespace that refers to this is one of them.
    pub fn include(&self, reference: &ConnectionRef, namespace: &str) -> bool {
        let id = &self.connection;
        let here = match id.kind {
            ConnectionKind::ConjurConnection => namespace == id.namespace,
            ConnectionKind::ClusterConjurConnection => true,
        };
        here && reference.kind.unwrap_or_default() == id.kind
            && reference.name == id.name
            && self.tenant.as_deref().is_none_or(|tenant| tenant == namespace)
    }
}

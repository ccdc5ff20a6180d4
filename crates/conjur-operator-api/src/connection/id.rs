//! Names a connection.

use std::fmt;

use crate::{ConnectionKind, ConnectionRef};

/// A connection, by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Its kind.
    pub kind: ConnectionKind,
    /// Its namespace; empty for a ClusterConjurConnection.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ConnectionId {
    /// The one that an object of a namespace refers to.
    pub fn of(reference: &ConnectionRef, namespace: &str) -> Self {
        let kind = reference.kind.unwrap_or_default();
        let namespace = match kind {
            ConnectionKind::ConjurConnection => namespace.to_owned(),
            ConnectionKind::ClusterConjurConnection => String::new(),
        };
        Self { kind, namespace, name: reference.name.clone() }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ConnectionKind::ConjurConnection => {
                write!(f, "ConjurConnection {}/{}", self.namespace, self.name)
            }
            ConnectionKind::ClusterConjurConnection => write!(f, "ClusterConjurConnection {}", self.name),
        }
    }
}

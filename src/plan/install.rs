//! What the chart's hooks decide: which connections are applied and taken away, and what an uninstall would leave.

pub mod connections;
pub mod uninstall;

use crate::api::GROUP;

/// An object as a hook names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Like `ConjurPolicy`.
    pub kind: String,
    /// Empty for what is in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, namespace, name) = (&self.kind, &self.namespace, &self.name);
        if namespace.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {namespace}/{name}") }
    }
}

/// Where a hook looks, as the operator does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookScope {
    /// Empty: all.
    pub namespaces: Vec<String>,
    /// Whether ClusterConjurConnections are looked at.
    pub cluster_connections: bool,
}

/// What people write to name a kind on a command line.
fn resource(kind: &str) -> String {
    format!("{}.{GROUP}", kind.to_lowercase())
}

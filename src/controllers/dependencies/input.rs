//! What connections, templates and documents refer to.

use std::fmt;

use crate::api::SourceKind;

/// What kind of thing is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DependencyKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A ServiceAccount.
    ServiceAccount,
}

/// Something that is referred to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dependency {
    /// Its kind.
    pub kind: DependencyKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Dependency {
    /// A Secret.
    pub fn secret(namespace: &str, name: &str) -> Self {
        Self { kind: DependencyKind::Secret, namespace: namespace.into(), name: name.into() }
    }

    /// A ServiceAccount.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self { kind: DependencyKind::ServiceAccount, namespace: namespace.into(), name: name.into() }
    }

    /// A ConfigMap or Secret.
    pub fn bundle(kind: SourceKind, namespace: &str, name: &str) -> Self {
        let kind = match kind {
            SourceKind::ConfigMap => DependencyKind::ConfigMap,
            SourceKind::Secret => DependencyKind::Secret,
        };
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
    }
}

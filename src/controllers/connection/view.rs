//! What is known of a connection of either kind, in one shape for those who use it.

use kube::{Resource, ResourceExt};

use crate::api::{
    ClusterConjurConnection, ConjurConnection, ConjurConnectionStatus, ConnectionId, ConnectionKind,
    connection::{AccessRule, Settings},
};

/// A connection, as one of its users sees it.
#[derive(Clone, Debug)]
pub struct ConnectionView {
    /// Its name.
    pub id: ConnectionId,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: Option<i64>,
    /// Its settings.
    pub settings: Box<Settings>,
    /// Who may do what; none for a ConjurConnection, which is its namespace's own.
    pub access: Option<Vec<AccessRule>>,
    /// Its status.
    pub status: Box<ConjurConnectionStatus>,
    /// The namespace whose own identity is used, where each has one.
    pub tenant: Option<String>,
}

impl ConnectionView {
    /// Whether each namespace that uses it has an identity of its own: the ServiceAccount of that name there.
    pub fn has_tenants(&self) -> bool {
        let jwt = self.settings.auth.jwt.as_ref();
        self.access.is_some() && jwt.is_some_and(|jwt| jwt.service_account_ref.namespace.is_none())
    }

    /// Who shares its part of the process's budgets: a namespace, or, in the place of one, a cluster's connection.
    pub fn party(&self) -> String {
        match self.tenant.as_deref().unwrap_or(&self.id.namespace) {
            // No namespace has a slash in its name.
            "" => format!("cluster/{}", self.id.name),
            namespace => namespace.to_owned(),
        }
    }

    /// The connection as a namespace uses it.
    #[must_use]
    pub fn for_user(mut self, namespace: &str) -> Self {
        self.tenant = self.has_tenants().then(|| namespace.to_owned());
        self
    }

    /// Where something lies that a reference names: of a ConjurConnection in its own namespace, whatever is given; else in
    /// the namespace that is given, or the tenant's.
    pub fn namespace_of<'a>(&'a self, given: Option<&'a str>) -> &'a str {
        let given = given.filter(|_| self.access.is_some());
        given.or(self.tenant.as_deref()).unwrap_or(&self.id.namespace)
    }

    /// Whether the status tells of this generation.
    pub fn is_observed(&self) -> bool {
        self.status.observed_generation == self.generation
    }
}

impl From<&ConjurConnection> for ConnectionView {
    fn from(object: &ConjurConnection) -> Self {
        Self {
            id: ConnectionId {
                kind: ConnectionKind::ConjurConnection,
                namespace: object.namespace().unwrap_or_default(),
                name: object.name_any(),
            },
            uid: object.uid().unwrap_or_default(),
            generation: object.meta().generation,
            settings: Box::new(Settings::from(&object.spec)),
            access: None,
            status: Box::new(object.status.clone().unwrap_or_default()),
            tenant: None,
        }
    }
}

impl From<&ClusterConjurConnection> for ConnectionView {
    fn from(object: &ClusterConjurConnection) -> Self {
        Self {
            id: ConnectionId {
                kind: ConnectionKind::ClusterConjurConnection,
                namespace: String::new(),
                name: object.name_any(),
            },
            uid: object.uid().unwrap_or_default(),
            generation: object.meta().generation,
            settings: Box::new(Settings::from(&object.spec)),
            access: Some(object.spec.access.clone().unwrap_or_default()),
            status: Box::new(object.status.clone().unwrap_or_default()),
            tenant: None,
        }
    }
}

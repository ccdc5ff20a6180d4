//! The resources of conjur-operator as Rust types: what its CRDs hold, the conditions and reasons that it reports.
//!
//! For programs that apply ConjurConnections, ConjurSecrets, ConjurPolicies, ConjurPushes and
//! ConjurHosts or wait for them, with [`kube`] or as plain
//! JSON. Knows neither a Kubernetes client nor HTTP.
//!
//! Fields that a manifest leaves out are `None`: defaults stand in the fields' descriptions and in getters, such as
//! [`ConjurSecretSpec::interval`], and not in the schema, for the API server must give a manifest back as it was applied.
//!
//! # A ConjurSecret, written and read
//! ```
//! use conjur_operator_api::secret::DataEntry;
//! use conjur_operator_api::{ConjurSecret, ConjurSecretSpec, ConnectionRef};
//!
//! let spec: ConjurSecretSpec = serde_json::from_value(serde_json::json!({
//!     "connectionRef": { "name": "conjur" },
//!     "data": [{ "key": "password", "variable": "apps/db/password" }],
//! }))?;
//! let object = ConjurSecret::new("db", spec);
//! assert_eq!(object.spec.connection_ref, ConnectionRef { name: "conjur".to_owned(), kind: None });
//! assert_eq!(object.spec.entries().iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["password"]);
//! let manifest = serde_json::to_value(&object)?;
//! assert_eq!(manifest["apiVersion"], "conjur-operator.io/v1alpha1");
//! # let _: &[DataEntry] = object.spec.entries();
//! # Ok::<(), serde_json::Error>(())
//! ```

#![warn(missing_docs)]
#![allow(clippy::duplicated_attributes, reason = "each printed column has a type and a path of its own")]

mod bounds;
pub mod condition;
pub mod connection;
pub mod duration;
pub mod host;
pub mod names;
pub mod policy;
pub mod push;
pub mod reason;
pub mod secret;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::{CustomResourceExt as _, KubeSchema};
use serde::{Deserialize, Serialize};

pub use connection::{
    ClusterConjurConnection, ClusterConjurConnectionSpec, ConjurConnection, ConjurConnectionSpec,
    ConjurConnectionStatus, ConnectionId, SecretKeyRef,
};
pub use duration::{GoDuration, InvalidDuration};
pub use host::{ConjurHost, ConjurHostSpec, ConjurHostStatus};
pub use policy::{ConjurPolicy, ConjurPolicySpec, ConjurPolicyStatus};
pub use push::{ConjurPush, ConjurPushSpec, ConjurPushStatus};
pub use reason::Reason;
pub use secret::{ConjurSecret, ConjurSecretSpec, ConjurSecretStatus};

/// The API group of all kinds.
pub const GROUP: &str = "conjur-operator.io";
/// The only version so far.
pub const VERSION: &str = "v1alpha1";
/// Field manager and value of `app.kubernetes.io/managed-by` of what the operator writes.
pub const MANAGER: &str = "conjur-operator";
/// Label on every Secret the operator writes to; the watch selects by it.
pub const MANAGED_LABEL: &str = "conjur-operator.io/managed";
/// Standard label, set on Secrets that are the operator's alone.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Label on a connection that a release of the chart has applied: `<namespace>.<release>`.
pub const APPLIED_BY_LABEL: &str = "conjur-operator.io/applied-by";
/// Annotation on a Secret that names the object it belongs to: `<kind>/<name>`. On a record in Conjur that was made for an
/// object: `<uid of kube-system>/<namespace>/<kind>/<name>`.
pub const OWNER_ANNOTATION: &str = "conjur-operator.io/owner";
/// Annotation on a Secret, where workloads are restarted for it: the revision of its data. With a `.` and the
/// object's name behind it also on Secrets that are merged into, and on the workloads' pod templates.
pub const REVISION_ANNOTATION: &str = "conjur-operator.io/revision";
/// Annotation on a record in Conjur that was made for an object, beside the owner annotation: `true`.
pub const CREATED_ANNOTATION: &str = "conjur-operator.io/created";
/// Annotation on an object: the uid of kube-system that the cluster had before it was restored. What was made in Conjur
/// under that one is the object's, too.
pub const ADOPT_CLUSTER_ANNOTATION: &str = "conjur-operator.io/adopt-cluster";
/// Annotation on a foreign Secret that lets one object take it over: `<kind>/<name>`. On a record in Conjur: the full
/// text of the owner annotation that may take its place.
pub const ADOPT_ANNOTATION: &str = "conjur-operator.io/adopt";
/// Annotation on an object of any kind: any new text has it looked at at once, counted once in 5 seconds.
pub const SYNC_NOW_ANNOTATION: &str = "conjur-operator.io/sync-now";
/// Annotation on a `createdRoles` Secret, or the Secret of a ConjurHost: a hash over the address and account of the server on
/// which its keys were made.
pub const SERVER_ANNOTATION: &str = "conjur-operator.io/server";
/// Finalizer of a ConjurPush with `deletionPolicy: Delete`.
pub const PUSH_FINALIZER: &str = "conjur-operator.io/push";
/// Finalizer of a ConjurPolicy with `deletionPolicy: Delete`.
pub const FINALIZER: &str = "conjur-operator.io/policy";
/// Annotation on a ConjurPolicy: the hash of the document (`status.documentHash`) whose deletions are allowed.
pub const ALLOW_DELETIONS_ANNOTATION: &str = "conjur-operator.io/allow-deletions";
/// Finalizer of a ConjurHost with `deletionPolicy: Delete`.
pub const HOST_FINALIZER: &str = "conjur-operator.io/host";
/// Annotation on a ConjurHost: any new text has its key rotated at once.
pub const ROTATE_NOW_ANNOTATION: &str = "conjur-operator.io/rotate-now";
/// Annotation on the Secret of a ConjurHost: the number of the key in it, which `status.pending` announced.
pub const KEY_NUMBER_ANNOTATION: &str = "conjur-operator.io/key-number";
/// Annotation on a ConjurPolicy: logins whose lost API keys may be rotated, separated by commas.
pub const ROTATE_KEYS_ANNOTATION: &str = "conjur-operator.io/rotate-keys";

/// Names the connection that an object uses.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRef {
    /// Required. Name of the connection; a ConjurConnection lies in the object's own namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub name: String,
    /// Kind of the connection. Default: ConjurConnection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ConnectionKind>,
}

/// The kinds of connection there are.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConnectionKind {
    /// In the namespace of the object that uses it.
    #[default]
    ConjurConnection,
    /// Of the whole cluster; its `access` rules say who may use it for what.
    ClusterConjurConnection,
}

/// Where text may lie that an object refers to.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// One key of a ConfigMap or Secret in the object's own namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct KeySource {
    /// Required. ConfigMap or Secret.
    pub kind: SourceKind,
    /// Required. Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub name: String,
    /// Required. Key in its data.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::KEY))]
    pub key: String,
}

/// The CRDs as the API server takes them, with the one schema default there is:
/// `status.observedGeneration: -1`, so that kstatus does not take a brand-new object for finished.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [
        ClusterConjurConnection::crd(),
        ConjurConnection::crd(),
        ConjurHost::crd(),
        ConjurPolicy::crd(),
        ConjurPush::crd(),
        ConjurSecret::crd(),
    ]
    .into_iter()
    .map(with_status_default)
    .collect()
}

/// The CRDs as one YAML stream, as `conjur-operator crds` prints it.
///
/// ```
/// let yaml = conjur_operator_api::crds_yaml()?;
/// assert_eq!(yaml.matches("kind: CustomResourceDefinition").count(), conjur_operator_api::crds().len());
/// # Ok::<(), conjur_operator_api::UnwritableCrd>(())
/// ```
///
/// # Errors
/// Only if a CRD could not be written as YAML, which a test excludes.
pub fn crds_yaml() -> Result<String, UnwritableCrd> {
    let mut out = String::new();
    for crd in crds() {
        out.push_str("---\n");
        let text =
            serde_saphyr::to_string(&crd).map_err(|error| UnwritableCrd { source: Box::new(error) })?;
        out.push_str(&text);
    }
    Ok(out)
}

/// A CRD can't be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the CRD as YAML: {source}")]
pub struct UnwritableCrd {
    /// What the writer of YAML says.
    source: Box<dyn std::error::Error + Send + Sync>,
}

fn with_status_default(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let status = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
            .and_then(|s| s.properties.as_mut())
            .and_then(|p| p.get_mut("status"));
        if let Some(status) = status {
            set_default(status);
        }
    }
    crd
}

fn set_default(status: &mut JSONSchemaProps) {
    status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

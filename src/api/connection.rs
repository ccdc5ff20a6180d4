//! ConjurConnection: how to reach a Conjur server, and as whom.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// How to reach one Conjur account, and the identity to use there.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "conjur-operator.io",
    version = "v1alpha1",
    kind = "ConjurConnection",
    plural = "conjurconnections",
    namespaced,
    status = "ConjurConnectionStatus",
    shortname = "cjc",
    category = "conjur",
    derive = "PartialEq",
    doc = "How to reach one Conjur account, and the identity to use there.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Identity", type_ = "string", json_path = ".status.identity"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ConjurConnectionSpec {
    /// Required. Base address of the server, `https://conjur.example.com`; it may have a path (the hosted
    /// service: `/api`). `http` is allowed, and warned of in an Event.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && (self.startsWith('https://') || self.startsWith('http://'))")
        .message("write the address with its scheme, such as https://conjur.example.com"))]
    #[x_kube(validation = Rule::new("!self.contains('?') && !self.contains('#') && !self.contains('@')")
        .message("the address has no query, fragment or user; credentials belong into spec.auth"))]
    pub url: String,
    /// Required. The Conjur account.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("!self.contains(':') && !self.contains('/')")
        .message("a Conjur account has neither ':' nor '/'"))]
    pub account: String,
    /// TLS settings. Default: the roots of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Required. How to log in.
    pub auth: Auth,
}

/// TLS settings of a connection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.caBundle) && has(self.caBundleFrom))")
    .message("set caBundle or caBundleFrom, not both"))]
pub struct Tls {
    /// The certificate authorities to trust, as PEM, instead of the system's roots.
    #[schemars(length(min = 1, max = 524_288))]
    #[x_kube(validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')")
        .message("write the authority's certificates as PEM, each beginning with -----BEGIN CERTIFICATE-----"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Where the bundle lies instead: a key of a ConfigMap or Secret in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle_from: Option<BundleRef>,
}

/// One key of a ConfigMap or Secret in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct BundleRef {
    /// Required. ConfigMap or Secret.
    pub kind: BundleKind,
    /// Required. Name of the ConfigMap or Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Required. Key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Where a CA bundle may lie.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BundleKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// How to log in: exactly one way.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.apiKey)")
    .message("say how to log in: apiKey: {login: host/…, apiKeySecretRef: {name: …, key: …}}"))]
pub struct Auth {
    /// Login with the API key of a host or user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyAuth>,
}

/// Login with an API key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.login) != has(self.loginSecretRef)")
    .message("set exactly one of login (host/apps/billing, or a user's name) and loginSecretRef"))]
pub struct ApiKeyAuth {
    /// The login: `host/apps/billing` for a host, the name for a user. This or loginSecretRef is required.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// Where the login lies instead: a key of a Secret in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_secret_ref: Option<SecretKeyRef>,
    /// Required. Where the API key lies: a key of a Secret in the same namespace.
    pub api_key_secret_ref: SecretKeyRef,
}

/// What is known of a connection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConjurConnectionStatus {
    /// The generation that was last looked at to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready means: reached, authenticated, whoami answered.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Version of the server, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// Who we are there, as `whoami` says: `host/apps/billing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// A hash over the credentials and CA bundle that were last used (their uids and resource versions).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_inputs: Option<String>,
}

//! ConjurConnection and ClusterConjurConnection: how to reach a Conjur server, and as whom.
//!
//! ```
//! use std::time::Duration;
//!
//! use conjur_operator_api::ConjurConnectionSpec;
//! use conjur_operator_api::connection::Settings;
//!
//! let spec: ConjurConnectionSpec = serde_json::from_value(serde_json::json!({
//!     "url": "https://conjur.example.com",
//!     "account": "demo",
//!     "auth": { "apiKey": { "login": "host/apps/web", "apiKeySecretRef": { "name": "conjur", "key": "api-key" } } },
//! }))?;
//! let settings = Settings::from(&spec);
//! assert_eq!(settings.token_refresh_interval, Duration::from_secs(300));
//! assert_eq!(settings.references()[0].field, "spec.auth.apiKey.apiKeySecretRef");
//! # Ok::<(), serde_json::Error>(())
//! ```

mod auth;
mod id;
mod settings;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use auth::{
    ApiKeyAuth, Auth, BundleRef, CertificateAuth, JwtAuth, PasswordAuth, SecretKeyRef, SecretRef,
    ServiceAccountRef, Tls,
};
pub use id::ConnectionId;
pub use settings::{AccessMode, LimitsSpec, Reference, Settings};

use super::{GoDuration, bounds, condition::conditioned, names};
use auth::{namespace_is_given, namespace_is_left_out};

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
#[x_kube(validation = Rule::new(namespace_is_left_out())
    .message("a ConjurConnection refers to its own namespace only: leave out namespace in references, or make a ClusterConjurConnection"))]
pub struct ConjurConnectionSpec {
    /// Required. Base address of the server, `https://conjur.example.com`; it may have a path (the hosted
    /// service: `/api`). `http` is allowed, and warned of in an Event.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && (self.startsWith('https://') || self.startsWith('http://'))")
        .message("write the address with its scheme, such as https://conjur.example.com"))]
    #[x_kube(validation = Rule::new("!self.contains('?') && !self.contains('#') && !self.contains('@')")
        .message("the address has no query, fragment or user; credentials belong into spec.auth"))]
    #[x_kube(validation = Rule::new("!self.matches('(?i)/([.]|%2e){1,2}(/|$)')")
        .message("the path of the address has no segment '.' or '..'"))]
    pub url: String,
    /// Required. The Conjur account.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(r"!self.matches('[:/\\\\?#%]') && self != '.' && self != '..'")
        .message("a Conjur account has neither ':' nor '/', none of '\\', '?', '#' and '%', and is not '.' or '..'"))]
    pub account: String,
    /// TLS settings. Default: the roots of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Required. How to log in.
    pub auth: Auth,
    /// How old an access token may become, at most three quarters of its life. Default: 5m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('1h')")
        .message("a token is renewed every 10s to 1h"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_refresh_interval: Option<GoDuration>,
    /// ReadAndWrite, ReadOnly (variables may be read, no policy loaded), or WriteOnly (policy may be loaded, no
    /// variable read). Default: ReadAndWrite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_mode: Option<AccessMode>,
    /// How much is asked of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
}

/// The same for the whole cluster: its rules say which namespace may use it for what.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "conjur-operator.io",
    version = "v1alpha1",
    kind = "ClusterConjurConnection",
    plural = "clusterconjurconnections",
    status = "ConjurConnectionStatus",
    shortname = "ccjc",
    category = "conjur",
    derive = "PartialEq",
    doc = "How to reach one Conjur account, for the namespaces that its access rules name.",
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
#[x_kube(validation = Rule::new(namespace_is_given())
    .message("a ClusterConjurConnection lies in no namespace: give namespace in each reference (only jwt.serviceAccountRef may leave it out)"))]
pub struct ClusterConjurConnectionSpec {
    /// Required. Base address of the server, `https://conjur.example.com`; it may have a path (the hosted
    /// service: `/api`). `http` is allowed, and warned of in an Event.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && (self.startsWith('https://') || self.startsWith('http://'))")
        .message("write the address with its scheme, such as https://conjur.example.com"))]
    #[x_kube(validation = Rule::new("!self.contains('?') && !self.contains('#') && !self.contains('@')")
        .message("the address has no query, fragment or user; credentials belong into spec.auth"))]
    #[x_kube(validation = Rule::new("!self.matches('(?i)/([.]|%2e){1,2}(/|$)')")
        .message("the path of the address has no segment '.' or '..'"))]
    pub url: String,
    /// Required. The Conjur account.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new(r"!self.matches('[:/\\\\?#%]') && self != '.' && self != '..'")
        .message("a Conjur account has neither ':' nor '/', none of '\\', '?', '#' and '%', and is not '.' or '..'"))]
    pub account: String,
    /// TLS settings. Default: the roots of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Required. How to log in.
    pub auth: Auth,
    /// How old an access token may become, at most three quarters of its life. Default: 5m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('1h')")
        .message("a token is renewed every 10s to 1h"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_refresh_interval: Option<GoDuration>,
    /// ReadAndWrite, ReadOnly (variables may be read, no policy loaded), or WriteOnly (policy may be loaded, no
    /// variable read). Default: ReadAndWrite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_mode: Option<AccessMode>,
    /// How much is asked of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// Which namespaces may do what. Without a rule, none may do anything.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Vec<AccessRule>>,
}

/// What some namespaces may do.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule {
    /// Required. The namespaces that the rule is for.
    pub namespaces: AccessNamespaces,
    /// Patterns of the variables that they may read: `*` stands for any text within a segment, `**` for one or more
    /// segments, `{namespace}` for the namespace's name. Default: none.
    #[schemars(length(max = 128), inner(length(min = 1, max = 1024)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Vec<String>>,
    /// Patterns of the variables that they may push to, in the same form. Default: none.
    #[schemars(length(max = 128), inner(length(min = 1, max = 1024)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<Vec<String>>,
    /// Patterns of the policy branches that they may load, and make variables in: `apps/{namespace}` is exactly that
    /// branch, `apps/{namespace}/**` those below it, `root` the root policy. Who may load a branch can permit itself to
    /// read all of it: grant it like `read` on everything in it. Default: none.
    #[schemars(length(max = 128), inner(length(min = 1, max = 1024)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<String>>,
    /// True: hosts in these `branches` may be rotated by a ConjurHost also where one of them is the identity of a
    /// connection. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identities: Option<bool>,
}

/// The namespaces that a rule is for; where names and selector are given, both must match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.names) || has(self.selector)")
    .message("name the namespaces: names: [billing], or selector: {matchLabels: {team: pay}}; an empty selector matches all"))]
pub struct AccessNamespaces {
    /// Their names.
    #[schemars(length(max = 256), inner(length(min = 1, max = 63), regex(pattern = names::LABEL)))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// A selector of their labels.
    #[schemars(transform = bounds::selector)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
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
    /// Who the operator is there, as `whoami` says: `host/apps/billing`. None where each namespace has its own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// A hash over the credentials and CA bundle that were last used (their uids and resource versions).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_inputs: Option<String>,
}

conditioned!(ConjurConnectionStatus);

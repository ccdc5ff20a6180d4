//! Credentials, certificates, and where they lie.

use std::sync::Arc;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{SourceKind, names};

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
    pub ca_bundle: Option<Arc<str>>,
    /// Where the bundle lies instead: a key of a ConfigMap or Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle_from: Option<BundleRef>,
    /// A Secret of type kubernetes.io/tls: presented as the client's certificate on every connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret_ref: Option<SecretRef>,
}

/// How to log in: exactly one way.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.apiKey), has(self.password), has(self.jwt), has(self.certificate)].exists_one(given, given)")
    .message("say how to log in: exactly one of apiKey, password, jwt and certificate, such as apiKey: {login: host/…, apiKeySecretRef: {name: …, key: …}}"))]
pub struct Auth {
    /// Login with the API key of a host or user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyAuth>,
    /// Login of a user with a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordAuth>,
    /// Login with the token of a ServiceAccount (authn-jwt).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuth>,
    /// Login with a client certificate (authn-cert).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateAuth>,
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
    /// Where the login lies instead: a key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_secret_ref: Option<SecretKeyRef>,
    /// Required. Where the API key lies: a key of a Secret.
    pub api_key_secret_ref: SecretKeyRef,
}

/// Login of a user with a password.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PasswordAuth {
    /// Required. The user's name.
    #[schemars(length(min = 1, max = 1024))]
    pub login: String,
    /// Required. Where the password lies: a key of a Secret.
    pub password_secret_ref: SecretKeyRef,
}

/// Login with the token of a ServiceAccount.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct JwtAuth {
    /// Required. Id of the authenticator: `dev` for `authn-jwt/dev`.
    #[serde(rename = "serviceID")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(r"!self.matches('[/\\\\?#%]') && self != '.' && self != '..'")
        .message("a service id has no '/', '\\', '?', '#' or '%', and is neither '.' nor '..'"))]
    pub service_id: String,
    /// Id of the host, without `host/`, where the authenticator does not take it from the token.
    #[serde(rename = "hostID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub host_id: Option<String>,
    /// Required. The ServiceAccount whose tokens are asked for.
    #[serde(rename = "serviceAccountRef")]
    pub service_account_ref: ServiceAccountRef,
}

/// Login with a client certificate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CertificateAuth {
    /// Required. Id of the authenticator: `prod` for `authn-cert/prod`.
    #[serde(rename = "serviceID")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(r"!self.matches('[/\\\\?#%]') && self != '.' && self != '..'")
        .message("a service id has no '/', '\\', '?', '#' or '%', and is neither '.' nor '..'"))]
    pub service_id: String,
    /// Id of the host, without `host/`, where the certificate does not name it.
    #[serde(rename = "hostID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub host_id: Option<String>,
    /// Required. A Secret of type kubernetes.io/tls.
    #[serde(rename = "certificateSecretRef")]
    pub certificate_secret_ref: SecretRef,
}

/// One key of a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Namespace of the Secret: required in a ClusterConjurConnection, left out in a ConjurConnection.
    #[schemars(length(min = 1, max = 63), regex(pattern = names::LABEL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Required. Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub name: String,
    /// Required. Key in the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::KEY))]
    pub key: String,
}

/// A Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Namespace of the Secret: required in a ClusterConjurConnection, left out in a ConjurConnection.
    #[schemars(length(min = 1, max = 63), regex(pattern = names::LABEL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Required. Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub name: String,
}

/// One key of a ConfigMap or Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct BundleRef {
    /// Required. ConfigMap or Secret.
    pub kind: SourceKind,
    /// Namespace of it: required in a ClusterConjurConnection, left out in a ConjurConnection.
    #[schemars(length(min = 1, max = 63), regex(pattern = names::LABEL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Required. Name of the ConfigMap or Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub name: String,
    /// Required. Key in its data.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::KEY))]
    pub key: String,
}

/// A ServiceAccount, and whom its tokens are for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Namespace of the ServiceAccount: left out in a ConjurConnection. In a ClusterConjurConnection, leaving it out
    /// means the ServiceAccount of that name in the namespace of the object that uses the connection, so that each
    /// has its own identity.
    #[schemars(length(min = 1, max = 63), regex(pattern = names::LABEL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Required. Name of the ServiceAccount.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub name: String,
    /// Required. Audiences of the token, as the authenticator expects them; never the cluster's own.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 512)))]
    pub audiences: Vec<String>,
}

/// Every reference that a connection can have, as CEL reaches it from the spec.
const REFERENCES: [&str; 6] = [
    "auth.apiKey.loginSecretRef",
    "auth.apiKey.apiKeySecretRef",
    "auth.password.passwordSecretRef",
    "auth.certificate.certificateSecretRef",
    "tls.caBundleFrom",
    "tls.clientCertificateSecretRef",
];

/// CEL: none of the references gives a namespace.
pub(super) fn namespace_is_left_out() -> String {
    let all = REFERENCES.iter().chain(&["auth.jwt.serviceAccountRef"]);
    all.map(|path| format!("({} || !has(self.{path}.namespace))", is_absent(path)))
        .collect::<Vec<_>>()
        .join(" && ")
}

/// CEL: each of the references gives a namespace.
pub(super) fn namespace_is_given() -> String {
    let all = REFERENCES.iter();
    all.map(|path| format!("({} || has(self.{path}.namespace))", is_absent(path)))
        .collect::<Vec<_>>()
        .join(" && ")
}

/// CEL: something on the way to `path` is not there.
fn is_absent(path: &str) -> String {
    let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    ends.map(|end| format!("!has(self.{})", &path[..end])).collect::<Vec<_>>().join(" || ")
}

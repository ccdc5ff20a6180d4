//! What both kinds of connection have in common.

use std::time::Duration;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Auth, ClusterConjurConnectionSpec, ConjurConnectionSpec, SecretKeyRef, SecretRef, Tls};
use crate::GoDuration;

/// In which direction a connection may be used.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// Variables may be read and pushed to, policy loaded.
    #[default]
    ReadAndWrite,
    /// No policy is loaded, and no value pushed.
    ReadOnly,
    /// No value of a variable is read; that it is there, its annotations and versions are.
    WriteOnly,
}

/// How much is asked of the server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Requests in flight. Default: 4.
    #[schemars(range(min = 1, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u16>,
    /// Requests a second. Default: 50.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Variables in one batch. Default: 250.
    #[schemars(range(min = 1, max = 1_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u16>,
    /// Bytes of one batch's query; the server takes 10240, proxies often less. Default: 7500.
    #[schemars(range(min = 256, max = 10_240))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_bytes: Option<u16>,
    /// For one request, its repeats included. Default: 30s.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1m')")
        .message("timeout is 1s to 1m"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// For one policy load. Default: 10m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('14m')")
        .message("policyTimeout is 1s to 14m"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_timeout: Option<GoDuration>,
}

/// The settings of a connection of either kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Base address of the server.
    pub url: String,
    /// The account.
    pub account: String,
    /// TLS settings.
    pub tls: Tls,
    /// How to log in.
    pub auth: Auth,
    /// How old an access token may become.
    pub token_refresh_interval: Duration,
    /// In which direction it may be used.
    pub access_mode: AccessMode,
    /// How much is asked of the server.
    pub limits: LimitsSpec,
}

/// A reference to something in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Where it stands.
    pub field: &'static str,
    /// The namespace that it gives.
    pub namespace: Option<&'a str>,
    /// The name.
    pub name: &'a str,
    /// The key, where it names one.
    pub key: Option<&'a str>,
    /// Left out in a ClusterConjurConnection, the namespace is that of each user.
    pub may_be_a_tenants: bool,
}

impl Settings {
    /// Every reference that there is.
    pub fn references(&self) -> Vec<Reference<'_>> {
        let (auth, tls) = (&self.auth, &self.tls);
        let mut all = Vec::new();
        if let Some(auth) = &auth.api_key {
            all.extend(auth.login_secret_ref.iter().map(|r| of_key("spec.auth.apiKey.loginSecretRef", r)));
            all.push(of_key("spec.auth.apiKey.apiKeySecretRef", &auth.api_key_secret_ref));
        }
        if let Some(auth) = &auth.password {
            all.push(of_key("spec.auth.password.passwordSecretRef", &auth.password_secret_ref));
        }
        if let Some(auth) = &auth.certificate {
            all.push(of_secret("spec.auth.certificate.certificateSecretRef", &auth.certificate_secret_ref));
        }
        if let Some(auth) = &auth.jwt {
            let account = &auth.service_account_ref;
            all.push(Reference {
                field: "spec.auth.jwt.serviceAccountRef",
                namespace: account.namespace.as_deref(),
                name: &account.name,
                key: None,
                may_be_a_tenants: true,
            });
        }
        if let Some(from) = &tls.ca_bundle_from {
            all.push(Reference {
                field: "spec.tls.caBundleFrom",
                namespace: from.namespace.as_deref(),
                name: &from.name,
                key: Some(&from.key),
                may_be_a_tenants: false,
            });
        }
        let certificate = tls.client_certificate_secret_ref.iter();
        all.extend(certificate.map(|r| of_secret("spec.tls.clientCertificateSecretRef", r)));
        all
    }
}

fn of_key<'a>(field: &'static str, r: &'a SecretKeyRef) -> Reference<'a> {
    let namespace = r.namespace.as_deref();
    Reference { field, namespace, name: &r.name, key: Some(&r.key), may_be_a_tenants: false }
}

fn of_secret<'a>(field: &'static str, r: &'a SecretRef) -> Reference<'a> {
    let namespace = r.namespace.as_deref();
    Reference { field, namespace, name: &r.name, key: None, may_be_a_tenants: false }
}

macro_rules! settings_of {
    ($($spec:ty),+) => {$(
        impl From<&$spec> for Settings {
            fn from(spec: &$spec) -> Self {
                Self {
                    url: spec.url.clone(),
                    account: spec.account.clone(),
                    tls: spec.tls.clone().unwrap_or_default(),
                    auth: spec.auth.clone(),
                    token_refresh_interval: spec
                        .token_refresh_interval
                        .as_ref()
                        .map_or(Duration::from_secs(300), GoDuration::get),
                    access_mode: spec.access_mode.unwrap_or_default(),
                    limits: spec.limits.clone().unwrap_or_default(),
                }
            }
        }
    )+};
}
settings_of!(ConjurConnectionSpec, ClusterConjurConnectionSpec);

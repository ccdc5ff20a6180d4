//! What both kinds of connection have in common.

use std::time::Duration;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Auth, ClusterConjurConnectionSpec, ConjurConnectionSpec, Tls};
use crate::api::GoDuration;

/// In which direction a connection may be used.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// Variables may be read, policy loaded.
    #[default]
    ReadAndWrite,
    /// No policy is loaded.
    ReadOnly,
    /// No variable is read.
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

//! What is known of a ConjurHost.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{condition::conditioned, secret::WrittenTarget};

/// What is known of a ConjurHost.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConjurHostStatus {
    /// The generation that was last looked at to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling and Stalled only while true.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// The full id of the host in Conjur, `account:host:id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether this object made the host; false where it exists otherwise and was taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<bool>,
    /// What was announced and is not known to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingHost>,
    /// What of the spec Conjur holds, by the operator's last load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedHost>,
    /// When the stored key was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rotation_time: Option<Time>,
    /// When it is rotated next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,
    /// The text of the annotation `conjur-operator.io/rotate-now` that was handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_rotate_now: Option<String>,
    /// The Secret, as last written by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<WrittenTarget>,
    /// The revision of the Secret's data, where `rolloutRestart` asks for one: it counts the changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The revision that the workloads of `rolloutRestart` were last restarted for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_out: Option<String>,
}

conditioned!(ConjurHostStatus);

/// What was announced before it was done, so that after a crash it can be found out whether it was.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PendingHost {
    /// What is done.
    pub step: PendingStep,
    /// When it was announced, in seconds since 1970.
    pub at: i64,
    /// The number that the Secret gets with the key that comes of it.
    pub number: i64,
    /// A hash over the address and account of the server.
    pub server: String,
    /// Until when something of before that was announced, and whose answer was lost, may still happen, in seconds since 1970.
    /// Until then a stored key may turn out to be an old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// The text of the annotation `conjur-operator.io/rotate-now` that it is done for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The load that makes the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<PendingLoadOfHost>,
    /// The host factory's token that it is enrolled with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<PendingEnrolment>,
    /// Memberships that were not there before, and are granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
}

/// What is done about a host.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingStep {
    /// It is made by policy.
    Make,
    /// It is enrolled with a host factory's token.
    Enrol,
    /// Its key is rotated, and stored.
    Rotate,
    /// Its key is rotated, and thrown away.
    Discard,
    /// Its annotations, restrictions and memberships are loaded.
    Load,
}

/// A load that makes a host: enough to find out afterwards whether it did.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PendingLoadOfHost {
    /// The branch.
    pub branch: String,
    /// Its version before the load.
    pub version: i64,
    /// Hex SHA-256 of the document, which names this object, so that no other object's load is taken for it.
    pub document: String,
    /// Full ids of the roles that it was loaded as.
    pub loaders: Vec<String>,
}

/// A host factory's token that is made for one enrolment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PendingEnrolment {
    /// The factory.
    pub factory: String,
    /// When the token ends by the server's clock, in seconds since 1970: no other token of the factory has this expiry.
    pub expires: i64,
}

/// What of a spec Conjur holds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppliedHost {
    /// A hash over the address and account of the server.
    pub server: String,
    /// The number of the key that is stored; none where no key is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<i64>,
    /// The annotations that were loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The CIDRs that were loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restricted_to: Option<Vec<String>>,
    /// The memberships that the spec asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_of: Option<Vec<String>>,
    /// Those of them that this object granted, so that they are revoked when they leave the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<Vec<String>>,
    /// Whether the host is one with an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<bool>,
}

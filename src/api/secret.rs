//! ConjurSecret: Conjur → Secret.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{ConnectionRef, GoDuration};

/// How often an object is refreshed where `refreshInterval` is not set.
pub const DEFAULT_REFRESH_INTERVAL: Duration = Duration::from_secs(3600);

/// Projects Conjur variables into one Secret.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "conjur-operator.io",
    version = "v1alpha1",
    kind = "ConjurSecret",
    plural = "conjursecrets",
    namespaced,
    status = "ConjurSecretStatus",
    shortname = "cjs",
    category = "conjur",
    derive = "PartialEq",
    doc = "Projects Conjur variables into one Secret.",
    selectable = ".spec.connectionRef.name",
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
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target.name"),
    printcolumn(name = "Keys", type_ = "integer", json_path = ".status.keys"),
    printcolumn(name = "Last Sync", type_ = "date", json_path = ".status.lastSyncTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ConjurSecretSpec {
    /// Required. The connection to fetch through.
    pub connection_ref: ConnectionRef,
    /// How often the variables are fetched again, at least 10s. Default: 1h.
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')")
        .message("refresh at most every 10s: write 10s or more, such as 1h"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<GoDuration>,
    /// While true nothing is read, written or repaired. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// The Secret to write. Default: an Opaque Secret of the object's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Required. What goes into the Secret: one entry a key.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.key == a.key))")
        .message("two entries name the same key; give each entry a key of its own"))]
    pub data: Vec<DataEntry>,
}

/// The Secret to write.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Name of the Secret. Default: the object's own name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Type of the Secret. Default: Opaque. Types that mint or grant credentials are refused.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self != 'kubernetes.io/service-account-token' && self != 'bootstrap.kubernetes.io/token'")
        .message("Secrets of this type mint or grant credentials of the cluster; use Opaque or another type"))]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Labels of the Secret, besides the operator's own.
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('conjur-operator.io/') && k != 'app.kubernetes.io/managed-by')")
        .message("labels below conjur-operator.io/ and app.kubernetes.io/managed-by are the operator's own; leave them out"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the Secret, besides the operator's own.
    #[schemars(length(max = 64), inner(length(max = 16_384)))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('conjur-operator.io/'))")
        .message("annotations below conjur-operator.io/ are the operator's own; leave them out"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Owner: the Secret's data is the operator's alone. Default: Owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_policy: Option<CreationPolicy>,
    /// Delete: the Secret goes with the object. Retain: it stays. Default: Delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Whose the Secret is.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreationPolicy {
    /// The Secret's data is the operator's alone.
    #[default]
    Owner,
}

/// What happens to the Secret when the object goes.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// It goes too.
    #[default]
    Delete,
    /// It stays.
    Retain,
}

/// One key of the Secret, and the variable whose value it gets.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DataEntry {
    /// Required. Key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')")
        .message("a Secret key is made of letters, digits, '-', '_' and '.', and is not '.' nor begins with '..'"))]
    pub key: String,
    /// Required. Id of the variable, below the account: `apps/billing/db/password`.
    #[schemars(length(min = 1, max = 1024))]
    pub variable: String,
    /// A pinned version of the value. Default: the latest.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// True: a variable that is missing in Conjur leaves the key out, also one that was there; one that is
    /// forbidden still fails. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// What is known of a ConjurSecret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConjurSecretStatus {
    /// The generation that was last looked at to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling and Stalled only while true.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// When the data of the Secret last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// The text of the annotation `conjur-operator.io/sync-now` that was handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_sync_now: Option<String>,
    /// The Secret, as last written by us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<WrittenTarget>,
    /// How many keys the Secret has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<i32>,
    /// The variables that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<MissingVariable>>,
    /// A hash over all that the object refers to, as it was when last handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_inputs: Option<String>,
}

/// A Secret, as last written by us.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WrittenTarget {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version after our write.
    pub resource_version: String,
}

/// A variable that could not be read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MissingVariable {
    /// Its id.
    pub variable: String,
    /// NotFound (or not visible), or Forbidden.
    pub reason: String,
}

impl ConjurSecretSpec {
    /// The refresh interval, or its default.
    pub fn interval(&self) -> Duration {
        self.refresh_interval.as_ref().map_or(DEFAULT_REFRESH_INTERVAL, GoDuration::get)
    }

    /// The target, or its defaults.
    pub fn target(&self) -> Target {
        self.target.clone().unwrap_or_default()
    }
}

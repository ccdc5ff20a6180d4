//! ConjurSecret: Conjur → Secret.
//!
//! ```
//! use conjur_operator_api::ConjurSecretSpec;
//! use conjur_operator_api::secret::{DEFAULT_REFRESH_INTERVAL, RefreshPolicy};
//!
//! let spec: ConjurSecretSpec = serde_json::from_value(serde_json::json!({
//!     "connectionRef": { "name": "conjur" },
//!     "dataFrom": [{ "find": { "pattern": "apps/db/*" } }],
//! }))?;
//! assert_eq!((spec.interval(), spec.policy()), (DEFAULT_REFRESH_INTERVAL, RefreshPolicy::Periodic));
//! assert_eq!(spec.sources().len(), 1);
//! # Ok::<(), serde_json::Error>(())
//! ```

mod sources;
mod target;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{ConnectionRef, GoDuration, condition::conditioned};

pub use sources::{
    DataEntry, DataSource, Decode, Extract, Find, KeyFrom, PublicKeys, PublicKeysKind, Rewrite,
};
pub use target::{
    CreationPolicy, DeletionPolicy, RolloutKind, RolloutTarget, Target, Template, TemplateSource,
};

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
#[x_kube(validation = Rule::new("has(self.data) || has(self.dataFrom)")
    .message("say what goes into the Secret: give data, dataFrom or both"))]
pub struct ConjurSecretSpec {
    /// Required. The connection to fetch through.
    pub connection_ref: ConnectionRef,
    /// How often the variables are fetched again, at least 10s. Default: 1h.
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')")
        .message("refresh at most every 10s: write 10s or more, such as 1h"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<GoDuration>,
    /// Periodic: at every `refreshInterval`. OnChange: only when the object or what it refers to changes. CreatedOnce:
    /// the Secret is made where it is not there, and left alone while it is. Default: Periodic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_policy: Option<RefreshPolicy>,
    /// Value: each refresh fetches the values. Version: it asks for version numbers first, and fetches only where one
    /// is another. Default: Value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_detection: Option<ChangeDetection>,
    /// While true nothing is read, written or repaired. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// The Secret to write. Default: an Opaque Secret of the object's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What goes into the Secret: one entry a key. This or `dataFrom` is required.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.key == a.key))")
        .message("two entries name the same key; give each entry a key of its own"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Vec<DataEntry>>,
    /// What goes into the Secret besides: several keys from each source.
    #[schemars(length(min = 1, max = 32))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_from: Option<Vec<DataSource>>,
    /// Workloads of the namespace that are restarted when the Secret's data changed. The first write restarts nothing.
    #[schemars(length(min = 1, max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_restart: Option<Vec<RolloutTarget>>,
}

/// When a Secret is brought up to date.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefreshPolicy {
    /// At every `refreshInterval`.
    #[default]
    Periodic,
    /// When the object or what it refers to changes.
    OnChange,
    /// Made where it is not there, and left alone while it is.
    CreatedOnce,
}

/// How a refresh finds out what changed in Conjur.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangeDetection {
    /// By fetching the values.
    #[default]
    Value,
    /// By the numbers of the variables' versions.
    Version,
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
    /// The Secret, as last written by the operator.
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
    /// The revision of the Secret's data, where `rolloutRestart` asks for one: it counts the changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The revision that the workloads of `rolloutRestart` were last restarted for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_out: Option<String>,
}

conditioned!(ConjurSecretStatus);

/// A Secret, as last written by the operator.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WrittenTarget {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version after the operator's write.
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

    /// When the Secret is brought up to date, or the default.
    pub fn policy(&self) -> RefreshPolicy {
        self.refresh_policy.unwrap_or_default()
    }

    /// The workloads to restart; none where there is none.
    pub fn rollouts(&self) -> &[RolloutTarget] {
        self.rollout_restart.as_deref().unwrap_or_default()
    }

    /// The target, or its defaults.
    pub fn target(&self) -> Target {
        self.target.clone().unwrap_or_default()
    }

    /// The entries of `data`; none where there is none.
    pub fn entries(&self) -> &[DataEntry] {
        self.data.as_deref().unwrap_or_default()
    }

    /// The sources of `dataFrom`; none where there is none.
    pub fn sources(&self) -> &[DataSource] {
        self.data_from.as_deref().unwrap_or_default()
    }
}

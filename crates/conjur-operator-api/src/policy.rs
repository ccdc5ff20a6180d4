//! ConjurPolicy: policy → Conjur.
//!
//! ```
//! use conjur_operator_api::policy::LoadMode;
//! use conjur_operator_api::{ConjurPolicy, ConjurPolicySpec};
//!
//! let spec: ConjurPolicySpec = serde_json::from_value(serde_json::json!({
//!     "connectionRef": { "name": "conjur" },
//!     "branch": "apps/billing",
//!     "document": "- !variable password\n",
//! }))?;
//! let policy = ConjurPolicy::new("billing", spec);
//! assert_eq!((policy.mode(), policy.loaded_hash()), (LoadMode::Update, None));
//! # Ok::<(), serde_json::Error>(())
//! ```

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use std::time::Duration;

use super::{ConnectionRef, GoDuration, KeySource, condition::conditioned, names, secret::DeletionPolicy};

/// Loads a policy document into a branch of Conjur's policy.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "conjur-operator.io",
    version = "v1alpha1",
    kind = "ConjurPolicy",
    plural = "conjurpolicies",
    namespaced,
    status = "ConjurPolicyStatus",
    shortname = "cjp",
    category = "conjur",
    derive = "PartialEq",
    doc = "Loads a policy document into a branch of Conjur's policy.",
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
    printcolumn(name = "Branch", type_ = "string", json_path = ".spec.branch"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
// On the spec, not on the field: a refusal of the field would repeat the whole document.
#[x_kube(
    validation = Rule::new("!has(self.document) || bytes(self.document).size() <= 700000").field_path(".document")
        .message("the document is over 700,000 bytes; put it into ConfigMaps and name them in documentFrom"),
    validation = Rule::new("has(self.document) != has(self.documentFrom)")
        .message("give either document or documentFrom")
)]
pub struct ConjurPolicySpec {
    /// Required. The connection to load through.
    pub connection_ref: ConnectionRef,
    /// Required. The policy branch to load into: `apps/billing`, or `root` for the root policy.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//')")
        .message("write the branch without a leading, trailing or doubled slash, such as apps/billing, or root"))]
    pub branch: String,
    /// Append (POST) adds, Update (PATCH) also changes and runs !delete, Replace (PUT) also removes what the
    /// document leaves out of the branch. Default: Update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<LoadMode>,
    /// Load makes Conjur hold the document. DryRun loads nothing and only says, in `status.plan`, what a load would
    /// change. Default: Load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<PolicyAction>,
    /// The policy, as Conjur's YAML; at most 700,000 bytes. Large ones need `kubectl apply --server-side`. Either this
    /// or `documentFrom` is required.
    #[schemars(length(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// Where the policy lies instead, in the object's own namespace: joined in this order, with a newline where one
    /// lacks it; at most 10 MiB in all. Loaded again when one of them changes.
    #[schemars(length(min = 1, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_from: Option<Vec<KeySource>>,
    /// Where the one-time API keys of created hosts and users go. Required as soon as the document makes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_roles: Option<CreatedRoles>,
    /// How often a dry run looks whether Conjur still holds what the document says; in modes Update and Replace it is
    /// loaded again where it doesn't. At least 10s. Default: 0s, which is never.
    #[x_kube(validation = Rule::new("duration(self) == duration('0s') || duration(self) >= duration('10s')")
        .message("look for drift at most every 10s: write 10s or more, such as 1h, or 0s for never"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_check_interval: Option<GoDuration>,
    /// Retain: Conjur is left alone when the object goes. Delete: what the document made is removed from Conjur with
    /// the object. Default: Retain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// While true nothing is loaded. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// What is done with a document.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PolicyAction {
    /// It is loaded.
    #[default]
    Load,
    /// Only what a load would change is looked at.
    DryRun,
}

/// How a document is loaded.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LoadMode {
    /// POST: only adds.
    Append,
    /// PATCH: adds, changes, and runs `!delete`, `!deny`, `!revoke`.
    #[default]
    Update,
    /// PUT: the branch becomes what the document says.
    Replace,
}

impl LoadMode {
    /// As specs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Append => "Append",
            Self::Update => "Update",
            Self::Replace => "Replace",
        }
    }
}

/// Where the one-time API keys of created roles go.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CreatedRoles {
    /// Required. Name of the Secret, made by the operator.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub secret_name: String,
}

/// What is known of a ConjurPolicy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConjurPolicyStatus {
    /// The generation that was last looked at to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling and Stalled only while true.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Version of the branch after the operator's last load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Hex SHA-256 of the document last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_hash: Option<String>,
    /// Hex SHA-256 of the document last loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded_hash: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_load_time: Option<Time>,
    /// What a load would change, by the last look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PolicyPlan>,
    /// The hosts and users that this policy made or is about to make, whose keys it keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_roles: Option<Vec<String>>,
    /// A hash over where and how the document was last loaded: connection, branch and mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_inputs: Option<String>,
    /// A load that was announced and whose outcome is not yet written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingLoad>,
    /// What Conjur refused, as long as nothing has changed that could mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<PolicyRefusal>,
    /// The text of the annotation `conjur-operator.io/sync-now` that was handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_sync_now: Option<String>,
}

conditioned!(ConjurPolicyStatus);

/// A document that Conjur refused: what can mend it, so that it is not sent again before.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRefusal {
    /// A hash over what was refused: the document, the spec, where it went, and as whom.
    pub of: String,
    /// A hash over the annotations, of which any new one, as `sync-now`, asks for another try.
    pub asked: String,
    /// What can mend it.
    pub mended_by: MendedBy,
    /// The reason that the conditions gave.
    pub reason: String,
    /// What they said.
    pub message: String,
    /// When it was sent, in seconds since 1970.
    pub tried: i64,
    /// Full id of the record that is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// What the identity is to the branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has: Option<Vec<String>>,
}

/// What can mend a refusal.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MendedBy {
    /// Nothing but another document or spec: it is not sent again before, but for `sync-now`.
    Edit,
    /// Another privilege, or the branch: what the identity has is asked for, and the document sent when that is another.
    Privilege,
    /// A record that it refers to: sent again when that was made, and every 10 minutes where it can't be seen.
    Record,
    /// No one knows: sent again every 10 minutes.
    Time,
}

/// A load that was announced: enough to find out afterwards whether it happened.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PendingLoad {
    /// Hex SHA-256 of the document.
    pub document_hash: String,
    /// Version of the branch before the load; absent where the identity may not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// The hash over connection, branch and mode.
    pub inputs: String,
    /// Full id of the role that it was loaded as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<String>,
}

/// What a load would change in Conjur.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPlan {
    /// What it would make.
    pub created: PlannedItems,
    /// What it would change.
    pub updated: PlannedItems,
    /// What it would remove.
    pub deleted: PlannedItems,
}

/// Records of Conjur that a load would touch.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlannedItems {
    /// How many.
    pub count: u32,
    /// Full ids of the first 20, `account:kind:id`.
    pub ids: Vec<String>,
}

impl ConjurPolicy {
    /// The hash of the document last loaded; none where none was.
    pub fn loaded_hash(&self) -> Option<&str> {
        self.status.as_ref().and_then(|status| status.loaded_hash.as_deref())
    }

    /// The hash of the document that the status is about: the one last loaded or, with [`PolicyAction::DryRun`], last looked
    /// at.
    pub fn answered_hash(&self) -> Option<&str> {
        match self.spec.action.unwrap_or_default() {
            PolicyAction::Load => self.loaded_hash(),
            PolicyAction::DryRun => self.status.as_ref().and_then(|status| status.document_hash.as_deref()),
        }
    }

    /// How the document is loaded, or the default.
    pub fn mode(&self) -> LoadMode {
        self.spec.mode.unwrap_or_default()
    }
}

impl ConjurPolicySpec {
    /// How often to look for drift; none where it is off.
    pub fn drift_check(&self) -> Option<Duration> {
        self.drift_check_interval.as_ref().map(GoDuration::get).filter(|interval| !interval.is_zero())
    }
}

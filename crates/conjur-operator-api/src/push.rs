//! ConjurPush: Secret → Conjur.
//!
//! ```
//! use conjur_operator_api::push::{DEFAULT_LOOK_INTERVAL, UpdatePolicy};
//! use conjur_operator_api::{ConjurPush, ConjurPushSpec};
//!
//! let spec: ConjurPushSpec = serde_json::from_value(serde_json::json!({
//!     "connectionRef": { "name": "conjur" },
//!     "source": { "secretRef": { "name": "litellm-keys" } },
//!     "prefix": "litellm/",
//!     "createVariables": { "branch": "litellm" },
//! }))?;
//! let push = ConjurPush::new("litellm", spec);
//! assert_eq!(push.spec.look_interval(), Some(DEFAULT_LOOK_INTERVAL));
//! assert_eq!(push.spec.update_policy.unwrap_or_default(), UpdatePolicy::Replace);
//! # Ok::<(), serde_json::Error>(())
//! ```

mod status;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    ConnectionRef, GoDuration, bounds, names,
    secret::{DeletionPolicy, Rewrite},
};

pub use self::status::{AppliedPush, ConjurPushStatus, PushedSource, PushedVariable, PushedVersion};

/// How often the versions of pushed variables are looked at where `driftCheckInterval` is not set.
pub const DEFAULT_LOOK_INTERVAL: Duration = Duration::from_secs(3600);
/// Most variables of one object.
pub const MOST_VARIABLES: usize = 1000;

/// Keeps what lives in Secrets in Conjur variables.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "conjur-operator.io",
    version = "v1alpha1",
    kind = "ConjurPush",
    plural = "conjurpushes",
    namespaced,
    status = "ConjurPushStatus",
    shortname = "cjpush",
    category = "conjur",
    derive = "PartialEq",
    doc = "Keeps what lives in Secrets in Conjur variables.",
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
    printcolumn(name = "Variables", type_ = "integer", json_path = ".status.variableCount"),
    printcolumn(name = "Last Push", type_ = "date", json_path = ".status.lastPushTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.rewrite) || !has(self.data)")
        .message("rewrite renames the keys that become variables where data is left out; name the variables in data, or leave data out"),
    validation = Rule::new("!has(self.source.selector) || (has(self.prefix) && self.prefix.contains('{secret}')) || \
        (has(self.data) && self.data.all(d, d.variable.contains('{secret}')))")
        .message("with source.selector several Secrets are pushed: write {secret} into prefix, or into each variable of data")
)]
pub struct ConjurPushSpec {
    /// Required. The connection to push through.
    pub connection_ref: ConnectionRef,
    /// Required. The Secrets of the namespace that are pushed.
    pub source: PushSource,
    /// Put before the id of every variable; no slash is added. `{namespace}` stands for the object's namespace,
    /// `{secret}` for the name of the Secret. Default: empty.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.contains('//')")
        .message("write the prefix without a leading or doubled slash, such as litellm/"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// What is pushed: one entry a variable. Default: each key of a Secret becomes the variable `<prefix><key>`.
    #[schemars(length(min = 1, max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Vec<PushEntry>>,
    /// Renames the keys, one rule after the other, where `data` is left out.
    #[schemars(length(min = 1, max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Vec<Rewrite>>,
    /// Where and how missing variables are made. Left out: a missing variable is `VariableNotFound`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_variables: Option<CreateVariables>,
    /// Refuse: a variable that another writer made or filled is left alone. Adopt: it becomes this object's. Default: Refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict_policy: Option<ConflictPolicy>,
    /// Replace: a variable gets each new value. IfNotExists: only a variable that holds no value gets one. Default: Replace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_policy: Option<UpdatePolicy>,
    /// Retain: the variables stay. Delete: those that this object made go with it, or with their key. Default: Retain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// How often the versions of the variables are looked at, at least 10s; 0s is never. Default: 1h.
    #[x_kube(validation = Rule::new("duration(self) == duration('0s') || duration(self) >= duration('10s')")
        .message("look at the versions at most every 10s: write 10s or more, such as 1h, or 0s for never"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift_check_interval: Option<GoDuration>,
    /// While true nothing is read or pushed. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// The Secrets that are pushed: exactly one of `secretRef` and `selector`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) != has(self.selector)")
    .message("give exactly one of secretRef and selector"))]
pub struct PushSource {
    /// One Secret of the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SourceSecret>,
    /// Every Secret of the namespace with these labels.
    #[schemars(transform = bounds::selector)]
    #[x_kube(validation = Rule::new("has(self.matchLabels) || has(self.matchExpressions)")
        .message("an empty selector would push every Secret of the namespace; name labels"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A Secret of the object's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceSecret {
    /// Required. Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub name: String,
}

/// One variable, and what it gets: exactly one of `key` and `template`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.key) != has(self.template)")
    .message("give exactly one of key and template in each entry of data"))]
pub struct PushEntry {
    /// The key of the Secret whose value is pushed.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::KEY))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A template over the keys of the Secret, in the language of ConjurSecret; `{{ name }}` stands for the value of that key.
    #[schemars(length(min = 1, max = 65_536))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Required. What comes after the prefix in the id of the variable; `{namespace}` and `{secret}` stand for names.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//')")
        .message("write the id without a leading, trailing or doubled slash, such as openai/api-key"))]
    pub variable: String,
}

/// Where and how missing variables are made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CreateVariables {
    /// Required. The policy branch that they are made in, such as `litellm`, or `root`. Every id has to lie below it.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//')")
        .message("write the branch without a leading, trailing or doubled slash, such as litellm, or root"))]
    pub branch: String,
    /// Annotations that they get in Conjur, beside the operator's own. Default: none.
    #[schemars(transform = bounds::map(0, 16, 1024))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() > 0 && k.size() <= 253 && !k.startsWith('conjur-operator.io/'))")
        .message("an annotation's name has 1 to 253 characters, and those below conjur-operator.io/ are the operator's own"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Who may do what with them. Default: only who owns the branch.
    #[schemars(length(min = 1, max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permit: Option<Vec<PushPermit>>,
}

/// What a role may do with the variables that are made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct PushPermit {
    /// Required. Who: `host/litellm/proxy`, `user/alice`, `layer/litellm/proxies`, `group/readers`; ids below the account.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^(host|user|layer|group)/[^/].*$"))]
    pub role: String,
    /// Required. What: `read`, `execute` (which lets read the value), `update`.
    #[schemars(
        length(min = 1, max = 8),
        inner(length(min = 1, max = 64), regex(pattern = "^[a-z][a-z0-9_-]*$"))
    )]
    pub privileges: Vec<String>,
}

/// What becomes of something in Conjur that another made.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// It is left alone, and named.
    #[default]
    Refuse,
    /// It becomes this object's.
    Adopt,
}

/// Which variables get a value.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdatePolicy {
    /// All, and each new one.
    #[default]
    Replace,
    /// Only those that hold none.
    IfNotExists,
}

impl ConjurPushSpec {
    /// The entries of `data`; none where there is none.
    pub fn entries(&self) -> &[PushEntry] {
        self.data.as_deref().unwrap_or_default()
    }

    /// How often versions are looked at; none where they never are.
    pub fn look_interval(&self) -> Option<Duration> {
        let interval = self.drift_check_interval.as_ref().map_or(DEFAULT_LOOK_INTERVAL, GoDuration::get);
        (!interval.is_zero()).then_some(interval)
    }

    /// Whether what this object made goes with it.
    pub fn deletes(&self) -> bool {
        self.deletion_policy == Some(DeletionPolicy::Delete)
    }
}

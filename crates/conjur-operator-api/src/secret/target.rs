//! The Secret that is written, and what follows from it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{KeySource, bounds, names};

/// The Secret to write.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.creationPolicy) || self.creationPolicy != 'Merge' || (has(self.deletionPolicy) && self.deletionPolicy == 'Retain')")
        .message("a Secret that is merged into is not deleted with the object: write deletionPolicy: Retain"),
    validation = Rule::new("!has(self.creationPolicy) || self.creationPolicy != 'Merge' || !has(self.immutable) || !self.immutable")
        .message("a Secret that is merged into can't be made immutable; leave immutable out")
)]
pub struct Target {
    /// Name of the Secret. Default: the object's own name.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Type of the Secret. Default: Opaque. Types that mint or grant credentials are refused.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self != 'kubernetes.io/service-account-token' && self != 'bootstrap.kubernetes.io/token'")
        .message("Secrets of this type mint or grant credentials of the cluster; use Opaque or another type"))]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Labels of the Secret, besides the operator's own.
    #[schemars(transform = bounds::map(0, 64, 63))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 317)").message("the key of a label has at most 317 characters"))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('conjur-operator.io/') && k != 'app.kubernetes.io/managed-by')")
        .message("labels below conjur-operator.io/ and app.kubernetes.io/managed-by are the operator's own; leave them out"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the Secret, besides the operator's own.
    #[schemars(transform = bounds::map(0, 64, 16_384))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 317)").message("the key of an annotation has at most 317 characters"))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('conjur-operator.io/'))")
        .message("annotations below conjur-operator.io/ are the operator's own; leave them out"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Owner: the Secret's data is the operator's alone. Merge: the keys go into a Secret that exists, whose other keys
    /// are left alone; needs `deletionPolicy: Retain`. Default: Owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_policy: Option<CreationPolicy>,
    /// Delete: the Secret goes with the object. Retain: it stays. Default: Delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// True: Kubernetes refuses changes of the Secret, and it is made anew when its data changes. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Makes the Secret's keys from templates over the values, in place of the plain keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
}

/// Whose the Secret is.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreationPolicy {
    /// The Secret's data is the operator's alone.
    #[default]
    Owner,
    /// Only the keys asked for are the operator's, in a Secret that exists.
    Merge,
}

/// What happens to what the object made when it goes.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// It goes too.
    #[default]
    Delete,
    /// It stays.
    Retain,
}

/// Templates over the values; the Secret has their keys only.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.data) || has(self.dataFrom)").message("give data, dataFrom or both"))]
pub struct Template {
    /// Text of each key; `{{ name }}` stands for the value of that name.
    #[schemars(transform = bounds::map(1, 64, 65_536))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 253 && k.matches('^[-._a-zA-Z0-9]+$') && k != '.' && !k.startsWith('..'))")
        .message("a Secret key is made of letters, digits, '-', '_' and '.', and is not '.' nor begins with '..'"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<BTreeMap<String, String>>,
    /// Templates that lie in ConfigMaps or Secrets of the object's namespace.
    #[schemars(length(min = 1, max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_from: Option<Vec<TemplateSource>>,
}

/// A template in a ConfigMap or Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSource {
    /// Where the text lies.
    #[serde(flatten)]
    pub source: KeySource,
    /// Key in the Secret. Default: the key that the text lies under.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')")
        .message("a Secret key is made of letters, digits, '-', '_' and '.', and is not '.' nor begins with '..'"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_key: Option<String>,
}

/// A workload that is restarted when the Secret's data changed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutTarget {
    /// Required. Deployment, StatefulSet or DaemonSet.
    pub kind: RolloutKind,
    /// Required. Its name, in the object's namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub name: String,
}

/// The workloads that can be restarted.
#[derive(
    schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
)]
pub enum RolloutKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
}

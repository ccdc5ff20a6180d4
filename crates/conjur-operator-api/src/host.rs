//! ConjurHost: a machine identity in Conjur whose key is kept in a Secret and rotated.
//!
//! ```
//! use conjur_operator_api::ConjurHostSpec;
//! use conjur_operator_api::host::Enrolment;
//!
//! let spec: ConjurHostSpec = serde_json::from_value(serde_json::json!({
//!     "connectionRef": { "name": "conjur" },
//!     "id": "apps/billing/web",
//! }))?;
//! assert_eq!(spec.enrolment(), Some(Enrolment::Branch("apps/billing")));
//! assert!(spec.keeps_key());
//! # Ok::<(), serde_json::Error>(())
//! ```

mod status;

use std::{collections::BTreeMap, time::Duration};

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    ConnectionRef, GoDuration, bounds, names,
    push::ConflictPolicy,
    secret::{DeletionPolicy, RolloutTarget, Template},
};

pub use status::{
    AppliedHost, ConjurHostStatus, PendingEnrolment, PendingHost, PendingLoadOfHost, PendingStep,
};

/// A machine identity in Conjur whose key is kept and rotated.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "conjur-operator.io",
    version = "v1alpha1",
    kind = "ConjurHost",
    plural = "conjurhosts",
    namespaced,
    status = "ConjurHostStatus",
    shortname = "cjh",
    category = "conjur",
    derive = "PartialEq",
    doc = "A machine identity in Conjur whose key is kept and rotated.",
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
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.id"),
    printcolumn(name = "Last Rotation", type_ = "date", json_path = ".status.lastRotationTime"),
    printcolumn(name = "Next Rotation", type_ = "string", json_path = ".status.nextRotationTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.id.contains('/') || has(self.via)")
        .message("an id without a slash has no parent branch to make it in; say in spec.via how it is enrolled, such as via: {branch: root}"),
    validation = Rule::new("has(self.via) == has(oldSelf.via) && (!has(self.via) || self.via == oldSelf.via)")
        .message("spec.via can't be changed: it says how the host was enrolled; make another ConjurHost"),
    validation = Rule::new("!has(self.via) || !has(self.via.branch) || self.via.branch == 'root' || self.id.startsWith(self.via.branch + '/')")
        .message("the host's id must lie below spec.via.branch: write id: <branch>/<name>"),
    validation = Rule::new("!has(self.via) || !(has(self.via.hostFactoryTokenSecretRef) || has(self.via.existing)) || (has(self.conflictPolicy) && self.conflictPolicy == 'Adopt')")
        .message("via.hostFactoryTokenSecretRef and via.existing give a host that exists a new key, and its old one dies; permit that with conflictPolicy: Adopt"),
    validation = Rule::new("!has(self.via) || has(self.via.branch) || !(has(self.restrictedTo) || has(self.memberOf))")
        .message("restrictedTo and memberOf are loaded with the host as policy; they need via: {branch: …}"),
    validation = Rule::new("!has(self.via) || !has(self.via.existing) || !has(self.annotations)")
        .message("via.existing changes nothing of the host but its key; leave annotations out"),
    validation = Rule::new("!has(self.via) || !(has(self.via.hostFactory) || has(self.via.hostFactoryTokenSecretRef)) || (has(self.annotations) == has(oldSelf.annotations) && (!has(self.annotations) || self.annotations == oldSelf.annotations))")
        .message("annotations of a host that a factory makes are given when it is enrolled, and can't be changed later; make another ConjurHost"),
    validation = Rule::new("!has(self.apiKey) || self.apiKey || !(has(self.target) || has(self.rotation) || has(self.rolloutRestart))")
        .message("with apiKey: false no key is kept; leave target, rotation and rolloutRestart out"),
    validation = Rule::new("!has(self.apiKey) || self.apiKey || !has(self.via) || has(self.via.branch)")
        .message("with apiKey: false the host is made by policy; only via: {branch: …} can do that")
)]
pub struct ConjurHostSpec {
    /// Required. The connection to enrol and rotate through.
    pub connection_ref: ConnectionRef,
    /// Required. The host's id below the account: `apps/billing/web`, without `host/`. It can't be changed. Without a
    /// slash `via` is required.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("spec.id can't be changed: another id is another host; make another ConjurHost"))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//') && !self.startsWith('host/')")
        .message("write the id below the account, without host/ before it and without a leading, trailing or doubled slash, such as apps/billing/web"))]
    #[x_kube(validation = Rule::new(r"!self.matches('(^|/)[.]{1,2}(/|$)') && !self.matches('[[:cntrl:]]')")
        .message("the id has no segment '.' or '..' and no control characters"))]
    pub id: String,
    /// How the host is enrolled: exactly one way. It can't be changed. Default: `branch`, the parent of the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// Annotations of the host, which authenticators read, such as `authn-jwt/dev/sub`. Of a factory's host they can't be
    /// changed. One that is taken out of the spec stays in Conjur, which can't remove it.
    #[schemars(transform = bounds::map(1, 64, 4096))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() >= 1 && k.size() <= 317)").message("the name of an annotation has 1 to 317 characters"))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('conjur-operator.io/'))")
        .message("annotations below conjur-operator.io/ are the operator's own; leave them out"))]
    #[x_kube(validation = Rule::new("!('authn/api-key' in self)")
        .message("the operator sets authn/api-key itself; write spec.apiKey: false for a host without an API key"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The CIDRs that the host may come from, with `via.branch` only. Default: everywhere.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c) || isIP(c))")
        .message("write addresses or CIDRs, such as 10.0.0.0/8"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restricted_to: Option<Vec<String>>,
    /// Layers and groups that the host becomes a member of, with `via.branch` only: `layer/apps/billing/web`. What is
    /// taken out is revoked, if this object granted it. One that does not lie below `via.branch` is granted in the branch
    /// that it lies in, which the connection's identity must own, too.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = Rule::new("self.all(m, (m.startsWith('layer/') || m.startsWith('group/')) && !m.endsWith('/') && !m.contains('//'))")
        .message("write each as layer/<id> or group/<id>, with the id below the account, such as layer/apps/billing/web"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_of: Option<Vec<String>>,
    /// False: a host that logs in with a JWT or a certificate; the key that Conjur gives it all the same is thrown away, and
    /// no Secret is written. From true to false its key is rotated into nothing, and then the Secret goes. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<bool>,
    /// When the key is rotated. Default: only when it is asked for, by the annotation `conjur-operator.io/rotate-now`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// The Secret that keeps the key. Default: an Opaque Secret of the object's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<HostTarget>,
    /// Workloads of the namespace that are restarted when another key was stored. The first write restarts nothing.
    #[schemars(length(min = 1, max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_restart: Option<Vec<RolloutTarget>>,
    /// Refuse: a host that exists and that this object did not make is left alone (`ForeignHost`). Adopt: it is taken
    /// over, which kills its old key. Default: Refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict_policy: Option<ConflictPolicy>,
    /// Retain: the host stays in Conjur when the object goes. Delete: it is removed, if this object made it. Default:
    /// Retain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// While true nothing is enrolled, rotated, written or repaired. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// How a host is enrolled: exactly one way.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.branch), has(self.hostFactory), has(self.hostFactoryTokenSecretRef), has(self.existing)].exists_one(given, given)")
    .message("say how the host is enrolled: exactly one of branch, hostFactory, hostFactoryTokenSecretRef and existing, such as via: {branch: apps/billing}"))]
pub struct Via {
    /// The policy branch that it is made in, which the connection's identity must own: `apps/billing`, or `root`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//')")
        .message("write the branch without a leading, trailing or doubled slash, such as apps/billing, or root"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A host factory, which the connection's identity must own. A token of it is made, used once and revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_factory: Option<HostFactoryRef>,
    /// A host factory's token that somebody gave: a key of a Secret in the object's namespace. Needs `conflictPolicy:
    /// Adopt`, for a host that exists can't be seen with it: one of that factory gets a new key. Once the key is stored the
    /// token's Secret is needed no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_factory_token_secret_ref: Option<TokenRef>,
    /// The host exists, and the connection's identity has `update` on it, as its owner has. Needs `conflictPolicy: Adopt`:
    /// its key is rotated at once, and the old one dies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing: Option<ExistingHost>,
}

/// A host factory.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HostFactoryRef {
    /// Required. Its id below the account: `apps/billing/factory`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.endsWith('/') && !self.contains('//')")
        .message("write the factory's id without a leading, trailing or doubled slash, such as apps/billing/factory"))]
    pub id: String,
}

/// A key of a Secret in the object's own namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TokenRef {
    /// Required. Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::NAME))]
    pub name: String,
    /// Required. Key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = names::KEY))]
    pub key: String,
}

/// A host that exists. It has no fields: write `existing: {}`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExistingHost {}

/// When a key is rotated.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// Required. How often, at least 1h: `720h`. The times lie on a grid that a restart does not move; one that was
    /// missed is made up for at the start.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h')")
        .message("rotate at most every hour: write 1h or more, such as 720h"))]
    pub interval: GoDuration,
}

/// The Secret that keeps a host's key: always under `login` and `api-key`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HostTarget {
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
    /// Templates that add keys to `login` and `api-key`. Their values are `login`, `api_key`, `account`, `url` and `ca`, which
    /// is the connection's CA bundle, empty with the system's roots.
    #[x_kube(validation = Rule::new("!has(self.data) || !('login' in self.data || 'api-key' in self.data)")
        .message("the keys login and api-key are always in the Secret, as they are; give the template other keys"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
}

/// How a host is enrolled, with the default filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment<'a> {
    /// By policy, in this branch.
    Branch(&'a str),
    /// By a token that is made of this host factory.
    Factory(&'a str),
    /// By a token that lies there.
    Token(&'a TokenRef),
    /// It exists.
    Existing,
}

impl ConjurHostSpec {
    /// How the host is enrolled; none where the spec does not say it, which the schema refuses.
    pub fn enrolment(&self) -> Option<Enrolment<'_>> {
        let Some(via) = &self.via else {
            return self.id.rsplit_once('/').map(|(parent, _)| Enrolment::Branch(parent));
        };
        let ways = [
            via.branch.as_deref().map(Enrolment::Branch),
            via.host_factory.as_ref().map(|factory| Enrolment::Factory(&factory.id)),
            via.host_factory_token_secret_ref.as_ref().map(Enrolment::Token),
            via.existing.map(|_| Enrolment::Existing),
        ];
        let mut given = ways.into_iter().flatten();
        given.next().filter(|_| given.next().is_none())
    }

    /// Whether its key is kept, or the default.
    pub fn keeps_key(&self) -> bool {
        self.api_key.unwrap_or(true)
    }

    /// Whether a host that exists is taken over, or the default.
    pub fn adopts(&self) -> bool {
        self.conflict_policy.unwrap_or_default() == ConflictPolicy::Adopt
    }

    /// Whether the host is removed from Conjur with the object, or the default.
    pub fn deletes(&self) -> bool {
        self.deletion_policy == Some(DeletionPolicy::Delete)
    }

    /// How often its key is rotated; none where only when asked.
    pub fn rotation_interval(&self) -> Option<Duration> {
        self.rotation.as_ref().map(|rotation| rotation.interval.get())
    }

    /// The layers and groups; none where there is none.
    pub fn memberships(&self) -> &[String] {
        self.member_of.as_deref().unwrap_or_default()
    }

    /// The workloads to restart; none where there is none.
    pub fn rollouts(&self) -> &[RolloutTarget] {
        self.rollout_restart.as_deref().unwrap_or_default()
    }

    /// The target, or its defaults.
    pub fn target(&self) -> HostTarget {
        self.target.clone().unwrap_or_default()
    }
}

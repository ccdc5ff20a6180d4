//! What the target Secret should be, whose it is, and what to do about the difference.

pub mod certificate;
pub mod change_detection;
pub mod circle;
mod fingerprint;
pub mod merge;
mod ownership;
mod read;
pub mod repair_budget;
pub mod rollout;
pub mod sources;
pub mod template;
pub(in crate::plan) mod types;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference},
};
use kube::Resource;

pub use self::{
    fingerprint::{Fingerprint, FingerprintKey},
    ownership::{Former, former, is_written_for, refuse_unless_ours},
    read::SecretRead,
    types::check_type,
};
use super::Failure;
use crate::{
    api::{MANAGED_BY_LABEL, MANAGED_LABEL, MANAGER, OWNER_ANNOTATION, Reason},
    limits::SECRET_DATA_BYTES,
    sensitive::Sensitive,
};

/// Most bytes of keys and values together: the store behind the API server takes 1.5 MiB in one request, and metadata
/// needs some of it.
const STORED_LIMIT: usize = 1_500_000;
/// What an entry takes in the store beside its key and value.
const PER_ENTRY: usize = 16;

/// The object that a Secret is written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind, as manifests write it.
    pub kind: Cow<'static, str>,
    /// Its apiVersion.
    pub api_version: String,
    /// Its name.
    pub name: String,
    /// Its namespace, and that of the Secret.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
}

impl Owner {
    /// Of an object, as the API server has it.
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            kind: K::kind(&()).into_owned().into(),
            api_version: K::api_version(&()).into_owned(),
            name: meta.name.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    /// `<kind>/<name>`, as annotations name it.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    fn controller_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.api_version.clone(),
            kind: self.kind.clone().into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// Values shorter than this have no length that is told: that of a password tells something of it.
const TOLD_FROM: usize = 64 * 1024;

/// The length of a value, where it is the reason that a Secret is too large.
fn length(bytes: usize) -> String {
    if bytes < TOLD_FROM { "under 64 KiB".to_owned() } else { format!("{bytes} bytes") }
}

/// A sum of lengths, rounded down: without those that are told it would tell the others.
fn rounded(bytes: usize) -> String {
    format!("{} KiB", bytes / TOLD_FROM * (TOLD_FROM / 1024))
}

/// The Secret as it should be.
#[derive(Debug, Default)]
pub struct Desired {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_: String,
    /// The labels the spec asks for, without the operator's own.
    pub labels: BTreeMap<String, String>,
    /// The annotations the spec asks for, without the operator's own.
    pub annotations: BTreeMap<String, String>,
    /// Whether it goes with its owner (an owner reference), or stays.
    pub owned: bool,
    /// Whether Kubernetes is to refuse changes of it.
    pub immutable: bool,
    /// Whether it is left alone once it is there (`refreshPolicy: CreatedOnce`).
    pub once: bool,
    /// The annotation that holds the revision of its data, where one is asked for (`rolloutRestart`).
    pub revision_key: Option<String>,
    /// Its data.
    pub data: BTreeMap<String, Sensitive<Vec<u8>>>,
}

impl Desired {
    /// Refuses data without a key: a Secret is never emptied, whatever it is made of.
    ///
    /// # Errors
    /// `NoKeys`. Conjur's answers without one are refused before; what is left are templates that make none.
    pub fn check_keys(&self) -> Result<(), Failure> {
        if !self.data.is_empty() {
            return Ok(());
        }
        let message = "spec.target.template makes no key, and a Secret is never emptied; give it a key, or leave \
                       spec.target.template out to have the plain keys";
        Err(Failure::stalled(Reason::NoKeys, message))
    }

    /// Refuses data that the API server would refuse for its size, naming the largest keys.
    ///
    /// # Errors
    /// `SecretTooLarge`.
    pub fn check_size(&self) -> Result<(), Failure> {
        let total: usize = self.data.values().map(|v| v.expose().len()).sum();
        let stored = total + self.data.keys().map(|key| key.len() + PER_ENTRY).sum::<usize>();
        let what = if total > SECRET_DATA_BYTES {
            format!(
                "the data has over {}, and a Secret holds {SECRET_DATA_BYTES} bytes at most",
                rounded(total)
            )
        } else if stored > STORED_LIMIT {
            let count = self.data.len();
            format!(
                "the {count} keys and their values have over {} together, and a Secret holds {STORED_LIMIT} bytes at most \
                 with the names of its keys",
                rounded(stored)
            )
        } else {
            return Ok(());
        };
        let message = format!("{what}; largest keys: {}. Split it over several objects", self.largest_keys());
        Err(Failure::stalled(Reason::SecretTooLarge, message))
    }

    /// The keys with the largest values, and how large each is.
    fn largest_keys(&self) -> String {
        let mut sizes: Vec<_> = self.data.iter().map(|(k, v)| (v.expose().len(), k.as_str())).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let largest: Vec<_> = sizes.iter().take(3).map(|(n, k)| format!("{k} ({})", length(*n))).collect();
        largest.join(", ")
    }

    fn wanted_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(MANAGED_LABEL.into(), "true".into());
        labels.insert(MANAGED_BY_LABEL.into(), MANAGER.into());
        labels
    }

    fn wanted_annotations(&self, owner: &Owner) -> BTreeMap<String, String> {
        let mut annotations = self.annotations.clone();
        annotations.insert(OWNER_ANNOTATION.into(), owner.reference());
        annotations
    }

    /// The Secret to write: all of the operator's, with the labels, annotations, finalizers and other owners that stand
    /// on the one that is there. `drop` names labels and annotations that the operator set before and that are no longer
    /// asked for.
    pub fn to_secret(&self, owner: &Owner, standing: Option<&ObjectMeta>, drop: &OwnKeys) -> SecretRead {
        let standing = standing.cloned().unwrap_or_default();
        let keep = |map: Option<BTreeMap<String, String>>, drop: &BTreeSet<String>| {
            let mut map = map.unwrap_or_default();
            map.retain(|k, _| !drop.contains(k));
            map
        };
        let mut labels = keep(standing.labels, &drop.labels);
        labels.extend(self.wanted_labels());
        let mut annotations = keep(standing.annotations, &drop.annotations);
        annotations.extend(self.wanted_annotations(owner));
        let mut owners = standing.owner_references.unwrap_or_default();
        owners.retain(|o| o.uid != owner.uid);
        if self.owned {
            owners.push(owner.controller_reference());
        }
        SecretRead::from(Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(owner.namespace.clone()),
                uid: standing.uid,
                resource_version: standing.resource_version,
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: (!owners.is_empty()).then_some(owners),
                finalizers: standing.finalizers,
                ..ObjectMeta::default()
            },
            type_: Some(self.type_.clone()),
            immutable: self.immutable.then_some(true),
            data: Some(self.bytes()),
            ..Secret::default()
        })
    }

    fn bytes(&self) -> BTreeMap<String, ByteString> {
        self.data.iter().map(|(k, v)| (k.clone(), ByteString(v.expose().clone()))).collect()
    }

    /// Whether a Secret holds exactly this data.
    pub fn is_data_of(&self, existing: &Secret) -> bool {
        let empty = BTreeMap::new();
        let there = existing.data.as_ref().unwrap_or(&empty);
        there.len() == self.data.len()
            && self.data.iter().all(|(k, v)| there.get(k).is_some_and(|other| other.0 == *v.expose()))
    }
}

/// Writes the revision of its data onto a Secret that is to be written.
pub fn mark(secret: &mut Secret, key: Option<&str>, revision: Option<&str>) {
    if let (Some(key), Some(revision)) = (key, revision) {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), revision.to_owned());
    }
}

/// A Secret that is to stay when its object goes: without the owner reference, and else as it is.
pub fn released(mut secret: SecretRead, me: &Owner) -> SecretRead {
    secret.metadata.managed_fields = None;
    if let Some(owners) = &mut secret.metadata.owner_references {
        owners.retain(|o| o.uid != me.uid);
    }
    secret
}

/// What to do about the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is not there: create it.
    Create,
    /// It is there and differs: replace it.
    Replace,
    /// It differs in what can't be changed (its type), or is immutable: delete it and create it again.
    Recreate,
    /// It is as it should be.
    Unchanged,
}

/// Decides what to do about the target, given the Secret that is there.
///
/// # Errors
/// Refusals: a foreign Secret (`ForeignSecret`), one that is being deleted (`TargetTerminating`).
pub fn decide(
    desired: &Desired,
    existing: Option<&Secret>,
    me: &Owner,
    key: &FingerprintKey,
) -> Result<Action, Failure> {
    let Some(existing) = existing else { return Ok(Action::Create) };
    let name = format!("Secret {}/{}", me.namespace, desired.name);
    refuse_unless_ours(&existing.metadata, me, &name)?;
    if desired.once && is_written_for(&existing.metadata, me) {
        return Ok(Action::Unchanged);
    }
    let left_over = no_longer_asked(existing.metadata.managed_fields.as_deref(), desired);
    if left_over.is_empty() && key.of_existing(existing, desired, me) == key.of_desired(desired, me) {
        return Ok(Action::Unchanged);
    }
    let type_differs = existing.type_.as_deref().unwrap_or("Opaque") != desired.type_;
    // Labels and annotations of an immutable one may be changed; nothing else of it.
    let sealed = existing.immutable == Some(true) && !(desired.immutable && desired.is_data_of(existing));
    Ok(if type_differs || sealed { Action::Recreate } else { Action::Replace })
}

/// Labels and annotations, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnKeys {
    /// Keys of labels.
    pub labels: BTreeSet<String>,
    /// Keys of annotations.
    pub annotations: BTreeSet<String>,
}

impl OwnKeys {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// The labels and annotations that the operator's field manager set on an object and that `desired` no longer asks for.
pub fn no_longer_asked(managed: Option<&[ManagedFieldsEntry]>, desired: &Desired) -> OwnKeys {
    let mut keys = OwnKeys::default();
    for entry in managed.unwrap_or_default().iter().filter(|e| e.manager.as_deref() == Some(MANAGER)) {
        let Some(fields) = entry.fields_v1.as_ref().and_then(|f| f.0.get("f:metadata")) else { continue };
        for (name, into) in [("f:labels", &mut keys.labels), ("f:annotations", &mut keys.annotations)] {
            let set = fields.get(name).and_then(|m| m.as_object()).into_iter().flatten();
            into.extend(set.filter_map(|(k, _)| k.strip_prefix("f:").map(str::to_owned)));
        }
    }
    let wanted = desired.wanted_labels();
    keys.labels.retain(|k| !wanted.contains_key(k));
    keys.annotations.retain(|k| {
        k != OWNER_ANNOTATION
            && Some(k) != desired.revision_key.as_ref()
            && !desired.annotations.contains_key(k)
    });
    keys
}

#[cfg(test)]
#[path = "secret/tests.rs"]
mod tests;

//! What the target Secret should be, whose it is, and what to do about the difference.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::hmac;
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference},
};
use zeroize::Zeroize;

use super::Failure;
use crate::{
    api::{
        ADOPT_ANNOTATION, MANAGED_BY_LABEL, MANAGED_LABEL, MANAGER, OWNER_ANNOTATION, Reason, condition::clip,
    },
    sensitive::Sensitive,
};

/// Most bytes of data that the API server takes in one Secret (`MaxSecretSize`).
pub const SECRET_LIMIT: usize = 1_048_576;

/// The object that a Secret is written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `ConjurSecret` or `ConjurPolicy`.
    pub kind: &'static str,
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
    /// `<kind>/<name>`, as annotations name it.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    fn controller_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.api_version.clone(),
            kind: self.kind.to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// The Secret as it should be.
#[derive(Debug)]
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
    /// Its data.
    pub data: BTreeMap<String, Sensitive<Vec<u8>>>,
}

impl Desired {
    /// Refuses data that the API server would refuse for its size, naming the largest keys.
    ///
    /// # Errors
    /// `SecretTooLarge`.
    pub fn check_size(&self) -> Result<(), Failure> {
        let total: usize = self.data.values().map(|v| v.expose().len()).sum();
        if total <= SECRET_LIMIT {
            return Ok(());
        }
        let mut sizes: Vec<_> = self.data.iter().map(|(k, v)| (v.expose().len(), k.as_str())).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let largest: Vec<_> = sizes.iter().take(3).map(|(n, k)| format!("{k} ({n} bytes)")).collect();
        Err(Failure::stalled(
            Reason::SecretTooLarge,
            format!(
                "the data has {total} bytes, and a Secret holds {SECRET_LIMIT} at most; largest keys: {}. \
                 Split it over several objects",
                largest.join(", ")
            ),
        ))
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

    /// The Secret to write: all of ours, with the labels, annotations, finalizers and other owners that stand
    /// on the one that is there. `drop` names labels and annotations that we set before and that are no longer
    /// asked for.
    pub fn to_secret(&self, owner: &Owner, standing: Option<&ObjectMeta>, drop: &OwnKeys) -> Secret {
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
        Secret {
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
            data: Some(self.data.iter().map(|(k, v)| (k.clone(), ByteString(v.expose().clone()))).collect()),
            ..Secret::default()
        }
    }
}

/// Overwrites the values of a Secret that is no longer needed.
pub fn wipe(secret: &mut Secret) {
    for value in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        value.0.zeroize();
    }
}

/// Whose a Secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Its controller is our uid, or it has no controller and names us in the owner annotation; or it names us
    /// in the adopt annotation and no other controller owns it.
    Ours,
    /// It belongs to an object of our kind and name that is gone: the garbage collector will take it.
    Predecessor,
    /// Somebody else's, and whose.
    Foreign(String),
}

/// Decides whose a Secret is, by its metadata.
pub fn ownership(meta: &ObjectMeta, me: &Owner) -> Ownership {
    let annotation = |key| meta.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
    let controller = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true));
    match controller {
        Some(c) if c.uid == me.uid => Ownership::Ours,
        Some(c) if c.kind == me.kind && c.name == me.name && c.api_version == me.api_version => {
            Ownership::Predecessor
        }
        Some(c) => Ownership::Foreign(format!("{}/{} controls it", c.kind, c.name)),
        None if annotation(OWNER_ANNOTATION) == Some(&me.reference()) => Ownership::Ours,
        None if annotation(ADOPT_ANNOTATION) == Some(&me.reference()) => Ownership::Ours,
        None => Ownership::Foreign(match annotation(OWNER_ANNOTATION) {
            Some(other) => format!("it was written for {}", clip(other, 300)),
            None => "the operator did not make it".to_owned(),
        }),
    }
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
    let left_over = no_longer_asked(existing.metadata.managed_fields.as_deref(), desired);
    if left_over.is_empty() && key.of_existing(existing, desired, me) == key.of_desired(desired, me) {
        return Ok(Action::Unchanged);
    }
    let type_differs = existing.type_.as_deref().unwrap_or("Opaque") != desired.type_;
    Ok(if type_differs || existing.immutable == Some(true) { Action::Recreate } else { Action::Replace })
}

/// Refuses a Secret that is not ours to write.
///
/// # Errors
/// `ForeignSecret` (the user must decide), `TargetTerminating` (it will be gone soon).
pub fn refuse_unless_ours(meta: &ObjectMeta, me: &Owner, name: &str) -> Result<(), Failure> {
    let soon = std::time::Duration::from_secs(5);
    if meta.deletion_timestamp.is_some() {
        let message = format!("{name} is being deleted; it will be made again when it is gone");
        return Err(Failure::waiting(Reason::TargetTerminating, soon, message));
    }
    match ownership(meta, me) {
        Ownership::Ours => Ok(()),
        Ownership::Predecessor => Err(Failure::waiting(
            Reason::TargetTerminating,
            soon,
            format!("{name} belongs to an earlier {} and is about to be deleted with it", me.reference()),
        )),
        Ownership::Foreign(whose) => Err(Failure::stalled(
            Reason::ForeignSecret,
            format!(
                "{name} exists and is not ours ({whose}). Choose another name, delete it, or let us take it over \
                 with the annotation {ADOPT_ANNOTATION}={} on it",
                me.reference()
            ),
        )),
    }
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

/// The labels and annotations that our field manager set on an object and that `desired` no longer asks for.
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
    keys.annotations.retain(|k| k != OWNER_ANNOTATION && !desired.annotations.contains_key(k));
    keys
}

/// Makes fingerprints of a Secret's content under a key that never leaves the process: equal content, equal
/// fingerprint, and nothing of the content can be guessed from it.
pub struct FingerprintKey(hmac::Key);

/// HMAC-SHA256 over what of a Secret is ours.
pub type Fingerprint = [u8; 32];

impl FingerprintKey {
    /// A new random key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random() -> Result<Self, String> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map(Self)
            .map_err(|_| "the system gives no randomness".into())
    }

    /// The fingerprint of the Secret as it should be.
    pub fn of_desired(&self, desired: &Desired, owner: &Owner) -> Fingerprint {
        let labels = desired.wanted_labels();
        let annotations = desired.wanted_annotations(owner);
        self.sign(
            &desired.type_,
            desired.owned,
            labels.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
            annotations.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
            desired.data.iter().map(|(k, v)| (k.as_str(), v.expose().as_slice())),
        )
    }

    /// The fingerprint of a Secret that is there, over what of it would be ours: another's label does not count.
    pub fn of_existing(&self, existing: &Secret, desired: &Desired, owner: &Owner) -> Fingerprint {
        let empty = BTreeMap::new();
        let labels = existing.metadata.labels.as_ref().unwrap_or(&empty);
        let annotations = existing.metadata.annotations.as_ref().unwrap_or(&empty);
        let (wanted_labels, wanted_annotations) =
            (desired.wanted_labels(), desired.wanted_annotations(owner));
        let names_us = existing.metadata.owner_references.iter().flatten().any(|o| o.uid == owner.uid);
        self.sign(
            existing.type_.as_deref().unwrap_or("Opaque"),
            names_us,
            wanted_labels.keys().map(|k| (k.as_str(), labels.get(k).map(String::as_str))),
            wanted_annotations.keys().map(|k| (k.as_str(), annotations.get(k).map(String::as_str))),
            existing.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())),
        )
    }

    fn sign<'a>(
        &self,
        type_: &str,
        owned: bool,
        labels: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        annotations: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        data: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.0);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        part(type_.as_bytes());
        part(&[u8::from(owned)]);
        for (section, entries) in [(b"l", labels.collect::<Vec<_>>()), (b"a", annotations.collect())] {
            for (key, value) in entries {
                part(section);
                part(key.as_bytes());
                part(&[u8::from(value.is_some())]);
                part(value.unwrap_or_default().as_bytes());
            }
        }
        for (key, value) in data {
            part(b"d");
            part(key.as_bytes());
            part(value);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}

#[cfg(test)]
#[path = "secret/tests.rs"]
mod tests;

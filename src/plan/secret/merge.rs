//! Merging keys into a Secret that is another's.
//!
//! By server-side apply, without force, and with a field manager for each object: what one sends no longer goes,
//! and the keys of another ConjurSecret that merges into the same Secret stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};

use super::rollout::annotation_key;
use super::{Desired, Owner, SecretRead, TOLD_FROM, is_written_for, released, rounded, types};
use crate::{
    api::{
        MANAGED_BY_LABEL, MANAGED_LABEL, MANAGER, OWNER_ANNOTATION, REVISION_ANNOTATION, Reason,
        condition::clip,
    },
    limits::SECRET_DATA_BYTES,
    plan::{Failure, LOOK_AGAIN, hash::hash},
};

/// Longest name of a field manager that the API server takes.
const MANAGER_LIMIT: usize = 128;

/// The field manager of the keys that an object merges. It goes by the object's name: one that is made again takes
/// its keys over.
pub fn manager(me: &Owner) -> String {
    let full = format!("{MANAGER}/{}", me.name);
    if full.len() <= MANAGER_LIMIT {
        return full;
    }
    format!("{}-{}", clip(&full, MANAGER_LIMIT - 33), hash([me.name.as_str()]))
}

/// What of a Secret an object merged into it, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Keys of labels.
    pub labels: BTreeSet<String>,
    /// Keys of annotations; not that of the revision.
    pub annotations: BTreeSet<String>,
    /// Keys of data.
    pub data: BTreeSet<String>,
}

/// What of a Secret an object merged into it, by the fields that its manager owns.
pub fn own(meta: &ObjectMeta, me: &Owner) -> Own {
    let manager = manager(me);
    let is_ours = |e: &&ManagedFieldsEntry| {
        e.manager.as_ref() == Some(&manager) && e.operation.as_deref() == Some("Apply")
    };
    let mut own = Own::default();
    for entry in meta.managed_fields.iter().flatten().filter(is_ours) {
        let Some(fields) = entry.fields_v1.as_ref().map(|f| &f.0) else { continue };
        for (path, into) in [
            (&["f:metadata", "f:labels"][..], &mut own.labels),
            (&["f:metadata", "f:annotations"], &mut own.annotations),
            (&["f:data"], &mut own.data),
        ] {
            let set = path.iter().try_fold(fields, |at, step| at.get(step)).and_then(|m| m.as_object());
            into.extend(
                set.into_iter().flatten().filter_map(|(k, _)| k.strip_prefix("f:").map(str::to_owned)),
            );
        }
    }
    own.annotations.remove(&annotation_key(&me.name));
    own
}

/// The labels that are applied: the watch selects by the operator's.
pub fn labels(desired: &Desired) -> BTreeMap<String, String> {
    let mut labels = desired.labels.clone();
    labels.insert(MANAGED_LABEL.into(), "true".into());
    labels
}

/// The body to apply: all that is to be the operator's, of the Secret with this uid and resource version.
pub fn body(desired: &Desired, me: &Owner, uid: &str, resource_version: &str) -> SecretRead {
    SecretRead::from(Secret {
        metadata: ObjectMeta {
            name: Some(desired.name.clone()),
            namespace: Some(me.namespace.clone()),
            // Without them an apply would make a Secret that is gone.
            uid: Some(uid.to_owned()),
            resource_version: Some(resource_version.to_owned()),
            labels: Some(labels(desired)),
            annotations: (!desired.annotations.is_empty()).then(|| desired.annotations.clone()),
            ..ObjectMeta::default()
        },
        data: Some(desired.bytes()),
        ..Secret::default()
    })
}

/// What to do about a Secret that is to be merged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeStep {
    /// It belonged to this object alone (`creationPolicy: Owner` before): give it up, and look again.
    GiveUp,
    /// Apply this object's fields.
    Apply {
        /// Whether a value or the set of this object's keys changes.
        data_differs: bool,
    },
    /// This object's fields are as they should be.
    Unchanged,
}

/// Decides what to do about the Secret that is to be merged into. `type_`: the type that the spec names.
///
/// # Errors
/// Refusals: no Secret (`TargetNotFound`), one that is being deleted (`TargetTerminating`), one that can't be merged
/// into (`ForeignSecret`: another object's alone, immutable, of a type that mints credentials or that is not the
/// one asked for), a key of others (`FieldConflict`; most the API server finds), more data than a Secret holds (`SecretTooLarge`).
pub fn decide(
    desired: &Desired,
    existing: Option<&Secret>,
    type_: Option<&str>,
    me: &Owner,
) -> Result<MergeStep, Failure> {
    let name = format!("Secret {}/{}", me.namespace, desired.name);
    let Some(existing) = existing else {
        let message = format!(
            "{name} does not exist, and creationPolicy: Merge makes none; create it, or use creationPolicy: Owner"
        );
        return Err(Failure::waiting(Reason::TargetNotFound, LOOK_AGAIN, message));
    };
    refuse_unsuitable(existing, type_, me, &name)?;
    if is_written_for(&existing.metadata, me) {
        return Ok(MergeStep::GiveUp);
    }
    let own = own(&existing.metadata, me);
    if desired.once && own.data.iter().eq(desired.data.keys()) {
        return Ok(MergeStep::Unchanged);
    }
    let standing = |key: &String| existing.data.as_ref().and_then(|d| d.get(key)).map(|v| &v.0);
    let data_differs = !own.data.iter().eq(desired.data.keys())
        || desired.data.iter().any(|(k, v)| standing(k) != Some(v.expose()));
    if data_differs {
        check_unowned(desired, existing, &own, &name)?;
        check_total(desired, existing, &own, &name)?;
        return Ok(MergeStep::Apply { data_differs });
    }
    let labels = labels(desired);
    let same = |wanted: &BTreeMap<String, String>, own: &BTreeSet<String>, there: Option<&BTreeMap<_, _>>| {
        own.iter().eq(wanted.keys()) && wanted.iter().all(|(k, v)| there.and_then(|t| t.get(k)) == Some(v))
    };
    let meta = &existing.metadata;
    let unchanged = same(&labels, &own.labels, meta.labels.as_ref())
        && same(&desired.annotations, &own.annotations, meta.annotations.as_ref());
    Ok(if unchanged { MergeStep::Unchanged } else { MergeStep::Apply { data_differs } })
}

fn refuse_unsuitable(existing: &Secret, type_: Option<&str>, me: &Owner, name: &str) -> Result<(), Failure> {
    let meta = &existing.metadata;
    if meta.deletion_timestamp.is_some() {
        let message = format!("{name} is being deleted; its keys are merged when there is another");
        return Err(Failure::waiting(Reason::TargetTerminating, Duration::from_secs(5), message));
    }
    let refuse = |why: String| Err(Failure::stalled(Reason::ForeignSecret, format!("{name} {why}")));
    let standing = existing.type_.as_deref().unwrap_or("Opaque");
    if types::mints(standing) {
        return refuse(format!(
            "has the type {standing}, whose Secrets mint or grant credentials of the cluster: nothing is merged into it. \
             Choose another spec.target.name"
        ));
    }
    if let Some(asked) = type_.filter(|asked| *asked != standing) {
        return refuse(format!(
            "has the type {standing}, and spec.target.type is {asked}: a type can't be changed. Leave spec.target.type out, or \
             make the Secret anew"
        ));
    }
    if existing.immutable == Some(true) {
        return refuse("is immutable: nothing can be merged into it. Make it anew, or choose another".into());
    }
    match alone(meta, me) {
        Some(whose) => refuse(format!(
            "holds the data of {whose} alone, which would take the keys out again. Choose another spec.target.name, or \
             creationPolicy: Merge there, too"
        )),
        None => Ok(()),
    }
}

/// The object of the operator's, another than `me`, that has a Secret's data for itself.
fn alone(meta: &ObjectMeta, me: &Owner) -> Option<String> {
    if is_written_for(meta, me) {
        return None;
    }
    let mut owners = meta.owner_references.iter().flatten();
    let controller = owners.find(|o| o.controller == Some(true) && o.api_version == me.api_version);
    let annotated = || meta.annotations.as_ref().and_then(|a| a.get(OWNER_ANNOTATION)).cloned();
    controller.map(|c| format!("{}/{}", c.kind, c.name)).or_else(annotated).map(|w| clip(&w, 300).to_owned())
}

/// The API server sees no conflict over a key that was applied as `stringData`: it knows no owner of it in `data`.
fn check_unowned(desired: &Desired, existing: &Secret, own: &Own, name: &str) -> Result<(), Failure> {
    let entries = || existing.metadata.managed_fields.iter().flatten();
    let owns = |entry: &ManagedFieldsEntry, section: &str, key: &str| {
        let fields = entry.fields_v1.as_ref().and_then(|f| f.0.get(section));
        fields.is_some_and(|fields| fields.get(format!("f:{key}")).is_some())
    };
    let mut taken = Vec::new();
    for (key, value) in existing.data.iter().flatten() {
        let wanted = desired.data.get(key).is_some_and(|v| *v.expose() != value.0);
        if wanted && !own.data.contains(key) && !entries().any(|e| owns(e, "f:data", key)) {
            let by = entries().find(|e| owns(e, "f:stringData", key)).and_then(|e| e.manager.as_deref());
            taken.push(format!("{} set data.{key}", by.unwrap_or("another writer")));
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    let message = format!(
        "cannot merge into {name}: {}. Take it out of the Secret, or leave it out of the spec; nothing was written",
        taken.join("; ")
    );
    Err(Failure::stalled(Reason::FieldConflict, message))
}

fn check_total(desired: &Desired, existing: &Secret, own: &Own, name: &str) -> Result<(), Failure> {
    let ours: usize = desired.data.values().map(|v| v.expose().len()).sum();
    let is_others = |k: &&String| !own.data.contains(*k) && !desired.data.contains_key(*k);
    let others = existing.data.iter().flatten().filter(|(k, _)| is_others(k));
    let others: usize = others.map(|(_, v)| v.0.len()).sum();
    if ours + others <= SECRET_DATA_BYTES {
        return Ok(());
    }
    let message = format!(
        "{name} would have over {}, {} of them in keys of others, and a Secret holds {SECRET_DATA_BYTES} bytes at most; the largest of this object: {}. Choose another spec.target.name",
        rounded(ours + others),
        if others < TOLD_FROM { "few".to_owned() } else { others.to_string() },
        desired.largest_keys()
    );
    Err(Failure::stalled(Reason::SecretTooLarge, message))
}

/// The Secret that was the operator's alone, as it is to be given up: its data stays, and nothing says any more that it is the operator's.
pub fn given_up(existing: &Secret, me: &Owner) -> SecretRead {
    let mut secret = released(existing.clone().into(), me);
    if let Some(labels) = &mut secret.metadata.labels {
        labels.retain(|k, v| !(k == MANAGED_BY_LABEL && v == MANAGER));
    }
    if let Some(annotations) = &mut secret.metadata.annotations {
        annotations.retain(|k, _| k != OWNER_ANNOTATION && k != REVISION_ANNOTATION);
    }
    secret
}

#[cfg(test)]
#[path = "merge/tests.rs"]
mod tests;

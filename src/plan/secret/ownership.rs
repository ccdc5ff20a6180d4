//! Whose a Secret is, and whether it is the operator's to write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Owner;
use crate::{
    api::{ADOPT_ANNOTATION, OWNER_ANNOTATION, Reason, condition::clip},
    plan::Failure,
};

/// Whose a Secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The controller has this object's uid, or there is none and the owner annotation names this object; or the adopt
    /// annotation names it and no other controller owns the Secret.
    Ours,
    /// It belongs to an earlier object of this kind and name that is gone: the garbage collector will take it.
    Predecessor,
    /// Another's: whose, and what can be done about it.
    Foreign {
        /// Whose it is.
        whose: String,
        /// Another object that it belongs to, by a controller reference or by the owner annotation.
        of: Option<String>,
        /// Whether the adopt annotation would count: a controller reference counts more.
        adoptable: bool,
    },
}

/// Whether a Secret was written for this object: an adopted one counts only from the first write on.
pub fn is_written_for(meta: &ObjectMeta, me: &Owner) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    match owners.find(|o| o.controller == Some(true)) {
        Some(controller) => controller.uid == me.uid,
        None => meta.annotations.as_ref().and_then(|a| a.get(OWNER_ANNOTATION)) == Some(&me.reference()),
    }
}

/// What becomes of a Secret that was the target before `target.name` changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// It stays as it is.
    Leave,
    /// It stays, and must not go with the object any more: it still has the owner reference.
    Release,
    /// It goes.
    Delete,
}

/// Decides what becomes of a former target. `uid`: that of the Secret that the operator wrote. `owned`: whether the Secret goes
/// with the object (`deletionPolicy: Delete`). One that may merely be adopted was merged into, and is another's.
pub fn former(meta: &ObjectMeta, uid: &str, owned: bool, me: &Owner) -> Former {
    if meta.uid.as_deref() != Some(uid) || !is_written_for(meta, me) {
        return Former::Leave;
    }
    let names_us = meta.owner_references.iter().flatten().any(|o| o.uid == me.uid);
    match (owned, names_us) {
        (true, _) => Former::Delete,
        (false, true) => Former::Release,
        (false, false) => Former::Leave,
    }
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
        Some(c) => {
            let of = format!("{}/{}", clip(&c.kind, 63), clip(&c.name, 253));
            Ownership::Foreign { whose: format!("{of} controls it"), of: Some(of), adoptable: false }
        }
        None if annotation(OWNER_ANNOTATION) == Some(&me.reference()) => Ownership::Ours,
        None if annotation(ADOPT_ANNOTATION) == Some(&me.reference()) => Ownership::Ours,
        None => match annotation(OWNER_ANNOTATION).map(|other| clip(other, 300).to_owned()) {
            Some(of) => Ownership::Foreign {
                whose: format!("it was written for {of}"),
                of: Some(of),
                adoptable: true,
            },
            None => Ownership::Foreign {
                whose: "the operator did not make it".to_owned(),
                of: None,
                adoptable: true,
            },
        },
    }
}

/// Refuses a Secret that is not the operator's to write.
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
        Ownership::Foreign { whose, of, adoptable } => {
            let adopt = format!(
                "permit the take-over with the annotation {ADOPT_ANNOTATION}={} on it",
                me.reference()
            );
            let way_out = match (of, adoptable) {
                (None, _) => format!("Choose another name, delete it, or {adopt}"),
                // The other one would write it again.
                (Some(of), true) => {
                    format!("Choose another name; or, once {of} is gone or writes another Secret, {adopt}")
                }
                (Some(of), false) => {
                    format!(
                        "Choose another name, or let {of} write another Secret or delete it: what it controls can't be taken over"
                    )
                }
            };
            let message = format!("{name} exists and is not managed by this object ({whose}). {way_out}");
            Err(Failure::stalled(Reason::ForeignSecret, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::secret::tests::me;

    #[test]
    fn the_way_out_of_a_foreign_secret_is_one_that_helps() {
        let controlled = |kind: &str| {
            let owner = json!([{ "apiVersion": "x/v1", "kind": kind, "name": "other", "uid": "uid-2", "controller": true }]);
            json!({ "ownerReferences": owner, "annotations": { (ADOPT_ANNOTATION): "ConjurSecret/db" } })
        };
        for (meta, helps, does_not) in [
            (json!({}), "delete it, or permit the take-over with the annotation", "once"),
            (
                json!({ "annotations": { (OWNER_ANNOTATION): "ConjurSecret/other" } }),
                "once ConjurSecret/other is gone or writes another Secret, permit the take-over",
                "delete it",
            ),
            (controlled("ConjurSecret"), "let ConjurSecret/other write another Secret", ADOPT_ANNOTATION),
            (controlled("ConjurPolicy"), "let ConjurPolicy/other write another Secret", ADOPT_ANNOTATION),
            (controlled("SealedSecret"), "let SealedSecret/other write another Secret", ADOPT_ANNOTATION),
        ] {
            let meta: ObjectMeta = serde_json::from_value(meta).unwrap();
            let refused = refuse_unless_ours(&meta, &me(), "Secret n/db").unwrap_err();
            assert!(refused.message.contains(helps) && !refused.message.contains(does_not), "{refused}");
        }
    }

    #[test]
    fn of_former_targets_only_what_was_written_for_us_is_touched() {
        let owner = |uid: &str| json!([{ "apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": true }]);
        let annotated = |key: &str| json!({ key: "ConjurSecret/db" });
        let none = Value::Null;
        for (uid, owners, annotations, when_owned, when_retained) in [
            ("s", owner("uid-1"), annotated(OWNER_ANNOTATION), Former::Delete, Former::Release),
            ("s", none.clone(), annotated(OWNER_ANNOTATION), Former::Delete, Former::Leave),
            // Another's, one that may be adopted, and one that took the place of the operator's.
            ("s", owner("uid-2"), annotated(OWNER_ANNOTATION), Former::Leave, Former::Leave),
            ("s", none.clone(), none.clone(), Former::Leave, Former::Leave),
            ("s", none, annotated(ADOPT_ANNOTATION), Former::Leave, Former::Leave),
            ("t", owner("uid-1"), annotated(OWNER_ANNOTATION), Former::Leave, Former::Leave),
        ] {
            let meta = json!({ "uid": uid, "ownerReferences": owners, "annotations": annotations });
            let meta: ObjectMeta = serde_json::from_value(meta).unwrap();
            assert_eq!(former(&meta, "s", true, &me()), when_owned, "{meta:?}");
            assert_eq!(former(&meta, "s", false, &me()), when_retained, "{meta:?}");
        }
    }
}

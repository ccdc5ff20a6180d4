//! What the stores keep of an object: thousands lie in memory for as long as they exist, and whoever may write one may
//! make it large. What is left out is read where it is needed.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::error_boundary::InvalidObject;

use crate::{
    api::{
        ADOPT_CLUSTER_ANNOTATION, ALLOW_DELETIONS_ANNOTATION, FINALIZER, GROUP, HOST_FINALIZER,
        MANAGED_BY_LABEL, PUSH_FINALIZER, ROTATE_KEYS_ANNOTATION, ROTATE_NOW_ANNOTATION, SYNC_NOW_ANNOTATION,
    },
    limits::{FOREIGN_META_BYTES, OWN_ANNOTATION_BYTES, OWN_META_BYTES},
    plan::hash,
};

/// The annotations on the operator's objects that are read.
pub const READ: [&str; 5] = [
    SYNC_NOW_ANNOTATION,
    ALLOW_DELETIONS_ANNOTATION,
    ROTATE_KEYS_ANNOTATION,
    ROTATE_NOW_ANNOTATION,
    ADOPT_CLUSTER_ANNOTATION,
];
/// The operator's own finalizers.
const FINALIZERS: [&str; 3] = [FINALIZER, HOST_FINALIZER, PUSH_FINALIZER];
/// Stands among the annotations of a Secret in the store of which something was left out that a write has to keep.
const NOT_WHOLE: &str = "not whole";
/// Stands among the annotations of an object in the store of whose spec only the head is kept, with the length of the whole
/// as JSON.
const SHORTENED: &str = "spec left out";
/// Owner references and finalizers that are kept, each.
const REFERENCES: usize = 8;

/// Slims the metadata of an object of the operator's: name, generation, and the annotations that are read.
pub fn own(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.labels = None;
    meta.owner_references = None;
    if let Some(finalizers) = &mut meta.finalizers {
        finalizers.retain(|finalizer| FINALIZERS.contains(&finalizer.as_str()));
        finalizers.shrink_to_fit();
    }
    let all = meta.annotations.take().unwrap_or_default();
    let read = all.into_iter().filter(|(name, _)| READ.contains(&name.as_str()));
    let read: BTreeMap<_, _> = read.map(|(name, text)| (name, bounded(text))).collect();
    meta.annotations = Some(read).filter(|read| !read.is_empty());
}

/// Slims an object that does not decode. Why not is of no use: it quotes what is there, which may be anything.
pub fn invalid(object: &mut InvalidObject) {
    own(&mut object.metadata);
    object.error = String::new();
}

/// A text that is too long to be kept is a hash of it: another one is still another.
fn bounded(text: String) -> String {
    if text.len() <= OWN_ANNOTATION_BYTES { text } else { format!("too long, {}", hash::hash([&*text])) }
}

/// Slims the metadata of a namespace: its labels, which access rules select by.
pub fn namespace(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.annotations = None;
    meta.owner_references = None;
    meta.finalizers = None;
}

/// Slims the metadata of a Secret that has the operator's label. What others put there is kept where it is little, so that a write
/// needs no look; else it is left out, and the Secret is not [`is_whole`].
pub fn secret(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    let ours = |name: &str| name.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'));
    let sizes = |map: &Option<BTreeMap<String, String>>| -> usize {
        let others = map.iter().flatten().filter(|(name, _)| !ours(name) && *name != MANAGED_BY_LABEL);
        others.map(|(name, text)| name.len() + text.len()).sum()
    };
    let references: usize = meta
        .owner_references
        .iter()
        .flatten()
        .map(|o| o.uid.len() + o.name.len() + o.api_version.len())
        .sum();
    let finalizers: usize = meta.finalizers.iter().flatten().map(String::len).sum();
    let others = sizes(&meta.labels) + sizes(&meta.annotations) + references + finalizers;
    let many = |count: Option<usize>| count.is_some_and(|count| count > REFERENCES);
    let counts = [meta.owner_references.as_ref().map(Vec::len), meta.finalizers.as_ref().map(Vec::len)];
    let own: usize =
        meta.annotations.iter().flatten().filter(|(n, _)| ours(n)).map(|(n, t)| n.len() + t.len()).sum();
    if others > FOREIGN_META_BYTES || own > OWN_META_BYTES || counts.into_iter().any(many) {
        meta.labels = None;
        meta.finalizers = None;
        if let Some(references) = &mut meta.owner_references {
            references.retain(|o| {
                o.controller == Some(true) && o.uid.len() + o.name.len() + o.api_version.len() < 1024
            });
            references.truncate(1);
        }
        let mut room = OWN_META_BYTES;
        let annotations = meta.annotations.get_or_insert_default();
        annotations.retain(|name, text| {
            let size = name.len() + text.len();
            let keep = ours(name) && size <= room.min(OWN_ANNOTATION_BYTES);
            room -= if keep { size } else { 0 };
            keep
        });
        annotations.insert(NOT_WHOLE.into(), String::new());
    }
    // Lists grow by doubling while they are decoded, and to four at first.
    if let Some(references) = &mut meta.owner_references {
        references.shrink_to_fit();
    }
}

/// Whether a Secret's metadata in the store is all that a write has to keep.
pub fn is_whole(meta: &ObjectMeta) -> bool {
    meta.annotations.as_ref().is_none_or(|annotations| !annotations.contains_key(NOT_WHOLE))
}

/// Takes note that of the spec of an object only the head is there; `length` is that of the whole.
pub fn mark_shortened(meta: &mut ObjectMeta, length: usize) {
    meta.annotations.get_or_insert_default().insert(SHORTENED.into(), length.to_string());
}

/// How long the spec of an object is of which only the head is there; none where all is there.
pub fn shortened(meta: &ObjectMeta) -> Option<usize> {
    meta.annotations.as_ref()?.get(SHORTENED)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::OWNER_ANNOTATION;

    fn meta(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn size(meta: &ObjectMeta) -> usize {
        serde_json::to_string(meta).unwrap().len()
    }

    #[test]
    fn of_our_objects_only_the_annotations_that_are_read_are_kept_and_in_bounds() {
        let huge = "x".repeat(250_000);
        let labels: BTreeMap<_, _> = (0..5_000).map(|n| (format!("l{n}"), "v")).collect();
        let mut object = meta(json!({
            "name": "db", "namespace": "n", "uid": "u", "generation": 3, "resourceVersion": "7", "labels": labels,
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": huge, (SYNC_NOW_ANNOTATION): "now",
                (ROTATE_KEYS_ANNOTATION): huge, "conjur-operator.io/other": huge, "document left out": "forged",
            },
            "finalizers": ["x/y", FINALIZER, PUSH_FINALIZER],
            "managedFields": [{ "manager": "m" }],
        }));
        own(&mut object);
        let annotations = object.annotations.clone().unwrap();
        assert_eq!(annotations.keys().collect::<Vec<_>>(), [ROTATE_KEYS_ANNOTATION, SYNC_NOW_ANNOTATION]);
        assert_eq!(annotations[SYNC_NOW_ANNOTATION], "now");
        assert_eq!(object.finalizers.as_deref().unwrap(), [FINALIZER, PUSH_FINALIZER]);
        assert!(size(&object) < 1_000, "{}", size(&object));
        assert_ne!(bounded("a".repeat(10_000)), bounded("b".repeat(10_000)));
    }

    #[test]
    fn of_a_secret_little_of_others_is_kept_and_much_is_left_out() {
        let owner = json!([{ "apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": true }]);
        let mut little = meta(json!({
            "labels": { "team": "pay" }, "annotations": { "example.com/a": "b", (OWNER_ANNOTATION): "ConjurSecret/x" },
            "ownerReferences": owner,
        }));
        let before = little.clone();
        secret(&mut little);
        assert_eq!((&little, is_whole(&little)), (&before, true));
        let huge = "x".repeat(250_000);
        let many: Vec<_> = (0..1_000)
            .map(|n| json!({ "apiVersion": "v1", "kind": "X", "name": "x", "uid": n.to_string() }))
            .collect();
        for hostile in [
            json!({ "annotations": { "example.com/a": huge, (OWNER_ANNOTATION): "ConjurSecret/x" }, "ownerReferences": owner }),
            json!({ "annotations": { (OWNER_ANNOTATION): huge } }),
            json!({ "labels": (0..5_000).map(|n| (format!("l{n}"), "v")).collect::<BTreeMap<_, _>>() }),
            json!({ "ownerReferences": many }),
            json!({ "finalizers": (0..5_000).map(|n| format!("x/{n}")).collect::<Vec<_>>() }),
            json!({ "annotations": (0..5_000).map(|n| (format!("{GROUP}/{n}"), "v")).collect::<BTreeMap<_, _>>() }),
        ] {
            let mut hostile = meta(hostile);
            let owner = hostile.annotations.as_ref().and_then(|a| a.get(OWNER_ANNOTATION)).cloned();
            secret(&mut hostile);
            assert!(!is_whole(&hostile));
            assert!(size(&hostile) < 2 * OWN_META_BYTES, "{}", size(&hostile));
            if owner.is_some_and(|owner| owner.len() < 1_000) {
                assert_eq!(hostile.annotations.unwrap()[OWNER_ANNOTATION], "ConjurSecret/x");
                assert_eq!(hostile.owner_references.unwrap().len(), 1);
            }
        }
    }
}

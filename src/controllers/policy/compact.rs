//! What the store keeps of a policy, beside what it keeps of any object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    api::ConjurPolicy,
    limits::DOCUMENT_KEPT_BYTES,
    plan::hash,
    runtime::compact::{READ, own},
};

/// Stands among the annotations of a policy in the store whose document was left out, with its hash. No annotation can
/// have that name: a name has no space.
const LEFT_OUT: &str = "document left out";
/// Stands among the annotations of a policy in the store for all others on it: a hash, for any that is new asks for
/// another try of a document that was refused.
const OTHERS: &str = "other annotations";
/// Where `kubectl apply` keeps the whole manifest: it changes with it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Slims the metadata of a policy, in which it shows that other annotations of it changed.
pub fn metadata(meta: &mut ObjectMeta) {
    let all = meta.annotations.iter().flatten();
    let others: Vec<&str> = all
        .filter(|(name, _)| !READ.contains(&name.as_str()) && *name != LAST_APPLIED)
        .flat_map(|(name, text)| [name.as_str(), text.as_str()])
        .collect();
    let others = (!others.is_empty()).then(|| hash::hash(others));
    own(meta);
    if let Some(others) = others {
        meta.annotations.get_or_insert_default().insert(OTHERS.into(), others);
    }
}

/// Leaves a long document out of a policy that goes into the store.
pub fn document(object: &mut ConjurPolicy) {
    if let Some(document) = object.spec.document.as_mut().filter(|text| text.len() > DOCUMENT_KEPT_BYTES) {
        let hash = hash::document_hash(document.as_bytes());
        *document = String::new();
        object.metadata.annotations.get_or_insert_default().insert(LEFT_OUT.into(), hash);
    }
}

/// Hash of the document that was left out of a policy; none where it is there.
pub fn left_out(object: &ConjurPolicy) -> Option<&str> {
    object.metadata.annotations.as_ref()?.get(LEFT_OUT).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::SYNC_NOW_ANNOTATION;

    fn meta(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn of_a_policy_a_change_of_any_annotation_is_seen_but_for_the_manifest() {
        let slimmed = |annotations: serde_json::Value| {
            let mut object = meta(json!({ "name": "p", "annotations": annotations }));
            metadata(&mut object);
            object.annotations
        };
        let bare = slimmed(json!({ (SYNC_NOW_ANNOTATION): "now", (LAST_APPLIED): "{}" }));
        assert_eq!(bare, slimmed(json!({ (SYNC_NOW_ANNOTATION): "now", (LAST_APPLIED): "{\"a\":1}" })));
        let one = slimmed(json!({ (SYNC_NOW_ANNOTATION): "now", "look": "again" }));
        let two = slimmed(json!({ (SYNC_NOW_ANNOTATION): "now", "look": "x".repeat(200_000) }));
        assert!(bare != one && one != two);
        assert!(two.unwrap().values().map(String::len).sum::<usize>() < 100);
    }

    #[test]
    fn a_long_document_is_left_out_and_its_hash_stays() {
        let policy_of = |document: &str| -> ConjurPolicy {
            let spec = json!({ "connectionRef": { "name": "c" }, "branch": "b", "document": document });
            serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
        };
        let (mut short, mut long) = (policy_of("- !host a"), policy_of(&"- !host a\n".repeat(50_000)));
        let hash = hash::document_hash(long.spec.document.as_ref().unwrap().as_bytes());
        document(&mut short);
        document(&mut long);
        assert_eq!((short.spec.document.as_deref(), left_out(&short)), (Some("- !host a"), None));
        assert_eq!((long.spec.document.as_deref(), left_out(&long)), (Some(""), Some(hash.as_str())));
    }
}

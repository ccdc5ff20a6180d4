//! Which Secrets and keys are never pushed: what mints credentials of the cluster, what tools keep there for themselves, and
//! what the operator itself wrote, for that came from Conjur.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;

use crate::{
    api::{MANAGER, OWNER_ANNOTATION},
    plan::secret::types::mints,
};

/// Types whose Secrets are another tool's own.
const TOOLS: [&str; 2] = ["helm.sh/release.v1", "conjur-operator.io/inventory"];

/// Why nothing of a Secret may be pushed; none where it may.
pub fn refusal(secret: &Secret) -> Option<String> {
    let type_ = secret.type_.as_deref().unwrap_or("Opaque");
    if mints(type_) || TOOLS.contains(&type_) {
        return Some(format!("Secrets of the type {type_} are never pushed"));
    }
    let controller = secret.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true));
    let controller = controller
        .filter(|c| c.api_version.starts_with("conjur-operator.io/"))
        .map(|c| format!("{}/{}", c.kind, c.name));
    let annotated = || secret.metadata.annotations.as_ref()?.get(OWNER_ANNOTATION).cloned();
    let of = controller.or_else(annotated)?;
    Some(match of.split('/').next() {
        Some("ConjurSecret") => format!(
            "{of} writes it from what Conjur holds, and pushing that back would go in a circle; name another Secret"
        ),
        _ => format!("the operator keeps keys in it for {of}; name another Secret"),
    })
}

/// The keys of a Secret that ConjurSecrets merge into it, by the fields that their managers own.
pub fn merged(secret: &Secret) -> BTreeSet<&str> {
    let of_the_operator = format!("{MANAGER}/");
    let entries = secret.metadata.managed_fields.iter().flatten();
    let theirs = entries.filter(|entry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        entry.operation.as_deref() == Some("Apply") && manager.starts_with(&of_the_operator)
    });
    let fields = theirs.filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:data")?.as_object());
    fields.flatten().filter_map(|(name, _)| name.strip_prefix("f:")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(of: Value) -> Secret {
        serde_json::from_value(of).unwrap()
    }

    #[test]
    fn what_mints_credentials_or_is_the_operators_is_refused() {
        let controlled = |api: &str, kind: &str| {
            json!({ "metadata": { "ownerReferences": [
                { "apiVersion": api, "kind": kind, "name": "o", "uid": "u", "controller": true }
            ] } })
        };
        let annotated = |of: &str| json!({ "metadata": { "annotations": { (OWNER_ANNOTATION): of } } });
        for (of, word) in [
            (json!({}), None),
            (json!({ "type": "kubernetes.io/tls" }), None),
            (json!({ "type": "kubernetes.io/service-account-token" }), Some("never pushed")),
            (json!({ "type": "bootstrap.kubernetes.io/token" }), Some("never pushed")),
            (json!({ "type": "helm.sh/release.v1" }), Some("never pushed")),
            (json!({ "type": "conjur-operator.io/inventory" }), Some("never pushed")),
            (controlled("conjur-operator.io/v1alpha1", "ConjurSecret"), Some("circle")),
            (controlled("bitnami.com/v1alpha1", "SealedSecret"), None),
            (annotated("ConjurSecret/db"), Some("circle")),
            (annotated("ConjurPolicy/p"), Some("keys")),
            (annotated("ConjurHost/h"), Some("keys")),
        ] {
            let told = refusal(&secret(of.clone()));
            assert_eq!(told.is_some(), word.is_some(), "{of}: {told:?}");
            assert!(told.iter().all(|told| told.contains(word.unwrap_or_default())), "{of}: {told:?}");
        }
    }

    #[test]
    fn of_a_secret_that_others_merge_into_only_their_keys_are_kept_out() {
        let entry = |manager: &str, operation: &str, key: &str| {
            let field = format!("f:{key}");
            json!({ "manager": manager, "operation": operation, "fieldsV1": { "f:data": { field: {} } } })
        };
        let of = json!({ "metadata": { "managedFields": [
            entry("conjur-operator/db", "Apply", "merged"),
            entry("kubectl", "Update", "own"),
            entry("conjur-operator/db", "Update", "not-applied"),
        ] } });
        let secret = secret(of);
        assert_eq!(merged(&secret).into_iter().collect::<Vec<_>>(), ["merged"]);
    }
}

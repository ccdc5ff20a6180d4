//! The Secret that is handed over: read, compared and marked, never written but for labels, annotations and owners.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::Patch};
use serde_json::{Value, json};

use super::record::HandOver;
use crate::{
    Error,
    cluster::{Cluster, api_error},
    commands::waiting::merging,
};

/// Marks of External Secrets Operator on a Secret.
const ESO: &str = "reconcile.external-secrets.io/";

fn api(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

/// A Secret; none where there is none.
///
/// # Errors
/// The API server's.
pub async fn secret(cluster: &Cluster, name: &str) -> Result<Option<Secret>, Error> {
    api(cluster).get_opt(name).await.map_err(|error| api_error(&format!("read Secret {name}"), &error))
}

/// Refuses a Secret that another than this hand-over's objects controls: it would be written by that again, and the
/// ConjurSecret could not take it over once the ExternalSecret is gone.
///
/// # Errors
/// Whose it is.
pub fn check_controller(secret: &Secret, one: &HandOver) -> Result<(), Error> {
    let mut owners = secret.metadata.owner_references.iter().flatten();
    let Some(controller) = owners.find(|owner| owner.controller == Some(true)) else { return Ok(()) };
    let is_unknown = one.external_secret_uid.is_empty()
        && controller.kind == "ExternalSecret"
        && controller.name == one.external_secret_name();
    if controller.uid == one.external_secret_uid
        || Some(&controller.uid) == one.conjur_secret_uid.as_ref()
        || is_unknown
    {
        return Ok(());
    }
    Err(Error::new(format!(
        "{} {} of uid {} controls Secret {}, and not ExternalSecret {} of uid {}; have one object write it",
        controller.kind,
        controller.name,
        controller.uid,
        one.secret,
        one.external_secret_name(),
        one.external_secret_uid
    )))
}

/// Refuses what would not leave a Secret as it is. No value is told.
///
/// # Errors
/// What differs.
pub fn check_same(made: &Secret, there: &Secret) -> Result<(), Error> {
    let data = |secret: &Secret| secret.data.clone().unwrap_or_default();
    let (made_data, there_data) = (data(made), data(there));
    let keys = |of: &BTreeMap<String, ByteString>, not_in: &BTreeMap<String, ByteString>| {
        of.keys().filter(|key| !not_in.contains_key(*key)).cloned().collect::<Vec<_>>().join(", ")
    };
    let (missing, new) = (keys(&there_data, &made_data), keys(&made_data, &there_data));
    let differs: Vec<_> = there_data
        .iter()
        .filter(|(key, value)| made_data.get(*key).is_some_and(|made| made != *value))
        .collect();
    let mut wrong = Vec::new();
    if !missing.is_empty() {
        wrong.push(format!("it would lose the keys {missing}"));
    }
    if !new.is_empty() {
        wrong.push(format!("it would gain the keys {new}"));
    }
    if !differs.is_empty() {
        let names: Vec<_> = differs.iter().map(|(key, _)| key.as_str()).collect();
        wrong.push(format!(
            "the values of {} differ; have the ExternalSecret refreshed, and look at its template",
            names.join(", ")
        ));
    }
    if made.type_ != there.type_ {
        wrong.push(format!(
            "its type would change from {:?} to {:?}",
            there.type_.as_deref().unwrap_or("Opaque"),
            made.type_.as_deref().unwrap_or("Opaque")
        ));
    }
    if there.immutable == Some(true) && made.immutable != Some(true) {
        wrong.push(
            "it is immutable and would be made anew as one that is not; set spec.target.immutable of the ExternalSecret"
                .to_owned(),
        );
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::new(wrong.join("; "))) }
}

/// Merges a change into the metadata of a Secret, if it is still the one of this uid.
///
/// # Errors
/// The API server's.
pub async fn patch_secret(cluster: &Cluster, name: &str, uid: &str, metadata: Value) -> Result<(), Error> {
    let mut change = json!({ "metadata": metadata });
    change["metadata"]["uid"] = uid.into();
    let patched = api(cluster).patch_metadata(name, &merging(), &Patch::Merge(&change)).await;
    patched.map_err(|error| api_error(&format!("change Secret {name}"), &error))?;
    Ok(())
}

/// Takes an owner out of those of a Secret, as it is now.
///
/// # Errors
/// The API server's; that it was changed meanwhile.
pub async fn disown(cluster: &Cluster, secret: &Secret, owner: &str) -> Result<(), Error> {
    let meta = &secret.metadata;
    let (name, uid) = (meta.name.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default());
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.retain(|other| other.uid != owner);
    let change = json!({ "ownerReferences": owners, "resourceVersion": meta.resource_version });
    patch_secret(cluster, name, uid, change).await
}

/// Whether a Secret goes with the object of a uid.
pub fn is_owned_by(secret: &Secret, uid: &str) -> bool {
    secret.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// Takes the marks of External Secrets Operator off.
///
/// # Errors
/// The API server's.
pub async fn unmark(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let Some(secret) = secret(cluster, name).await? else { return Ok(()) };
    let nulls = |all: Option<BTreeMap<String, String>>| {
        let marks = all.unwrap_or_default().into_keys().filter(|key| key.starts_with(ESO));
        marks.map(|key| (key, Value::Null)).collect::<serde_json::Map<_, _>>()
    };
    let (labels, annotations) = (nulls(secret.metadata.labels), nulls(secret.metadata.annotations));
    if labels.is_empty() && annotations.is_empty() {
        return Ok(());
    }
    let uid = secret.metadata.uid.unwrap_or_default();
    patch_secret(cluster, name, &uid, json!({ "labels": labels, "annotations": annotations })).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(type_: &str, data: &[(&str, &str)]) -> Secret {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret { type_: Some(type_.to_owned()), data: Some(data.collect()), ..Secret::default() }
    }

    #[test]
    fn what_would_change_is_told_by_key_and_never_by_value() {
        let there = secret("Opaque", &[("a", "secret-1"), ("b", "secret-2")]);
        assert!(check_same(&there, &there).is_ok());
        let made = secret("kubernetes.io/tls", &[("a", "secret-3"), ("c", "secret-4")]);
        let told = check_same(&made, &there).unwrap_err().to_string();
        for text in ["lose the keys b", "gain the keys c", "values of a differ", "type would change"] {
            assert!(told.contains(text), "{told}");
        }
        assert!(!told.contains("secret-"), "{told}");
    }

    #[test]
    fn an_immutable_secret_that_would_be_made_anew_is_refused() {
        let of = |immutable| Secret { immutable, ..secret("Opaque", &[("a", "1")]) };
        for (made, there, is_same) in [
            (None, None, true),
            (Some(true), Some(true), true),
            // It becomes immutable where it is.
            (Some(true), None, true),
            (Some(true), Some(false), true),
            (None, Some(true), false),
            (Some(false), Some(true), false),
        ] {
            assert_eq!(check_same(&of(made), &of(there)).is_ok(), is_same, "{made:?} for {there:?}");
        }
    }

    #[test]
    fn a_secret_of_another_controller_is_refused() {
        let one: HandOver = serde_json::from_value(json!({
            "stage": "Announced", "secret": "db", "secretUid": "1", "externalSecret": { "metadata": { "name": "db" } },
            "externalSecretUid": "of-es", "conjurSecret": {}, "conjurSecretUid": "of-cjs",
        }))
        .unwrap();
        let old = HandOver { external_secret_uid: String::new(), ..one.clone() };
        let owned = |kind: &str, uid: &str, controller| -> Secret {
            serde_json::from_value(json!({ "metadata": { "ownerReferences": [
                { "apiVersion": "v1", "kind": kind, "name": "db", "uid": uid, "controller": controller },
            ] } }))
            .unwrap()
        };
        assert!(check_controller(&Secret::default(), &one).is_ok());
        assert!(check_controller(&owned("ExternalSecret", "of-es", true), &one).is_ok());
        assert!(check_controller(&owned("ConjurSecret", "of-cjs", true), &one).is_ok());
        assert!(check_controller(&owned("SealedSecret", "other", false), &one).is_ok());
        assert!(check_controller(&owned("ExternalSecret", "whichever", true), &old).is_ok());
        for (kind, uid) in
            [("SealedSecret", "other"), ("ExternalSecret", "earlier"), ("ConjurSecret", "other")]
        {
            let told = check_controller(&owned(kind, uid, true), &one).unwrap_err().to_string();
            assert!(told.contains(kind) && told.contains(uid), "{told}");
        }
    }
}

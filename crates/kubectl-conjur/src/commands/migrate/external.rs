//! The ExternalSecret that wrote the Secret: read, told to leave its Secret, deleted alone, and made again.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PostParams, Preconditions, PropagationPolicy},
};
use serde_json::{Value, json};

use super::{record::HandOver, sources};
use crate::{
    Error,
    cluster::{Cluster, api_error},
    commands::waiting::{LOOK, MANAGER, merging},
};

/// Where the policy stands that says whether the Secret goes with its ExternalSecret.
const POLICY: &str = "/spec/target/deletionPolicy";

/// What there is of the ExternalSecret of a hand-over.
#[derive(Debug, Clone, PartialEq)]
pub enum External {
    Gone,
    /// It is being deleted.
    Going(DynamicObject),
    /// The one that was compared.
    There(DynamicObject),
    /// One of the same name that was made since.
    Another(DynamicObject),
}

impl External {
    fn of(seen: Option<DynamicObject>, one: &HandOver) -> Self {
        let Some(seen) = seen else { return Self::Gone };
        let is_known = one.external_secret_uid.is_empty()
            || seen.metadata.uid.as_deref() == Some(&one.external_secret_uid);
        match (seen.metadata.deletion_timestamp.is_some(), is_known) {
            (true, _) => Self::Going(seen),
            (false, true) => Self::There(seen),
            (false, false) => Self::Another(seen),
        }
    }
}

/// The ExternalSecrets of an apiVersion.
pub fn externals(cluster: &Cluster, api_version: &str) -> Api<DynamicObject> {
    let version = api_version.rsplit('/').next().unwrap_or("v1");
    let resource = sources::resource("external-secrets.io", version, "ExternalSecret");
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource)
}

fn of_hand_over(cluster: &Cluster, one: &HandOver) -> Api<DynamicObject> {
    externals(cluster, one.external_secret["apiVersion"].as_str().unwrap_or_default())
}

/// Looks at the ExternalSecret of a hand-over.
///
/// # Errors
/// The API server's.
pub async fn look(cluster: &Cluster, one: &HandOver) -> Result<External, Error> {
    let name = one.external_secret_name();
    let seen = of_hand_over(cluster, one).get_opt(name).await;
    let seen = seen.map_err(|error| api_error(&format!("read ExternalSecret {name}"), &error))?;
    Ok(External::of(seen, one))
}

/// An object as it was applied: without what the API server adds, and with the policy that it had before this program
/// set another.
pub fn manifest(external: &DynamicObject, api_version: &str, recorded: Option<&Value>) -> Value {
    let meta = &external.metadata;
    let kept = |all: &Option<BTreeMap<String, String>>| {
        let all = all.clone().unwrap_or_default().into_iter();
        all.filter(|(key, _)| key != "kubectl.kubernetes.io/last-applied-configuration")
            .collect::<BTreeMap<_, _>>()
    };
    let mut object = json!({
        "apiVersion": api_version, "kind": "ExternalSecret",
        "metadata": {
            "name": meta.name, "namespace": meta.namespace, "labels": kept(&meta.labels), "annotations": kept(&meta.annotations),
        },
        "spec": external.data["spec"],
    });
    if let Some(recorded) = recorded.filter(|_| is_policy_ours(external)) {
        set_policy(&mut object, recorded.pointer(POLICY).cloned());
    }
    object
}

fn set_policy(object: &mut Value, policy: Option<Value>) {
    let Some(target) = object.pointer_mut("/spec/target").and_then(Value::as_object_mut) else { return };
    match policy {
        Some(policy) => target.insert("deletionPolicy".into(), policy),
        None => target.remove("deletionPolicy"),
    };
}

/// Whether this program set `spec.target.deletionPolicy`.
fn is_policy_ours(external: &DynamicObject) -> bool {
    let entries = external.metadata.managed_fields.iter().flatten();
    entries.filter(|entry| entry.manager.as_deref() == Some(MANAGER)).any(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0.pointer("/f:spec/f:target/f:deletionPolicy").is_some())
    })
}

/// Whether an ExternalSecret asks for something else than what was written down of it.
pub fn differs(external: &DynamicObject, recorded: &Value) -> bool {
    let mut now = manifest(external, "", Some(recorded));
    let mut then = recorded.clone();
    // An earlier version of this program left no trace of who set the policy.
    for object in [&mut now, &mut then] {
        set_policy(object, None);
    }
    ["/spec", "/metadata/labels", "/metadata/annotations"]
        .iter()
        .any(|pointer| now.pointer(pointer) != then.pointer(pointer))
}

/// How far the ExternalSecret has let its Secret go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetGo {
    Not,
    /// It was told to be deleted, or is gone.
    Begun,
}

/// Deletes the ExternalSecret alone: first it is told to leave its Secret, then the garbage collector takes it out of the Secret's
/// owners before it goes.
///
/// # Errors
/// That it is another one, or does not go; the API server's.
pub async fn let_go(
    cluster: &Cluster,
    one: &HandOver,
    far: &mut LetGo,
    timeout: Duration,
) -> Result<(), Error> {
    let (api, name) = (of_hand_over(cluster, one), one.external_secret_name());
    let mut held_by = String::new();
    let left = async {
        loop {
            match look(cluster, one).await? {
                External::Gone => {
                    *far = LetGo::Begun;
                    return Ok(());
                }
                External::Another(now) => return Err(Error::new(made_again(one, &now))),
                External::Going(now) => {
                    *far = LetGo::Begun;
                    held_by = now.metadata.finalizers.unwrap_or_default().join(", ");
                }
                External::There(now) if now.data["spec"]["target"]["deletionPolicy"] == "Delete" => {
                    set_live_policy(&api, &now, Some("Retain".into())).await?;
                    continue;
                }
                External::There(now) => {
                    if delete(&api, &now).await? {
                        *far = LetGo::Begun;
                    } else {
                        // It was changed since it was read: its policy may be another.
                        continue;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(timeout, left).await;
    waited.unwrap_or_else(|_| Err(still_going(name, &held_by, timeout)))
}

fn still_going(name: &str, held_by: &str, timeout: Duration) -> Error {
    Error::new(format!(
        "ExternalSecret {name} is still being deleted after {timeout:?}, held by its finalizers ({held_by}): see whether \
         External Secrets Operator runs"
    ))
}

/// What to know and to do about an ExternalSecret that something makes again.
pub fn made_again(one: &HandOver, now: &DynamicObject) -> String {
    format!(
        "ExternalSecret {} was made again by something else (uid {}, and not {}), such as Argo CD or Flux: suspend that, or take the \
         manifest out of where it deploys from",
        one.external_secret_name(),
        now.metadata.uid.as_deref().unwrap_or_default(),
        one.external_secret_uid
    )
}

/// Deletes it as it was read, and leaves its Secret. Whether it is gone or about to.
async fn delete(api: &Api<DynamicObject>, seen: &DynamicObject) -> Result<bool, Error> {
    let meta = &seen.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        preconditions: Some(Preconditions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(api_error(&format!("delete ExternalSecret {name}"), &error)),
    }
}

async fn set_live_policy(
    api: &Api<DynamicObject>,
    seen: &DynamicObject,
    policy: Option<Value>,
) -> Result<(), Error> {
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let change = json!({
        "metadata": { "uid": seen.metadata.uid },
        "spec": { "target": { "deletionPolicy": policy } },
    });
    let patched = api.patch(name, &merging(), &Patch::Merge(&change)).await;
    patched.map_err(|error| api_error(&format!("change ExternalSecret {name}"), &error))?;
    Ok(())
}

/// Sees to it that the ExternalSecret is there as it was: made again where it is gone or on its way, and with its own
/// policy where this program set another.
///
/// # Errors
/// That it is still being deleted; the API server's.
pub async fn restore(cluster: &Cluster, one: &HandOver, timeout: Duration) -> Result<(), Error> {
    let (api, name) = (of_hand_over(cluster, one), one.external_secret_name());
    let external: DynamicObject =
        serde_json::from_value(one.external_secret.clone()).map_err(|error| Error::new(error.to_string()))?;
    let mut held_by = String::new();
    let is_there = async {
        loop {
            match look(cluster, one).await? {
                // Whoever made it says what it is like.
                External::Another(_) => return Ok(()),
                External::There(now) => {
                    let policy = one.external_secret.pointer(POLICY);
                    if now.data["spec"]["target"]["deletionPolicy"] == "Retain"
                        && policy.is_none_or(|policy| policy != "Retain")
                    {
                        set_live_policy(&api, &now, policy.cloned()).await?;
                    }
                    return Ok(());
                }
                External::Going(now) => {
                    held_by = now.metadata.finalizers.unwrap_or_default().join(", ");
                    tokio::time::sleep(LOOK).await;
                }
                External::Gone => match api.create(&PostParams::default(), &external).await {
                    Ok(_) => return Ok(()),
                    // Something made it meanwhile; what there is now is looked at.
                    Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
                    Err(error) => return Err(api_error(&format!("make ExternalSecret {name}"), &error)),
                },
            }
        }
    };
    let waited = tokio::time::timeout(timeout, is_there).await;
    waited.unwrap_or_else(|_| Err(still_going(name, &held_by, timeout)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn external(meta: &Value, policy: Option<&str>) -> DynamicObject {
        let mut object = json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": meta,
            "spec": { "refreshInterval": "1h", "target": { "name": "db" } },
        });
        set_policy(&mut object, policy.map(Into::into));
        serde_json::from_value(object).unwrap()
    }

    fn hand_over(uid: &str) -> HandOver {
        serde_json::from_value(json!({
            "stage": "Compared", "secret": "db", "secretUid": "1", "externalSecret": {}, "externalSecretUid": uid, "conjurSecret": {},
        }))
        .unwrap()
    }

    #[test]
    fn one_that_was_made_again_is_known_by_its_uid() {
        let here = external(&json!({ "name": "db", "uid": "2" }), None);
        let going = external(&json!({ "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z" }), None);
        let of = |seen: &DynamicObject, uid: &str| External::of(Some(seen.clone()), &hand_over(uid));
        assert_eq!(External::of(None, &hand_over("1")), External::Gone);
        assert_eq!(of(&here, "1"), External::Another(here.clone()));
        assert_eq!(of(&here, "2"), External::There(here.clone()));
        assert_eq!(of(&here, ""), External::There(here.clone()), "an earlier version wrote no uid");
        assert_eq!(of(&going, "1"), External::Going(going.clone()));
    }

    #[test]
    fn what_this_program_changed_is_no_difference_and_is_never_recorded() {
        let ours = json!({ "name": "db", "managedFields": [{
            "manager": MANAGER, "operation": "Update", "fieldsV1": { "f:spec": { "f:target": { "f:deletionPolicy": {} } } },
        }] });
        let first = external(&json!({ "name": "db" }), Some("Delete"));
        let recorded = manifest(&first, "external-secrets.io/v1", None);
        let told = external(&ours, Some("Retain"));
        assert!(!differs(&told, &recorded));
        assert_eq!(manifest(&told, "external-secrets.io/v1", Some(&recorded)), recorded);
        // Another set it: that is what it is like now.
        let changed = external(&json!({ "name": "db" }), Some("Retain"));
        assert_eq!(*manifest(&changed, "v1", Some(&recorded)).pointer(POLICY).unwrap(), "Retain");
        let mut other = first.clone();
        other.data["spec"]["refreshInterval"] = "2h".into();
        assert!(differs(&other, &recorded));
        let labelled = external(&json!({ "name": "db", "labels": { "team": "a" } }), Some("Delete"));
        assert!(differs(&labelled, &recorded), "labels go to the Secret");
    }
}

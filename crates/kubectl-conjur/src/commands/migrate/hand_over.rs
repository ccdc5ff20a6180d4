//! The hand-over of one Secret from an ExternalSecret to a ConjurSecret. Each step is decided by what is seen and what is written
//! down, so that any may be the last before a crash, and may be repeated:
//!
//! ```text
//! write it down ─► make the same data elsewhere, and compare ─► permit the ConjurSecret to take the Secret over ─►
//! have the ExternalSecret leave the Secret where it is ─► delete the ExternalSecret alone ─► apply the ConjurSecret ─► Ready
//! ```
//! The Secret itself is never deleted, and no key of it is touched.

use std::collections::BTreeMap;
use std::time::Duration;

use anstream::eprintln;
use conjur_operator_api::ADOPT_ANNOTATION;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy},
};
use serde_json::{Value, json};

use super::{
    is_automatic,
    record::{self, HandOver, Stage},
    sources,
};
use crate::{
    Error,
    cluster::{Cluster, Kind, Seen, api_error},
    commands::waiting::MANAGER,
    migrate::{Migration, Takeover},
};

/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Marks of External Secrets Operator on a Secret.
const ESO: &str = "reconcile.external-secrets.io/";

/// What is to be handed over: what a crash left, and what the translation found.
///
/// # Errors
/// The API server's; a Secret that is not there.
pub async fn plans(cluster: &Cluster, migration: &Migration) -> Result<Vec<HandOver>, Error> {
    let mut all: Vec<HandOver> =
        record::all(cluster).await?.into_iter().filter(|one| one.stage != Stage::Done).collect();
    for takeover in migration.takeovers.iter().filter(|one| is_automatic(one)) {
        if all.iter().any(|one| one.secret == takeover.secret) {
            continue;
        }
        all.extend(plan(cluster, migration, takeover).await?);
    }
    Ok(all)
}

async fn plan(
    cluster: &Cluster,
    migration: &Migration,
    takeover: &Takeover,
) -> Result<Option<HandOver>, Error> {
    let Some(from) = takeover.former_external_secret() else { return Ok(None) };
    let Some(conjur_secret) = object(migration, Kind::Secret, &takeover.conjur_secret) else {
        return Ok(None);
    };
    let external = external_api(cluster, from.0).get_opt(from.1).await;
    let external = external.map_err(|error| api_error(&format!("read ExternalSecret {}", from.1), &error))?;
    let (Some(external), Some(secret)) = (external, secret(cluster, &takeover.secret).await?) else {
        return Ok(None);
    };
    let mut conjur_secret = conjur_secret.clone();
    conjur_secret["metadata"]["namespace"] = cluster.namespace.clone().into();
    Ok(Some(HandOver {
        stage: Stage::Announced,
        secret: takeover.secret.clone(),
        secret_uid: secret.metadata.uid.clone().unwrap_or_default(),
        external_secret: manifest(external, from.0),
        conjur_secret,
    }))
}

fn object<'m>(migration: &'m Migration, kind: Kind, name: &str) -> Option<&'m Value> {
    migration
        .objects
        .iter()
        .find(|object| object["kind"] == kind.name() && object["metadata"]["name"] == name)
}

/// An object as it was applied: without what the API server adds.
fn manifest(object: DynamicObject, api_version: &str) -> Value {
    let meta = object.metadata;
    let kept = |all: Option<BTreeMap<String, String>>| {
        let all = all.unwrap_or_default().into_iter();
        all.filter(|(key, _)| key != "kubectl.kubernetes.io/last-applied-configuration")
            .collect::<BTreeMap<_, _>>()
    };
    json!({
        "apiVersion": api_version, "kind": "ExternalSecret",
        "metadata": {
            "name": meta.name, "namespace": meta.namespace, "labels": kept(meta.labels), "annotations": kept(meta.annotations),
        },
        "spec": object.data["spec"],
    })
}

fn external_api(cluster: &Cluster, api_version: &str) -> Api<DynamicObject> {
    let version = api_version.rsplit('/').next().unwrap_or("v1");
    let resource = sources::resource("external-secrets.io", version, "ExternalSecret");
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource)
}

/// The API of an ExternalSecret that is written down.
pub fn external_api_of(cluster: &Cluster, one: &HandOver) -> Api<DynamicObject> {
    external_api(cluster, one.external_secret["apiVersion"].as_str().unwrap_or_default())
}

pub fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

/// A Secret; none where there is none.
///
/// # Errors
/// The API server's.
pub async fn secret(cluster: &Cluster, name: &str) -> Result<Option<Secret>, Error> {
    secrets(cluster).get_opt(name).await.map_err(|error| api_error(&format!("read Secret {name}"), &error))
}

/// Hands a Secret over; gives who writes it now.
///
/// # Errors
/// Why it stays with the ExternalSecret: what is not ready, what would differ. The API server's.
pub async fn run(
    cluster: &Cluster,
    plan: &HandOver,
    migration: &Migration,
    timeout: Duration,
) -> Result<String, Error> {
    let mut one = plan.clone();
    eprintln!("secret/{}: handing over to cjs/{} …", one.secret, one.conjur_secret_name());
    if one.stage == Stage::Announced {
        connect(cluster, &one, migration, timeout).await?;
        record::write(cluster, &one).await?;
        let compared = compare(cluster, &one, timeout).await;
        if let Err(error) = compared {
            // Nothing was touched: nothing is left to be taken back.
            record::remove(cluster, &one).await?;
            return Err(error);
        }
        one.stage = Stage::Compared;
        record::write(cluster, &one).await?;
    }
    let seen = secret(cluster, &one.secret).await?;
    let seen = seen.ok_or_else(|| Error::new(format!("Secret {} is gone", one.secret)))?;
    if seen.metadata.uid.as_deref() != Some(&one.secret_uid) {
        return Err(Error::new(format!("Secret {} is another than the one that was compared", one.secret)));
    }
    let adopt = json!({ "metadata": { "annotations": { ADOPT_ANNOTATION: format!("ConjurSecret/{}", one.conjur_secret_name()) } } });
    patch_secret(cluster, &one.secret, &adopt).await?;
    let_go(cluster, &one, timeout).await?;
    apply(cluster, Kind::Secret, &one.conjur_secret).await?;
    ready(cluster, Kind::Secret, one.conjur_secret_name(), timeout).await?;
    unmark(cluster, &one.secret).await?;
    one.stage = Stage::Done;
    record::write(cluster, &one).await?;
    Ok(format!("cjs/{}", one.conjur_secret_name()))
}

/// Applies the connection that the ConjurSecret needs, and waits for it.
async fn connect(
    cluster: &Cluster,
    one: &HandOver,
    migration: &Migration,
    timeout: Duration,
) -> Result<(), Error> {
    let named = &one.conjur_secret["spec"]["connectionRef"];
    let name = named["name"].as_str().unwrap_or_default();
    let kind = if named["kind"] == Kind::ClusterConnection.name() {
        Kind::ClusterConnection
    } else {
        Kind::Connection
    };
    // One that is there already may be better than what was translated.
    if cluster.get(kind, name).await?.is_none() {
        let none = || {
            Error::new(format!("there is no {} {name}; make it, or name one with --connection", kind.name()))
        };
        let mut object = object(migration, kind, name).ok_or_else(none)?.clone();
        if kind == Kind::Connection {
            object["metadata"]["namespace"] = cluster.namespace.clone().into();
        }
        apply(cluster, kind, &object).await?;
    }
    ready(cluster, kind, name, timeout).await
}

/// Has the ConjurSecret make its data in another Secret, and compares it, key by key.
async fn compare(cluster: &Cluster, one: &HandOver, timeout: Duration) -> Result<(), Error> {
    let name = format!("{}-migration-trial", one.conjur_secret_name());
    let mut trial = one.conjur_secret.clone();
    trial["metadata"]["name"] = name.clone().into();
    trial["spec"]["target"]["name"] = name.clone().into();
    trial["spec"]["target"]["deletionPolicy"] = "Delete".into();
    trial["spec"].as_object_mut().map(|spec| spec.remove("rolloutRestart"));
    apply(cluster, Kind::Secret, &trial).await?;
    let made = async {
        ready(cluster, Kind::Secret, &name, timeout).await?;
        let (made, there) = (secret(cluster, &name).await?, secret(cluster, &one.secret).await?);
        match (made, there) {
            (Some(made), Some(there)) => same(&made, &there),
            _ => Err(Error::new(format!("Secret {} or its trial is gone", one.secret))),
        }
    }
    .await;
    let api = cluster.api(Kind::Secret, Some(&cluster.namespace));
    match api.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(api_error(&format!("delete cjs/{name}"), &error)),
        Ok(_) => {}
    }
    made
}

/// Whether two Secrets hold the same. No value is told.
fn same(made: &Secret, there: &Secret) -> Result<(), Error> {
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
    if wrong.is_empty() { Ok(()) } else { Err(Error::new(wrong.join("; "))) }
}

/// Deletes the ExternalSecret alone: first it is told to leave its Secret, then the garbage collector takes it out of the Secret's
/// owners before it goes.
async fn let_go(cluster: &Cluster, one: &HandOver, timeout: Duration) -> Result<(), Error> {
    let (api, name) = (external_api_of(cluster, one), one.external_secret_name());
    let failed = |what: &str, error: kube::Error| api_error(&format!("{what} ExternalSecret {name}"), &error);
    let left = async {
        loop {
            let Some(external) = api.get_opt(name).await.map_err(|error| failed("read", error))? else {
                return Ok(());
            };
            if external.data["spec"]["target"]["deletionPolicy"] == "Delete" {
                let retain = json!({ "spec": { "target": { "deletionPolicy": "Retain" } } });
                let params =
                    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
                api.patch(name, &params, &Patch::Merge(&retain))
                    .await
                    .map_err(|error| failed("change", error))?;
                continue;
            }
            if external.metadata.deletion_timestamp.is_none() {
                let params = DeleteParams {
                    propagation_policy: Some(PropagationPolicy::Orphan),
                    ..DeleteParams::default()
                };
                match api.delete(name, &params).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(failed("delete", error)),
                    Ok(_) => {}
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(timeout, left).await.unwrap_or_else(|_| {
        Err(Error::new(format!(
            "ExternalSecret {name} is still being deleted after {timeout:?}: see whether External Secrets Operator runs, then run this again"
        )))
    })
}

async fn apply(cluster: &Cluster, kind: Kind, object: &Value) -> Result<(), Error> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let params = PatchParams::apply(MANAGER).force();
    let applied =
        cluster.api(kind, Some(&cluster.namespace)).patch(name, &params, &Patch::Apply(object)).await;
    applied.map_err(|error| api_error(&format!("apply {}/{name}", kind.short()), &error))?;
    Ok(())
}

/// Waits until an object's newest spec is Ready.
///
/// # Errors
/// What it says where it is not in time; the API server's.
pub async fn ready(cluster: &Cluster, kind: Kind, name: &str, timeout: Duration) -> Result<(), Error> {
    let mut last = String::from("the operator has not looked at it");
    let is_ready = async {
        loop {
            if let Some(seen) = cluster.get(kind, name).await? {
                if done(&seen) {
                    return Ok(());
                }
                if let Some((_, reason, message)) = seen.condition("Ready") {
                    last = format!("{reason}: {message}");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(timeout, is_ready).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(format!("{}/{name} is not Ready after {timeout:?}: {last}", kind.short()))),
    }
}

fn done(seen: &Seen) -> bool {
    seen.is_ready() && seen.status()["observedGeneration"].as_i64() == seen.object.metadata.generation
}

/// Merges a change into a Secret's metadata.
///
/// # Errors
/// The API server's.
pub async fn patch_secret(cluster: &Cluster, name: &str, change: &Value) -> Result<(), Error> {
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patched = secrets(cluster).patch_metadata(name, &params, &Patch::Merge(change)).await;
    patched.map_err(|error| api_error(&format!("change Secret {name}"), &error))?;
    Ok(())
}

/// Takes the marks of External Secrets Operator off.
async fn unmark(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let Some(secret) = secret(cluster, name).await? else { return Ok(()) };
    let nulls = |all: Option<BTreeMap<String, String>>| {
        let marks = all.unwrap_or_default().into_keys().filter(|key| key.starts_with(ESO));
        marks.map(|key| (key, Value::Null)).collect::<serde_json::Map<_, _>>()
    };
    let (labels, annotations) = (nulls(secret.metadata.labels), nulls(secret.metadata.annotations));
    if labels.is_empty() && annotations.is_empty() {
        return Ok(());
    }
    patch_secret(cluster, name, &json!({ "metadata": { "labels": labels, "annotations": annotations } }))
        .await
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
        assert!(same(&there, &there).is_ok());
        let made = secret("kubernetes.io/tls", &[("a", "secret-3"), ("c", "secret-4")]);
        let told = same(&made, &there).unwrap_err().to_string();
        for text in ["lose the keys b", "gain the keys c", "values of a differ", "type would change"] {
            assert!(told.contains(text), "{told}");
        }
        assert!(!told.contains("secret-"), "{told}");
    }
}

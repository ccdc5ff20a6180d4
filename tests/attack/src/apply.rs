//! Objects of any kind, made and changed by hundreds.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use serde_json::{Value, json};

/// What is done to the API server at once.
const AT_ONCE: usize = 16;

/// The API of an object's kind, in its namespace where it has one.
pub fn api_of(client: &Client, object: &Value) -> Result<Api<DynamicObject>> {
    let types: TypeMeta = serde_json::from_value(object.clone()).context("an object without a kind")?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    })
}

/// The object's name.
pub fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Makes an object.
pub async fn make(client: &Client, object: &Value) -> Result<()> {
    let made: DynamicObject = serde_json::from_value(object.clone())?;
    let what = || format!("making {} {}", object["kind"], name_of(object));
    api_of(client, object)?.create(&PostParams::default(), &made).await.with_context(what)?;
    Ok(())
}

/// Makes all of them, many at once; how many the API server took, and the first refusal.
pub async fn make_all(client: &Client, objects: &[Value]) -> (usize, Option<anyhow::Error>) {
    let made: Vec<Result<()>> =
        stream::iter(objects).map(|object| make(client, object)).buffer_unordered(AT_ONCE).collect().await;
    let taken = made.iter().filter(|made| made.is_ok()).count();
    (taken, made.into_iter().find_map(Result::err))
}

/// Changes an object by a merge patch.
pub async fn change(client: &Client, object: &Value, change: &Value) -> Result<()> {
    let (api, patch) = (api_of(client, object)?, Patch::Merge(change));
    api.patch_metadata(name_of(object), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Changes an object's status by a merge patch.
pub async fn change_status(client: &Client, object: &Value, change: &Value) -> Result<()> {
    let (api, patch) = (api_of(client, object)?, Patch::Merge(change));
    api.patch_status(name_of(object), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Removes an object.
pub async fn remove(client: &Client, object: &Value) -> Result<()> {
    api_of(client, object)?.delete(name_of(object), &DeleteParams::default()).await?;
    Ok(())
}

/// A namespace with a label `role`.
pub fn namespace(name: &str, role: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { "role": role } } })
}

/// An object of the operator's group.
pub fn ours(kind: &str, namespace: &str, name: &str, spec: impl Into<Value>) -> Value {
    json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": namespace }, "spec": spec.into(),
    })
}

/// A ConfigMap.
pub fn config_map(namespace: &str, name: &str, key: &str, text: impl Into<String>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": namespace },
        "data": { key: text.into() },
    })
}

/// A Secret.
pub fn secret(namespace: &str, name: &str, data: impl Into<Value>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace }, "stringData": data.into(),
    })
}

//! What is written down of a hand-over, in a ConfigMap beside the Secret: it goes on after a crash by this, and back.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error,
    cluster::{Cluster, api_error},
    commands::waiting::MANAGER,
};

const LABEL: &str = "conjur-operator.io/migration";
const KEY: &str = "hand-over.json";

/// How far a hand-over is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It is written down, and nothing else was done.
    Announced,
    /// The ConjurSecret made the same data elsewhere.
    Compared,
    /// It is done.
    Done,
}

/// A hand-over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandOver {
    pub stage: Stage,
    /// The Secret, which stays the same object.
    pub secret: String,
    pub secret_uid: String,
    /// Manifests, as they are applied or made again.
    pub external_secret: Value,
    pub conjur_secret: Value,
}

impl HandOver {
    pub fn conjur_secret_name(&self) -> &str {
        self.conjur_secret["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub fn external_secret_name(&self) -> &str {
        self.external_secret["metadata"]["name"].as_str().unwrap_or_default()
    }
}

fn api(cluster: &Cluster) -> Api<ConfigMap> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

fn name_of(secret: &str) -> String {
    format!("conjur-migration.{secret}")
}

/// All that are written down in the namespace.
///
/// # Errors
/// The API server's.
pub async fn all(cluster: &Cluster) -> Result<Vec<HandOver>, Error> {
    let found = api(cluster).list(&ListParams::default().labels(&format!("{LABEL}=true"))).await;
    let found = found.map_err(|error| api_error("list the ConfigMaps of hand-overs", &error))?;
    let mut all = Vec::new();
    for map in found.items {
        let name = map.metadata.name.clone().unwrap_or_default();
        let text = map.data.unwrap_or_default().remove(KEY).unwrap_or_default();
        let one = serde_json::from_str(&text)
            .map_err(|error| Error::new(format!("ConfigMap {name} holds no hand-over: {error}")))?;
        all.push(one);
    }
    Ok(all)
}

/// Writes one down.
///
/// # Errors
/// The API server's.
pub async fn write(cluster: &Cluster, one: &HandOver) -> Result<(), Error> {
    let text = serde_json::to_string(one).map_err(|error| Error::new(error.to_string()))?;
    let name = name_of(&one.secret);
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        labels: Some(BTreeMap::from([(LABEL.to_owned(), "true".to_owned())])),
        ..ObjectMeta::default()
    };
    let map =
        ConfigMap { metadata, data: Some(BTreeMap::from([(KEY.to_owned(), text)])), ..ConfigMap::default() };
    let params = PatchParams::apply(MANAGER).force();
    let written = api(cluster).patch(&name, &params, &Patch::Apply(&map)).await;
    written.map_err(|error| api_error(&format!("write ConfigMap {name}"), &error))?;
    Ok(())
}

/// Removes what is written down.
///
/// # Errors
/// The API server's.
pub async fn remove(cluster: &Cluster, one: &HandOver) -> Result<(), Error> {
    let name = name_of(&one.secret);
    match api(cluster).delete(&name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(api_error(&format!("delete ConfigMap {name}"), &error)),
    }
}

//! What commands share that write and wait: an annotation that asks, the field of a status that says it was done, and under which
//! name it is written.

use std::time::Duration;

use anstream::eprintln;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;

use crate::{
    Error,
    cluster::{Cluster, Seen, api_error},
};

/// Who writes what this program writes.
pub const MANAGER: &str = "kubectl-conjur";

/// How often what no watch shows is looked at.
pub const LOOK: Duration = Duration::from_millis(500);

/// Of a merge patch.
pub fn merging() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// Of what is made or replaced.
pub fn posting() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

/// A text that no object has handled yet.
pub fn new_text() -> String {
    Timestamp::now().to_string()
}

/// Changes an object.
///
/// # Errors
/// The API server's.
pub async fn patch(cluster: &Cluster, seen: &Seen, change: serde_json::Value) -> Result<(), Error> {
    let api = cluster.api(seen.kind, Some(seen.namespace()).filter(|namespace| !namespace.is_empty()));
    let what = format!("change {}", seen.short_name());
    api.patch(seen.name(), &merging(), &Patch::Merge(change))
        .await
        .map_err(|error| api_error(&what, &error))?;
    Ok(())
}

/// Sets an annotation.
///
/// # Errors
/// The API server's.
pub async fn annotate(cluster: &Cluster, seen: &Seen, annotation: &str, text: &str) -> Result<(), Error> {
    patch(cluster, seen, json!({ "metadata": { "annotations": { annotation: text } } })).await
}

/// Waits until a field of the status has a text, and gives the object as it is then; none where it took too long. Says after
/// a second what is waited for.
///
/// # Errors
/// That the object went.
pub async fn until_handled(
    cluster: &Cluster,
    seen: &Seen,
    field: &str,
    text: &str,
    timeout: Duration,
) -> Result<Option<Seen>, Error> {
    let api = cluster.api(seen.kind, Some(seen.namespace()));
    let config = watcher::Config::default().fields(&format!("metadata.name={}", seen.name()));
    let mut changes = watcher(api, config).default_backoff().boxed();
    let wait = async {
        while let Some(event) = changes.next().await {
            let object = match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => object,
                Ok(watcher::Event::Delete(_)) => {
                    return Err(Error::new(format!("{} was deleted meanwhile", seen.short_name())));
                }
                // A watch that breaks is begun anew.
                Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => continue,
            };
            let now = Seen { kind: seen.kind, object };
            if now.status()[field] == text {
                return Ok(Some(now));
            }
        }
        Ok(None)
    };
    let told = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        eprintln!("Waiting for {} …", seen.short_name());
        tokio::time::sleep(timeout.saturating_sub(Duration::from_secs(1))).await;
    };
    tokio::select! {
        done = wait => done,
        () = told => Ok(None),
    }
}

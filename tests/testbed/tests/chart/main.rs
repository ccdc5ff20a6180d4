//! The chart, rendered and installed by Helm on a real API server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod install;
mod monitoring;
mod openshift;
mod refused;
mod rights;
mod sets;

use serde_json::Value;
use testbed::{ControlPlane, Result, repository};

fn chart_folder() -> String {
    repository().join("charts/conjur-operator").display().to_string()
}

/// What `helm template` renders with some values, and further arguments.
async fn render(cluster: &ControlPlane, values: &Value, more: &[&str]) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), values.to_string())?;
    let (folder, path) = (chart_folder(), file.path().display().to_string());
    let mut args =
        vec!["template", "conjur-operator", &folder, "--namespace", "conjur-system", "--values", &path];
    args.extend(more);
    cluster.helm(&args).await
}

/// The objects of a text of YAML whose kinds the API server knows.
async fn objects(cluster: &ControlPlane, yaml: &str) -> Vec<Value> {
    let args = ["create", "--dry-run=client", "-o", "json", "-f", "-"];
    let json = cluster.kubectl_with(&args, yaml).await.unwrap();
    serde_json::Deserializer::from_str(&json).into_iter::<Value>().map(|one| one.unwrap()).collect()
}

/// The one object of a kind.
fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let (one, other) = (found.next(), found.next());
    assert!(one.is_some() && other.is_none(), "not one {kind} in {objects:#?}");
    one.unwrap()
}

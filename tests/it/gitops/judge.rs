//! An object's verdicts beside those that its phase is to have.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;

use super::{kstatus, lua, phase::Phase};

/// The folder with the files for Argo CD, in the layout of its `resource_customizations`.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("gitops/argocd/conjur-operator.io")
}

/// The script of each kind that says an object's health.
pub fn health_scripts() -> BTreeMap<String, String> {
    let kinds = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    kinds
        .map(|kind| {
            let script = fs::read_to_string(kind.path().join("health.lua")).unwrap();
            (kind.file_name().into_string().unwrap(), script)
        })
        .collect()
}

/// Judges an object as Flux and Argo CD do.
///
/// # Errors
/// What is wrong with a verdict, or with the object.
pub fn judge(object: &Value, scripts: &BTreeMap<String, String>) -> Result<Phase, String> {
    let kind = object["kind"].as_str().ok_or("it has no kind")?;
    let script = scripts.get(kind).ok_or_else(|| format!("Argo CD has no script for {kind}"))?;
    let phase = Phase::of(object)?;
    let row = phase.row();
    let verdict = kstatus::compute(object);
    if verdict != row.kstatus {
        return Err(format!("{phase:?}: kstatus says {verdict:?}, and not {:?}", row.kstatus));
    }
    let health = lua::run(script, object).map_err(|error| format!("{phase:?}: {error}"))?;
    if health["status"] != row.argo_cd {
        return Err(format!("{phase:?}: Argo CD says {health}, and not {}", row.argo_cd));
    }
    let message = health["message"].as_str().unwrap_or_default();
    let reasons = object["status"]["conditions"].as_array().into_iter().flatten();
    let mut reasons = reasons.filter_map(|condition| condition["reason"].as_str());
    let tells = match phase {
        Phase::New | Phase::Behind | Phase::Deleting => !message.is_empty(),
        _ => reasons.any(|reason| message.starts_with(&format!("{reason}: "))),
    };
    if tells { Ok(phase) } else { Err(format!("{phase:?}: Argo CD says nothing of use: {health}")) }
}

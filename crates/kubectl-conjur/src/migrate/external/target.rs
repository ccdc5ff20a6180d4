//! `target`: the Secret.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{data::Data, reading::Reading, templates};
use crate::migrate::{fields::Fields, metadata, metadata::Metadata, migration::Mode};

/// The Secret that is written.
pub struct Target {
    /// `target` of the ConjurSecret; none where all is as by default.
    pub spec: Option<Value>,
    /// Its name.
    pub name: String,
    /// Its type.
    pub secret_type: String,
    /// How it is written.
    pub mode: Mode,
    /// Its keys, where a template says them.
    pub keys: Option<BTreeSet<String>>,
    /// It never changes.
    pub immutable: bool,
    /// Its controller is the ExternalSecret.
    pub owns: bool,
}

/// Types that the operator never writes.
const MINTING: [&str; 2] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"];

/// Reads `target`.
pub fn translate(spec: &Fields, data: &Data, reading: &mut Reading) -> Target {
    let target = spec.inner("target").unwrap_or_else(|| Fields::of("spec.target", None));
    let own_name = reading.object.name();
    let name = target.text("name").unwrap_or(own_name).to_owned();
    let mut made = Map::new();
    if name != own_name {
        made.insert("name".into(), json!(name));
    }
    let creation = target.text("creationPolicy").unwrap_or("Owner");
    let how = creation_policy(creation, &target, &mut made, reading);
    deletion_policy(&target, data, reading);
    refuse_manifest(&target, reading);
    let template = target.inner("template");
    let secret_type =
        template.as_ref().and_then(|template| template.text("type")).unwrap_or("Opaque").to_owned();
    put_type(&secret_type, how, template.as_ref(), &mut made, reading);
    let mut keys = None;
    let wanted = match &template {
        Some(template) => {
            let rendered = templates::translate(template, data, reading);
            if let Some(rendered) = rendered {
                keys = rendered.keys;
                made.insert("template".into(), rendered.spec);
            }
            templates::metadata(template, reading)
        }
        None => Metadata::of(reading.object.value),
    };
    for (field, map) in [("labels", wanted.labels), ("annotations", wanted.annotations)] {
        let at = if template.is_some() {
            format!("spec.target.template.metadata.{field}")
        } else {
            format!("metadata.{field}")
        };
        let map = metadata::of_target(&at, map, &mut reading.notes);
        if !map.is_empty() {
            made.insert(field.into(), json!(map));
        }
    }
    let immutable = target.flag("immutable") == Some(true);
    if immutable && how == Mode::Merge {
        let what = "a Secret that is merged into is not made immutable";
        reading.notes.differs(target.path("immutable"), what, "");
    } else if immutable {
        made.insert("immutable".into(), json!(true));
    }
    target.rest(&mut reading.notes);
    if let Some(template) = &template {
        template.rest(&mut reading.notes);
    }
    Target {
        spec: (!made.is_empty()).then(|| made.into()),
        name,
        secret_type,
        mode: how,
        keys,
        immutable: immutable && how == Mode::Owner,
        owns: creation == "Owner",
    }
}

/// A ConjurSecret makes Secrets alone.
fn refuse_manifest(target: &Fields, reading: &mut Reading) {
    if let Some(manifest) = target.inner("manifest") {
        manifest.irrelevant(&["apiVersion", "kind"]);
        let what = "it makes an object of another kind, and a ConjurSecret makes a Secret";
        reading.notes.blocks(manifest.at(), what, "Have the workload read a Secret");
        manifest.rest(&mut reading.notes);
    }
}

fn creation_policy(
    policy: &str,
    target: &Fields,
    made: &mut Map<String, Value>,
    reading: &mut Reading,
) -> Mode {
    let at = target.path("creationPolicy");
    let mut merge = || {
        made.insert("creationPolicy".into(), json!("Merge"));
        made.insert("deletionPolicy".into(), json!("Retain"));
        Mode::Merge
    };
    match policy {
        "Owner" => Mode::Owner,
        "Orphan" => {
            made.insert("deletionPolicy".into(), json!("Retain"));
            Mode::Owner
        }
        "Merge" => merge(),
        "CreateOrMerge" => {
            let merged = merge();
            let what = "it becomes Merge: a Secret that is deleted is waited for, and not made";
            reading.notes.differs(at, what, "Use creationPolicy: Owner where no one else has keys in it");
            merged
        }
        "None" => {
            reading.notes.blocks(at, "it writes no Secret", "Delete it, if nothing else needs it");
            Mode::Owner
        }
        other => {
            let what = format!("the policy '{other}' is not known here");
            reading.notes.blocks(at, what, "Write another into spec.target.creationPolicy");
            Mode::Owner
        }
    }
}

/// What becomes of the Secret when the values go in Conjur. The provider takes a missing variable for a fault, whatever the
/// policy: as this operator does.
fn deletion_policy(target: &Fields, data: &Data, reading: &mut Reading) {
    let at = target.path("deletionPolicy");
    match target.text("deletionPolicy") {
        None | Some("Retain") => {}
        Some(policy @ ("Delete" | "Merge")) if data.finds => {
            let what = format!(
                "with {policy}, External Secrets Operator takes the Secret or its keys away when nothing is found any more; the operator leaves the Secret as it is then (NoKeys)"
            );
            reading.notes.differs(at, what, "");
        }
        Some(policy @ ("Delete" | "Merge")) => {
            let what = format!(
                "{policy} has no effect with Conjur: a missing variable is a fault, and the Secret stays as it is, there as here"
            );
            reading.notes.info(
                at,
                what,
                "Write optional: true into an entry of data to have its key left out then",
            );
        }
        Some(other) => {
            let what = format!(
                "the policy '{other}' is not known here; the Secret stays as it is when a variable is missing"
            );
            reading.notes.differs(at, what, "");
        }
    }
}

fn put_type(
    secret_type: &str,
    how: Mode,
    template: Option<&Fields>,
    made: &mut Map<String, Value>,
    reading: &mut Reading,
) {
    let at = template.map_or_else(String::new, |template| template.path("type"));
    if MINTING.contains(&secret_type) {
        let what = format!(
            "Secrets of the type {secret_type} mint or grant credentials of the cluster, and the operator writes none"
        );
        reading.notes.blocks(at, what, "");
    } else if how == Mode::Owner && secret_type != "Opaque" {
        made.insert("type".into(), json!(secret_type));
    } else if how == Mode::Merge && secret_type != "Opaque" {
        reading.notes.info(at, "a Secret that is merged into keeps the type that it has", "");
    }
}

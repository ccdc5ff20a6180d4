//! Files that the Secrets Provider writes for a Pod → a Secret that the Pod mounts.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    secrets::{entries, free_key, interval, note_base64, refuse_everything},
    specs,
    workload::Workload,
};
use crate::migrate::{
    connections::{Connections, Resolved, StoreKey, Uses, reference},
    external::{note_translation, secret as manifest, value_of},
    inventory::Inventory,
    metadata::Metadata,
    note::Notes,
    output::Output,
    template::{self, Names},
};

/// Annotations that say nothing about what is fetched: how it is asked for, logged and tried again, or what was read already.
const KNOWN: [&str; 16] = [
    "authn-identity",
    "jwt-token-path",
    "container-mode",
    "secrets-destination",
    "k8s-secrets",
    "retry-count-limit",
    "retry-interval-sec",
    "debug-logging",
    "log-level",
    "log-traces",
    "jaeger-collector-url",
    "secrets-refresh-interval",
    "secrets-refresh-enabled",
    "inject",
    "inject-type",
    "container-name",
];
/// Annotations of a group.
const OF_GROUP: [&str; 6] = [
    "conjur-secrets.",
    "conjur-secrets-policy-path.",
    "secret-file-path.",
    "secret-file-format.",
    "secret-file-permissions.",
    "secret-file-template.",
];

/// Makes a ConjurSecret of each group of files.
pub fn translate(
    workload: &Workload,
    key: &StoreKey,
    inventory: &Inventory,
    connections: &mut Connections,
    output: &mut Output,
) {
    note_annotations(workload, output);
    if !workload.writes_files() {
        return;
    }
    let groups: Vec<_> = workload
        .annotations()
        .filter_map(|(name, list)| Some((name.strip_prefix("conjur-secrets.")?, list)))
        .collect();
    for (group, list) in groups {
        let mut notes = Notes::new(workload.object.source());
        let Resolved::Use(connection) = connections.resolve(key, "", &mut notes, output) else {
            output.note(notes);
            continue;
        };
        let field = format!("metadata.annotations.conjur.org/conjur-secrets.{group}");
        let file = File::of(workload, group);
        let Some(made) = file.contents(workload, group, list, inventory, &field, &mut notes) else {
            output.note(notes);
            continue;
        };
        let name = name(&format!("{}-{group}", workload.object.name()));
        let mut spec = json!({ "connectionRef": reference(&connection), "data": entries(&made.values) });
        if let Some(interval) = interval(workload, &mut notes) {
            spec["refreshInterval"] = json!(interval);
        }
        spec["target"] = json!({ "template": { "data": { file.name.clone(): made.text } } });
        file.note_mount(workload, &name, &field, &mut notes);
        let uses = Uses {
            read: made.values.values().map(|spec| spec.variable.clone()).collect(),
            ..Uses::default()
        };
        let metadata = Metadata::default().object(workload.object.namespace(), &name);
        if output.emit(notes, manifest(&metadata, &spec), None) {
            connections.used(key, workload.object.namespace(), uses);
        }
    }
}

/// A name that an object can have.
fn name(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(fit).collect::<String>().trim_matches('-').to_owned()
}

/// A file.
struct File {
    /// The directory below the volume; empty for the volume itself.
    directory: String,
    name: String,
    format: String,
}

/// What is in it.
struct Contents {
    values: BTreeMap<String, specs::Spec>,
    text: String,
}

impl File {
    fn of(workload: &Workload, group: &str) -> Self {
        let said = |name: &str| workload.annotation(&format!("{name}.{group}"));
        let format = said("secret-file-format").unwrap_or("yaml").to_owned();
        let default = format!("{group}.{}", if format == "template" { "out" } else { &format });
        let path = said("secret-file-path").unwrap_or(&default).trim_start_matches("./");
        let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
        let file = if file.is_empty() { default.clone() } else { file.to_owned() };
        Self { directory: directory.to_owned(), name: file, format }
    }

    fn contents(
        &self,
        workload: &Workload,
        group: &str,
        list: &str,
        inventory: &Inventory,
        field: &str,
        notes: &mut Notes,
    ) -> Option<Contents> {
        let prefix = workload.annotation(&format!("conjur-secrets-policy-path.{group}")).unwrap_or_default();
        let specs = match specs::list(list, prefix) {
            Ok(specs) => specs,
            Err(why) => {
                notes.blocks(field, why, "Correct it");
                return None;
            }
        };
        let (mut values, mut aliases) = (BTreeMap::new(), Vec::new());
        for spec in specs {
            if refuse_everything(&spec, field, notes) {
                return None;
            }
            note_base64(&spec, field, notes);
            let key = free_key(&mut values, group, &spec);
            aliases.push((spec.alias, key));
        }
        let text = if self.format == "template" {
            custom(workload, group, aliases, inventory, notes)?
        } else {
            self.standard(&aliases, group, notes)?
        };
        Some(Contents { values, text })
    }

    /// One of the formats that are built in: each value in double quotes.
    fn standard(&self, aliases: &[(String, String)], group: &str, notes: &mut Notes) -> Option<String> {
        let field = format!("metadata.annotations.conjur.org/secret-file-format.{group}");
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let (open, between, close) = if self.format == "json" { ("{", ",", "}") } else { ("", "\n", "") };
        let mut parts = vec![(false, open.to_owned())];
        for (n, (alias, key)) in aliases.iter().enumerate() {
            let before = match self.format.as_str() {
                "json" => format!("{}:", quoted(alias)),
                "yaml" => format!("{}: ", quoted(alias)),
                "dotenv" | "properties" => format!("{alias}="),
                "bash" => format!("export {alias}="),
                other => {
                    notes.blocks(field, format!("the format '{other}' is not known"), "Write a template");
                    return None;
                }
            };
            parts.push((false, format!("{}{before}", if n == 0 { "" } else { between })));
            parts.push((true, format!("{} | tojson", template::key(key))));
        }
        parts.push((false, close.to_owned()));
        let what = "quotes are those of JSON: the same for all that can be printed and for \\n, \\r and \\t; other control \
                    characters are written as \\u…";
        notes.differs(field, what, "");
        Some(template::compose(&parts))
    }

    /// What the Pod has to do about it.
    fn note_mount(&self, workload: &Workload, secret: &str, field: &str, notes: &mut Notes) {
        let volume = if self.directory.is_empty() {
            "where the volume of the Secrets Provider is mounted".to_owned()
        } else {
            format!("below {} where the volume of the Secrets Provider is mounted", self.directory)
        };
        let what = format!(
            "the file {} becomes a key of the Secret {secret}, which the Pods of {} have to mount",
            self.name,
            workload.reference()
        );
        let todo = format!(
            "Mount the Secret {secret} {volume}, and take the container of the Secrets Provider and its volumes out"
        );
        notes.differs(field, what, todo);
        let group = field.rsplit("conjur-secrets.").next().unwrap_or_default();
        if let Some(mode) = workload.annotation(&format!("secret-file-permissions.{group}")) {
            let what = format!("permissions are those of the volume ({mode} here)");
            notes.info(field, what, "Set defaultMode of the volume");
        }
        if interval(workload, notes).is_none() {
            let what = "the file was written once, before the Pod began; the operator brings it up to date once an hour";
            notes.info(field, what, "Set refreshPolicy: CreatedOnce to have it stay");
        }
    }
}

/// A template of the user's: in an annotation, or in a ConfigMap that is mounted.
fn custom(
    workload: &Workload,
    group: &str,
    aliases: Vec<(String, String)>,
    inventory: &Inventory,
    notes: &mut Notes,
) -> Option<String> {
    let annotation = format!("secret-file-template.{group}");
    let field = format!("metadata.annotations.conjur.org/{annotation}");
    let mounted = || {
        let namespace = workload.object.namespace();
        let mut maps =
            workload.mounted_maps().filter_map(|name| inventory.core("ConfigMap", namespace, name));
        maps.find_map(|map| value_of(map, &format!("{group}.tpl")))
    };
    let Some(text) = workload.annotation(&annotation).map(str::to_owned).or_else(mounted) else {
        let what = format!(
            "its template is in no annotation, and in no ConfigMap among the objects (key {group}.tpl)"
        );
        notes.blocks(field, what, "Add the ConfigMap to the objects");
        return None;
    };
    let translated = template::translate(&text, &Names::Aliases(aliases));
    note_translation(&translated, &field, notes);
    translated.text
}

/// Annotations of the Pods that are not known here.
fn note_annotations(workload: &Workload, output: &mut Output) {
    let mut notes = Notes::new(workload.object.source());
    for (name, value) in workload.annotations() {
        let field = format!("metadata.annotations.conjur.org/{name}");
        if name == "remove-deleted-secrets-enabled" {
            if value != "false" {
                let what = "a variable that is gone leaves the Secret as it is; the Secrets Provider empties its keys";
                notes.differs(field, what, "");
            }
        } else if !KNOWN.contains(&name) && !OF_GROUP.iter().any(|prefix| name.starts_with(prefix)) {
            notes.differs(field, "it is not known here and is left out", "See what it does");
        }
    }
    output.note(notes);
}

//! Secrets that the Secrets Provider fills.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    SETTINGS, Users,
    specs::{self, Spec},
    workload::Workload,
};
use crate::migrate::{
    connections::{Connections, Resolved, StoreKey, Uses, reference},
    external::{note_translation, secret as manifest, value_of},
    inventory::{Inventory, Object},
    metadata::Metadata,
    migration::{Former, Mode, Takeover},
    note::Notes,
    output::Output,
    template::{self, Names},
};

/// The key of a Secret that says what goes into it.
const MAP: &str = "conjur-map";
const GROUP: &str = "conjur.org/conjur-secrets.";
const TEMPLATE: &str = "conjur.org/secret-file-template.";

/// Translates all of them.
pub fn translate(inventory: &Inventory, users: &Users, connections: &mut Connections, output: &mut Output) {
    for object in
        inventory.iter().filter(|object| object.group_version() == ("", "v1") && object.kind() == "Secret")
    {
        let annotations = object.value["metadata"]["annotations"].as_object();
        let is_annotated = annotations.is_some_and(|all| all.keys().any(|key| key.starts_with(GROUP)));
        if is_annotated || value_of(object, MAP).is_some() {
            one(object, users, connections, output);
        }
    }
}

fn one(object: Object, users: &Users, connections: &mut Connections, output: &mut Output) {
    let mut notes = Notes::new(object.source());
    let named: Vec<_> = users.workloads.iter().filter(|(workload, _)| fills(workload, object)).collect();
    let nobody = StoreKey {
        kind: SETTINGS.into(),
        namespace: object.namespace().map(str::to_owned),
        name: String::new(),
    };
    let key = named.first().map(|(_, key)| key).or_else(|| users.only(object.namespace())).unwrap_or(&nobody);
    let Resolved::Use(connection) = connections.resolve(key, "", &mut notes, output) else {
        return output.note(notes);
    };
    let mut filled = Filled::default();
    map(object, &mut filled, &mut notes);
    groups(object, &mut filled, &mut notes);
    note_annotations(object, &mut notes);
    let mut made = json!({ "connectionRef": reference(&connection) });
    if let Some(interval) = named.iter().find_map(|(workload, _)| interval(workload, &mut notes)) {
        made["refreshInterval"] = json!(interval);
    }
    let how = filled.target(object, &mut made, &mut notes);
    made["data"] = json!(filled.entries());
    let workloads: Vec<_> = named.iter().map(|(workload, _)| workload.reference()).collect();
    let (who, what) = if workloads.is_empty() {
        ("the Secrets Provider".to_owned(), "it")
    } else {
        (format!("the container of the Secrets Provider in {}", workloads.join(", ")), "that")
    };
    notes.info(
        "",
        format!("{who} fills it, and the operator does when {what} is gone"),
        "Take it out of the Pods",
    );
    let takeover = Takeover {
        namespace: object.namespace().map(str::to_owned),
        secret: object.name().to_owned(),
        conjur_secret: object.name().to_owned(),
        mode: how,
        expected_keys: Some(filled.keys()),
        expected_type: (how == Mode::Owner)
            .then(|| object.value["type"].as_str().unwrap_or("Opaque").to_owned()),
        from: Former::SecretsProvider { workloads },
    };
    let metadata = Metadata { annotations: BTreeMap::new(), ..Metadata::of(object.value) };
    let manifest = manifest(&metadata.object(object.namespace(), object.name()), &made);
    let reads =
        Uses { read: filled.values.values().map(|spec| spec.variable.clone()).collect(), ..Uses::default() };
    if output.emit(notes, manifest, Some(takeover)) {
        connections.used(key, object.namespace(), reads);
    }
}

/// Whether a workload has the Secrets Provider fill a Secret: it names it, or takes those with the label.
fn fills(workload: &Workload, secret: Object) -> bool {
    if workload.object.namespace() != secret.namespace() || workload.writes_files() {
        return false;
    }
    let names = workload.secrets();
    let is_labelled = secret.value["metadata"]["labels"]["conjur.org/managed-by-provider"] == "true";
    if names.is_empty() { is_labelled } else { names.iter().any(|name| name == secret.name()) }
}

/// How often the values are fetched again, where a workload says so.
pub fn interval(workload: &Workload, notes: &mut Notes) -> Option<String> {
    let text = workload.annotation("secrets-refresh-interval");
    let is_on = workload.annotation("secrets-refresh-enabled") == Some("true");
    let text = text.or(is_on.then_some("5m"))?;
    let parsed = conjur_operator_api::GoDuration::parse(text).ok();
    match parsed {
        Some(duration) if duration.get().as_secs() >= 10 => Some(text.to_owned()),
        Some(_) => {
            notes.differs("", format!("{text} becomes 10s, the least that the operator takes"), "");
            Some("10s".to_owned())
        }
        None => {
            notes.differs("", format!("'{text}' is no duration; the interval becomes 1h, the default"), "");
            None
        }
    }
}

/// What a Secret is filled with.
#[derive(Default)]
struct Filled {
    /// By the key that the value has in `data`.
    values: BTreeMap<String, Spec>,
    /// The keys of the Secret that are plain values.
    plain: BTreeSet<String>,
    /// The keys that are templates.
    templates: BTreeMap<String, String>,
}

impl Filled {
    fn keys(&self) -> BTreeSet<String> {
        self.plain.iter().chain(self.templates.keys()).cloned().collect()
    }

    fn entries(&self) -> Vec<Value> {
        entries(&self.values)
    }

    /// How the Secret is written, and what it is like.
    fn target(&self, object: Object, made: &mut Value, notes: &mut Notes) -> Mode {
        let keys = self.keys();
        let of =
            |field: &str| object.value[field].as_object().into_iter().flatten().map(|(key, _)| key.clone());
        let others: Vec<_> =
            of("data").chain(of("stringData")).filter(|key| key != MAP && !keys.contains(key)).collect();
        let mut target = Map::new();
        target.insert("deletionPolicy".into(), json!("Retain"));
        let how = if others.is_empty() { Mode::Owner } else { Mode::Merge };
        if how == Mode::Merge {
            target.insert("creationPolicy".into(), json!("Merge"));
            let what = format!(
                "the Secret has keys that do not come from Conjur ({}); the ConjurSecret merges its own beside them, and {MAP} stays",
                others.join(", ")
            );
            notes.info(
                "data",
                what,
                "Keep the Secret where it comes from, without the keys of the ConjurSecret",
            );
        } else {
            if let Some(of) = object.value["type"].as_str().filter(|of| *of != "Opaque") {
                target.insert("type".into(), json!(of));
            }
            let metadata = Metadata::of(object.value);
            let labels = crate::migrate::metadata::of_target("metadata.labels", metadata.labels, notes);
            for (field, map) in [("labels", labels), ("annotations", metadata.annotations)] {
                if !map.is_empty() {
                    target.insert(field.into(), json!(map));
                }
            }
            let what = format!("the Secret is the operator's from then on: its key {MAP} goes");
            notes.info(
                "data",
                what,
                "Take the Secret out of what deploys it (Helm, GitOps), so that nothing puts it back",
            );
        }
        if object.value["immutable"] == true {
            notes.differs("immutable", "it is not made immutable", "");
        }
        if !self.templates.is_empty() {
            let plain = self.plain.iter().map(|key| (key.clone(), template::of_key(key)));
            let all: BTreeMap<_, _> = self.templates.clone().into_iter().chain(plain).collect();
            target.insert("template".into(), json!({ "data": all }));
        }
        made["target"] = target.into();
        how
    }
}

/// Entries of `data` for values by their keys.
pub fn entries(values: &BTreeMap<String, Spec>) -> Vec<Value> {
    let entry = |(key, spec): (&String, &Spec)| {
        let mut entry = json!({ "key": key, "variable": spec.variable });
        if spec.base64 {
            entry["decode"] = json!("Base64");
        }
        entry
    };
    values.iter().map(entry).collect()
}

fn map(object: Object, filled: &mut Filled, notes: &mut Notes) {
    let Some(text) = value_of(object, MAP) else { return };
    let field = format!("stringData.{MAP}");
    match specs::map(&text) {
        Ok(specs) => {
            for spec in specs {
                if refuse_everything(&spec, &field, notes) {
                    continue;
                }
                note_base64(&spec, &field, notes);
                filled.plain.insert(spec.alias.clone());
                filled.values.insert(spec.alias.clone(), spec);
            }
        }
        Err(why) => notes.blocks(field, why, "Correct it"),
    }
}

/// Whether a spec stands for everything, which is noted.
pub fn refuse_everything(spec: &Spec, field: &str, notes: &mut Notes) -> bool {
    if spec.is_everything() {
        let what =
            "it takes all that the identity may read, by keys with '.' for '/', which no rule here makes";
        notes.blocks(field, what, "Name the variables, or use dataFrom.find, whose keys have '_' for '/', and change what reads them");
    }
    spec.is_everything()
}

/// Notes what is not the same for base64.
pub fn note_base64(spec: &Spec, field: &str, notes: &mut Notes) {
    if spec.base64 {
        notes.info(
            field,
            "a value that is not base64 is an error here; the Secrets Provider takes it as it is",
            "",
        );
    }
}

/// Each annotated group makes a key of its own, by its template.
fn groups(object: Object, filled: &mut Filled, notes: &mut Notes) {
    let annotations = object.value["metadata"]["annotations"].as_object().into_iter().flatten();
    for (name, list) in
        annotations.filter_map(|(key, value)| Some((key.strip_prefix(GROUP)?, value.as_str()?)))
    {
        let field = format!("metadata.annotations.{GROUP}{name}");
        let Some(text) = object.annotation(&format!("{TEMPLATE}{name}")) else {
            notes.info(
                &field,
                "the Secrets Provider passes over a group without a template: it is left out",
                "",
            );
            continue;
        };
        let specs = match specs::list(list, "") {
            Ok(specs) => specs,
            Err(why) => {
                notes.blocks(field, why, "Correct it");
                continue;
            }
        };
        let mut aliases = Vec::new();
        for spec in specs {
            if refuse_everything(&spec, &field, notes) {
                continue;
            }
            note_base64(&spec, &field, notes);
            let key = free_key(&mut filled.values, name, &spec);
            aliases.push((spec.alias, key));
        }
        let translated = template::translate(text, &Names::Aliases(aliases));
        note_translation(&translated, &format!("metadata.annotations.{TEMPLATE}{name}"), notes);
        if let Some(text) = translated.text {
            filled.templates.insert(name.to_owned(), text);
        }
    }
}

/// A key of `data` for a value: its alias, or, where that is another's or can't be one, with the group in front.
pub fn free_key(values: &mut BTreeMap<String, Spec>, group: &str, spec: &Spec) -> String {
    let fit = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' }).collect()
    };
    let same = |other: &Spec| other.variable == spec.variable && other.base64 == spec.base64;
    let wanted = [fit(&spec.alias), format!("{}.{}", fit(group), fit(&spec.alias))];
    let numbered = (2..).map(|n| format!("{}.{}.{n}", fit(group), fit(&spec.alias)));
    let free = |key: &String| conjur_operator_api::names::is_key(key) && values.get(key).is_none_or(same);
    let key = wanted.into_iter().chain(numbered.take(999)).find(free).unwrap_or_default();
    values.insert(key.clone(), spec.clone());
    key
}

/// Annotations of the Secrets Provider that are not known here.
fn note_annotations(object: Object, notes: &mut Notes) {
    let annotations = object.value["metadata"]["annotations"].as_object().into_iter().flatten();
    for (key, _) in annotations.filter(|(key, _)| key.starts_with("conjur.org/")) {
        if !key.starts_with(GROUP) && !key.starts_with(TEMPLATE) {
            notes.differs(
                format!("metadata.annotations.{key}"),
                "it is not known here and is left out",
                "See what it does",
            );
        }
    }
}

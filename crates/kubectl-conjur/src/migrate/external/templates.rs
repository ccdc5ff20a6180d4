//! `target.template`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{data::Data, reading::Reading};
use crate::migrate::{
    base64,
    fields::Fields,
    inventory::Object,
    metadata::Metadata,
    note::Notes,
    template::{self, Names},
};

/// The templates of a ConjurSecret.
pub struct Rendered {
    /// `template`.
    pub spec: Value,
    /// The keys that they make, where they are known.
    pub keys: Option<BTreeSet<String>>,
}

/// Templates so far.
#[derive(Default)]
struct Made {
    data: BTreeMap<String, String>,
    from: Vec<Value>,
    keys: BTreeSet<String>,
}

/// Reads a template; none where the Secret has the plain keys.
pub fn translate(of: &Fields, data: &Data, reading: &mut Reading) -> Option<Rendered> {
    if of.text("engineVersion").is_some_and(|version| version != "v2") {
        let what = "templates of the engine v1 see values as bytes and have functions of their own";
        reading.notes.blocks(
            of.path("engineVersion"),
            what,
            "Write them for the engine v2 first, or by hand for the operator",
        );
    }
    let names = Names::Keys { known: data.named(), open: !data.sources.is_empty() };
    let mut made = Made::default();
    for source in of.items("templateFrom") {
        from(&source, &names, &mut made, reading);
        source.rest(&mut reading.notes);
    }
    let at = of.path("data");
    for (key, text) in of.map("data") {
        // They count more than those of templateFrom.
        made.from.retain(|source| source["targetKey"].as_str().or(source["key"].as_str()) != Some(key));
        made.keys.insert(key.to_owned());
        if let Some(text) = checked(text, &names, &format!("{at}.{key}"), &mut reading.notes) {
            made.data.insert(key.to_owned(), text);
        }
    }
    let policy = of.text("mergePolicy").unwrap_or("Replace");
    if made.keys.is_empty() {
        return None;
    }
    if policy == "Merge" {
        merge(&mut made, data, of, reading);
    }
    let mut spec = json!({});
    if !made.data.is_empty() {
        spec["data"] = json!(made.data);
    }
    if !made.from.is_empty() {
        spec["dataFrom"] = json!(made.from);
    }
    Some(Rendered { spec, keys: Some(made.keys) })
}

/// The plain keys stay beside those of the templates: each becomes a template of itself.
fn merge(made: &mut Made, data: &Data, of: &Fields, reading: &mut Reading) {
    if !data.sources.is_empty() {
        let what = "templates replace the plain keys here, and those of dataFrom can't be named one by one";
        reading.notes.blocks(
            of.path("mergePolicy"),
            what,
            "Name the keys in data, or make a second Secret of the templates",
        );
    }
    for key in data.named() {
        if made.keys.insert(key.clone()) {
            made.data.insert(key.clone(), template::of_key(&key));
        }
    }
}

/// A template that the operator renders to the same bytes; what is not so is noted.
fn checked(text: &str, names: &Names, field: &str, notes: &mut Notes) -> Option<String> {
    let translated = template::translate(text, names);
    note(&translated, field, notes);
    translated.text
}

/// Notes what a translation found.
pub fn note(translated: &template::Translated, field: &str, notes: &mut Notes) {
    let place = |finding: &template::Finding| {
        format!("line {}, column {}: {}", finding.place.0, finding.place.1, finding.what)
    };
    for finding in &translated.blocks {
        notes.blocks(field, place(finding), finding.todo.clone());
    }
    for finding in &translated.differs {
        notes.differs(field, place(finding), finding.todo.clone());
    }
}

/// One of `templateFrom`.
fn from(source: &Fields, names: &Names, made: &mut Made, reading: &mut Reading) {
    let target = source.text("target").unwrap_or("Data");
    if !target.eq_ignore_ascii_case("data") {
        let what = format!("{target} of the Secret are fixed texts here, and these are left out");
        reading.notes.differs(
            source.at(),
            what,
            "Write them into spec.target.labels or annotations where they never change",
        );
        source.irrelevant(&["configMap", "secret", "literal"]);
        return;
    }
    if source.text("literal").is_some() {
        let what = "a template makes the value of one key here, and not keys and values";
        reading.notes.blocks(source.path("literal"), what, "Write a template for each key");
    }
    for (field, kind) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        let Some(reference) = source.inner(field) else { continue };
        let name = reference.text("name").unwrap_or_default();
        for item in reference.items("items") {
            one(kind, name, &item, names, made, reading);
            item.rest(&mut reading.notes);
        }
        reference.rest(&mut reading.notes);
    }
}

fn one(kind: &str, name: &str, item: &Fields, names: &Names, made: &mut Made, reading: &mut Reading) {
    let key = item.text("key").unwrap_or_default();
    if item.text("templateAs").is_some_and(|scope| scope != "Values") {
        let what = "a template makes the value of one key here, and not keys and values";
        reading.notes.blocks(item.path("templateAs"), what, "Write a template for each key");
        return;
    }
    made.keys.insert(key.to_owned());
    let found = reading.inventory.core(kind, reading.object.namespace(), name);
    let Some(text) = found.and_then(|found| value_of(found, key)) else {
        let what = format!(
            "the {kind} {name} with the key {key} is not among the objects, so that its template can't be read"
        );
        reading.notes.blocks(item.at(), what, format!("Add the {kind} to the objects"));
        return;
    };
    if template::is_plain(&text) {
        made.data.remove(key);
        made.from.push(json!({ "kind": kind, "name": name, "key": key }));
    } else if kind == "Secret" {
        let what = format!(
            "the template in the Secret {name} is not one of the operator, and its text does not belong into a manifest"
        );
        let todo =
            "Write it into another Secret for the operator, and name that in spec.target.template.dataFrom";
        reading.notes.blocks(item.at(), what, todo);
    } else if let Some(translated) = checked(&text, names, item.at(), &mut reading.notes) {
        let what = format!(
            "the template of the ConfigMap {name} stands in the ConjurSecret, translated: the ConfigMap is not read any more"
        );
        reading.notes.differs(
            item.at(),
            what,
            "Change it in the ConjurSecret, or put it into a ConfigMap of its own and name that in dataFrom",
        );
        made.data.insert(key.to_owned(), translated);
    }
}

/// The text under a key of a ConfigMap or Secret.
pub fn value_of(object: Object, key: &str) -> Option<String> {
    let plain = |field: &str| object.value[field][key].as_str().map(str::to_owned);
    if object.kind() == "Secret" {
        return plain("stringData").or_else(|| base64::decode_text(object.value["data"][key].as_str()?));
    }
    plain("data").or_else(|| base64::decode_text(object.value["binaryData"][key].as_str()?))
}

/// Labels and annotations that the template names.
pub fn metadata(of: &Fields, reading: &mut Reading) -> Metadata {
    let mut made = Metadata::default();
    let Some(metadata) = of.inner("metadata") else { return made };
    for (field, map) in [("labels", &mut made.labels), ("annotations", &mut made.annotations)] {
        let at = metadata.path(field);
        for (key, value) in metadata.map(field) {
            if value.contains("{{") {
                let what = format!(
                    "the value of {key} is a template, and {field} of the Secret are fixed texts here; it is left out"
                );
                reading.notes.differs(
                    &at,
                    what,
                    format!("Write it into spec.target.{field} where it never changes"),
                );
            } else {
                map.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    if !metadata.list("finalizers").is_empty() {
        reading.notes.differs(metadata.path("finalizers"), "the operator puts no finalizers on Secrets", "");
    }
    metadata.rest(&mut reading.notes);
    made
}

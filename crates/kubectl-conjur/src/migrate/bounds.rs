//! What the schema of this API refuses, told before anything is applied.

use serde_json::Value;

use conjur_operator_api::names;

use super::note::Notes;

/// Notes what of an object is more than its kind takes.
pub fn check(object: &Value, notes: &mut Notes) {
    for (pointer, most, what) in [
        ("/spec/data", 256, "entries"),
        ("/spec/dataFrom", 32, "sources"),
        ("/spec/access", 256, "access rules"),
        ("/spec/target/template/dataFrom", 16, "templates of ConfigMaps and Secrets"),
    ] {
        let count = object.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
        too_many(count, most, what, notes);
    }
    for (pointer, most, what) in [
        ("/spec/target/template/data", 64, "templates"),
        ("/spec/target/labels", 64, "labels of the Secret"),
        ("/spec/target/annotations", 64, "annotations of the Secret"),
    ] {
        let count = object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len);
        too_many(count, most, what, notes);
    }
    for pointer in
        ["/metadata/name", "/spec/target/name", "/spec/connectionRef/name", "/spec/source/secretRef/name"]
    {
        if let Some(name) = object.pointer(pointer).and_then(Value::as_str)
            && !names::is_name(name)
        {
            notes.blocks("", format!("'{name}' can't be the name of an object"), "Rename it");
        }
    }
    for source in object["spec"]["dataFrom"].as_array().into_iter().flatten() {
        let rules = source["rewrite"].as_array().map_or(&[][..], Vec::as_slice);
        too_many(rules.len(), 16, "rules of one rewrite", notes);
        let long = |rule: &Value| rule["replacement"].as_str().is_some_and(|text| text.len() > 253);
        if rules.iter().any(long) {
            notes.blocks("", "a replacement of rewrite is longer than a key may be", "Shorten it");
        }
        let annotations = source["find"]["annotations"].as_object().map_or(0, serde_json::Map::len);
        too_many(annotations, 16, "annotations of one find", notes);
    }
    for (n, entry) in object["spec"]["data"].as_array().into_iter().flatten().enumerate() {
        entry_is_sound(n, entry, notes);
    }
}

fn too_many(count: usize, most: usize, what: &str, notes: &mut Notes) {
    if count > most {
        let what = format!("it makes {count} {what}, and an object takes {most} at most");
        notes.blocks("", what, "Split it into several objects");
    }
}

fn entry_is_sound(n: usize, entry: &Value, notes: &mut Notes) {
    if let Some(key) = entry["key"].as_str()
        && !names::is_key(key)
    {
        notes.blocks(format!("data[{n}]"), format!("'{key}' can't be the key of a Secret"), "Rename it");
    }
    if entry["variable"].as_str().is_some_and(|id| id.len() > 1024) {
        notes.blocks(format!("data[{n}]"), "the id is longer than 1,024 bytes", "");
    }
    if let Some(id) = entry["variable"].as_str()
        && id.split('/').any(|segment| matches!(segment, "" | "." | ".."))
    {
        let what =
            format!("the id '{id}' has an empty, '.' or '..' segment, and the operator asks for none such");
        notes.blocks(format!("data[{n}]"), what, "Write the id as Conjur has it, below the account");
    }
}

//! What the API server would refuse: the schema of the CRD and its rules.

use std::collections::BTreeMap;

use conjur_operator_api::names::{is_label, is_name};
use serde_json::{Map, Value};

use super::finding::{Found, Rule};
use super::rules::judge;
use crate::Error;

/// The schemas of all kinds.
pub struct Schemas(BTreeMap<String, KindSchema>);

struct KindSchema {
    schema: Value,
    validator: jsonschema::Validator,
}

impl Schemas {
    /// # Errors
    /// That the program's own CRDs can't be read, which is a bug in it.
    pub fn new() -> Result<Self, Error> {
        let mut all = BTreeMap::new();
        for crd in conjur_operator_api::crds() {
            let broken = |error: &dyn std::fmt::Display| Error::new(format!("a CRD can't be read: {error}"));
            let crd = serde_json::to_value(crd).map_err(|error| broken(&error))?;
            let schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            let validator = jsonschema::validator_for(&schema).map_err(|error| broken(&error))?;
            let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
            all.insert(kind, KindSchema { schema, validator });
        }
        Ok(Self(all))
    }

    /// What is wrong with an object.
    pub fn check(&self, object: &Value) -> Vec<Found> {
        let name = object["kind"].as_str().unwrap_or_default();
        let Some(kind) = self.0.get(name) else {
            let kinds: Vec<_> = self.0.keys().map(String::as_str).collect();
            let message = format!("{name} is no kind of conjur-operator.io; there are {}", kinds.join(", "));
            return vec![(Rule::Schema, "kind".to_owned(), None, message)];
        };
        let mut found = Vec::new();
        if object["apiVersion"] != "conjur-operator.io/v1alpha1" {
            let message = "apiVersion: write conjur-operator.io/v1alpha1".to_owned();
            found.push((Rule::Schema, "apiVersion".to_owned(), None, message));
        }
        found.extend(metadata(&object["metadata"]));
        let plain = without_nulls(object);
        for error in kind.validator.iter_errors(&plain) {
            let path = dotted(error.instance_path().as_str());
            let message = if path.is_empty() { error.to_string() } else { format!("{path}: {error}") };
            found.push((Rule::Schema, path, None, message));
        }
        unknown(&kind.schema, &plain, "", &mut found);
        if found.is_empty() {
            rules(&kind.schema, &plain, "", &mut found);
        }
        found
    }
}

/// What the schema of a CRD does not have.
fn metadata(metadata: &Value) -> Vec<Found> {
    let said = |field: &str| metadata[field].as_str();
    let name = said("name").map(|name| ("name", is_name(name)));
    // Letters and digits are put behind it.
    let name =
        name.or_else(|| said("generateName").map(|name| ("generateName", is_name(&format!("{name}x")))));
    let mut found = Vec::new();
    let mut add = |field: &str, why: &str| {
        let (path, message) = (format!("metadata.{field}"), format!("metadata.{field}: {why}"));
        found.push((Rule::Schema, path, None, message));
    };
    match name {
        None => add("name", "an object needs a name"),
        Some((field, false)) if said(field).is_some_and(|name| name.contains("{{")) => {
            add(field, "this is a template; render it first");
        }
        Some((field, false)) => {
            add(
                field,
                "write at most 253 lower-case letters, digits, '-' and '.', with a letter or digit at each end",
            );
        }
        Some((_, true)) => {}
    }
    if said("namespace").is_some_and(|namespace| !is_label(namespace)) {
        add(
            "namespace",
            "write at most 63 lower-case letters, digits and '-', with a letter or digit at each end",
        );
    }
    found
}

/// The API server drops fields that are null.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(name, value)| (name.clone(), without_nulls(value))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        plain => plain.clone(),
    }
}

/// `/spec/data/0/key` as people write it: `spec.data[0].key`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').filter(|part| !part.is_empty()) {
        let part = part.replace("~1", "/").replace("~0", "~");
        path = below(&path, &part);
    }
    path
}

fn below(path: &str, part: &str) -> String {
    match (path.is_empty(), part.parse::<usize>()) {
        (true, _) => part.to_owned(),
        (false, Ok(at)) => format!("{path}[{at}]"),
        (false, Err(_)) => format!("{path}.{part}"),
    }
}

/// The schema of what lies below, where it has one.
fn child<'s>(schema: &'s Value, part: &str) -> Option<&'s Value> {
    let named = schema["properties"].get(part);
    named.or_else(|| Some(&schema["additionalProperties"]).filter(|schema| schema.is_object()))
}

/// Fields that the schema does not have; the API server drops them.
fn unknown(schema: &Value, value: &Value, path: &str, found: &mut Vec<Found>) {
    match value {
        Value::Object(fields) => {
            let open =
                schema["x-kubernetes-preserve-unknown-fields"] == true || !schema["properties"].is_object();
            for (name, value) in fields {
                let at = below(path, name);
                // Of all kinds alike, and in no schema of a CRD.
                if path.is_empty() && matches!(name.as_str(), "metadata" | "apiVersion" | "kind" | "status") {
                    continue;
                }
                match child(schema, name) {
                    Some(schema) => unknown(schema, value, &at, found),
                    None if open => {}
                    None => {
                        let has: Vec<_> = schema["properties"]
                            .as_object()
                            .into_iter()
                            .flatten()
                            .map(|(name, _)| name.as_str())
                            .collect();
                        let message = format!("{at}: there is no such field; there are {}", has.join(", "));
                        found.push((Rule::UnknownField, at, None, message));
                    }
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                unknown(&schema["items"], item, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

/// The rules of `x-kubernetes-validations`, of which those about a change are left out.
fn rules(schema: &Value, value: &Value, path: &str, found: &mut Vec<Found>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap_or_default();
        let judged = if text.contains("oldSelf") { Ok(true) } else { judge(text, value) };
        let message = rule["message"].as_str().unwrap_or(text);
        let message = match judged {
            Ok(true) => continue,
            Ok(false) => message.to_owned(),
            // The API server refuses what it can't judge.
            Err(why) => format!("{message} ({why})"),
        };
        let message = if path.is_empty() { message } else { format!("{path}: {message}") };
        found.push((Rule::Schema, path.to_owned(), None, message));
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| !(path.is_empty() && *name == "metadata")) {
                if let Some(schema) = child(schema, name) {
                    rules(schema, value, &below(path, name), found);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                rules(&schema["items"], item, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;

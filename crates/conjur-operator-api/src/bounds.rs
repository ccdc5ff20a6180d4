//! Bounds that the derived schemas leave out: those of maps, and of types that are not the operator's.

use schemars::Schema;
use serde_json::{Map, Value, json};

/// Most entries, and the longest text, where a type that is not the operator's says nothing of it: what a label may be.
const ENTRIES: usize = 64;
const TEXT: usize = 317;

/// Bounds a map of texts: how many entries it has at least and at most, and how long a value may be.
pub fn map(least: usize, most: usize, longest: usize) -> impl FnMut(&mut Schema) {
    move |schema| {
        let Some(schema) = schema.as_object_mut() else { return };
        if least > 0 {
            schema.insert("minProperties".into(), least.into());
        }
        schema.insert("maxProperties".into(), most.into());
        if let Some(values) = schema.get_mut("additionalProperties").and_then(Value::as_object_mut) {
            values.insert("maxLength".into(), longest.into());
        }
    }
}

/// Bounds every list, map and text of a label selector.
pub fn selector(schema: &mut Schema) {
    if let Some(schema) = schema.as_object_mut() {
        bound(schema);
    }
}

fn bound(schema: &mut Map<String, Value>) {
    let is =
        |type_: &str, of: &Value| of == type_ || of.as_array().is_some_and(|all| all.contains(&json!(type_)));
    let types = schema.get("type").cloned().unwrap_or_default();
    if is("string", &types) {
        schema.entry("maxLength").or_insert(TEXT.into());
    }
    if is("array", &types) {
        schema.entry("maxItems").or_insert(ENTRIES.into());
    }
    if schema.contains_key("additionalProperties") {
        schema.entry("maxProperties").or_insert(ENTRIES.into());
    }
    for key in ["items", "additionalProperties"] {
        schema.get_mut(key).and_then(Value::as_object_mut).into_iter().for_each(bound);
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    let properties = properties.into_iter().flat_map(Map::values_mut);
    properties.filter_map(Value::as_object_mut).for_each(bound);
    let choices = schema.get_mut("anyOf").and_then(Value::as_array_mut);
    choices.into_iter().flatten().filter_map(Value::as_object_mut).for_each(bound);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crds;

    /// Where in a schema something has no bound.
    fn unbounded(at: &str, schema: &Value, found: &mut Vec<String>) {
        let has = |key: &str| schema.get(key).is_some();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum"),
            Some("array") => has("maxItems"),
            Some("object") => has("maxProperties") || !has("additionalProperties"),
            Some("integer") => has("maximum") || has("format"),
            Some("boolean") => true,
            _ => false,
        };
        if !bounded || has("x-kubernetes-preserve-unknown-fields") {
            found.push(at.to_owned());
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(&format!("{at}.{name}"), schema, found);
        }
        for (key, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
            if let Some(schema) = schema.get(key) {
                unbounded(&format!("{at}{sign}"), schema, found);
            }
        }
    }

    #[test]
    fn every_list_map_and_text_of_a_spec_has_a_bound() {
        let mut found = Vec::new();
        for crd in crds() {
            let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let schema = serde_json::to_value(schema).unwrap();
            unbounded(&crd.spec.names.kind, &schema["properties"]["spec"], &mut found);
        }
        // Bounded by a rule on the spec: a refusal of the field itself would repeat the whole document.
        assert_eq!(found, ["ConjurPolicy.document"]);
    }
}

//! The schema: types from the defaults, what else is known from the tags, and nothing that does not stand in the file.

use serde_json::{Map, Value, json};

use crate::values::Node;

/// The JSON Schema of all values.
pub fn schema(nodes: &[Node]) -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart conjur-operator",
        "type": "object",
        "additionalProperties": false,
        "properties": properties(nodes),
    })
}

fn properties(nodes: &[Node]) -> Map<String, Value> {
    nodes.iter().map(|node| (node.key.clone(), Value::Object(of(node)))).collect()
}

fn of(node: &Node) -> Map<String, Value> {
    let default = node.value();
    let mut schema = Map::new();
    if !node.doc.is_empty() {
        schema.insert("description".to_owned(), node.doc.as_str().into());
    }
    let mut set = |key: &str, value: Value| schema.insert(key.to_owned(), value);
    match &default {
        Value::Bool(_) => drop(set("type", "boolean".into())),
        Value::Number(_) => drop(set("type", "integer".into())),
        Value::String(_) => drop(set("type", "string".into())),
        Value::Null => {}
        Value::Array(_) => {
            set("type", "array".into());
            if node.tags.kubernetes.is_some() {
                set("items", json!({ "type": "object" }));
            }
        }
        Value::Object(_) => {
            set("type", "object".into());
            if node.tags.strings {
                set("additionalProperties", json!({ "type": "string" }));
            } else if node.tags.kubernetes.is_none() {
                set("additionalProperties", node.tags.open.into());
                set("properties", properties(&node.children).into());
            }
        }
    }
    if node.is_leaf() {
        set("default", default);
    }
    if let Some(kind) = &node.tags.kubernetes {
        set("$comment", format!("As in Kubernetes: {kind}").into());
    }
    schema.extend(node.tags.schema.clone());
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::parse;

    #[test]
    fn types_come_from_defaults_and_tags_win() {
        let nodes = parse("# A.\n# @schema {\"type\": [\"integer\", \"string\"]}\na: \"\"\nb:\n  # C.\n  c: true\n# D.\n# @kubernetes Toleration\nd: []\n").unwrap();
        assert_eq!(
            schema(&nodes)["properties"],
            json!({
                "a": { "description": "A.", "type": ["integer", "string"], "default": "" },
                "b": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": { "c": { "description": "C.", "type": "boolean", "default": true } },
                },
                "d": {
                    "description": "D.", "type": "array", "items": { "type": "object" }, "default": [],
                    "$comment": "As in Kubernetes: Toleration",
                },
            })
        );
    }
}

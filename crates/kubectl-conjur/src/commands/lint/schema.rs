//! What the API server would refuse: the schema of the CRD and its rules.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use cel::{Context, ExecutionError, Program};
use conjur_operator_api::GoDuration;
use serde_json::{Map, Value};

use super::finding::{Found, Rule};
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
        if !object["metadata"]["name"].is_string() && !object["metadata"]["generateName"].is_string() {
            found.push((
                Rule::Schema,
                "metadata".to_owned(),
                None,
                "metadata.name: an object needs a name".to_owned(),
            ));
        }
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
        if text.contains("oldSelf") || holds(text, value) {
            continue;
        }
        let message = rule["message"].as_str().unwrap_or(text);
        let message = if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") };
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

/// Whether a rule holds. One that can't be judged here is the API server's to judge.
fn holds(rule: &str, value: &Value) -> bool {
    let Ok(program) = Program::compile(rule) else { return true };
    let Some(mut context) = context() else { return true };
    if context.add_variable("self", value).is_err() {
        return true;
    }
    !matches!(program.execute(&context), Ok(cel::Value::Bool(false)))
}

/// With the functions of the API server's own library that the rules use.
fn context() -> Option<Context<'static, 'static>> {
    let mut context = Context::default();
    context.add_function("isURL", |text: Arc<String>| url::Url::parse(&text).is_ok()).ok()?;
    // As a number, which compares as a duration does.
    context.add_function("duration", |text: Arc<String>| nanoseconds(&text)).ok()?;
    context.add_function("isIP", |text: Arc<String>| text.parse::<IpAddr>().is_ok()).ok()?;
    context.add_function("isCIDR", |text: Arc<String>| is_cidr(&text)).ok()?;
    Some(context)
}

fn nanoseconds(text: &str) -> Result<i64, ExecutionError> {
    let given = GoDuration::parse(text).ok().and_then(|given| i64::try_from(given.get().as_nanos()).ok());
    given.ok_or_else(|| ExecutionError::function_error("duration", "this is no duration"))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>()) else { return false };
    bits <= if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each rule of the CRDs that a plugin can judge is one that it compiles and that says no to something: a rule that is never
    /// judged would look like one that always holds.
    #[test]
    fn each_rule_of_the_crds_compiles() {
        fn all(schema: &Value, texts: &mut Vec<String>) {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                texts.extend(rule["rule"].as_str().map(str::to_owned));
            }
            for (_, below) in schema["properties"].as_object().into_iter().flatten() {
                all(below, texts);
            }
            for below in ["items", "additionalProperties"] {
                if schema[below].is_object() {
                    all(&schema[below], texts);
                }
            }
        }
        let mut texts = Vec::new();
        Schemas::new().unwrap().0.values().for_each(|kind| all(&kind.schema, &mut texts));
        assert!(texts.len() > 50, "{}", texts.len());
        for text in texts {
            assert!(Program::compile(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn functions_of_the_api_server_are_known() {
        let no = [
            ("isURL(self) && self.startsWith('https://')", json!("conjur.example.com")),
            ("self.all(c, isCIDR(c) || isIP(c))", json!(["10.0.0.0/33"])),
            ("duration(self) >= duration('10s')", json!("1s")),
            ("duration(self) >= duration('1h')", json!("59m59s")),
            ("bytes(self.document).size() <= 3", json!({ "document": "four" })),
            ("[has(self.a), has(self.b)].exists_one(given, given)", json!({ "a": 1, "b": 1 })),
            ("self.all(a, self.exists_one(b, b.key == a.key))", json!([{ "key": "x" }, { "key": "x" }])),
            ("!self.matches('(^|/)[.]{1,2}(/|$)') && !self.matches('[[:cntrl:]]')", json!("a/../b")),
            ("!('authn/api-key' in self)", json!({ "authn/api-key": "x" })),
        ];
        for (rule, value) in no {
            assert!(!holds(rule, &value), "{rule}");
        }
        assert!(holds("isURL(self)", &json!("https://conjur.example.com")));
        assert!(holds("self.all(c, isCIDR(c) || isIP(c))", &json!(["10.0.0.0/8", "::1"])));
    }

    #[test]
    fn paths_are_written_as_people_do() {
        assert_eq!(dotted("/spec/data/0/key"), "spec.data[0].key");
        assert_eq!(dotted(""), "");
    }
}

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::files;

fn valid() -> Vec<Value> {
    files::split("valid.yaml", include_str!("valid.yaml")).iter().map(|one| one.value().unwrap()).collect()
}

fn object(kind: &str, name: &str) -> Value {
    let mut all = valid().into_iter();
    all.find(|one| one["kind"] == kind && one["metadata"]["name"] == name).unwrap()
}

/// The rules of all CRDs with their places, but for those about a change.
fn all_rules(schemas: &Schemas) -> BTreeMap<String, String> {
    fn all(schema: &Value, path: &str, rules: &mut BTreeMap<String, String>) {
        for (at, rule) in schema["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
            let text = rule["rule"].as_str().unwrap();
            if !text.contains("oldSelf") {
                rules.insert(format!("{path} {at}"), text.to_owned());
            }
        }
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            all(below, &format!("{path}.{name}"), rules);
        }
        for below in ["items", "additionalProperties"] {
            if schema[below].is_object() {
                all(&schema[below], &format!("{path}[]"), rules);
            }
        }
    }
    let mut rules = BTreeMap::new();
    for (kind, one) in &schemas.0 {
        all(&one.schema, kind, &mut rules);
    }
    rules
}

/// What each rule says of an object, by its place in the CRD.
fn judged(schema: &Value, value: &Value, path: &str, told: &mut Vec<(String, Result<bool, String>)>) {
    for (at, rule) in schema["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
        let text = rule["rule"].as_str().unwrap();
        if !text.contains("oldSelf") {
            told.push((format!("{path} {at}"), judge(text, value)));
        }
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let named = schema["properties"].get(name).map(|schema| (schema, format!("{path}.{name}")));
                if let Some((schema, path)) =
                    named.or_else(|| Some((child(schema, name)?, format!("{path}[]"))))
                {
                    judged(schema, value, &path, told);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                judged(&schema["items"], item, &format!("{path}[]"), told);
            }
        }
        _ => {}
    }
}

fn all_judged(schemas: &Schemas, object: &Value) -> Vec<(String, Result<bool, String>)> {
    let (kind, mut told) = (object["kind"].as_str().unwrap(), Vec::new());
    judged(&schemas.0[kind].schema, object, kind, &mut told);
    told
}

/// A rule that fails to be judged on what is valid would be told of objects that the API server takes.
#[test]
fn each_rule_of_the_crds_is_judged_on_what_is_valid() {
    let schemas = Schemas::new().unwrap();
    let mut rules = all_rules(&schemas);
    assert!(rules.len() > 70, "{}", rules.len());
    for object in valid() {
        let found = schemas.check(&object);
        assert!(found.is_empty(), "{} {}: {found:#?}", object["kind"], object["metadata"]["name"]);
        for (place, judged) in all_judged(&schemas, &object) {
            assert_eq!(judged, Ok(true), "{place}");
            rules.remove(&place);
        }
    }
    assert!(rules.is_empty(), "valid.yaml has nothing for {rules:#?}");
}

/// Kind and name of a valid object, a field of its spec, and what makes it one that a rule refuses; null takes it out.
fn spoilt() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let (long, key) = ("k".repeat(1_025), json!({ "name": "a", "key": "b" }));
    let map = |key: &str| json!({ key: "a" });
    let (secret, policy, push, host) = ("ConjurSecret", "ConjurPolicy", "ConjurPush", "ConjurHost");
    let (connection, cluster) = ("ConjurConnection", "ClusterConjurConnection");
    vec![
        (secret, "rich", "data", json!([{ "key": "a", "variable": "a" }, { "key": "a", "variable": "b" }])),
        (secret, "rich", "data/0/key", json!("a/b")),
        (secret, "rich", "dataFrom/0/publicKeys", json!({ "kind": "user", "id": "a", "key": "a" })),
        (secret, "rich", "dataFrom/1/keyFrom", json!("Path")),
        (secret, "rich", "dataFrom/0/find", json!({})),
        (secret, "rich", "dataFrom/0/find/annotations", map(&long)),
        (secret, "rich", "refreshInterval", json!("9s")),
        (secret, "rich", "target/deletionPolicy", json!("Delete")),
        (secret, "rich", "target/immutable", json!(true)),
        (secret, "rich", "target/template", json!({})),
        (secret, "rich", "target/template/data", map("a b")),
        (secret, "rich", "target/type", json!("kubernetes.io/service-account-token")),
        (secret, "rich", "target/labels", map("app.kubernetes.io/managed-by")),
        (secret, "rich", "target/labels", map(&long)),
        (policy, "rich", "branch", json!("/apps")),
        (policy, "rich", "document", Value::Null),
        (policy, "rich", "document", json!("#".repeat(700_001))),
        (policy, "rich", "driftCheckInterval", json!("1s")),
        (push, "rich", "rewrite", json!([{ "pattern": "a", "replacement": "b" }])),
        (push, "rich", "data/0/template", json!("a")),
        (push, "rich", "prefix", json!("/apps/")),
        (push, "rich", "createVariables/annotations", map("conjur-operator.io/a")),
        (push, "rich", "source", json!({})),
        (push, "selected", "prefix", json!("apps/")),
        (push, "selected", "source/selector", json!({})),
        (host, "rich", "id", json!("host/apps/web")),
        (host, "rich", "id", json!("apps/billing/../web")),
        (host, "rich", "via/branch", json!("apps/other")),
        (host, "rich", "via", json!({ "existing": {} })),
        (host, "rich", "via", json!({})),
        (host, "rich", "apiKey", json!(false)),
        (host, "rich", "annotations", map("")),
        (host, "rich", "annotations", map("authn/api-key")),
        (host, "rich", "annotations", map("conjur-operator.io/a")),
        (host, "rich", "memberOf", json!(["apps/web"])),
        (host, "rich", "restrictedTo", json!(["10.0.0.0/33"])),
        (host, "rich", "rotation/interval", json!("59m")),
        (host, "rich", "target/template/data", map("login")),
        (host, "made", "apiKey", json!(false)),
        (host, "keyless", "id", json!("web")),
        (connection, "rich", "url", json!("conjur.example.com")),
        (connection, "rich", "url", json!("https://me@conjur.example.com")),
        (connection, "rich", "url", json!("https://conjur.example.com/%2E./a")),
        (connection, "rich", "account", json!("a:b")),
        (connection, "rich", "tokenRefreshInterval", json!("2h")),
        (connection, "rich", "tls/caBundle", json!("nothing")),
        (connection, "rich", "tls/caBundleFrom", json!({ "kind": "Secret", "name": "a", "key": "b" })),
        (connection, "rich", "limits/timeout", json!("2m")),
        (connection, "rich", "limits/policyTimeout", json!("15m")),
        (connection, "rich", "auth/apiKey/loginSecretRef", key.clone()),
        (connection, "rich", "auth/apiKey/apiKeySecretRef/namespace", json!("other")),
        (connection, "jwt", "auth/jwt/serviceID", json!("a/b")),
        (connection, "jwt", "auth/password", json!({ "login": "a", "passwordSecretRef": key })),
        (cluster, "rich", "auth/apiKey/apiKeySecretRef/namespace", Value::Null),
        (cluster, "rich", "access/0/namespaces", json!({})),
    ]
}

/// A rule that never says no would be one that is passed without a word.
#[test]
fn each_rule_of_the_crds_says_no_to_something() {
    let schemas = Schemas::new().unwrap();
    let rules = all_rules(&schemas);
    let mut silent: BTreeSet<&str> = rules.values().map(String::as_str).collect();
    for (kind, name, field, value) in spoilt() {
        let mut object = object(kind, name);
        let mut at = &mut object["spec"];
        for part in field.split('/') {
            at = match part.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[part],
            };
        }
        *at = value;
        let object = without_nulls(&object);
        let no: Vec<_> =
            all_judged(&schemas, &object).into_iter().filter(|(_, told)| *told != Ok(true)).collect();
        assert!(no.iter().any(|(_, told)| *told == Ok(false)), "{kind} {name} {field}: {no:?}");
        for (place, _) in no.iter().filter(|(_, told)| *told == Ok(false)) {
            silent.remove(rules[place].as_str());
        }
        assert!(!schemas.check(&object).is_empty(), "{kind} {name} {field}");
    }
    assert!(silent.is_empty(), "nothing is refused by {silent:#?}");
}

#[test]
fn paths_are_written_as_people_do() {
    assert_eq!(dotted("/spec/data/0/key"), "spec.data[0].key");
    assert_eq!(dotted(""), "");
}

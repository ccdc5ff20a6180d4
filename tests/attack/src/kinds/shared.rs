//! What is done through the connection that the honest tenants use, too, and to the API server.

use serde_json::{Value, json};

use super::Plan;
use crate::apply::{ours, secret};
use crate::victims::SHARED;

/// The shared connection.
pub fn connection() -> Value {
    json!({ "kind": "ClusterConjurConnection", "name": SHARED })
}

/// A ConjurSecret of one variable; `more` goes over its spec.
pub fn secret_of(namespace: &str, name: &str, variable: &str, more: &Value) -> Value {
    let spec = json!({
        "connectionRef": connection(), "refreshInterval": "10s", "data": [{ "key": "v", "variable": variable }],
    });
    ours("ConjurSecret", namespace, name, over(spec, more))
}

/// `more` over a spec; null leaves a field out.
pub fn over(mut spec: Value, more: &Value) -> Value {
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
        spec.retain(|_, value| !value.is_null());
    }
    spec
}

/// Sources that don't exist, another one each.
pub fn sources(namespace: &str, count: usize) -> Plan {
    let object = |at: usize| {
        let from = |n: usize| {
            let kind = if n.is_multiple_of(2) { "ConfigMap" } else { "Secret" };
            json!({ "kind": kind, "name": format!("none-{at}-{n}"), "key": "k" })
        };
        if at.is_multiple_of(2) {
            let spec = json!({
                "connectionRef": connection(), "branch": format!("attack/{namespace}/{at}"),
                "documentFrom": (0..64).map(from).collect::<Vec<_>>(),
            });
            ours("ConjurPolicy", namespace, &format!("s{at}"), spec)
        } else {
            let template = json!({ "dataFrom": (0..16).map(from).collect::<Vec<_>>() });
            let variable = format!("attack/{namespace}/v");
            secret_of(namespace, &format!("s{at}"), &variable, &json!({ "target": { "template": template } }))
        }
    };
    Plan { objects: (0..count).map(object).collect(), ..Plan::default() }
}

/// 250 variables each that don't exist.
pub fn missing(namespace: &str, count: usize) -> Plan {
    let object = |at: usize| {
        let entry = |n: usize| json!({ "key": format!("k{n}"), "variable": format!("attack/{namespace}/none/{at}/{n}") });
        let entries = json!({ "data": (0..250).map(entry).collect::<Vec<_>>() });
        secret_of(namespace, &format!("m{at}"), "", &entries)
    };
    Plan { objects: (0..count).map(object).collect(), ..Plan::default() }
}

/// Pairs that merge into one another's Secret what they read from the other's, crosswise.
pub fn loops(namespace: &str, count: usize) -> Plan {
    let name = |at: usize| format!("l{at}");
    let before = (0..count).map(|at| {
        let mut made =
            secret(namespace, &name(at), json!({ "a": format!("one {at}"), "b": format!("two {at}") }));
        made["metadata"]["annotations"] =
            json!({ "conjur-operator.io/adopt": format!("ConjurSecret/{}", name(at)) });
        made
    });
    let object = |at: usize| {
        let other = name(at ^ 1);
        let from =
            |key: &str, to: &str| json!({ "kind": "Secret", "name": other, "key": key, "targetKey": to });
        let target = json!({
            "creationPolicy": "Merge", "deletionPolicy": "Retain",
            "template": { "dataFrom": [from("a", "b"), from("b", "a")] },
        });
        secret_of(namespace, &name(at), &format!("attack/{namespace}/v"), &json!({ "target": target }))
    };
    Plan {
        variables: vec![(format!("attack/{namespace}/v"), "x".to_owned())],
        before: before.collect(),
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

/// Secrets that say they are the operator's, with as many annotations as Kubernetes takes.
pub fn labelled(namespace: &str, count: usize) -> Plan {
    let object = |at: usize| {
        let mut made = secret(namespace, &format!("s{at}"), json!({ "k": "v" }));
        made["metadata"]["labels"] = json!({ "conjur-operator.io/managed": "true" });
        made["metadata"]["annotations"] = json!({
            "conjur-operator.io/owner": format!("ConjurSecret/s{at}"), "filler": "x".repeat(250_000),
        });
        made
    };
    Plan { objects: (0..count).map(object).collect(), ..Plan::default() }
}

/// Small objects with nothing wrong, and very many of them.
pub fn small(namespace: &str, count: usize) -> Plan {
    let variable = format!("attack/{namespace}/v");
    let object = |at: usize| secret_of(namespace, &format!("o{at}"), &variable, &json!({}));
    Plan {
        variables: vec![(variable.clone(), "x".to_owned())],
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

/// One attacker who asks for a turn in twenty namespaces.
pub fn spread(namespace: &str, count: usize) -> Plan {
    const NAMESPACES: usize = 20;
    let names: Vec<String> = (0..NAMESPACES).map(|at| format!("{namespace}{at}")).collect();
    let objects = (0..count).flat_map(|at| {
        missing(&names[at % NAMESPACES], 1).objects.into_iter().map(move |mut object| {
            object["metadata"]["name"] = format!("m{at}").into();
            object
        })
    });
    Plan { objects: objects.collect(), namespaces: names.clone(), ..Plan::default() }
}

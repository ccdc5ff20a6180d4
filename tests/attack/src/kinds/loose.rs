//! What no CRD of this version lets through; an object from before it, or an older CRD, would.

use serde_json::{Value, json};

use super::Plan;
use super::back::{host_of, push_of};
use super::shared::{connection, over, secret_of};
use crate::apply::{ours, secret};
use crate::hostile::{Hostile, Mode};

/// As many as are asked for, of each form in turn.
pub fn objects(namespace: &str, hostile: &Hostile, count: usize) -> Plan {
    let object = |at: usize| match at % 5 {
        0 => of_secret(namespace, at),
        1 => of_policy(namespace, at),
        2 => of_push(namespace, at),
        3 => of_host(namespace, at),
        _ => of_connection(namespace, hostile, at),
    };
    Plan {
        before: vec![secret(namespace, "login", json!({ "key": "k" }))],
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

fn of_secret(namespace: &str, at: usize) -> Value {
    let (name, variable) = (format!("x{at}"), format!("attack/{namespace}/v"));
    let entry = |n: usize| json!({ "key": format!("k{n}"), "variable": format!("{variable}{n}") });
    let find = |n: usize| json!({ "find": { "pattern": format!(r"\pL{{20}}{n}") } });
    let more = match at / 5 % 9 {
        0 => json!({ "data": (0..9000).map(entry).collect::<Vec<_>>() }),
        1 => json!({ "data": null, "dataFrom": (0..2000).map(find).collect::<Vec<_>>() }),
        2 => json!({ "refreshInterval": "1ns" }),
        3 => json!({ "refreshInterval": "-99999999h" }),
        4 => json!({ "data": null, "dataFrom": [{ "find": { "pattern": "(".repeat(200_000) } }] }),
        5 => {
            json!({ "data": null, "dataFrom": [{ "find": { "pattern": format!("{}a{}", "(?:".repeat(30_000), ")*".repeat(30_000)) } }] })
        }
        6 => {
            json!({ "target": { "name": "../../kube-system/secrets/x", "template": { "data": { "../x": "{{ v }}" } } } })
        }
        7 => {
            json!({ "rolloutRestart": (0..5000).map(|n| json!({ "kind": "Deployment", "name": format!("d{n}") })).collect::<Vec<_>>() })
        }
        _ => {
            json!({ "connectionRef": { "name": "../../../x", "kind": "ConjurConnection" }, "data": [{ "key": "", "variable": "../".repeat(9000) }] })
        }
    };
    secret_of(namespace, &name, &variable, &more)
}

fn of_policy(namespace: &str, at: usize) -> Value {
    let from = |n: usize| json!({ "kind": "Secret", "name": format!("../none-{at}-{n}"), "key": "k" });
    let far = format!("attack/{namespace}/../../{}", "x/".repeat(100_000));
    let more = match at / 5 % 5 {
        0 => json!({ "document": "[".repeat(1_000_000) }),
        1 => json!({ "document": null, "documentFrom": (0..10_000).map(from).collect::<Vec<_>>() }),
        2 => json!({ "document": "- !host h\n", "createdRoles": { "secretName": "../../kube-system/x" } }),
        3 => json!({ "driftCheckInterval": "1ns" }),
        _ => json!({ "branch": far }),
    };
    let spec = json!({
        "connectionRef": connection(), "branch": format!("attack/{namespace}/{at}"), "document": "- !variable v\n",
    });
    ours("ConjurPolicy", namespace, &format!("y{at}"), over(spec, &more))
}

fn of_push(namespace: &str, at: usize) -> Value {
    let entry = |n: usize| json!({ "key": "key", "variable": format!("v{n}") });
    let permit = |n: usize| json!({ "role": format!("host/h{n}"), "privileges": ["read"] });
    let more = match at / 5 % 6 {
        0 => json!({ "data": (0..9000).map(entry).collect::<Vec<_>>() }),
        1 => json!({ "driftCheckInterval": "1ns" }),
        2 => json!({ "prefix": format!("attack/{namespace}/{}", "../".repeat(9000)) }),
        3 => json!({ "source": { "selector": {} } }),
        4 => {
            json!({ "createVariables": { "branch": "../root", "permit": (0..5000).map(permit).collect::<Vec<_>>() } })
        }
        _ => json!({ "source": { "secretRef": { "name": "../../conjur-system/conjur-login" } } }),
    };
    let base = json!({ "source": { "secretRef": { "name": "login" } } });
    push_of(namespace, &format!("u{at}"), &over(base, &more))
}

fn of_host(namespace: &str, at: usize) -> Value {
    let more = match at / 5 % 6 {
        0 => json!({ "rotation": { "interval": "1ns" } }),
        1 => json!({ "id": format!("attack/{namespace}/{}", "../".repeat(9000)) }),
        2 => json!({ "via": { "existing": {}, "hostFactory": { "id": "attack" } } }),
        3 => json!({ "memberOf": (0..5000).map(|n| format!("layer/l{n}")).collect::<Vec<_>>() }),
        4 => json!({ "via": { "existing": {} }, "id": "admin" }),
        _ => {
            json!({ "target": { "name": "../../kube-system/secrets/x", "template": { "data": { "login": "{{ api_key }}" } } } })
        }
    };
    host_of(namespace, &format!("w{at}"), &more)
}

fn of_connection(namespace: &str, hostile: &Hostile, at: usize) -> Value {
    const BUNDLE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let most = json!({
        "maxConnections": 65_535, "requestsPerSecond": 4_294_967_295_u32, "batchSize": 65_535, "batchBytes": 65_535,
    });
    let none = json!({ "maxConnections": 0, "requestsPerSecond": 0, "batchSize": 0, "batchBytes": 0 });
    let theirs = json!({ "namespace": "conjur-system", "name": "conjur-login", "key": "key" });
    let more = match at / 5 % 8 {
        0 => json!({ "limits": most }),
        1 => json!({ "limits": none }),
        2 => json!({ "limits": { "timeout": "999999h", "policyTimeout": "999999h" } }),
        3 => json!({ "tls": { "caBundle": BUNDLE.repeat(20_000) } }),
        4 => json!({ "auth": { "apiKey": { "login": "host/x", "apiKeySecretRef": theirs } } }),
        5 => json!({ "account": ".." }),
        6 => json!({ "url": "http://127.0.0.1:1/../../.." }),
        _ => json!({ "tokenRefreshInterval": "0s" }),
    };
    let own = json!({ "name": "login", "key": "key" });
    let spec = json!({
        "url": hostile.url(Mode::Storm), "account": "myorg",
        "auth": { "apiKey": { "login": format!("host/x{at}"), "apiKeySecretRef": own } },
    });
    ours("ConjurConnection", namespace, &format!("z{at}"), over(spec, &more))
}

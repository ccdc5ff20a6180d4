//! What leads to the attackers' own server.

use serde_json::{Value, json};

use super::Plan;
use crate::apply::{ours, secret};
use crate::hostile::{Hostile, Mode};

const LOGIN: &str = "login";

/// The spec of a connection to the hostile server.
fn settings(hostile: &Hostile, how: Mode, more: &str) -> Value {
    json!({
        "url": hostile.url(how), "account": "myorg", "tokenRefreshInterval": "10s",
        "limits": { "maxConnections": 64, "requestsPerSecond": 10_000, "timeout": "1m", "policyTimeout": "14m" },
        "auth": { "apiKey": {
            "login": format!("host/attacker{more}"), "apiKeySecretRef": { "name": LOGIN, "key": "key" },
        } },
    })
}

fn login(namespace: &str) -> Value {
    secret(namespace, LOGIN, json!({ "key": "the-attackers-own" }))
}

/// One connection for each mode, and the login.
pub fn one_of_each(namespace: &str, hostile: &Hostile) -> Vec<Value> {
    let connection =
        |mode: Mode| ours("ConjurConnection", namespace, &mode.name(), settings(hostile, mode, ""));
    Mode::ALL.into_iter().map(connection).chain([login(namespace)]).collect()
}

/// Each mode in turn.
pub fn mode(at: usize) -> Mode {
    Mode::ALL[at % Mode::ALL.len()]
}

/// Connections alone, each with a login of its own.
pub fn connections(namespace: &str, hostile: &Hostile, count: usize) -> Plan {
    let object = |at: usize| {
        ours("ConjurConnection", namespace, &format!("c{at}"), settings(hostile, mode(at), &format!("-{at}")))
    };
    Plan { before: vec![login(namespace)], objects: (0..count).map(object).collect(), ..Plan::default() }
}

/// Searches in lists that end nowhere.
pub fn searches(namespace: &str, hostile: &Hostile, count: usize) -> Plan {
    let object = |at: usize| {
        let find = match at % 3 {
            0 => json!({ "prefix": "attack/" }),
            1 => json!({ "search": format!("word{at}") }),
            _ => json!({ "pattern": "a" }),
        };
        let detection = if at.is_multiple_of(2) { "Version" } else { "Value" };
        let spec = json!({
            "connectionRef": { "name": mode(at).name() }, "refreshInterval": "10s", "dataFrom": [{ "find": find }],
            "changeDetection": detection,
        });
        ours("ConjurSecret", namespace, &format!("f{at}"), spec)
    };
    Plan {
        before: one_of_each(namespace, hostile),
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

/// Documents that are loaded, looked at and removed there.
pub fn policies(namespace: &str, hostile: &Hostile, count: usize) -> Plan {
    let object = |at: usize| {
        let (how, action) =
            (["Append", "Update", "Replace"][at % 3], if at.is_multiple_of(5) { "DryRun" } else { "Load" });
        let spec = json!({
            "connectionRef": { "name": mode(at).name() }, "branch": format!("attack/{at}"), "driftCheckInterval": "10s",
            "document": "- !host h\n- !variable v\n- !grant {role: !group g, member: !host h}\n",
            "createdRoles": { "secretName": format!("roles-{at}") },
            "mode": how, "action": action,
        });
        ours("ConjurPolicy", namespace, &format!("p{at}"), spec)
    };
    Plan {
        before: one_of_each(namespace, hostile),
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

/// Values, single and in batches, and public keys.
pub fn values(namespace: &str, hostile: &Hostile, count: usize) -> Plan {
    let object = |at: usize| {
        let entry = |n: usize| json!({ "key": format!("k{n}"), "variable": format!("attack/{at}/{n}") });
        let keys = json!([{ "publicKeys": { "kind": "user", "id": format!("u{at}"), "key": "keys" } }]);
        let spec = json!({
            "connectionRef": { "name": mode(at).name() }, "refreshInterval": "10s",
            "data": (0..=at % 60).map(entry).collect::<Vec<_>>(), "dataFrom": keys,
        });
        ours("ConjurSecret", namespace, &format!("v{at}"), spec)
    };
    Plan {
        before: one_of_each(namespace, hostile),
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

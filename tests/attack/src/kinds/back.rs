//! What goes back into Conjur: pushes, and hosts whose keys are rotated. Through the connection that the honest tenants use,
//! too, and to a hostile server.

use serde_json::{Value, json};

use super::Plan;
use super::servers::{mode, one_of_each};
use super::shared::{connection, over};
use crate::apply::{config_map, ours, secret};
use crate::hostile::{Hostile, LIED, Mode};

/// Secrets that all pushes select, and the keys of each: with those that are edited all the time, fewer variables than the
/// thousand that one object may have, so that none is refused for their number.
const SELECTED: usize = 200;
const KEYS: usize = 3;
/// Keys of one Secret: as many variables as one object may have.
const WIDE: usize = 1_000;
/// Secrets as large as Kubernetes takes them, nearly as many as one push may read.
const LARGE: usize = 8;
const LARGE_BYTES: usize = 1_000_000;
/// Branches of pushes, each of which has loads of its own.
const BRANCHES: usize = 8;

const SLOW: [&str; 3] = [
    "{% for a in range(100000) %}{% for b in range(100000) %}{{ k0|upper }}{% endfor %}{% endfor %}",
    "{{ (k0 * 100000)|list|sort|reverse|join|b64encode|b64encode|b64encode }}",
    "{{ 'x' * 1000000000 }}",
];

/// A Secret's data: so many keys.
fn data(keys: usize) -> Value {
    (0..keys).map(|at| (format!("k{at}"), format!("value {at}"))).collect()
}

fn labelled(namespace: &str, name: &str, label: &str, data: Value) -> Value {
    let mut made = secret(namespace, name, data);
    made["metadata"]["labels"] = json!({ "push": label });
    made
}

fn selector(label: &str) -> Value {
    json!({ "selector": { "matchLabels": { "push": label } } })
}

fn wide() -> Value {
    json!({ "secretRef": { "name": "wide" } })
}

/// A ConjurPush of all selected Secrets to ids of its own; `more` goes over its spec.
pub fn push_of(namespace: &str, name: &str, more: &Value) -> Value {
    let spec = json!({
        "connectionRef": connection(), "source": selector("all"), "driftCheckInterval": "10s",
        "prefix": format!("attack/{namespace}/{name}/{{secret}}/"),
        "createVariables": { "branch": format!("attack/{namespace}") },
    });
    ours("ConjurPush", namespace, name, over(spec, more))
}

/// A ConjurHost of the tenant's own branch, whose key is rotated as often as can be asked for; `more` goes over its spec.
pub fn host_of(namespace: &str, name: &str, more: &Value) -> Value {
    let spec = json!({
        "connectionRef": connection(), "id": format!("attack/{namespace}/{name}"), "rotation": { "interval": "1h" },
    });
    ours("ConjurHost", namespace, name, over(spec, more))
}

/// Pushes of the same hundreds of Secrets, of large ones, to ids of one another and of other tenants; and Secrets of them,
/// which are edited, removed and made anew like the objects.
pub fn pushes(namespace: &str, count: usize) -> Plan {
    let selected = |at: usize| labelled(namespace, &format!("s{at}"), "all", data(KEYS));
    let large = |at: usize| {
        labelled(namespace, &format!("large{at}"), "large", json!({ "k0": "x".repeat(LARGE_BYTES) }))
    };
    let before = (0..SELECTED).map(selected).chain((0..LARGE).map(large));
    let branch = |at: usize| format!("- !policy attack/{namespace}/b{at}\n");
    let object = |at: usize| {
        if at % 9 == 8 { selected(SELECTED + at) } else { one_push(namespace, at) }
    };
    Plan {
        policy: (0..BRANCHES).map(branch).collect::<Vec<_>>().concat(),
        before: before.chain([secret(namespace, "wide", data(WIDE))]).collect(),
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

fn one_push(namespace: &str, at: usize) -> Value {
    let (name, branch) = (format!("p{at}"), format!("attack/{namespace}/b{}", at % BRANCHES));
    let more = match at % 9 {
        0 => json!({ "deletionPolicy": "Delete" }),
        // Each of these has the ids of all others.
        1 => json!({
            "prefix": format!("attack/{namespace}/same/{{secret}}/"), "conflictPolicy": "Adopt", "deletionPolicy": "Delete",
        }),
        2 => json!({
            "source": wide(), "prefix": format!("{branch}/{name}/"), "createVariables": { "branch": branch },
        }),
        3 => {
            let id = |n: usize| format!("victim-shared-{}/v{n}", n % 10);
            let theirs = |n: usize| json!({ "key": "k0", "variable": id(n) });
            let branch = ["victims", "root"].get(at / 9 % 3);
            json!({
                "source": wide(), "prefix": "victims/", "data": (0..100).map(theirs).collect::<Vec<_>>(),
                "conflictPolicy": "Adopt", "createVariables": branch.map(|branch| json!({ "branch": branch })),
            })
        }
        4 => json!({ "source": selector("large") }),
        5 => {
            let slow = |n: usize| json!({ "template": format!("{}{at}x{n}", SLOW[n % 3]), "variable": format!("t{n}") });
            json!({ "source": wide(), "data": (0..256).map(slow).collect::<Vec<_>>() })
        }
        6 => {
            let rule = |n: usize| match n % 2 {
                0 => json!({ "pattern": format!(r"\pL{{20}}{at}x{n}"), "replacement": "" }),
                _ => json!({ "pattern": "^(.*)$", "replacement": "${1}${1}" }),
            };
            json!({ "source": wide(), "rewrite": (0..16).map(rule).collect::<Vec<_>>() })
        }
        _ => {
            let entry = |n: usize| json!({ "key": format!("k{n}"), "variable": format!("{n}") });
            let note = |n: usize| (format!("note-{n}"), "x".repeat(256));
            let role = |n: usize| json!({ "role": format!("host/none-{at}-{n}"), "privileges": ["read", "execute"] });
            json!({
                "source": wide(), "prefix": format!("{branch}/{name}/"), "data": (0..256).map(entry).collect::<Vec<_>>(),
                "createVariables": {
                    "branch": branch, "annotations": (0..16).map(note).collect::<Value>(),
                    "permit": (0..16).map(role).collect::<Vec<_>>(),
                },
            })
        }
    };
    push_of(namespace, &name, &more)
}

/// Hosts in each way in which one is enrolled, with and without what that needs, several for one id and for one Secret.
pub fn hosts(namespace: &str, count: usize) -> Plan {
    let object = |at: usize| host_of(namespace, &format!("h{at}"), &one_host(namespace, at));
    let policy = format!(
        "- !layer attack/{namespace}/layer\n\
         - !host-factory {{id: attack/{namespace}/factory, layers: [!layer attack/{namespace}/layer]}}\n"
    );
    let token = json!({ "token": "1a9k2zq0m4x7c3v8b5n6t1r2y3u4w5e6p7s8d9f0g1h2j3k4l5" });
    Plan {
        policy,
        before: vec![
            secret(namespace, "given", token),
            config_map(namespace, "text", "t", "{{api_key}}".repeat(20_000)),
        ],
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

fn one_host(namespace: &str, at: usize) -> Value {
    let factory = |name: &str| json!({ "hostFactory": { "id": format!("attack/{namespace}/{name}") } });
    match at % 11 {
        0 => json!({ "deletionPolicy": "Delete" }),
        1 => json!({ "id": format!("attack/{namespace}/same"), "conflictPolicy": "Adopt" }),
        2 => json!({ "via": factory("factory"), "deletionPolicy": "Delete" }),
        3 => json!({ "via": factory(&format!("none-{at}")) }),
        4 => json!({ "via": { "existing": {} }, "conflictPolicy": "Adopt" }),
        5 => {
            let given = json!({ "hostFactoryTokenSecretRef": { "name": "given", "key": "token" } });
            json!({ "via": given, "conflictPolicy": "Adopt" })
        }
        6 => {
            let theirs = ["victims/victim-shared-0/v0", "victims/web", "attack/attacker-pushes/web", "web"];
            json!({ "id": theirs[at / 11 % 4], "via": { "existing": {} }, "conflictPolicy": "Adopt" })
        }
        7 => {
            let role = |n: usize| format!("layer/attack/{namespace}/none-{at}-{n}");
            let range = |n: usize| format!("10.{n}.0.0/16");
            json!({
                "memberOf": (0..64).map(role).collect::<Vec<_>>(), "restrictedTo": (0..64).map(range).collect::<Vec<_>>(),
            })
        }
        8 => {
            let text = |n: usize| (format!("t{n}"), format!("{}{at}", SLOW[n % 3].replace("k0", "api_key")));
            json!({ "target": { "template": { "data": (0..16).map(text).collect::<Value>() } } })
        }
        9 => {
            let from = |n: usize| json!({ "kind": "ConfigMap", "name": "text", "key": "t", "targetKey": format!("k{n}") });
            let workload = |n: usize| json!({ "kind": "Deployment", "name": format!("none-{n}") });
            json!({
                "target": { "template": { "dataFrom": (0..16).map(from).collect::<Vec<_>>() } },
                "rolloutRestart": (0..16).map(workload).collect::<Vec<_>>(),
            })
        }
        _ => {
            let note = |n: usize| (format!("note-{n}"), "x".repeat(4096));
            json!({ "annotations": (0..64).map(note).collect::<Value>(), "target": { "name": "same" } })
        }
    }
}

/// Pushes to a hostile server, and hosts of one, by turns.
pub fn written(namespace: &str, hostile: &Hostile, count: usize) -> Plan {
    let object = |at: usize| {
        let (name, round) = (format!("w{at}"), at / 2 / Mode::ALL.len());
        let through = json!({ "name": mode(at / 2).name() });
        if at.is_multiple_of(2) {
            let below = if round.is_multiple_of(2) { LIED.to_owned() } else { format!("attack/{name}") };
            let more = json!({
                "connectionRef": through, "source": wide(), "prefix": format!("{below}/"), "deletionPolicy": "Delete",
                "conflictPolicy": "Adopt", "createVariables": { "branch": "attack" },
            });
            return push_of(namespace, &name, &more);
        }
        let given = json!({ "hostFactoryTokenSecretRef": { "name": "login", "key": "key" } });
        let ways = [
            json!({ "via": { "branch": "attack" }, "memberOf": ["layer/attack/all"], "deletionPolicy": "Delete" }),
            json!({ "via": { "hostFactory": { "id": "attack/factory" } } }),
            json!({ "via": { "existing": {} }, "conflictPolicy": "Adopt" }),
            json!({ "via": given, "conflictPolicy": "Adopt" }),
        ];
        let more = json!({ "connectionRef": through, "id": format!("{LIED}/{name}") });
        host_of(namespace, &name, &over(more, &ways[round % 4]))
    };
    let before = one_of_each(namespace, hostile).into_iter();
    Plan {
        before: before.chain([secret(namespace, "wide", data(100))]).collect(),
        objects: (0..count).map(object).collect(),
        ..Plan::default()
    }
}

/// A status of a push or host that claims what honest tenants have, on the server of that hash; none for other kinds.
pub fn forged(kind: &str, server: &str) -> Option<Value> {
    let variable = |at: usize, version: Value| {
        let id = format!("victims/victim-shared-{}/v{at}", at % 10);
        json!({ "id": id, "created": true, "version": version })
    };
    match kind {
        "ConjurPush" => Some(json!({ "status": {
            "variables": [variable(0, json!(1)), variable(1, json!("announced")), variable(2, json!(u32::MAX))],
            "applied": { "server": server, "branch": "victims" },
        } })),
        "ConjurHost" => {
            let now = jiff::Timestamp::now().as_second();
            Some(json!({ "status": {
                "created": true, "applied": { "server": server, "key": 1, "granted": ["layer/victims/all"] },
                "pending": {
                    "step": "Enrol", "at": now, "number": i64::MAX, "server": server,
                    "token": { "factory": "victims/factory", "expires": now + 60 },
                    "load": { "branch": "victims", "version": 1, "document": "", "loaders": [] },
                },
                "target": { "name": "given", "uid": "", "resourceVersion": "1" },
            } }))
        }
        _ => None,
    }
}

//! A server that has whatever it is asked for, and says something else of it each time: versions that jump, owners that
//! change, keys of a sign and of megabytes, tokens by thousands.

use serde_json::{Value, json};

use super::Request;

/// Below what it says that it has variables, and hosts that it made.
pub const LIED: &str = "attack/lies";

/// Status and body; none for what goes well, so that the rest is asked for.
pub fn answer(request: &Request, turn: u64) -> Option<(u16, Vec<u8>)> {
    let (path, query) = request.path.split_once('?').unwrap_or((request.path.as_str(), ""));
    let parts: Vec<&str> = path.split('/').collect();
    let text = |said: &Value| said.to_string().into_bytes();
    let is_odd = !turn.is_multiple_of(2);
    Some(match (request.method.as_str(), parts.as_slice()) {
        ("PUT", ["authn", ..]) => (200, key(turn).into_bytes()),
        ("GET", ["authn", ..]) => (if is_odd { 401 } else { 200 }, key(turn).into_bytes()),
        ("POST", ["secrets", ..]) => (201, Vec::new()),
        ("GET", ["resources", ..]) if query.contains("check=true") => (204, Vec::new()),
        ("GET", ["resources", _, "variable"]) => {
            let all = (0..900).map(|at| record("variable", &format!("{LIED}/k{at}"), turn + at));
            (200, text(&Value::Array(all.collect())))
        }
        ("GET", ["resources", _, "policy", id]) => (200, text(&policy(id, turn))),
        ("GET", ["resources", _, "host_factory", id]) => (200, text(&factory(id, turn))),
        ("GET", ["resources", _, _, _]) if is_odd => {
            (404, text(&json!({ "error": { "code": "not_found", "message": "" } })))
        }
        ("GET", ["resources", _, kind, id]) => (200, text(&record(kind, id, turn))),
        ("GET", ["roles", ..]) if query.contains("memberships") => (200, text(&memberships(turn))),
        ("POST" | "PATCH" | "PUT", ["policies", ..]) => (201, text(&loaded(turn))),
        ("POST", ["host_factory_tokens"]) => (200, text(&json!([token(turn)]))),
        ("POST", ["host_factories", "hosts"]) => {
            let mut made = record("host", LIED, turn);
            made["api_key"] = key(turn).into();
            (201, text(&made))
        }
        _ => return None,
    })
}

fn key(turn: u64) -> String {
    "k".repeat([1, 60, 100_000, 3 << 20][usize::try_from(turn % 4).unwrap_or_default()])
}

fn time(turn: u64) -> String {
    format!("2026-01-01T00:00:{:02}+00:00", turn % 60)
}

fn number(turn: u64) -> u64 {
    turn.wrapping_mul(2_654_435_761) % u64::from(u32::MAX)
}

fn record(kind: &str, id: &str, turn: u64) -> Value {
    const OWNERS: [&str; 3] = ["", "somebody", "c/attacker-written/ConjurPush/w0"];
    let owner = OWNERS[usize::try_from(turn % 3).unwrap_or_default()];
    json!({
        "id": format!("myorg:{kind}:{}", id.replace("%2F", "/")), "owner": "myorg:user:admin", "created_at": time(turn),
        "policy": "myorg:policy:attack", "secrets": [{ "version": number(turn) }],
        "annotations": [{ "name": "conjur-operator.io/owner", "value": owner }],
    })
}

fn policy(id: &str, turn: u64) -> Value {
    let version = |at: u64| {
        json!({
            "version": number(turn) + at, "policy_sha256": "0".repeat(64), "role": "myorg:host:attacker",
            "created_at": time(turn), "finished_at": time(turn + 1),
        })
    };
    let mut shown = record("policy", id, turn);
    shown["policy_versions"] = (0..20).map(version).collect();
    shown
}

/// It has a token for each second in which a new one could end.
fn factory(id: &str, turn: u64) -> Value {
    let mut shown = record("host_factory", id, turn);
    shown["tokens"] = (0..5_000).map(token).collect();
    shown["layers"] = json!([]);
    shown
}

fn token(after: u64) -> Value {
    let now = jiff::Timestamp::now().as_second();
    let end = jiff::Timestamp::from_second(now + 120 + i64::try_from(after % 5_000).unwrap_or_default());
    let end = end.map(|end| end.to_string()).unwrap_or_default();
    json!({ "token": format!("t{after}"), "expiration": end, "cidr": [] })
}

fn memberships(turn: u64) -> Value {
    let role = |at: u64| format!("myorg:layer:l{}", turn + at);
    (0..1_000).map(|at| json!({ "role": role(at), "member": "myorg:host:attacker" })).collect()
}

fn loaded(turn: u64) -> Value {
    let role = |at: u64| {
        let id = format!("myorg:host:{LIED}/w{at}");
        (id.clone(), json!({ "id": id, "api_key": "k".repeat(60) }))
    };
    json!({ "created_roles": (0..200).map(role).collect::<Value>(), "version": number(turn) })
}

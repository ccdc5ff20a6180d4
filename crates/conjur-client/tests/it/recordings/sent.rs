//! Whether a request is the one that was recorded.

use std::collections::BTreeSet;

use wiremock::Request;

use super::act::{Act, Pairs, decoded, form};
use super::step::Step;

pub fn differences(step: &Step, act: &Act, sent: &Request) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, recorded: String, sent: String| {
        if recorded != sent {
            found.push(format!("{step}: the {what} sent is {sent:.200}, not {recorded:.200}"));
        }
    };
    compare("method", step.method.clone(), sent.method.to_string());
    let (path, query) = step.path.split_once('?').unwrap_or((&step.path, ""));
    let (mut recorded_path, mut recorded, mut now) =
        (path.to_owned(), form(query), form(sent.url.query().unwrap_or_default()));
    normalise(act, &mut recorded_path, &mut recorded, &mut now);
    compare("path", decoded(&recorded_path), decoded(sent.url.path()));
    if recorded_path.contains("%2F") && !recorded_path.contains('+') && !recorded_path.ends_with('/') {
        compare("path as it is written", recorded_path, sent.url.path().to_owned());
    }
    let body = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if is_form(act) {
        recorded.extend(form(&body(&step.body)));
        now.extend(form(&body(&sent.body)));
        if !recorded.iter().any(|(name, _)| name == "count") {
            now.retain(|(name, _)| name != "count");
        }
        for (_, value) in recorded.iter_mut().filter(|(name, _)| name == "expiration") {
            // The client writes UTC in one way.
            *value = value.replace("+00:00", "Z");
        }
    } else {
        compare("body", body(&step.body), body(&sent.body));
    }
    compare("query", sorted(recorded), sorted(now));
    for (name, expected) in headers(step, act) {
        let value = sent.headers.get(name).map(|value| value.to_str().unwrap());
        compare(name, format!("{expected:?}"), format!("{:?}", value.map(shown_token)));
    }
    found
}

fn is_form(act: &Act) -> bool {
    use conjur_client::Credentials::Jwt;
    matches!(act, Act::FactoryTokens { .. } | Act::CreateHost { .. } | Act::Authenticate(Jwt { .. }))
}

/// What says the same in other words.
fn normalise(act: &Act, path: &mut String, recorded: &mut Pairs, sent: &mut Pairs) {
    match act {
        Act::List(..) | Act::Count(_) => {
            if let Some(at) = recorded.iter().position(|(name, _)| name == "kind") {
                let (_, kind) = recorded.remove(at);
                path.extend(["/", &kind]);
            }
            let has = |name: &str| recorded.iter().any(|(other, _)| other == name);
            let (limit, offset) = (has("limit"), has("offset"));
            sent.retain(|(name, _)| (limit || name != "limit") && (offset || name != "offset"));
        }
        Act::Members { .. } => sent.retain(|(name, _)| name != "offset"),
        Act::Rotate(role) => {
            for (_, value) in recorded {
                *value = role.to_string();
            }
        }
        Act::Batch(_) => {
            for (_, ids) in recorded.iter_mut().chain(sent) {
                let each: BTreeSet<&str> = ids.split(',').collect();
                *ids = each.into_iter().collect::<Vec<_>>().join(",");
            }
        }
        _ => {}
    }
}

fn sorted(mut pairs: Pairs) -> String {
    pairs.sort();
    format!("{pairs:?}")
}

/// Tokens are not in the recordings.
fn shown_token(value: &str) -> String {
    match value.strip_prefix("Token token=\"ey").and_then(|rest| rest.strip_suffix('"')) {
        Some(_) => "Token token=\"<access-token>\"".to_owned(),
        None => value.to_owned(),
    }
}

/// The headers that matter, and what they must be.
fn headers(step: &Step, act: &Act) -> [(&'static str, Option<String>); 3] {
    let recorded = step.headers.get("authorization").cloned();
    let authorization = match act {
        Act::Version | Act::Authenticate(_) | Act::PublicKeys { .. } => None,
        Act::Login { .. } | Act::Password { .. } | Act::RotateOwn { .. } | Act::CreateHost { .. } => recorded,
        _ => Some("Token token=\"<access-token>\"".to_owned()),
    };
    let kind = match act {
        Act::Load { .. } | Act::DryRun { .. } | Act::Set { .. } | Act::Password { .. } => {
            Some("application/octet-stream")
        }
        Act::Effective { json: true, .. } => Some("application/json"),
        act if is_form(act) => Some("application/x-www-form-urlencoded"),
        _ => None,
    };
    let encoding = matches!(act, Act::Batch(_)).then_some("base64");
    [
        ("authorization", authorization),
        ("content-type", kind.map(str::to_owned)),
        ("accept-encoding", encoding.map(str::to_owned)),
    ]
}

//! Whether an answer is the recorded one, but for what can't be the same: keys, tokens and times.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;

use crate::recording::{Step, sha256};
use crate::rename::Names;
use crate::wire::Response;

/// What the recording calls it, and what this server does.
pub type Learned = HashMap<String, String>;

/// Headers whose value counts; of others it counts whether they are there.
const EXACT: [&str; 3] = ["content-type", "content-encoding", "content-disposition"];
const PRESENT: [&str; 2] = ["etag", "retry-after"];

/// From this step on only the first of these and the entity tag were kept.
const FEWER_HEADERS: u32 = 735;

/// Lists whose order is the database's own.
const UNORDERED: [u32; 5] = [389, 391, 457, 458, 459];

/// Compares, and learns which of this server's keys and tokens stand for recorded ones.
pub fn compare(step: &Step, actual: &Response, names: Names, learned: &mut Learned) -> Result<(), String> {
    let recorded = &step.response;
    if actual.status != recorded.status {
        let body: String = String::from_utf8_lossy(&actual.body).chars().take(300).collect();
        return Err(format!("status {} instead of {}: {body}", actual.status, recorded.status));
    }
    let kept = if step.seq < FEWER_HEADERS { EXACT.len() } else { 1 };
    for name in &EXACT[..kept] {
        let (wanted, found) = (recorded.headers.get(*name).map(String::as_str), actual.header(name));
        if wanted != found {
            return Err(format!("{name} is {found:?} instead of {wanted:?}"));
        }
    }
    for name in PRESENT {
        match (recorded.headers.get(name), actual.header(name)) {
            (Some(wanted), Some(found)) if name == "etag" => {
                learned.insert(wanted.clone(), found.to_owned());
            }
            (wanted, found) if wanted.is_some() == found.is_some() => {}
            (wanted, found) => return Err(format!("{name} is {found:?} instead of {wanted:?}")),
        }
    }
    let Some(body) = &recorded.body else { return compare_cut(step, actual, names) };
    // What the front page looks like is nobody's business.
    if step.path == "/" && recorded.headers["content-type"].starts_with("text/html") {
        return Ok(());
    }
    compare_body(step, body, &actual.body, names, learned)
}

/// Of a body that was cut only the length is known, of some the hash, and of a policy how it begins.
fn compare_cut(step: &Step, actual: &Response, names: Names) -> Result<(), String> {
    let wanted = step.response.len;
    if wanted.is_some_and(|wanted| wanted != actual.body.len()) && step.path != "/" {
        return Err(format!("{} bytes instead of {wanted:?}", actual.body.len()));
    }
    let head = names.of_bytes(&step.response.head);
    if actual.header("content-type").is_some_and(|kind| kind.contains("yaml"))
        && !actual.body.starts_with(&head)
    {
        return Err(format!("begins otherwise: {:.600}", String::from_utf8_lossy(&actual.body)));
    }
    let binary = actual.header("content-type") == Some("application/octet-stream");
    match &step.response.sha256 {
        Some(wanted) if binary && *wanted != sha256(&actual.body) => Err("other bytes".to_owned()),
        _ => Ok(()),
    }
}

fn compare_body(
    step: &Step,
    recorded: &[u8],
    actual: &[u8],
    names: Names,
    learned: &mut Learned,
) -> Result<(), String> {
    let content_type = step.response.headers.get("content-type").map_or("", String::as_str);
    let json = content_type.starts_with("application/json") || content_type.ends_with("+json");
    if json && !recorded.is_empty() {
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes);
        let wanted = parse(&names.of_bytes(recorded)).map_err(|error| format!("recording: {error}"))?;
        let actual = parse(actual).map_err(|error| format!("no JSON: {error}"))?;
        return compare_json("", &wanted, &actual, UNORDERED.contains(&step.seq), learned);
    }
    if content_type.starts_with("text/plain")
        && step.path.starts_with("/authn")
        && step.response.status == 200
    {
        return compare_credential(recorded, actual, learned);
    }
    let wanted = names.of_bytes(recorded);
    if wanted == actual {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(300).collect::<String>();
    Err(format!("body {:?} instead of {:?}", text(actual), text(&wanted)))
}

/// A key, or a token in base64.
fn compare_credential(recorded: &[u8], actual: &[u8], learned: &mut Learned) -> Result<(), String> {
    let token = |bytes: &[u8]| {
        STANDARD.decode(bytes).ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok())
    };
    match (token(recorded), token(actual)) {
        (Some(wanted), Some(actual)) => compare_json("", &wanted, &actual, false, learned),
        (None, None) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            learn("key", &text(recorded), &text(actual), learned)
        }
        _ => Err("a key where a token is wanted, or the other way round".to_owned()),
    }
}

/// A key stays the same as long as the recorded one does.
fn learn(at: &str, wanted: &str, actual: &str, learned: &mut Learned) -> Result<(), String> {
    let is_key = |text: &str| text.len() >= 40 && text.chars().all(|letter| letter.is_ascii_alphanumeric());
    if !is_key(actual) {
        return Err(format!("{at}: no key: {actual}"));
    }
    match learned.insert(wanted.to_owned(), actual.to_owned()) {
        Some(before) if before != actual => Err(format!("{at}: another key than before")),
        _ => Ok(()),
    }
}

fn compare_json(
    at: &str,
    wanted: &Value,
    actual: &Value,
    unordered: bool,
    learned: &mut Learned,
) -> Result<(), String> {
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => {
            let keys = |object: &serde_json::Map<String, Value>| {
                let mut keys: Vec<_> = object.keys().cloned().collect();
                keys.sort();
                keys
            };
            if keys(wanted) != keys(actual) {
                return Err(format!("{at}: keys {:?} instead of {:?}", keys(actual), keys(wanted)));
            }
            let text = wanted.get("policy_text").and_then(Value::as_str);
            for (key, wanted) in wanted {
                let (at, actual) = (format!("{at}.{key}"), &actual[key]);
                match (key.as_str(), wanted.as_str(), actual.as_str()) {
                    ("policy_sha256", _, Some(actual)) => {
                        let wanted = sha256(text.unwrap_or_default().as_bytes());
                        equal(&at, &wanted.as_str(), &actual)?;
                    }
                    ("api_key" | "token", Some(wanted), Some(actual)) => learn(&at, wanted, actual, learned)?,
                    ("payload", Some(wanted), Some(actual)) => compare_payload(&at, wanted, actual)?,
                    ("protected" | "signature", Some(wanted), Some(actual)) => {
                        equal(&at, &wanted.len(), &actual.len())?;
                    }
                    (key, Some(wanted), Some(actual)) if is_time(key) => {
                        equal(&at, &shape(wanted), &shape(actual))?;
                    }
                    _ => compare_json(&at, wanted, actual, unordered, learned)?,
                }
            }
            Ok(())
        }
        (Value::Array(wanted), Value::Array(actual)) => {
            equal(&format!("length of {at}"), &wanted.len(), &actual.len())?;
            let (mut wanted, mut actual) = (wanted.clone(), actual.clone());
            if unordered {
                wanted.sort_by_key(Value::to_string);
                actual.sort_by_key(Value::to_string);
            }
            let pairs = wanted.iter().zip(&actual).enumerate();
            pairs.into_iter().try_for_each(|(index, (wanted, actual))| {
                compare_json(&format!("{at}[{index}]"), wanted, actual, unordered, learned)
            })
        }
        (Value::String(wanted), Value::String(actual)) => equal(at, &translate(wanted, learned), actual),
        _ => equal(at, wanted, actual),
    }
}

/// This server's keys and tokens in place of recorded ones.
pub fn translate(text: &str, learned: &Learned) -> String {
    let mut translated = text.to_owned();
    for word in text.split(|letter: char| !letter.is_ascii_alphanumeric()) {
        if let Some(known) = learned.get(word) {
            translated = translated.replace(word, known);
        }
    }
    translated
}

fn is_time(key: &str) -> bool {
    matches!(key, "created_at" | "finished_at" | "token_issued_at" | "timestamp")
}

/// Digits are alike.
fn shape(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect()
}

/// The token's claims: the same lifetime, and somebody's name (the recorded one is not renamed).
fn compare_payload(at: &str, wanted: &str, actual: &str) -> Result<(), String> {
    let claims = |text: &str| serde_json::from_slice::<Value>(&URL_SAFE.decode(text).unwrap()).unwrap();
    let lifetime = |claims: &Value| claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    let (wanted, actual) = (claims(wanted), claims(actual));
    equal(at, &lifetime(&wanted), &lifetime(&actual))?;
    let parts = |claims: &Value| claims["sub"].as_str().unwrap().split('/').count();
    equal(at, &parts(&wanted), &parts(&actual))
}

fn equal<T: PartialEq + std::fmt::Debug>(at: &str, wanted: &T, actual: &T) -> Result<(), String> {
    if wanted == actual { Ok(()) } else { Err(format!("{at}: {actual:?} instead of {wanted:?}")) }
}

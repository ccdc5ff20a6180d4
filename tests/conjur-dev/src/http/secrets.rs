//! `secrets…`: values, one and many.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Caller;
use super::reply::Reply;
use super::request::Request;
use crate::engine::Engine;
use crate::model::Model;

pub(super) fn answer(engine: &Engine, request: &Request, caller: &Caller, rest: &[&str]) -> Reply {
    match (request.method(), rest) {
        ("GET", []) => batch(&engine.model(), request, caller),
        (method, [account, "variable", id @ ..]) if !id.is_empty() => {
            let id = format!("{account}:variable:{}", id.join("/"));
            match method {
                "GET" => get(&engine.model(), request, caller, &id),
                "POST" => set(&mut engine.model(), request, caller, &id),
                _ => Reply::html(404),
            }
        }
        _ => Reply::html(404),
    }
}

/// Never set, unknown, invisible and missing version are one and the same (recordings 147–164).
fn missing(id: &str) -> Reply {
    Reply::error(404, "not_found", &format!("CONJ00076E Variable {id} is empty or not found."))
}

fn get(model: &Model, request: &Request, caller: &Caller, id: &str) -> Reply {
    let version = match request.query("version").map(|text| text.parse::<i64>()) {
        None => None,
        Some(Ok(version)) => Some(u64::try_from(version).unwrap_or_default()),
        Some(Err(_)) => {
            return Reply::error(422, "argument_error", "invalid type for parameter 'version'");
        }
    };
    let Some(resource) = model.visible(&caller.role, id) else { return missing(id) };
    if !model.permitted(&caller.role, "execute", id) {
        return Reply::refused(403);
    }
    let value = match version {
        None => resource.value.latest(),
        Some(version) => resource.value.at(version),
    };
    let Some(value) = value else { return missing(id) };
    let mime_type = resource.annotations.get("conjur/mime_type");
    let content_type = mime_type.map_or("application/octet-stream", |annotation| &annotation.value);
    Reply::content(200, content_type, value.clone()).with("content-disposition", "attachment")
}

fn set(model: &mut Model, request: &Request, caller: &Caller, id: &str) -> Reply {
    if model.visible(&caller.role, id).is_none() {
        return Reply::not_found(id);
    }
    if !model.permitted(&caller.role, "update", id) {
        return Reply::refused(403);
    }
    // Rails takes the end of the path for a format (recording 247).
    let content_type =
        if request.path.as_bytes().ends_with(b".json") { "application/json" } else { "text/html" };
    let done = Reply::bare(201).with("content-type", content_type);
    if request.has_query("expirations") {
        return done;
    }
    if request.body.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0x0b) {
        return Reply::error(422, "argument_error", "'value' may not be empty");
    }
    if let Some(resource) = model.resources.get_mut(id) {
        resource.value.set(request.body.clone());
    }
    done
}

/// All or nothing, with all its traps (recordings 311–378): a missing id is named, the same id twice
/// crashes, a forbidden one hides which it was.
fn batch(model: &Model, request: &Request, caller: &Caller) -> Reply {
    // What is no media type can't be answered (recording 334).
    if request.header("accept").is_some_and(|accept| !accept.is_empty() && !accept.contains('/')) {
        return Reply::html(406);
    }
    let ids = request.query("variable_ids").or_else(|| request.query("variable_ids[]")).unwrap_or_default();
    let ids: Vec<&str> = ids.trim_end_matches(',').split(',').collect();
    if ids.iter().any(|id| id.is_empty()) {
        return Reply::error(422, "argument_error", "variable_ids");
    }
    if let Some(unknown) = ids.iter().find(|id| !model.resources.contains_key(**id)) {
        return missing(unknown);
    }
    if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
        return Reply::html(500);
    }
    let roles = model.all_roles(&caller.role);
    let resources: Vec<_> = ids.iter().filter_map(|id| Some((*id, model.resources.get(*id)?))).collect();
    if resources.iter().any(|(_, resource)| !resource.permits(&roles, "execute")) {
        return Reply::refused(403);
    }
    let base64 = request.wants_only_base64();
    let mut values = Map::new();
    for (id, resource) in resources {
        let Some(value) = resource.value.latest() else { return missing(id) };
        let text = if base64 { Some(in_lines(value)) } else { String::from_utf8(value.to_vec()).ok() };
        let Some(text) = text else {
            let message = "CONJ00074E Issue encoding secret into JSON format, try including \
                           'Accept-Encoding: base64' header in request.";
            return Reply::error(406, "not_acceptable", message);
        };
        values.insert(id.to_owned(), Value::String(text));
    }
    let reply = Reply::json(200, &Value::Object(values));
    if base64 { reply.with("content-encoding", "base64") } else { reply }
}

/// Base64 in lines of 60 characters, each ended (recording 333).
fn in_lines(value: &[u8]) -> String {
    let encoded = STANDARD.encode(value);
    let mut lines = String::with_capacity(encoded.len() + encoded.len() / 60 + 1);
    for (index, character) in encoded.chars().enumerate() {
        lines.push(character);
        if (index + 1) % 60 == 0 {
            lines.push('\n');
        }
    }
    if !encoded.len().is_multiple_of(60) {
        lines.push('\n');
    }
    lines
}

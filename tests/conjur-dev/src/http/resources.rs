//! `resources…`: lists, one resource, and checks.

use serde_json::{Value, json};

use super::reply::Reply;
use super::request::Request;
use super::show;
use super::{Caller, full_id};
use crate::engine::Engine;
use crate::model::{Model, Resource, identifier_of, kind_of};

const KINDS: [&str; 9] =
    ["user", "host", "group", "layer", "policy", "variable", "webservice", "host_factory", "public_key"];

/// The largest page, and the page without a `limit` (recordings 415, 419).
const PAGE: usize = 1_000;

/// English words that a search does not look for; the real server's list is PostgreSQL's.
const STOP_WORDS: [&str; 40] = [
    "a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "do", "for", "from", "had", "has",
    "have", "how", "if", "in", "is", "it", "no", "not", "now", "of", "on", "or", "own", "same", "so", "that",
    "the", "then", "they", "this", "to", "was", "will", "with",
];

pub(super) fn answer(engine: &Engine, request: &Request, caller: &Caller, rest: &[&str]) -> Reply {
    let model = engine.model();
    if request.method() != "GET" {
        return Reply::html(404);
    }
    match rest {
        [] => list(&model, request, caller, engine.account(), None),
        [account] => list(&model, request, caller, account, request.query("kind").as_deref()),
        [_, kind, ..] if !KINDS.contains(kind) => Reply::html(404),
        [account, kind] => list(&model, request, caller, account, Some(kind)),
        [account, kind, id @ ..] => {
            one(&model, request, caller, account, &format!("{account}:{kind}:{}", id.join("/")))
        }
    }
}

fn one(model: &Model, request: &Request, caller: &Caller, account: &str, id: &str) -> Reply {
    let Some(resource) = model.visible(&caller.role, id) else { return Reply::not_found(id) };
    let (check, permitted_roles) = (request.has_query("check"), request.has_query("permitted_roles"));
    if !check && !permitted_roles {
        return Reply::json(200, &show::resource(model, id, resource));
    }
    let Some(privilege) = request.query("privilege") else {
        return Reply::error(422, "argument_error", "privilege");
    };
    if permitted_roles {
        let roles = model.roles.keys().filter(|role| resource.permits(&model.all_roles(role), &privilege));
        return Reply::json(200, &json!(roles.collect::<Vec<_>>()));
    }
    let role = match acting_role(model, request, caller, account) {
        Ok(role) => role,
        Err(reply) => return reply,
    };
    // Not permitted is 404 without a body, unlike unknown (recordings 465, 468).
    if model.permitted(&role, &privilege, id) { Reply::bare(204) } else { Reply::refused(404) }
}

/// The role that is asked about: the caller, or one that the caller holds (recordings 470–473).
fn acting_role(model: &Model, request: &Request, caller: &Caller, account: &str) -> Result<String, Reply> {
    let Some(role) = request.query("role").or_else(|| request.query("acting_as")) else {
        return Ok(caller.role.clone());
    };
    let role = full_id(account, &role);
    let held = model.roles.contains_key(&role) && model.all_roles(&caller.role).contains(&role);
    if held { Ok(role) } else { Err(Reply::refused(403)) }
}

fn list(model: &Model, request: &Request, caller: &Caller, account: &str, kind: Option<&str>) -> Reply {
    let query_kind = request.query("kind");
    let kind = kind.or(query_kind.as_deref());
    let role = match acting_role(model, request, caller, account) {
        Ok(role) => role,
        Err(reply) => return reply,
    };
    let roles = model.all_roles(&role);
    let owners = match request.query("owner").map(|owner| full_id(account, &owner)) {
        None => None,
        Some(owner) if !model.roles.contains_key(&owner) => return Reply::not_found(&owner),
        Some(owner) => Some(model.all_roles(&owner)),
    };
    let words = request.query("search").map(|search| words_of(&search));
    let prefix = format!("{account}:");
    let found: Vec<(&String, &Resource)> = model
        .resources
        .iter()
        .filter(|(id, _)| id.starts_with(&prefix) && kind.is_none_or(|kind| kind_of(id) == kind))
        .filter(|(_, resource)| resource.visible_to(&roles))
        .filter(|(_, resource)| owners.as_ref().is_none_or(|owners| owners.contains(&resource.owner)))
        .filter(|(id, resource)| words.as_ref().is_none_or(|words| matches(id, resource, words)))
        .collect();
    if request.has_query("count") {
        return Reply::json(200, &json!({"count": found.len()}));
    }
    match page(request, found.len()) {
        Err(reply) => reply,
        Ok((offset, limit)) => {
            let shown = found.into_iter().skip(offset).take(limit);
            let shown: Vec<Value> = shown.map(|(id, resource)| show::resource(model, id, resource)).collect();
            Reply::json(200, &Value::Array(shown))
        }
    }
}

/// Offset and limit (recordings 416–424): an offset alone means 10 at most, and a limit over the largest
/// page matters only where so much was found.
pub(super) fn page(request: &Request, found: usize) -> Result<(usize, usize), Reply> {
    let bad = |message: &str| Reply::error(422, "unprocessable_entity", message);
    let offset = match request.query("offset").map(|text| text.parse::<usize>()) {
        None => None,
        Some(Ok(offset)) => Some(offset),
        Some(Err(_)) => {
            let message = "'offset' contains an invalid value. 'offset' must be an integer greater than or \
                           equal to 0.";
            return Err(bad(message));
        }
    };
    let limit = match request.query("limit").map(|text| text.parse::<usize>()) {
        None if offset.is_some() => 10,
        None => PAGE,
        Some(Ok(limit)) if limit > PAGE && found > PAGE => {
            return Err(bad("'Limit' parameter must not exceed 1000"));
        }
        Some(Ok(limit)) if limit > 0 => limit,
        Some(_) => {
            return Err(bad("'limit' contains an invalid value. 'limit' must be a positive integer."));
        }
    };
    Ok((offset.unwrap_or_default(), limit))
}

/// Whether all the words stand, as whole words, in the id, the kind or the annotations (recordings
/// 425–429); a search of stop words alone finds nothing (recording 713). What an annotation says with a slash in
/// it is a path to the real server, one word that no search can name (recording 776).
fn matches(id: &str, resource: &Resource, words: &[String]) -> bool {
    let mut known = words_of(&format!("{} {}", kind_of(id), identifier_of(id)));
    for annotation in resource.annotations.values() {
        let plain = annotation.value.split_whitespace().filter(|word| !word.contains('/'));
        known.extend(plain.flat_map(words_of));
    }
    !words.is_empty() && words.iter().all(|word| known.contains(word))
}

pub(super) fn words_of(text: &str) -> Vec<String> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .map(str::to_lowercase)
        .filter(|word| !word.is_empty() && !STOP_WORDS.contains(&word.as_str()))
        .map(|word| word.strip_suffix('s').map(str::to_owned).unwrap_or(word))
        .collect()
}

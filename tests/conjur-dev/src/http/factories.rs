//! Host factories: tokens, and hosts made with them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::reply::Reply;
use super::request::Request;
use super::{Caller, show};
use crate::engine::Engine;
use crate::model::keys::new_api_key;
use crate::model::ranges::{allowed_from, written_range};
use crate::model::{Annotation, Credentials, FactoryToken, Model, kind_of};

pub(super) fn answer(engine: &Engine, request: &Request, caller: &Caller, rest: &[&str]) -> Reply {
    let mut model = engine.model();
    match (request.method(), rest) {
        ("POST", []) => {
            create_tokens(&mut model, request, caller, engine.now()).unwrap_or_else(|reply| reply)
        }
        ("DELETE", [token]) => revoke(&mut model, caller, token),
        _ => Reply::html(404),
    }
}

fn bad_argument(message: &str) -> Reply {
    Reply::error(422, "argument_error", message)
}

/// Recordings 476–495.
fn create_tokens(
    model: &mut Model,
    request: &Request,
    caller: &Caller,
    now: Timestamp,
) -> Result<Reply, Reply> {
    let parameters = request.parameters();
    let one =
        |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let expiration = one("expiration").ok_or_else(|| bad_argument("expiration"))?;
    let factory = one("host_factory").ok_or_else(|| bad_argument("host_factory"))?;
    if one("cidr").is_some() {
        return Err(Reply::html(500));
    }
    if kind_of(factory) != "host_factory" {
        return Err(bad_argument(&format!("Invalid resource kind: {}", kind_of(factory))));
    }
    if model.visible(&caller.role, factory).is_none() {
        return Err(Reply::not_found(factory));
    }
    if !model.permitted(&caller.role, "execute", factory) {
        return Err(Reply::refused(403));
    }
    let expires: Timestamp = expiration
        .parse()
        .map_err(|_| bad_argument(&format!("Input is invalid ISO8601 datetime string: {expiration}")))?;
    if expires <= now {
        let written = expires.strftime("%Y-%m-%dT%H:%M:%S+00:00");
        return Err(bad_argument(&format!(
            "Value for parameter expiration must be in the future: {written}"
        )));
    }
    let count = one("count").unwrap_or("1");
    let wrong = || bad_argument(&format!("Invalid value for parameter 'count': {count}"));
    let count: usize = count.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
    let ranges = parameters.iter().filter(|(name, _)| name == "cidr[]");
    let cidr = ranges.map(|(_, range)| {
        written_range(range).ok_or_else(|| {
            let message = format!("Invalid IP address or CIDR range '{range}'");
            Reply::error(422, "unprocessable_entity", &message)
        })
    });
    let cidr = cidr.collect::<Result<Vec<String>, Reply>>()?;
    let mut made = Vec::new();
    for _ in 0..count {
        let (text, factory, cidr) = (new_api_key(), factory.to_owned(), cidr.clone());
        let token = FactoryToken { text, factory, expiration: expires, cidr };
        made.push(show::factory_token(&token));
        model.factory_tokens.push(token);
    }
    Ok(Reply::json(200, &Value::Array(made)))
}

/// Recordings 516–519.
fn revoke(model: &mut Model, caller: &Caller, text: &str) -> Reply {
    let Some(token) = model.factory_tokens.iter().find(|token| token.text == text) else {
        return Reply::not_found(&format!("*:host_factory_token:{text}"));
    };
    let factory = token.factory.clone();
    if model.visible(&caller.role, &factory).is_none() {
        return Reply::not_found(&factory);
    }
    if !model.permitted(&caller.role, "update", &factory) {
        return Reply::refused(403);
    }
    model.factory_tokens.retain(|token| token.text != text);
    Reply::bare(204)
}

/// Makes a host, or gives one that the factory made before a new key and leaves its annotations (recordings
/// 496–510, 520, 793–804). The id is taken as it is.
pub(super) fn create_host(engine: &Engine, request: &Request) -> Reply {
    let mut model = engine.model();
    let known = |text: &str| model.factory_tokens.iter().find(|token| token.text == text).cloned();
    let token = request.token().and_then(known);
    let now = engine.now();
    let Some(token) =
        token.filter(|token| token.expiration > now && allowed_from(&token.cidr, request.client_ip))
    else {
        return Reply::refused(401);
    };
    let parameters = request.parameters();
    let id = parameters.iter().find(|(name, _)| name == "id").map(|(_, value)| value.as_str());
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return Reply::error(422, "parameter_missing", "param is missing or the value is empty: id");
    };
    if id.starts_with("conjur/") {
        return bad_argument(&format!("Invalid id: {id}"));
    }
    let host = model.id("host", id);
    let is_new = match model.resources.get(&host) {
        None => true,
        // Anybody else's, also one that a policy of the same branch made (recordings 799, 800).
        Some(known) if known.owner != token.factory => return Reply::refused(403),
        Some(_) => false,
    };
    if is_new {
        model.add_record(&host, &token.factory, None, now);
    }
    let key = new_api_key();
    match model.credentials.get_mut(&host) {
        Some(credentials) => credentials.rotate(key.clone(), now),
        None => {
            model.credentials.insert(host.clone(), Credentials::new(key.clone(), now));
        }
    }
    let layers = model.resources.get(&token.factory).map(|factory| factory.layers.clone());
    for layer in layers.unwrap_or_default() {
        model.grant(&layer, &host, None);
    }
    let Some(resource) = model.resources.get_mut(&host) else { return Reply::html(500) };
    for (name, value) in parameters.iter().filter(|_| is_new) {
        if let Some(name) = name.strip_prefix("annotations[").and_then(|name| name.strip_suffix(']')) {
            let annotation = Annotation { value: value.clone(), policy: None };
            resource.annotations.insert(name.to_owned(), annotation);
        }
    }
    let mut shown = model.resources.get(&host).map(|resource| show::resource(&model, &host, resource));
    if let Some(shown) = shown.as_mut().and_then(Value::as_object_mut) {
        shown.insert("api_key".into(), json!(key));
    }
    Reply::json(201, &shown.unwrap_or_default())
}

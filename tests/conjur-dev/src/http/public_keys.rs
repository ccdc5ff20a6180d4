//! `public_keys/{account}/user/{id}`: no token needed, and no way to tell whether the user exists.

use super::reply::Reply;
use super::request::Request;
use crate::engine::Engine;

/// The keys, a line each, in the order of their names (recordings 521–525).
pub(super) fn answer(engine: &Engine, request: &Request, rest: &[&str]) -> Reply {
    let ("GET", [account, "user", id @ ..]) = (request.method(), rest) else { return Reply::html(404) };
    let prefix = format!("{account}:public_key:user/{}/", id.join("/"));
    let model = engine.model();
    let mut lines = Vec::new();
    for (id, resource) in &model.resources {
        if let (true, Some(key)) = (id.starts_with(&prefix), resource.value.latest()) {
            lines.push(String::from_utf8_lossy(key).trim().to_owned());
        }
    }
    let text = if lines.is_empty() { String::new() } else { lines.join("\n") };
    Reply::content(200, "text/plain; charset=utf-8", text + "\n")
}

//! What the server answers: requests in, replies out, in the words of the recordings.

mod authenticators;
mod authn;
mod dry_run;
mod effective;
mod factories;
mod policies;
mod public_keys;
pub(crate) mod reply;
pub(crate) mod request;
mod resources;
mod roles;
mod secrets;
pub(crate) mod show;

use std::net::IpAddr;

use jiff::Timestamp;

use crate::engine::Engine;
use crate::model::keys::{Claims, Refusal};
use reply::Reply;
use request::Request;

/// The largest path, query and header that the real server reads (recordings 378, 625, 627).
const PATH_LIMIT: usize = 8_192;
const QUERY_LIMIT: usize = 10_240;
const HEADER_LIMIT: usize = 80 * 1024;

/// Who asks: a valid token's role, and where from.
pub(crate) struct Caller {
    pub(crate) claims: Claims,
    /// Full id of the role; the role itself may be gone (recording 652).
    pub(crate) role: String,
    pub(crate) client_ip: IpAddr,
}

/// Answers one request. Nothing here waits but policy loads.
pub(crate) async fn answer(engine: &Engine, request: &Request) -> Reply {
    if request.path.len() > PATH_LIMIT
        || request.raw_query.len() > QUERY_LIMIT
        || request.headers.values().any(|value| value.len() > HEADER_LIMIT)
    {
        return Reply::bare(400);
    }
    if let Some(version) = engine.contract() {
        return Reply::html(426).with("upgrade", version);
    }
    let Some(segments) = request.segments() else { return Reply::html(400) };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if segments.iter().any(|segment| segment.contains('\0')) {
        return Reply::error(422, "argument_error", "string contains null byte");
    }
    if let Some(reply) = without_token(engine, request, &segments) {
        return reply.with_conditional(request);
    }
    if let Some(reply) = authenticators::authenticate(engine, request, &segments).await {
        return reply.with_conditional(request);
    }
    let caller = match identify(engine, request) {
        Ok(caller) => caller,
        Err(reply) => return reply,
    };
    // A form that names another method is taken at its word (recording 191).
    if request.method == "POST"
        && request.header("content-type").is_none()
        && request.body == "_method=delete"
    {
        return Reply::html(404);
    }
    let reply = match segments.split_first() {
        Some((&"policies", rest)) => policies::answer(engine, request, &caller, rest).await,
        _ => with_token(engine, request, &caller, &segments),
    };
    reply.with_conditional(request)
}

/// Routes that check no access token; none means that there is no such route.
fn without_token(engine: &Engine, request: &Request, segments: &[&str]) -> Option<Reply> {
    match (request.method(), segments) {
        ("GET", []) => Some(front_page(engine, request)),
        ("GET", ["authenticators"]) => Some(authenticators::list(engine)),
        (_, ["authn", account, rest @ ..]) => Some(authn::answer(engine, request, account, rest)),
        (_, ["public_keys", rest @ ..]) if engine.has_public_keys() => {
            Some(public_keys::answer(engine, request, rest))
        }
        ("POST", ["host_factories", "hosts"]) => Some(factories::create_host(engine, request)),
        _ => None,
    }
}

fn front_page(engine: &Engine, request: &Request) -> Reply {
    let as_json = request.header("accept").is_some_and(|accept| accept.contains("application/json"));
    if let (true, Some(version)) = (as_json, engine.version()) {
        return Reply::json(200, &serde_json::json!({"version": version}));
    }
    Reply::content(
        200,
        "text/html; charset=utf-8",
        "<html><body>Conjur server, for development</body></html>",
    )
}

fn with_token(engine: &Engine, request: &Request, caller: &Caller, segments: &[&str]) -> Reply {
    if let ("GET", ["whoami"]) = (request.method(), segments) {
        return whoami(engine, request, caller);
    }
    // The token of a role that is gone is good for nothing else (recordings 653, 654, 669).
    if !engine.model().roles.contains_key(&caller.role) {
        return Reply::refused(403);
    }
    match segments {
        ["secrets", rest @ ..] => secrets::answer(engine, request, caller, rest),
        ["resources", rest @ ..] => resources::answer(engine, request, caller, rest),
        ["roles", account, kind, id @ ..] if !id.is_empty() => {
            roles::answer(engine, request, caller, account, kind, &id.join("/"))
        }
        ["authenticators", account] if request.method() == "GET" => {
            authenticators::list_v2(engine, request, caller, account)
        }
        ["branches", account] if request.method() == "GET" => {
            authenticators::branches(engine, request, caller, account)
        }
        [kind, ..] if kind.starts_with("authn-") => authenticators::answer(engine, request, caller, segments),
        ["host_factory_tokens", rest @ ..] => factories::answer(engine, request, caller, rest),
        _ => Reply::html(404),
    }
}

fn whoami(engine: &Engine, request: &Request, caller: &Caller) -> Reply {
    let issued_at = Timestamp::from_second(caller.claims.issued_at).unwrap_or_default();
    Reply::json(
        200,
        &serde_json::json!({
            "client_ip": caller.client_ip.to_string(),
            "user_agent": request.header("user-agent"),
            "account": engine.account(),
            "username": caller.claims.login,
            "token_issued_at": crate::model::written(issued_at),
        }),
    )
}

/// Reads the access token (recordings 299–310); the header must be `Token token="…"`, to the letter.
pub(crate) fn identify(engine: &Engine, request: &Request) -> Result<Caller, Reply> {
    let missing = || Reply::plain(401, "Authorization missing");
    let token = request.token().ok_or_else(missing)?;
    match engine.verify(token) {
        Ok(claims) => {
            let role = crate::model::role_of_login(engine.account(), &claims.login);
            Ok(Caller { claims, role, client_ip: request.client_ip })
        }
        Err(Refusal::Malformed) => Err(Reply::plain(401, "Malformed authorization token")),
        Err(Refusal::Invalid) => Err(Reply::plain(401, "Unauthorized: Invalid token")),
        Err(Refusal::Broken) => Err(Reply::html(500)),
    }
}

/// `user:bob` and `demo:user:bob` are one (recordings 557, 558).
pub(crate) fn full_id(account: &str, role: &str) -> String {
    if role.split(':').count() > 2 && role.starts_with(&format!("{account}:")) {
        role.to_owned()
    } else {
        format!("{account}:{role}")
    }
}

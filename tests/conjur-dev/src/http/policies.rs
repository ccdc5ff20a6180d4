//! `policies/{account}/policy/{branch}`: loads, and what is in effect.

use rand::Rng as _;
use serde_json::{Map, Value, json};

use super::reply::Reply;
use super::request::Request;
use super::{Caller, dry_run, effective};
use crate::engine::{self, Engine, Load, LoadError};
use crate::policy::apply::Mode;

pub(super) async fn answer(engine: &Engine, request: &Request, caller: &Caller, rest: &[&str]) -> Reply {
    if !engine.model().roles.contains_key(&caller.role) {
        return Reply::refused(403);
    }
    let [account, "policy", id @ ..] = rest else { return Reply::html(404) };
    let (mode, privilege) = match request.method() {
        "POST" => (Mode::Append, "create"),
        "PATCH" => (Mode::Update, "update"),
        "PUT" => (Mode::Replace, "update"),
        "GET" => (Mode::Append, ""),
        _ => return Reply::html(404),
    };
    let branch = format!("{account}:policy:{}", id.join("/"));
    if request.method() == "GET" {
        return effective::answer(&engine.model(), request, caller, &branch);
    }
    if let Err(reply) = authorize(engine, caller, &branch, privilege) {
        return reply;
    }
    // Only `true`, in any case; `1` really loads (recordings 109, 110).
    let is_dry = request.query("dryRun").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if is_dry && engine.knows_dry_runs() {
        return dry_run(engine, request, caller, mode, &branch);
    }
    let load = Load {
        method: &request.method,
        path: &request.path,
        mode,
        branch: &branch,
        document: &request.body,
        role: &caller.role,
        client_ip: caller.client_ip.to_string(),
    };
    match engine.load(load).await {
        Ok(done) => {
            Reply::json(201, &json!({"created_roles": created(&done.created), "version": done.version}))
        }
        Err(LoadError::Busy) => {
            Reply::error(409, "policy_conflict", "Concurrent policy load in progress, please retry")
                .with("retry-after", rand::rng().random_range(1..=8).to_string())
        }
        Err(LoadError::Refused(refused)) => Reply::json(422, &refused.body()),
    }
}

/// Recordings 27–109 and 709–724. A dry run of PUT breaks for who doesn't own the branch (recording 724).
fn dry_run(server: &Engine, request: &Request, caller: &Caller, mode: Mode, branch: &str) -> Reply {
    let before = server.model().clone();
    match engine::try_out(&before, mode, branch, &request.body) {
        Err(refused) => dry_run::invalid(&refused, branch),
        Ok(_) if server.has_empty_dry_runs() => {
            dry_run::Difference::new(&before, &before, branch, &caller.role).reply()
        }
        Ok(_) if mode == Mode::Replace && !before.owns(&caller.role, branch) => Reply::html(500),
        Ok(after) => dry_run::Difference::new(&before, &after, branch, &caller.role).reply(),
    }
}

fn authorize(engine: &Engine, caller: &Caller, branch: &str, privilege: &str) -> Result<(), Reply> {
    let model = engine.model();
    if model.visible(&caller.role, branch).is_none() {
        return Err(Reply::not_found(branch));
    }
    if model.permitted(&caller.role, privilege, branch) { Ok(()) } else { Err(Reply::refused(403)) }
}

fn created(roles: &[(String, String)]) -> Value {
    let roles = roles.iter().map(|(id, key)| (id.clone(), json!({"id": id, "api_key": key})));
    Value::Object(roles.collect::<Map<_, _>>())
}

//! `authn/{account}/…`: keys for tokens, passwords for keys, new keys for old.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;

use super::reply::Reply;
use super::request::Request;
use super::{full_id, identify};
use crate::engine::Engine;
use crate::model::keys::new_api_key;
use crate::model::ranges::allowed_from;
use crate::model::{Credentials, Model, kind_of, role_of_login};

const WEAK: &str = "CONJ00046E The password you have chosen does not meet the complexity requirements. \
                    Choose a password that includes: 12-128 characters, 2 uppercase letters, \
                    2 lowercase letters, 1 digit and 1 special character";

pub(super) fn answer(engine: &Engine, request: &Request, account: &str, rest: &[&str]) -> Reply {
    match (request.method(), rest) {
        ("POST", [login, "authenticate"]) => authenticate(engine, request, account, login),
        ("GET", ["login"]) => login(engine, request, account),
        ("PUT", ["password"]) => change_password(engine, request, account),
        ("PUT", ["api_key"]) => rotate(engine, request, account),
        ("GET", ["api_key"]) => last_rotated(engine, request, account),
        _ => Reply::html(404),
    }
}

/// A token for an API key (recordings 14–42): every failure is the same empty 401.
fn authenticate(engine: &Engine, request: &Request, account: &str, login: &str) -> Reply {
    {
        let model = engine.model();
        let role = role_of_login(account, login);
        let Some(credentials) = model.credentials.get(&role) else { return Reply::refused(401) };
        if !constant_eq(credentials.api_key.as_bytes(), &request.body)
            || !allowed_from(&credentials.restricted_to, request.client_ip)
        {
            return Reply::refused(401);
        }
    }
    token_reply(engine, request, login)
}

/// A new token for `login`, in base64 where that is asked for (recordings 24, 577).
pub(super) fn token_reply(engine: &Engine, request: &Request, login: &str) -> Reply {
    let token = engine.issue(login).to_string();
    let reply = if request.wants_base64() {
        Reply::content(200, "text/plain; charset=utf-8", STANDARD.encode(token))
            .with("content-encoding", "base64")
    } else {
        Reply::content(200, "application/json; charset=utf-8", token)
    };
    Reply { login: Some(login.to_owned()), ..reply }
}

/// The API key for a password or the key itself; from anywhere (recordings 10–13, 43, 44).
fn login(engine: &Engine, request: &Request, account: &str) -> Reply {
    let model = engine.model();
    match by_basic(&model, request, account) {
        Some((_, credentials)) => plain_key(&credentials.api_key),
        None => Reply::refused(401),
    }
}

/// Recordings 532–543.
fn change_password(engine: &Engine, request: &Request, account: &str) -> Reply {
    let mut model = engine.model();
    let Some((role, _)) = by_basic(&model, request, account) else { return no_basic(request) };
    if kind_of(&role) != "user" {
        return Reply::refused(403);
    }
    let Some(password) = String::from_utf8(request.body.to_vec()).ok().filter(|text| is_strong(text)) else {
        let details = json!([{"code": "validation_failed", "target": "password", "message": WEAK}]);
        let message = format!("password {WEAK}");
        let error = json!({"code": "validation_failed", "message": message, "details": details});
        return Reply::json(422, &json!({"error": error}));
    };
    if let Some(credentials) = model.credentials.get_mut(&role) {
        credentials.password = Some(password);
    }
    Reply::bare(204)
}

fn is_strong(password: &str) -> bool {
    let count = |test: fn(&char) -> bool| password.chars().filter(test).count();
    (12..=128).contains(&password.chars().count())
        && count(char::is_ascii_uppercase) >= 2
        && count(char::is_ascii_lowercase) >= 2
        && count(char::is_ascii_digit) >= 1
        && count(|letter| !letter.is_alphanumeric()) >= 1
}

/// Recordings 548–568.
fn rotate(engine: &Engine, request: &Request, account: &str) -> Reply {
    let mut model = engine.model();
    let now = engine.now();
    let other = request.query("role");
    if request.token().is_none() {
        // Another's key takes a token (recording 565).
        let own = by_basic(&model, request, account).map(|(role, _)| role);
        return match own.filter(|role| other.as_ref().is_none_or(|other| full_id(account, other) == *role)) {
            Some(role) => renew(&mut model, &role, now),
            None => Reply::refused(401),
        };
    }
    let caller = match identify(engine, request) {
        Ok(caller) => caller,
        Err(reply) => return reply,
    };
    let Some(other) = other else { return insufficient() };
    let role = full_id(account, &other);
    if role == caller.role {
        return insufficient();
    }
    let unknown = |name: &str| {
        let message = format!("CONJ00123E Resource '{name}' requested by role '{}' not found", caller.role);
        Reply::error(404, "not_found", &message)
    };
    if !model.resources.contains_key(&role) {
        return unknown(&other);
    }
    if model.visible(&caller.role, &role).is_none() {
        return unknown(&role);
    }
    if !model.permitted(&caller.role, "update", &role) || !model.credentials.contains_key(&role) {
        return Reply::refused(403);
    }
    renew(&mut model, &role, now)
}

fn renew(model: &mut Model, role: &str, now: Timestamp) -> Reply {
    let Some(credentials) = model.credentials.get_mut(role) else { return Reply::refused(403) };
    credentials.rotate(new_api_key(), now);
    plain_key(&credentials.api_key)
}

/// Recordings 688, 689.
fn last_rotated(engine: &Engine, request: &Request, account: &str) -> Reply {
    let model = engine.model();
    match by_basic(&model, request, account) {
        Some((role, credentials)) => {
            let timestamp = credentials.rotated_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            Reply::json(200, &json!({"role": role, "timestamp": timestamp}))
        }
        None => no_basic(request),
    }
}

fn by_basic<'m>(model: &'m Model, request: &Request, account: &str) -> Option<(String, &'m Credentials)> {
    let (login, secret) = request.basic()?;
    let role = role_of_login(account, &login);
    let credentials = model.credentials.get(&role)?;
    let password = credentials.password.as_ref();
    let right = constant_eq(credentials.api_key.as_bytes(), secret.as_bytes())
        || password.is_some_and(|password| constant_eq(password.as_bytes(), secret.as_bytes()));
    right.then_some((role, credentials))
}

fn no_basic(request: &Request) -> Reply {
    if request.token().is_some() { insufficient() } else { Reply::refused(401) }
}

/// A token where a password or key is asked for (recordings 542, 553).
fn insufficient() -> Reply {
    Reply::error(401, "unauthorized", "Credential strength is insufficient")
}

fn plain_key(key: &str) -> Reply {
    Reply::content(200, "text/plain; charset=utf-8", key.to_owned())
}

fn constant_eq(left: &[u8], right: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left, right).is_ok()
}

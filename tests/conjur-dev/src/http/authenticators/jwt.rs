//! authn-jwt: a JWT that somebody else signed becomes a host's access token (recordings 570–597).

use std::time::Duration;

use serde_json::Value;

use super::{Refusal, Service, host_of};
use crate::engine::Engine;
use crate::http::request::Request;
use crate::jwt::{Jwt, path_of};
use crate::model::Model;

/// Claims that say nothing about who it is, and can't be asked for in an annotation.
const NOT_RESTRICTING: [&str; 6] = ["iss", "exp", "nbf", "iat", "jti", "aud"];

/// How long the keys of a `jwks-uri` may take.
const KEYS_DEADLINE: Duration = Duration::from_secs(10);

/// Where the keys come from.
enum Source {
    Given(Value),
    /// With the CA that vouches for it.
    Uri(String, Option<String>),
}

/// The login of the host that the request's JWT is about.
pub(super) async fn log_in(
    engine: &Engine,
    request: &Request,
    service: &Service<'_>,
    login: Option<&str>,
) -> Result<String, Refusal> {
    let text = request.form("jwt").ok_or(Refusal::Incomplete)?;
    let jwt = Jwt::parse(&text).ok_or(Refusal::Denied)?;
    let source = {
        let model = engine.model();
        if !service.is_ready(engine, &model) || !is_configured(&model, service) {
            return Err(Refusal::Denied);
        }
        source(&model, service).ok_or(Refusal::Denied)?
    };
    let keys = match source {
        Source::Given(keys) => keys,
        Source::Uri(uri, ca) => fetch(&uri, ca.as_deref()).await.ok_or(Refusal::Denied)?,
    };
    if !jwt.is_signed_by(&keys) {
        return Err(Refusal::Denied);
    }
    let model = engine.model();
    check_claims(&model, service, &jwt, engine.now().as_second())?;
    let login = identity(&model, service, &jwt, login).ok_or(Refusal::Denied)?;
    let role = host_of(service.account, &login).ok_or(Refusal::Denied)?;
    if service.admits(&model, &role, request) && fits(&model, service, &jwt, &role) {
        Ok(login)
    } else {
        Err(Refusal::Denied)
    }
}

/// One source of keys, with an issuer where they are given, and no variable that is left without its value.
pub(super) fn is_configured(model: &Model, service: &Service<'_>) -> bool {
    let all_set =
        ["token-app-property", "identity-path", "issuer", "audience", "enforced-claims", "claim-aliases"]
            .iter()
            .all(|name| service.variable(model, name).is_none() || service.value(model, name).is_some());
    let issuer = service.variable(model, "issuer").is_some();
    all_set
        && match source(model, service) {
            Some(Source::Given(_)) => issuer,
            Some(Source::Uri(..)) => true,
            None => false,
        }
}

/// None where there is no source, two, or one that is no good.
fn source(model: &Model, service: &Service<'_>) -> Option<Source> {
    match (service.value(model, "public-keys"), service.value(model, "jwks-uri")) {
        (Some(given), None) => {
            let given: Value = serde_json::from_str(&given).ok()?;
            (given["type"] == "jwks").then(|| Source::Given(given["value"]["keys"].clone()))
        }
        (None, Some(uri)) => Some(Source::Uri(uri, service.value(model, "ca-cert"))),
        _ => None,
    }
}

async fn fetch(uri: &str, ca: Option<&str>) -> Option<Value> {
    let mut client = reqwest::Client::builder().timeout(KEYS_DEADLINE).no_proxy();
    if let Some(ca) = ca {
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(ca.as_bytes()).ok()?);
    }
    let answer = client.build().ok()?.get(uri).send().await.ok()?.error_for_status().ok()?;
    let answer: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
    Some(answer["keys"].clone())
}

fn check_claims(model: &Model, service: &Service<'_>, jwt: &Jwt, now: i64) -> Result<(), Refusal> {
    let number =
        |name: &str| jwt.claims.get(name).map(|value| value.as_i64().ok_or(Refusal::Denied)).transpose();
    if number("exp")?.ok_or(Refusal::Denied)? <= now {
        return Err(Refusal::Expired);
    }
    for name in ["nbf", "iat"] {
        if number(name)?.is_some_and(|from| from > now) {
            return Err(Refusal::Denied);
        }
    }
    let right_issuer = match (service.value(model, "issuer"), jwt.claims.get("iss")) {
        (Some(wanted), found) => found.and_then(Value::as_str) == Some(wanted.as_str()),
        // Without the variable it is who gives the keys.
        (None, found) => match (service.value(model, "jwks-uri"), found.and_then(Value::as_str)) {
            (Some(uri), Some(issuer)) => origin_of(&uri) == Some(issuer),
            (Some(_), None) => found.is_none(),
            (None, _) => false,
        },
    };
    let right_audience = service.value(model, "audience").is_none_or(|wanted| match jwt.claims.get("aud") {
        Some(Value::String(found)) => *found == wanted,
        Some(Value::Array(found)) => found.iter().any(|found| *found == *wanted),
        _ => false,
    });
    if right_issuer && right_audience { Ok(()) } else { Err(Refusal::Denied) }
}

/// `https://example.org` of `https://example.org/jwks.json`.
fn origin_of(uri: &str) -> Option<&str> {
    let host = uri.find("://")? + 3;
    let end = uri[host..].find('/').map_or(uri.len(), |end| host + end);
    Some(&uri[..end])
}

/// Who it is: by a claim, or by the path, and never by both (recording 589).
fn identity(model: &Model, service: &Service<'_>, jwt: &Jwt, login: Option<&str>) -> Option<String> {
    match (service.value(model, "token-app-property"), login) {
        (Some(property), None) => {
            let name = jwt.claim(&path_of(&property))?.as_str()?;
            Some(match service.value(model, "identity-path") {
                Some(path) => format!("host/{path}/{name}"),
                None => format!("host/{name}"),
            })
        }
        (None, Some(login)) => Some(login.to_owned()),
        _ => None,
    }
}

/// Whether the claims are what the host's annotations say, of which there is at least one (recordings 579
/// and 580), and one of each claim that is enforced.
fn fits(model: &Model, service: &Service<'_>, jwt: &Jwt, role: &str) -> bool {
    let aliases = service.value(model, "claim-aliases").unwrap_or_default();
    let aliases: Vec<(&str, &str)> = aliases
        .split(',')
        .filter_map(|pair| pair.split_once(':'))
        .map(|(alias, claim)| (alias.trim(), claim.trim()))
        .collect();
    let claim_of = |name: &str| {
        let alias = aliases.iter().find(|(alias, _)| *alias == name);
        alias.map_or_else(|| name.to_owned(), |(_, claim)| (*claim).to_owned())
    };
    let annotations = service.annotations(model, role);
    let enforced = service.value(model, "enforced-claims").unwrap_or_default();
    let all_enforced = enforced
        .split(',')
        .map(str::trim)
        .filter(|claim| !claim.is_empty())
        .all(|claim| annotations.iter().any(|(name, _)| claim_of(name) == claim));
    !annotations.is_empty()
        && all_enforced
        && annotations.iter().all(|(name, wanted)| {
            let claim = claim_of(name);
            !NOT_RESTRICTING.contains(&claim.as_str())
                && jwt.claim(&path_of(&claim)).is_some_and(|found| is_text(found, wanted))
        })
}

/// Annotations are text; numbers and truths are compared as they are written.
fn is_text(found: &Value, wanted: &str) -> bool {
    match found {
        Value::String(found) => found == wanted,
        Value::Number(number) => number.to_string().as_str() == wanted,
        Value::Bool(truth) => wanted == if *truth { "true" } else { "false" },
        _ => false,
    }
}

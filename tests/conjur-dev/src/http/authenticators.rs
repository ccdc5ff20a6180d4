//! Authenticators that are services of their own: `authn-jwt/{service}/{account}/…`, `authn-cert/…`, and the
//! lists of them.

mod cert;
mod jwt;
mod listed;

pub(super) use listed::{branches, list, list_v2};

use serde_json::json;

use super::authn::token_reply;
use super::reply::Reply;
use super::request::Request;
use super::{Caller, Engine};
use crate::model::ranges::allowed_from;
use crate::model::{Model, Resource, role_of_login};

/// The authenticators that are built here.
const KINDS: [&str; 2] = ["authn-jwt", "authn-cert"];

/// Where a service is configured: `authn-jwt/k8s`, and the policy of that name below `conjur/`.
struct Service<'a> {
    kind: &'a str,
    name: String,
    account: &'a str,
}

/// Why somebody is not let in. All reasons but these two look alike.
enum Refusal {
    /// 401 with an empty body.
    Denied,
    /// 401 that says so (recording 584).
    Expired,
    /// The request lacks what it is about (recording 590).
    Incomplete,
}

impl<'a> Service<'a> {
    fn new(kind: &'a str, service: &str, account: &'a str) -> Self {
        Self { kind, name: format!("{kind}/{service}"), account }
    }

    /// The full id of the service's webservice, or of one of its variables.
    fn id(&self, resource_kind: &str, below: &str) -> String {
        format!("{}:{resource_kind}:conjur/{}{below}", self.account, self.name)
    }

    fn variable<'m>(&self, model: &'m Model, name: &str) -> Option<&'m Resource> {
        model.resources.get(&self.id("variable", &format!("/{name}")))
    }

    /// A variable's value without the white space around it; none where it is missing, never set or no text.
    fn value(&self, model: &Model, name: &str) -> Option<String> {
        let value = self.variable(model, name)?.value.latest()?;
        let text = std::str::from_utf8(value).ok()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Configured, and enabled either from the start or by request.
    fn is_ready(&self, engine: &Engine, model: &Model) -> bool {
        let enabled = engine.authenticators().contains(&self.name) || model.enabled.contains(&self.name);
        enabled && model.resources.contains_key(&self.id("webservice", ""))
    }

    /// Whether the role may log in here at all: it exists, holds `authenticate` and calls from where it may.
    fn admits(&self, model: &Model, role: &str, request: &Request) -> bool {
        let Some(credentials) = model.credentials.get(role) else { return false };
        model.permitted(role, "authenticate", &self.id("webservice", ""))
            && allowed_from(&credentials.restricted_to, request.client_ip)
    }

    /// The annotations of the role that are about this service: name after the prefix, and value.
    fn annotations<'m>(&self, model: &'m Model, role: &str) -> Vec<(&'m str, &'m str)> {
        let prefix = format!("{}/", self.name);
        let Some(resource) = model.resources.get(role) else { return Vec::new() };
        let all = resource.annotations.iter();
        all.filter_map(|(name, annotation)| Some((name.strip_prefix(&prefix)?, annotation.value.as_str())))
            .collect()
    }
}

/// What needs no token: logging in. None where the route is another.
pub(super) async fn authenticate(engine: &Engine, request: &Request, segments: &[&str]) -> Option<Reply> {
    let (kind, service, account, login) = match (request.method(), segments) {
        ("POST", [kind, service, account, "authenticate"]) => (*kind, service, account, None),
        ("POST", [kind, service, account, login, "authenticate"]) => (*kind, service, account, Some(*login)),
        _ => return None,
    };
    let service = Service::new(kind, service, account);
    let outcome = match kind {
        "authn-jwt" => jwt::log_in(engine, request, &service, login).await,
        "authn-cert" => cert::log_in(engine, request, &service, login),
        _ => return None,
    };
    Some(match outcome {
        Ok(login) => token_reply(engine, request, &login),
        Err(Refusal::Denied) => Reply::refused(401),
        Err(Refusal::Expired) => Reply::error(401, "unauthorized", "CONJ00016E Token expired"),
        Err(Refusal::Incomplete) => Reply::refused(400),
    })
}

/// What needs a token: the status of a service, and enabling it (recordings 594–596).
pub(super) fn answer(engine: &Engine, request: &Request, caller: &Caller, segments: &[&str]) -> Reply {
    match (request.method(), segments) {
        ("GET", [kind, service, account, "status"]) if KINDS.contains(kind) => {
            status(&engine.model(), caller, &Service::new(kind, service, account))
        }
        ("PATCH", [kind, service, account]) if KINDS.contains(kind) => {
            enable(&mut engine.model(), request, caller, &Service::new(kind, service, account))
        }
        _ => Reply::html(404),
    }
}

fn status(model: &Model, caller: &Caller, service: &Service<'_>) -> Reply {
    let id = service.id("webservice", "/status");
    if !model.resources.contains_key(&id) {
        let error = format!(
            "#<Errors::Authentication::Security::WebserviceNotFound: CONJ00005E Webservice '{}/status' not found>",
            service.name
        );
        return Reply::json(404, &json!({"status": "error", "error": error}));
    }
    if !model.permitted(&caller.role, "read", &id) {
        return Reply::refused(403);
    }
    let configured = match service.kind {
        "authn-jwt" => jwt::is_configured(model, service),
        _ => service.value(model, "ca-cert").is_some(),
    };
    if configured {
        return Reply::json(200, &json!({"status": "ok"}));
    }
    let error = format!("{} lacks a variable that it needs, or its value", service.name);
    Reply::json(500, &json!({"status": "error", "error": error}))
}

fn enable(model: &mut Model, request: &Request, caller: &Caller, service: &Service<'_>) -> Reply {
    let id = service.id("webservice", "");
    if model.visible(&caller.role, &id).is_none() {
        return Reply::not_found(&id);
    }
    if !model.permitted(&caller.role, "update", &id) {
        return Reply::refused(403);
    }
    match request.form("enabled").as_deref() {
        Some("true") => model.enabled.insert(service.name.clone()),
        Some("false") => model.enabled.remove(&service.name),
        _ => return Reply::error(422, "argument_error", "enabled"),
    };
    Reply::bare(204)
}

/// The role of a host's login; nobody else logs in here.
fn host_of(account: &str, login: &str) -> Option<String> {
    login.starts_with("host/").then(|| role_of_login(account, login))
}

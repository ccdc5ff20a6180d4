//! Which authenticators there are, and the two lists of the second API that were recorded.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{KINDS, Service};
use crate::engine::Engine;
use crate::http::Caller;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::model::{Model, identifier_of, kind_of};

/// What a real server of the recorded version has.
const INSTALLED: [&str; 8] =
    ["authn", "authn-azure", "authn-gcp", "authn-iam", "authn-jwt", "authn-k8s", "authn-ldap", "authn-oidc"];

const SECOND_API: &str = "application/x.secretsmgr.v2beta+json";

/// Variables of authn-jwt as the second API groups and names them (recording 690).
const JWT_DATA: [(&str, &str); 5] = [
    ("audience", "audience"),
    ("issuer", "issuer"),
    ("jwks-uri", "jwks_uri"),
    ("public-keys", "public_keys"),
    ("ca-cert", "ca_cert"),
];
const JWT_IDENTITY: [(&str, &str); 4] = [
    ("token-app-property", "token_app_property"),
    ("identity-path", "identity_path"),
    ("enforced-claims", "enforced_claims"),
    ("claim-aliases", "claim_aliases"),
];

/// `GET authenticators` (recordings 6 and 597): what is enabled need not be configured.
pub(in crate::http) fn list(engine: &Engine) -> Reply {
    let model = engine.model();
    let webservices = model.resources.keys().filter(|id| kind_of(id) == "webservice");
    let configured = webservices.filter_map(|id| service_in(id)).map(|(kind, name)| format!("{kind}/{name}"));
    let mut enabled: BTreeSet<String> = engine.authenticators().iter().cloned().collect();
    enabled.extend(model.enabled.iter().cloned());
    let with_authn = |more: BTreeSet<String>| -> BTreeSet<String> {
        more.into_iter().chain(["authn".to_owned()]).collect()
    };
    Reply::json(
        200,
        &json!({
            "installed": INSTALLED,
            "configured": with_authn(configured.collect()),
            "enabled": with_authn(enabled),
        }),
    )
}

/// `GET authenticators/{account}` (recording 690).
pub(in crate::http) fn list_v2(engine: &Engine, request: &Request, caller: &Caller, account: &str) -> Reply {
    if request.header("accept") != Some(SECOND_API) {
        return Reply::html(404);
    }
    let model = engine.model();
    let roles = model.all_roles(&caller.role);
    let visible = model.resources.iter().filter(|(_, resource)| resource.visible_to(&roles));
    let mut shown = Vec::new();
    for (id, resource) in visible.filter(|(id, _)| id.starts_with(&format!("{account}:webservice:"))) {
        let Some((kind, name)) = service_in(id) else { continue };
        let service = Service::new(kind, name, account);
        let enabled =
            engine.authenticators().contains(&service.name) || model.enabled.contains(&service.name);
        shown.push(json!({
            "type": kind.trim_start_matches("authn-"),
            "branch": format!("conjur/{kind}"),
            "name": name,
            "enabled": enabled,
            "owner": owner(&resource.owner),
            "data": data(&model, &service),
        }));
    }
    let count = shown.len();
    second_api(&json!({"authenticators": shown, "count": count}))
}

/// `GET branches/{account}` (recording 691): the policies but for the root and those below `conjur`.
pub(in crate::http) fn branches(engine: &Engine, request: &Request, caller: &Caller, account: &str) -> Reply {
    if request.header("accept") != Some(SECOND_API) {
        return Reply::html(404);
    }
    let model = engine.model();
    let roles = model.all_roles(&caller.role);
    let mut shown = Vec::new();
    for (id, resource) in &model.resources {
        let identifier = identifier_of(id);
        let internal = identifier == "root" || identifier == "conjur" || identifier.starts_with("conjur/");
        if !id.starts_with(&format!("{account}:policy:")) || internal || !resource.visible_to(&roles) {
            continue;
        }
        let (branch, name) = identifier.rsplit_once('/').unwrap_or(("/", identifier));
        let annotations = resource.annotations.iter();
        let annotations: Map<String, Value> =
            annotations.map(|(name, annotation)| (name.clone(), annotation.value.clone().into())).collect();
        shown.push(json!({
            "name": name,
            "branch": branch,
            "owner": owner(&resource.owner),
            "annotations": annotations,
        }));
    }
    let count = shown.len();
    second_api(&json!({"branches": shown, "count": count}))
}

fn second_api(value: &Value) -> Reply {
    Reply::content(200, SECOND_API, value.to_string())
}

fn owner(id: &str) -> Value {
    json!({"id": identifier_of(id), "kind": kind_of(id)})
}

fn data(model: &Model, service: &Service<'_>) -> Value {
    if service.kind != "authn-jwt" {
        return json!({});
    }
    let group = |variables: &[(&str, &str)]| -> Map<String, Value> {
        let known = variables.iter().filter_map(|(variable, name)| {
            let value = service.value(model, variable)?;
            // Keys are JSON already.
            let value = match *variable {
                "public-keys" => serde_json::from_str(&value).unwrap_or(Value::String(value)),
                _ => Value::String(value),
            };
            Some(((*name).to_owned(), value))
        });
        known.collect()
    };
    let mut data = group(&JWT_DATA);
    data.insert("identity".to_owned(), Value::Object(group(&JWT_IDENTITY)));
    Value::Object(data)
}

/// `conjur/authn-jwt/k8s`, and not the webservices below it.
fn service_in(webservice: &str) -> Option<(&str, &str)> {
    let (kind, name) = identifier_of(webservice).strip_prefix("conjur/")?.split_once('/')?;
    (KINDS.contains(&kind) && !name.contains('/')).then_some((kind, name))
}

//! Resources as JSON.

use serde_json::{Map, Value, json};

use crate::model::{FactoryToken, Model, Resource, kind_of, written};

/// A resource as lists and shows have it (recordings 408, 442–453, 701); what no policy made names none.
pub(crate) fn resource(model: &Model, id: &str, resource: &Resource) -> Value {
    let mut shown = Map::new();
    shown.insert("created_at".into(), written(resource.created_at).into());
    shown.insert("id".into(), id.into());
    shown.insert("owner".into(), resource.owner.clone().into());
    with_policy(&mut shown, resource.policy.as_deref());
    let permissions = resource.permissions.iter().map(|((role, privilege), policy)| {
        let mut permission = Map::new();
        permission.insert("privilege".into(), privilege.clone().into());
        permission.insert("role".into(), role.clone().into());
        with_policy(&mut permission, policy.as_deref());
        Value::Object(permission)
    });
    shown.insert("permissions".into(), permissions.collect());
    let annotations = resource.annotations.iter().map(|(name, annotation)| {
        let mut shown = Map::new();
        shown.insert("name".into(), name.clone().into());
        shown.insert("value".into(), annotation.value.clone().into());
        with_policy(&mut shown, annotation.policy.as_deref());
        Value::Object(shown)
    });
    shown.insert("annotations".into(), annotations.collect());
    match kind_of(id) {
        "variable" | "public_key" => {
            let numbers = resource.value.numbers();
            let secrets = numbers.map(|version| json!({"version": version, "expires_at": null}));
            shown.insert("secrets".into(), secrets.collect());
        }
        "user" | "host" => {
            let ranges = model.credentials.get(id).map(|credentials| credentials.restricted_to.clone());
            shown.insert("restricted_to".into(), json!(ranges.unwrap_or_default()));
        }
        "policy" => {
            shown.insert("policy_versions".into(), policy_versions(model, id));
        }
        "host_factory" => {
            let tokens = model.factory_tokens.iter().filter(|token| token.factory == id);
            shown.insert("tokens".into(), tokens.map(factory_token).collect());
            shown.insert("layers".into(), json!(resource.layers));
        }
        _ => {}
    }
    Value::Object(shown)
}

pub(super) fn factory_token(token: &FactoryToken) -> Value {
    let expiration = token.expiration.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({"expiration": expiration, "cidr": token.cidr, "token": token.text})
}

pub(super) fn with_policy(shown: &mut Map<String, Value>, policy: Option<&str>) {
    if let Some(policy) = policy {
        shown.insert("policy".into(), policy.into());
    }
}

/// The newest versions; the real server keeps as many of a policy as of a value.
fn policy_versions(model: &Model, id: &str) -> Value {
    let versions = model.policy_versions.get(id).map(Vec::as_slice).unwrap_or_default();
    let shown = versions[versions.len().saturating_sub(20)..].iter().map(|version| {
        json!({
            "version": version.version,
            "created_at": written(version.created_at),
            "policy_text": version.text,
            "policy_sha256": version.sha256,
            "finished_at": written(version.finished_at),
            "client_ip": version.client_ip,
            "id": id,
            "role": version.role,
        })
    });
    shown.collect()
}

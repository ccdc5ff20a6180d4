//! Settings → ConjurConnection.

use serde_json::{Value, json};

use super::workload::Workload;
use crate::migrate::{
    connections::{Connections, StoreKey},
    external::value_of,
    inventory::Inventory,
    metadata::Metadata,
    note::Notes,
    output::Output,
    stores::{audiences, check_url, connection, pem, permit, refuse_plain_tokens},
};

const URL: [&str; 2] = ["CONJUR_APPLIANCE_URL", "conjurApplianceUrl"];
const ACCOUNT: [&str; 2] = ["CONJUR_ACCOUNT", "conjurAccount"];
const CERTIFICATE: [&str; 2] = ["CONJUR_SSL_CERTIFICATE", "conjurSslCertificate"];
const AUTHENTICATOR: [&str; 2] = ["CONJUR_AUTHENTICATOR_ID", "authnK8sAuthenticatorID"];

/// Makes the connection of the settings that a workload uses.
pub fn translate(
    workload: &Workload,
    key: &StoreKey,
    inventory: &Inventory,
    connections: &mut Connections,
    output: &mut Output,
) {
    let map = inventory.core("ConfigMap", workload.object.namespace(), &workload.settings_name());
    let mut notes = Notes::new(map.unwrap_or(workload.object).source());
    if !workload.has_container {
        let what = "no container of the Secrets Provider stands in its Pods (one is injected), so that its settings are not known";
        notes.blocks("", what, "Make a connection by hand, and name it with --connection");
    } else if map.is_none() && workload.setting(&URL).value.is_none() {
        let what = format!(
            "its settings lie in the ConfigMap {}, which is not among the objects",
            workload.settings_name()
        );
        notes.blocks(
            "",
            what,
            "Add the ConfigMap to the objects, or make a connection by hand and name it with --connection",
        );
    } else {
        let spec = spec(workload, &mut notes);
        let metadata = map.map(|map| Metadata::of(map.value)).unwrap_or_default();
        let metadata = metadata.object(workload.object.namespace(), &key.name);
        return connections.add(
            key.clone(),
            notes,
            connection("ConjurConnection", &metadata, &spec),
            None,
            output,
        );
    }
    connections.add(key.clone(), notes, Value::Null, None, output);
}

fn spec(workload: &Workload, notes: &mut Notes) -> Value {
    let authn = workload.setting(&["CONJUR_AUTHN_URL"]).value.unwrap_or_default();
    let (base, method) = authn.split_once("/authn").unwrap_or((&authn, ""));
    let url = workload.setting(&URL).value.unwrap_or_else(|| base.to_owned());
    let account = workload.setting(&ACCOUNT).value.unwrap_or_default();
    if account.is_empty() {
        notes.blocks("data.CONJUR_ACCOUNT", "it names no account", "Name it");
    }
    let mut spec = json!({ "url": check_url(&url, "data.CONJUR_APPLIANCE_URL", notes), "account": account });
    let certificate = workload.setting(&CERTIFICATE);
    match (&certificate.from, &certificate.value) {
        (Some((map, key)), _) => {
            spec["tls"] = json!({ "caBundleFrom": { "kind": "ConfigMap", "name": map, "key": key } });
        }
        (None, Some(text)) => match pem(text) {
            Some(pem) => spec["tls"] = json!({ "caBundle": pem }),
            None => notes.blocks(
                "CONJUR_SSL_CERTIFICATE",
                "it is not PEM",
                "Write the certificates of the authority as PEM",
            ),
        },
        (None, None) => {}
    }
    spec["auth"] = auth(workload, method, notes);
    refuse_plain_tokens(&spec, "data.CONJUR_APPLIANCE_URL", notes);
    spec
}

fn auth(workload: &Workload, method: &str, notes: &mut Notes) -> Value {
    let Some(service) = method.strip_prefix("-jwt/") else {
        let method = if method.is_empty() && workload.setting(&AUTHENTICATOR).value.is_some() {
            "-k8s"
        } else {
            method
        };
        let what = format!(
            "it logs in by authn{}, and the operator does by authn-jwt",
            method.split('/').next().unwrap_or_default()
        );
        let todo = "Have Conjur's administrator set up authn-jwt for the cluster and a host for the ServiceAccount; make a connection by hand, and name it with --connection";
        notes.blocks("data.CONJUR_AUTHN_URL", what, todo);
        return Value::Null;
    };
    let account = workload.account();
    let audiences = audiences(&workload.audiences(), "", notes);
    permit(account, "", notes);
    let mut jwt = json!({
        "serviceID": service.trim_end_matches('/'),
        "serviceAccountRef": { "name": account, "audiences": audiences },
    });
    if let Some(host) = workload.host() {
        jwt["hostID"] = json!(host.strip_prefix("host/").unwrap_or(&host));
    }
    json!({ "jwt": jwt })
}

/// Notes ConfigMaps with settings that no workload uses.
pub fn note_unused(inventory: &Inventory, workloads: &[&Workload], output: &mut Output) {
    for map in
        inventory.iter().filter(|object| object.group_version() == ("", "v1") && object.kind() == "ConfigMap")
    {
        let has = |keys: &[&str]| keys.iter().any(|key| value_of(map, key).is_some());
        let is_used = workloads.iter().any(|workload| {
            workload.object.namespace() == map.namespace() && workload.settings_name() == map.name()
        });
        if is_used || !has(&URL) && !has(&["CONJUR_AUTHN_URL"]) {
            continue;
        }
        let mut notes = Notes::new(map.source());
        if has(&["conjurApplianceUrl"]) {
            let what =
                "it has the settings of the cluster for authn-k8s, by which the operator does not log in";
            notes.blocks(
                "data",
                what,
                "Make a ClusterConjurConnection with url, account and certificate of it, and auth.jwt",
            );
        } else {
            let what = "no workload that uses it is among the objects, so that the ServiceAccount to log in as is not known";
            notes.blocks("data", what, "Add the workload to the objects, or make a connection by hand");
        }
        output.note(notes);
    }
}

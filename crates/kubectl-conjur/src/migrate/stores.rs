//! SecretStore and ClusterSecretStore with the provider `conjur` → ConjurConnection and ClusterConjurConnection.

mod auth;

use serde_json::{Value, json};

use super::{
    base64,
    connections::{Conditions, Connections, StoreKey},
    fields::Fields,
    inventory::{Inventory, Object},
    metadata::Metadata,
    note::Notes,
    output::Output,
};

pub use self::auth::{audiences, permit};

/// Translates all stores.
pub fn translate(inventory: &Inventory, output: &mut Output) -> Connections {
    let mut connections = Connections::default();
    for (kind, cluster) in [("SecretStore", false), ("ClusterSecretStore", true)] {
        for store in inventory.eso(kind) {
            one(store, cluster, &mut connections, output);
        }
    }
    connections
}

fn one(store: Object, cluster: bool, connections: &mut Connections, output: &mut Output) {
    let mut notes = Notes::new(store.source());
    let key = StoreKey::from(notes.source());
    let spec = Fields::of("spec", store.value.get("spec"));
    let provider = spec.inner("provider");
    let Some(conjur) = provider.as_ref().and_then(|provider| provider.inner("conjur")) else {
        let of = provider.as_ref().map(Fields::at).unwrap_or_default();
        notes.info(of, "it is not of the provider conjur, and left alone with all that uses it", "");
        connections.add_other(key);
        output.note(notes);
        return;
    };
    let conditions = cluster.then(|| Conditions::of(&spec, &mut notes));
    // `conditions` count for cluster-scoped stores alone; how often a store is looked at is the operator's own affair.
    spec.irrelevant(&["conditions", "refreshInterval"]);
    if let Some(class) = spec.text("controller") {
        let what = format!("it is of the controller class '{class}'");
        notes.info(
            spec.path("controller"),
            what,
            "Where the operator runs with a controller class, label the objects for it",
        );
    }
    if let Some(retries) = spec.inner("retrySettings") {
        retries.irrelevant(&["maxRetries", "retryInterval"]);
        notes.info(
            retries.at(),
            "the operator tries again by its own rules, from every second to every 30 s",
            "",
        );
        retries.rest(&mut notes);
    }
    let mut made = json!({ "url": url(&conjur, &mut notes) });
    if let Some(tls) = tls(&conjur, cluster, store.namespace(), &mut notes) {
        made["tls"] = tls;
    }
    auth::translate(&conjur, cluster, store.namespace(), &mut made, &mut notes);
    refuse_plain_tokens(&made, &conjur.path("url"), &mut notes);
    conjur.rest(&mut notes);
    if let Some(provider) = &provider {
        provider.rest(&mut notes);
    }
    spec.rest(&mut notes);
    let kind = if cluster { "ClusterConjurConnection" } else { "ConjurConnection" };
    let object = connection(kind, &Metadata::of(store.value).object(store.namespace(), store.name()), &made);
    connections.add(key, notes, object, conditions, output);
}

/// A connection's manifest.
pub fn connection(kind: &str, metadata: &Value, spec: &Value) -> Value {
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
}

fn url<'a>(conjur: &Fields<'a>, notes: &mut Notes) -> &'a str {
    let url = conjur.text("url").unwrap_or_default();
    check_url(url, &conjur.path("url"), notes)
}

/// An address as a connection takes it.
pub fn check_url<'a>(url: &'a str, field: &str, notes: &mut Notes) -> &'a str {
    let url = url.trim_end_matches('/');
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(str::is_empty) || url.contains(['?', '#', '@']) {
        let what = "a connection needs an address that begins with https:// or http:// and has no query, fragment or user";
        notes.blocks(field, what, "Write the address of the server");
    } else if rest.is_some_and(|rest| rest.ends_with(".secretsmgr.cyberark.cloud")) {
        let what = "the hosted service answers below /api";
        notes.differs(field, what, "Add /api to spec.url, if the address does not answer without it");
    }
    url
}

/// Tokens of ServiceAccounts are not sent in the clear.
pub fn refuse_plain_tokens(connection: &Value, field: &str, notes: &mut Notes) {
    if connection["url"].as_str().is_some_and(|url| url.starts_with("http://"))
        && !connection["auth"]["jwt"].is_null()
    {
        let what = "the operator sends tokens of ServiceAccounts over https only";
        notes.blocks(field, what, "Give the server a certificate, and write its https address");
    }
}

fn tls(conjur: &Fields, cluster: bool, namespace: Option<&str>, notes: &mut Notes) -> Option<Value> {
    let bundle = conjur.text("caBundle");
    let provider = conjur.inner("caProvider");
    if let Some(text) = bundle {
        if let Some(provider) = &provider {
            notes.info(provider.at(), "caBundle stands beside it, and counts alone", "");
        }
        let pem = pem(text);
        if pem.is_none() {
            let todo = "Write the certificates of the authority as PEM";
            notes.blocks(conjur.path("caBundle"), "it is neither PEM nor base64 of PEM", todo);
        }
        return pem.map(|pem| json!({ "caBundle": pem }));
    }
    let provider = provider?;
    let (kind, name) = (provider.text("type").unwrap_or_default(), provider.text("name").unwrap_or_default());
    let Some(key) = provider.text("key") else {
        notes.blocks(provider.path("key"), "it names no key", "Name the key that the certificates lie under");
        return None;
    };
    let mut from = json!({ "kind": kind, "name": name, "key": key });
    place(&provider, cluster, namespace, &mut from, notes);
    provider.rest(notes);
    Some(json!({ "caBundleFrom": from }))
}

/// The certificates of a bundle that is PEM, or base64 of PEM.
pub fn pem(text: &str) -> Option<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    if text.contains(BEGIN) {
        return Some(text.to_owned());
    }
    base64::decode_text(text).filter(|text| text.contains(BEGIN))
}

/// Puts the namespace of a reference where a connection has it: in none of a namespace, in each of the cluster's.
fn place(of: &Fields, cluster: bool, own: Option<&str>, reference: &mut Value, notes: &mut Notes) {
    let namespace = of.text("namespace");
    match namespace {
        Some(namespace) if cluster => reference["namespace"] = json!(namespace),
        None if cluster => notes.blocks(
            of.path("namespace"),
            "it is looked for in the namespace of each object that uses the store, and a ClusterConjurConnection takes it from one namespace",
            "Make a ConjurConnection in each namespace instead",
        ),
        Some(namespace) if own.is_some_and(|own| own != namespace) => {
            let what = format!("it lies in namespace {namespace}, and a ConjurConnection refers to its own");
            notes.blocks(of.path("namespace"), what, "Make a ClusterConjurConnection instead");
        }
        _ => {}
    }
}

//! Ways to log in.

use serde_json::{Value, json};

use super::place;
use crate::migrate::{fields::Fields, note::Notes};

/// The audience that the operator permits by default.
pub const AUDIENCE: &str = "conjur";

/// Translates `auth`, which also names the account.
pub fn translate(
    conjur: &Fields,
    cluster: bool,
    namespace: Option<&str>,
    made: &mut Value,
    notes: &mut Notes,
) {
    let Some(auth) = conjur.inner("auth") else {
        notes.blocks(
            conjur.path("auth"),
            "it says no way to log in",
            "Say one in spec.auth of the connection",
        );
        return;
    };
    let scope = Scope { cluster, namespace };
    let (way, translated) = if let Some(key) = auth.inner("apikey") {
        (key, Way::ApiKey)
    } else if let Some(jwt) = auth.inner("jwt") {
        (jwt, Way::Jwt)
    } else if let Some(certificate) = auth.inner("cert") {
        (certificate, Way::Certificate)
    } else {
        let what = "there is no such way to log in: there are API keys, passwords, JWT and certificates";
        notes.blocks(
            auth.at(),
            what,
            "Make a host for the operator with one of them, and a connection by hand",
        );
        return;
    };
    made["account"] = json!(way.text("account").unwrap_or_default());
    if made["account"] == "" {
        notes.blocks(way.path("account"), "it names no account", "Name it");
    }
    made["auth"] = match translated {
        Way::ApiKey => json!({ "apiKey": {
            "loginSecretRef": secret_key(&way, "userRef", scope, notes),
            "apiKeySecretRef": secret_key(&way, "apiKeyRef", scope, notes),
        } }),
        Way::Jwt => json!({ "jwt": jwt(&way, scope, notes) }),
        Way::Certificate => json!({ "certificate": certificate(&way, scope, notes) }),
    };
    way.rest(notes);
    auth.rest(notes);
}

enum Way {
    ApiKey,
    Jwt,
    Certificate,
}

#[derive(Clone, Copy)]
struct Scope<'a> {
    cluster: bool,
    namespace: Option<&'a str>,
}

fn secret_key(of: &Fields, name: &'static str, scope: Scope, notes: &mut Notes) -> Value {
    let reference = of.inner(name).unwrap_or_else(|| Fields::of(of.path(name), None));
    for field in ["name", "key"] {
        if reference.text(field).is_none() {
            notes.blocks(reference.path(field), "it is left out", "Name the Secret and its key");
        }
    }
    let mut made = json!({ "name": reference.text("name"), "key": reference.text("key") });
    place(&reference, scope.cluster, scope.namespace, &mut made, notes);
    reference.rest(notes);
    made
}

fn service(way: &Fields, notes: &mut Notes) -> Value {
    let mut made = json!({ "serviceID": way.text("serviceID").unwrap_or_default() });
    if made["serviceID"] == "" {
        notes.blocks(way.path("serviceID"), "it names no authenticator", "Name it");
    } else if way.text("serviceID").is_some_and(|id| id.contains(['/', '\\', '?', '#', '%'])) {
        let what = "the id of an authenticator has none of / \\ ? # %";
        notes.blocks(way.path("serviceID"), what, "Write it as in authn-jwt/<id>, not encoded");
    }
    if let Some(host) = way.text("hostId") {
        made["hostID"] = json!(host.strip_prefix("host/").unwrap_or(host));
    }
    made
}

fn jwt(way: &Fields, scope: Scope, notes: &mut Notes) -> Value {
    let mut made = service(way, notes);
    let secret = way.inner("secretRef");
    let Some(account) = way.inner("serviceAccountRef") else {
        notes.blocks(
            way.path("secretRef"),
            "the operator takes no token that lies in a Secret: it asks the API server for one of a ServiceAccount each time",
            "Name a ServiceAccount in spec.auth.jwt.serviceAccountRef of the connection",
        );
        return made;
    };
    if let Some(secret) = secret {
        notes.info(secret.at(), "serviceAccountRef stands beside it, and counts alone", "");
    }
    let name = account.text("name").unwrap_or_default();
    let audiences = audiences(&account.texts("audiences"), &account.path("audiences"), notes);
    let mut reference = json!({ "name": name, "audiences": audiences });
    // In a cluster-scoped one it may be left out here as there: each namespace then has its own identity.
    if scope.cluster {
        if let Some(namespace) = account.text("namespace") {
            reference["namespace"] = json!(namespace);
        }
    } else {
        place(&account, false, scope.namespace, &mut reference, notes);
    }
    account.rest(notes);
    permit(name, account.at(), notes);
    made["serviceAccountRef"] = reference;
    made
}

/// What the administrator of the operator has to permit.
pub fn permit(account: &str, field: &str, notes: &mut Notes) {
    let what = format!(
        "the operator may ask for tokens of the ServiceAccount {account} only where its chart permits it"
    );
    let todo = format!("Add {account} to rbac.tokenRequest.serviceAccountNames in the values of the chart");
    notes.info(field, what, todo);
}

/// Audiences that a connection takes: at least one, and none of the API server.
pub fn audiences<'a>(given: &[&'a str], field: &str, notes: &mut Notes) -> Vec<&'a str> {
    let is_servers =
        |audience: &&str| audience.starts_with("https://kubernetes.default.svc") || *audience == "api";
    if given.is_empty() || given.iter().any(is_servers) {
        let what = if given.is_empty() {
            "tokens without an audience are for the API server, and the operator asks for none such"
        } else {
            "the operator asks for no token that is good for the API server"
        };
        let todo = format!(
            "Set the variable `audience` of the authenticator to {AUDIENCE}, or name the audience that it expects in spec.auth.jwt.serviceAccountRef.audiences"
        );
        notes.differs(field, format!("{what}; the audience becomes {AUDIENCE}"), todo);
        return vec![AUDIENCE];
    }
    if given != [AUDIENCE] {
        let todo = "Add it to allowedAudiences in the values of the chart, for a ConjurConnection";
        notes.info(field, format!("the operator permits the audience {AUDIENCE} alone by default"), todo);
    }
    given.to_vec()
}

fn certificate(way: &Fields, scope: Scope, notes: &mut Notes) -> Value {
    let mut made = service(way, notes);
    let certificate = secret_key(way, "clientCertRef", scope, notes);
    let key = secret_key(way, "clientKeyRef", scope, notes);
    let is_one = certificate["name"] == key["name"] && certificate["namespace"] == key["namespace"];
    if !is_one || certificate["key"] != "tls.crt" || key["key"] != "tls.key" {
        notes.blocks(
            way.at(),
            "a connection takes certificate and key from one Secret of the type kubernetes.io/tls, under tls.crt and tls.key",
            "Put both into such a Secret",
        );
        return made;
    }
    let what = "the Secret has to be of the type kubernetes.io/tls";
    notes.info(way.path("clientCertRef"), what, "Make it anew with this type where it has another");
    let mut reference = certificate;
    if let Some(reference) = reference.as_object_mut() {
        reference.remove("key");
    }
    made["certificateSecretRef"] = reference;
    made
}

//! No value in any message: a canary in every field that can come from a Secret, a ConfigMap or a server, in right and in
//! wrong shapes, and a look at everything that somebody without rights on Secrets may read.

mod back;
mod cases;
mod look;
mod server;
mod texts;
mod usual;

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use testbed::wait_for;

use self::server::Server;
use super::{
    Bench, SOON,
    setup::{connection, put, untyped, variables},
    test,
};
use conjur_operator::api::{ConjurConnection, ConjurPolicy};

/// What may be seen, and why: the cases of that name are not looked for, and are here so that nobody takes them for
/// forgotten.
const MAY_BE_SEEN: [(&str, &str); 5] = [
    ("identity", "the server confirmed it by whoami"),
    ("record", "the id of a record that exists in Conjur, or that a readable document makes"),
    ("key name", "the name of a key of a Secret"),
    ("subject", "the subject of a certificate, which is public"),
    (
        "name in a ConfigMap",
        "what a template or document names that everybody may read, without which nobody can mend it",
    ),
];

/// Canaries, each with where it was put.
#[derive(Default)]
struct Canaries(Vec<(String, String)>);

impl Canaries {
    /// A new one. Letters and digits only: no encoding of an address or of JSON changes it.
    fn put(&mut self, place: impl Into<String>) -> String {
        const SIGNS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let sign = || char::from(SIGNS[usize::from(rand::random::<u8>()) % SIGNS.len()]);
        let canary: String = (0..24).map(|_| sign()).collect();
        let place = place.into();
        if MAY_BE_SEEN.iter().all(|(name, _)| !place.starts_with(name)) {
            self.0.push((place, canary.clone()));
        }
        canary
    }

    /// One that was made elsewhere, such as a key.
    fn known(&mut self, place: impl Into<String>, canary: String) {
        self.0.push((place.into(), canary));
    }
}

/// Bytes that are no text, with a canary behind them.
const BINARY: &str = "binary";
/// A text that a field takes, and texts that it does not, around a canary.
const SHAPES: [&str; 11] = [
    "%",
    "host/%",
    "%\n",
    " % ",
    "demo:host:%",
    "{\"%\": \"%\"}",
    "https://%:%@example.com/%",
    "-----BEGIN %-----\n%\n-----END %-----",
    "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n",
    "-----BEGIN PRIVATE KEY-----\n%%\n-----END PRIVATE KEY-----\n",
    BINARY,
];

fn shaped(shape: &str, canary: &str) -> Vec<u8> {
    if shape == BINARY {
        return [b"\xff\xfe\x00".as_slice(), canary.as_bytes()].concat();
    }
    shape.replace('%', canary).into_bytes()
}

async fn secret(bench: &Bench, name: &str, data: &[(&str, Vec<u8>)]) {
    let data: BTreeMap<_, _> =
        data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.clone()))).collect();
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, data: Some(data), ..Secret::default() };
    bench.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
}

async fn config_map(bench: &Bench, name: &str, key: &str, text: &str) {
    let map = serde_json::from_value(json!({ "metadata": { "name": name }, "data": { key: text } })).unwrap();
    bench.api::<ConfigMap>().create(&PostParams::default(), &map).await.unwrap();
}

fn secret_of(name: &str, connection: &str, more: &Value) -> Value {
    let mut spec =
        json!({ "connectionRef": { "name": connection }, "data": [{ "key": "v", "variable": "apps/v" }] });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": { "name": name }, "spec": spec })
}

fn policy_of(name: &str, connection: &str, branch: &str, more: &Value) -> Value {
    let mut spec = json!({ "connectionRef": { "name": connection }, "branch": branch });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPolicy", "metadata": { "name": name }, "spec": spec })
}

/// Connections whose credentials and certificates lie in Secrets and ConfigMaps, of which each is wrong in its way.
async fn credentials(bench: &Bench, canaries: &mut Canaries) -> Vec<Value> {
    let mut objects = Vec::new();
    for (at, shape) in SHAPES.iter().enumerate() {
        let mut value = |field: &str| shaped(shape, &canaries.put(format!("{field} as {shape:?}")));
        let name = |field: &str| format!("{field}-{at}");
        let of = |field: &str| json!({ "name": name(field), "key": "k" });
        let key = json!({ "name": "conjur-login", "key": "api-key" });
        secret(bench, &name("login"), &[("k", value("login"))]).await;
        secret(bench, &name("key"), &[("k", value("api key"))]).await;
        secret(bench, &name("password"), &[("k", value("password"))]).await;
        secret(bench, &name("bundle"), &[("k", value("CA bundle"))]).await;
        secret(bench, &name("pair"), &[("tls.crt", value("certificate")), ("tls.key", value("private key"))])
            .await;
        let ways = [
            ("login", json!({ "apiKey": { "loginSecretRef": of("login"), "apiKeySecretRef": key } })),
            ("key", json!({ "apiKey": { "login": "host/apps/app", "apiKeySecretRef": of("key") } })),
            ("password", json!({ "password": { "login": "alice", "passwordSecretRef": of("password") } })),
            (
                "pair",
                json!({ "certificate": { "serviceID": "prod", "certificateSecretRef": { "name": name("pair") } } }),
            ),
        ];
        for (field, auth) in ways {
            let url = if field == "pair" { "https://127.0.0.1:1".to_owned() } else { bench.conjur.url() };
            objects.push(connection(
                bench,
                &format!("by-{}", name(field)),
                &json!({ "auth": auth, "url": url }),
            ));
        }
        let tls = json!({
            "caBundleFrom": { "kind": "Secret", "name": name("bundle"), "key": "k" },
            "clientCertificateSecretRef": { "name": name("pair") },
        });
        objects.push(connection(
            bench,
            &format!("tls-{at}"),
            &json!({ "url": "https://127.0.0.1:1", "tls": tls }),
        ));
        if *shape != BINARY {
            let text = shape.replace('%', &canaries.put(format!("CA bundle of a ConfigMap as {shape:?}")));
            config_map(bench, &name("bundle"), "k", &text).await;
            let tls = json!({ "caBundleFrom": { "kind": "ConfigMap", "name": name("bundle"), "key": "k" } });
            objects.push(connection(
                bench,
                &format!("map-{at}"),
                &json!({ "url": "https://127.0.0.1:1", "tls": tls }),
            ));
        }
    }
    objects
}

/// What the operator remembers in Secrets, written by somebody else.
async fn remembered(bench: &Bench, canaries: &mut Canaries) -> Vec<String> {
    const FORMS: [&str; 6] = [
        "%",
        "{\"%\": \"%\"}",
        "{\"document\": \"%",
        "{\"document\":\"%\",\"inputs\":\"%\",\"since\":1,\"at\":1,\"documents\":[\"%\"],\"loaders\":[\"%\"],\"server\":\"%\",\
         \"branch\":\"%\",\"version\":\"%\",\"owed\":[]}",
        "{\"loads\":[{\"server\":\"%\",\"branch\":\"%\",\"document\":\"%\",\"loader\":\"%\",\"since\":0,\"absent\":{\"%\":[\"%\"]}}]}",
        "{\"loads\":\"%\"}",
    ];
    let mut names = Vec::new();
    for (at, form) in FORMS.iter().enumerate() {
        let name = format!("keys-{at}");
        let more = json!({
            "document": format!("- !host made-{at}\n"), "createdRoles": { "secretName": name }, "deletionPolicy": "Delete",
        });
        put(bench, &policy_of(&name, "loader", &format!("kept/{at}"), &more)).await;
        bench.ready::<ConjurPolicy>(&name).await;
        for secret in bench.api::<Secret>().list(&ListParams::default()).await.unwrap() {
            let ours = secret.owner_references().iter().any(|owner| owner.name == name);
            if !ours {
                continue;
            }
            let mut change = json!({});
            for key in secret.data.unwrap_or_default().into_keys().chain(["pending.json".to_owned()]) {
                let text = form.replace('%', &canaries.put(format!("{key} of a Secret of ours as {form:?}")));
                change[key] = STANDARD.encode(text).into();
            }
            super::setup::edit(bench, secret.metadata.name.as_deref().unwrap(), json!({ "data": change }))
                .await;
        }
        let document = json!({ "spec": { "document": format!("- !host made-{at}\n- !host more-{at}\n") } });
        let api = untyped(bench, "ConjurPolicy");
        api.patch(&name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(document))
            .await
            .unwrap();
        names.push(name);
    }
    names
}

/// A connection to a server that says canaries, and objects that ask it for whatever there is.
fn on_server(bench: &Bench, server: &Server, case: &str) -> Vec<Value> {
    let name = format!("served-{case}");
    let mut objects = vec![connection(bench, &name, &json!({ "url": server.url(case) }))];
    let data = |ids: &[&str]| -> Value {
        ids.iter().enumerate().map(|(at, id)| json!({ "key": format!("k{at}"), "variable": id })).collect()
    };
    let pinned = json!([{ "key": "k", "variable": "apps/a", "version": 2 }]);
    let keys = json!([{ "publicKeys": { "kind": "user", "id": "alice", "key": "k" } }]);
    for (way, more) in [
        ("batch", json!({ "data": data(&["apps/a", "apps/b", "apps/c"]) })),
        ("single", json!({ "data": pinned })),
        ("find", json!({ "data": null, "dataFrom": [{ "find": { "prefix": "apps/" } }] })),
        ("keys", json!({ "data": null, "dataFrom": keys })),
    ] {
        objects.push(secret_of(&format!("{name}-{way}"), &name, &more));
    }
    let roles = json!({ "secretName": format!("{name}-roles") });
    let more = json!({ "document": "- !host h\n", "createdRoles": roles, "deletionPolicy": "Delete" });
    objects.push(policy_of(&name, &name, "apps", &more));
    objects
}

/// Objects on a server that says canaries wherever it can; what was to be seen of them.
async fn served(bench: &Bench, canaries: &mut Canaries) -> Vec<(String, String)> {
    let cases = server::cases(canaries);
    let server = Server::start(cases, canaries.put("an API key that a server gives")).await;
    let mut seen = Vec::new();
    for some in server.cases().chunks(AT_ONCE) {
        let objects: Vec<Value> = some.iter().flat_map(|case| on_server(bench, &server, case)).collect();
        seen.extend(in_turn(bench, &objects, || server.unsaid(some)).await);
    }
    seen
}

/// Connections that have clients of Conjur at once, beside the test's own: a namespace may have 16, and the others wait for a
/// minute in which one of them is not used.
const AT_ONCE: usize = 12;

/// Makes connections and what uses them, waits until all say something and nothing is unsaid, and takes the connections away.
/// What was to be seen of all of it.
async fn in_turn(
    bench: &Bench,
    objects: &[Value],
    unsaid: impl Fn() -> Vec<String>,
) -> Vec<(String, String)> {
    let (connections, users): (Vec<&Value>, Vec<&Value>) =
        objects.iter().partition(|object| object["kind"] == "ConjurConnection");
    for all in [&connections, &users] {
        for object in all {
            put(bench, object).await;
        }
        told(bench, all.iter().copied()).await;
    }
    // What was never said could not be seen.
    wait_for("all of it is said", SOON, || async { unsaid().is_empty().then_some(()) })
        .await
        .unwrap_or_else(|e| panic!("{e:#}: {:?}", unsaid()));
    let mut seen = Vec::new();
    for object in objects {
        let (kind, name) = kind_and_name(object);
        let now = untyped(bench, kind).get(name).await.unwrap();
        seen.push((format!("{kind} {name}"), now.data["status"].to_string()));
    }
    for connection in connections {
        let (kind, name) = kind_and_name(connection);
        untyped(bench, kind).delete(name, &DeleteParams::default()).await.unwrap();
    }
    seen
}

fn kind_and_name(object: &Value) -> (&str, &str) {
    (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

#[test]
fn no_canary_of_any_secret_config_map_or_server_is_seen_anywhere() {
    test(|bench| async move {
        let mut canaries = Canaries::default();
        let names: Vec<String> = (0..7).map(|at| format!("value-{at}")).chain(["v".to_owned()]).collect();
        variables(&bench, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let mut policy = String::from(
            "- !host loader\n- !policy {id: work, owner: !host loader}\n- !policy\n  id: kept\n  owner: !host loader\n  body:\n",
        );
        for at in 0..6 {
            writeln!(policy, "  - !policy {{id: '{at}', owner: !host /loader}}").unwrap();
        }
        bench.root(&policy).await;
        bench.connect("host/apps/app").await;
        let key = bench.conjur.api_key_of("host/loader").unwrap();
        bench.put_secret("loader-login", &[("api-key", &key)]).await;
        let auth = json!({ "apiKey": { "login": "host/loader", "apiKeySecretRef": { "name": "loader-login", "key": "api-key" } } });
        put(&bench, &connection(&bench, "loader", &json!({ "auth": auth }))).await;
        bench.ready::<ConjurConnection>("loader").await;

        let mut seen = served(&bench, &mut canaries).await;
        let connections = credentials(&bench, &mut canaries).await;
        for some in connections.chunks(AT_ONCE) {
            seen.extend(in_turn(&bench, some, Vec::new).await);
        }
        let mut objects = texts::values(&bench, &mut canaries);
        objects.extend(texts::texts(&bench, &mut canaries).await);
        for object in &objects {
            put(&bench, object).await;
        }
        remembered(&bench, &mut canaries).await;
        for _ in 0..2 {
            told(&bench, &objects).await;
            for kind in ["conjursecrets", "conjurpolicies", "conjurconnections"] {
                let text = format!("conjur-operator.io/sync-now={}", rand::random::<u32>());
                bench.kubectl(&["annotate", "--overwrite", "--all", kind, &text]).await;
            }
        }
        told(&bench, &objects).await;
        look::for_them(&bench, &canaries.0, seen).await;
    });
}

/// Waits until each object says something of its generation or is tried again.
async fn told<'v>(bench: &Bench, objects: impl IntoIterator<Item = &'v Value>) {
    for object in objects {
        let (kind, name) = kind_and_name(object);
        let api = untyped(bench, kind);
        wait_for(&format!("{kind} {name} says something"), SOON, || async {
            let object = api.get(name).await.ok()?;
            let said = object.data["status"]["conditions"].as_array().is_some_and(|all| !all.is_empty());
            said.then_some(())
        })
        .await
        .unwrap();
    }
}

//! What the tests of secrets and connections have in common: a policy, manifests, and looks at what happened.

use std::fmt::Write as _;

use conjur_client::{Client, Config, Credentials, LoadMode, PolicyBranch, sensitive::Sensitive};
use conjur_dev::{Effect, Kind};
use conjur_operator::api::{ConjurSecret, condition::find};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use testbed::{ApiRequest, wait_for};

use super::{Bench, SOON, Told};

/// The host that the tests log in as.
pub const LOGIN: &str = "host/apps/app";

/// What an outage of Conjur looks like, in all its forms.
pub const OUTAGES: [Effect; 5] = [
    Effect::Status { status: 500, retry_after: None },
    Effect::Status { status: 503, retry_after: None },
    Effect::Status { status: 429, retry_after: Some(1) },
    Effect::Reset,
    Effect::Truncate,
];

/// Loads a policy `apps` with these variables and a host that may read them; each gets a value.
pub async fn variables(bench: &Bench, names: &[&str]) -> Vec<String> {
    let mut body = String::from("- !policy\n  id: apps\n  body:\n  - !host app\n");
    for name in names {
        writeln!(body, "  - !variable {name}\n  - !permit {{role: !host app, privileges: [read, execute], resource: !variable {name}}}")
            .unwrap();
    }
    bench.root(&body).await;
    names.iter().map(|name| bench.set(&format!("apps/{name}"))).collect()
}

/// The same, with the connection `conjur` as that host, Ready.
pub async fn connected(bench: &Bench, names: &[&str]) -> Vec<String> {
    let values = variables(bench, names).await;
    bench.connect(LOGIN).await;
    values
}

/// The policy of one more variable that the host may read.
pub fn permitted(name: &str) -> String {
    format!(
        "- !variable apps/{name}\n- !permit {{role: !host apps/app, privileges: [read, execute], resource: !variable apps/{name}}}\n"
    )
}

/// Changes Conjur's root policy as its administrator.
pub async fn change_policy(bench: &Bench, document: &str) {
    change_branch(bench, "root", document).await;
}

/// The same of another branch. An annotation is changed only by the branch that gave it.
pub async fn change_branch(bench: &Bench, branch: &str, document: &str) {
    let api_key = Sensitive::new(bench.conjur.admin_key());
    let credentials = Credentials::ApiKey { login: "admin".into(), api_key };
    let client = Client::new(Config::new(bench.conjur.url().parse().unwrap(), "demo", credentials)).unwrap();
    let branch = PolicyBranch::new(branch).unwrap();
    client.load_policy(&branch, LoadMode::Update, document.as_bytes()).await.unwrap();
}

/// A ConjurSecret with `key: variable` entries through the connection `conjur`; `more` goes over its spec, and
/// null leaves a field out.
pub fn project(name: &str, data: &[(&str, &str)], more: &Value) -> Value {
    let entries: Vec<_> = data
        .iter()
        .map(|(key, variable)| json!({ "key": key, "variable": format!("apps/{variable}") }))
        .collect();
    let spec = json!({ "connectionRef": { "name": "conjur" }, "refreshInterval": "1h", "data": entries });
    object("ConjurSecret", name, &with(spec, more))
}

/// A ConjurConnection `name` as the usual host, with its key in the Secret `conjur-login`; `more` goes over its spec.
pub fn connection(bench: &Bench, name: &str, more: &Value) -> Value {
    let auth = json!({ "apiKey": { "login": LOGIN, "apiKeySecretRef": { "name": "conjur-login", "key": "api-key" } } });
    let spec = json!({ "url": bench.conjur.url(), "account": "demo", "auth": auth });
    object("ConjurConnection", name, &with(spec, more))
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn with(mut spec: Value, more: &Value) -> Value {
    let fields = spec.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    fields.retain(|_, value| !value.is_null());
    spec
}

/// Applies an object, without kubectl; what the API server said to it.
pub async fn try_put(bench: &Bench, object: &Value) -> Result<DynamicObject, String> {
    let params = PatchParams::apply("a-user").force();
    let name = object["metadata"]["name"].as_str().unwrap();
    let answer =
        untyped(bench, object["kind"].as_str().unwrap()).patch(name, &params, &Patch::Apply(object)).await;
    answer.map_err(|error| error.to_string())
}

/// Applies an object that must be taken.
pub async fn put(bench: &Bench, object: &Value) -> DynamicObject {
    try_put(bench, object).await.unwrap()
}

/// Objects of one of our kinds, as they are.
pub fn untyped(bench: &Bench, kind: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("conjur-operator.io", "v1alpha1", kind));
    Api::namespaced_with(bench.client.clone(), &bench.namespace, &kind)
}

/// Changes a Secret, as a person would; null removes a field.
pub async fn edit(bench: &Bench, secret: &str, change: Value) -> Secret {
    bench.api::<Secret>().patch(secret, &PatchParams::default(), &Patch::Merge(change)).await.unwrap()
}

/// Changes a ConjurSecret.
pub async fn change(bench: &Bench, name: &str, change: Value) {
    bench.api::<ConjurSecret>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

/// Asks for a refresh at once.
pub async fn sync_now(bench: &Bench, name: &str, text: &str) {
    change(bench, name, json!({ "metadata": { "annotations": { "conjur-operator.io/sync-now": text } } }))
        .await;
}

/// Asks for a refresh, and waits until it is handled.
pub async fn synced(bench: &Bench, name: &str, text: &str) -> ConjurSecret {
    sync_now(bench, name, text).await;
    let handled = |s: &ConjurSecret| {
        s.status.as_ref().is_some_and(|s| s.last_handled_sync_now.as_deref() == Some(text))
    };
    bench.until("the refresh that was asked for", name, handled).await
}

/// A Secret that must be there.
pub async fn secret(bench: &Bench, name: &str) -> Secret {
    bench.api::<Secret>().get(name).await.unwrap()
}

/// Status, reason and message of a condition.
pub fn condition<K: Told>(object: &K, type_: &str) -> Option<(String, String, String)> {
    let conditions = object.told().1;
    find(&conditions, type_).map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
}

/// The conditions as `Ready=True Reconciling=True`.
pub fn states<K: Told>(object: &K) -> String {
    let all = object.told().1;
    all.iter().map(|c| format!("{}={}", c.type_, c.status)).collect::<Vec<_>>().join(" ")
}

/// What the operator asked of the API server in the test's namespace, watches and Leases aside.
pub fn api_requests(bench: &Bench) -> Vec<ApiRequest> {
    let all = bench.world.plane.api_requests_by(&bench.world.release.user()).unwrap();
    all.into_iter().filter(|r| r.namespace == bench.namespace && !r.is_background()).collect()
}

/// Waits until a request that `is_it` has been made by the operator in the test's namespace, beyond `before`.
pub async fn asks_api(bench: &Bench, before: usize, what: &str, is_it: impl Fn(&ApiRequest) -> bool) {
    wait_for(what, SOON, || async { api_requests(bench).iter().skip(before).any(&is_it).then_some(()) })
        .await
        .unwrap();
}

/// How many requests for values Conjur got.
pub fn fetches(bench: &Bench) -> usize {
    bench.conjur.count(Kind::Batch) + bench.conjur.count(Kind::Single)
}

/// Waits until something has come about.
pub async fn eventually(what: &str, is_it: impl Fn() -> bool) {
    wait_for(what, SOON, || async { is_it().then_some(()) }).await.unwrap();
}

/// Objects are as old as the second that they were made in.
pub async fn later() {
    let now = jiff::Timestamp::now().as_second();
    wait_for("the next second", SOON, || async { (jiff::Timestamp::now().as_second() > now).then_some(()) })
        .await
        .unwrap();
}

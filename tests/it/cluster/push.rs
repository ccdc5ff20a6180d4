//! ConjurPush on a real control plane.

mod access;
mod drift;
mod kills;
mod makes;
mod owners;
mod removal;
mod rights;
mod sources;
mod stopping;

use std::collections::BTreeMap;

use conjur_dev::{Effect, Fault, Kind, When};
use conjur_operator::api::{ConjurPush, ConjurPushStatus, condition::find, push::PushedVersion};
use k8s_openapi::api::{core::v1::Namespace, core::v1::Secret, events::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{Bench, SOON, setup::put};

const OWNER: &str = "conjur-operator.io/owner";
const CREATED: &str = "conjur-operator.io/created";

/// The branch `litellm`, which the host that the connection is owns, and two hosts that may be permitted things.
async fn owned(bench: &Bench) {
    bench
        .root(
            "- !host ops\n- !host reader\n- !host other\n- !policy {id: litellm, owner: !host ops}\n\
             - !policy {id: second, owner: !host ops}\n",
        )
        .await;
    bench.connect("host/ops").await;
}

/// A ConjurPush that makes the variables of its Secret in the branch `litellm`; `more` goes over its spec, and null leaves a
/// field out.
fn push(name: &str, secret: &str, more: &Value) -> Value {
    let mut spec = json!({
        "connectionRef": { "name": "conjur" },
        "source": { "secretRef": { "name": secret } },
        "prefix": "litellm/",
        "createVariables": { "branch": "litellm" },
    });
    let fields = spec.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    fields.retain(|_, value| !value.is_null());
    object(name, &spec)
}

fn object(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPush", "metadata": { "name": name }, "spec": spec })
}

/// Makes a Secret with a value of its own for each key, or changes them; the values.
async fn secret(bench: &Bench, name: &str, keys: &[&str]) -> Vec<String> {
    labelled(bench, name, &[], keys).await
}

/// The same, with these labels.
async fn labelled(bench: &Bench, name: &str, labels: &[(&str, &str)], keys: &[&str]) -> Vec<String> {
    let values: Vec<String> = keys.iter().map(|key| bench.secret_value(key)).collect();
    let data: BTreeMap<&str, &str> = keys.iter().copied().zip(values.iter().map(String::as_str)).collect();
    put_data(bench, name, labels, &json!(data)).await;
    values
}

/// Makes a Secret with these texts, or changes it to them.
async fn put_data(bench: &Bench, name: &str, labels: &[(&str, &str)], data: &Value) {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "labels": labels }, "stringData": data,
    });
    // What another apply named before and this one does not goes.
    let mut data = secret["stringData"].clone();
    if let Some(old) = bench.data(name).await {
        for key in old.keys().filter(|key| data.get(key).is_none()) {
            bench
                .api::<Secret>()
                .patch(name, &PatchParams::default(), &Patch::Merge(json!({ "data": { key: null } })))
                .await
                .unwrap();
        }
        let change = json!({ "metadata": { "labels": labels }, "stringData": data.take() });
        bench.api::<Secret>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    } else {
        let secret: Secret = serde_json::from_value(secret).unwrap();
        bench.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }
}

/// Deletes a Secret.
async fn drop_secret(bench: &Bench, name: &str) {
    bench.api::<Secret>().delete(name, &DeleteParams::default()).await.unwrap();
}

/// Waits until a variable holds a value.
async fn filled(bench: &Bench, id: &str, value: &str) {
    let is_it = || async { (bench.conjur.variable(id).as_deref() == Some(value.as_bytes())).then_some(()) };
    wait_for(&format!("variable {id} with its value"), SOON, is_it)
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
}

async fn pushed(bench: &Bench, name: &str) -> ConjurPush {
    bench.ready::<ConjurPush>(name).await
}

fn status(push: &ConjurPush) -> ConjurPushStatus {
    push.status.clone().unwrap_or_default()
}

/// The variables of a status as `id created version`.
fn variables(push: &ConjurPush) -> Vec<String> {
    let all = status(push).variables.unwrap_or_default();
    all.iter()
        .map(|v| {
            let version = match v.version {
                PushedVersion::Announced => "announced".to_owned(),
                PushedVersion::Number(number) => number.to_string(),
            };
            format!("{} {} {version}", v.id, v.created)
        })
        .collect()
}

/// What stands in the owner annotation of what an object of the test's namespace made.
async fn owner(bench: &Bench, name: &str) -> String {
    format!("{}/{}/ConjurPush/{name}", cluster(bench).await, bench.namespace)
}

/// What tells this cluster from others.
async fn cluster(bench: &Bench) -> String {
    Api::<Namespace>::all(bench.client.clone()).get("kube-system").await.unwrap().uid().unwrap()
}

fn annotation(bench: &Bench, id: &str, name: &str) -> Option<String> {
    bench.conjur.annotations("variable", id).get(name).cloned()
}

/// Changes a ConjurPush; null takes a field away.
async fn change(bench: &Bench, name: &str, change: Value) {
    bench.api::<ConjurPush>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

/// Asks for a look at once, and waits until it is handled.
async fn synced(bench: &Bench, name: &str, text: &str) -> ConjurPush {
    change(bench, name, json!({ "metadata": { "annotations": { "conjur-operator.io/sync-now": text } } }))
        .await;
    bench
        .until("the look that was asked for", name, |push: &ConjurPush| {
            status(push).last_handled_sync_now.as_deref() == Some(text)
        })
        .await
}

/// Asks for the deletion, and waits until it is done.
async fn delete(bench: &Bench, name: &str) {
    bench.api::<ConjurPush>().delete(name, &DeleteParams::default()).await.unwrap();
    gone(bench, name).await;
}

async fn gone(bench: &Bench, name: &str) {
    let api = bench.api::<ConjurPush>();
    wait_for(&format!("{name} is gone"), SOON, || async {
        api.get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
}

/// Waits until the Ready condition of an object has the reason and a message with this text.
async fn told(bench: &Bench, name: &str, reason: &str, text: &str) -> String {
    let ready = |push: &ConjurPush| {
        let conditions = status(push).conditions.unwrap_or_default();
        find(&conditions, "Ready").map(|c| (c.reason.clone(), c.message.clone()))
    };
    let is_it = |push: &ConjurPush| ready(push).is_some_and(|(r, m)| r == reason && m.contains(text));
    let push = bench.until(&format!("{reason}: {text}"), name, is_it).await;
    ready(&push).unwrap().1
}

/// How many values were sent.
fn sent(bench: &Bench) -> usize {
    bench.conjur.count(Kind::Set)
}

/// How many documents were loaded.
fn loads(bench: &Bench) -> usize {
    bench.conjur.count(Kind::Load)
}

/// A fault that strikes paths that begin like this.
fn fault(path: &str, count: Option<u64>, when: When, effect: Effect) -> Fault {
    Fault { method: None, path: path.into(), count, when, effect }
}

/// Whether an Event with this reason was told.
async fn has_event(bench: &Bench, reason: &str) -> bool {
    let all = bench.api::<Event>().list(&ListParams::default()).await.unwrap();
    all.items.iter().any(|event| event.reason.as_deref() == Some(reason))
}

/// No value may stand in a policy document or an annotation.
fn nothing_in_policies(bench: &Bench, values: &[String]) {
    for branch in bench.conjur.all_loads().into_keys() {
        for version in bench.conjur.policy_versions(&branch) {
            assert!(
                values.iter().all(|value| !version.text.contains(value)),
                "a value in a policy of {branch}"
            );
        }
    }
}

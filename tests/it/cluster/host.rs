//! ConjurHost on a real control plane.

mod access;
mod connections;
mod crash;
mod enrol;
mod factory;
mod jwt;
mod many_kills;
mod page;
mod refused;
mod removal;
mod replicas;
mod rotation;
mod shared;
mod target;
mod whose;

use std::collections::BTreeMap;

use conjur_dev::{Effect, Fault, When};
use conjur_operator::api::{ConjurHost, ConjurHostStatus, OWNER_ANNOTATION};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{Bench, SOON};

/// The branch `billing`, owned by the host that the connection is; in it a host that existed before.
async fn billing(bench: &Bench) {
    bench
        .root("- !host ops\n- !policy\n  id: billing\n  owner: !host ops\n  body:\n  - !host old\n  - !layer web\n  - !group readers\n")
        .await;
    bench.connect("host/ops").await;
}

/// A ConjurHost for `billing/<name>`; `more` goes over its spec, and null leaves a field out.
fn host(name: &str, more: &Value) -> Value {
    let mut spec = json!({ "connectionRef": { "name": "conjur" }, "id": format!("billing/{name}") });
    let fields = spec.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    fields.retain(|_, value| !value.is_null());
    json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurHost", "metadata": { "name": name }, "spec": spec,
    })
}

fn status(object: &ConjurHost) -> ConjurHostStatus {
    object.status.clone().unwrap_or_default()
}

/// Changes a ConjurHost.
async fn change(bench: &Bench, name: &str, change: Value) {
    bench.api::<ConjurHost>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

async fn annotate(bench: &Bench, name: &str, annotation: &str, text: &str) {
    let annotation = format!("conjur-operator.io/{annotation}");
    change(bench, name, json!({ "metadata": { "annotations": { annotation: text } } })).await;
}

/// Asks for a rotation, and waits until it is done.
async fn rotated(bench: &Bench, name: &str, text: &str) -> ConjurHost {
    annotate(bench, name, "rotate-now", text).await;
    let handled = |h: &ConjurHost| status(h).last_handled_rotate_now.as_deref() == Some(text);
    bench.until("the rotation that was asked for", name, handled).await;
    bench.ready::<ConjurHost>(name).await
}

/// Waits until an object's Ready condition has this reason, and says this.
async fn says_that(bench: &Bench, name: &str, reason: &str, text: &str) {
    let says = |h: &ConjurHost| {
        let conditions = super::Told::told(h).1;
        conditions.iter().any(|c| c.reason == reason && c.message.contains(text))
    };
    bench.until::<ConjurHost>(&format!("{reason}: {text}"), name, says).await;
}

/// Asks for a look, and waits until another look of the object is over.
async fn looked_again(bench: &Bench, name: &str, text: &str) {
    let before = bench.conjur.requests().iter().filter(|r| r.path.ends_with("/authn/demo/login")).count();
    annotate(bench, name, "sync-now", text).await;
    wait_for("the stored key is tried", SOON, || async {
        let tried = bench.conjur.requests().iter().filter(|r| r.path.ends_with("/authn/demo/login")).count();
        (tried > before).then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
}

/// The Secret's data, which must hold the present key of the host.
async fn works(bench: &Bench, secret: &str, login: &str) -> BTreeMap<String, String> {
    let key = bench.conjur.api_key_of(login).unwrap_or_else(|| panic!("no host {login}"));
    bench.keep_secret(key.clone());
    let data = bench.data(secret).await.unwrap_or_else(|| panic!("no Secret {secret}"));
    assert_eq!(data.get("login").map(String::as_str), Some(login));
    assert!(data.get("api-key") == Some(&key), "{login}: the stored key is missing or does not work");
    data
}

/// How the owner annotation names an object of the test.
async fn owner(bench: &Bench, name: &str) -> String {
    let system = Api::<Namespace>::all(bench.client.clone()).get("kube-system").await.unwrap();
    format!("{}/{}/ConjurHost/{name}", system.uid().unwrap(), bench.namespace)
}

/// The host carries the annotations of an object that made it.
async fn is_owned(bench: &Bench, id: &str, name: &str) {
    let annotations = bench.conjur.annotations("host", id);
    assert_eq!(annotations.get(OWNER_ANNOTATION), Some(&owner(bench, name).await), "{annotations:?}");
    assert_eq!(annotations.get("conjur-operator.io/created").map(String::as_str), Some("true"));
}

/// The roles that a host is a member of.
fn memberships(bench: &Bench, id: &str) -> Vec<String> {
    bench
        .conjur
        .memberships("host", id)
        .into_iter()
        .filter(|edge| !edge.ownership)
        .map(|edge| edge.role)
        .collect()
}

/// The host that existed before has the key that it had.
fn old_host_is_untouched(bench: &Bench) {
    assert_eq!(bench.conjur.key_generation("host/billing/old"), Some(0));
    assert!(!bench.conjur.annotations("host", "billing/old").contains_key(OWNER_ANNOTATION));
}

/// Strikes so many requests to a path.
fn strike(bench: &Bench, path: &str, count: u64, when: When, effect: Effect) {
    bench.conjur.fault(Fault { method: None, path: path.into(), count: Some(count), when, effect });
}

/// The path of rotations.
const ROTATE: &str = "/authn/demo/api_key";

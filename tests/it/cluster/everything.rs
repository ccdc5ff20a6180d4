//! One run through all that the operator does in a namespace, so that each of its rights is used.

use conjur_operator::api::{ConjurHost, ConjurPolicy, ConjurPush, ConjurSecret};
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    Bench, SOON, Told,
    login::{jwt, service_account, trust_service_accounts},
    rollout::workload,
    setup::{connection, edit, put, synced},
    template::put_config_map,
};

fn object(kind: &str, name: &str, connection: &Value, spec: &Value) -> Value {
    let mut all = json!({ "connectionRef": connection });
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": all })
}

/// A Conjur with a branch for the namespace, that its host `ops` owns, and that lets the ServiceAccount `app` of the namespace in.
pub async fn in_conjur(bench: &Bench) {
    let branch = &bench.namespace;
    trust_service_accounts(bench, &[(branch, "app")]).await;
    bench
        .root(&format!(
            "- !host {branch}-ops\n- !policy\n  id: {branch}\n  owner: !host {branch}-ops\n  body:\n  - !variable a\n  - !variable b\n"
        ))
        .await;
    bench.set(&format!("{branch}/a"));
    bench.set(&format!("{branch}/b"));
}

/// A ConjurConnection `conjur` as a host.
pub fn connection_as(bench: &Bench, login: &str) -> Value {
    let auth = json!({ "apiKey": { "login": login, "apiKeySecretRef": { "name": "conjur-login", "key": "api-key" } } });
    connection(bench, "conjur", &json!({ "auth": auth }))
}

/// Makes an object of each kind that lies in a namespace, through the connection, and waits until each is Ready.
pub async fn make(bench: &Bench, connection: &Value) {
    let branch = bench.namespace.clone();
    let make = async |kind: &str, name: &str, spec: Value| {
        put(bench, &object(kind, name, connection, &spec)).await;
    };
    put_config_map(bench, "urls", &[("url", "x://{{ a }}")]).await;
    let restarted = ["Deployment", "StatefulSet", "DaemonSet"];
    for kind in restarted {
        workload(bench, kind, "web").await;
    }
    let template =
        json!({ "dataFrom": [{ "kind": "ConfigMap", "name": "urls", "key": "url", "targetKey": "URL" }] });
    make(
        "ConjurSecret",
        "db",
        json!({
            "data": [{ "key": "a", "variable": format!("{branch}/a") }],
            "target": { "template": template },
            "rolloutRestart": restarted.map(|kind| json!({ "kind": kind, "name": "web" })),
        }),
    )
    .await;
    bench.put_secret("theirs", &[("x", "y")]).await;
    make(
        "ConjurSecret",
        "merged",
        json!({
            "data": [{ "key": "b", "variable": format!("{branch}/b") }],
            "target": { "name": "theirs", "creationPolicy": "Merge", "deletionPolicy": "Retain" },
        }),
    )
    .await;
    make(
        "ConjurPolicy",
        "made",
        json!({
            "branch": branch, "document": "- !host web\n- !variable more\n", "createdRoles": { "secretName": "roles" },
            "deletionPolicy": "Delete",
        }),
    )
    .await;
    let pushed = bench.secret_value("pushed");
    bench.put_secret("keys", &[("openai", &pushed)]).await;
    make(
        "ConjurPush",
        "pushed",
        json!({
            "source": { "secretRef": { "name": "keys" } }, "prefix": format!("{branch}/pushed/"),
            "createVariables": { "branch": branch }, "deletionPolicy": "Delete",
        }),
    )
    .await;
    make("ConjurHost", "machine", json!({ "id": format!("{branch}/machine"), "deletionPolicy": "Delete" }))
        .await;
    is_ready(bench).await;
}

/// Waits until each of them is Ready.
pub async fn is_ready(bench: &Bench) {
    bench.ready::<ConjurSecret>("db").await;
    bench.ready::<ConjurSecret>("merged").await;
    bench.ready::<ConjurPolicy>("made").await;
    bench.ready::<ConjurPush>("pushed").await;
    bench.ready::<ConjurHost>("machine").await;
}

/// Changes each of them, and waits until that is done.
pub async fn change(bench: &Bench) {
    let value = bench.set(&format!("{}/a", bench.namespace));
    synced(bench, "db", "1").await;
    bench.holds("db", &[("URL", &format!("x://{value}"))]).await;
    // The second Event like one that was sent counts there.
    for _ in 0..2 {
        edit(bench, "db", json!({ "stringData": { "URL": "edited" } })).await;
        bench.holds("db", &[("URL", &format!("x://{value}"))]).await;
    }
    super::setup::change(bench, "db", json!({ "spec": { "target": { "name": "db-2" } } })).await;
    bench.holds("db-2", &[("URL", &format!("x://{value}"))]).await;
    bench.ready::<ConjurSecret>("db").await;
    let rotate = json!({ "metadata": { "annotations": { "conjur-operator.io/rotate-now": "1" } } });
    bench.api::<ConjurHost>().patch("machine", &PatchParams::default(), &Patch::Merge(rotate)).await.unwrap();
    let rotated = |host: &ConjurHost| {
        host.status.as_ref().is_some_and(|s| s.last_handled_rotate_now.as_deref() == Some("1"))
    };
    bench.until("the rotation that was asked for", "machine", rotated).await;
    // A connection of a ServiceAccount.
    service_account(bench, "app").await;
    let spec = json!({ "url": bench.conjur.url(), "account": "demo", "auth": jwt("app", "conjur") });
    put(
        bench,
        &json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurConnection", "metadata": { "name": "tokens" }, "spec": spec,
        }),
    )
    .await;
    bench.ready::<conjur_operator::api::ConjurConnection>("tokens").await;
    wait_for("the Event that came again is counted", SOON * 2, || async {
        let all = bench.api::<Event>().list(&ListParams::default()).await.ok()?;
        let mut repaired = all.iter().filter(|event| event.reason.as_deref() == Some("DriftRepaired"));
        repaired.any(|event| event.series.as_ref().is_some_and(|series| series.count > 1)).then_some(())
    })
    .await
    .unwrap();
}

/// Deletes them, and waits until they, and what they made in Conjur, are gone.
pub async fn remove(bench: &Bench) {
    gone::<ConjurHost>(bench, "machine").await;
    gone::<ConjurPush>(bench, "pushed").await;
    gone::<ConjurPolicy>(bench, "made").await;
    gone::<ConjurSecret>(bench, "db").await;
    let branch = &bench.namespace;
    assert_eq!(bench.conjur.variable(&format!("{branch}/pushed/openai")), None);
    assert_eq!(bench.conjur.api_key_of(&format!("host/{branch}/machine")), None);
    let kept = Api::<Secret>::namespaced(bench.client.clone(), branch).get_opt("theirs").await.unwrap();
    assert!(kept.is_some(), "a Secret of another writer went along");
}

async fn gone<K: Told>(bench: &Bench, name: &str) {
    let api = bench.api::<K>();
    api.delete(name, &DeleteParams::default()).await.unwrap();
    let what = format!("{} {name} is gone", K::kind(&()));
    wait_for(&what, SOON, || async { api.get_opt(name).await.ok()?.is_none().then_some(()) }).await.unwrap();
}

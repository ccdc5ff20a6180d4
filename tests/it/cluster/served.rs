//! Kinds whose CRDs come and go, and when the operator is ready.

use std::time::Duration;

use conjur_operator::api::ConjurSecret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use testbed::{Operator, OperatorOptions, wait_for};

use super::{
    Bench, SOON, apart,
    setup::{connected, connection, put},
};

/// Each kind, by its plural.
const KINDS: [&str; 6] = [
    "clusterconjurconnections",
    "conjurconnections",
    "conjursecrets",
    "conjurpolicies",
    "conjurpushes",
    "conjurhosts",
];

fn crds(bench: &Bench) -> Api<CustomResourceDefinition> {
    Api::all(bench.client.clone())
}

/// Deletes a CRD, and gives it as it was.
async fn take(bench: &Bench, plural: &str) -> CustomResourceDefinition {
    let name = format!("{plural}.conjur-operator.io");
    let mut crd = crds(bench).get(&name).await.unwrap();
    crds(bench).delete(&name, &DeleteParams::default()).await.unwrap();
    wait_for(&format!("CRD {plural} is gone"), SOON, || async {
        crds(bench).get_opt(&name).await.ok()?.is_none().then_some(())
    })
    .await
    .unwrap();
    crd.metadata.resource_version = None;
    crd.metadata.uid = None;
    crd
}

async fn status_of_ready(operator: &Operator) -> u16 {
    let url = format!("http://{}/readyz", operator.health_addr());
    reqwest::get(url).await.unwrap().status().as_u16()
}

/// An object of a kind, of which only a status is expected.
fn object(plural: &str) -> (&'static str, Value) {
    let reference = json!({ "name": "none" });
    let (kind, spec) = match plural {
        "clusterconjurconnections" | "conjurconnections" => {
            let kind =
                if plural.starts_with("cluster") { "ClusterConjurConnection" } else { "ConjurConnection" };
            let mut secret = json!({ "name": "none", "key": "k" });
            if plural.starts_with("cluster") {
                secret["namespace"] = json!("default");
            }
            let auth = json!({ "apiKey": { "login": "admin", "apiKeySecretRef": secret } });
            (kind, json!({ "url": "https://conjur.invalid", "account": "demo", "auth": auth }))
        }
        "conjursecrets" => {
            ("ConjurSecret", json!({ "connectionRef": reference, "data": [{ "key": "a", "variable": "a" }] }))
        }
        "conjurpolicies" => (
            "ConjurPolicy",
            json!({ "connectionRef": reference, "branch": "b", "document": "- !variable v\n" }),
        ),
        "conjurpushes" => {
            ("ConjurPush", json!({ "connectionRef": reference, "source": { "secretRef": { "name": "s" } } }))
        }
        _ => ("ConjurHost", json!({ "connectionRef": reference, "id": "apps/web" })),
    };
    (
        kind,
        json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": kind, "metadata": { "name": "served" }, "spec": spec }),
    )
}

#[test]
fn a_kind_without_a_crd_is_off_with_one_warning_and_on_when_the_crd_comes() {
    apart(|bench, mut operator| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &super::setup::project("db", &[("a", "a")], &json!({}))).await;
        bench.holds("db", &[("a", &value)]).await;
        // All but what the Secret of the test needs are gone when it starts; the rest after one another.
        let mut gone = Vec::new();
        for plural in
            KINDS.into_iter().filter(|plural| !["conjurconnections", "conjursecrets"].contains(plural))
        {
            gone.push((plural, take(&bench, plural).await));
        }
        let logged = operator.log().len();
        operator.restart().await.unwrap();
        let value = bench.set("apps/a");
        super::setup::synced(&bench, "db", "1").await;
        bench.holds("db", &[("a", &value)]).await;
        for (plural, crd) in gone {
            warned_once(&operator, logged, plural).await;
            crds(&bench).create(&PostParams::default(), &crd).await.unwrap();
            comes_on(&bench, plural).await;
        }
        // Those two while it runs, and then from the start.
        for plural in ["conjursecrets", "conjurconnections"] {
            let crd = take(&bench, plural).await;
            let logged = operator.log().len();
            operator.restart().await.unwrap();
            warned_once(&operator, logged, plural).await;
            crds(&bench).create(&PostParams::default(), &crd).await.unwrap();
            comes_on(&bench, plural).await;
        }
        // The whole of it works as before.
        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        put(&bench, &super::setup::project("again", &[("a", "a")], &json!({}))).await;
        bench.holds("again", &[("a", &value)]).await;
        assert_eq!(status_of_ready(&operator).await, 200);
    });
}

/// It said that the kind is off, and has tried more than once since.
async fn warned_once(operator: &Operator, logged: usize, plural: &str) {
    let kind = object(plural).0;
    let is_told = |line: &&str| {
        line.contains("CRD of this kind is not installed") && line.contains(&format!("kind=\"{kind}\""))
    };
    let told = || operator.log()[logged..].lines().filter(is_told).count();
    wait_for(&format!("it says that {kind} is off"), SOON, || async { (told() > 0).then_some(()) })
        .await
        .unwrap();
    assert_eq!(told(), 1, "{kind}");
    assert_eq!(status_of_ready(operator).await, 200, "without {kind} it is ready all the same");
}

/// An object of the kind is looked at: the watch backs off to half a minute.
async fn comes_on(bench: &Bench, plural: &str) {
    let (kind, object) = object(plural);
    let there = |value: &kube::api::DynamicObject| {
        value.data["status"]["observedGeneration"].as_i64() == value.metadata.generation
            || value.data["status"]["conditions"].as_array().is_some_and(|all| !all.is_empty())
    };
    let api: Api<kube::api::DynamicObject> = if plural.starts_with("cluster") {
        let gvk = kube::core::GroupVersionKind::gvk("conjur-operator.io", "v1alpha1", kind);
        Api::all_with(bench.client.clone(), &kube::core::ApiResource::from_gvk(&gvk))
    } else {
        super::setup::untyped(bench, kind)
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    wait_for(&format!("{kind} is served again"), SOON, || async {
        let made = api.create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap()).await;
        made.is_ok().then_some(())
    })
    .await
    .unwrap();
    wait_for(&format!("{kind} is on again"), SOON + Duration::from_secs(60), || async {
        api.get(name).await.ok().filter(|object| there(object)).map(|object| object.name_any())
    })
    .await
    .unwrap();
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

#[test]
fn a_leader_is_ready_when_its_watches_are_up_and_a_standby_without_any() {
    apart(|bench, mut first| async move {
        // A standby watches nothing.
        let asked = || bench.world.plane.api_requests_by(&bench.world.release.user()).unwrap();
        let before = asked().len();
        let second = bench.second_operator().await;
        let by_second =
            asked().into_iter().skip(before).filter(|r| r.verb == "list" || r.verb == "watch").count();
        assert_eq!(status_of_ready(&second).await, 200);
        assert_eq!(by_second, 0, "a standby lists nothing");
        second.terminate().await.unwrap();

        // A leader that may not list the Secrets knows of nothing what is the operator's.
        first.terminate().await.unwrap();
        let release = &bench.world.release;
        let rules =
            bench.world.plane.kubectl(&["get", "clusterrole", &release.name, "-o", "json"]).await.unwrap();
        let role: Value = serde_json::from_str(&rules).unwrap();
        let mut without = role.clone();
        without["rules"].as_array_mut().unwrap().retain(|rule| rule["resources"] != json!(["secrets"]));
        assert_ne!(without["rules"], role["rules"]);
        bench.world.plane.kubectl_with(&["replace", "-f", "-"], &bare(&without)).await.unwrap();
        let can_list = ["auth", "can-i", "list", "secrets", "--all-namespaces", "--as", &release.user()];
        wait_for("the right is gone", SOON, || async {
            bench.world.plane.kubectl(&can_list).await.is_err().then_some(())
        })
        .await
        .unwrap();
        let mut options = OperatorOptions::under(release);
        options.args.push("--leader-elect".into());
        "conjur-operator-2".clone_into(&mut options.name);
        let leader =
            Operator::spawn(env!("CARGO_BIN_EXE_conjur-operator"), bench.world.plane, options).await.unwrap();
        wait_for("it leads and is refused", SOON, || async {
            let log = leader.log();
            (log.contains("holding the Lease") && log.contains("a watch is forbidden")).then_some(())
        })
        .await
        .unwrap();
        assert_eq!(status_of_ready(&leader).await, 503, "it leads, and has no watch of Secrets");
        bench.world.plane.kubectl_with(&["replace", "-f", "-"], &bare(&role)).await.unwrap();
        leader.wait_until_ready().await.unwrap();
        assert!(leader.log().contains("all watches are up"));

        // What falls away later makes it unready no more.
        let logged = leader.log().len();
        bench.world.plane.stop_api_server().await.unwrap();
        wait_for("a watch that fails", SOON, || async {
            leader.log()[logged..].contains("a watch failed").then_some(())
        })
        .await
        .unwrap();
        assert_eq!(status_of_ready(&leader).await, 200);
        bench.world.plane.start_api_server().await.unwrap();
        leader.terminate().await.unwrap();
        first.restart().await.unwrap();
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &super::setup::project("db", &[("a", "a")], &json!({}))).await;
        bench.holds("db", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

/// A manifest of it as it was, whatever became of it since.
fn bare(role: &Value) -> String {
    let mut role = role.clone();
    let metadata = role["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
    role.to_string()
}

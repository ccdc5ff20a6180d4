//! An installation over its life: upgraded from the chart of the former version, rolled back, uninstalled, installed again.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testbed::{ControlPlane, DevConjur, chart_folder, wait_for};

use super::setup::{
    NAMESPACE, PATIENCE, TEAM, conjur, former_chart, get, install, name, node, ready, until_held,
    until_holds, until_pods,
};

/// Beside the objects of the examples.
const OTHERS: &str = include_str!("../../../upgrade/objects.yaml");

/// What an upgrade must not change, as one text for each thing.
async fn picture(node: &ControlPlane, conjur: &DevConjur) -> BTreeMap<String, String> {
    let mut picture = BTreeMap::new();
    let loads = conjur.control(reqwest::Method::GET, "loads", None).await.unwrap();
    picture.insert("loads".to_owned(), loads.to_string());
    for host in ["apps/billing/web", "apps/billing/worker"] {
        let record = conjur.record("host", host).await.unwrap().unwrap();
        picture.insert(format!("key of {host}"), record["keyGeneration"].to_string());
    }
    let secrets = get(node, TEAM, "secrets").await;
    for secret in secrets["items"].as_array().unwrap() {
        let version = &secret["metadata"]["resourceVersion"];
        picture.insert(format!("Secret {}", name(secret)), format!("{version} {}", secret["data"]));
    }
    let deployment = get(node, TEAM, "deployment/billing").await;
    picture.insert("Deployment".to_owned(), deployment["spec"]["template"]["metadata"].to_string());
    for kind in ["conjurconnections", "conjursecrets", "conjurpolicies", "conjurpushes", "conjurhosts"] {
        for object in get(node, TEAM, kind).await["items"].as_array().unwrap() {
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|one| one["type"] == "Ready");
            let said = ready.map(|one| format!("{} {}", one["status"], one["reason"])).unwrap_or_default();
            let meta = &object["metadata"];
            picture.insert(format!("{kind} {}", name(object)), format!("{} {said}", meta["uid"]));
            picture.insert(
                format!("rotation of {kind} {}", name(object)),
                object["status"]["lastRotationTime"].to_string(),
            );
        }
    }
    picture
}

/// Waits until every object has a Ready condition for its present generation.
async fn until_all_are_judged(node: &ControlPlane) {
    for kind in ["conjurconnections", "conjursecrets", "conjurpolicies", "conjurpushes", "conjurhosts"] {
        wait_for(&format!("all {kind} are judged"), PATIENCE, async || {
            let list = get(node, TEAM, kind).await;
            let judged = |object: &Value| {
                let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|one| {
                    one["type"] == "Ready" && one["observedGeneration"] == object["metadata"]["generation"]
                })
            };
            list["items"].as_array().unwrap().iter().all(judged).then_some(())
        })
        .await
        .unwrap();
    }
}

/// Waits until the operator that leads now has brought a new value of a variable into its Secret.
async fn until_it_works(node: &ControlPlane, conjur: &DevConjur, value: &str) {
    conjur.set("apps/billing/db/username", value).await.unwrap();
    until_holds(node, "username", value).await;
}

#[tokio::test]
async fn an_upgrade_and_a_rollback_load_rotate_and_restart_nothing() {
    let Some(node) = node().await else { return };
    let former = former_chart().display().to_string();
    let there = ["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout=120s"];
    let mut args = vec!["install", "conjur-operator", &former];
    args.extend(there);
    node.helm(&args).await.unwrap();
    let conjur = conjur(&node).await;
    node.apply(OTHERS).await.unwrap();
    // This test changes the username, to see who works; `restarting` has the password alone.
    let no_restart = r#"{"spec":{"rolloutRestart":null}}"#;
    let patch =
        ["patch", "conjursecret", "billing-db", "--namespace", TEAM, "--type=merge", "--patch", no_restart];
    node.kubectl(&patch).await.unwrap();
    for kind in ["conjurpolicy/billing", "conjurpush/billing-generated", "conjurhost/billing-web"] {
        let delete = r#"{"spec":{"deletionPolicy":"Delete"}}"#;
        node.kubectl(&["patch", kind, "--namespace", TEAM, "--type=merge", "--patch", delete]).await.unwrap();
    }
    until_all_are_judged(&node).await;
    until_it_works(&node, &conjur, "before").await;
    let mut before = picture(&node, &conjur).await;
    assert!(before.values().any(|said| said.contains("False")), "{before:#?}");
    // The value that shows who works changes.
    before.remove("Secret billing-db").unwrap();

    let chart = chart_folder().display().to_string();
    let mut args = vec!["upgrade", "conjur-operator", &chart];
    args.extend(there);
    let rollback = ["rollback", "conjur-operator", "1", "--namespace", NAMESPACE, "--wait", "--timeout=120s"];
    for (what, helm) in
        [("upgrade", args.as_slice()), ("rollback", &rollback), ("upgrade again", args.as_slice())]
    {
        let former = super::setup::holder(&node).await;
        node.helm(helm).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        until_pods(&node, 1).await;
        until_held(&node, |holder| Some(holder) != former.as_deref()).await;
        until_it_works(&node, &conjur, what).await;
        until_all_are_judged(&node).await;
        let mut after = picture(&node, &conjur).await;
        after.remove("Secret billing-db").unwrap();
        assert_eq!(before, after, "{what}");
    }
}

#[tokio::test]
async fn an_uninstall_waits_for_what_only_the_operator_can_let_go_and_a_reinstall_finds_the_rest() {
    let Some(node) = node().await else { return };
    install(&node, json!({})).await;
    let conjur = conjur(&node).await;
    // What was loaded before is left in Conjur; what is loaded now goes with the object.
    let document = "- !variable db/username\n- !variable db/password\n- !host web\n- !variable more\n";
    let spec = json!({"spec": {"deletionPolicy": "Delete", "document": document}}).to_string();
    node.kubectl(&["patch", "conjurpolicy/billing", "--namespace", TEAM, "--type=merge", "--patch", &spec])
        .await
        .unwrap();
    wait_for("that is loaded", PATIENCE, async || {
        conjur.record("variable", "apps/billing/more").await.unwrap()
    })
    .await
    .unwrap();
    ready(&node, "conjurpolicy/billing").await;
    // While Conjur keeps the removal waiting it can't be let go.
    let hold = json!({"path": "/policies/myorg/policy/", "at": "beforeCommit"});
    conjur.control(reqwest::Method::POST, "hold", Some(&hold)).await.unwrap();
    node.kubectl(&["delete", "conjurpolicy", "billing", "--namespace", TEAM, "--wait=false"]).await.unwrap();
    let going = get(&node, TEAM, "conjurpolicy/billing").await;
    assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going:#}");

    let uninstall = ["uninstall", "conjur-operator", "--namespace", NAMESPACE, "--wait", "--timeout=60s"];
    let refused = node.helm(&uninstall).await.unwrap_err();
    let job = ["logs", "job/conjur-operator-uninstall-check", "--namespace", NAMESPACE];
    let said = format!("{refused:#}\n{}", node.kubectl(&job).await.unwrap_or_default());
    assert!(said.contains("billing/billing"), "{said}");
    until_pods(&node, 1).await;

    let before = get(&node, TEAM, "secret/billing-db").await;
    // After a refused uninstall Helm upgrades nothing before the release is brought back.
    node.helm(&["rollback", "conjur-operator", "1", "--namespace", NAMESPACE, "--wait"]).await.unwrap();
    install(&node, json!({"uninstall": {"force": true}})).await;
    node.helm(&uninstall).await.unwrap();
    for object in
        ["conjursecret/billing-db", "secret/billing-db", "conjurpolicy/billing", "conjurhost/billing-web"]
    {
        get(&node, TEAM, object).await;
    }

    conjur.control(reqwest::Method::POST, "release", Some(&json!({}))).await.unwrap();
    install(&node, json!({})).await;
    until_it_works(&node, &conjur, "reinstalled").await;
    let after = get(&node, TEAM, "secret/billing-db").await;
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    // The policy that waited for an operator goes now.
    node.kubectl(&["wait", "--for=delete", "conjurpolicy/billing", "--namespace", TEAM, "--timeout=120s"])
        .await
        .unwrap();
    ready(&node, "conjurconnection/conjur").await;
}

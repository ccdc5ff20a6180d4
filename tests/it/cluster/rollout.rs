//! `rolloutRestart`: exactly once for each change of the data.

use std::fmt::Debug;

use conjur_operator::api::ConjurSecret;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        core::v1::Secret,
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{Operator, OperatorOptions, wait_for};

use super::{
    Bench, SOON, alone,
    setup::{change, condition, connected, edit, project, put, states, synced},
    target::merging,
    test,
};

pub(super) async fn workload(bench: &Bench, kind: &str, name: &str) {
    let mut spec = json!({
        "selector": { "matchLabels": { "app": name } },
        "template": {
            "metadata": { "labels": { "app": name } },
            "spec": { "containers": [{ "name": "c", "image": "example.com/none" }] },
        },
    });
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
    }
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(bench.client.clone(), &bench.namespace, &resource);
    let object = json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// How often a workload was restarted: each change of its template is a generation.
async fn restarts<K>(bench: &Bench, name: &str) -> i64
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    bench.api::<K>().get(name).await.unwrap().meta().generation.unwrap_or(1) - 1
}

pub(super) async fn web(bench: &Bench) -> i64 {
    restarts::<Deployment>(bench, "web").await
}

fn restarting(more: &Value) -> Value {
    let mut spec = json!({ "rolloutRestart": [{ "kind": "Deployment", "name": "web" }] });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// A ConjurSecret `db` that restarts a Deployment `web`, done.
pub(super) async fn done(bench: &Bench, more: &Value) -> ConjurSecret {
    connected(bench, &["a", "b"]).await;
    workload(bench, "Deployment", "web").await;
    put(bench, &project("db", &[("a", "a")], &restarting(more))).await;
    bench.ready("db").await
}

#[test]
fn each_change_of_the_data_restarts_once_and_nothing_else_does() {
    test(|bench| async move {
        let object = done(&bench, &json!({})).await;
        assert_eq!(web(&bench).await, 0, "the first write restarts nothing");
        let status = object.status.unwrap();
        assert!(status.revision.is_some() && status.revision == status.rolled_out, "{status:?}");
        let mut expected = 0;
        for round in 1..=2 {
            bench.set("apps/a");
            synced(&bench, "db", &format!("changed-{round}")).await;
            expected += 1;
            assert_eq!(web(&bench).await, expected);
            let of_the_secret =
                bench.api::<Secret>().get("db").await.unwrap().annotations()["conjur-operator.io/revision"]
                    .clone();
            let template = bench.api::<Deployment>().get("web").await.unwrap().spec.unwrap().template;
            let annotations = template.metadata.unwrap().annotations.unwrap();
            assert_eq!(annotations["conjur-operator.io/revision.db"], of_the_secret);
            synced(&bench, "db", &format!("unchanged-{round}")).await;
            assert_eq!(web(&bench).await, expected);
        }
        bench.events("RolloutRestarted", "Deployment web").await;

        // Labels are not data, drift that is repaired is no change, nor is a template that GitOps put back.
        let labelled = restarting(&json!({ "target": { "labels": { "x": "y" } } }));
        put(&bench, &project("db", &[("a", "a")], &labelled)).await;
        bench.ready::<ConjurSecret>("db").await;
        let value = String::from_utf8(bench.conjur.variable("apps/a").unwrap()).unwrap();
        edit(&bench, "db", json!({ "stringData": { "a": "by hand" } })).await;
        bench.holds("db", &[("a", &value)]).await;
        bench.api::<Secret>().delete("db", &DeleteParams::default()).await.unwrap();
        bench.holds("db", &[("a", &value)]).await;
        synced(&bench, "db", "same").await;
        assert_eq!(web(&bench).await, expected);
        let back = json!({ "spec": { "template": { "metadata": { "annotations": null } } } });
        bench.api::<Deployment>().patch("web", &PatchParams::default(), &Patch::Merge(back)).await.unwrap();
        expected += 1;
        synced(&bench, "db", "put back").await;
        assert_eq!(web(&bench).await, expected);
        // Other keys are.
        put(&bench, &project("db", &[("a", "a"), ("b", "b")], &labelled)).await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(web(&bench).await, expected + 1);
    });
}

#[test]
fn all_kinds_are_restarted_and_one_that_is_missing_holds_nothing_up() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        for (kind, name) in [("Deployment", "d"), ("StatefulSet", "s"), ("DaemonSet", "e")] {
            workload(&bench, kind, name).await;
        }
        let rollouts = json!({ "rolloutRestart": [
            { "kind": "Deployment", "name": "missing" }, { "kind": "Deployment", "name": "d" },
            { "kind": "StatefulSet", "name": "s" }, { "kind": "DaemonSet", "name": "e" },
        ] });
        put(&bench, &project("db", &[("a", "a")], &rollouts)).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.set("apps/a");
        synced(&bench, "db", "1").await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(restarts::<Deployment>(&bench, "d").await, 1);
        assert_eq!(restarts::<StatefulSet>(&bench, "s").await, 1);
        assert_eq!(restarts::<DaemonSet>(&bench, "e").await, 1);
        bench.events("RolloutTargetNotFound", "Deployment missing").await;
    });
}

#[test]
fn several_objects_restart_one_workload_each_for_its_own_change() {
    test(|bench| async move {
        done(&bench, &json!({})).await;
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        let mut other = merging("other", "theirs", &[("b", "b")]);
        other["spec"]["rolloutRestart"] = json!([{ "kind": "Deployment", "name": "web" }]);
        put(&bench, &other).await;
        bench.ready::<ConjurSecret>("other").await;
        assert_eq!(web(&bench).await, 0);
        for (at, variable) in ["apps/a", "apps/b", "apps/b"].into_iter().enumerate() {
            bench.set(variable);
            for name in ["db", "other"] {
                synced(&bench, name, &at.to_string()).await;
                bench.ready::<ConjurSecret>(name).await;
            }
            assert_eq!(web(&bench).await, i64::try_from(at).unwrap() + 1);
        }
        // What others put into the merged Secret is not its data.
        edit(&bench, "theirs", json!({ "stringData": { "more": "y" } })).await;
        synced(&bench, "other", "same").await;
        assert_eq!(web(&bench).await, 3);
    });
}

#[test]
fn an_immutable_secret_that_is_made_anew_restarts_once() {
    test(|bench| async move {
        bench.may_delete();
        done(&bench, &json!({ "target": { "immutable": true } })).await;
        assert_eq!(web(&bench).await, 0);
        for round in 1..=2 {
            bench.set("apps/a");
            synced(&bench, "db", &round.to_string()).await;
            assert_eq!(web(&bench).await, round);
        }
    });
}

#[test]
fn restarts_that_are_configured_later_begin_with_the_next_change() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        workload(&bench, "Deployment", "web").await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        for round in 0..2 {
            let before = web(&bench).await;
            put(&bench, &project("db", &[("a", "a")], &restarting(&json!({})))).await;
            bench.ready::<ConjurSecret>("db").await;
            assert_eq!(web(&bench).await, before);
            bench.set("apps/a");
            synced(&bench, "db", &round.to_string()).await;
            assert_eq!(web(&bench).await, before + 1);
            // Without it, a change restarts nothing; configured again, it goes on counting.
            put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
            bench.ready::<ConjurSecret>("db").await;
            bench.set("apps/a");
            synced(&bench, "db", &format!("without-{round}")).await;
            assert_eq!(web(&bench).await, before + 1);
        }
    });
}

/// Makes the API server refuse changes of Deployments in the test's namespace, and waits until it does.
async fn forbid(bench: &Bench) {
    let name = format!("forbid-{}", bench.namespace);
    let namespace = &bench.namespace;
    let policy = format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         matchConstraints:\n    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}\n    \
         resourceRules: [{{apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: [deployments]}}]\n  \
         validations: [{{expression: 'false', message: not now}}]\n---\n\
         apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: {name}}}\n\
         spec: {{policyName: {name}, validationActions: [Deny]}}\n"
    );
    bench.apply(&policy).await;
    let probe = Patch::Merge(json!({ "metadata": { "labels": { "probe": "x" } } }));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let api = bench.api::<Deployment>();
    wait_for("it is forbidden", SOON, || async {
        api.patch("web", &params, &probe).await.is_err().then_some(())
    })
    .await
    .unwrap();
}

async fn permit(bench: &Bench) {
    let name = format!("forbid-{}", bench.namespace);
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        bench.kubectl(&["delete", kind, &name]).await;
    }
}

#[test]
fn a_restart_that_fails_is_tried_again_without_asking_conjur_and_holds_no_refresh_up() {
    test(|bench| async move {
        done(&bench, &json!({})).await;
        forbid(&bench).await;
        let value = bench.set("apps/a");
        super::setup::sync_now(&bench, "db", "1").await;
        let message = bench.says::<ConjurSecret>("db", "ApiServerError").await;
        assert!(message.contains("Deployment") && message.contains("tried again"), "{message}");
        bench.holds("db", &[("a", &value)]).await;
        let object: ConjurSecret = bench.api().get("db").await.unwrap();
        assert_eq!(states(&object), "Ready=True Reconciling=True");
        // The next value gets through all the same.
        let value = bench.set("apps/a");
        synced(&bench, "db", "2").await;
        bench.holds("db", &[("a", &value)]).await;
        let fetched = super::setup::fetches(&bench);
        permit(&bench).await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(web(&bench).await, 1, "for both changes, for the first never came through");
        assert_eq!(super::setup::fetches(&bench), fetched, "Conjur was asked again");
    });
}

#[test]
fn a_restart_survives_the_operators_end_and_its_start_makes_none() {
    alone(|bench, mut operator| async move {
        done(&bench, &json!({})).await;
        let merged = json!({ "refreshInterval": "1h" });
        change(&bench, "db", json!({ "spec": merged })).await;
        bench.ready::<ConjurSecret>("db").await;
        operator.restart().await.unwrap();
        synced(&bench, "db", "start").await;
        assert_eq!(web(&bench).await, 0, "a start restarts nothing");
        forbid(&bench).await;
        let value = bench.set("apps/a");
        super::setup::sync_now(&bench, "db", "1").await;
        bench.says::<ConjurSecret>("db", "ApiServerError").await;
        operator.kill9().await.unwrap();
        permit(&bench).await;
        operator.restart().await.unwrap();
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("db", &[("a", &value)]).await;
        assert_eq!(web(&bench).await, 1);
        operator.restart().await.unwrap();
        synced(&bench, "db", "2").await;
        assert_eq!(web(&bench).await, 1);
        // Deleted by hand while it does not run: nobody knows whether the data was another.
        operator.terminate().await.unwrap();
        bench.api::<Secret>().delete("db", &DeleteParams::default()).await.unwrap();
        operator.restart().await.unwrap();
        bench.holds("db", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(web(&bench).await, 1);
        assert_ne!(bench.api::<Secret>().get("db").await.unwrap().uid(), None);
    });
}

#[test]
fn an_operator_that_restarts_nothing_says_so_and_restarts_nothing_afterwards() {
    alone(|bench, mut shared| async move {
        shared.terminate().await.unwrap();
        let mut options = OperatorOptions::under(&bench.world.release);
        "restarts-nothing".clone_into(&mut options.name);
        options.args.push("--rollout-restart=false".to_owned());
        let binary = env!("CARGO_BIN_EXE_conjur-operator");
        let operator = Operator::start(binary, bench.world.plane, options).await.unwrap();
        done(&bench, &json!({})).await;
        let value = bench.set("apps/a");
        let object = synced(&bench, "db", "changed").await;
        bench.holds("db", &[("a", &value)]).await;
        let (ready, _, message) = condition(&object, "Ready").unwrap();
        assert!(ready == "True" && message.contains("rolloutRestart.enabled of the chart"), "{message}");
        operator.terminate().await.unwrap();

        // What changed meanwhile is no reason to restart once it is allowed.
        shared.restart().await.unwrap();
        let object = synced(&bench, "db", "allowed").await;
        assert!(!condition(&object, "Ready").unwrap().2.contains("switched off"));
        assert_eq!(web(&bench).await, 0);
        bench.set("apps/a");
        synced(&bench, "db", "changed again").await;
        assert_eq!(web(&bench).await, 1);
    });
}

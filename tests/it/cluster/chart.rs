//! What the chart has the operator do: its arguments, its hooks, and what its alerts and dashboard ask for.

use std::{collections::BTreeSet, path::Path};

use conjur_operator::api::{APPLIED_BY_LABEL, HOST_FINALIZER, PUSH_FINALIZER};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use testbed::{Chart, ControlPlane, HookRun, Operator, OperatorOptions, Release, repository, wait_for};

use super::SOON;

const BINARY: &str = env!("CARGO_BIN_EXE_conjur-operator");
const OWNER: &str = "conjur-system.conjur-operator";

fn chart(values: &Value) -> Chart {
    Chart { values: values.clone(), ..Chart::default() }
}

/// Installs or upgrades the chart, its hooks run as processes.
async fn install(plane: &ControlPlane, values: &Value) -> (testbed::Result<Release>, Vec<HookRun>) {
    let chart = chart(values);
    plane.with_hooks(Path::new(BINARY), plane.install_chart(&chart)).await.unwrap()
}

async fn uninstall(plane: &ControlPlane) -> (testbed::Result<String>, Vec<HookRun>) {
    let args = ["uninstall", "conjur-operator", "--namespace", "conjur-system", "--timeout", "60s"];
    plane.with_hooks(Path::new(BINARY), plane.helm(&args)).await.unwrap()
}

/// After a refused uninstall Helm upgrades nothing before the release is brought back.
async fn bring_back(plane: &ControlPlane, revision: usize) {
    let revision = revision.to_string();
    let args = ["rollback", "conjur-operator", &revision, "--namespace", "conjur-system"];
    plane.with_hooks(Path::new(BINARY), plane.helm(&args)).await.unwrap().0.unwrap();
}

fn connection(kind: &str, namespace: Option<&str>, name: &str) -> Value {
    let spec = json!({
        "url": "https://conjur.invalid", "account": "corp",
        "auth": { "apiKey": {
            "login": "host/apps/app",
            "apiKeySecretRef": { "name": "conjur-api-key", "key": "api-key" },
        } },
    });
    let mut connection = json!({ "kind": kind, "name": name, "spec": spec });
    if let Some(namespace) = namespace {
        connection["namespace"] = namespace.into();
    }
    if kind == "ClusterConjurConnection" {
        connection["spec"]["auth"]["apiKey"]["apiKeySecretRef"]["namespace"] = "conjur-system".into();
        connection["spec"]["access"] = json!([{ "namespaces": { "names": ["billing"] } }]);
    }
    connection
}

/// The connections that the release has applied: which, uid, account.
async fn applied(plane: &ControlPlane) -> BTreeSet<(String, String, String)> {
    let client = plane.client().await.unwrap();
    let own = ListParams::default().labels(&format!("{APPLIED_BY_LABEL}={OWNER}"));
    let mut found = BTreeSet::new();
    for kind in ["ConjurConnection", "ClusterConjurConnection"] {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("conjur-operator.io", "v1alpha1", kind));
        for one in Api::<DynamicObject>::all_with(client.clone(), &kind).list(&own).await.unwrap() {
            let account = one.data["spec"]["account"].as_str().unwrap().to_owned();
            found.insert((format!("{}/{}", kind.kind, one.name_any()), one.uid().unwrap(), account));
        }
    }
    found
}

fn names(applied: &BTreeSet<(String, String, String)>) -> Vec<&str> {
    applied.iter().map(|(name, _, _)| name.as_str()).collect()
}

#[tokio::test]
async fn connections_of_the_chart_are_the_same_objects_over_upgrades_and_go_when_they_stand_there_no_more() {
    let plane = ControlPlane::start().await.unwrap();
    plane.kubectl(&["create", "namespace", "billing"]).await.unwrap();
    let (one, other) = (
        connection("ConjurConnection", Some("billing"), "conjur"),
        connection("ClusterConjurConnection", None, "shared"),
    );

    // The first install brings the CRDs, too.
    let (release, runs) = install(&plane, &json!({ "connections": [one, other] })).await;
    release.unwrap();
    assert!(runs.iter().all(|run| run.success), "{runs:#?}");
    assert_eq!(runs[0].service_account, "conjur-operator-apply");
    let first = applied(&plane).await;
    assert_eq!(names(&first), ["ClusterConjurConnection/shared", "ConjurConnection/conjur"]);

    // Three upgrades: as it was, edited in the values, edited by hand meanwhile.
    for turn in 0..3 {
        let mut edited = one.clone();
        if turn > 0 {
            edited["spec"]["account"] = "other".into();
        }
        if turn == 2 {
            let patch = r#"{"spec":{"account":"by-hand"}}"#;
            let args = [
                "patch",
                "conjurconnection",
                "conjur",
                "--namespace",
                "billing",
                "--type",
                "merge",
                "-p",
                patch,
            ];
            plane.kubectl(&args).await.unwrap();
        }
        let values = json!({ "connections": [edited, other], "logLevel": "debug", "replicaCount": turn + 1 });
        install(&plane, &values).await.0.unwrap();
        let now = applied(&plane).await;
        for ((name, uid, _), (_, before, _)) in now.iter().zip(&first) {
            assert_eq!(uid, before, "{name} is another object after upgrade {turn}");
        }
        let account = if turn == 0 { "corp" } else { "other" };
        assert!(
            now.iter().any(|(name, _, of)| name == "ConjurConnection/conjur" && of == account),
            "{now:?}"
        );
    }

    // What stands there no more goes; another's does not, nor does anything while something can't be applied.
    plane.apply(&manifest(&connection("ConjurConnection", Some("billing"), "by-hand"))).await.unwrap();
    let foreign = connection("ConjurConnection", Some("billing"), "by-hand");
    let (refused, runs) = install(&plane, &json!({ "connections": [other, foreign] })).await;
    assert!(refused.is_err());
    let told = &runs.last().unwrap().output;
    assert!(told.contains("ConjurConnection billing/by-hand was not applied by a release"), "{told}");
    assert_eq!(applied(&plane).await.len(), 2);
    install(&plane, &json!({ "connections": [other] })).await.0.unwrap();
    assert_eq!(names(&applied(&plane).await), ["ClusterConjurConnection/shared"]);
    install(&plane, &json!({ "connections": [] })).await.0.unwrap();
    assert!(applied(&plane).await.is_empty());
    plane.kubectl(&["get", "conjurconnection", "by-hand", "--namespace", "billing"]).await.unwrap();
    plane.stop().await.unwrap();
}

fn manifest(connection: &Value) -> String {
    json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": connection["kind"],
        "metadata": { "name": connection["name"], "namespace": connection["namespace"] },
        "spec": connection["spec"],
    })
    .to_string()
}

#[tokio::test]
async fn with_named_namespaces_the_hook_gets_by_with_roles() {
    let plane = ControlPlane::start().await.unwrap();
    plane.kubectl(&["create", "namespace", "billing"]).await.unwrap();
    let values = json!({
        "watchNamespaces": ["billing"], "clusterConnections": { "enabled": false },
        "connections": [connection("ConjurConnection", Some("billing"), "conjur")],
    });
    let (release, runs) = install(&plane, &values).await;
    release.unwrap();
    assert!(runs.iter().all(|run| run.success), "{runs:#?}");
    assert_eq!(names(&applied(&plane).await), ["ConjurConnection/conjur"]);
    let (done, runs) = uninstall(&plane).await;
    done.unwrap();
    assert!(runs.iter().all(|run| run.success), "{runs:#?}");
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn helms_test_asks_for_ready_connections_of_this_release() {
    let plane = ControlPlane::start().await.unwrap();
    install(&plane, &json!({})).await.0.unwrap();
    let test = async || {
        let args = ["test", "conjur-operator", "--namespace", "conjur-system", "--timeout", "90s"];
        plane.with_hooks(Path::new(BINARY), plane.helm(&args)).await.unwrap()
    };
    let (passed, runs) = test().await;
    passed.unwrap();
    assert!(runs[0].output.contains("all kinds are served"), "{runs:#?}");
    assert_eq!(runs[0].service_account, "conjur-operator-install-check");

    // One that someone gave the release's label is not asked for, nor taken away.
    let labelled = json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurConnection",
        "metadata": { "name": "labelled", "namespace": "default", "labels": { APPLIED_BY_LABEL: OWNER } },
        "spec": connection("ConjurConnection", None, "labelled")["spec"],
    });
    plane.apply(&labelled.to_string()).await.unwrap();
    test().await.0.unwrap();

    let values = json!({ "connections": [connection("ConjurConnection", Some("conjur-system"), "conjur")] });
    let (release, runs) = install(&plane, &values).await;
    release.unwrap();
    assert!(!runs[0].output.contains("deleted"), "{runs:#?}");
    plane.kubectl(&["get", "conjurconnection", "labelled", "--namespace", "default"]).await.unwrap();
    let (failed, runs) = test().await;
    assert!(failed.is_err());
    let told = &runs[0].output;
    assert!(told.contains("ConjurConnection conjur-system/conjur: the operator has not looked"), "{told}");
    assert!(!told.contains("labelled"), "{told}");
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn an_uninstall_is_refused_with_a_list_while_something_would_be_left_hanging_or_lost() {
    let plane = ControlPlane::start().await.unwrap();
    install(&plane, &json!({})).await.0.unwrap();
    plane.kubectl(&["create", "namespace", "billing"]).await.unwrap();
    let object = |kind: &str, name: &str, spec: Value, finalizers: &[&str]| {
        json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": kind,
            "metadata": { "name": name, "namespace": "billing", "finalizers": finalizers }, "spec": spec,
        })
        .to_string()
    };
    let push = json!({
        "connectionRef": { "name": "conjur" }, "source": { "secretRef": { "name": "app" } }, "prefix": "apps/app",
    });
    let host = json!({ "connectionRef": { "name": "conjur" }, "id": "apps/worker" });
    plane.apply(&object("ConjurPush", "going", push.clone(), &[PUSH_FINALIZER])).await.unwrap();
    plane.apply(&object("ConjurPush", "staying", push, &[PUSH_FINALIZER])).await.unwrap();
    plane.apply(&object("ConjurHost", "gone", host, &[HOST_FINALIZER])).await.unwrap();
    for (kind, name) in [("conjurpush", "going"), ("conjurhost", "gone")] {
        plane.kubectl(&["delete", kind, name, "--namespace", "billing", "--wait=false"]).await.unwrap();
    }

    let (refused, runs) = uninstall(&plane).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("uninstall-check"), "{error}");
    let told = &runs[0].output;
    for expected in ["ConjurPush: billing/going", "ConjurHost: billing/gone", "helm rollback", "--no-hooks"] {
        assert!(told.contains(expected), "{told}");
    }
    assert!(!told.contains("staying"), "{told}");
    let deployment = ["get", "deployment", "conjur-operator", "--namespace", "conjur-system"];
    plane.kubectl(&deployment).await.unwrap();

    // They are let go, as the operator would; then the CRDs are to go, with the one that is left.
    for (kind, name) in [("conjurpush", "going"), ("conjurhost", "gone")] {
        let patch = r#"{"metadata":{"finalizers":null}}"#;
        let args = ["patch", kind, name, "--namespace", "billing", "--type", "merge", "-p", patch];
        plane.kubectl(&args).await.unwrap();
    }
    bring_back(&plane, 1).await;
    install(&plane, &json!({ "crds": { "keep": false } })).await.0.unwrap();
    let (refused, runs) = uninstall(&plane).await;
    assert!(refused.is_err());
    let told = &runs[0].output;
    assert!(told.contains("crds.keep is false") && told.contains("ConjurPush: billing/staying"), "{told}");

    // Kept again it goes, and what is there stays.
    bring_back(&plane, 3).await;
    install(&plane, &json!({ "crds": { "keep": true } })).await.0.unwrap();
    uninstall(&plane).await.0.unwrap();
    assert!(plane.kubectl(&deployment).await.is_err());
    plane.kubectl(&["get", "conjurpush", "staying", "--namespace", "billing"]).await.unwrap();

    // By force it goes with everything, and nothing is looked at.
    install(&plane, &json!({ "crds": { "keep": false }, "uninstall": { "force": true } })).await.0.unwrap();
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    let args = ["patch", "conjurpush", "staying", "--namespace", "billing", "--type", "merge", "-p", patch];
    plane.kubectl(&args).await.unwrap();
    let (gone, runs) = uninstall(&plane).await;
    gone.unwrap();
    assert!(runs.is_empty(), "{runs:#?}");
    wait_for("the CRDs are gone", SOON, async || {
        let crds = plane.kubectl(&["get", "crds", "-o", "name"]).await.ok()?;
        (!crds.contains("conjur-operator.io")).then_some(())
    })
    .await
    .unwrap();
    plane.stop().await.unwrap();
}

/// The Deployment's arguments with some values.
async fn arguments(plane: &ControlPlane, values: &Value) -> Vec<String> {
    let file = plane.folder().write("values.json", values.to_string()).unwrap().display().to_string();
    let folder = repository().join("charts/conjur-operator").display().to_string();
    let args = ["template", "r", &folder, "--values", &file, "--show-only", "templates/deployment.yaml"];
    let yaml = plane.helm(&args).await.unwrap();
    let args = ["create", "--dry-run=client", "-o", "json", "-f", "-"];
    let json: Value = serde_json::from_str(&plane.kubectl_with(&args, &yaml).await.unwrap()).unwrap();
    let args = json["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    args.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_operator_takes_every_argument_that_the_chart_gives() {
    let plane = ControlPlane::start().await.unwrap();
    for values in [
        json!({}),
        json!({
            "watchNamespaces": ["a", "b"], "clusterConnections": { "enabled": false },
            "rolloutRestart": { "enabled": false }, "metrics": { "objects": true },
            "network": { "allowHosts": ["10.0.0.0/8"], "denyHosts": ["*.corp.example"] },
            "leaderElection": { "leaseName": "x", "leaseNamespace": "y" },
        }),
    ] {
        let mut args = arguments(&plane, &values).await;
        // Every one is read before help is.
        args.push("--help".to_owned());
        let output = tokio::process::Command::new(BINARY).args(&args).output().await.unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    plane.stop().await.unwrap();
}

/// The names of series that a page has, as Prometheus knows them.
fn exported(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let suffixes = |kind: &str| match kind {
        "counter" => &["_total"][..],
        "histogram" => &["_bucket", "_sum", "_count"],
        "info" => &["_info"],
        _ => &[""],
    };
    types.flat_map(|(name, kind)| suffixes(kind).iter().map(move |end| format!("{name}{end}"))).collect()
}

#[tokio::test]
async fn alerts_and_dashboard_ask_for_what_the_operator_exports() {
    let plane = ControlPlane::start().await.unwrap();
    let release = plane.install_chart(&Chart::default()).await.unwrap();
    let operator = Operator::start(BINARY, &plane, OperatorOptions::under(&release)).await.unwrap();
    // What is counted by label is exported with its first value: a connection that fails, and what uses it.
    let mut failing = connection("ConjurConnection", Some("default"), "conjur");
    failing["spec"]["url"] = "http://127.0.0.1:9".into();
    plane.apply(&manifest(&failing)).await.unwrap();
    let credentials = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "conjur-api-key", "namespace": "default" },
        "stringData": { "api-key": "3x4mpl3" },
    });
    plane.apply(&credentials.to_string()).await.unwrap();
    let invalid = json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret",
        "metadata": { "name": "app", "namespace": "default" },
        "spec": {
            "connectionRef": { "name": "conjur" }, "data": [{ "key": "a", "variable": "a" }],
            "target": { "template": { "data": { "b": "{{ c" } } },
        },
    });
    plane.apply(&invalid.to_string()).await.unwrap();

    let name = regex::Regex::new(r"\b(?:conjur_operator|process)_[a-z_]+\b").unwrap();
    let mut asked = BTreeSet::new();
    for file in ["alerts.yaml", "dashboard.json"] {
        let path = repository().join("charts/conjur-operator/files").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        asked.extend(name.find_iter(&text).map(|found| found.as_str().to_owned()));
    }
    let unknown = std::sync::Mutex::new(BTreeSet::new());
    let all = wait_for("all that is asked for is exported", SOON, async || {
        let exported = exported(&operator.metrics().await.ok()?);
        let missing: BTreeSet<String> = asked.difference(&exported).cloned().collect();
        *unknown.lock().unwrap() = missing.clone();
        missing.is_empty().then_some(())
    })
    .await;
    assert!(all.is_ok(), "not exported: {:#?}", unknown.lock().unwrap());
    assert!(asked.len() >= 20, "{asked:?}");
    operator.terminate().await.unwrap();
    plane.stop().await.unwrap();
}

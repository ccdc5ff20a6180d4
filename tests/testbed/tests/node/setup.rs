//! One node for all tests of this program, one after the other, each with an installation of its own.

use std::io::Write as _;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testbed::process::Folder;
use testbed::{Chart, ControlPlane, DevConjur, Release, chart_folder, operator_image, repository, wait_for};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// How long a Pod may take to become what a test waits for. A node under load is slow, and that is not the operator's.
pub const PATIENCE: Duration = Duration::from_secs(120);
pub const NAMESPACE: &str = "conjur-system";
pub const TEAM: &str = "billing";

/// The node, while one test has it.
pub struct Node(
    #[allow(dead_code, reason = "it is given back when it goes")] MutexGuard<'static, ()>,
    &'static ControlPlane,
);

impl Deref for Node {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        self.1
    }
}

/// The node without anything installed in it; nothing, and a line about it, where there can be none.
pub async fn node() -> Option<Node> {
    static NODE: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    if let Some(lacking) = ControlPlane::lacks_for_a_node().await {
        // What a required test can't see must not look like success.
        assert!(std::env::var_os("CONJUR_OPERATOR_NODE").is_none(), "no node: {lacking}");
        // Not by a macro, whose lines are shown of failed tests alone.
        let _ = writeln!(std::io::stderr(), "NOT SEEN, for this machine can have no node: {lacking}");
        return None;
    }
    let start = async || {
        let folder = Folder::new().map_err(|error| format!("{error:#}"))?;
        let mut images = vec![];
        let former = std::env::var_os("CONJUR_OPERATOR_FORMER").map(PathBuf::from);
        let former = former.unwrap_or_else(|| program("conjur-operator"));
        for (program, chart) in [(program("conjur-operator"), chart_folder()), (former, former_chart())] {
            let image = operator_image(&program, &chart, &folder).await;
            images.push(image.map_err(|error| format!("{error:#}"))?);
        }
        ControlPlane::start_with_node(&images).await.map_err(|error| format!("{error:#}"))
    };
    let node = Node(turn, NODE.get_or_init(start).await.as_ref().unwrap());
    clear(&node).await;
    Some(node)
}

/// The chart of the former version, which an upgrade starts from. Its image is the present program, or the one that
/// `CONJUR_OPERATOR_FORMER` names.
pub fn former_chart() -> PathBuf {
    repository().join("tests/upgrade/conjur-operator-0.1.0.tgz")
}

/// A program of this workspace: as it is released where that was built, and else as it was built for tests.
pub fn program(name: &str) -> PathBuf {
    let release = std::env::var_os("CONJUR_OPERATOR_RELEASE").map(PathBuf::from);
    if let Some(release) = release.filter(|path| path.file_name() == Some(name.as_ref())) {
        return release;
    }
    // target/debug/deps/node-…
    let here = std::env::current_exe().unwrap();
    let built = here.ancestors().nth(2).unwrap().join(name);
    assert!(built.is_file(), "{} is missing: `cargo build --workspace --bins` makes it", built.display());
    built
}

/// What a test before has left.
async fn clear(node: &ControlPlane) {
    let _ =
        node.helm(&["uninstall", "conjur-operator", "--namespace", NAMESPACE, "--wait", "--no-hooks"]).await;
    let crds = node.kubectl(&["get", "crds", "--output", "name"]).await.unwrap();
    for crd in crds.lines().filter(|name| name.contains("conjur-operator.io")) {
        let (_, name) = crd.split_once('/').unwrap();
        let objects = node.kubectl(&["get", name, "--all-namespaces", "--output", "json"]).await.unwrap();
        let objects: Value = serde_json::from_str(&objects).unwrap();
        for object in objects["items"].as_array().unwrap() {
            let meta = &object["metadata"];
            let mut args = vec!["patch", name, meta["name"].as_str().unwrap(), "--type=merge"];
            args.extend(["--patch", r#"{"metadata":{"finalizers":null}}"#]);
            if let Some(namespace) = meta["namespace"].as_str() {
                args.extend(["--namespace", namespace]);
            }
            node.kubectl(&args).await.unwrap();
        }
        node.kubectl(&["delete", crd]).await.unwrap();
    }
    let namespaces = ["delete", "namespace", NAMESPACE, TEAM, "--ignore-not-found"];
    node.kubectl(&namespaces).await.unwrap();
}

/// Installs the chart in a namespace that enforces Pod Security "restricted".
pub async fn install(node: &ControlPlane, values: Value) -> Release {
    node.apply(
        &json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        })
        .to_string(),
    )
    .await
    .unwrap();
    node.install_chart(&Chart { values, ..Chart::default() }).await.unwrap()
}

/// A Conjur that Pods can reach, with the examples' branch and its identity; the key of that, and what its certificate is
/// checked by, are in the namespace [`TEAM`].
pub async fn reachable_conjur(node: &ControlPlane) -> DevConjur {
    let program = program("conjur-dev");
    let conjur = DevConjur::start_at(node.host_address(), program, node.folder(), "myorg").await.unwrap();
    let loaded = conjur.load_policy("root", &example("conjur/root-policy.yml")).await.unwrap();
    let key = loaded["created_roles"]["myorg:host:apps/billing"]["api_key"].as_str().unwrap();
    node.kubectl(&["create", "namespace", TEAM]).await.unwrap();
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conjur-ca", "namespace": TEAM},
            "data": {"ca.crt": conjur.authority()}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "conjur-api-key", "namespace": TEAM},
            "stringData": {"api-key": key}},
    ]});
    node.apply(&objects.to_string()).await.unwrap();
    conjur
}

fn example(name: &str) -> String {
    std::fs::read_to_string(repository().join("examples").join(name)).unwrap()
}

/// The same, and the examples applied and Ready.
pub async fn conjur(node: &ControlPlane) -> DevConjur {
    let conjur = reachable_conjur(node).await;
    for name in ["conjurconnection", "conjurhost", "conjurpolicy", "conjurpush", "conjursecret", "deployment"]
    {
        let manifest = example(&format!("{name}.yaml")).replace("https://conjur.example.com", conjur.url());
        node.apply(&manifest.replace("registry.k8s.io/pause:3.10", testbed::PAUSE_IMAGE)).await.unwrap();
    }
    ready(node, "conjurpolicy/billing").await;
    conjur.set("apps/billing/db/username", "billing").await.unwrap();
    conjur.set("apps/billing/db/password", "a-first-password").await.unwrap();
    for object in ["conjursecret/billing-db", "conjurpush/billing-generated", "conjurhost/billing-web"] {
        ready(node, object).await;
    }
    conjur
}

pub async fn ready(node: &ControlPlane, object: &str) {
    let wait = ["wait", "--for=condition=Ready", "--timeout=120s", "--namespace", TEAM, object];
    if let Err(error) = node.kubectl(&wait).await {
        let object = node.kubectl(&["get", object, "--namespace", TEAM, "--output", "yaml"]).await;
        let log = log(node).await;
        panic!("{error:#}\n{}\n{log}", object.unwrap_or_default());
    }
}

/// What all Pods of the operator have logged last.
pub async fn log(node: &ControlPlane) -> String {
    let select = "--selector=app.kubernetes.io/name=conjur-operator";
    let args = ["logs", select, "--namespace", NAMESPACE, "--tail=40", "--prefix"];
    node.kubectl(&args).await.unwrap_or_else(|error| format!("{error:#}"))
}

/// An object as JSON.
pub async fn get(node: &ControlPlane, namespace: &str, object: &str) -> Value {
    let text = node.kubectl(&["get", object, "--namespace", namespace, "--output", "json"]).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Waits until the Secret of the examples has this text under a key; where it does not come, the operator's log says more.
pub async fn until_holds(node: &ControlPlane, key: &str, text: &str) {
    let wanted = STANDARD.encode(text);
    let what = format!("the Secret's {key} follows");
    let follows = wait_for(&what, PATIENCE, async || {
        let secret = get(node, TEAM, "secret/billing-db").await;
        (secret["data"][key] == wanted.as_str()).then_some(())
    });
    if let Err(error) = follows.await {
        panic!("{error:#}\n{}", log(node).await);
    }
}

/// The operator's Pods that are not on their way out.
pub async fn pods(node: &ControlPlane) -> Vec<Value> {
    let select = "--selector=app.kubernetes.io/name=conjur-operator";
    let text =
        node.kubectl(&["get", "pods", select, "--namespace", NAMESPACE, "--output", "json"]).await.unwrap();
    let mut list: Value = serde_json::from_str(&text).unwrap();
    let items = list["items"].as_array_mut().unwrap();
    // A hook's Pod stays where it failed, for its log.
    let of_deployment = |pod: &Value| pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet";
    items
        .drain(..)
        .filter(|pod| of_deployment(pod) && pod["metadata"]["deletionTimestamp"].is_null())
        .collect()
}

pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Waits for `count` Pods of the operator, all ready.
pub async fn until_pods(node: &ControlPlane, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} ready Pods of the operator"), PATIENCE, async || {
        let pods = pods(node).await;
        let ready = pods.iter().all(|pod| pod["status"]["containerStatuses"][0]["ready"] == true);
        (pods.len() == count && ready).then_some(pods)
    })
    .await
    .unwrap()
}

/// Who holds the operator's Lease; nothing where it is released.
pub async fn holder(node: &ControlPlane) -> Option<String> {
    let lease = get(node, NAMESPACE, "lease/conjur-operator").await;
    lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned)
}

/// Waits for a holder that `wanted` says yes to.
pub async fn until_held(node: &ControlPlane, wanted: impl Fn(&str) -> bool) -> String {
    wait_for("the Lease is held", PATIENCE, async || holder(node).await.filter(|holder| wanted(holder)))
        .await
        .unwrap()
}

/// The number, within the node, of the process of a Pod of the operator.
pub async fn process_of(node: &ControlPlane, pod: &Value) -> String {
    let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let container = container.trim_start_matches("containerd://");
    let script = "cat /sys/fs/cgroup/memory/kubepods/*/*/$0/cgroup.procs /sys/fs/cgroup/memory/kubepods/*/$0/cgroup.procs \
                  2>/dev/null | sort -n | head -1";
    let found = node.in_node(&["sh", "-c", script, container]).await.unwrap();
    assert!(!found.trim().is_empty(), "no process of the container {container}");
    found.trim().to_owned()
}

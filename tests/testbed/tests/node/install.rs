//! What runs after `helm install`, and what goes on when it dies.

use reqwest::Method;
use serde_json::json;
use testbed::wait_for;

use super::setup::{
    NAMESPACE, PATIENCE, TEAM, conjur, get, holder, install, name, node, pods, process_of, reachable_conjur,
    ready, until_held, until_holds, until_pods,
};

#[tokio::test]
async fn without_any_value_it_runs_restricted_and_does_its_work() {
    let Some(node) = node().await else { return };
    install(&node, json!({})).await;
    let pods = until_pods(&node, 1).await;
    let pod = &pods[0];
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    until_held(&node, |holder| holder == name(pod)).await;

    // Its token is one that kubelet projects, and that ends by itself.
    let volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
    let mut sources = volumes.filter_map(|volume| volume["projected"]["sources"].as_array()).flatten();
    assert!(sources.any(|source| source["serviceAccountToken"]["expirationSeconds"].is_i64()), "{pod}");

    // What the kernel says of the process, not what the manifest asks for.
    let process = process_of(&node, pod).await;
    let status = node.in_node(&["cat", &format!("/proc/{process}/status")]).await.unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:")));
        line.unwrap().split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid"), "65532 65532 65532 65532");
    assert_eq!(field("Gid"), "65532 65532 65532 65532");
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    let mounts = node.in_node(&["cat", &format!("/proc/{process}/mounts")]).await.unwrap();
    let root = mounts.lines().find(|line| line.split_whitespace().nth(1) == Some("/")).unwrap();
    assert!(root.split_whitespace().nth(3).unwrap().split(',').any(|option| option == "ro"), "{root}");
    let groups = node.in_node(&["cat", &format!("/proc/{process}/cgroup")]).await.unwrap();
    let group = groups.lines().find_map(|line| line.split_once(":memory:")).unwrap().1;
    let limit =
        node.in_node(&["cat", &format!("/sys/fs/cgroup/memory{group}/memory.limit_in_bytes")]).await.unwrap();
    assert_eq!(limit.trim(), (256 * 1024 * 1024).to_string());

    let conjur = conjur(&node).await;
    let secret = get(&node, TEAM, "secret/billing-db").await;
    assert_eq!(secret["data"]["password"], "YS1maXJzdC1wYXNzd29yZA==");
    // Its port for metrics is what it says it is.
    let metrics = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:8080/proxy/metrics", name(pod));
    let page = node.kubectl(&["get", "--raw", &metrics]).await.unwrap();
    assert!(page.ends_with("# EOF\n"), "{page}");
    drop(conjur);
}

#[tokio::test]
async fn a_killed_container_comes_back_and_goes_on_where_it_was() {
    let Some(node) = node().await else { return };
    install(&node, json!({})).await;
    let conjur = conjur(&node).await;
    let pod = until_pods(&node, 1).await.remove(0);
    let before = get(&node, TEAM, "secret/billing-db").await;
    let (loads, host) =
        (conjur.loads("apps/billing").await.unwrap(), get(&node, TEAM, "secret/billing-web").await);

    let process = process_of(&node, &pod).await;
    node.in_node(&["kill", "-KILL", &process]).await.unwrap();
    wait_for("kubelet has started it again", PATIENCE, async || {
        let pods = pods(&node).await;
        let status = &pods.first()?["status"]["containerStatuses"][0];
        (status["restartCount"] == 1 && status["ready"] == true).then_some(())
    })
    .await
    .unwrap();
    // It has its Lease back at once: its name is the Pod's.
    until_held(&node, |holder| holder == name(&pod)).await;

    conjur.set("apps/billing/db/password", "a-second-password").await.unwrap();
    until_holds(&node, "password", "a-second-password").await;
    let after = get(&node, TEAM, "secret/billing-db").await;
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(loads, conjur.loads("apps/billing").await.unwrap(), "nothing is loaded again");
    assert_eq!(host["data"], get(&node, TEAM, "secret/billing-web").await["data"], "no key is rotated");
}

#[tokio::test]
async fn an_api_server_that_is_away_is_waited_for() {
    let Some(node) = node().await else { return };
    install(&node, json!({})).await;
    let conjur = conjur(&node).await;
    let pod = until_pods(&node, 1).await.remove(0);

    node.stop_api_server().await.unwrap();
    conjur.set("apps/billing/db/password", "changed-meanwhile").await.unwrap();
    // Longer than the ten seconds for which it may act without having renewed its Lease.
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    node.start_api_server().await.unwrap();

    wait_for("it has given up its Lease and was started again", PATIENCE, async || {
        let pods = pods(&node).await;
        let status = &pods.first()?["status"]["containerStatuses"][0];
        (status["restartCount"].as_i64()? >= 1 && status["ready"] == true).then_some(())
    })
    .await
    .unwrap();
    let previous = node
        .kubectl(&["logs", &name(&pod), "--namespace", NAMESPACE, "--previous", "--tail=3"])
        .await
        .unwrap();
    assert!(previous.contains("could not be renewed"), "{previous}");
    until_holds(&node, "password", "changed-meanwhile").await;
    for object in ["conjursecret/billing-db", "conjurpolicy/billing", "conjurhost/billing-web"] {
        ready(&node, object).await;
    }
}

#[tokio::test]
async fn the_applications_pod_is_replaced_when_its_password_changes() {
    let Some(node) = node().await else { return };
    install(&node, json!({})).await;
    let conjur = conjur(&node).await;
    let status = ["rollout", "status", "deployment/billing", "--namespace", TEAM, "--timeout=120s"];
    node.kubectl(&status).await.unwrap();
    let revision = || async {
        let annotations = get(&node, TEAM, "deployment/billing").await["metadata"]["annotations"].clone();
        annotations["deployment.kubernetes.io/revision"].as_str().unwrap().parse::<u32>().unwrap()
    };
    let before = revision().await;
    conjur.set("apps/billing/db/password", "a-second-password").await.unwrap();
    wait_for("the Deployment has another revision", PATIENCE, async || {
        (revision().await > before).then_some(())
    })
    .await
    .unwrap();
    node.kubectl(&status).await.unwrap();
    assert_eq!(revision().await, before + 1, "once");
}

#[tokio::test]
async fn connections_of_the_chart_come_by_its_hook_and_helms_test_sees_that_they_work() {
    let Some(node) = node().await else { return };
    let conjur = reachable_conjur(&node).await;
    let connection = json!({
        "name": "corp", "kind": "ClusterConjurConnection",
        "spec": {
            "url": conjur.url(), "account": conjur.account(),
            "tls": {"caBundleFrom": {"kind": "ConfigMap", "namespace": TEAM, "name": "conjur-ca", "key": "ca.crt"}},
            "auth": {"apiKey": {
                "login": "host/apps/billing",
                "apiKeySecretRef": {"namespace": TEAM, "name": "conjur-api-key", "key": "api-key"},
            }},
        },
    });
    install(&node, json!({"connections": [connection]})).await;
    let wait = ["wait", "--for=condition=Ready", "clusterconjurconnection/corp", "--timeout=120s"];
    node.kubectl(&wait).await.unwrap();
    node.helm(&["test", "conjur-operator", "--namespace", NAMESPACE, "--timeout=120s"]).await.unwrap();
    drop(conjur);
}

#[tokio::test]
async fn a_pod_that_is_told_to_end_keeps_the_lease_until_its_load_has_ended() {
    let Some(node) = node().await else { return };
    install(&node, json!({"replicaCount": 2})).await;
    let conjur = conjur(&node).await;
    until_pods(&node, 2).await;
    let leader = until_held(&node, |_| true).await;
    let hold = json!({"method": "PATCH", "path": "/policies/myorg/policy/apps", "at": "beforeCommit"});
    conjur.control(Method::POST, "hold", Some(&hold)).await.unwrap();
    let document = json!({"spec": {"document": "- !variable db/username\n- !variable db/password\n- !host web\n- !host late\n"}});
    let patch = ["patch", "conjurpolicy", "billing", "--namespace", TEAM, "--type=merge", "--patch"];
    node.kubectl(&[&patch[..], &[&document.to_string()]].concat()).await.unwrap();
    wait_for("the load is under way", PATIENCE, async || {
        let answer = conjur.control(Method::GET, "held", None).await.unwrap();
        answer["waiting"].as_u64().filter(|waiting| *waiting == 1).map(|_| ())
    })
    .await
    .unwrap();

    node.kubectl(&["delete", "pod", &leader, "--namespace", NAMESPACE, "--wait=false"]).await.unwrap();
    let begun = std::time::Instant::now();
    wait_for("the Lease is held for longer than other work is waited for", PATIENCE, async || {
        assert_eq!(holder(&node).await.as_deref(), Some(leader.as_str()), "released during the load");
        (begun.elapsed() > std::time::Duration::from_secs(22)).then_some(())
    })
    .await
    .unwrap();
    conjur.control(Method::POST, "release", Some(&json!({}))).await.unwrap();
    until_held(&node, |holder| holder != leader).await;
    ready(&node, "conjurpolicy/billing").await;
    let keys = get(&node, TEAM, "secret/billing-roles").await;
    assert!(keys["data"]["pending.json"].is_null(), "an announcement was left over");
    assert!(keys["data"]["host.apps_2fbilling_2flate.api-key"].is_string(), "the key is missing");
}

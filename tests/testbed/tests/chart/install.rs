//! Installed, upgraded, uninstalled.

use serde_json::{Value, json};
use testbed::{Chart, ControlPlane, Result};

use super::chart_folder;

#[tokio::test]
async fn the_chart_installs_upgrades_and_grants_what_the_operator_needs_and_no_more() {
    let cluster = ControlPlane::start().await.unwrap();
    let release = cluster.install_chart(&Chart::default()).await.unwrap();
    assert_eq!(release.user(), "system:serviceaccount:conjur-system:conjur-operator");
    cluster.kubectl(&["get", "conjur", "--all-namespaces"]).await.unwrap();

    let user = release.user();
    for (verb, resource, namespace, allowed) in [
        ("watch", "secrets", "billing", true),
        ("create", "secrets", "billing", true),
        ("list", "configmaps", "billing", true),
        ("patch", "conjursecrets.conjur-operator.io/status", "billing", true),
        ("create", "events.events.k8s.io", "billing", true),
        ("create", "leases.coordination.k8s.io", "conjur-system", true),
        ("update", "leases.coordination.k8s.io", "conjur-system", false),
        ("list", "leases.coordination.k8s.io", "conjur-system", false),
        ("create", "events", "billing", false),
        ("create", "serviceaccounts/token", "billing", false),
        ("patch", "deployments.apps", "billing", true),
        ("update", "leases.coordination.k8s.io", "billing", false),
        ("update", "conjursecrets.conjur-operator.io", "billing", false),
        ("get", "pods", "billing", false),
        ("update", "configmaps", "billing", false),
    ] {
        let mut args = vec!["auth", "can-i", verb];
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        args.extend([resource, "--subresource", subresource, "--namespace", namespace, "--as", &user]);
        let answer = cluster.kubectl(&args).await;
        assert_eq!(answer.is_ok(), allowed, "{verb} {resource}/{subresource} in {namespace}: {answer:?}");
    }

    for (name, allowed) in [("conjur-operator", true), ("kube-controller-manager", false)] {
        for verb in ["get", "update"] {
            let lease = format!("leases.coordination.k8s.io/{name}");
            let answer = cluster
                .kubectl(&["auth", "can-i", verb, &lease, "--namespace", "conjur-system", "--as", &user])
                .await;
            assert_eq!(answer.is_ok(), allowed, "{verb} {lease}: {answer:?}");
        }
    }

    // Pod Security looks at the Pods that the Deployment makes.
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", "conjur-system", label]).await.unwrap();
    let pods = || async {
        let pods =
            cluster.kubectl(&["get", "pods", "--namespace", "conjur-system", "-o", "name"]).await.unwrap();
        (pods.lines().count() == 2).then_some(())
    };
    let values = json!({"replicaCount": 2});
    cluster.install_chart(&Chart { values, ..Chart::default() }).await.unwrap();
    testbed::wait_for("two Pods are admitted", std::time::Duration::from_secs(30), pods).await.unwrap();

    cluster
        .helm(&["uninstall", "conjur-operator", "--namespace", "conjur-system", "--no-hooks"])
        .await
        .unwrap();
    cluster.kubectl(&["get", "conjur", "--all-namespaces"]).await.unwrap();
    cluster.stop().await.unwrap();
}

/// How the Deployment replaces its Pods after an upgrade to some values.
async fn strategy(cluster: &ControlPlane, values: Value) -> Result<String> {
    cluster.install_chart(&Chart { values, ..Chart::default() }).await?;
    let path = "jsonpath={.spec.strategy.type}";
    let args = ["get", "deployment", "conjur-operator", "--namespace", "conjur-system", "-o", path];
    Ok(cluster.kubectl(&args).await?.trim().to_owned())
}

#[tokio::test]
async fn an_upgrade_to_another_lease_ends_the_former_pods_first() {
    let cluster = ControlPlane::start().await.unwrap();
    for (election, expected) in [
        (json!({}), "RollingUpdate"),
        (json!({ "enabled": false }), "Recreate"),
        (json!({ "enabled": true }), "Recreate"),
        (json!({ "enabled": true }), "RollingUpdate"),
        (json!({ "leaseName": "other" }), "Recreate"),
        (json!({ "leaseName": "other", "retryPeriod": "3s" }), "RollingUpdate"),
        (json!({ "leaseName": "other", "leaseNamespace": "conjur-system" }), "Recreate"),
        (json!({ "leaseName": "other", "leaseNamespace": "conjur-system" }), "RollingUpdate"),
    ] {
        let found = strategy(&cluster, json!({ "leaderElection": election })).await.unwrap();
        assert_eq!(found, expected, "{election}");
    }
    let told = strategy(&cluster, json!({ "strategy": { "type": "RollingUpdate" } })).await.unwrap_err();
    assert!(told.to_string().contains("would run two operators at once"), "{told}");
    let found = strategy(&cluster, json!({ "strategy": { "type": "Recreate" } })).await.unwrap();
    assert_eq!(found, "Recreate");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_chart_passes_helms_own_check() {
    let cluster = ControlPlane::start().await.unwrap();
    let said = cluster.helm(&["lint", "--strict", &chart_folder()]).await.unwrap();
    assert!(said.contains("0 chart(s) failed") && !said.contains("WARNING"), "{said}");
    cluster.stop().await.unwrap();
}

#[test]
fn what_artifact_hub_shows_is_what_there_is() {
    let read = |name: &str| std::fs::read_to_string(format!("{}/{name}", chart_folder())).unwrap();
    let chart = read("Chart.yaml");
    let version = chart
        .lines()
        .find_map(|line| line.strip_prefix("appVersion: "))
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let image = format!("image: ghcr.io/conjur-operator/conjur-operator:{version}\n");
    assert!(chart.contains(&image), "no {image}");
    let mut crds = 0;
    for entry in std::fs::read_dir(format!("{}/files/crds", chart_folder())).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.trim_end_matches(".yaml");
        assert!(chart.contains(&format!("name: {name}\n")), "no {name}");
        crds += 1;
    }
    assert_eq!(chart.matches("displayName:").count(), crds);
    let least = chart.lines().find_map(|line| line.strip_prefix("kubeVersion: \">=")).unwrap();
    let least = least.trim_end_matches('"').trim_end_matches(".0-0");
    assert!(read("README.md").contains(&format!("Kubernetes {least} or newer")));
}

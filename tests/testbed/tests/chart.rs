//! The chart, rendered and installed by Helm on a real API server.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testbed::{Chart, ControlPlane, repository};

fn chart_folder() -> String {
    repository().join("charts/conjur-operator").display().to_string()
}

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

    cluster.helm(&["uninstall", "conjur-operator", "--namespace", "conjur-system"]).await.unwrap();
    cluster.kubectl(&["get", "conjur", "--all-namespaces"]).await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_chart_does_not_know_is_refused_and_what_it_knows_is_rendered() {
    let cluster = ControlPlane::start().await.unwrap();
    let folder = chart_folder();
    let template = async |values: &[&str]| {
        let mut args = vec!["template", "release", &folder];
        for value in values {
            args.extend(["--set", value]);
        }
        cluster.helm(&args).await
    };
    for wrong in [
        "image.registry=x",
        "logLevel=loud",
        "replicaCounts=2",
        "rbac.tokenRequest.names[0]=app",
        "rbac.tokenRequest.serviceAccountNames[0]=a/b",
        "rolloutRestart.on=true",
    ] {
        assert!(template(&[wrong]).await.is_err(), "{wrong} was taken");
    }
    let error = template(&["replicaCount=2", "leaderElection.enabled=false"]).await.unwrap_err().to_string();
    assert!(error.contains("Set leaderElection.enabled, or replicaCount to 1"), "{error}");

    let all = template(&[
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "imagePullSecrets[0].name=pull",
        "leaderElection.enabled=false",
        "serviceAccount.annotations.a=b",
        "resources.limits.cpu=2",
        "podAnnotations.c=d",
        "podLabels.e=f",
        "nodeSelector.disk=ssd",
        "tolerations[0].key=dedicated",
        "affinity.nodeAffinity.x=y",
        "topologySpreadConstraints[0].maxSkew=1",
        "priorityClassName=high",
        "logLevel=debug",
        "logFormat=text",
        "maxConcurrent=7",
        "network.allowHosts[0]=10.0.0.0/8",
        "network.allowHosts[1]=*.corp.example",
        "network.denyHosts[0]=10.6.6.6",
        "allowedAudiences[0]=conjur-eu",
        "extraArgs[0]=--one-more",
        "extraEnv[0].name=HTTPS_PROXY",
        "extraVolumes[0].name=more",
        "extraVolumeMounts[0].mountPath=/more",
        "fullnameOverride=full",
        "crds.keep=false",
        "rolloutRestart.enabled=false",
    ])
    .await
    .unwrap();
    for expected in [
        "conjur-operator@sha256:0000",
        "- name: pull",
        "type: Recreate",
        "a: b",
        "cpu: 2",
        "c: d",
        "e: f",
        "disk: ssd",
        "key: dedicated",
        "nodeAffinity:",
        "maxSkew: 1",
        "priorityClassName: high",
        "--log-level=debug",
        "--log-format=text",
        "--max-concurrent=7",
        "\"--allow-hosts=10.0.0.0/8\"",
        "\"--allow-hosts=*.corp.example\"",
        "\"--deny-hosts=10.6.6.6\"",
        "\"--allowed-audiences=conjur-eu\"",
        "--rollout-restart=false",
        "- --one-more",
        "name: HTTPS_PROXY",
        "- name: more",
        "mountPath: /more",
        "name: full",
        "conjursecrets.conjur-operator.io",
    ] {
        assert!(all.contains(expected), "`{expected}` is missing in\n{all}");
    }
    for unexpected in ["--leader-elect", "helm.sh/resource-policy", "leases"] {
        assert!(!all.contains(unexpected), "`{unexpected}` is there in\n{all}");
    }
    let none = template(&["crds.enabled=false", "rbac.create=false", "rbac.aggregate=false"]).await.unwrap();
    for unexpected in ["CustomResourceDefinition", "ClusterRole"] {
        assert!(!none.contains(unexpected), "`{unexpected}` is there in\n{none}");
    }
    cluster.stop().await.unwrap();
}

/// What the chart's roles grant with some values: `group/resource [names]: verbs`, the Role's below `lease`.
async fn rights(cluster: &ControlPlane, values: &[&str]) -> BTreeSet<String> {
    let folder = chart_folder();
    let mut args = vec!["template", "conjur-operator", &folder, "--show-only", "templates/rbac.yaml"];
    for value in values {
        args.extend(["--set", value]);
    }
    let yaml = cluster.helm(&args).await.unwrap();
    let json = cluster.kubectl_with(&["create", "--dry-run=client", "-o", "json", "-f", "-"], &yaml).await;
    let json = json.unwrap();
    let roles = serde_json::Deserializer::from_str(&json).into_iter::<Value>();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut found = BTreeSet::new();
    for role in roles.map(Result::unwrap) {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let names = texts(&rule["resourceNames"]).join(" ");
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    let kind = role["kind"].as_str().unwrap();
                    let verbs = texts(&rule["verbs"]).join(" ");
                    found.insert(format!("{kind} {group}/{resource} [{names}]: {verbs}"));
                }
            }
        }
    }
    found
}

#[tokio::test]
async fn each_set_of_values_grants_what_it_needs_and_nothing_else() {
    let cluster = ControlPlane::start().await.unwrap();
    let ours = "ClusterRole conjur-operator.io";
    let expected: BTreeSet<String> = [
        "clusterconjurconnections []: get list watch",
        "conjurconnections []: get list watch",
        "conjursecrets []: get list watch",
        "conjurpolicies []: get list watch",
        "conjurpushes []: get list watch",
        "conjurhosts []: get list watch",
        "clusterconjurconnections/status []: patch",
        "conjurconnections/status []: patch",
        "conjursecrets/status []: patch",
        "conjurpolicies/status []: patch",
        "conjurpushes/status []: patch",
        "conjurhosts/status []: patch",
        "conjurpolicies []: patch",
        "conjurpushes []: patch",
        "conjurhosts []: patch",
        "conjursecrets/finalizers []: update",
        "conjurpolicies/finalizers []: update",
    ]
    .map(|right| format!("{ours}/{right}"))
    .into_iter()
    .chain(
        [
            "ClusterRole /secrets []: get list watch create update patch delete",
            "ClusterRole /configmaps []: get list watch",
            "ClusterRole /namespaces []: get list watch",
            "ClusterRole apps/deployments []: patch",
            "ClusterRole apps/statefulsets []: patch",
            "ClusterRole apps/daemonsets []: patch",
            "ClusterRole events.k8s.io/events []: create patch",
            "ClusterRole discovery.k8s.io/endpointslices [kubernetes]: get",
            "Role coordination.k8s.io/leases [conjur-operator]: get update",
            "Role coordination.k8s.io/leases []: create",
        ]
        .map(str::to_owned),
    )
    .collect();
    let named = [
        "ClusterRole /serviceaccounts []: list watch",
        "ClusterRole /serviceaccounts/token [app web]: create",
    ];
    let all = [named[0], "ClusterRole /serviceaccounts/token []: create"];
    let by_name = "rbac.tokenRequest.serviceAccountNames={app,web}";
    // The values, what they add, and what they take away.
    for (values, more, less) in [
        (vec![], &[][..], ""),
        (vec![by_name], &named[..], ""),
        (vec!["rbac.tokenRequest.allServiceAccounts=true"], &all[..], ""),
        (vec![by_name, "rbac.tokenRequest.allServiceAccounts=true"], &all[..], ""),
        (vec![by_name, "rbac.tokenRequest.enabled=false"], &[][..], ""),
        (vec!["rolloutRestart.enabled=false"], &[][..], " apps/"),
        (vec!["leaderElection.enabled=false"], &[][..], "leases"),
    ] {
        let mut expected = expected.clone();
        expected.extend(more.iter().map(|right| (*right).to_owned()));
        expected.retain(|right| less.is_empty() || !right.contains(less));
        let found = rights(&cluster, &values).await;
        let (too_much, missing): (Vec<_>, Vec<_>) =
            (found.difference(&expected).collect(), expected.difference(&found).collect());
        assert!(
            too_much.is_empty() && missing.is_empty(),
            "{values:?}\ntoo much: {too_much:#?}\nmissing: {missing:#?}"
        );
    }
    cluster.stop().await.unwrap();
}

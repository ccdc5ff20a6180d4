//! Ten sets of values, rendered and given to a real API server.

use serde_json::{Value, json};
use testbed::{Chart, ControlPlane};

use super::{objects, render, the};

/// CRDs of the Prometheus Operator, as far as they matter here: any spec is taken.
fn monitoring_crds() -> String {
    let crds = [
        ("ServiceMonitor", "servicemonitors"),
        ("PodMonitor", "podmonitors"),
        ("PrometheusRule", "prometheusrules"),
    ];
    let crds = crds.map(|(kind, plural)| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.monitoring.coreos.com"),
                "annotations": { "api-approved.kubernetes.io": "unapproved, for tests" },
            },
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List") },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                } } }],
            },
        })
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": crds }).to_string()
}

/// Each with its name, and some texts that only it renders.
#[expect(clippy::too_many_lines, reason = "a table")]
fn sets() -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let peers =
        json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } } }]);
    vec![
        (
            "nothing",
            json!({}),
            vec!["ghcr.io/conjur-operator/conjur-operator:", "runAsUser: 65532", "periodSeconds: 2"],
        ),
        (
            "two replicas",
            json!({
                "replicaCount": 2,
                "podDisruptionBudget": { "enabled": true, "minAvailable": "50%" },
                "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
                "leaderElection": {
                    "leaseDuration": "30s", "renewDeadline": "20s", "retryPeriod": "4s", "leaseName": "lead",
                    "leaseNamespace": "locks",
                },
                "shutdown": { "loadGrace": "5m" }, "terminationGracePeriodSeconds": 330, "revisionHistoryLimit": 3,
            }),
            vec![
                "minAvailable: 50%",
                "maxSurge: 1",
                "maxUnavailable: 0",
                "--lease-duration=30s",
                "--lease-renew-deadline=20s",
                "--lease-retry-period=4s",
                "--lease-name=lead",
                "--lease-namespace=locks",
                "namespace: \"locks\"",
                "--load-grace=5m",
                "terminationGracePeriodSeconds: 330",
                "topologyKey: topology.kubernetes.io/zone",
                "revisionHistoryLimit: 3",
            ],
        ),
        (
            "two namespaces",
            json!({ "watchNamespaces": ["billing", "web"], "clusterConnections": { "enabled": false } }),
            vec!["--watch-namespace=billing", "--watch-namespace=web", "--cluster-connections=false"],
        ),
        (
            "connections",
            json!({
                "watchNamespaces": ["billing"],
                "connections": [
                    { "name": "conjur", "namespace": "billing", "labels": { "a": "b" }, "spec": { "account": "corp" } },
                    { "name": "shared", "kind": "ClusterConjurConnection", "spec": { "account": "corp" } },
                ],
            }),
            vec!["--owner=conjur-system.conjur-operator", "\"name\":\"shared\"", "--namespace=billing"],
        ),
        (
            "everything watched",
            json!({ "metrics": {
                "objects": true,
                "serviceMonitor": { "enabled": true, "labels": { "release": "prometheus" }, "interval": "1m" },
                "prometheusRule": { "enabled": true },
                "grafanaDashboard": { "enabled": true, "annotations": { "folder": "Conjur" } },
                "service": { "port": 9090, "labels": { "c": "d" } },
            } }),
            vec![
                "--metrics-objects",
                "kind: ServiceMonitor",
                "kind: PrometheusRule",
                "grafana_dashboard:",
                "port: 9090",
            ],
        ),
        (
            "by Pods, and locked in",
            json!({
                "metrics": { "service": { "enabled": false }, "podMonitor": { "enabled": true } },
                "networkPolicy": {
                    "enabled": true, "metricsFrom": peers,
                    "egress": {
                        "dns": peers, "apiServer": { "to": [{ "ipBlock": { "cidr": "10.0.0.1/32" } }], "ports": [6443] },
                        "conjur": { "to": [{ "ipBlock": { "cidr": "10.9.0.0/16" } }], "ports": [8443] },
                    },
                    "extraEgress": [{ "to": [{ "ipBlock": { "cidr": "10.8.0.0/16" } }] }],
                },
                "proxy": { "httpsProxy": "http://proxy.corp:3128", "noProxy": "10.0.0.0/8" },
            }),
            vec![
                "kind: PodMonitor",
                "cidr: 10.8.0.0/16",
                "port: 8443",
                "value: \"$(KUBERNETES_SERVICE_HOST),10.0.0.0/8,.svc,.cluster.local\"",
            ],
        ),
        (
            "another registry",
            json!({
                "global": {
                    "imageRegistry": "registry.corp", "imagePullSecrets": ["one", { "name": "two" }],
                    "nodeSelector": { "disk": "ssd" }, "tolerations": [{ "key": "dedicated", "operator": "Exists" }],
                    "affinity": { "podAntiAffinity": {} }, "ofAnotherChart": 1,
                },
                "imagePullSecrets": [{ "name": "three" }],
                "image": {
                    "repository": "mirror/conjur-operator", "pullPolicy": "Always",
                    "digest": format!("sha256:{}", "0".repeat(64)),
                },
            }),
            vec![
                "registry.corp/mirror/conjur-operator@sha256:0000",
                "name: one",
                "name: two",
                "name: three",
                "disk: ssd",
                "key: dedicated",
                "podAntiAffinity",
            ],
        ),
        (
            "names and labels",
            json!({
                "fullnameOverride": "full", "namespaceOverride": "elsewhere",
                "commonLabels": { "team": "platform" }, "commonAnnotations": { "note": "common" },
                "podLabels": { "e": "f" }, "podAnnotations": { "c": "d" }, "deploymentAnnotations": { "g": "h" },
                "serviceAccount": { "annotations": { "i": "j" }, "labels": { "k": "l" } },
                "crds": { "keep": false, "annotations": { "m": "o" } },
                "extraObjects": [
                    { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "{{ .Release.Name }}-one" } },
                    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include \"conjur-operator.fullname\" . }}-two\n",
                ],
            }),
            vec![
                "namespace: \"elsewhere\"",
                "team: platform",
                "note: common",
                "e: f",
                "c: d",
                "g: h",
                "i: j",
                "k: l",
                "m: o",
                "conjur-operator-one",
                "name: full-two",
                "--crds-go",
            ],
        ),
        (
            "a Pod with company",
            json!({
                "extraContainers": [{ "name": "side", "image": "{{ include \"conjur-operator.image\" . }}" }],
                "initContainers": [{ "name": "first", "image": "busybox" }],
                "extraArgs": ["--max-concurrent=9"], "extraEnv": [{ "name": "ONE", "value": "1" }],
                "extraVolumes": [{ "name": "more", "emptyDir": {} }],
                "extraVolumeMounts": [{ "name": "more", "mountPath": "/more" }],
                "lifecycle": { "preStop": { "sleep": { "seconds": 1 } } },
                "hostAliases": [{ "ip": "10.0.0.9", "hostnames": ["conjur.corp"] }],
                "dnsPolicy": "None", "dnsConfig": { "nameservers": ["10.0.0.53"] },
                "priorityClassName": "system-cluster-critical", "runtimeClassName": "gvisor", "schedulerName": "other",
                "hostUsers": false, "enableServiceLinks": true, "logFormat": "text", "maxConcurrent": 7,
                "nodeSelector": { "disk": "hdd" }, "resources": { "limits": { "cpu": 2 } },
                "affinity": { "nodeAffinity": {} },
                "topologySpreadConstraints": [{ "maxSkew": 3, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule" }],
                "readinessProbe": { "periodSeconds": 7 }, "logLevel": "debug",
            }),
            vec![
                "name: side",
                "name: first",
                "--max-concurrent=9",
                "name: ONE",
                "mountPath: /more",
                "preStop:",
                "conjur.corp",
                "dnsPolicy: None",
                "system-cluster-critical",
                "runtimeClassName: \"gvisor\"",
                "schedulerName: \"other\"",
                "hostUsers: false",
                "enableServiceLinks: true",
                "--log-format=text",
                "--max-concurrent=7",
                "disk: hdd",
                "cpu: 2",
                "maxSkew: 3",
                "periodSeconds: 7",
                "log-level: debug",
            ],
        ),
        (
            "as little as there can be",
            json!({
                "crds": { "enabled": false }, "rbac": { "create": false, "aggregate": false },
                "serviceAccount": { "create": false, "name": "given", "automount": false },
                "leaderElection": { "enabled": false }, "rolloutRestart": { "enabled": false },
                "uninstall": { "force": true }, "metrics": { "service": { "enabled": false } },
                "network": { "allowHosts": ["10.0.0.0/8", "*.corp.example"], "denyHosts": ["10.6.6.6"] },
                "allowedAudiences": ["conjur-eu"], "hostNetwork": true, "ports": { "metrics": 18080, "health": 18081 },
            }),
            vec![
                "serviceAccountName: \"given\"",
                "type: Recreate",
                "--rollout-restart=false",
                "\"--allow-hosts=10.0.0.0/8\"",
                "\"--allow-hosts=*.corp.example\"",
                "\"--deny-hosts=10.6.6.6\"",
                "\"--allowed-audiences=conjur-eu\"",
                "--metrics-addr=:18080",
                "--health-addr=:18081",
                "ClusterFirstWithHostNet",
            ],
        ),
    ]
}

#[tokio::test]
async fn ten_sets_of_values_are_rendered_and_taken_by_the_api_server() {
    let cluster = ControlPlane::start().await.unwrap();
    cluster.apply(&monitoring_crds()).await.unwrap();
    let runtime = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": "gvisor" }, "handler": "runsc",
    });
    cluster.apply(&runtime.to_string()).await.unwrap();
    for namespace in ["conjur-system", "billing", "web", "locks", "elsewhere"] {
        cluster.kubectl(&["create", "namespace", namespace]).await.unwrap();
    }
    let kinds = ["ServiceMonitor", "PodMonitor", "PrometheusRule"];
    let kinds: Vec<String> = kinds
        .iter()
        .flat_map(|kind| ["--api-versions".to_owned(), format!("monitoring.coreos.com/v1/{kind}")])
        .collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let sets = sets();
    assert!(sets.len() >= 10);
    for (name, values, expected) in &sets {
        let yaml = render(&cluster, values, &kinds).await.unwrap();
        for text in expected {
            assert!(yaml.contains(text), "{name}: `{text}` is missing in\n{yaml}");
        }
        // Strict: a field that no one knows is an error.
        let args = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        let taken = cluster.kubectl_with(&args, &yaml).await;
        assert!(taken.is_ok(), "{name}: {taken:?}\n{yaml}");
    }
    let least = render(&cluster, &sets.last().unwrap().1, &[]).await.unwrap();
    for unexpected in
        ["CustomResourceDefinition", "kind: ClusterRole", "--leader-elect", "leases", "pre-delete"]
    {
        assert!(!least.contains(unexpected), "`{unexpected}` is there in\n{least}");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn names_that_look_like_numbers_are_texts() {
    let cluster = ControlPlane::start().await.unwrap();
    let values = json!({
        "watchNamespaces": ["2024", "1e3"], "fullnameOverride": "123", "nameOverride": "77", "namespaceOverride": "1e3",
        "serviceAccount": { "name": "12" }, "leaderElection": { "leaseName": "99", "leaseNamespace": "2024" },
        "priorityClassName": "1", "runtimeClassName": "2", "schedulerName": "3", "crds": { "enabled": false },
        "rbac": { "tokenRequest": { "serviceAccountNames": ["12"] } },
        "connections": [{ "name": "5", "namespace": "2024", "spec": { "account": "corp" } }],
        "networkPolicy": { "enabled": true }, "podDisruptionBudget": { "enabled": true },
    });
    let yaml = render(&cluster, &values, &[]).await.unwrap();
    let all = objects(&cluster, &yaml).await;
    for object in &all {
        let (name, namespace) = (&object["metadata"]["name"], &object["metadata"]["namespace"]);
        assert!(name.is_string() && (namespace.is_string() || namespace.is_null()), "{object}");
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert!(subject["name"].is_string() && subject["namespace"] == "1e3", "{object}");
        }
        for rule in object["rules"].as_array().into_iter().flatten() {
            let mut names = rule["resourceNames"].as_array().into_iter().flatten();
            assert!(names.all(Value::is_string), "{object}");
        }
    }
    let pod = &the(&all, "Deployment")["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["app.kubernetes.io/name"], "77");
    assert_eq!(pod["spec"]["serviceAccountName"], "12");
    assert_eq!(pod["spec"]["volumes"][0]["configMap"]["name"], "123");
    for (field, expected) in [("priorityClassName", "1"), ("runtimeClassName", "2"), ("schedulerName", "3")] {
        assert_eq!(pod["spec"][field], expected);
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_new_log_level_changes_a_config_map_and_no_pod() {
    let cluster = ControlPlane::start().await.unwrap();
    let pod = async |level: &str| {
        let all =
            objects(&cluster, &render(&cluster, &json!({ "logLevel": level }), &[]).await.unwrap()).await;
        assert_eq!(the(&all, "ConfigMap")["data"]["log-level"], level);
        the(&all, "Deployment")["spec"]["template"].clone()
    };
    assert_eq!(pod("info").await, pod("debug").await);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn two_releases_of_one_name_that_watch_other_namespaces_do_not_meet() {
    let cluster = ControlPlane::start().await.unwrap();
    cluster.install_chart(&Chart::default()).await.unwrap();
    for namespace in ["one", "two"] {
        cluster.kubectl(&["create", "namespace", namespace]).await.unwrap();
        let values = json!({
            "watchNamespaces": [namespace], "crds": { "enabled": false }, "rbac": { "aggregate": false },
        });
        let chart = Chart { namespace: format!("{namespace}-system"), values, ..Chart::default() };
        let release = cluster.install_chart(&chart).await.unwrap();
        for (other, allowed) in [(namespace, true), ("billing", false), ("conjur-system", false)] {
            let args = ["auth", "can-i", "get", "secrets", "--namespace", other, "--as", &release.user()];
            assert_eq!(cluster.kubectl(&args).await.is_ok(), allowed, "{} in {other}", release.user());
        }
    }
    cluster.stop().await.unwrap();
}

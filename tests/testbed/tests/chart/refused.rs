//! Values that are wrong, and the sentence that says so.

use serde_json::{Value, json};
use testbed::ControlPlane;

use super::render;

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn each_wrong_value_is_refused_with_a_sentence() {
    let cluster = ControlPlane::start().await.unwrap();
    let connection = |more: Value| {
        let mut one = json!({ "name": "x", "spec": {} });
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one
    };
    let wrong: Vec<(Value, &str)> = vec![
        (json!({ "replicaCounts": 2 }), "'replicaCounts' not allowed"),
        (json!({ "image": { "name": "x" } }), "'name' not allowed"),
        (json!({ "image": { "digest": "latest" } }), "/image/digest"),
        (json!({ "image": { "pullPolicy": "Sometimes" } }), "one of 'Always', 'IfNotPresent', 'Never'"),
        (json!({ "imagePullSecrets": ["x"] }), "/imagePullSecrets/0"),
        (json!({ "logLevel": "loud" }), "one of 'error', 'warn', 'info'"),
        (json!({ "logFormat": "xml" }), "one of 'json', 'text'"),
        (json!({ "replicaCount": "two" }), "got string, want integer"),
        (json!({ "replicaCount": -1 }), "minimum"),
        (json!({ "maxConcurrent": 0 }), "minimum"),
        (json!({ "commonLabels": { "a": 1 } }), "got number, want string"),
        (json!({ "rbac": { "tokenRequest": { "names": ["app"] } } }), "'names' not allowed"),
        (json!({ "rbac": { "tokenRequest": { "serviceAccountNames": ["a/b"] } } }), "serviceAccountNames/0"),
        (json!({ "rolloutRestart": { "on": true } }), "'on' not allowed"),
        (json!({ "watchNamespaces": ["A"] }), "/watchNamespaces/0"),
        (json!({ "watchNamespaces": ["a", "a"] }), "equal"),
        (json!({ "dnsPolicy": "First" }), "/dnsPolicy"),
        (json!({ "hostUsers": "no" }), "/hostUsers"),
        (json!({ "ports": { "metrics": 70000 } }), "maximum"),
        (json!({ "securityContext": { "adapt": "maybe" } }), "one of 'auto', 'always', 'never'"),
        (json!({ "metrics": { "serviceMonitor": { "renderMode": "x" } } }), "one of 'skipIfMissing'"),
        (json!({ "connections": [{ "name": "x" }] }), "missing property 'spec'"),
        (
            json!({ "connections": [connection(json!({ "kind": "ConjurSecret" }))] }),
            "one of 'ConjurConnection'",
        ),
        (json!({ "tolerations": ["x"] }), "got string, want object"),
        (
            json!({ "replicaCount": 2, "leaderElection": { "enabled": false } }),
            "Set leaderElection.enabled, or replicaCount to 1",
        ),
        (
            json!({ "strategy": { "type": "RollingUpdate" }, "leaderElection": { "enabled": false } }),
            "Set leaderElection.enabled, or strategy.type to Recreate",
        ),
        (
            json!({ "leaderElection": { "leaseDuration": "15" } }),
            "is 15, which is no duration. Write it as 45s",
        ),
        (json!({ "leaderElection": { "leaseDuration": "2m" } }), "between 1s and 1m"),
        (json!({ "leaderElection": { "leaseDuration": "15500ms" } }), "whole seconds"),
        (json!({ "leaderElection": { "renewDeadline": "20s" } }), "must be longer than renewDeadline"),
        (json!({ "leaderElection": { "retryPeriod": "6s" } }), "at least twice retryPeriod"),
        (json!({ "shutdown": { "loadGrace": "soon" } }), "shutdown.loadGrace is soon"),
        (json!({ "shutdown": { "loadGrace": "20m" } }), "at most 15m"),
        (json!({ "terminationGracePeriodSeconds": 60 }), "at least 30 s more"),
        (
            json!({ "podDisruptionBudget": { "enabled": true, "minAvailable": 1, "maxUnavailable": 1 } }),
            "exclude each other",
        ),
        (json!({ "ports": { "metrics": 8081 } }), "Set two different ports"),
        (
            json!({ "metrics": { "service": { "enabled": false }, "serviceMonitor": { "enabled": true } } }),
            "or use metrics.podMonitor",
        ),
        (
            json!({ "metrics": { "podMonitor": { "enabled": true }, "serviceMonitor": { "enabled": true } } }),
            "scraped",
        ),
        (json!({ "metrics": { "podMonitor": { "interval": "5s" } } }), "is longer than its interval"),
        (
            json!({ "metrics": { "prometheusRule": { "enabled": true, "renderMode": "failIfMissing" } } }),
            "Install the Prometheus Operator's CRDs first",
        ),
        (json!({ "proxy": { "httpsProxy": "proxy:3128" } }), "Write it as http://proxy.example:3128"),
        (json!({ "proxy": { "httpsProxy": "http://me:secret@proxy:3128" } }), "from a Secret"),
        (json!({ "clusterConnections": { "enabled": false } }), "goes with watchNamespaces only"),
        (
            json!({ "connections": [connection(json!({ "kind": "ClusterConjurConnection", "namespace": "a" }))] }),
            "Remove its namespace",
        ),
        (
            json!({
                "connections": [connection(json!({ "kind": "ClusterConjurConnection" }))],
                "watchNamespaces": ["a"], "clusterConnections": { "enabled": false },
            }),
            "make it a ConjurConnection",
        ),
        (
            json!({ "connections": [connection(json!({ "namespace": "b" }))], "watchNamespaces": ["a"] }),
            "not in watchNamespaces",
        ),
        (json!({ "connections": [connection(json!({})), connection(json!({}))] }), "stands there twice"),
    ];
    let mut taken = Vec::new();
    for (values, expected) in wrong {
        match render(&cluster, &values, &[]).await {
            Ok(_) => taken.push(format!("{values} was taken")),
            Err(error) => {
                let error = error.to_string();
                if !error.contains(expected) {
                    taken.push(format!("{values}: `{expected}` is not in {error}"));
                }
                if error.contains("me:secret") {
                    taken.push(format!("{values}: the error repeats a password"));
                }
            }
        }
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
    cluster.stop().await.unwrap();
}

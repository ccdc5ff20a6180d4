//! What the Prometheus Operator and Grafana get.

use serde_json::{Value, json};
use testbed::{ControlPlane, check_rules};

use super::{chart_folder, render};

const KINDS: [&str; 3] = ["ServiceMonitor", "PodMonitor", "PrometheusRule"];

#[tokio::test]
async fn monitors_are_made_where_their_kinds_are_there() {
    let cluster = ControlPlane::start().await.unwrap();
    for (value, kind) in
        [("serviceMonitor", KINDS[0]), ("podMonitor", KINDS[1]), ("prometheusRule", KINDS[2])]
    {
        let of = |mode: &str| json!({ "metrics": { value: { "enabled": true, "renderMode": mode } } });
        let made = async |values: Value, more: &[&str]| {
            render(&cluster, &values, more).await.map(|yaml| yaml.contains(&format!("kind: {kind}\n")))
        };
        let api = format!("monitoring.coreos.com/v1/{kind}");
        let there = ["--api-versions", api.as_str()];
        assert!(!made(json!({}), &there).await.unwrap(), "{kind} by default");
        assert!(!made(of("skipIfMissing"), &[]).await.unwrap(), "{kind} without its CRD");
        assert!(made(of("skipIfMissing"), &there).await.unwrap(), "no {kind}");
        assert!(made(of("failIfMissing"), &there).await.unwrap(), "no {kind}");
        assert!(made(of("alwaysRender"), &[]).await.unwrap(), "no {kind}");
        let error = made(of("failIfMissing"), &[]).await.unwrap_err().to_string();
        assert!(error.contains(&format!("the cluster has no kind {kind}")), "{error}");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn alerts_are_left_out_by_name_and_get_labels() {
    let cluster = ControlPlane::start().await.unwrap();
    let values = json!({ "metrics": { "prometheusRule": {
        "enabled": true, "renderMode": "alwaysRender",
        "alertLabels": { "team": "platform" }, "disabled": ["ConjurOperatorAbsent"],
        "additionalRules": [{ "alert": "Mine", "expr": "vector(1)" }],
    } } });
    let yaml = render(&cluster, &values, &["--show-only", "templates/prometheusrule.yaml"]).await.unwrap();
    let all = std::fs::read_to_string(format!("{}/files/alerts.yaml", chart_folder())).unwrap();
    let alerts = all.matches("- alert:").count();
    assert!(alerts >= 8, "{all}");
    assert_eq!(yaml.matches("- alert:").count(), alerts, "one less, one more\n{yaml}");
    assert_eq!(yaml.matches("team: platform").count(), alerts - 1, "{yaml}");
    assert!(!yaml.contains("ConjurOperatorAbsent") && yaml.contains("alert: Mine"), "{yaml}");
    cluster.stop().await.unwrap();
}

#[test]
fn no_object_of_a_namespace_raises_a_critical_alert() {
    let text = std::fs::read_to_string(format!("{}/files/alerts.yaml", chart_folder())).unwrap();
    let alerts = text.split("- alert:").skip(1);
    let critical: Vec<&str> = alerts.filter(|alert| alert.contains("severity: critical")).collect();
    assert!(critical.len() >= 3, "{text}");
    let of_objects = |alert: &str| {
        ["_objects", "_oldest_", "_connection_last_worked_"].iter().any(|part| alert.contains(part))
    };
    for alert in critical {
        assert!(!of_objects(alert) || alert.contains("{kind=\"ClusterConjurConnection\"}"), "{alert}");
    }
    // The oldest of a kind hides all others.
    assert!(!text.contains("max by (kind)"), "{text}");
}

#[test]
fn the_dashboard_is_json_and_each_panel_asks_something() {
    let text = std::fs::read_to_string(format!("{}/files/dashboard.json", chart_folder())).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 20);
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["targets"][0]["expr"].as_str().is_some_and(|expr| expr.contains("job=~")), "{panel}");
    }
}

#[tokio::test]
async fn prometheus_takes_the_alerts_and_refuses_wrong_ones() {
    let file = std::path::PathBuf::from(chart_folder()).join("files/alerts.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(check_rules(&file).await.unwrap(), text.matches("- alert:").count());
    for (right, wrong) in
        [("(conjur_operator_leader)", "(conjur_operator_leader"), ("$labels.kind", "$label.kind")]
    {
        assert!(text.contains(right));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.replace(right, wrong)).unwrap();
        assert!(check_rules(file.path()).await.is_err(), "{wrong} was taken");
    }
}

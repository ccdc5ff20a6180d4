use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;

/// One object of each that the gauges tell apart.
struct Examples;

impl ShowsStates for Examples {
    fn objects(&self, see: &mut dyn FnMut(&ObjectState<'_>)) {
        let object = ObjectState {
            kind: Kind::Secret,
            namespace: "billing",
            name: "db",
            ready: Some(("True", "Synced")),
            reconciling: None,
            since: Some(50.0),
            suspended: false,
            worked: None,
            rotation: None,
            certificate: Some(86_400.0),
        };
        see(&object);
        see(&ObjectState {
            name: "broken",
            ready: Some(("False", "ForeignSecret")),
            reconciling: Some("what another writer wrote"),
            since: Some(90.0),
            certificate: Some(3600.0),
            ..object
        });
        see(&ObjectState { name: "new", ready: None, since: Some(7.0), certificate: None, ..object });
        see(&ObjectState {
            kind: Kind::Host,
            ready: Some(("False", "Suspended")),
            suspended: true,
            rotation: Some(-5.0),
            certificate: None,
            ..object
        });
        let connection = ObjectState { kind: Kind::Connection, certificate: None, ..object };
        see(&ObjectState { worked: Some(11.0), ..connection });
        see(&ObjectState { name: "idle", worked: Some(1200.0), ..connection });
    }
}

/// A page on which each metric has a sample.
fn full_page(each: bool) -> String {
    let metrics = Metrics::new(each);
    let clone = metrics.clone();
    clone.reconciled(Kind::Secret, ReconcileOutcome::Done, Duration::from_millis(30));
    metrics.reconciled(Kind::Secret, ReconcileOutcome::Done, Duration::from_secs(90));
    let request = |endpoint, outcome, millis| {
        conjur::Observer::request(&metrics, endpoint, outcome, Duration::from_millis(millis));
    };
    request(conjur::Endpoint::SecretBatch, conjur::Outcome::RateLimited, 0);
    request(conjur::Endpoint::Authenticate, conjur::Outcome::Ok, 20);
    conjur::Observer::batch(&metrics, 64);
    conjur::Observer::waited(&metrics, conjur::Lane::Refresh, Duration::from_secs(2));
    metrics.waited(TurnOf::Branch, LaneLabel::Foreground, Duration::ZERO);
    metrics.secret_written(SecretWrite::Recreate);
    metrics.failed(Kind::Policy, "NotBranchOwner");
    metrics.loaded(ChangeOutcome::Refused);
    metrics.pushed(ChangeOutcome::Done);
    metrics.key_changed(KeyChange::Rotate, ChangeOutcome::Done);
    metrics.restarted(RestartOutcome::Restarted);
    metrics.leads(true);
    metrics.observe(Arc::new(Examples));
    metrics.page().unwrap()
}

#[test]
fn everything_counted_is_on_the_page_under_its_name() {
    let page = full_page(false);
    for line in [
        r#"conjur_operator_reconciles_total{kind="ConjurSecret",outcome="done"} 2"#,
        r#"conjur_operator_reconcile_duration_seconds_count{kind="ConjurSecret"} 2"#,
        r#"conjur_operator_reconcile_duration_seconds_bucket{le="0.1",kind="ConjurSecret"} 1"#,
        r#"conjur_operator_reconcile_duration_seconds_bucket{le="+Inf",kind="ConjurSecret"} 2"#,
        r#"conjur_operator_conjur_requests_total{endpoint="secret_batch",outcome="rate_limited"} 1"#,
        r#"conjur_operator_conjur_request_duration_seconds_bucket{le="0.025",endpoint="authenticate",outcome="ok"} 1"#,
        r#"conjur_operator_logins_total{outcome="ok"} 1"#,
        r#"conjur_operator_logins_total{outcome="unauthenticated"} 0"#,
        r#"conjur_operator_batch_variables_bucket{le="50.0"} 0"#,
        r#"conjur_operator_batch_variables_bucket{le="100.0"} 1"#,
        r#"conjur_operator_turn_wait_seconds_count{turn="conjur_request",lane="refresh"} 1"#,
        r#"conjur_operator_turn_wait_seconds_count{turn="branch",lane="foreground"} 1"#,
        r#"conjur_operator_secret_writes_total{action="recreate"} 1"#,
        r#"conjur_operator_secret_writes_total{action="create"} 0"#,
        r#"conjur_operator_failures_total{kind="ConjurPolicy",reason="NotBranchOwner"} 1"#,
        r#"conjur_operator_policy_loads_total{outcome="refused"} 1"#,
        r#"conjur_operator_values_pushed_total{outcome="done"} 1"#,
        r#"conjur_operator_key_changes_total{change="rotate",outcome="done"} 1"#,
        r#"conjur_operator_key_changes_total{change="enrol",outcome="unknown"} 0"#,
        r#"conjur_operator_workload_restarts_total{outcome="restarted"} 1"#,
        "conjur_operator_leader 1",
        "# TYPE conjur_operator_reconciles counter",
        "# TYPE conjur_operator_reconcile_duration_seconds histogram",
        "# TYPE conjur_operator_build info",
        r#"conjur_operator_limit_in_use{limit="metrics_connections"} 0"#,
        "# TYPE process_cpu_seconds counter",
        "# TYPE process_open_fds gauge",
        "# EOF",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
    }
    let version = concat!(r#"conjur_operator_build_info{version=""#, env!("CARGO_PKG_VERSION"), '"');
    assert!(page.lines().any(|line| line.starts_with(version) && line.ends_with("} 1")), "{page}");
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_threads"] {
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        assert!(value.is_some_and(|value| value > 0), "{name} is not in\n{page}");
    }
}

#[test]
fn how_things_stand_is_summed_up_and_single_objects_are_shown_where_asked_for() {
    let page = full_page(false);
    for line in [
        r#"conjur_operator_objects{kind="ConjurSecret",ready="True",reason="Synced"} 1"#,
        r#"conjur_operator_objects{kind="ConjurSecret",ready="False",reason="ForeignSecret"} 1"#,
        r#"conjur_operator_objects{kind="ConjurSecret",ready="Unknown",reason="NotReported"} 1"#,
        r#"conjur_operator_objects{kind="ConjurPush",ready="Unknown",reason="NotReported"} 0"#,
        r#"conjur_operator_objects_reconciling{kind="ConjurSecret",reason="Other"} 1"#,
        r#"conjur_operator_oldest_not_ready_seconds{kind="ConjurSecret"} 90.0"#,
        r#"conjur_operator_oldest_not_ready_seconds{kind="ConjurHost"} 0.0"#,
        r#"conjur_operator_connection_last_worked_seconds{kind="ConjurConnection"} 1200.0"#,
        "conjur_operator_next_rotation_seconds -5.0",
        "conjur_operator_tls_certificate_expiry_seconds 3600.0",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("billing"), "{page}");
    let page = full_page(true);
    for line in [
        r#"conjur_operator_object_ready{kind="ConjurSecret",namespace="billing",name="db"} 1.0"#,
        r#"conjur_operator_object_ready{kind="ConjurSecret",namespace="billing",name="broken"} 0.0"#,
        r#"conjur_operator_object_connection_last_worked_seconds{kind="ConjurConnection",namespace="billing",name="idle"} 1200.0"#,
        r#"conjur_operator_object_next_rotation_seconds{kind="ConjurHost",namespace="billing",name="db"} -5.0"#,
        r#"conjur_operator_object_tls_certificate_expiry_seconds{kind="ConjurSecret",namespace="billing",name="broken"} 3600.0"#,
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
    }
}

#[test]
fn a_replica_that_does_not_act_shows_no_objects() {
    let page = Metrics::new(true).page().unwrap();
    assert!(
        page.contains("conjur_operator_leader 0\n") && !page.contains("conjur_operator_object"),
        "{page}"
    );
}

/// The type of each metric on a page, and its labels, but for those of buckets.
fn metrics_of(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut all = BTreeMap::<String, (String, BTreeSet<String>)>::new();
    let mut name = String::new();
    for line in page.lines() {
        if let Some((of, type_)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = match type_ {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            name = format!("{of}{suffix}");
            all.insert(name.clone(), (type_.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#')
            && let Some((_, labels)) = line.split_once('{')
        {
            let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
            let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
            all.entry(name.clone()).or_default().1.extend(labels);
        }
    }
    all
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(cells);
    let documented: BTreeMap<String, (String, BTreeSet<String>)> = rows
        .map(|row| {
            assert!(row.len() >= 7 && row[4].len() > 10 && row[5].len() > 1, "{row:?}");
            let labels = row[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
            let labels = labels.filter(|label| label != "–").collect();
            (row[1].trim_matches('`').to_owned(), (row[2].clone(), labels))
        })
        .collect();
    let exported = metrics_of(&full_page(true));
    for (name, of) in &exported {
        assert_eq!(documented.get(name), Some(of), "{name} in docs/metrics.md");
    }
    for name in documented.keys() {
        assert!(exported.contains_key(name), "{name} of docs/metrics.md is not exported");
    }
}

#[test]
fn whatever_is_registered_has_a_sample_in_these_tests() {
    // Else a metric could be there and not be documented: without a sample it is compared all the same, by its name.
    let page = full_page(true);
    for (name, (type_, _)) in metrics_of(&page) {
        let sample = match type_.as_str() {
            "histogram" => format!("{name}_count"),
            _ => name.clone(),
        };
        let has = page
            .lines()
            .any(|line| line.strip_prefix(sample.as_str()).is_some_and(|rest| rest.starts_with(['{', ' '])));
        assert!(has, "{name} has no sample");
    }
}

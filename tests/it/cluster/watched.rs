//! What an operator's administrator sees: one line for each change and each state that begins or ends, none for what is as it
//! was, the ids of requests in it, and on the page of metrics how things stand.

use std::collections::BTreeMap;

use conjur_dev::{Effect, Fault, Kind, Seen, When};
use conjur_operator::api::{ConjurConnection, ConjurHost, ConjurPolicy, ConjurPush, ConjurSecret};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    Bench, SOON, alone,
    rollout::workload,
    setup::{change_policy, condition, connected, permitted, project, put, synced},
    test,
};

/// The lines at `info` and above that name the object.
fn lines(bench: &Bench, kind: &str, name: &str) -> Vec<String> {
    let log = std::fs::read_to_string(&bench.world.log).unwrap();
    let fields = [format!("namespace=\"{}\"", bench.namespace), format!("kind=\"{kind}\"")];
    let named = format!("name=\"{name}\"");
    let of_object = |line: &&str| {
        let level = line.split_whitespace().nth(1);
        let is_told = matches!(level, Some("INFO" | "WARN" | "ERROR"));
        is_told
            && fields.iter().all(|field| line.contains(field))
            && line.split_whitespace().any(|word| word == named)
    };
    log.lines().filter(of_object).map(str::to_owned).collect()
}

/// Waits for so many lines with this text among those of the object that come after `before`, which are all that there are.
async fn said(bench: &Bench, kind: &str, name: &str, before: usize, expected: &[&str]) -> Vec<String> {
    let new = || lines(bench, kind, name).split_off(before);
    let all_there = || async { (new().len() >= expected.len()).then_some(()) };
    let waited = wait_for(&format!("lines of {name}: {expected:?}"), SOON, all_there).await;
    let new = new();
    assert!(waited.is_ok() && new.len() == expected.len(), "{name}: {expected:?}\n{}", new.join("\n"));
    for text in expected {
        assert!(new.iter().any(|line| line.contains(text)), "{name}: {text}\n{}", new.join("\n"));
    }
    new
}

/// A field of a line in text form.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[test]
fn a_change_and_a_state_that_begins_or_ends_is_one_line_and_what_is_as_it_was_is_none() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        let more = json!({ "refreshInterval": "10s" });
        put(&bench, &project("db", &[("KEY", "a")], &more)).await;
        bench.ready::<ConjurSecret>("db").await;
        let kind = "ConjurSecret";
        let first = said(&bench, kind, "db", 0, &["wrote a Secret", "Ready: Secret db holds"]).await;
        let written = first.iter().find(|line| line.contains("wrote a Secret")).unwrap();
        assert!(written.contains("keys=KEY") && field(written, "action") == Some("create"), "{written}");
        let connection = format!("connection=ConjurConnection {}/conjur", bench.namespace);
        assert!(written.contains(&connection), "{written}");
        let batch = field(written, "batch_id").expect("the request that brought the value");
        let asked =
            bench.conjur.requests().into_iter().find(|seen| seen.request_id.as_deref() == Some(batch));
        assert!(asked.is_some_and(|seen| matches!(seen.kind, Kind::Batch | Kind::Single)), "{written}");
        for refresh in 0..5 {
            synced(&bench, "db", &format!("unchanged-{refresh}")).await;
        }
        said(&bench, kind, "db", 2, &[]).await;
        bench.set("apps/a");
        synced(&bench, "db", "changed").await;
        said(&bench, kind, "db", 2, &["wrote a Secret"]).await;

        let absent = json!({ "refreshInterval": "10s" });
        put(&bench, &project("db", &[("KEY", "a"), ("MORE", "later")], &absent)).await;
        let lacks = |s: &ConjurSecret| {
            condition(s, "Ready").is_some_and(|(status, reason, _)| {
                (status.as_str(), reason.as_str()) == ("False", "VariableNotFound")
            })
        };
        bench.until("a variable is missing", "db", lacks).await;
        for retry in 0..5 {
            synced(&bench, "db", &format!("retry-{retry}")).await;
        }
        let lost = said(&bench, kind, "db", 3, &["not Ready: "]).await;
        assert!(
            lost[0].contains(" WARN ") && field(&lost[0], "reason") == Some("VariableNotFound"),
            "{lost:?}"
        );
        change_policy(&bench, &permitted("later")).await;
        bench.set("apps/later");
        synced(&bench, "db", "mended").await;
        bench.ready::<ConjurSecret>("db").await;
        said(&bench, kind, "db", 4, &["wrote a Secret", "Ready again: "]).await;
    });
}

#[test]
fn an_outage_is_one_line_of_the_connection_and_none_of_those_who_wait_for_it() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("KEY", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        said(&bench, "ConjurSecret", "db", 0, &["wrote a Secret", "Ready: "]).await;
        said(&bench, "ConjurConnection", "conjur", 0, &["Ready: "]).await;
        let effect = Effect::Status { status: 503, retry_after: None };
        let fault = Fault { method: None, path: "/".into(), count: None, when: When::Before, effect };
        bench.conjur.fault(fault);
        super::setup::sync_now(&bench, "db", "in-vain").await;
        let fails =
            |c: &ConjurConnection| condition(c, "Ready").is_some_and(|(status, ..)| status == "False");
        bench.until("it fails", "conjur", fails).await;
        bench.conjur.clear_requests();
        let tried = || bench.conjur.requests().len() >= 9;
        super::setup::eventually("the connection is tried again and again", tried).await;
        said(&bench, "ConjurConnection", "conjur", 1, &["not Ready: "]).await;
        bench.conjur.clear_faults();
        bench.ready::<ConjurConnection>("conjur").await;
        bench.ready::<ConjurSecret>("db").await;
        said(&bench, "ConjurConnection", "conjur", 2, &["Ready again: "]).await;
        said(&bench, "ConjurSecret", "db", 2, &[]).await;
    });
}

#[test]
fn what_is_loaded_and_pushed_is_a_line_each_with_the_id_that_conjur_saw() {
    test(|bench| async move {
        bench.root("- !host ops\n- !policy {id: mine, owner: !host ops}\n").await;
        bench.connect("host/ops").await;
        let before = page(&bench).await;
        let before = series(&before);
        let value = bench.secret_value("pushed");
        bench.put_secret("source", &[("KEY", &value)]).await;
        let named = json!({ "name": "conjur" });
        let push = json!({ "connectionRef": named, "source": { "secretRef": { "name": "source" } },
            "prefix": "mine/", "createVariables": { "branch": "mine" } });
        put(&bench, &object("ConjurPush", "push", &push)).await;
        bench.ready::<ConjurPush>("push").await;
        let expected = ["loaded policy", "pushed values", "Ready: "];
        let told = said(&bench, "ConjurPush", "push", 0, &expected).await;
        let pushed = told.iter().find(|line| line.contains("pushed values")).unwrap();
        assert!(pushed.contains("variables=mine/KEY"), "{pushed}");
        is_seen(&bench, pushed, Kind::Set);
        let policy = json!({ "connectionRef": named, "branch": "mine", "document": "- !host made\n",
            "createdRoles": { "secretName": "made-keys" } });
        put(&bench, &object("ConjurPolicy", "policy", &policy)).await;
        bench.ready::<ConjurPolicy>("policy").await;
        let expected = ["loaded policy", "wrote a Secret", "Ready: "];
        let told = said(&bench, "ConjurPolicy", "policy", 0, &expected).await;
        let loaded = told.iter().find(|line| line.contains("loaded policy")).unwrap();
        assert!(loaded.contains("branch=mine") && loaded.contains("roles=1"), "{loaded}");
        is_seen(&bench, loaded, Kind::Load);
        for metric in ["policy_loads", "values_pushed"] {
            let name = format!(r#"conjur_operator_{metric}_total{{outcome="done"}}"#);
            counted(&bench, &name, before[name.as_str()]).await;
        }
    });
}

#[test]
fn an_enrolment_a_rotation_and_a_restart_are_a_line_each() {
    test(|bench| async move {
        bench
            .root(
                "- !host ops\n- !policy\n  id: mine\n  owner: !host ops\n  body:\n  - !layer l\n\
                 \x20 - !host-factory {id: f, layers: [!layer l]}\n",
            )
            .await;
        bench.connect("host/ops").await;
        let before = page(&bench).await;
        let before = series(&before);
        workload(&bench, "Deployment", "web").await;
        let spec = json!({ "connectionRef": { "name": "conjur" }, "id": "mine/web", "via": { "hostFactory": { "id": "mine/f" } },
            "rotation": { "interval": "720h" }, "rolloutRestart": [{ "kind": "Deployment", "name": "web" }] });
        put(&bench, &object("ConjurHost", "web", &spec)).await;
        bench.ready::<ConjurHost>("web").await;
        let expected = ["enrolled a host", "wrote a Secret", "Ready: "];
        let told = said(&bench, "ConjurHost", "web", 0, &expected).await;
        let enrolled = told.iter().find(|line| line.contains("enrolled a host")).unwrap();
        assert!(enrolled.contains("role=host/mine/web"), "{enrolled}");
        is_seen(&bench, enrolled, Kind::Enrol);

        let ask = json!({ "metadata": { "annotations": { "conjur-operator.io/rotate-now": "x" } } });
        bench.api::<ConjurHost>().patch("web", &PatchParams::default(), &Patch::Merge(ask)).await.unwrap();
        let expected = ["rotated an API key", "wrote a Secret", "restarted a workload"];
        let told = said(&bench, "ConjurHost", "web", 3, &expected).await;
        let rotated = told.iter().find(|line| line.contains("rotated an API key")).unwrap();
        assert!(rotated.contains("role=demo:host:mine/web"), "{rotated}");
        is_seen(&bench, rotated, Kind::Rotate);
        let restarted = told.iter().find(|line| line.contains("restarted a workload")).unwrap();
        assert_eq!(field(restarted, "workload"), Some("Deployment web"));

        for name in [
            r#"conjur_operator_key_changes_total{change="enrol",outcome="done"}"#,
            r#"conjur_operator_key_changes_total{change="rotate",outcome="done"}"#,
            r#"conjur_operator_workload_restarts_total{outcome="restarted"}"#,
        ] {
            counted(&bench, name, before[name]).await;
        }
        let own = format!(
            r#"conjur_operator_object_next_rotation_seconds{{kind="ConjurHost",namespace="{}",name="web"}}"#,
            bench.namespace
        );
        let due = wait_for("the next rotation", SOON, || async {
            let page = page(&bench).await;
            let all = series(&page);
            // That of all is of the host whose turn is next, which another test may have made.
            let sums = all.contains_key("conjur_operator_next_rotation_seconds");
            all.get(own.as_str()).copied().filter(|_| sums)
        })
        .await
        .unwrap();
        assert!((0.0..=720.0 * 3600.0).contains(&due), "{due}");
    });
}

#[test]
fn the_level_of_the_log_follows_its_file() {
    alone(|bench, mut first| async move {
        connected(&bench, &["a"]).await;
        first.terminate().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("level");
        std::fs::write(&file, "info\n").unwrap();
        let args = ["--log-level-file", file.to_str().unwrap()];
        let second = bench.another_operator("conjur-operator-told", "info", &args).await;
        let says = async |what: &str| {
            let log = || second.log();
            let waited = wait_for(what, SOON, || async { log().contains(what).then_some(()) }).await;
            waited.unwrap_or_else(|error| panic!("{error:#}\n{}", log()));
        };
        says("started").await;
        put(&bench, &project("db", &[("KEY", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        assert!(!second.log().contains(" DEBUG "), "{}", second.log());
        std::fs::write(&file, "debug\n").unwrap();
        says("the log level was changed").await;
        synced(&bench, "db", "at debug").await;
        says(" DEBUG ").await;
        std::fs::write(&file, "loud\n").unwrap();
        says("holds no level, so that it stays as it is").await;
        second.terminate().await.unwrap();
        first.restart().await.unwrap();
        bench.no_secret_in(&second.log());
    });
}

/// Waits until a counter is above what it was.
async fn counted(bench: &Bench, name: &str, before: f64) {
    let counts = || async { series(&page(bench).await).get(name).filter(|now| **now > before).map(|_| ()) };
    wait_for(&format!("{name} above {before}"), SOON, counts).await.unwrap();
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// Conjur saw a request of this kind with the id of a line.
fn is_seen(bench: &Bench, line: &str, kind: Kind) {
    let id = field(line, "request_id").expect("an id");
    let of_id = |seen: &&Seen| seen.request_id.as_deref() == Some(id) && seen.kind == kind;
    assert!(bench.conjur.requests().iter().any(|seen| of_id(&seen)), "{line}");
}

async fn page(bench: &Bench) -> String {
    let url = format!("http://{}/metrics", bench.world.metrics);
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

/// The values of a page, by series.
fn series(page: &str) -> BTreeMap<&str, f64> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')).filter_map(|(n, v)| Some((n, v.parse().ok()?))).collect()
}

#[test]
fn the_page_of_metrics_shows_what_was_done_and_how_things_stand() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2099, 1, 1);
        let chain = params.self_signed(&key).unwrap().pem();
        assert!(bench.conjur.set_variable("apps/a", chain.as_bytes()));
        put(&bench, &project("tls", &[("tls.crt", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("tls").await;
        put(&bench, &project("lacks", &[("KEY", "nowhere")], &json!({}))).await;
        let lacks = |s: &ConjurSecret| condition(s, "Ready").is_some_and(|(status, ..)| status == "False");
        bench.until("a variable is missing", "lacks", lacks).await;
        let ns = &bench.namespace;
        let page = wait_for("the page", SOON, || async {
            let page = page(&bench).await;
            let lacks =
                r#"conjur_operator_objects{kind="ConjurSecret",ready="False",reason="VariableNotFound"}"#;
            let own = format!(
                r#"conjur_operator_object_ready{{kind="ConjurSecret",namespace="{ns}",name="lacks"}} 0"#
            );
            (page.contains(lacks) && page.contains(&own)).then_some(page)
        })
        .await
        .unwrap();
        let all = series(&page);
        let at_least = |name: &str, least: f64| {
            let value = all.get(name).copied().unwrap_or(f64::NEG_INFINITY);
            assert!(value >= least, "{name} is {value}");
        };
        for (name, least) in [
            ("conjur_operator_leader", 1.0),
            (r#"conjur_operator_objects{kind="ConjurSecret",ready="True",reason="Synced"}"#, 1.0),
            (r#"conjur_operator_objects{kind="ConjurSecret",ready="False",reason="VariableNotFound"}"#, 1.0),
            (r#"conjur_operator_objects{kind="ConjurConnection",ready="True",reason="Connected"}"#, 1.0),
            (r#"conjur_operator_oldest_not_ready_seconds{kind="ConjurSecret"}"#, 0.0),
            (r#"conjur_operator_connection_last_worked_seconds{kind="ConjurConnection"}"#, 0.0),
            (r#"conjur_operator_logins_total{outcome="ok"}"#, 1.0),
            ("conjur_operator_batch_variables_count", 1.0),
            (r#"conjur_operator_secret_writes_total{action="create"}"#, 1.0),
            (r#"conjur_operator_conjur_request_duration_seconds_count{endpoint="whoami",outcome="ok"}"#, 1.0),
            (r#"conjur_operator_turn_wait_seconds_count{turn="reconcile",lane="foreground"}"#, 1.0),
            (r#"conjur_operator_turn_wait_seconds_count{turn="conjur_request",lane="foreground"}"#, 1.0),
            (r#"conjur_operator_turn_wait_seconds_count{turn="api_server_write",lane="foreground"}"#, 1.0),
        ] {
            at_least(name, least);
        }
        let own = |metric: &str, kind: &str, name: &str| {
            let series = format!(r#"{metric}{{kind="{kind}",namespace="{ns}",name="{name}"}}"#);
            all.get(series.as_str()).copied()
        };
        let worked =
            own("conjur_operator_object_connection_last_worked_seconds", "ConjurConnection", "conjur");
        assert!(worked.is_some_and(|ago| (0.0..300.0).contains(&ago)), "{worked:?}");
        let ends = own("conjur_operator_object_tls_certificate_expiry_seconds", "ConjurSecret", "tls");
        // Seconds from 1970 to the year 2099.
        let until = ends.map(|ends| ends + jiff::Timestamp::now().as_duration().as_secs_f64());
        assert!(until.is_some_and(|until| (until - 4_070_908_800.0).abs() < 600.0), "{ends:?}");
        assert!(all.contains_key("conjur_operator_tls_certificate_expiry_seconds"));
        let unbounded = page
            .lines()
            .find(|line| line.contains(ns.as_str()) && !line.starts_with("conjur_operator_object_"));
        assert_eq!(unbounded, None, "an object is named");
        bench.api::<ConjurSecret>().delete("lacks", &DeleteParams::default()).await.unwrap();
        wait_for("its series goes", SOON, || async {
            let page = self::page(&bench).await;
            (!page.contains(&format!(r#"namespace="{ns}",name="lacks""#))).then_some(())
        })
        .await
        .unwrap();
    });
}

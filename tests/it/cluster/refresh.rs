//! Drift, refreshes, and what they cost.

use conjur_dev::{Effect, Fault, Kind, When};
use conjur_operator::api::ConjurSecret;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

use super::{
    Bench,
    setup::{
        OUTAGES, api_requests, asks_api, change, change_policy, connected, edit, eventually, fetches,
        permitted, project, put, secret, states, synced,
    },
    test, version,
};

/// A ConjurSecret `db` that is done, with one key `a`.
async fn done(bench: &Bench, more: Value) -> String {
    let value = connected(bench, &["a", "b"]).await.remove(0);
    put(bench, &project("db", &[("a", "a")], &more)).await;
    bench.ready::<ConjurSecret>("db").await;
    value
}

#[test]
fn an_edit_by_hand_is_repaired_at_once() {
    test(|bench| async move {
        let labels =
            json!({ "target": { "labels": { "team": "x" }, "annotations": { "example.com/a": "b" } } });
        let value = done(&bench, labels).await;
        for by_hand in [
            json!({ "stringData": { "a": "by hand" } }),
            json!({ "stringData": { "extra": "by hand" } }),
            json!({ "data": { "a": null } }),
            json!({ "metadata": { "labels": { "team": null } } }),
            json!({ "metadata": { "labels": { "team": "y" } } }),
            json!({ "metadata": { "annotations": { "example.com/a": null } } }),
            json!({ "metadata": { "annotations": { "conjur-operator.io/owner": null } } }),
            json!({ "metadata": { "labels": { "conjur-operator.io/managed": null } } }),
            json!({ "metadata": { "ownerReferences": null } }),
        ] {
            let edited = edit(&bench, "db", by_hand.clone()).await;
            let repaired = |s: &Secret| {
                let label = |key: &str| s.labels().get(key).map(String::as_str);
                let annotation = |key: &str| s.annotations().get(key).map(String::as_str);
                let data = s.data.as_ref().is_some_and(|d| d.len() == 1 && d["a"].0 == value.as_bytes());
                data && label("team") == Some("x")
                    && label("conjur-operator.io/managed") == Some("true")
                    && annotation("example.com/a") == Some("b")
                    && annotation("conjur-operator.io/owner") == Some("ConjurSecret/db")
                    && s.owner_references().len() == 1
            };
            let now = bench.until(&format!("repaired after {by_hand}"), "db", repaired).await;
            assert_eq!(now.uid(), edited.uid(), "{by_hand}");
            // What it wrote is in the status before the next edit, and that is none of it.
            let wrote = |s: &ConjurSecret| {
                s.status.as_ref().and_then(|s| s.target.as_ref()).map(|t| &t.resource_version)
                    == now.resource_version().as_ref()
            };
            bench.until("the status follows", "db", wrote).await;
        }
        bench.events("DriftRepaired", "was edited or deleted by hand").await;
    });
}

#[test]
fn a_secret_that_is_deleted_by_hand_comes_back_at_once() {
    test(|bench| async move {
        let value = done(&bench, json!({})).await;
        let before = secret(&bench, "db").await;
        bench.api::<Secret>().delete("db", &DeleteParams::default()).await.unwrap();
        bench.until("another Secret", "db", |s: &Secret| s.uid() != before.uid()).await;
        bench.holds("db", &[("a", &value)]).await;
        // One that stays with its object gone has no owner reference: it comes back, too.
        change(&bench, "db", json!({ "spec": { "target": { "deletionPolicy": "Retain" } } })).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "db").await;
        bench.api::<Secret>().delete("db", &DeleteParams::default()).await.unwrap();
        bench.until("another Secret", "db", |s: &Secret| s.uid() != before.uid()).await;
        bench.holds("db", &[("a", &value)]).await;
    });
}

#[test]
fn anothers_label_or_annotation_stays_and_is_no_drift() {
    test(|bench| async move {
        done(&bench, json!({})).await;
        let object: ConjurSecret = bench.api().get("db").await.unwrap();
        let asked = bench.conjur.requests().len();
        for (at, theirs) in
            [json!({ "labels": { "theirs": "x" } }), json!({ "annotations": { "example.com/b": "x" } })]
                .into_iter()
                .enumerate()
        {
            let before = api_requests(&bench).len();
            let edited = edit(&bench, "db", json!({ "metadata": theirs })).await;
            let looks =
                |r: &testbed::ApiRequest| r.resource == "secrets" && r.verb == "get" && r.name == "db";
            asks_api(&bench, before, "the operator looks at the Secret", looks).await;
            put(&bench, &project(&format!("other-{at}"), &[("b", "b")], &json!({ "suspend": true }))).await;
            bench.says::<ConjurSecret>(&format!("other-{at}"), "Suspended").await;
            assert_eq!(version(&secret(&bench, "db").await), version(&edited));
        }
        assert_eq!(bench.conjur.requests().len(), asked, "Conjur was asked because of a label");
        assert_eq!(version(&bench.api::<ConjurSecret>().get("db").await.unwrap()), version(&object));

        // They outlive a write of ours.
        let value = bench.set("apps/a");
        synced(&bench, "db", "1").await;
        bench.holds("db", &[("a", &value)]).await;
        let kept = secret(&bench, "db").await;
        assert_eq!(kept.labels().get("theirs").map(String::as_str), Some("x"));
        assert_eq!(kept.annotations().get("example.com/b").map(String::as_str), Some("x"));
    });
}

#[test]
fn a_new_value_comes_with_the_next_refresh() {
    test(|bench| async move {
        done(&bench, json!({ "refreshInterval": "10s" })).await;
        let before: ConjurSecret = bench.api().get("db").await.unwrap();
        let value = bench.set("apps/a");
        bench.holds("db", &[("a", &value)]).await;
        let moved =
            |s: &ConjurSecret| s.status.as_ref().unwrap().target != before.status.as_ref().unwrap().target;
        bench.until("what was written is in the status", "db", moved).await;
    });
}

#[test]
fn an_unchanged_refresh_writes_nothing_and_costs_no_request_to_the_api_server() {
    test(|bench| async move {
        done(&bench, json!({ "refreshInterval": "10s" })).await;
        let versions = || async {
            let object: ConjurSecret = bench.api().get("db").await.unwrap();
            (version(&object), version(&secret(&bench, "db").await))
        };
        let fetched = fetches(&bench);
        eventually("the first refresh", || fetches(&bench) > fetched).await;
        let (before, asked, fetched) = (versions().await, api_requests(&bench).len(), fetches(&bench));
        eventually("two more", || fetches(&bench) > fetched + 1).await;
        assert_eq!(versions().await, before);
        assert_eq!(api_requests(&bench)[asked..], []);
    });
}

#[test]
fn a_label_of_somebody_costs_one_look_and_no_write() {
    test(|bench| async move {
        done(&bench, json!({ "refreshInterval": "10s" })).await;
        edit(&bench, "db", json!({ "metadata": { "labels": { "theirs": "x" } } })).await;
        let fetched = fetches(&bench);
        eventually("two refreshes", || fetches(&bench) > fetched + 1).await;
        let secrets: Vec<_> = api_requests(&bench)
            .into_iter()
            .filter(|r| r.resource == "secrets" && r.name == "db")
            .map(|r| r.verb)
            .collect();
        assert_eq!(secrets, ["create", "get"]);
    });
}

#[test]
fn new_objects_do_not_wait_behind_refreshes() {
    test(|bench| async move {
        connected(&bench, &["a", "b"]).await;
        let names: Vec<_> = (0..200).map(|i| format!("v{i}")).collect();
        slow_refresh(&bench, &names).await;
        let value = bench.set("apps/b");
        put(&bench, &project("new", &[("b", "b")], &json!({}))).await;
        bench.holds("new", &[("b", &value)]).await;
        bench.ready::<ConjurSecret>("new").await;
        let singles = bench.conjur.count(Kind::Single);
        bench.conjur.clear_faults();
        assert!(
            singles < names.len() / 2,
            "the refresh was over ({singles} requests) when the new object was done"
        );
    });
}

/// A refresh of one object that keeps Conjur busy for long: many pinned versions, each a slow request.
async fn slow_refresh(bench: &Bench, names: &[String]) {
    let policy: Vec<_> = names.iter().map(|name| permitted(name)).collect();
    let policy = policy.concat();
    change_policy(bench, &policy).await;
    let entries: Vec<_> = names
        .iter()
        .map(|name| {
            bench.set(&format!("apps/{name}"));
            json!({ "key": name, "variable": format!("apps/{name}"), "version": 1 })
        })
        .collect();
    put(bench, &project("slow", &[], &json!({ "refreshInterval": "10s", "data": entries }))).await;
    bench.ready::<ConjurSecret>("slow").await;
    bench.conjur.fault(Fault {
        method: Some("GET".into()),
        path: "/secrets".into(),
        count: None,
        when: When::Before,
        effect: Effect::Latency { millis: 400 },
    });
    bench.conjur.clear_requests();
    eventually("a slow refresh", || bench.conjur.count(Kind::Single) >= 8).await;
}

#[test]
fn conjur_may_be_down_for_a_while() {
    test(|bench| async move {
        let value = done(&bench, json!({ "refreshInterval": "10s" })).await;
        put(&bench, &project("hourly", &[("b", "b")], &json!({}))).await;
        let hourly: ConjurSecret = bench.ready("hourly").await;
        bench.conjur.stop().await;
        // What came due says so, and that what it has still stands.
        let retrying = |s: &ConjurSecret| states(s) == "Ready=True Reconciling=True";
        bench.until("it says that it is tried again", "db", retrying).await;
        bench.holds("db", &[("a", &value)]).await;
        bench.says::<conjur_operator::api::ConjurConnection>("conjur", "ConjurUnavailable").await;
        put(&bench, &project("new", &[("b", "b")], &json!({}))).await;
        let message = bench.says::<ConjurSecret>("new", "ConnectionNotReady").await;
        assert!(
            message.contains("ConjurUnavailable") && message.contains("this continues when it is"),
            "{message}"
        );

        bench.conjur.resume().await.unwrap();
        for name in ["db", "new", "hourly"] {
            bench.ready::<ConjurSecret>(name).await;
        }
        bench.ready::<conjur_operator::api::ConjurConnection>("conjur").await;
        bench.holds("db", &[("a", &value)]).await;
        // What was not due in the meantime was not touched.
        assert_eq!(version(&bench.ready::<ConjurSecret>("hourly").await), version(&hourly));
    });
}

#[test]
fn an_edit_that_cannot_be_repaired_now_is_told_and_repaired_later() {
    test(|bench| async move {
        let value = done(&bench, json!({ "refreshInterval": "10s" })).await;
        put(&bench, &project("other", &[("a", "a")], &json!({ "refreshInterval": "10s" }))).await;
        bench.ready::<ConjurSecret>("other").await;
        bench.conjur.stop().await;
        // Before the operator knows that Conjur is down, and when it has known for a while.
        edit(&bench, "db", json!({ "stringData": { "a": "by hand" } })).await;
        let retrying = |s: &ConjurSecret| states(s) == "Ready=True Reconciling=True";
        bench.until("its Secret is as it was", "other", retrying).await;
        edit(&bench, "other", json!({ "metadata": { "labels": { "theirs": "x" } } })).await;
        let failing = |s: &ConjurSecret| states(s) == "Ready=False Reconciling=True";
        bench.until("its Secret is not what it should be", "db", failing).await;
        let other: ConjurSecret = bench.api().get("other").await.unwrap();
        assert_eq!(states(&other), "Ready=True Reconciling=True", "a label is no drift");
        bench.api::<Secret>().delete("other", &DeleteParams::default()).await.unwrap();
        bench.until("its Secret is gone", "other", failing).await;

        bench.conjur.resume().await.unwrap();
        for name in ["db", "other"] {
            bench.holds(name, &[("a", &value)]).await;
            bench.ready::<ConjurSecret>(name).await;
        }
    });
}

#[test]
fn a_variable_that_is_deleted_or_forbidden_later_leaves_the_secret_as_it_is() {
    test(|bench| async move {
        let value = done(&bench, json!({})).await;
        let before = secret(&bench, "db").await;
        for (document, reason, names) in [
            (
                "- !deny {role: !host apps/app, privileges: [execute], resource: !variable apps/a}\n",
                "VariableForbidden",
                "Forbidden",
            ),
            ("- !delete {record: !variable apps/a}\n", "VariableNotFound", "NotFound"),
        ] {
            change_policy(&bench, document).await;
            super::setup::sync_now(&bench, "db", reason).await;
            let message = bench.says::<ConjurSecret>("db", reason).await;
            assert!(message.contains("apps/a"), "{message}");
            let object: ConjurSecret = bench.api().get("db").await.unwrap();
            assert_eq!(states(&object), "Ready=False Reconciling=True");
            let status = object.status.unwrap();
            assert_eq!(status.last_handled_sync_now.as_deref(), Some(reason), "it was looked at");
            let missing = status.missing.unwrap();
            assert_eq!((missing[0].variable.as_str(), missing[0].reason.as_str()), ("apps/a", names));
            assert_eq!(version(&secret(&bench, "db").await), version(&before));
        }
        bench.holds("db", &[("a", &value)]).await;
    });
}

#[test]
fn no_fault_of_conjur_empties_a_secret() {
    test(|bench| async move {
        let value = done(&bench, json!({})).await;
        let before = secret(&bench, "db").await;
        for (at, effect) in OUTAGES.into_iter().enumerate() {
            let (method, when) = (Some("GET".into()), When::Before);
            bench.conjur.fault(Fault { method, path: "/secrets".into(), count: None, when, effect });
            super::setup::sync_now(&bench, "db", &at.to_string()).await;
            let failing = |s: &ConjurSecret| states(s) == "Ready=False Reconciling=True";
            bench.until(&format!("{effect:?} is told"), "db", failing).await;
            assert_eq!(version(&secret(&bench, "db").await), version(&before), "{effect:?}");
            bench.conjur.clear_faults();
            bench.ready::<ConjurSecret>("db").await;
        }
        bench.holds("db", &[("a", &value)]).await;
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
    });
}

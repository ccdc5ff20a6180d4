//! What stands in a Secret and in its object's status after a write, and what a write costs.

use conjur_operator::api::ConjurSecret;
use k8s_openapi::{
    api::{core::v1::Secret, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use serde_json::json;

use super::{
    Bench,
    setup::{change, connected, edit, project, put, secret, synced},
    test,
};

async fn last_sync(bench: &Bench, name: &str) -> Time {
    bench.ready::<ConjurSecret>(name).await.status.unwrap().last_sync_time.unwrap()
}

#[test]
fn last_sync_time_is_when_the_data_last_changed() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        let first = last_sync(&bench, "db").await;
        // Times are whole seconds.
        super::setup::eventually("another second", || {
            jiff::Timestamp::now().as_second() > first.0.as_second()
        })
        .await;
        change(&bench, "db", json!({ "spec": { "target": { "labels": { "team": "x" } } } })).await;
        assert_eq!(last_sync(&bench, "db").await, first, "a label is no data");
        edit(&bench, "db", json!({ "metadata": { "labels": { "team": "by-hand" } } })).await;
        let repaired = |s: &Secret| s.labels().get("team").is_some_and(|team| team == "x");
        bench.until("the label is repaired", "db", repaired).await;
        synced(&bench, "db", "same").await;
        assert_eq!(last_sync(&bench, "db").await, first, "nor is a label that was repaired");
        bench.set("apps/a");
        synced(&bench, "db", "another").await;
        assert!(last_sync(&bench, "db").await.0 > first.0);
    });
}

#[test]
fn what_we_write_is_managed_under_our_name() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        super::target::merge(&bench, "merged", "theirs", &[("a", "a")]).await;
        bench.ready::<ConjurSecret>("merged").await;
        for (name, manager) in [("db", "conjur-operator"), ("theirs", "conjur-operator/merged")] {
            let written = secret(&bench, name).await;
            let has_data = |fields: &serde_json::Value| fields.pointer("/f:data/f:a").is_some();
            let managers: Vec<_> = written
                .managed_fields()
                .iter()
                .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| has_data(&fields.0)))
                .filter_map(|entry| entry.manager.as_deref())
                .collect();
            assert_eq!(managers, [manager]);
        }
    });
}

#[test]
fn data_that_is_too_large_with_that_of_others_is_refused_naming_the_largest_keys() {
    test(|bench| async move {
        connected(&bench, &["a", "large"]).await;
        assert!(bench.conjur.set_variable("apps/large", &vec![b'x'; 500_000]));
        bench.put_secret("theirs", &[("theirs", &"x".repeat(700_000))]).await;
        let before = secret(&bench, "theirs").await;
        super::target::merge(&bench, "db", "theirs", &[("a", "a"), ("large", "large")]).await;
        let message = bench.says::<ConjurSecret>("db", "SecretTooLarge").await;
        assert!(message.contains("700000 of them in keys of others"), "{message}");
        assert!(message.contains("the largest of this object: large (500000 bytes), a ("), "{message}");
        assert_eq!(super::version(&secret(&bench, "theirs").await), super::version(&before));
    });
}

#[test]
fn a_new_object_costs_two_writes_and_no_event() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        // A later one is done when everything of the first one is.
        put(&bench, &project("later", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("later").await;
        let of_the_first =
            |r: &testbed::ApiRequest| r.name == "db" || (r.resource == "events" && r.verb != "list");
        let asked: Vec<_> = super::setup::api_requests(&bench)
            .into_iter()
            .filter(of_the_first)
            .map(|r| format!("{} {}/{}", r.verb, r.resource, r.subresource))
            .filter(|asked| !asked.starts_with("create events"))
            .collect();
        assert_eq!(asked, ["create secrets/", "patch conjursecrets/status"]);
        let all = bench.api::<Event>().list(&kube::api::ListParams::default()).await.unwrap().items;
        let of_it = |event: &&Event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some("db");
        assert_eq!(all.iter().filter(of_it).count(), 0);
    });
}

#[test]
fn kubectl_shows_the_columns_and_knows_the_short_names() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let shown = bench.kubectl(&["get", "cjs"]).await;
        let mut lines = shown.lines();
        let header: Vec<_> =
            lines.next().unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        assert_eq!(header, ["NAME", "READY", "REASON", "TARGET", "KEYS", "LAST SYNC", "AGE"]);
        let row: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(row[..5], ["db", "True", "Synced", "db", "1"]);
        for name in ["conjursecret", "conjur"] {
            assert!(bench.kubectl(&["get", name, "-o", "name"]).await.contains("/db"), "{name}");
        }
    });
}

#[test]
fn keys_that_are_merged_once_are_left_alone_over_a_restart_and_a_rename() {
    super::alone(|bench, mut operator| async move {
        let first = connected(&bench, &["a"]).await.remove(0);
        for name in ["theirs", "others"] {
            bench.put_secret(name, &[("theirs", "x")]).await;
        }
        let once = |into: &str| {
            let mut object = super::target::merging("db", into, &[("a", "a")]);
            object["spec"]["refreshPolicy"] = "CreatedOnce".into();
            object
        };
        put(&bench, &once("theirs")).await;
        bench.holds("theirs", &[("a", &first), ("theirs", "x")]).await;
        bench.ready::<ConjurSecret>("db").await;
        let merged = secret(&bench, "theirs").await;
        let second = bench.set("apps/a");
        synced(&bench, "db", "1").await;
        operator.restart().await.unwrap();
        synced(&bench, "db", "2").await;
        assert_eq!(super::version(&secret(&bench, "theirs").await), super::version(&merged));
        // Into another one they are merged with what Conjur holds now.
        put(&bench, &once("others")).await;
        bench.holds("others", &[("a", &second), ("theirs", "x")]).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("theirs", &[("a", &first), ("theirs", "x")]).await;
    });
}

#[test]
fn of_a_suspended_object_nothing_is_read() {
    test(|bench| async move {
        connected(&bench, &["a", "b"]).await;
        let fast = json!({ "refreshInterval": "10s" });
        put(&bench, &project("db", &[("a", "a")], &fast)).await;
        bench.ready::<ConjurSecret>("db").await;
        let suspended = json!({ "refreshInterval": "10s", "suspend": true });
        put(&bench, &project("db", &[("a", "a")], &suspended)).await;
        put(&bench, &project("neighbour", &[("b", "b")], &fast)).await;
        bench.ready::<ConjurSecret>("neighbour").await;
        bench.conjur.clear_requests();
        let before = super::setup::api_requests(&bench).len();
        let refreshed = |id: &str| bench.conjur.requests().iter().filter(|r| r.path.contains(id)).count();
        super::setup::eventually("the neighbour is refreshed twice", || refreshed("apps/b") >= 2).await;
        assert_eq!(refreshed("apps/a"), 0);
        let asked: Vec<_> =
            super::setup::api_requests(&bench).into_iter().skip(before).filter(|r| r.name == "db").collect();
        assert_eq!(asked, []);
    });
}

//! What stands in a Secret and in its object's status after a write, and what a write costs.

use conjur_operator::api::ConjurSecret;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
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
        assert!(message.contains("the largest of ours: large (500000 bytes), a ("), "{message}");
        assert_eq!(super::version(&secret(&bench, "theirs").await), super::version(&before));
    });
}

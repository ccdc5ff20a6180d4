//! `creationPolicy: Merge`: keys of ours in Secrets of others.

use conjur_operator::api::ConjurSecret;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;
use testbed::wait_for;

use super::{
    SOON,
    setup::{api_requests, connected, edit, eventually, fetches, project, put, secret, states, synced},
    target::{merge, merging},
    test, version,
};

#[test]
fn our_keys_go_into_a_secret_that_exists_and_the_others_stay() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        merge(&bench, "db", "theirs", &[("a", "a"), ("b", "b")]).await;
        bench.holds("theirs", &[("a", &values[0]), ("b", &values[1]), ("theirs", "x")]).await;
        let object: ConjurSecret = bench.ready("db").await;
        assert_eq!(object.status.unwrap().keys, Some(2));
        let merged = secret(&bench, "theirs").await;
        let label = |key: &str| merged.labels().get(key).map(String::as_str);
        assert_eq!(label("conjur-operator.io/managed"), Some("true"));
        assert_eq!(label("app.kubernetes.io/managed-by"), None);
        assert_eq!(merged.owner_references(), []);

        // A key that is asked for no longer goes; one of somebody else stays, whenever it came.
        edit(&bench, "theirs", json!({ "stringData": { "more": "y" } })).await;
        merge(&bench, "db", "theirs", &[("b", "b")]).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("theirs", &[("b", &values[1]), ("more", "y"), ("theirs", "x")]).await;
        let value = bench.set("apps/b");
        synced(&bench, "db", "1").await;
        bench.holds("theirs", &[("b", &value), ("more", "y"), ("theirs", "x")]).await;

        // The object goes, and what it merged stays.
        bench.api::<ConjurSecret>().delete("db", &DeleteParams::default()).await.unwrap();
        let gone =
            || async { bench.api::<ConjurSecret>().get_opt("db").await.unwrap().is_none().then_some(()) };
        wait_for("the object is gone", SOON, gone).await.unwrap();
        bench.holds("theirs", &[("b", &value), ("more", "y"), ("theirs", "x")]).await;
    });
}

#[test]
fn an_object_that_is_made_again_takes_its_keys_over() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        merge(&bench, "db", "theirs", &[("a", "a")]).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.api::<ConjurSecret>().delete("db", &DeleteParams::default()).await.unwrap();
        let value = bench.set("apps/a");
        merge(&bench, "db", "theirs", &[("a", "a")]).await;
        bench.holds("theirs", &[("a", &value), ("theirs", "x")]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn a_secret_that_is_not_there_is_waited_for() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        merge(&bench, "db", "theirs", &[("a", "a")]).await;
        let message = bench.says::<ConjurSecret>("db", "TargetNotFound").await;
        assert!(message.contains("theirs does not exist") && message.contains("Merge"), "{message}");
        let waiting: ConjurSecret = bench.api().get("db").await.unwrap();
        assert_eq!(states(&waiting), "Ready=False Reconciling=True");
        assert_eq!(bench.data("theirs").await, None, "Merge makes no Secret");
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        bench.holds("theirs", &[("a", &value), ("theirs", "x")]).await;
        bench.ready::<ConjurSecret>("db").await;
        // Deleted and made again by its owner: the keys come back by themselves.
        bench.api::<Secret>().delete("theirs", &DeleteParams::default()).await.unwrap();
        bench.says::<ConjurSecret>("db", "TargetNotFound").await;
        bench.put_secret("theirs", &[("theirs", "y")]).await;
        bench.holds("theirs", &[("a", &value), ("theirs", "y")]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn a_key_of_somebody_else_is_a_conflict_that_names_him() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        let args =
            ["apply", "--server-side", "--field-manager", "helm", "--namespace", &bench.namespace, "-f", "-"];
        let helm = |field: &str, values: [&str; 2]| {
            let [a, keep] = values;
            let data = format!("{field}: {{a: {a}, keep: {keep}}}");
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: theirs}}\n{data}\n")
        };
        // One that is applied as text has no owner in the API server's eyes, and is another's all the same.
        bench.world.plane.kubectl_with(&args, &helm("stringData", ["theirs", "x"])).await.unwrap();
        merge(&bench, "db", "theirs", &[("a", "a"), ("b", "b")]).await;
        let message = bench.says::<ConjurSecret>("db", "FieldConflict").await;
        assert!(message.contains("helm set data.a"), "{message}");
        bench.api::<Secret>().delete("theirs", &DeleteParams::default()).await.unwrap();
        bench.says::<ConjurSecret>("db", "TargetNotFound").await;
        bench.world.plane.kubectl_with(&args, &helm("data", ["dGhlaXJz", "eA=="])).await.unwrap();
        let message = bench.says::<ConjurSecret>("db", "FieldConflict").await;
        assert!(message.contains("helm") && message.contains("data.a"), "{message}");
        assert!(!message.contains("data.b"), "{message}");
        let stalled: ConjurSecret = bench.api().get("db").await.unwrap();
        assert_eq!(states(&stalled), "Ready=False Stalled=True");
        bench.holds("theirs", &[("a", "theirs"), ("keep", "x")]).await;
        // He takes it out, and it goes on by itself.
        edit(&bench, "theirs", json!({ "data": { "a": null } })).await;
        bench.holds("theirs", &[("a", &values[0]), ("b", &values[1]), ("keep", "x")]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn an_edit_of_our_key_is_a_conflict_and_its_removal_is_repaired() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        merge(&bench, "db", "theirs", &[("a", "a")]).await;
        bench.ready::<ConjurSecret>("db").await;
        edit(&bench, "theirs", json!({ "data": { "a": null } })).await;
        bench.holds("theirs", &[("a", &value), ("theirs", "x")]).await;
        edit(&bench, "theirs", json!({ "metadata": { "labels": { "conjur-operator.io/managed": null } } }))
            .await;
        let labelled = |s: &Secret| s.labels().contains_key("conjur-operator.io/managed");
        bench.until("the label is back", "theirs", labelled).await;
        bench.ready::<ConjurSecret>("db").await;
        edit(&bench, "theirs", json!({ "stringData": { "a": "by hand" } })).await;
        let message = bench.says::<ConjurSecret>("db", "FieldConflict").await;
        assert!(message.contains("data.a"), "{message}");
        bench.holds("theirs", &[("a", "by hand"), ("theirs", "x")]).await;
        edit(&bench, "theirs", json!({ "data": { "a": null } })).await;
        bench.holds("theirs", &[("a", &value), ("theirs", "x")]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn two_objects_merge_into_one_secret_and_keep_out_of_each_others_way() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        merge(&bench, "first", "theirs", &[("a", "a")]).await;
        merge(&bench, "second", "theirs", &[("b", "b")]).await;
        for name in ["first", "second"] {
            bench.ready::<ConjurSecret>(name).await;
        }
        bench.holds("theirs", &[("a", &values[0]), ("b", &values[1]), ("theirs", "x")]).await;
        for name in ["first", "second"] {
            synced(&bench, name, "1").await;
        }
        bench.holds("theirs", &[("a", &values[0]), ("b", &values[1]), ("theirs", "x")]).await;
        // One key for both is a conflict that names the other.
        merge(&bench, "third", "theirs", &[("a", "b")]).await;
        let message = bench.says::<ConjurSecret>("third", "FieldConflict").await;
        assert!(message.contains("conjur-operator/first") && message.contains("data.a"), "{message}");
        bench.holds("theirs", &[("a", &values[0]), ("b", &values[1]), ("theirs", "x")]).await;
    });
}

#[test]
fn an_unchanged_refresh_of_merged_keys_costs_no_request_to_the_api_server() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        let target = json!({ "name": "theirs", "creationPolicy": "Merge", "deletionPolicy": "Retain" });
        put(&bench, &project("db", &[("a", "a")], &json!({ "refreshInterval": "10s", "target": target })))
            .await;
        bench.ready::<ConjurSecret>("db").await;
        // Another's key is looked at once, and is no drift.
        edit(&bench, "theirs", json!({ "stringData": { "more": "y" } })).await;
        let fetched = fetches(&bench);
        eventually("the first refresh", || fetches(&bench) > fetched).await;
        let (before, fetched) = (api_requests(&bench).len(), fetches(&bench));
        eventually("two more", || fetches(&bench) > fetched + 1).await;
        assert_eq!(api_requests(&bench)[before..], []);
        let patches =
            api_requests(&bench).into_iter().filter(|r| r.resource == "secrets" && r.verb == "patch");
        assert_eq!(patches.count(), 1);
    });
}

#[test]
fn what_cannot_be_merged_into_is_left_alone() {
    test(|bench| async move {
        connected(&bench, &["a", "b"]).await;
        put(&bench, &project("owner", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("owner").await;
        bench.put_secret("sealed", &[("theirs", "x")]).await;
        edit(&bench, "sealed", json!({ "immutable": true })).await;
        bench.put_secret("plain", &[("theirs", "x")]).await;
        let mut typed = merging("typed", "plain", &[("b", "b")]);
        typed["spec"]["target"]["type"] = json!("example.com/x");
        put(&bench, &typed).await;
        merge(&bench, "into-owned", "owner", &[("b", "b")]).await;
        merge(&bench, "into-sealed", "sealed", &[("b", "b")]).await;
        for (name, into, word) in [
            ("into-owned", "owner", "ConjurSecret/owner"),
            ("into-sealed", "sealed", "immutable"),
            ("typed", "plain", "example.com/x"),
        ] {
            let before = secret(&bench, into).await;
            let message = bench.says::<ConjurSecret>(name, "ForeignSecret").await;
            assert!(message.contains(word), "{message}");
            assert_eq!(version(&secret(&bench, into).await), version(&before));
        }
    });
}

#[test]
fn a_secret_that_was_ours_alone_is_given_up_for_merging() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        put(&bench, &project("db", &[("a", "a"), ("b", "b")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "db").await;
        merge(&bench, "db", "db", &[("a", "a")]).await;
        bench.ready::<ConjurSecret>("db").await;
        let after = secret(&bench, "db").await;
        assert_eq!(after.uid(), before.uid());
        assert_eq!(after.owner_references(), [], "it no longer goes with the object");
        assert!(!after.labels().contains_key("app.kubernetes.io/managed-by"));
        let value = bench.set("apps/a");
        synced(&bench, "db", "1").await;
        bench.holds("db", &[("a", &value), ("b", &values[1])]).await;
    });
}

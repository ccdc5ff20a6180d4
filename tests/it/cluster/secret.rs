//! ConjurSecret: what of its spec becomes of the Secret.

use conjur_operator::api::ConjurSecret;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use testbed::wait_for;

use super::{
    Bench, SOON,
    setup::{api_requests, change, change_policy, connected, project, put, secret, synced},
    test, version,
};

#[test]
fn a_secret_gets_what_conjur_holds_with_type_labels_and_annotations() {
    test(|bench| async move {
        let values = connected(&bench, &["user", "password"]).await;
        let target = json!({
            "type": "example.com/login",
            "labels": { "team": "billing" },
            "annotations": { "example.com/note": "made of Conjur" },
            "creationPolicy": "Owner",
        });
        let data = [("user", "user"), ("password", "password")];
        put(&bench, &project("db", &data, &json!({ "target": target }))).await;
        bench.holds("db", &[("user", &values[0]), ("password", &values[1])]).await;
        let object: ConjurSecret = bench.ready("db").await;

        let made = secret(&bench, "db").await;
        assert_eq!(made.type_.as_deref(), Some("example.com/login"));
        let label = |key: &str| made.labels().get(key).map(String::as_str);
        assert_eq!(label("team"), Some("billing"));
        assert_eq!(label("conjur-operator.io/managed"), Some("true"));
        assert_eq!(label("app.kubernetes.io/managed-by"), Some("conjur-operator"));
        let annotation = |key: &str| made.annotations().get(key).map(String::as_str);
        assert_eq!(annotation("example.com/note"), Some("made of Conjur"));
        assert_eq!(annotation("conjur-operator.io/owner"), Some("ConjurSecret/db"));
        let owner = &made.owner_references()[0];
        assert_eq!((Some(&owner.uid), owner.controller), (object.uid().as_ref(), Some(true)));

        let status = object.status.unwrap();
        assert_eq!((status.keys, status.missing), (Some(2), None));
        assert!(status.last_sync_time.is_some());
        let target = status.target.unwrap();
        assert_eq!(target.name, "db");
        assert_eq!((Some(target.uid), target.resource_version), (made.uid(), version(&made)));
    });
}

#[test]
fn a_new_object_counts_as_unobserved() {
    test(|bench| async move {
        for kind in ["ConjurSecret", "ConjurConnection"] {
            let object = match kind {
                "ConjurSecret" => project("new", &[("a", "a")], &json!({})),
                _ => super::setup::connection(&bench, "new", &json!({})),
            };
            let made = put(&bench, &object).await;
            assert_eq!(made.data["status"], json!({ "observedGeneration": -1 }), "{kind}");
            // A manifest comes back as it was applied.
            assert_eq!(made.data["spec"], object["spec"], "{kind}");
        }
    });
}

#[test]
fn a_pinned_version_stays() {
    test(|bench| async move {
        let first = connected(&bench, &["a"]).await.remove(0);
        let second = bench.set("apps/a");
        let data = json!([
            { "key": "pinned", "variable": "apps/a", "version": 1 },
            { "key": "latest", "variable": "apps/a" },
        ]);
        put(&bench, &project("db", &[], &json!({ "data": data }))).await;
        bench.holds("db", &[("pinned", &first), ("latest", &second)]).await;
        let third = bench.set("apps/a");
        synced(&bench, "db", "1").await;
        bench.holds("db", &[("pinned", &first), ("latest", &third)]).await;
    });
}

#[test]
fn an_optional_variable_may_be_missing_and_go_and_come_back() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        let data = json!([
            { "key": "a", "variable": "apps/a" },
            { "key": "b", "variable": "apps/b", "optional": true },
            { "key": "never", "variable": "apps/never", "optional": true },
        ]);
        put(&bench, &project("db", &[], &json!({ "data": data }))).await;
        bench.holds("db", &[("a", &values[0]), ("b", &values[1])]).await;
        assert_eq!(bench.ready::<ConjurSecret>("db").await.status.unwrap().keys, Some(2));

        change_policy(&bench, "- !delete\n  record: !variable apps/b\n").await;
        synced(&bench, "db", "gone").await;
        bench.holds("db", &[("a", &values[0])]).await;
        assert_eq!(bench.ready::<ConjurSecret>("db").await.status.unwrap().keys, Some(1));

        let permit =
            "- !permit {role: !host apps/app, privileges: [read, execute], resource: !variable apps/b}";
        change_policy(&bench, &format!("- !variable apps/b\n{permit}\n")).await;
        let again = bench.set("apps/b");
        // Without being asked, and long before the next refresh.
        bench.holds("db", &[("a", &values[0]), ("b", &again)]).await;
    });
}

#[test]
fn nothing_is_made_of_optional_variables_that_are_all_missing() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        let data = json!([{ "key": "never", "variable": "apps/never", "optional": true }]);
        put(&bench, &project("db", &[], &json!({ "data": data }))).await;
        let message = bench.says::<ConjurSecret>("db", "NoKeys").await;
        assert!(message.contains("all variables are optional and missing"), "{message}");
        assert_eq!(bench.data("db").await, None);
    });
}

#[test]
fn the_secret_goes_with_its_object_or_stays_as_the_deletion_policy_says() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("goes", &[("a", "a")], &json!({}))).await;
        put(&bench, &project("stays", &[("a", "a")], &json!({ "target": { "deletionPolicy": "Retain" } })))
            .await;
        put(&bench, &project("turned", &[("a", "a")], &json!({}))).await;
        for name in ["goes", "stays", "turned"] {
            bench.ready::<ConjurSecret>(name).await;
        }
        change(&bench, "turned", json!({ "spec": { "target": { "deletionPolicy": "Retain" } } })).await;
        bench.ready::<ConjurSecret>("turned").await;
        for name in ["goes", "stays", "turned"] {
            bench.api::<ConjurSecret>().delete(name, &DeleteParams::default()).await.unwrap();
        }
        gone(&bench, "goes").await;
        for name in ["stays", "turned"] {
            bench.holds(name, &[("a", &value)]).await;
            assert!(secret(&bench, name).await.owner_references().is_empty());
        }
    });
}

#[test]
fn what_is_dropped_from_the_spec_is_dropped_from_the_secret() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        let marked =
            json!({ "labels": { "team": "x", "tier": "y" }, "annotations": { "example.com/a": "b" } });
        put(&bench, &project("db", &[("a", "a"), ("b", "b")], &json!({ "target": marked }))).await;
        bench.ready::<ConjurSecret>("db").await;
        // A key, with everything else as it was.
        put(&bench, &project("db", &[("b", "b")], &json!({ "target": marked }))).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("db", &[("b", &values[1])]).await;
        // Labels and annotations, with everything else as it was.
        put(&bench, &project("db", &[("b", "b")], &json!({ "target": { "labels": { "team": "x" } } }))).await;
        bench.ready::<ConjurSecret>("db").await;
        let left = secret(&bench, "db").await;
        assert_eq!(left.labels().get("team").map(String::as_str), Some("x"));
        assert!(!left.labels().contains_key("tier"), "{:?}", left.labels());
        assert!(!left.annotations().contains_key("example.com/a"), "{:?}", left.annotations());
        assert_eq!(left.labels().get("conjur-operator.io/managed").map(String::as_str), Some("true"));
    });
}

#[test]
fn a_changed_target_name_moves_the_secret() {
    test(|bench| async move {
        bench.may_delete();
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        put(&bench, &project("db", &[("a", "a")], &json!({ "target": { "name": "moved" } }))).await;
        bench.holds("moved", &[("a", &value)]).await;
        gone(&bench, "db").await;
        assert_eq!(bench.ready::<ConjurSecret>("db").await.status.unwrap().target.unwrap().name, "moved");

        // One that is no longer ours stays: somebody made another of that name.
        change(&bench, "db", json!({ "spec": { "suspend": true } })).await;
        bench.api::<Secret>().delete("moved", &DeleteParams::default()).await.unwrap();
        bench.put_secret("moved", &[("theirs", "x")]).await;
        put(
            &bench,
            &project("db", &[("a", "a")], &json!({ "suspend": false, "target": { "name": "again" } })),
        )
        .await;
        bench.holds("again", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("moved", &[("theirs", "x")]).await;

        // With Retain the former one stays.
        let retain = json!({ "deletionPolicy": "Retain", "name": "again" });
        put(&bench, &project("db", &[("a", "a")], &json!({ "suspend": false, "target": retain }))).await;
        bench.ready::<ConjurSecret>("db").await;
        let retain = json!({ "deletionPolicy": "Retain", "name": "last" });
        put(&bench, &project("db", &[("a", "a")], &json!({ "suspend": false, "target": retain }))).await;
        bench.holds("last", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("again", &[("a", &value)]).await;
    });
}

#[test]
fn a_changed_type_recreates_the_secret_and_keeps_what_others_put_there() {
    test(|bench| async move {
        bench.may_delete();
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let labelled = json!({ "metadata": { "labels": { "theirs": "kept" } } });
        let before = super::setup::edit(&bench, "db", labelled).await;
        put(&bench, &project("db", &[("a", "a")], &json!({ "target": { "type": "example.com/x" } }))).await;
        bench.ready::<ConjurSecret>("db").await;
        let after = secret(&bench, "db").await;
        assert_eq!(after.type_.as_deref(), Some("example.com/x"));
        assert_ne!(after.uid(), before.uid());
        assert_eq!(after.labels().get("theirs").map(String::as_str), Some("kept"));
        bench.holds("db", &[("a", &value)]).await;
    });
}

#[test]
fn a_type_that_the_api_server_refuses_costs_no_secret() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "db").await;
        let tls = json!({ "target": { "type": "kubernetes.io/tls" } });
        put(&bench, &project("db", &[("a", "a")], &tls)).await;
        let message = bench.says::<ConjurSecret>("db", "InvalidSpec").await;
        assert!(message.contains("tls.crt"), "{message}");
        assert_eq!(secret(&bench, "db").await.uid(), before.uid());
        bench.holds("db", &[("a", &value)]).await;
    });
}

#[test]
fn a_secret_that_somebody_made_immutable_still_follows() {
    test(|bench| async move {
        bench.may_delete();
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("db", &[("a", &value)]).await;
        super::setup::edit(&bench, "db", json!({ "immutable": true })).await;
        // Drift as any other; it can be undone only by making it anew.
        bench.until("it may be changed again", "db", |s: &Secret| s.immutable != Some(true)).await;
        let value = bench.set("apps/a");
        synced(&bench, "db", "2").await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("db", &[("a", &value)]).await;
    });
}

#[test]
fn an_object_that_is_deleted_in_the_foreground_goes_with_its_secret() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let (objects, before) = (bench.api::<ConjurSecret>(), api_requests(&bench).len());
        objects.delete("db", &DeleteParams::foreground()).await.unwrap();
        let gone = || async { objects.get_opt("db").await.unwrap().is_none().then_some(()) };
        wait_for("the object is gone", SOON, gone).await.unwrap();
        assert_eq!(bench.data("db").await, None);
        let made =
            api_requests(&bench).into_iter().skip(before).find(|r| r.verb == "create" && r.name == "db");
        assert_eq!(made, None, "the operator and the garbage collector worked against each other");
    });
}

#[test]
fn a_suspended_object_is_left_alone_until_it_is_resumed() {
    test(|bench| async move {
        let first = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        put(&bench, &project("db", &[("a", "a")], &json!({ "suspend": true }))).await;
        put(&bench, &project("new", &[("a", "a")], &json!({ "suspend": true }))).await;
        let message = bench.says::<ConjurSecret>("new", "Suspended").await;
        assert!(message.contains("set spec.suspend to false"), "{message}");

        super::setup::edit(&bench, "db", json!({ "stringData": { "a": "by hand" } })).await;
        let second = bench.set("apps/a");
        super::setup::sync_now(&bench, "db", "1").await;
        // One that comes later is done: the suspended ones had their turn.
        put(&bench, &project("later", &[("a", "a")], &json!({}))).await;
        bench.holds("later", &[("a", &second)]).await;
        bench.holds("db", &[("a", "by hand")]).await;
        assert_eq!(bench.data("new").await, None);
        let kept: ConjurSecret = bench.ready("db").await;
        assert_eq!(super::setup::states(&kept), "Ready=True");
        assert_ne!(first, second);

        for name in ["db", "new"] {
            change(&bench, name, json!({ "spec": { "suspend": false } })).await;
            bench.ready::<ConjurSecret>(name).await;
            bench.holds(name, &[("a", &second)]).await;
        }
    });
}

#[test]
fn sync_now_refreshes_at_once() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        for text in ["1", "2"] {
            let value = bench.set("apps/a");
            synced(&bench, "db", text).await;
            bench.holds("db", &[("a", &value)]).await;
        }
    });
}

#[test]
fn a_foreign_secret_is_refused_until_it_may_be_adopted() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        bench.put_secret("db", &[("theirs", "x")]).await;
        let before = secret(&bench, "db").await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        let message = bench.says::<ConjurSecret>("db", "ForeignSecret").await;
        assert!(message.contains("conjur-operator.io/adopt=ConjurSecret/db"), "{message}");
        assert_eq!(secret(&bench, "db").await, before);

        let adopt =
            |whom: &str| json!({ "metadata": { "annotations": { "conjur-operator.io/adopt": whom } } });
        let other = super::setup::edit(&bench, "db", adopt("ConjurSecret/other")).await;
        synced(&bench, "db", "look").await;
        assert_eq!(version(&secret(&bench, "db").await), version(&other));
        let mut adopted = adopt("ConjurSecret/db");
        adopted["metadata"]["labels"] = json!({ "theirs": "kept" });
        super::setup::edit(&bench, "db", adopted).await;
        let object: ConjurSecret = bench.ready("db").await;
        bench.holds("db", &[("a", &value)]).await;
        let ours = secret(&bench, "db").await;
        assert_eq!(ours.uid(), before.uid());
        assert_eq!(Some(&ours.owner_references()[0].uid), object.uid().as_ref());
        assert_eq!(ours.annotations()["conjur-operator.io/owner"], "ConjurSecret/db");
        assert_eq!(ours.labels()["theirs"], "kept");
        assert_eq!(ours.labels()["conjur-operator.io/managed"], "true");
        assert_eq!(ours.labels()["app.kubernetes.io/managed-by"], "conjur-operator");
    });
}

#[test]
fn a_secret_that_another_controller_owns_is_never_adopted() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        let owner: k8s_openapi::api::core::v1::ConfigMap = serde_json::from_value(
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "owner" } }),
        )
        .unwrap();
        let owner = bench.api().create(&PostParams::default(), &owner).await.unwrap();
        let theirs: Secret = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": { "theirs": "x" }, "metadata": {
                "name": "db",
                "annotations": { "conjur-operator.io/adopt": "ConjurSecret/db" },
                "ownerReferences": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid(), "controller": true }],
            }
        }))
        .unwrap();
        let before = bench.api().create(&PostParams::default(), &theirs).await.unwrap();
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        let message = bench.says::<ConjurSecret>("db", "ForeignSecret").await;
        assert!(message.contains("ConfigMap/owner controls it"), "{message}");
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
        // When it goes, the name is free, and the object learns of it by itself.
        bench.api::<Secret>().delete("db", &DeleteParams::default()).await.unwrap();
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn of_two_objects_with_one_target_the_second_waits_until_the_first_is_gone() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        let target = json!({ "target": { "name": "db" } });
        put(&bench, &project("first", &[("a", "a")], &target)).await;
        bench.ready::<ConjurSecret>("first").await;
        put(&bench, &project("second", &[("b", "b")], &target)).await;
        let message = bench.says::<ConjurSecret>("second", "ForeignSecret").await;
        assert!(message.contains("ConjurSecret/first controls it"), "{message}");
        bench.holds("db", &[("a", &values[0])]).await;
        bench.api::<ConjurSecret>().delete("first", &DeleteParams::default()).await.unwrap();
        bench.holds("db", &[("b", &values[1])]).await;
        bench.ready::<ConjurSecret>("second").await;
    });
}

#[test]
fn an_object_that_is_made_again_gets_a_secret_of_its_own() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let former = secret(&bench, "db").await;
        bench.api::<ConjurSecret>().delete("db", &DeleteParams::default()).await.unwrap();
        let again = put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        let ready: ConjurSecret = bench.ready("db").await;
        assert_eq!(ready.uid(), again.uid());
        let now = secret(&bench, "db").await;
        assert_ne!(now.uid(), former.uid(), "Ready with the former one's Secret, which is about to go");
        assert_eq!(Some(&now.owner_references()[0].uid), ready.uid().as_ref());
        bench.holds("db", &[("a", &value)]).await;
    });
}

async fn gone(bench: &Bench, name: &str) {
    wait_for(&format!("Secret {name} is gone"), SOON, || async {
        bench.data(name).await.is_none().then_some(())
    })
    .await
    .unwrap();
}

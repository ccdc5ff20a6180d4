//! What an outage, a refusal, or somebody else's Secret does to the last good one: nothing.

use conjur_dev::{Effect, Fault, Kind, When};
use conjur_operator::api::ConjurSecret;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use testbed::Loss;

use super::{
    Bench, alone,
    api_faults::by_a_faulty_way,
    setup::{OUTAGES, change_policy, connected, project, put, secret, states, sync_now},
    test, version,
};

fn fault(bench: &Bench, count: Option<u64>, effect: Effect) {
    let method = Some("GET".into());
    bench.conjur.fault(Fault { method, path: "/resources".into(), count, when: When::Before, effect });
}

#[test]
fn no_fault_of_the_list_takes_a_key_out_of_a_secret() {
    test(|bench| async move {
        connected(&bench, &["db/a", "db/b"]).await;
        let find = json!({ "data": null, "dataFrom": [{ "find": { "prefix": "apps/db/" } }] });
        put(&bench, &project("found", &[], &find)).await;
        let quiet = json!({ "changeDetection": "Version", "refreshInterval": "10s" });
        put(&bench, &project("quiet", &[("a", "db/a")], &quiet)).await;
        let mut before = Vec::new();
        for name in ["found", "quiet"] {
            bench.ready::<ConjurSecret>(name).await;
            before.push(version(&secret(&bench, name).await));
        }
        for (at, effect) in OUTAGES.into_iter().enumerate() {
            fault(&bench, None, effect);
            sync_now(&bench, "found", &at.to_string()).await;
            let failing = |s: &ConjurSecret| states(s) == "Ready=False Reconciling=True";
            bench.until(&format!("{effect:?} is told"), "found", failing).await;
            bench.conjur.clear_faults();
            for (name, before) in ["found", "quiet"].into_iter().zip(&before) {
                bench.ready::<ConjurSecret>(name).await;
                assert_eq!(&version(&secret(&bench, name).await), before, "{name}: {effect:?}");
            }
        }
    });
}

#[test]
fn a_list_that_breaks_off_is_no_list() {
    test(|bench| async move {
        const MANY: usize = 1_010;
        let names: Vec<_> = (0..MANY).map(|at| format!("many/v{at:04}")).collect();
        connected(&bench, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let find = json!({ "data": null, "dataFrom": [{ "find": { "prefix": "apps/many/", "pattern": "v....$" } }] });
        put(&bench, &project("db", &[], &find)).await;
        assert_eq!(bench.ready::<ConjurSecret>("db").await.status.unwrap().keys, Some(1_010));
        let before = secret(&bench, "db").await;
        // The first page comes, and nothing after it.
        bench.conjur.clear_requests();
        fault(&bench, Some(1), Effect::Latency { millis: 1_000 });
        sync_now(&bench, "db", "1").await;
        super::setup::eventually("the first page is asked for", || bench.conjur.count(Kind::List) == 1).await;
        fault(&bench, None, Effect::Status { status: 500, retry_after: None });
        let failing = |s: &ConjurSecret| states(s) == "Ready=False Reconciling=True";
        bench.until("it is told", "db", failing).await;
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
        bench.conjur.clear_faults();
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
    });
}

#[test]
fn an_optional_variable_that_is_forbidden_still_fails() {
    test(|bench| async move {
        connected(&bench, &["a", "b"]).await;
        let data = json!([
            { "key": "a", "variable": "apps/a" },
            { "key": "b", "variable": "apps/b", "optional": true },
        ]);
        put(&bench, &project("db", &[], &json!({ "data": data }))).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "db").await;
        change_policy(
            &bench,
            "- !deny {role: !host apps/app, privileges: [execute], resource: !variable apps/b}\n",
        )
        .await;
        sync_now(&bench, "db", "1").await;
        let message = bench.says::<ConjurSecret>("db", "VariableForbidden").await;
        assert!(message.contains("apps/b"), "{message}");
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
        change_policy(
            &bench,
            "- !permit {role: !host apps/app, privileges: [execute], resource: !variable apps/b}\n",
        )
        .await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
    });
}

#[test]
fn a_foreign_secret_that_took_the_place_of_ours_is_left_alone() {
    alone(|bench, mut operator| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        for (name, policy) in [("db", "Delete"), ("kept", "Retain")] {
            let target = json!({ "target": { "deletionPolicy": policy } });
            put(&bench, &project(name, &[("a", "a")], &target)).await;
            bench.ready::<ConjurSecret>(name).await;
        }
        operator.terminate().await.unwrap();
        let mut theirs = Vec::new();
        for name in ["db", "kept"] {
            bench.api::<Secret>().delete(name, &DeleteParams::default()).await.unwrap();
            bench.put_secret(name, &[("theirs", "x")]).await;
            theirs.push(secret(&bench, name).await);
        }
        operator.restart().await.unwrap();
        for (name, theirs) in ["db", "kept"].into_iter().zip(theirs) {
            bench.says::<ConjurSecret>(name, "ForeignSecret").await;
            assert_eq!(secret(&bench, name).await, theirs);
            // When it goes, ours is made again.
            bench.api::<Secret>().delete(name, &DeleteParams::default()).await.unwrap();
            bench.holds(name, &[("a", &value)]).await;
            let ready: ConjurSecret = bench.ready(name).await;
            assert_eq!(ready.status.unwrap().target.unwrap().uid, secret(&bench, name).await.uid().unwrap());
        }
    });
}

#[test]
fn a_secret_that_is_being_deleted_is_waited_for_and_made_again() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let held = json!({ "metadata": { "finalizers": ["example.com/hold"] } });
        let before = super::setup::edit(&bench, "db", held).await;
        bench.api::<Secret>().delete("db", &DeleteParams::default()).await.unwrap();
        // As long as it is what it should be there is nothing to say.
        let value = bench.set("apps/a");
        put(&bench, &project("db", &[("a", "a")], &json!({ "target": { "labels": { "x": "y" } } }))).await;
        let message = bench.says::<ConjurSecret>("db", "TargetTerminating").await;
        assert!(message.contains("is being deleted"), "{message}");
        super::setup::edit(&bench, "db", json!({ "metadata": { "finalizers": null } })).await;
        bench.until("it is made again", "db", |s: &Secret| s.uid() != before.uid()).await;
        bench.holds("db", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn a_foreign_secret_that_comes_while_ours_is_made_anew_is_left_alone() {
    by_a_faulty_way(|bench, way| async move {
        bench.may_delete();
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({ "target": { "immutable": true } }))).await;
        bench.ready::<ConjurSecret>("db").await;
        let path = format!("/api/v1/namespaces/{}/secrets/db", bench.namespace);
        way.lose(move |method, asked| {
            (method == "DELETE" && asked.split('?').next() == Some(&path)).then_some(Loss::Request)
        });
        bench.set("apps/a");
        sync_now(&bench, "db", "1").await;
        super::setup::eventually("it is about to be made anew", || way.struck() > 0).await;
        bench.api::<Secret>().delete("db", &DeleteParams::default()).await.unwrap();
        // It may have been made again in between.
        while bench.data("db").await.is_none_or(|data| !data.contains_key("theirs")) {
            bench.api::<Secret>().delete("db", &DeleteParams::default()).await.ok();
            let theirs: Secret = serde_json::from_value(
                json!({ "metadata": { "name": "db" }, "stringData": { "theirs": "x" } }),
            )
            .unwrap();
            bench.api::<Secret>().create(&PostParams::default(), &theirs).await.ok();
        }
        let theirs = secret(&bench, "db").await;
        way.lose_nothing();
        bench.says::<ConjurSecret>("db", "ForeignSecret").await;
        assert_eq!(secret(&bench, "db").await, theirs);
    });
}

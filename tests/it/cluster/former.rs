//! A changed `target.name`: what becomes of the former Secret.

use conjur_operator::api::ConjurSecret;
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};
use testbed::{Loss, wait_for};

use super::{
    Bench, SOON,
    api_faults::by_a_faulty_way,
    setup::{connected, edit, project, put, secret},
    target::{merge, merging},
    test, version,
};

fn owner(name: &str) -> Value {
    project("db", &[("a", "a")], &json!({ "target": { "name": name } }))
}

fn retained(name: &str) -> Value {
    project("db", &[("a", "a")], &json!({ "target": { "name": name, "deletionPolicy": "Retain" } }))
}

async fn gone(bench: &Bench, name: &str) {
    let is_gone = || async { bench.data(name).await.is_none().then_some(()) };
    wait_for(&format!("Secret {name} is gone"), SOON, is_gone).await.unwrap();
}

async fn delete_object(bench: &Bench, name: &str) {
    let objects = bench.api::<ConjurSecret>();
    objects.delete(name, &DeleteParams::default()).await.unwrap();
    let is_gone = || async { objects.get_opt(name).await.unwrap().is_none().then_some(()) };
    wait_for("the object is gone", SOON, is_gone).await.unwrap();
}

/// The garbage collector has looked: what went with the object is gone.
async fn collected(bench: &Bench, witness: &str) {
    delete_object(bench, witness).await;
    gone(bench, witness).await;
}

#[test]
fn one_that_is_renamed_and_retained_at_once_no_longer_goes_with_the_object() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        for (new, policy) in [("new", "Owner"), ("theirs", "Merge")] {
            put(&bench, &owner("old")).await;
            put(&bench, &project("witness", &[("a", "a")], &json!({}))).await;
            for name in ["db", "witness"] {
                bench.ready::<ConjurSecret>(name).await;
            }
            let before = secret(&bench, "old").await;
            let mut renamed = retained(new);
            renamed["spec"]["target"]["creationPolicy"] = policy.into();
            put(&bench, &renamed).await;
            assert_eq!(
                bench.ready::<ConjurSecret>("db").await.status.unwrap().target.unwrap().name,
                new,
                "{policy}"
            );
            let old = secret(&bench, "old").await;
            assert_eq!((old.uid(), old.data.as_ref()), (before.uid(), before.data.as_ref()), "{policy}");
            assert!(old.owner_references().is_empty(), "{policy}: {:?}", old.owner_references());
            delete_object(&bench, "db").await;
            collected(&bench, "witness").await;
            bench.holds("old", &[("a", &value)]).await;
        }
    });
}

#[test]
fn one_whose_writing_no_status_tells_of_goes_too() {
    by_a_faulty_way(|bench, way| async move {
        bench.may_delete();
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &owner("first")).await;
        bench.ready::<ConjurSecret>("db").await;
        let status = format!(
            "/apis/conjur-operator.io/v1alpha1/namespaces/{}/conjursecrets/db/status",
            bench.namespace
        );
        way.lose(move |method, path| {
            (method == "PATCH" && path.split('?').next() == Some(&status)).then_some(Loss::Request)
        });
        put(&bench, &owner("second")).await;
        bench.holds("second", &[("a", &value)]).await;
        gone(&bench, "first").await;
        put(&bench, &owner("third")).await;
        bench.holds("third", &[("a", &value)]).await;
        gone(&bench, "second").await;
        way.lose_nothing();
        let ready: ConjurSecret = bench.ready("db").await;
        assert_eq!(ready.status.unwrap().target.unwrap().name, "third");
    });
}

#[test]
fn the_old_one_stays_until_the_new_one_is_written() {
    test(|bench| async move {
        bench.may_delete();
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &owner("old")).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "old").await;
        bench.put_secret("foreign", &[("theirs", "x")]).await;
        put(&bench, &owner("foreign")).await;
        bench.says::<ConjurSecret>("db", "ForeignSecret").await;
        assert_eq!(version(&secret(&bench, "old").await), version(&before));
        let missing = project("db", &[("a", "a"), ("b", "never")], &json!({ "target": { "name": "new" } }));
        put(&bench, &missing).await;
        bench.says::<ConjurSecret>("db", "VariableNotFound").await;
        assert_eq!(version(&secret(&bench, "old").await), version(&before));
        put(&bench, &owner("new")).await;
        bench.holds("new", &[("a", &value)]).await;
        gone(&bench, "old").await;
        bench.holds("foreign", &[("theirs", "x")]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn one_that_was_merged_into_stays_somebody_elses_even_where_it_may_be_adopted() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        merge(&bench, "db", "theirs", &[("a", "a")]).await;
        bench.ready::<ConjurSecret>("db").await;
        let adopt =
            json!({ "metadata": { "annotations": { "conjur-operator.io/adopt": "ConjurSecret/db" } } });
        let before = edit(&bench, "theirs", adopt).await;
        put(&bench, &project("db", &[("a", "a")], &json!({ "target": { "name": "own" } }))).await;
        bench.holds("own", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
        let after = secret(&bench, "theirs").await;
        assert_eq!((after.uid(), after.data), (before.uid(), before.data));

        // What was merged stays as well where it is merged into another from now on.
        bench.put_secret("others", &[("others", "y")]).await;
        put(&bench, &merging("db", "others", &[("a", "a")])).await;
        bench.holds("others", &[("a", &value), ("others", "y")]).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("theirs", &[("a", &value), ("theirs", "x")]).await;
        bench.holds("own", &[("a", &value)]).await;
    });
}

#[test]
fn one_that_stayed_is_taken_up_by_an_object_of_the_same_name() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &retained("db")).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "db").await;
        delete_object(&bench, "db").await;
        let value = bench.set("apps/a");
        put(&bench, &retained("db")).await;
        bench.holds("db", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(secret(&bench, "db").await.uid(), before.uid());
        // With Delete it goes with the object again.
        put(&bench, &owner("db")).await;
        let ready: ConjurSecret = bench.ready("db").await;
        let owners = secret(&bench, "db").await;
        assert_eq!(Some(&owners.owner_references()[0].uid), ready.uid().as_ref());
        delete_object(&bench, "db").await;
        gone(&bench, "db").await;
    });
}

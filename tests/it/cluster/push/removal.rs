//! `deletionPolicy`: what an object made goes with it, or with its key, where that is asked for, and nothing else.

use conjur_operator::api::ConjurConnection;

use super::super::{
    setup::{change_branch, eventually, untyped},
    test,
};
use super::*;

const FINALIZER: &str = "conjur-operator.io/push";

fn deletes(more: &Value) -> Value {
    let mut all = json!({ "deletionPolicy": "Delete" });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    push("p", "keys", &all)
}

/// Conjur goes away, and the connection has noticed it.
async fn fails(bench: &Bench) {
    bench.conjur.stop().await;
    let now = format!("conjur-operator.io/sync-now={}", jiff::Timestamp::now());
    bench.kubectl(&["annotate", "--overwrite", "conjurconnection", "conjur", &now]).await;
    bench.says::<ConjurConnection>("conjur", "ConjurUnavailable").await;
}

fn there(bench: &Bench) -> Vec<String> {
    bench.conjur.all("variable").into_iter().map(|id| id.replace("demo:variable:", "")).collect()
}

#[test]
fn with_delete_what_the_object_made_goes_with_it_in_one_load() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &deletes(&json!({}))).await;
        let p = pushed(&bench, "p").await;
        assert_eq!(p.metadata.finalizers.unwrap(), [FINALIZER]);
        // What no longer says that it is this object's stays.
        let document = "- !variable {id: b, annotations: {conjur-operator.io/created: \"no\"}}\n";
        change_branch(&bench, "litellm", document).await;
        let before = loads(&bench);
        delete(&bench, "p").await;
        assert_eq!(there(&bench), ["litellm/b"]);
        assert_eq!(loads(&bench), before + 1);
        bench.events("LeftInConjur", "litellm/b").await;
        bench.events("Removed", "litellm/a").await;
    });
}

#[test]
fn with_retain_everything_stays() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let p = pushed(&bench, "p").await;
        assert_eq!(p.metadata.finalizers, None);
        put_data(&bench, "keys", &[], &json!({ "a": values[0] })).await;
        bench.until("one is left", "p", |p: &ConjurPush| variables(p) == ["litellm/a true 1"]).await;
        delete(&bench, "p").await;
        assert_eq!(there(&bench), ["litellm/a", "litellm/b"]);
        assert_eq!(loads(&bench), 1);
    });
}

#[test]
fn what_a_changed_key_or_prefix_leaves_behind_goes_with_delete() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &deletes(&json!({}))).await;
        pushed(&bench, "p").await;
        put_data(&bench, "keys", &[], &json!({ "a": values[0] })).await;
        eventually("b goes", || there(&bench) == ["litellm/a"]).await;
        put(&bench, &deletes(&json!({ "prefix": "litellm/new/" }))).await;
        eventually("the prefix changes", || there(&bench) == ["litellm/new/a"]).await;
        filled(&bench, "litellm/new/a", &values[0]).await;
        pushed(&bench, "p").await;
        put(&bench, &deletes(&json!({ "prefix": "second/", "createVariables": { "branch": "second" } })))
            .await;
        eventually("the branch changes", || there(&bench) == ["second/a"]).await;
        let p = pushed(&bench, "p").await;
        assert_eq!(variables(&p), ["second/a true 1"]);
        delete(&bench, "p").await;
        assert!(there(&bench).is_empty());
    });
}

#[test]
fn nothing_is_removed_before_what_comes_in_its_place_has_its_value() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &deletes(&json!({}))).await;
        pushed(&bench, "p").await;
        let missing = json!({ "prefix": "missing/", "createVariables": { "branch": "missing" } });
        put(&bench, &deletes(&missing)).await;
        told(&bench, "p", "BranchNotFound", "missing").await;
        synced(&bench, "p", "again").await;
        assert_eq!(bench.conjur.variable("litellm/a").as_deref(), Some(values[0].as_bytes()));
        bench.root("- !policy {id: missing, owner: !host ops}\n").await;
        synced(&bench, "p", "once more").await;
        filled(&bench, "missing/a", &values[0]).await;
        eventually("the former one goes", || there(&bench) == ["missing/a"]).await;
    });
}

#[test]
fn what_could_not_be_removed_from_a_former_branch_goes_when_it_can() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &deletes(&json!({}))).await;
        pushed(&bench, "p").await;
        let broken = Effect::Status { status: 500, retry_after: None };
        bench.conjur.fault(fault("/policies/demo/policy/litellm", None, When::Before, broken));
        put(&bench, &deletes(&json!({ "prefix": "second/", "createVariables": { "branch": "second" } })))
            .await;
        eventually("it is made elsewhere", || bench.conjur.exists("variable", "second/a")).await;
        // What is said of the new branch must not make it forget the former one.
        eventually("it tries", || {
            let all = bench.conjur.requests_of(Kind::Load);
            all.iter().filter(|load| load.path.ends_with("litellm") && load.status == Some(500)).count() >= 2
        })
        .await;
        bench.conjur.clear_faults();
        eventually("it goes", || there(&bench) == ["second/a"]).await;
        pushed(&bench, "p").await;
    });
}

#[test]
fn a_change_to_retain_takes_the_finalizer_away_and_one_to_delete_sets_it() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &deletes(&json!({}))).await;
        pushed(&bench, "p").await;
        put(&bench, &push("p", "keys", &json!({ "deletionPolicy": "Retain" }))).await;
        bench.until("no finalizer", "p", |p: &ConjurPush| p.metadata.finalizers.is_none()).await;
        put(&bench, &deletes(&json!({}))).await;
        bench.until("a finalizer", "p", |p: &ConjurPush| p.metadata.finalizers.is_some()).await;
        delete(&bench, "p").await;
        assert!(there(&bench).is_empty());
    });
}

#[test]
fn without_its_connection_the_object_goes_and_says_what_stays() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &deletes(&json!({}))).await;
        pushed(&bench, "p").await;
        untyped(&bench, "ConjurConnection").delete("conjur", &DeleteParams::default()).await.unwrap();
        told(&bench, "p", "ConnectionNotFound", "conjur").await;
        delete(&bench, "p").await;
        bench.events("LeftInConjur", "1 variable").await;
        assert_eq!(there(&bench), ["litellm/a"]);
    });
}

#[test]
fn while_its_connection_fails_the_object_waits_and_retain_lets_it_go() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &deletes(&json!({}))).await;
        pushed(&bench, "p").await;
        fails(&bench).await;
        bench.api::<ConjurPush>().delete("p", &DeleteParams::default()).await.unwrap();
        let message = told(&bench, "p", "ConnectionNotReady", "it is being deleted").await;
        assert!(message.contains("set deletionPolicy to Retain"), "{message}");
        bench.conjur.resume().await.unwrap();
        gone(&bench, "p").await;
        assert!(there(&bench).is_empty());

        put(&bench, &deletes(&json!({}))).await;
        pushed(&bench, "p").await;
        fails(&bench).await;
        bench.api::<ConjurPush>().delete("p", &DeleteParams::default()).await.unwrap();
        told(&bench, "p", "ConnectionNotReady", "it is being deleted").await;
        change(&bench, "p", json!({ "spec": { "deletionPolicy": "Retain" } })).await;
        gone(&bench, "p").await;
        assert_eq!(there(&bench), ["litellm/a"]);
    });
}

#[test]
fn a_namespace_that_goes_does_not_hang() {
    test(|bench| async move {
        owned(&bench).await;
        let namespaces = Api::<Namespace>::all(bench.client.clone());
        for works in [true, false] {
            let other = bench.in_namespace(&format!("{}-{works}", bench.namespace)).await;
            other.connect("host/ops").await;
            secret(&other, "keys", &["a"]).await;
            put(&other, &deletes(&json!({ "prefix": "litellm/{namespace}/" }))).await;
            pushed(&other, "p").await;
            if !works {
                fails(&other).await;
            }
            namespaces.delete(&other.namespace, &DeleteParams::default()).await.unwrap();
            gone(&other, "p").await;
            if !works {
                bench.conjur.resume().await.unwrap();
            }
        }
    });
}

#[test]
fn on_another_server_what_was_pushed_stays_and_is_told() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &deletes(&json!({}))).await;
        pushed(&bench, "p").await;
        let second = Bench {
            conjur: conjur_dev::Server::start(conjur_dev::Options::default()).await.unwrap(),
            ..bench.clone()
        };
        bench.keep_secret(second.conjur.admin_key());
        second.root("- !host ops\n- !policy {id: litellm, owner: !host ops}\n").await;
        second.connect("host/ops").await;
        filled(&second, "litellm/a", &values[0]).await;
        pushed(&bench, "p").await;
        bench.events("LeftInConjur", "1 variable").await;
        delete(&bench, "p").await;
        assert!(there(&second).is_empty());
        assert_eq!(there(&bench), ["litellm/a"]);
        second.conjur.stop().await;
    });
}

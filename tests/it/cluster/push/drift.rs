//! What another writer does to the variables of an object.

use super::super::{
    setup::{change_policy, eventually},
    test,
};
use super::*;

fn looked_at(more: &Value) -> Value {
    let mut all = json!({ "driftCheckInterval": "10s" });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    push("p", "keys", &all)
}

#[test]
fn a_value_that_another_wrote_is_written_again_with_an_event() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &looked_at(&json!({}))).await;
        pushed(&bench, "p").await;
        bench.set("litellm/a");
        filled(&bench, "litellm/a", &values[0]).await;
        bench.events("VariableOverwritten", "litellm/a").await;
        let p = bench
            .until("settled", "p", |p: &ConjurPush| variables(p) == ["litellm/a true 3", "litellm/b true 1"])
            .await;
        assert_eq!(status(&p).variable_count, Some(2));
        assert_eq!(sent(&bench), 3);
        bench.set("litellm/b");
        synced(&bench, "p", "now").await;
        filled(&bench, "litellm/b", &values[1]).await;
    });
}

#[test]
fn with_if_not_exists_a_value_that_another_wrote_is_left() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &looked_at(&json!({ "updatePolicy": "IfNotExists" }))).await;
        pushed(&bench, "p").await;
        let theirs = bench.set("litellm/a");
        let lists = bench.conjur.count(Kind::List);
        eventually("looks", || bench.conjur.count(Kind::List) >= lists + 2).await;
        synced(&bench, "p", "now").await;
        assert_eq!(bench.conjur.variable("litellm/a").as_deref(), Some(theirs.as_bytes()));
        assert!(!has_event(&bench, "VariableOverwritten").await);
        pushed(&bench, "p").await;
    });
}

#[test]
fn a_variable_that_was_removed_is_made_and_filled_again_with_an_event() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &looked_at(&json!({}))).await;
        pushed(&bench, "p").await;
        bench.conjur.clear_requests();
        change_policy(&bench, "- !delete { record: !variable litellm/a }\n").await;
        filled(&bench, "litellm/a", &values[0]).await;
        // A page of the list may be of a moment before it was made: what it lacks is shown alone before it counts as gone.
        let asked = bench.conjur.requests();
        let at = |is_it: &dyn Fn(&conjur_dev::Seen) -> bool| asked.iter().position(is_it);
        let shown = at(&|r| {
            r.kind == Kind::Show && r.path.ends_with("/variable/litellm%2Fa") && r.status == Some(404)
        });
        let loaded = at(&|r| r.kind == Kind::Load && r.path.contains("/policy/litellm"));
        assert!(shown.is_some() && shown < loaded, "{shown:?} {loaded:?}: {asked:?}");
        bench.events("VariableOverwritten", "litellm/a").await;
        assert_eq!(annotation(&bench, "litellm/a", OWNER), Some(owner(&bench, "p").await));
        bench
            .until("settled", "p", |p: &ConjurPush| variables(p) == ["litellm/a true 1", "litellm/b true 1"])
            .await;
        // Also where only its Secret changed, so that nothing was looked at before.
        change_policy(&bench, "- !delete { record: !variable litellm/b }\n").await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        filled(&bench, "litellm/a", &values[0]).await;
        filled(&bench, "litellm/b", &values[1]).await;
        pushed(&bench, "p").await;
    });
}

#[test]
fn without_create_variables_one_that_is_missing_or_was_removed_is_named() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        bench.conjur.load("litellm", "- !variable a\n").await.unwrap();
        put(&bench, &looked_at(&json!({ "createVariables": null }))).await;
        let message = told(&bench, "p", "VariableNotFound", "litellm/b").await;
        assert!(message.contains("spec.createVariables"), "{message}");
        filled(&bench, "litellm/a", &values[0]).await;
        bench.conjur.load("litellm", "- !variable b\n").await.unwrap();
        filled(&bench, "litellm/b", &values[1]).await;
        pushed(&bench, "p").await;
        change_policy(&bench, "- !delete { record: !variable litellm/a }\n").await;
        let message = told(&bench, "p", "VariableNotFound", "litellm/a").await;
        assert!(message.contains("gone") && !message.contains("litellm/b"), "{message}");
        let loads = loads(&bench);
        bench.conjur.load("litellm", "- !variable a\n").await.unwrap();
        filled(&bench, "litellm/a", &values[0]).await;
        let p = pushed(&bench, "p").await;
        assert_eq!(variables(&p), ["litellm/a false 1", "litellm/b false 1"]);
        assert_eq!(self::loads(&bench), loads);
    });
}

#[test]
fn one_that_another_made_anew_and_filled_is_foreign() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        change_policy(&bench, "- !delete { record: !variable litellm/a }\n").await;
        bench.conjur.load("litellm", "- !variable a\n").await.unwrap();
        let theirs = bench.set("litellm/a");
        synced(&bench, "p", "now").await;
        told(&bench, "p", "ForeignVariable", "litellm/a").await;
        secret(&bench, "keys", &["a"]).await;
        synced(&bench, "p", "again").await;
        assert_eq!(bench.conjur.variable("litellm/a").as_deref(), Some(theirs.as_bytes()));
    });
}

#[test]
fn with_an_interval_of_zero_nothing_is_looked_at_until_it_is_asked_for() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({ "driftCheckInterval": "0s" }))).await;
        pushed(&bench, "p").await;
        bench.set("litellm/a");
        synced(&bench, "p", "now").await;
        filled(&bench, "litellm/a", &values[0]).await;
        let values = secret(&bench, "keys", &["a"]).await;
        filled(&bench, "litellm/a", &values[0]).await;
    });
}

#[test]
fn where_an_equal_value_makes_a_version_none_is_sent_that_did_not_change() {
    test(|bench| async move {
        owned(&bench).await;
        bench.conjur.set_version(Some("1.19.0"));
        let values = secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        let before = sent(&bench);
        // The Secret changes, and its values do not.
        put_data(&bench, "keys", &[("some", "label")], &json!({ "a": values[0], "b": values[1] })).await;
        let now: Secret = bench.api().get("keys").await.unwrap();
        let version = now.resource_version();
        bench
            .until("the Secret was looked at", "p", |p: &ConjurPush| {
                status(p).sources.is_some_and(|s| Some(&s[0].resource_version) == version.as_ref())
            })
            .await;
        assert_eq!(sent(&bench), before);
        let new = bench.secret_value("new");
        put_data(&bench, "keys", &[], &json!({ "a": new, "b": values[1] })).await;
        filled(&bench, "litellm/a", &new).await;
        eventually("one was sent", || sent(&bench) == before + 1).await;
    });
}

//! Rights that go and come back, crashes of an identity that may hardly do anything, loads that others have under way, and what a
//! `Replace` may not delete.

use conjur_dev::{Hold, Point};
use conjur_operator::{
    api::{ConjurHost, ConjurPolicy},
    seams::document_hash,
};

use super::super::{
    alone,
    setup::{change_policy, eventually},
    test,
};
use super::*;

fn hold(bench: &Bench, at: Point) -> u64 {
    let path = "/policies/demo/policy/litellm".to_owned();
    bench.conjur.hold(Hold { method: None, path, at, count: Some(1) })
}

async fn held(bench: &Bench) {
    let mut held = bench.conjur.held_changes();
    tokio::time::timeout(SOON, held.wait_for(|held| *held == 1)).await.unwrap().unwrap();
}

fn policy(name: &str, more: &Value) -> Value {
    let mut spec = json!({ "connectionRef": { "name": "conjur" }, "branch": "litellm" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPolicy", "metadata": { "name": name }, "spec": spec })
}

#[test]
fn a_right_that_is_withdrawn_changed_over_a_restart_and_granted_again_counts_when_it_is_there() {
    alone(|bench, mut operator| async move {
        let permit =
            "- !permit {role: !host ops, privileges: [read, update], resource: !variable litellm/a}\n";
        bench
            .root(&format!("- !host ops\n- !policy\n  id: litellm\n  body:\n  - !variable a\n{permit}"))
            .await;
        bench.connect("host/ops").await;
        let first = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({ "createVariables": null }))).await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &first[0]).await;

        let deny = "- !deny {role: !host ops, privileges: [update], resource: !variable litellm/a}\n";
        change_policy(&bench, deny).await;
        secret(&bench, "keys", &["a"]).await;
        let message = told(&bench, "p", "VariableForbidden", "litellm/a").await;
        assert!(message.contains("`update`"), "{message}");
        operator.kill9().await.unwrap();
        let last = secret(&bench, "keys", &["a"]).await;
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        synced(&bench, "p", "after the start").await;
        told(&bench, "p", "VariableForbidden", "litellm/a").await;
        assert_eq!(bench.conjur.variable("litellm/a").as_deref(), Some(first[0].as_bytes()));
        bench.root(permit).await;
        synced(&bench, "p", "granted").await;
        filled(&bench, "litellm/a", &last[0]).await;
        let p = pushed(&bench, "p").await;
        assert_eq!(variables(&p), ["litellm/a false 2"]);
    });
}

#[test]
fn no_load_goes_into_a_branch_where_a_policy_announced_one() {
    alone(|bench, mut operator| async move {
        owned(&bench).await;
        let gate = hold(&bench, Point::BeforeCommit);
        let makes = json!({ "document": "- !host bot\n", "createdRoles": { "secretName": "roles" } });
        put(&bench, &policy("roles", &makes)).await;
        held(&bench).await;
        // Whether it was loaded no one knows: the operator that sent it is dead.
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        bench.says::<ConjurPolicy>("roles", "LoadInProgress").await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        told(&bench, "p", "LoadInProgress", "litellm").await;
        // Elsewhere it hinders no one.
        let second = json!({ "prefix": "second/", "createVariables": { "branch": "second" } });
        put(&bench, &push("q", "keys", &second)).await;
        pushed(&bench, "q").await;
        assert!(!bench.conjur.exists("variable", "litellm/a"));
        bench.conjur.release(gate);
        bench.ready::<ConjurPolicy>("roles").await;
        bench.keep_secret(bench.conjur.api_key_of("host/litellm/bot").unwrap());
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
    });
}

#[test]
fn an_identity_that_may_only_create_fills_what_it_makes_whenever_the_operator_dies() {
    alone(|bench, mut operator| async move {
        bench
            .root(
                "- !host ops\n- !policy litellm\n\
                 - !permit {role: !host ops, privileges: [read, create], resource: !policy litellm}\n",
            )
            .await;
        bench.connect("host/ops").await;
        // The first load makes the variable, and the second says whose it is.
        for (nth, (load, at)) in [
            (1, Point::BeforeCommit),
            (1, Point::AfterCommit),
            (2, Point::BeforeCommit),
            (2, Point::AfterCommit),
        ]
        .into_iter()
        .enumerate()
        {
            let key = format!("k{nth}");
            let values = secret(&bench, &key, &[&key]).await;
            let before = (load == 2).then(|| hold(&bench, Point::AfterCommit));
            let gate = if before.is_none() { hold(&bench, at) } else { 0 };
            put(&bench, &push(&key, &key, &json!({}))).await;
            held(&bench).await;
            let gate = if let Some(before) = before {
                let gate = hold(&bench, at);
                bench.conjur.release(before);
                let mut held = bench.conjur.held_changes();
                let second = || bench.conjur.requests_of(Kind::Load).len() >= 2;
                eventually("the second load", second).await;
                tokio::time::timeout(SOON, held.wait_for(|held| *held == 1)).await.unwrap().unwrap();
                gate
            } else {
                gate
            };
            operator.kill9().await.unwrap();
            bench.conjur.release(gate);
            operator.restart().await.unwrap();
            pushed(&bench, &key).await;
            let id = format!("litellm/{key}");
            filled(&bench, &id, &values[0]).await;
            assert_eq!(annotation(&bench, &id, OWNER), Some(owner(&bench, &key).await), "load {load} {at:?}");
            bench.conjur.clear_requests();
        }
    });
}

#[test]
fn where_an_equal_value_makes_a_version_a_restart_sends_none_that_is_there() {
    alone(|bench, mut operator| async move {
        bench.conjur.set_version(Some("1.19.0"));
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        operator.kill9().await.unwrap();
        // The Secret has another version, and of its values one is new.
        let new = bench.secret_value("new");
        put_data(&bench, "keys", &[("some", "label")], &json!({ "a": new, "b": values[1] })).await;
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        filled(&bench, "litellm/a", &new).await;
        let p = bench
            .until("settled", "p", |p: &ConjurPush| variables(p) == ["litellm/a true 2", "litellm/b true 1"])
            .await;
        assert_eq!((status(&p).variable_count, sent(&bench)), (Some(2), 1));
        assert_eq!(bench.conjur.variable_versions("litellm/b"), Some(1));
    });
}

#[test]
fn no_replace_deletes_what_a_push_or_a_host_keeps_whatever_is_allowed() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        let host = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurHost", "metadata": { "name": "web" },
            "spec": { "connectionRef": { "name": "conjur" }, "id": "litellm/web" },
        });
        put(&bench, &host).await;
        bench.ready::<ConjurHost>("web").await;
        let key = bench.conjur.api_key_of("host/litellm/web");
        bench.keep_secret(key.clone().unwrap());
        bench.conjur.load("litellm", "- !variable theirs\n").await.unwrap();
        bench.set("litellm/theirs");

        for (name, document, kept) in [
            ("nothing", "- !variable new\n", vec!["litellm/a", "litellm/web"]),
            ("no-variable", "- !variable new\n- !host web\n", vec!["litellm/a"]),
            ("no-host", "- !variable new\n- !variable a\n", vec!["litellm/web"]),
        ] {
            let roles = json!({ "secretName": format!("roles-{name}") });
            put(
                &bench,
                &policy(name, &json!({ "mode": "Replace", "document": document, "createdRoles": roles })),
            )
            .await;
            bench.says::<ConjurPolicy>(name, "DeletionsNotAllowed").await;
            let hash = document_hash(document.as_bytes());
            let allow = format!("conjur-operator.io/allow-deletions={hash}");
            bench.kubectl(&["annotate", "conjurpolicy", name, &allow]).await;
            for id in kept {
                let names = |p: &ConjurPolicy| {
                    super::super::Told::told(p)
                        .1
                        .iter()
                        .any(|c| c.reason == "DeletionsNotAllowed" && c.message.contains(id))
                };
                bench.until::<ConjurPolicy>(&format!("{id} is named"), name, names).await;
            }
            // It is looked at with what is allowed by the time that another one is done that came later.
            let barrier = json!({ "branch": "second", "document": format!("- !variable {name}\n") });
            put(&bench, &policy(&format!("barrier-{name}"), &barrier)).await;
            bench.ready::<ConjurPolicy>(&format!("barrier-{name}")).await;
            bench.says::<ConjurPolicy>(name, "DeletionsNotAllowed").await;
            assert!(!bench.conjur.exists("variable", "litellm/new"), "{name}");
            bench.kubectl(&["delete", "conjurpolicy", name]).await;
        }
        assert_eq!(bench.conjur.variable("litellm/a").as_deref(), Some(values[0].as_bytes()));
        assert_eq!(bench.conjur.api_key_of("host/litellm/web"), key);
        assert!(bench.conjur.exists("variable", "litellm/theirs"));
    });
}

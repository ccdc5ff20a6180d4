//! Variables are made where they are missing, with what belongs to them.

use std::time::{Duration, Instant};

use conjur_dev::{Hold, Point};
use conjur_operator::api::ConjurPolicy;

use super::super::{setup::eventually, test};
use super::*;

#[test]
fn what_a_secret_holds_is_in_conjur_in_variables_that_say_whose_they_are() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["OPENAI", "virtual.one"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let p = pushed(&bench, "p").await;
        let me = owner(&bench, "p").await;
        for (key, value) in ["OPENAI", "virtual.one"].iter().zip(&values) {
            let id = format!("litellm/{key}");
            filled(&bench, &id, value).await;
            assert_eq!(annotation(&bench, &id, OWNER).as_ref(), Some(&me));
            assert_eq!(annotation(&bench, &id, CREATED).as_deref(), Some("true"));
        }
        assert_eq!(variables(&p), ["litellm/OPENAI true 1", "litellm/virtual.one true 1"]);
        let said = status(&p);
        assert_eq!((said.variable_count, said.skipped), (Some(2), None));
        assert!(said.last_push_time.is_some());
        let source = &said.sources.unwrap()[0];
        let now: Secret = bench.api().get("keys").await.unwrap();
        assert_eq!(
            (source.name.as_str(), Some(&source.resource_version)),
            ("keys", now.resource_version().as_ref())
        );
        assert_eq!((loads(&bench), sent(&bench)), (1, 2));
        let table = bench.kubectl(&["get", "cjpush", "p"]).await;
        let (header, row) = table.split_once('\n').unwrap();
        let header: Vec<&str> = header.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        assert_eq!(header, ["NAME", "READY", "REASON", "VARIABLES", "LAST PUSH", "AGE"], "{table}");
        let row: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(&row[..4], ["p", "True", "Pushed", "2"], "{row:?}");
        let is_age =
            |text: &str| text.ends_with('s') && text.starts_with(|first: char| first.is_ascii_digit());
        assert!(row.len() == 6 && is_age(row[4]) && is_age(row[5]), "{row:?}");
        nothing_in_policies(&bench, &values);
    });
}

#[test]
fn what_many_objects_lack_in_one_branch_goes_into_one_load() {
    test(|bench| async move {
        const OBJECTS: usize = 40;
        owned(&bench).await;
        let mut values = Vec::new();
        for at in 0..OBJECTS {
            values.push(secret(&bench, &format!("keys-{at}"), &["a", "b"]).await);
        }
        let began = Instant::now();
        for at in 0..OBJECTS {
            let more = json!({ "prefix": "litellm/{secret}." });
            put(&bench, &push(&format!("p{at}"), &format!("keys-{at}"), &more)).await;
        }
        for (at, values) in values.iter().enumerate() {
            pushed(&bench, &format!("p{at}")).await;
            filled(&bench, &format!("litellm/keys-{at}.a"), &values[0]).await;
            filled(&bench, &format!("litellm/keys-{at}.b"), &values[1]).await;
        }
        let most = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
        let loads = loads(&bench);
        assert!(loads <= most.min(OBJECTS / 2), "{loads} loads in {most} s");
        assert_eq!(sent(&bench), 2 * OBJECTS);
        nothing_in_policies(&bench, &values.concat());
    });
}

fn reads(role: &str) -> Value {
    json!([{ "role": role, "privileges": ["read", "execute"] }])
}

/// What a role may do with a variable, by permits.
fn may(bench: &Bench, role: &str, id: &str) -> Vec<String> {
    let all = bench.conjur.permits("variable", id).into_iter();
    all.filter(|permit| permit.role == format!("demo:{role}")).map(|permit| permit.privilege).collect()
}

#[test]
fn annotations_and_permits_reach_what_is_made_and_follow_the_spec() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a"]).await;
        let with = |annotations: Value, permit: Value| json!({ "createVariables": { "branch": "litellm", "annotations": annotations, "permit": permit } });
        let odd = "it's \"quoted\": {{x}} # - !delete\n- !host evil";
        let first = with(json!({ "team": "ai", "odd": odd }), reads("host/reader"));
        put(&bench, &push("p", "keys", &first)).await;
        pushed(&bench, "p").await;
        assert_eq!(annotation(&bench, "litellm/a", "team").as_deref(), Some("ai"));
        assert_eq!(annotation(&bench, "litellm/a", "odd").as_deref(), Some(odd));
        assert!(!bench.conjur.exists("host", "litellm/evil"));
        assert_eq!(may(&bench, "host:reader", "litellm/a"), ["execute", "read"]);

        // Someone gave another role something: that is not this object's to take back.
        let theirs = "- !permit {role: !host /other, privileges: [read], resource: !variable a}\n";
        bench.conjur.load("litellm", theirs).await.unwrap();
        secret(&bench, "keys", &["a", "b"]).await;
        let permit = json!([
            { "role": "host/reader", "privileges": ["read"] },
            { "role": "host/ops", "privileges": ["update"] },
        ]);
        put(&bench, &push("p", "keys", &with(json!({ "team": "platform" }), permit))).await;
        for id in ["litellm/a", "litellm/b"] {
            eventually("the change", || {
                annotation(&bench, id, "team").as_deref() == Some("platform")
                    && may(&bench, "host:reader", id) == ["read"]
                    && may(&bench, "host:ops", id) == ["update"]
            })
            .await;
        }
        assert_eq!(may(&bench, "host:other", "litellm/a"), ["read"]);
        bench.events("LeftInConjur", "odd").await;
        assert_eq!(annotation(&bench, "litellm/a", "odd").as_deref(), Some(odd));
        let p = pushed(&bench, "p").await;
        assert_eq!(variables(&p), ["litellm/a true 2", "litellm/b true 1"]);
        let (loaded, sent) = (loads(&bench), sent(&bench));

        put(&bench, &push("p", "keys", &json!({}))).await;
        eventually("all is taken back", || may(&bench, "host:reader", "litellm/b").is_empty()).await;
        assert!(may(&bench, "host:ops", "litellm/a").is_empty());
        assert_eq!(may(&bench, "host:other", "litellm/a"), ["read"]);
        pushed(&bench, "p").await;
        assert_eq!((loads(&bench), self::sent(&bench)), (loaded + 1, sent));
    });
}

/// The branch `litellm`, which the host that the connection is may merely load.
async fn loaded(bench: &Bench) {
    bench
        .root(
            "- !host ops\n- !host reader\n- !policy litellm\n\
             - !permit {role: !host ops, privileges: [read, create, update], resource: !policy litellm}\n",
        )
        .await;
    bench.connect("host/ops").await;
}

#[test]
fn who_may_load_a_branch_and_not_own_it_makes_variables_with_two_loads() {
    test(|bench| async move {
        loaded(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        let more = json!({ "createVariables": { "branch": "litellm", "permit": reads("host/reader") } });
        put(&bench, &push("p", "keys", &more)).await;
        let p = pushed(&bench, "p").await;
        let me = owner(&bench, "p").await;
        for (id, value) in ["litellm/a", "litellm/b"].iter().zip(&values) {
            filled(&bench, id, value).await;
            assert_eq!(annotation(&bench, id, OWNER).as_ref(), Some(&me));
            assert_eq!(annotation(&bench, id, CREATED).as_deref(), Some("true"));
            assert_eq!(may(&bench, "host:ops", id), ["read", "update"], "and not to read values");
            assert_eq!(may(&bench, "host:reader", id), ["execute", "read"]);
        }
        assert_eq!(variables(&p), ["litellm/a true 1", "litellm/b true 1"]);
        assert_eq!(loads(&bench), 2);
        let values = secret(&bench, "keys", &["a", "b"]).await;
        filled(&bench, "litellm/a", &values[0]).await;
        filled(&bench, "litellm/b", &values[1]).await;
        assert_eq!(loads(&bench), 2);
    });
}

/// Who merely may load the branch has made the variables when what says whose they are is refused.
#[test]
fn what_was_made_bare_is_filled_only_when_it_says_whose_it_is() {
    test(|bench| async move {
        loaded(&bench).await;
        let path = "/policies/demo/policy/litellm".to_owned();
        let _held = bench.conjur.hold(Hold { method: None, path, at: Point::BeforeCommit, count: Some(1) });
        secret(&bench, "first", &["first"]).await;
        put(&bench, &push("first", "first", &json!({}))).await;
        let mut held = bench.conjur.held_changes();
        tokio::time::timeout(SOON, held.wait_for(|held| *held == 1)).await.unwrap().unwrap();
        let with = |role: &str| json!({ "createVariables": { "branch": "litellm", "permit": reads(role) }, "deletionPolicy": "Delete" });
        let mut values = Vec::new();
        for (name, role) in [("good", "host/reader"), ("guilty", "host/nobody"), ("also", "host/reader")] {
            values.push(secret(&bench, name, &[name]).await.remove(0));
            put(&bench, &push(name, name, &with(role))).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        bench.conjur.release_all();
        for (name, value) in [("good", &values[0]), ("also", &values[2])] {
            pushed(&bench, name).await;
            let id = format!("litellm/{name}");
            filled(&bench, &id, value).await;
            assert_eq!(annotation(&bench, &id, OWNER), Some(owner(&bench, name).await));
            assert_eq!(may(&bench, "host:reader", &id), ["execute", "read"]);
        }
        told(&bench, "guilty", "PolicyInvalid", "nobody").await;
        synced(&bench, "guilty", "again").await;
        assert_eq!(bench.conjur.variable("litellm/guilty"), None, "a value before it says whose it is");
        put(&bench, &push("guilty", "guilty", &with("host/reader"))).await;
        let p = pushed(&bench, "guilty").await;
        filled(&bench, "litellm/guilty", &values[1]).await;
        assert_eq!(variables(&p), ["litellm/guilty true 1"]);
        assert_eq!(annotation(&bench, "litellm/guilty", CREATED).as_deref(), Some("true"));
        assert_eq!(may(&bench, "host:reader", "litellm/guilty"), ["execute", "read"]);
        delete(&bench, "guilty").await;
        assert!(!bench.conjur.exists("variable", "litellm/guilty"));
    });
}

#[test]
fn a_permit_reaches_also_what_gets_no_value_now() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        put_data(&bench, "keys", &[], &json!({ "a": values[0], "b": " " })).await;
        told(&bench, "p", "EmptyValue", "'b'").await;
        let more = json!({ "createVariables": { "branch": "litellm", "permit": reads("host/reader") } });
        put(&bench, &push("p", "keys", &more)).await;
        for id in ["litellm/a", "litellm/b"] {
            eventually(id, || may(&bench, "host:reader", id) == ["execute", "read"]).await;
        }
        let loaded = loads(&bench);
        put(&bench, &push("p", "keys", &json!({}))).await;
        for id in ["litellm/a", "litellm/b"] {
            eventually(id, || may(&bench, "host:reader", id).is_empty()).await;
        }
        synced(&bench, "p", "again").await;
        assert_eq!(loads(&bench), loaded + 1);
        assert_eq!(bench.conjur.variable("litellm/b").as_deref(), Some(values[1].as_bytes()));
    });
}

#[test]
fn a_branch_that_is_missing_is_named_and_waited_for() {
    test(|bench| async move {
        bench.root("- !host ops\n").await;
        bench.connect("host/ops").await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let message = told(&bench, "p", "BranchNotFound", "litellm").await;
        assert!(message.contains("host/ops"), "{message}");
        bench.root("- !policy {id: litellm, owner: !host ops}\n").await;
        synced(&bench, "p", "now").await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
    });
}

#[test]
fn who_may_not_load_the_branch_is_told_what_to_permit() {
    test(|bench| async move {
        bench
            .root(
                "- !host ops\n- !policy litellm\n\
                 - !permit {role: !host ops, privileges: [read], resource: !policy litellm}\n",
            )
            .await;
        bench.connect("host/ops").await;
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let message = told(&bench, "p", "PolicyForbidden", "litellm").await;
        assert!(message.contains("!host ops") && message.contains("create"), "{message}");
        assert!(message.contains("read all of it"), "{message}");
        assert!(!bench.conjur.exists("variable", "litellm/a"));
    });
}

#[test]
fn an_id_outside_of_the_branch_is_refused_and_the_others_are_pushed() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        let data = json!([{ "key": "a", "variable": "litellm/a" }, { "key": "b", "variable": "second/b" }]);
        put(&bench, &push("p", "keys", &json!({ "prefix": null, "data": data }))).await;
        let message = told(&bench, "p", "InvalidSpec", "second/b").await;
        assert!(message.contains("branch litellm"), "{message}");
        filled(&bench, "litellm/a", &values[0]).await;
        assert!(!bench.conjur.exists("variable", "second/b"));
        // Below the root all ids lie; who owns it makes them there.
        bench.connect("admin").await;
        let more = json!({ "prefix": null, "data": [{ "key": "b", "variable": "top" }], "createVariables": { "branch": "root" } });
        put(&bench, &push("q", "keys", &more)).await;
        pushed(&bench, "q").await;
        filled(&bench, "top", &values[1]).await;
    });
}

#[test]
fn of_those_that_share_a_load_the_guilty_one_is_told_alone() {
    test(|bench| async move {
        owned(&bench).await;
        let path = "/policies/demo/policy/litellm".to_owned();
        let _held = bench.conjur.hold(Hold { method: None, path, at: Point::BeforeCommit, count: Some(1) });
        secret(&bench, "first", &["first"]).await;
        put(&bench, &push("first", "first", &json!({}))).await;
        let mut held = bench.conjur.held_changes();
        tokio::time::timeout(SOON, held.wait_for(|held| *held == 1)).await.unwrap().unwrap();
        // By the time that the branch is free all these wait for it.
        for at in 0..6 {
            secret(&bench, &format!("keys-{at}"), &[&format!("k{at}")]).await;
            let permit = reads(if at == 3 { "host/nobody" } else { "host/reader" });
            let more = json!({ "createVariables": { "branch": "litellm", "permit": permit } });
            put(&bench, &push(&format!("p{at}"), &format!("keys-{at}"), &more)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        bench.conjur.release_all();
        for at in (0..6).filter(|at| *at != 3) {
            pushed(&bench, &format!("p{at}")).await;
        }
        let message = told(&bench, "p3", "PolicyInvalid", "nobody").await;
        assert!(message.contains("litellm"), "{message}");
        assert!(!bench.conjur.exists("variable", "litellm/k3"));

        // From now on it loads alone, and hinders no others.
        let before = loads(&bench);
        synced(&bench, "p3", "again").await;
        eventually("it tried again", || loads(&bench) > before).await;
        put(&bench, &push("p3", "keys-3", &json!({}))).await;
        pushed(&bench, "p3").await;
    });
}

#[test]
fn a_branch_that_a_policy_replaces_takes_no_variables() {
    test(|bench| async move {
        owned(&bench).await;
        let policy = |mode: &str| {
            json!({
                "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPolicy", "metadata": { "name": "all" },
                "spec": {
                    "connectionRef": { "name": "conjur" }, "branch": "litellm", "mode": mode,
                    "document": "- !variable kept\n- !policy below\n",
                },
            })
        };
        put(&bench, &policy("Replace")).await;
        bench.ready::<ConjurPolicy>("all").await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let message = told(&bench, "p", "BranchTaken", "litellm").await;
        assert!(message.contains("a branch below it"), "{message}");
        assert!(!bench.conjur.exists("variable", "litellm/a"));
        let below = json!({ "prefix": "litellm/below/", "createVariables": { "branch": "litellm/below" } });
        put(&bench, &push("below", "keys", &below)).await;
        pushed(&bench, "below").await;
        filled(&bench, "litellm/below/a", &values[0]).await;
        put(&bench, &policy("Update")).await;
        bench.ready::<ConjurPolicy>("all").await;
        synced(&bench, "p", "now").await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
    });
}

#[test]
fn while_another_load_of_the_branch_is_under_way_it_is_waited_for() {
    test(|bench| async move {
        owned(&bench).await;
        let busy = Effect::Status { status: 409, retry_after: Some(1) };
        bench.conjur.fault(fault("/policies/", Some(2), When::Before, busy));
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
        assert_eq!(loads(&bench), 3);
    });
}

#[test]
fn a_load_whose_answer_is_lost_makes_each_variable_once_and_all_are_filled() {
    test(|bench| async move {
        owned(&bench).await;
        bench.conjur.fault(fault("/policies/", Some(1), When::After, Effect::Reset));
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let p = pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
        assert_eq!(variables(&p), ["litellm/a true 1"]);
        assert_eq!(loads(&bench), 1, "what was made is there, and is not made again");
    });
}

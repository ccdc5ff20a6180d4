//! kill -9 of the operator before, during and right after a load, and what it finds when it is back.

use conjur_dev::{Effect, Fault, Kind, Point, When};
use conjur_operator::api::ConjurPolicy;
use testbed::wait_for;

use super::super::{Bench, SOON, alone};
use super::{
    billing, held, hold, keys_in, keys_work, load_fault, old_host_is_untouched, policy, settled, status,
    version,
};

const DOCUMENT: &str = "- !host old\n- !host web\n- !user alice\n";

async fn a_load_is_under_way(bench: &Bench) {
    wait_for("a load", SOON, || async { (bench.conjur.count(Kind::Load) > 0).then_some(()) }).await.unwrap();
}

fn announced(bench: &Bench) -> usize {
    bench.conjur.requests().iter().filter(|r| r.kind == Kind::Load).count()
}

async fn all_is_well(bench: &Bench) {
    let object = bench.ready::<ConjurPolicy>("p").await;
    keys_work(bench, "roles", &["web"]).await;
    let alice = bench.data("roles").await.unwrap().remove("user.alice_40billing.api-key");
    assert!(alice.is_some() && alice == bench.conjur.api_key_of("alice@billing"));
    bench.keep_secret(alice.unwrap());
    old_host_is_untouched(bench);
    let made = ["demo:host:billing/web", "demo:user:alice@billing"];
    assert_eq!(status(&object).created_roles.unwrap(), made);
    assert_eq!(status(&object).version, i64::try_from(version(bench, "billing")).ok());
}

#[test]
fn a_kill_before_the_load_reaches_conjur_loses_nothing() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        bench.conjur.fault(load_fault(1, When::Before, Effect::Stall));
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        a_load_is_under_way(&bench).await;
        assert!(bench.data("roles").await.unwrap().contains_key("pending.json"));
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        all_is_well(&bench).await;
        assert_eq!(version(&bench, "billing"), 1);
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0), "no rotation was needed");
        bench.events("Loaded", "version 1").await;
        assert!(!super::told(&bench, "KeyRotated").await);
    });
}

#[test]
fn a_kill_while_conjur_loads_loses_no_key() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let gate = hold(&bench, Point::BeforeCommit);
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        // The server goes on with it: the branch is busy.
        bench.says::<ConjurPolicy>("p", "LoadInProgress").await;
        bench.conjur.release(gate);
        all_is_well(&bench).await;
        assert_eq!(version(&bench, "billing"), 1, "it was found out that it was loaded");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1));
    });
}

#[test]
fn a_load_that_commits_while_it_is_being_looked_for_is_not_missed() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let gate = hold(&bench, Point::BeforeCommit);
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        // The roles are looked for first, and are absent; then the versions, which come late.
        let branch = "/resources/demo/policy/billing";
        let late = Effect::Latency { millis: 1000 };
        bench.conjur.fault(Fault {
            method: None,
            path: branch.into(),
            count: None,
            when: When::Before,
            effect: late,
        });
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        wait_for("a look at the versions", SOON, || async {
            bench.conjur.requests().iter().any(|r| r.path == branch && r.status.is_none()).then_some(())
        })
        .await
        .unwrap();
        bench.conjur.release(gate);
        all_is_well(&bench).await;
        assert_eq!(version(&bench, "billing"), 1);
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1));
        bench.conjur.clear_faults();
    });
}

#[test]
fn a_kill_right_after_the_load_loses_no_key() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let _gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        all_is_well(&bench).await;
        assert_eq!(version(&bench, "billing"), 1, "it was found out that it was loaded");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1));
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        settled(&bench, "later").await;
        all_is_well(&bench).await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1), "a stored key is never rotated");
    });
}

#[test]
fn a_kill_between_rotation_and_storing_loses_no_key() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        bench.conjur.fault(load_fault(1, When::After, Effect::Reset));
        bench.conjur.fault(Fault {
            method: Some("PUT".into()),
            path: "/authn/demo/api_key".into(),
            count: Some(1),
            when: When::After,
            effect: Effect::Stall,
        });
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        wait_for("a rotation", SOON, || async {
            let logins = ["host/billing/web", "alice@billing"];
            logins.iter().any(|l| bench.conjur.key_generation(l) == Some(1)).then_some(())
        })
        .await
        .unwrap();
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        all_is_well(&bench).await;
        assert_eq!(version(&bench, "billing"), 1);
    });
}

#[test]
fn a_document_that_is_edited_between_crash_and_restart_keeps_the_keys_of_both() {
    for at in [Point::BeforeCommit, Point::AfterCommit] {
        alone(|bench, mut operator| async move {
            billing(&bench).await;
            let gate = hold(&bench, at);
            bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
            held(&bench, 1).await;
            operator.kill9().await.unwrap();
            bench.apply(&policy("p", &keys_in("roles"), "- !host old\n- !host two\n")).await;
            operator.restart().await.unwrap();
            if at == Point::BeforeCommit {
                bench.says::<ConjurPolicy>("p", "LoadInProgress").await;
                bench.conjur.release(gate);
            }
            bench.ready::<ConjurPolicy>("p").await;
            keys_work(&bench, "roles", &["web", "two"]).await;
            old_host_is_untouched(&bench);
            assert_eq!(version(&bench, "billing"), 2);
            assert_eq!(bench.conjur.key_generation("host/billing/two"), Some(0));
        });
    }
}

#[test]
fn a_login_that_is_changed_between_crash_and_restart_repeats_no_load() {
    alone(|bench, mut operator| async move {
        bench
            .root(
                "- !host ops\n- !host next\n- !group owners\n- !policy {id: billing, owner: !group owners}\n",
            )
            .await;
        bench.root("- !grant {role: !group owners, members: [!host ops, !host next]}\n").await;
        bench.connect("host/ops").await;
        let gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", "", "- !variable v\n")).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        bench.conjur.release(gate);
        let key = bench.conjur.api_key_of("host/next").unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        bench.apply(&bench.connection("conjur", "host/next")).await;
        operator.restart().await.unwrap();
        let p = bench.ready::<ConjurPolicy>("p").await;
        assert_eq!((status(&p).version, version(&bench, "billing")), (Some(1), 1));
    });
}

#[test]
fn a_mode_that_is_changed_between_crash_and_restart_is_loaded_too() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let _gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        bench.conjur.load("billing", "- !variable by-another\n").await.unwrap();
        bench.apply(&policy("p", &format!("mode: Append\n{}", keys_in("roles")), DOCUMENT)).await;
        operator.restart().await.unwrap();
        all_is_well(&bench).await;
        assert_eq!(version(&bench, "billing"), 3);
    });
}

#[test]
fn a_branch_that_is_changed_between_crash_and_restart_leaves_no_key_behind() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        bench.root("- !policy {id: other, owner: !host ops}\n").await;
        let gate = hold(&bench, Point::BeforeCommit);
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        let elsewhere = format!("branch: other\n{}", keys_in("roles"));
        bench.apply(&policy("p", &elsewhere, "- !host two\n")).await;
        operator.restart().await.unwrap();
        let message = bench.says::<ConjurPolicy>("p", "LoadInProgress").await;
        assert!(message.contains("branch billing was announced before spec.branch was changed"), "{message}");
        bench.conjur.release(gate);
        wait_for("the first load", SOON, || async { (version(&bench, "billing") == 1).then_some(()) })
            .await
            .unwrap();
        // Anything that makes it look again.
        bench.kubectl(&["annotate", "conjurpolicy", "p", "look=again"]).await;
        bench.ready::<ConjurPolicy>("p").await;
        let data = bench.data("roles").await.unwrap();
        assert!(data["host.other_2ftwo.api-key"] == bench.conjur.api_key_of("host/other/two").unwrap());
        keys_work(&bench, "roles", &["web"]).await;
        assert_eq!(announced(&bench), 2);
    });
}

#[test]
fn another_secret_name_between_crash_and_restart_is_refused_until_the_load_is_resolved() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let _gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        bench.apply(&policy("p", &keys_in("elsewhere"), DOCUMENT)).await;
        operator.restart().await.unwrap();
        let message = bench.says::<ConjurPolicy>("p", "KeyNotStored").await;
        assert!(message.contains("set spec.createdRoles.secretName back to roles"), "{message}");
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        all_is_well(&bench).await;
        assert_eq!(version(&bench, "billing"), 1);
    });
}

#[test]
fn a_host_that_a_stranger_makes_after_the_announcement_keeps_its_key() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        bench.conjur.fault(load_fault(1, When::Before, Effect::Stall));
        bench.apply(&policy("p", &keys_in("roles"), DOCUMENT)).await;
        a_load_is_under_way(&bench).await;
        operator.kill9().await.unwrap();
        let theirs = bench.conjur.load("billing", "- !host web\n").await.unwrap();
        operator.restart().await.unwrap();
        let object = bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(bench.conjur.api_key_of("host/billing/web").as_ref(), theirs.get("demo:host:billing/web"));
        assert_eq!(status(&object).created_roles.unwrap(), ["demo:user:alice@billing"]);
        old_host_is_untouched(&bench);
        operator.restart().await.unwrap();
        settled(&bench, "later").await;
        bench.ready::<ConjurPolicy>("p").await;
    });
}

#[test]
fn a_load_without_roles_is_not_repeated_after_a_crash() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let _gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", "", "- !variable one\n")).await;
        held(&bench, 1).await;
        assert!(status(&bench.api().get("p").await.unwrap()).pending.is_some());
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        let object = bench.ready::<ConjurPolicy>("p").await;
        assert_eq!((status(&object).pending, status(&object).version), (None, Some(1)));
        assert_eq!(version(&bench, "billing"), 1);
    });
}

#[test]
fn a_load_whose_outcome_may_not_be_read_is_repeated_and_says_so() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        bench.conjur.fault(Fault {
            method: Some("GET".into()),
            path: "/resources/demo/policy/billing".into(),
            count: None,
            when: When::Before,
            effect: Effect::Status { status: 403, retry_after: None },
        });
        let _gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", "", "- !variable one\n")).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        let message = bench.says::<ConjurPolicy>("p", "Loaded").await;
        assert!(
            message.contains("loaded again, since the outcome of an earlier try can't be read"),
            "{message}"
        );
        assert_eq!(version(&bench, "billing"), 2);
        operator.restart().await.unwrap();
        settled(&bench, "later").await;
        assert_eq!(version(&bench, "billing"), 2, "and then no more");
        bench.conjur.clear_faults();
    });
}

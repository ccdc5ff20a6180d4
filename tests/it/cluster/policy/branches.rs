//! One load at a time on a branch, and none holds up anything else.

use conjur_dev::{Effect, Hold, Point, When};
use conjur_operator::api::{ConjurPolicy, ConjurSecret};

use super::super::{
    Bench,
    setup::{eventually, project, put},
    test,
};
use super::{billing, held, hold, keys_in, keys_work, load_fault, loads, policy, settled, version};

#[test]
fn two_policies_of_one_branch_are_loaded_one_after_the_other() {
    test(|bench| async move {
        billing(&bench).await;
        let path = "/policies/demo/policy/billing".to_owned();
        let all = bench.conjur.hold(Hold { method: None, path, at: Point::BeforeCommit, count: None });
        bench.apply(&policy("p", &keys_in("p-roles"), "- !host p\n")).await;
        bench.apply(&policy("q", &keys_in("q-roles"), "- !host q\n")).await;
        held(&bench, 1).await;
        settled(&bench, "other-branch").await;
        assert_eq!(loads(&bench), 2, "one of this branch, and the one that shows that time went by");
        bench.conjur.release(all);
        bench.ready::<ConjurPolicy>("p").await;
        bench.ready::<ConjurPolicy>("q").await;
        let busy = bench.conjur.requests().iter().filter(|r| r.status == Some(409)).count();
        assert_eq!(busy, 0, "the server never saw two at once");
        keys_work(&bench, "p-roles", &["p"]).await;
        keys_work(&bench, "q-roles", &["q"]).await;
        assert_eq!(version(&bench, "billing"), 2);
    });
}

#[test]
fn a_strangers_load_is_waited_for() {
    test(|bench| async move {
        billing(&bench).await;
        let gate = bench.conjur.hold(Hold {
            method: None,
            path: String::new(),
            at: Point::BeforeCommit,
            count: Some(1),
        });
        let conjur = bench.conjur.clone();
        let stranger =
            tokio::spawn(async move { conjur.load("billing", "- !host web\n- !variable theirs\n").await });
        held(&bench, 1).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n- !host mine\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "LoadInProgress").await;
        assert!(message.contains("policy branch billing is busy"), "{message}");
        bench.conjur.release(gate);
        let theirs = stranger.await.unwrap().unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["mine"]).await;
        assert_eq!(bench.conjur.api_key_of("host/billing/web").as_ref(), theirs.get("demo:host:billing/web"));
        assert_eq!(bench.data("roles").await.unwrap().len(), 2, "the stranger's host needs no key from us");
    });
}

#[test]
fn a_long_load_does_not_hold_up_secrets() {
    test(|bench| async move {
        billing(&bench).await;
        bench
            .root(
                "- !permit {role: !host ops, privileges: [read, execute], resource: !variable billing/old}\n",
            )
            .await;
        let value = bench.set("billing/old");
        let gate = hold(&bench, Point::BeforeCommit);
        bench.apply(&policy("p", "", "- !variable one\n")).await;
        held(&bench, 1).await;
        let started = std::time::Instant::now();
        let mut made = 0;
        while started.elapsed() < std::time::Duration::from_secs(3) {
            let name = format!("s{made}");
            let data = serde_json::json!([{ "key": "v", "variable": "billing/old" }]);
            put(&bench, &project(&name, &[], &serde_json::json!({ "data": data }))).await;
            bench.ready::<ConjurSecret>(&name).await;
            bench.holds(&name, &[("v", &value)]).await;
            made += 1;
        }
        assert!(made > 1);
        assert_eq!(bench.conjur.held(), 1, "the load went on all the time");
        bench.conjur.release(gate);
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!((loads(&bench), version(&bench, "billing")), (1, 1));
    });
}

/// The documents that were loaded into `billing`.
fn texts(bench: &Bench) -> Vec<String> {
    bench.conjur.policy_versions("billing").into_iter().map(|v| v.text).collect()
}

#[test]
fn what_is_changed_while_it_waits_for_its_turn_is_not_loaded_as_it_was() {
    test(|bench| async move {
        billing(&bench).await;
        let gate = hold(&bench, Point::BeforeCommit);
        bench.apply(&policy("p", "", "- !variable p\n")).await;
        held(&bench, 1).await;
        for name in ["suspended", "deleted", "edited"] {
            bench.apply(&policy(name, "", &format!("- !variable {name}\n"))).await;
        }
        for name in ["suspended", "deleted", "edited"] {
            let message = bench.says::<ConjurPolicy>(name, "LoadInProgress").await;
            assert!(message.contains("into branch billing; waiting for it"), "{message}");
        }
        bench.apply(&policy("suspended", "suspend: true", "- !variable suspended\n")).await;
        bench.kubectl(&["delete", "conjurpolicy", "deleted"]).await;
        bench.apply(&policy("edited", "", "- !variable new\n")).await;
        bench.conjur.release(gate);
        bench.ready::<ConjurPolicy>("edited").await;
        bench.says::<ConjurPolicy>("suspended", "Suspended").await;
        settled(&bench, "later").await;
        assert_eq!(texts(&bench), ["- !variable p\n", "- !variable new\n"]);
    });
}

#[test]
fn who_waits_for_a_branch_that_is_replaced_meanwhile_does_not_load_it() {
    test(|bench| async move {
        billing(&bench).await;
        let gate = hold(&bench, Point::BeforeCommit);
        bench.apply(&policy("older", "", "- !variable older\n")).await;
        held(&bench, 1).await;
        super::replace::a_second_later(&bench, "older").await;
        bench.apply(&policy("q", "", "- !variable q\n")).await;
        bench.says::<ConjurPolicy>("q", "LoadInProgress").await;
        bench.apply(&policy("older", "mode: Replace", "- !variable older\n")).await;
        bench.conjur.release(gate);
        bench.says::<ConjurPolicy>("q", "BranchTaken").await;
        bench.ready::<ConjurPolicy>("older").await;
        assert!(texts(&bench).iter().all(|text| text == "- !variable older\n"), "{:?}", texts(&bench));
    });
}

#[test]
fn a_branch_that_conjur_calls_busy_is_left_alone_for_as_long_as_it_says() {
    test(|bench| async move {
        billing(&bench).await;
        let busy = Effect::Status { status: 409, retry_after: Some(5) };
        bench.conjur.fault(load_fault(1, When::Before, busy));
        bench.apply(&policy("p", "", "- !variable p\n")).await;
        eventually("the first try", || loads(&bench) == 1).await;
        let since = std::time::Instant::now();
        bench.says::<ConjurPolicy>("p", "LoadInProgress").await;
        // Neither another look nor another policy of the branch is an occasion.
        bench.kubectl(&["annotate", "conjurpolicy", "p", "look=again"]).await;
        bench.apply(&policy("q", "", "- !variable q\n")).await;
        bench.says::<ConjurPolicy>("q", "LoadInProgress").await;
        eventually("the next try", || loads(&bench) >= 2).await;
        assert!(since.elapsed() >= std::time::Duration::from_secs(4), "{:?}", since.elapsed());
        bench.ready::<ConjurPolicy>("p").await;
        bench.ready::<ConjurPolicy>("q").await;
        assert_eq!((loads(&bench), version(&bench, "billing")), (3, 2));
    });
}

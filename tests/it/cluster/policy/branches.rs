//! One load at a time on a branch, and none holds up anything else.

use conjur_dev::{Hold, Point};
use conjur_operator::api::{ConjurPolicy, ConjurSecret};

use super::super::setup::{project, put};
use super::super::test;
use super::{billing, held, hold, keys_in, keys_work, loads, policy, settled, version};

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

//! `deletionPolicy: Delete`: policies that are deleted together.

use std::time::Duration;

use conjur_dev::{Effect, Fault, When};
use conjur_operator::api::ConjurPolicy;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use testbed::wait_for;

use super::super::{Bench, SOON, alone, test};
use super::removal::{delete, deletes, gone};
use super::{billing, policy, settled};

async fn nothing_was_left(bench: &Bench) {
    let events = bench.api::<Event>().list(&ListParams::default()).await.unwrap();
    let left: Vec<_> = events.items.iter().filter(|e| e.reason.as_deref() == Some("LeftInConjur")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn policies_that_are_deleted_together_go_in_the_order_of_their_branches() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(""), "- !policy eu\n")).await;
        bench.apply(&policy("q", &deletes("branch: billing/eu"), "- !policy west\n- !variable v\n")).await;
        bench.apply(&policy("r", &deletes("branch: billing/eu/west"), "- !variable v\n")).await;
        for name in ["p", "q", "r"] {
            bench.ready::<ConjurPolicy>(name).await;
        }
        for name in ["p", "q", "r"] {
            delete(&bench, name).await;
            // As kubectl does it: one after the other.
            settled(&bench, &format!("after-{name}")).await;
        }
        for name in ["p", "q", "r"] {
            gone(&bench, name).await;
        }
        assert!(!bench.conjur.exists("policy", "billing/eu"));
    });
}

#[test]
fn a_look_that_is_older_than_the_removal_of_another_leaves_nothing() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(""), "- !policy eu\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.apply(&policy("q", &deletes("branch: billing/eu"), "- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("q").await;
        // The look of p at the branch, and the one at all records, which is of before its answer.
        bench.conjur.fault(Fault {
            method: Some("GET".into()),
            path: "/resources/demo".into(),
            count: Some(2),
            when: When::After,
            effect: Effect::Latency { millis: 2000 },
        });
        bench.conjur.clear_requests();
        delete(&bench, "p").await;
        wait_for("p looks at all records", SOON, || async {
            let is_list = |path: &str| path == "/resources/demo" || path.starts_with("/resources/demo?");
            bench.conjur.requests().iter().any(|r| is_list(&r.path)).then_some(())
        })
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        delete(&bench, "q").await;
        gone(&bench, "q").await;
        gone(&bench, "p").await;
        assert!(!bench.conjur.exists("variable", "billing/eu/v"));
        assert!(!bench.conjur.exists("policy", "billing/eu"));
        nothing_was_left(&bench).await;
    });
}

#[test]
fn a_role_that_owns_what_another_made_waits_for_that_over_a_restart() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(""), "- !group team\n- !variable mine\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let both = "- !variable {id: v, owner: !group team}\n- !group other\n";
        bench.apply(&policy("q", &deletes(""), both)).await;
        bench.ready::<ConjurPolicy>("q").await;
        bench.apply(&policy("r", &deletes(""), "- !variable {id: r, owner: !group other}\n")).await;
        bench.ready::<ConjurPolicy>("r").await;
        delete(&bench, "p").await;
        let message = bench.says::<ConjurPolicy>("p", "LoadInProgress").await;
        assert!(
            message.contains("/q must be deleted first") && message.contains("demo:variable:billing/v"),
            "{message}"
        );
        assert!(!bench.conjur.exists("variable", "billing/mine"), "what can go does not wait");
        operator.kill9().await.unwrap();
        delete(&bench, "q").await;
        operator.restart().await.unwrap();
        bench.says::<ConjurPolicy>("q", "LoadInProgress").await;
        delete(&bench, "r").await;
        for name in ["r", "q", "p"] {
            gone(&bench, name).await;
        }
        for (kind, id) in [("group", "team"), ("group", "other"), ("variable", "v"), ("variable", "r")] {
            assert!(!bench.conjur.exists(kind, &format!("billing/{id}")), "{id}");
        }
        nothing_was_left(&bench).await;
    });
}

#[test]
fn a_branch_that_is_made_while_it_is_looked_for_is_no_load_without_an_inventory() {
    test(|bench| async move {
        billing(&bench).await;
        for asked in 1..=3 {
            let (name, branch) = (format!("p{asked}"), format!("late{asked}"));
            let path = format!("/resources/demo/policy/{branch}");
            let effect = Effect::Latency { millis: 700 };
            let (method, when) = (Some("GET".into()), When::After);
            bench.conjur.fault(Fault { method, path: path.clone(), count: None, when, effect });
            bench.apply(&policy(&name, &deletes(&format!("branch: {branch}")), "- !variable v\n")).await;
            wait_for("a look at the branch, or that it is told to be missing", SOON, || async {
                let requests = bench.conjur.requests();
                let looks = requests.iter().filter(|r| r.path.starts_with(&path)).count();
                let object: ConjurPolicy = bench.api().get(&name).await.unwrap();
                let told = object.status.and_then(|s| s.conditions).unwrap_or_default();
                (looks >= asked || told.iter().any(|c| c.reason == "BranchNotFound")).then_some(())
            })
            .await
            .unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            bench.root(&format!("- !policy {{id: {branch}, owner: !host ops}}\n")).await;
            wait_for("it is loaded", SOON, || async {
                let stamp = format!("test/look={}", rand::random::<u32>());
                bench.kubectl(&["annotate", "--overwrite", "conjurpolicy", &name, &stamp]).await;
                bench.conjur.exists("variable", &format!("{branch}/v")).then_some(())
            })
            .await
            .unwrap();
            bench.ready::<ConjurPolicy>(&name).await;
            delete(&bench, &name).await;
            gone(&bench, &name).await;
            assert!(!bench.conjur.exists("variable", &format!("{branch}/v")), "{branch}");
        }
        nothing_was_left(&bench).await;
    });
}

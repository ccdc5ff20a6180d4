//! What a policy's conditions say in each of its states.

use conjur_dev::{Effect, Fault, When};
use conjur_operator::api::ConjurPolicy;

use super::super::{
    Bench,
    setup::{condition, states},
    test,
};
use super::{billing, keys_in, loaded_by_a_stranger, policy, replace::a_second_later, version};

/// Waits until its conditions are these with this reason, of its newest generation.
async fn becomes(bench: &Bench, name: &str, expected: &str, reason: &str) {
    let type_ = expected.rsplit(' ').next().and_then(|last| last.split('=').next()).unwrap();
    let what = format!("{expected} for {reason}");
    bench
        .until(&what, name, |p: &ConjurPolicy| {
            states(p) == expected
                && condition(p, type_).is_some_and(|(_, of, _)| of == reason)
                && p.status.as_ref().and_then(|s| s.observed_generation) == p.metadata.generation
        })
        .await;
}

#[test]
fn what_is_awaited_and_what_a_person_must_do_are_told_apart() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("waiting", "branch: nowhere", "- !variable v\n")).await;
        becomes(&bench, "waiting", "Ready=False Reconciling=True", "BranchNotFound").await;
        bench.apply(&policy("invalid", "", "- !variable v\n- !vriable w\n")).await;
        becomes(&bench, "invalid", "Ready=False Stalled=True", "PolicyInvalid").await;
        bench.kubectl(&["delete", "conjurpolicy", "invalid"]).await;

        bench.apply(&policy("p", "mode: Replace", "- !variable v\n")).await;
        becomes(&bench, "p", "Ready=True", "Loaded").await;
        a_second_later(&bench, "p").await;
        bench.apply(&policy("taken", "", "- !variable w\n")).await;
        becomes(&bench, "taken", "Ready=False Stalled=True", "BranchTaken").await;
        bench.set("billing/v");
        bench.apply(&policy("p", "mode: Replace", "- !variable w\n")).await;
        becomes(&bench, "p", "Ready=False Stalled=True", "DeletionsNotAllowed").await;
        assert_eq!(version(&bench, "billing"), 1);
    });
}

#[test]
fn who_does_not_own_the_branch_is_stalled() {
    test(|bench| async move {
        loaded_by_a_stranger(&bench).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        becomes(&bench, "p", "Ready=False Stalled=True", "NotBranchOwner").await;
    });
}

#[test]
fn a_fault_while_the_last_good_state_stands_leaves_it_ready() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", "driftCheckInterval: 10s", "- !variable one\n")).await;
        let before = bench.ready::<ConjurPolicy>("p").await;
        let (path, effect) =
            ("/policies/demo/policy/billing".into(), Effect::Status { status: 503, retry_after: None });
        bench.conjur.fault(Fault { method: None, path, count: None, when: When::Before, effect });
        let object =
            bench.until("retried", "p", |p: &ConjurPolicy| states(p) == "Ready=True Reconciling=True").await;
        assert_eq!(condition(&object, "Reconciling").unwrap().1, "ConjurUnavailable");
        assert_eq!(condition(&object, "Ready").unwrap().1, "Loaded");
        let observed = |p: &ConjurPolicy| p.status.clone().and_then(|s| s.observed_generation);
        assert_eq!(observed(&object), observed(&before));
        bench.conjur.clear_faults();
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(version(&bench, "billing"), 1);
    });
}

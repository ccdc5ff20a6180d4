//! Whether Conjur still holds what the document says.

use conjur_dev::Kind;
use conjur_operator::{api::ConjurPolicy, seams::document_hash};
use testbed::wait_for;

use super::super::{
    Bench, SOON,
    setup::{change_policy, condition, eventually},
    test,
};
use super::{
    allow_deletions, billing, keys_in, keys_work, loaded_by_a_stranger, loads, policy, settled, status,
    version,
};

const CHECKED: &str = "driftCheckInterval: 10s";

/// Waits until so many more dry runs have been made.
async fn checked(bench: &Bench, more: usize) {
    let before = bench.conjur.count(Kind::DryRun);
    wait_for("a look for drift", SOON, || async {
        (bench.conjur.count(Kind::DryRun) >= before + more).then_some(())
    })
    .await
    .unwrap();
}

async fn take_away(bench: &Bench, record: &str) {
    change_policy(bench, &format!("- !delete {{record: {record}}}\n")).await;
}

#[test]
fn what_drifted_is_told_and_loaded_again_and_nothing_is_where_nothing_did() {
    test(|bench| async move {
        billing(&bench).await;
        bench
            .apply(&policy(
                "p",
                &format!("{CHECKED}\n{}", keys_in("roles")),
                "- !variable one\n- !host web\n",
            ))
            .await;
        let before = bench.ready::<ConjurPolicy>("p").await;
        checked(&bench, 2).await;
        assert_eq!(version(&bench, "billing"), 1, "each load makes a version");
        let after: ConjurPolicy = bench.api().get("p").await.unwrap();
        assert_eq!(
            after.metadata.resource_version, before.metadata.resource_version,
            "and no status is written"
        );

        take_away(&bench, "!variable billing/one").await;
        take_away(&bench, "!host billing/web").await;
        bench.events("PolicyDrifted", "create ").await;
        let object = bench
            .until("loaded again", "p", |p: &ConjurPolicy| {
                p.status.as_ref().is_some_and(|s| s.version > Some(1))
            })
            .await;
        let plan = status(&object).plan.unwrap();
        assert!(plan.created.count >= 1, "{plan:?}");
        wait_for("both again", SOON, || async {
            (bench.conjur.exists("variable", "billing/one") && bench.conjur.exists("host", "billing/web"))
                .then_some(())
        })
        .await
        .unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        // The host has a new key.
        keys_work(&bench, "roles", &["web"]).await;
    });
}

#[test]
fn append_only_tells_of_drift() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &format!("{CHECKED}\nmode: Append"), "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        take_away(&bench, "!variable billing/one").await;
        let message = bench.says::<ConjurPolicy>("p", "PolicyDrifted").await;
        assert!(
            message.contains("demo:variable:billing/one") && message.contains("mode Append"),
            "{message}"
        );
        let plan = status(&bench.ready::<ConjurPolicy>("p").await).plan.unwrap();
        assert_eq!(plan.created.ids, ["demo:variable:billing/one"]);
        checked(&bench, 1).await;
        assert_eq!(loads(&bench), 2, "one of ours, and the one that took it away");
        bench.conjur.load("billing", "- !variable one\n").await.unwrap();
        bench.says::<ConjurPolicy>("p", "Loaded").await;
        assert_eq!(status(&bench.ready::<ConjurPolicy>("p").await).plan, None);
    });
}

#[test]
fn a_replace_that_would_delete_values_for_drift_waits_for_the_annotation() {
    test(|bench| async move {
        billing(&bench).await;
        let document = "- !variable one\n";
        bench.apply(&policy("p", &format!("{CHECKED}\nmode: Replace"), document)).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.conjur.load("billing", "- !variable strangers\n").await.unwrap();
        bench.set("billing/strangers");
        let message = bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
        assert!(message.contains("demo:variable:billing/strangers"), "{message}");
        settled(&bench, "later").await;
        assert!(bench.conjur.exists("variable", "billing/strangers"));
        allow_deletions(&bench, "p", &document_hash(document.as_bytes())).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(!bench.conjur.exists("variable", "billing/strangers"));
    });
}

#[test]
fn drift_that_waits_for_a_person_is_looked_at_again_at_the_interval() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &format!("{CHECKED}\nmode: Replace"), "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.conjur.load("billing", "- !variable strangers\n").await.unwrap();
        bench.set("billing/strangers");
        bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
        take_away(&bench, "!variable billing/strangers").await;
        // Nothing but the interval wakes it.
        bench.ready::<ConjurPolicy>("p").await;
    });
}

#[test]
fn where_drift_cannot_be_looked_for_it_says_so_and_stays_ready() {
    test(|bench| async move {
        billing(&bench).await;
        bench.conjur.set_version(None);
        bench.apply(&policy("p", CHECKED, "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let told = |p: &ConjurPolicy| {
            let conditions = p.status.clone().unwrap_or_default().conditions.unwrap_or_default();
            conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True" && c.message.contains("can't be checked"))
        };
        bench.until("told", "p", told).await;
        assert_eq!((loads(&bench), bench.conjur.count(Kind::DryRun)), (1, 0));
    });
}

#[test]
fn through_a_read_only_connection_drift_is_only_told() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", CHECKED, "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.apply(&(bench.connection("conjur", "host/ops") + "  accessMode: ReadOnly\n")).await;
        take_away(&bench, "!variable billing/one").await;
        let message = bench.says::<ConjurPolicy>("p", "PolicyDrifted").await;
        assert!(message.contains("ReadOnly"), "{message}");
        assert!(!bench.conjur.exists("variable", "billing/one"));
    });
}

#[test]
fn a_server_whose_dry_runs_name_nothing_shows_no_drift_and_it_says_so() {
    test(|bench| async move {
        billing(&bench).await;
        bench.conjur.set_empty_dry_runs(true);
        bench.apply(&policy("p", CHECKED, "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let told = |p: &ConjurPolicy| {
            condition(p, "Ready").is_some_and(|(status, _, message)| {
                status == "True" && message.contains("can't be checked") && message.contains("dry runs as if")
            })
        };
        bench.until("told", "p", told).await;
        assert_eq!((loads(&bench), version(&bench, "billing")), (1, 1));
    });
}

/// How many dry runs there were in a branch.
fn looks_at(bench: &Bench, branch: &str) -> usize {
    let path = format!("/policies/demo/policy/{branch}?");
    bench.conjur.requests().iter().filter(|r| r.kind == Kind::DryRun && r.path.starts_with(&path)).count()
}

#[test]
fn who_is_suspended_looks_for_no_drift() {
    test(|bench| async move {
        billing(&bench).await;
        bench.root("- !policy {id: other, owner: !host ops}\n").await;
        bench.apply(&policy("p", CHECKED, "- !variable one\n")).await;
        bench.apply(&policy("q", &format!("{CHECKED}\nbranch: other"), "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.ready::<ConjurPolicy>("q").await;
        bench.apply(&policy("p", &format!("{CHECKED}\nsuspend: true"), "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        take_away(&bench, "!variable billing/one").await;
        let (suspended, goes_on) = (looks_at(&bench, "billing"), looks_at(&bench, "other"));
        eventually("two more slots", || looks_at(&bench, "other") >= goes_on + 3).await;
        assert_eq!(looks_at(&bench, "billing"), suspended);
        assert!(!bench.conjur.exists("variable", "billing/one"));
        bench.apply(&policy("p", CHECKED, "- !variable one\n")).await;
        eventually("drift", || bench.conjur.exists("variable", "billing/one")).await;
    });
}

#[test]
fn what_a_stranger_added_to_a_replaced_branch_goes_where_nothing_is_lost() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &format!("{CHECKED}\nmode: Replace"), "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.conjur.load("billing", "- !variable strangers\n").await.unwrap();
        bench.events("PolicyDrifted", "delete 1 (demo:variable:billing/strangers)").await;
        eventually("a Replace", || !bench.conjur.exists("variable", "billing/strangers")).await;
        let object = bench
            .until("loaded", "p", |p: &ConjurPolicy| p.status.as_ref().is_some_and(|s| s.version == Some(3)))
            .await;
        assert_eq!(status(&object).plan.unwrap().deleted.ids, ["demo:variable:billing/strangers"]);
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(version(&bench, "billing"), 3, "ours, the stranger's, and ours again");
    });
}

#[test]
fn what_who_does_not_own_the_branch_loaded_stays_ready_and_is_not_loaded_at_each_look() {
    test(|bench| async move {
        loaded_by_a_stranger(&bench).await;
        bench.root("- !policy {id: replaced}\n- !permit {role: !host loader, privileges: [read, update], resource: !policy replaced}\n").await;
        let document = "- !variable {id: one, annotations: {a: b}}\n- !group g\n";
        bench.apply(&policy("p", CHECKED, document)).await;
        let replace = format!("{CHECKED}\nmode: Replace\nbranch: replaced");
        bench.apply(&policy("q", &replace, document)).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.ready::<ConjurPolicy>("q").await;
        let (p, q) = (looks_at(&bench, "billing"), looks_at(&bench, "replaced"));
        eventually("two more slots", || {
            looks_at(&bench, "billing") >= p + 3 && looks_at(&bench, "replaced") >= q + 3
        })
        .await;
        bench.ready::<ConjurPolicy>("p").await;
        let (_, _, message) = condition(&bench.ready::<ConjurPolicy>("q").await, "Ready").unwrap();
        assert!(message.contains("can't be checked") && message.contains("host/loader"), "{message}");
        assert_eq!((version(&bench, "billing"), version(&bench, "replaced")), (1, 1));
    });
}

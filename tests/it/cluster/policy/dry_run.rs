//! `action: DryRun` says what a load would change, and loads nothing.

use conjur_dev::Kind;
use conjur_operator::{api::ConjurPolicy, seams::document_hash};

use super::super::{Bench, alone, setup::condition, test};
use super::{billing, keys_in, loaded_by_a_stranger, loads, policy, settled, status, version};

fn dry_runs(bench: &Bench) -> usize {
    bench.conjur.count(Kind::DryRun)
}

#[test]
fn a_dry_run_fills_the_plan_and_loads_nothing() {
    test(|bench| async move {
        billing(&bench).await;
        bench
            .conjur
            .load("billing", "- !variable gone\n- !variable {id: kept, annotations: {a: b}}\n")
            .await
            .unwrap();
        let more = format!("action: DryRun\nmode: Replace\n{}", keys_in("roles"));
        let mut document = "- !variable {id: kept, annotations: {a: c}}\n- !host web\n".to_owned();
        let many: Vec<String> = (0..30).map(|n| format!("- !variable many/{n:02}\n")).collect();
        document += &many.concat();
        bench.apply(&policy("p", &more, &document)).await;
        let object = bench.ready::<ConjurPolicy>("p").await;
        let said = status(&object);
        let plan = said.plan.unwrap();
        assert_eq!((plan.created.count, plan.created.ids.len()), (31, 20), "{plan:?}");
        assert!(plan.updated.ids.contains(&"demo:variable:billing/kept".to_owned()), "{plan:?}");
        assert_eq!(
            (plan.deleted.count, plan.deleted.ids),
            (1, vec!["demo:variable:billing/gone".to_owned()])
        );
        assert_eq!(said.document_hash, Some(document_hash(document.as_bytes())));
        assert_eq!((said.loaded_hash, said.version), (None, None));
        bench.says::<ConjurPolicy>("p", "Planned").await;
        bench.events("Planned", "create 31 (demo:host:billing/web, ").await;
        assert_eq!((loads(&bench), version(&bench, "billing")), (0, 1));
        assert!(bench.data("roles").await.is_none());

        // Then it is loaded, and the plan is done.
        let allow = format!("conjur-operator.io/allow-deletions={}", document_hash(document.as_bytes()));
        bench.kubectl(&["annotate", "conjurpolicy", "p", &allow]).await;
        bench.apply(&policy("p", &more.replace("DryRun", "Load"), &document)).await;
        bench.says::<ConjurPolicy>("p", "Loaded").await;
        let said = status(&bench.ready::<ConjurPolicy>("p").await);
        assert_eq!((said.plan, said.version), (None, Some(2)));
    });
}

#[test]
fn a_dry_run_is_made_again_only_when_something_changed() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        bench.apply(&policy("p", "action: DryRun", "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(dry_runs(&bench), 1);
        bench.kubectl(&["label", "conjurpolicy", "p", "team=pay"]).await;
        bench.kubectl(&["annotate", "conjurpolicy", "p", "note=hello"]).await;
        settled(&bench, "first").await;
        operator.restart().await.unwrap();
        settled(&bench, "second").await;
        assert_eq!(dry_runs(&bench), 1);
        bench.apply(&policy("p", "action: DryRun", "- !variable old\n")).await;
        let object = bench
            .until("planned anew", "p", |p: &ConjurPolicy| {
                p.status.as_ref().is_some_and(|s| s.plan.as_ref().is_some_and(|plan| plan.created.count == 0))
            })
            .await;
        assert_eq!(status(&object).plan.unwrap().created.ids, Vec::<String>::new());
        assert_eq!(
            dry_runs(&bench),
            3,
            "after a start, one more to tell whether the server names what is new"
        );
    });
}

#[test]
fn a_document_that_would_be_refused_says_where() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", "action: DryRun", "- !variable v\n- !vriable w\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "PolicyInvalid").await;
        assert!(message.contains("Conjur refuses the document: line 2"), "{message}");
        bench.apply(&policy("q", "action: DryRun\nbranch: nowhere", "- !variable v\n")).await;
        bench.says::<ConjurPolicy>("q", "BranchNotFound").await;
        assert_eq!(loads(&bench), 0);
    });
}

#[test]
fn a_server_without_dry_runs_is_told_from_one_with_them_and_never_sent_one() {
    test(|bench| async move {
        billing(&bench).await;
        for (name, version, says) in
            [("old", Some("1.21.0"), "version 1.21.0"), ("silent", None, "doesn't say its version")]
        {
            bench.conjur.set_version(version);
            bench.apply(&policy(name, "action: DryRun", "- !variable one\n")).await;
            let message = bench.says::<ConjurPolicy>(name, "DryRunUnsupported").await;
            assert!(message.contains(says), "{message}");
        }
        assert_eq!((dry_runs(&bench), loads(&bench), version(&bench, "billing")), (0, 0, 0));
        assert!(!bench.conjur.exists("variable", "billing/one"));
    });
}

#[test]
fn who_does_not_own_the_branch_gets_counts_and_is_told_what_would_show_more() {
    test(|bench| async move {
        loaded_by_a_stranger(&bench).await;
        bench.apply(&policy("p", "action: DryRun", "- !variable one\n- !host two\n")).await;
        let plan = status(&bench.ready::<ConjurPolicy>("p").await).plan.unwrap();
        assert_eq!((plan.created.count, plan.created.ids), (2, vec![]));
        let message = bench.says::<ConjurPolicy>("p", "Planned").await;
        assert!(message.contains("not shown, since host/loader does not own branch billing"), "{message}");
        bench.apply(&policy("r", "action: DryRun\nmode: Append", "- !variable one\n")).await;
        let plan = status(&bench.ready::<ConjurPolicy>("r").await).plan.unwrap();
        assert_eq!((plan.created.count, plan.created.ids), (1, vec![]));
        let message = bench.says::<ConjurPolicy>("r", "Planned").await;
        assert!(message.contains("create 1, update none"), "{message}");
        // Of a Replace the server says nothing.
        bench.apply(&policy("q", "action: DryRun\nmode: Replace", "- !variable one\n")).await;
        let message = bench.says::<ConjurPolicy>("q", "NotBranchOwner").await;
        assert!(message.contains("grant it the role that owns the branch"), "{message}");
        assert_eq!(loads(&bench), 0);
    });
}

#[test]
fn a_read_only_connection_refuses_loads_and_allows_dry_runs() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&(bench.connection("conjur", "host/ops") + "  accessMode: ReadOnly\n")).await;
        bench.apply(&policy("load", "", "- !variable one\n")).await;
        let message = bench.says::<ConjurPolicy>("load", "AccessDenied").await;
        assert!(message.contains("ReadOnly"), "{message}");
        bench.apply(&policy("plan", "action: DryRun", "- !variable one\n")).await;
        let plan = status(&bench.ready::<ConjurPolicy>("plan").await).plan.unwrap();
        assert_eq!(plan.created.ids, ["demo:variable:billing/one"]);
        assert_eq!(loads(&bench), 0);
    });
}

#[test]
fn a_server_whose_dry_runs_name_nothing_is_as_one_without_them() {
    test(|bench| async move {
        billing(&bench).await;
        bench.conjur.set_empty_dry_runs(true);
        bench.apply(&policy("p", "action: DryRun", "- !variable one\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "DryRunUnsupported").await;
        assert!(message.contains("as if no document would change anything"), "{message}");
        assert_eq!((loads(&bench), version(&bench, "billing")), (0, 0));
    });
}

#[test]
fn a_dry_run_of_what_changes_nothing_says_so_where_the_server_names_changes() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", "action: DryRun", "- !variable old\n")).await;
        let object = bench.ready::<ConjurPolicy>("p").await;
        let (_, _, message) = condition(&object, "Ready").unwrap();
        assert!(message.contains("would create none, update none, delete none; nothing"), "{message}");
        assert_eq!(status(&object).plan.unwrap().created.count, 0);
        assert_eq!((loads(&bench), version(&bench, "billing")), (0, 0));
    });
}

#[test]
fn a_dry_run_of_a_replace_says_what_would_be_lost_with_all_that_goes_along() {
    test(|bench| async move {
        billing(&bench).await;
        bench.conjur.load("billing", "- !policy eu\n- !variable one\n- !variable kept\n").await.unwrap();
        bench.conjur.load("billing/eu", "- !variable inner\n").await.unwrap();
        bench.set("billing/one");
        bench.set("billing/eu/inner");
        let planned = "action: DryRun\nmode: Replace";
        for (name, left_out, lost) in [
            ("value", "- !policy eu\n- !variable kept\n", "demo:variable:billing/one"),
            ("cascade", "- !variable one\n- !variable kept\n", "demo:variable:billing/eu/inner"),
        ] {
            bench.apply(&policy(name, planned, left_out)).await;
            let message = condition(&bench.ready::<ConjurPolicy>(name).await, "Ready").unwrap().2;
            let refused = "The load would be refused (DeletionsNotAllowed)";
            assert!(message.contains(refused) && message.contains(&format!("({lost})")), "{message}");
        }
        bench.apply(&policy("harmless", planned, "- !policy eu\n- !variable one\n- !variable new\n")).await;
        let message = condition(&bench.ready::<ConjurPolicy>("harmless").await, "Ready").unwrap().2;
        assert!(message.contains("create 1") && !message.contains("refused"), "{message}");
        assert_eq!(version(&bench, "billing"), 1);
    });
}

#[test]
fn a_dry_run_says_what_else_a_load_would_be_refused_for() {
    test(|bench| async move {
        loaded_by_a_stranger(&bench).await;
        bench.apply(&policy("p", "action: DryRun", "- !variable one\n- !host two\n")).await;
        let message = condition(&bench.ready::<ConjurPolicy>("p").await, "Ready").unwrap().2;
        for reason in ["CreatedRolesRequired", "NotBranchOwner"] {
            assert!(message.contains(&format!("The load would be refused ({reason})")), "{message}");
        }
        bench.apply(&policy("holder", "mode: Replace", "- !variable mine\n")).await;
        bench.ready::<ConjurPolicy>("holder").await;
        super::replace::a_second_later(&bench, "holder").await;
        bench.apply(&policy("q", "action: DryRun", "- !variable one\n")).await;
        let message = condition(&bench.ready::<ConjurPolicy>("q").await, "Ready").unwrap().2;
        assert!(message.contains("The load would be refused (BranchTaken)"), "{message}");
        assert!(message.contains(&format!("ConjurPolicy {}/holder", bench.namespace)), "{message}");
    });
}

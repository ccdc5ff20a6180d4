//! A Replace that would delete what can't be had again waits for a person.

use conjur_dev::Kind;
use conjur_operator::{api::ConjurPolicy, seams::document_hash};

use super::super::{Bench, test};
use super::{allow_deletions, billing, keys_in, loaded_by_a_stranger, loads, policy, status, version};

const KEEPS: &str = "- !variable one\n- !variable two\n- !host web\n";

/// Branch `billing`, Replaced by a host and two variables of which one holds a value.
async fn replaced(bench: &Bench) {
    billing(bench).await;
    bench.apply(&policy("p", &more(), KEEPS)).await;
    bench.ready::<ConjurPolicy>("p").await;
    bench.set("billing/one");
}

fn more() -> String {
    format!("mode: Replace\n{}", keys_in("roles"))
}

#[test]
fn a_replace_that_would_delete_values_or_hosts_needs_the_annotation_with_its_hash() {
    test(|bench| async move {
        replaced(&bench).await;
        let document = "- !variable three\n";
        let hash = document_hash(document.as_bytes());
        bench.apply(&policy("p", &more(), document)).await;
        let message = bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
        assert!(message.contains("1 variable that hold values (demo:variable:billing/one)"), "{message}");
        assert!(message.contains("1 host or user (demo:host:billing/web)"), "{message}");
        let command = format!(
            "kubectl annotate --overwrite -n {} conjurpolicy p conjur-operator.io/allow-deletions={hash}",
            bench.namespace
        );
        assert!(message.contains(&command), "{message}");
        let said = status(&bench.api().get("p").await.unwrap());
        assert_eq!(said.document_hash.as_deref(), Some(hash.as_str()));
        let plan = said.plan.unwrap();
        assert_eq!(plan.deleted.count, 3, "{plan:?}");
        assert_eq!(plan.created.ids, ["demo:variable:billing/three"]);
        assert_eq!(version(&bench, "billing"), 1);

        // The hash of another document allows nothing.
        allow_deletions(&bench, "p", &document_hash(KEEPS.as_bytes())).await;
        super::settled(&bench, "wrong-hash").await;
        assert_eq!(version(&bench, "billing"), 1);
        allow_deletions(&bench, "p", &hash).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(
            !bench.conjur.exists("variable", "billing/one") && !bench.conjur.exists("host", "billing/web")
        );
        assert_eq!(status(&bench.api().get("p").await.unwrap()).plan, None);

        // Nor does the old annotation the next document.
        bench.set("billing/three");
        bench.apply(&policy("p", &more(), "- !variable four\n")).await;
        bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
        assert!(bench.conjur.exists("variable", "billing/three"));
        bench.apply(&policy("p", &more(), "- !variable three\n- !variable four\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
    });
}

#[test]
fn variables_without_values_and_what_an_update_says_need_no_annotation() {
    test(|bench| async move {
        replaced(&bench).await;
        bench.apply(&policy("p", &more(), "- !variable one\n- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(!bench.conjur.exists("variable", "billing/two"));
        bench.kubectl(&["delete", "conjurpolicy", "p"]).await;
        bench.apply(&policy("q", "", "- !delete {record: !variable one}\n")).await;
        bench.ready::<ConjurPolicy>("q").await;
        assert!(!bench.conjur.exists("variable", "billing/one"), "the document itself says so");
    });
}

#[test]
fn a_policy_that_goes_takes_what_was_loaded_into_it() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", "mode: Replace", "- !policy eu\n- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.conjur.load("billing/eu", "- !variable inner\n").await.unwrap();
        bench.set("billing/eu/inner");
        bench.apply(&policy("p", "mode: Replace", "- !variable v\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
        assert!(message.contains("demo:variable:billing/eu/inner"), "{message}");
    });
}

#[test]
fn what_a_deleted_group_owns_in_another_branch_is_lost_too() {
    test(|bench| async move {
        billing(&bench).await;
        for (name, version) in [("new", Some("1.24.0")), ("old", Some("1.20.0"))] {
            bench.conjur.set_version(version);
            let both = "- !group new\n- !group old\n- !variable v\n";
            bench.apply(&policy("p", "mode: Replace", both)).await;
            bench.ready::<ConjurPolicy>("p").await;
            bench.root(&format!("- !variable {{id: of-{name}, owner: !group billing/{name}}}\n")).await;
            bench.set(&format!("of-{name}"));
            let one = both.replace(&format!("- !group {name}\n"), "");
            bench.apply(&policy("p", "mode: Replace", &one)).await;
            let message = bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
            assert!(message.contains(&format!("demo:variable:of-{name}")), "{message}");
            assert!(bench.conjur.exists("variable", &format!("of-{name}")));

            // A document that is loaded has no plan of what another would have deleted.
            bench.apply(&policy("p", "mode: Replace", both)).await;
            bench.ready::<ConjurPolicy>("p").await;
            assert_eq!(status(&bench.api().get("p").await.unwrap()).plan, None);
        }
    });
}

#[test]
fn a_server_without_dry_runs_is_never_sent_one_and_records_are_compared() {
    test(|bench| async move {
        bench.conjur.set_version(Some("1.20.0"));
        replaced(&bench).await;
        bench.apply(&policy("p", &more(), "- !variable three\n- !variable two\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
        assert!(
            message.contains("demo:variable:billing/one") && message.contains("demo:host:billing/web"),
            "{message}"
        );
        assert!(!message.contains("billing/two") && !message.contains("billing/old"), "{message}");
        let plan = status(&bench.api().get("p").await.unwrap()).plan.unwrap();
        assert_eq!((plan.created.count, plan.deleted.count), (1, 2), "{plan:?}");
        bench.apply(&policy("p", &more(), "- !variable one\n- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!((loads(&bench), version(&bench, "billing")), (2, 2));
        assert_eq!(bench.conjur.count(Kind::DryRun), 0);
    });
}

#[test]
fn what_nobody_can_tell_needs_the_annotation_too() {
    test(|bench| async move {
        loaded_by_a_stranger(&bench).await;
        // Into a branch that was never loaded anything may go.
        bench.apply(&policy("p", "mode: Replace", "- !variable first\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        for (name, version) in [("new", Some("1.24.0")), ("old", None)] {
            bench.conjur.set_version(version);
            let document = format!("- !variable {name}\n");
            bench.apply(&policy("p", "mode: Replace", &document)).await;
            bench
                .until("refused", "p", |p: &ConjurPolicy| {
                    let told = p.status.clone().unwrap_or_default();
                    told.observed_generation == p.metadata.generation
                        && told
                            .conditions
                            .unwrap_or_default()
                            .iter()
                            .any(|c| c.reason == "DeletionsNotAllowed")
                })
                .await;
            let message = bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
            assert!(message.contains("host/loader does not own the branch"), "{message}");
            allow_deletions(&bench, "p", &document_hash(document.as_bytes())).await;
            bench.ready::<ConjurPolicy>("p").await;
            assert!(bench.conjur.exists("variable", &format!("billing/{name}")));
        }
    });
}

#[test]
fn a_dry_run_that_names_nothing_is_not_believed() {
    test(|bench| async move {
        replaced(&bench).await;
        bench.conjur.set_empty_dry_runs(true);
        bench.apply(&policy("p", &more(), "- !variable three\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
        assert!(
            message.contains("demo:variable:billing/one") && message.contains("demo:host:billing/web"),
            "{message}"
        );
        assert_eq!(version(&bench, "billing"), 1);
        bench.apply(&policy("p", &more(), "- !variable one\n- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(version(&bench, "billing"), 2);
    });
}

#[test]
fn a_dry_run_that_names_nothing_lets_no_stranger_replace_what_he_cannot_see() {
    test(|bench| async move {
        loaded_by_a_stranger(&bench).await;
        bench.conjur.set_empty_dry_runs(true);
        bench.apply(&policy("p", "mode: Replace", "- !variable first\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.apply(&policy("p", "mode: Replace", "- !variable second\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "DeletionsNotAllowed").await;
        assert!(message.contains("host/loader does not own the branch"), "{message}");
        assert!(bench.conjur.exists("variable", "billing/first"));
        assert_eq!(version(&bench, "billing"), 1);
    });
}

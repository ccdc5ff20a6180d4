//! Bad input gets an answer that says what to do.

use conjur_dev::{Effect, When};
use conjur_operator::api::ConjurPolicy;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::super::test;
use super::{billing, hosts_document, keys_in, keys_work, load_fault, loads, policy, settled};

#[test]
fn an_unknown_branch_is_waited_for() {
    test(|bench| async move {
        billing(&bench).await;
        let more = format!("branch: billing/eu\n{}", keys_in("roles"));
        bench.apply(&policy("p", &more, "- !host web\n")).await;
        bench.apply(&policy("q", "branch: billing/eu", "- !variable v\n")).await;
        for name in ["p", "q"] {
            let message = bench.says::<ConjurPolicy>(name, "BranchNotFound").await;
            assert!(
                message.contains("billing/eu does not exist, or is not visible to host/ops"),
                "{message}"
            );
        }
        bench.apply(&policy("maker", "", "- !policy eu\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.ready::<ConjurPolicy>("q").await;
        assert!(
            bench.conjur.exists("host", "billing/eu/web") && bench.conjur.exists("variable", "billing/eu/v")
        );
    });
}

#[test]
fn a_document_that_cannot_be_loaded_says_where() {
    test(|bench| async move {
        billing(&bench).await;
        let keys = keys_in("roles");
        for (name, more, document, reason, says) in [
            ("yaml", "", "- !variable v\n- [\n", "PolicyInvalid", "spec.document, line 2, column 3"),
            ("no-list", "", "variable: v\n", "PolicyInvalid", "line 1, column 1"),
            ("empty", "", " \n", "PolicyInvalid", "the document is empty"),
            ("no-roles", "", "- !variable v\n- !host web\n", "CreatedRolesRequired", "spec.document, line 2"),
            (
                "deletes",
                "mode: Append",
                "- !variable v\n- !delete\n  record: !variable v\n",
                "PolicyInvalid",
                "line 2",
            ),
            ("too-long", &keys, &format!("- !host {}\n", "x".repeat(300)), "PolicyInvalid", "shorten the id"),
        ] {
            bench.apply(&policy(name, more, document)).await;
            let message = bench.says::<ConjurPolicy>(name, reason).await;
            assert!(message.contains(says), "{name}: {message}");
        }
        assert_eq!(loads(&bench), 0, "all that can be told without asking Conjur");
        bench.apply(&policy("unknown-tag", "", "- !variable v\n- !vriable w\n")).await;
        let message = bench.says::<ConjurPolicy>("unknown-tag", "PolicyInvalid").await;
        assert!(message.contains("Conjur refuses the document: line "), "{message}");
    });
}

#[test]
fn what_the_api_server_can_tell_it_refuses_itself() {
    test(|bench| async move {
        let long = "- !variable v\n".repeat(50_001);
        let answer = bench.try_apply(&policy("p", "", &long)).await.unwrap_err();
        assert!(
            answer.contains(
                "the document is over 700,000 bytes; put it into ConfigMaps and name them in documentFrom"
            ),
            "{answer}"
        );
        assert!(answer.len() < 5000, "and does not repeat the document");
        let answer =
            bench.try_apply(&policy("p", &keys_in("Not_A_Name"), "- !host web\n")).await.unwrap_err();
        assert!(answer.contains("spec.createdRoles.secretName"), "{answer}");
        let answer = bench.try_apply(&policy("p", "", "")).await.unwrap_err();
        assert!(answer.contains("spec.document"), "{answer}");
        let answer = bench.try_apply(&policy("p", "branch: /billing", "- !variable v\n")).await.unwrap_err();
        assert!(answer.contains("write the branch without a leading"), "{answer}");
        let answer = bench.try_apply(&policy("p", "mode: Merge", "- !variable v\n")).await.unwrap_err();
        assert!(answer.contains("spec.mode"), "{answer}");
    });
}

#[test]
fn a_reference_to_something_missing_heals_when_another_policy_makes_it() {
    test(|bench| async move {
        billing(&bench).await;
        let document =
            "- !host web\n- !permit {role: !host web, privileges: [read], resource: !variable later}\n";
        bench.apply(&policy("p", &keys_in("roles"), document)).await;
        let message = bench.says::<ConjurPolicy>("p", "PolicyInvalid").await;
        assert!(
            message.contains("Conjur refuses the document") && message.contains("billing/later"),
            "{message}"
        );
        settled(&bench, "meanwhile").await;
        let tries = loads(&bench);
        assert!(tries <= 3, "{tries} loads: what is refused is not tried for ever");
        // The announcement is taken back, and with it the Secret that was made for it.
        assert_eq!(bench.data("roles").await, None);
        bench.apply(&policy("maker", "", "- !variable later\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web"]).await;
    });
}

#[test]
fn a_refused_document_is_not_loaded_again_by_itself() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n- !host {id: two, color: red}\n")).await;
        bench.says::<ConjurPolicy>("p", "PolicyInvalid").await;
        bench.kubectl(&["label", "conjurpolicy", "p", "looked=at"]).await;
        bench.root("- !policy {id: other, owner: !host ops}\n").await;
        bench.apply(&policy("q", &format!("branch: other\n{}", keys_in("q-roles")), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("q").await;
        let tries = bench.conjur.requests();
        let tries = tries.iter().filter(|r| r.path.ends_with("/billing") && r.status == Some(422)).count();
        assert_eq!(tries, 1, "neither a label nor another's load mends it");
        assert!(!bench.conjur.exists("host", "billing/web"));
        // A host that a stranger makes then is not ours to have a key of.
        bench.conjur.load("billing", "- !host web\n").await.unwrap();
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n- !host two\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        keys_work(&bench, "roles", &["two"]).await;
    });
}

#[test]
fn a_missing_privilege_is_named_for_each_mode_and_its_grant_is_noticed() {
    for (mode, has, needs) in [
        ("Append", "read, update", "create"),
        ("Update", "read, create", "update"),
        ("Replace", "read, create", "update"),
    ] {
        test(|bench| async move {
            bench
                .root(&format!(
                    "- !host ops\n- !host loader\n- !policy\n  id: apps\n  body:\n  - !policy {{id: billing, owner: !host /ops}}\n\
                     - !permit {{role: !host loader, privileges: [{has}], resource: !policy apps/billing}}\n",
                ))
                .await;
            bench.connect("host/loader").await;
            bench
                .apply(&policy("p", &format!("mode: {mode}\nbranch: apps/billing"), "- !variable v\n"))
                .await;
            let message = bench.says::<ConjurPolicy>("p", "PolicyForbidden").await;
            let has = has.replace(", ", " and ");
            let says = format!(
                "host/loader lacks {needs} on policy apps/billing, which mode {mode} needs (it has {has})"
            );
            assert!(message.contains(&says), "{message}");
            let (place, permit) = message.split_once(" load this there: ").unwrap();
            assert!(place.ends_with("may load branch apps"), "{message}");
            bench.conjur.load("apps", permit).await.unwrap();
            bench.kubectl(&["annotate", "conjurpolicy", "p", "look=again"]).await;
            bench.ready::<ConjurPolicy>("p").await;
        });
    }
}

#[test]
fn a_foreign_or_immutable_secret_for_keys_is_refused_before_the_load() {
    test(|bench| async move {
        billing(&bench).await;
        bench.put_secret("theirs", &[("a", "b")]).await;
        bench.apply(&policy("p", &keys_in("theirs"), "- !host web\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "ForeignSecret").await;
        assert!(message.contains("/theirs exists and is not managed by this object"), "{message}");
        bench.holds("theirs", &[("a", "b")]).await;
        assert_eq!(loads(&bench), 0);

        bench.apply(&policy("q", &keys_in("ours"), "- !host one\n")).await;
        bench.ready::<ConjurPolicy>("q").await;
        let immutable = Patch::Merge(json!({"immutable": true}));
        bench.api::<Secret>().patch("ours", &PatchParams::default(), &immutable).await.unwrap();
        bench.apply(&policy("q", &keys_in("ours"), "- !host one\n- !host two\n")).await;
        let message = bench.says::<ConjurPolicy>("q", "ForeignSecret").await;
        assert!(message.contains("immutable"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/two"));
    });
}

#[test]
fn roles_whose_keys_do_not_fit_into_a_secret_are_refused_before_the_load() {
    test(|bench| async move {
        billing(&bench).await;
        let hosts: Vec<String> = (0..6000).map(|i| format!("{i:04}-{}", "x".repeat(70))).collect();
        bench.apply(&policy("p", &keys_in("roles"), &hosts_document(&hosts))).await;
        let message = bench.says::<ConjurPolicy>("p", "SecretTooLarge").await;
        assert!(message.contains("Split it over several objects"), "{message}");
        assert_eq!((loads(&bench), bench.data("roles").await), (0, None));
    });
}

#[test]
fn a_document_that_asks_for_more_than_the_branch_is_told_from_a_missing_privilege() {
    test(|bench| async move {
        billing(&bench).await;
        bench.conjur.fault(load_fault(1, When::Before, Effect::Status { status: 403, retry_after: None }));
        bench.apply(&policy("p", "", "- !variable v\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "PolicyForbidden").await;
        let says = "though host/ops has read and create and update on policy billing: the document itself asks for more";
        assert!(message.contains(says), "{message}");
        assert!(!message.contains("lacks") && !message.contains("!permit"), "{message}");
        bench.kubectl(&["annotate", "conjurpolicy", "p", "look=again"]).await;
        bench.ready::<ConjurPolicy>("p").await;
    });
}

//! A document is loaded when it changed, and only then.

use conjur_dev::Kind;
use conjur_operator::api::{ConjurConnection, ConjurPolicy};

use super::super::{alone, test};
use super::{billing, keys_in, loads, policy, settled, status, version};

#[test]
fn each_mode_does_what_conjur_says_of_it() {
    test(|bench| async move {
        billing(&bench).await;
        let methods = |bench: &super::Bench| -> Vec<String> {
            let seen = bench.conjur.requests().into_iter();
            seen.filter(|r| r.kind == Kind::Load).map(|r| r.method).collect()
        };
        bench.apply(&policy("p", "mode: Append", "- !variable one\n- !variable two\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(
            bench.conjur.exists("variable", "billing/one") && bench.conjur.exists("variable", "billing/two")
        );

        bench
            .apply(&policy("p", "mode: Update", "- !variable three\n- !delete\n  record: !variable one\n"))
            .await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(!bench.conjur.exists("variable", "billing/one"), "an update deletes what it says");
        assert!(bench.conjur.exists("variable", "billing/two"), "and nothing else");
        assert!(bench.conjur.exists("variable", "billing/three"));

        bench.apply(&policy("p", "mode: Replace", "- !variable four\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(!bench.conjur.exists("variable", "billing/two"), "a replacement removes what it leaves out");
        assert!(bench.conjur.exists("variable", "billing/four"));
        assert_eq!(methods(&bench), ["POST", "PATCH", "PUT"]);
    });
}

#[test]
fn a_load_asks_conjur_no_more_than_it_needs() {
    test(|bench| async move {
        let branches =
            ["vars", "hosts", "kept"].map(|name| format!("- !policy {{id: {name}, owner: !host ops}}\n"));
        bench.root(&format!("- !host ops\n{}", branches.concat())).await;
        bench.connect("host/ops").await;
        let keys = keys_in("roles");
        for (name, more, document, asked) in [
            // The version, the load.
            ("vars", "", "- !variable one\n", 2),
            // Who owns the branch, two hosts, the version, the load.
            ("hosts", keys.as_str(), "- !host a\n- !host b\n", 5),
            // Who owns the branch, a variable, the version for the inventory, and the announcement; the load, and when it was.
            ("kept", "deletionPolicy: Delete", "- !variable two\n", 6),
        ] {
            let before = bench.conjur.requests().len();
            bench.apply(&policy(name, &format!("branch: {name}\n{more}"), document)).await;
            bench.ready::<ConjurPolicy>(name).await;
            let all = bench.conjur.requests();
            let all: Vec<_> = all[before..].iter().map(|r| format!("{} {}", r.method, r.path)).collect();
            assert_eq!(all.len(), asked, "{name}: {all:#?}");
        }
    });
}

#[test]
fn the_status_says_what_was_loaded() {
    test(|bench| async move {
        billing(&bench).await;
        let document = "- !variable one\n";
        bench.apply(&policy("p", "", document)).await;
        let object = bench.ready::<ConjurPolicy>("p").await;
        let loaded = bench.conjur.policy_versions("billing").pop().unwrap();
        let said = status(&object);
        assert_eq!(said.version, i64::try_from(loaded.version).ok());
        assert_eq!(said.loaded_hash.as_deref(), Some(loaded.sha256.as_str()));
        assert_eq!(said.document_hash, said.loaded_hash);
        assert_eq!((said.created_roles, said.pending), (None, None));
        assert!(said.last_load_time.is_some());
        assert_eq!(said.observed_generation, object.metadata.generation);
        assert_eq!(loaded.text, document);
    });
}

#[test]
fn nothing_is_loaded_again_for_a_label_an_annotation_or_a_restart() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let keys = super::keys_in("roles");
        bench.apply(&policy("p", "", "- !variable one\n")).await;
        bench.apply(&policy("q", &keys, "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let before = status(&bench.ready::<ConjurPolicy>("q").await);
        let version_before = version(&bench, "billing");
        for name in ["p", "q"] {
            bench.kubectl(&["label", "conjurpolicy", name, "team=pay"]).await;
            bench.kubectl(&["annotate", "conjurpolicy", name, "note=hello"]).await;
        }
        bench.kubectl(&["label", "secret", "roles", "team=pay"]).await;
        settled(&bench, "first").await;
        operator.restart().await.unwrap();
        settled(&bench, "second").await;
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        settled(&bench, "third").await;
        assert_eq!(version(&bench, "billing"), version_before);
        assert_eq!(status(&bench.ready::<ConjurPolicy>("q").await), before);
    });
}

#[test]
fn a_change_of_document_mode_or_branch_is_loaded_once() {
    test(|bench| async move {
        billing(&bench).await;
        bench.root("- !policy {id: other, owner: !host ops}\n").await;
        for (count, more, document) in [
            (1, "", "- !variable one\n"),
            (2, "", "- !variable one\n# changed\n"),
            (3, "mode: Append", "- !variable one\n# changed\n"),
            (4, "mode: Append\nbranch: other", "- !variable one\n# changed\n"),
        ] {
            bench.apply(&policy("p", more, document)).await;
            bench
                .until("loaded", "p", |p: &ConjurPolicy| {
                    let said = p.status.clone().unwrap_or_default();
                    said.observed_generation == p.metadata.generation
                        && said.conditions.is_some_and(|c| c.len() == 1 && c[0].status == "True")
                })
                .await;
            settled(&bench, &format!("after-{count}")).await;
            let own = bench.conjur.requests();
            let own = own.iter().filter(|r| r.kind == Kind::Load && !r.path.contains("barrier")).count();
            assert_eq!(own, count, "{more} {document}");
        }
        assert!(bench.conjur.exists("variable", "other/one"));
    });
}

#[test]
fn a_suspended_policy_loads_nothing_until_it_goes_on() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", "suspend: true", "- !variable one\n")).await;
        bench.says::<ConjurPolicy>("p", "Suspended").await;
        assert_eq!(loads(&bench), 0);
        bench.apply(&policy("p", "suspend: false", "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(loads(&bench), 1);
        bench.apply(&policy("p", "suspend: true", "- !variable two\n")).await;
        settled(&bench, "later").await;
        assert!(!bench.conjur.exists("variable", "billing/two"));
        let conditions = status(&bench.api().get("p").await.unwrap()).conditions.unwrap();
        assert_eq!(conditions[0].status, "True", "as it was");
    });
}

#[test]
fn nothing_is_loaded_again_for_what_does_not_change_the_load() {
    test(|bench| async move {
        billing(&bench).await;
        let ours = || {
            let all = bench.conjur.requests();
            all.iter().filter(|r| r.kind == Kind::Load && r.path.ends_with("/policy/billing")).count()
        };
        let document = "- !variable one\n";
        bench.apply(&policy("p", "", document)).await;
        let before = status(&bench.ready::<ConjurPolicy>("p").await);

        let key = bench.secret_value("key");
        assert!(bench.conjur.set_api_key("host/ops", &key));
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        bench.conjur.expire_tokens();
        settled(&bench, "another-key").await;
        assert_eq!(ours(), 1, "another key of the identity");

        bench.apply(&bench.connection("other", "host/ops")).await;
        bench.ready::<ConjurConnection>("other").await;
        let other = |more: &str| policy("p", more, document).replace("{name: conjur}", "{name: other}");
        for (at, more) in [
            "",
            "driftCheckInterval: 1h",
            "driftCheckInterval: 1h\ncreatedRoles: {secretName: roles}",
            "deletionPolicy: Delete",
            "deletionPolicy: Retain",
            "action: DryRun",
            "action: Load",
            "suspend: true",
            "suspend: false",
        ]
        .into_iter()
        .enumerate()
        {
            bench.apply(&other(more)).await;
            bench.ready::<ConjurPolicy>("p").await;
            settled(&bench, &format!("change-{at}")).await;
            assert_eq!((ours(), version(&bench, "billing")), (1, 1), "{more}");
        }
        let after = status(&bench.ready::<ConjurPolicy>("p").await);
        assert_eq!((after.version, after.last_load_time), (before.version, before.last_load_time));
    });
}

//! Created roles and the Secret that keeps their keys.

use conjur_dev::Point;
use conjur_operator::{
    api::{ConjurConnection, ConjurPolicy},
    seams::document_hash,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;

use super::super::{
    setup::{change_policy, edit},
    test,
};
use super::{
    allow_deletions, assert_hosts, billing, held, hold, keys_in, keys_work, old_host_is_untouched, policy,
    status,
};

#[test]
fn the_keys_of_hosts_and_users_are_stored_under_their_names() {
    test(|bench| async move {
        bench
            .root(
                "- !host ops\n- !policy\n  id: apps\n  body:\n  - !policy {id: billing, owner: !host /ops}\n",
            )
            .await;
        bench.connect("host/ops").await;
        let document =
            "- !host web\n- !user alice\n- !variable v\n- !policy\n  id: eu\n  body:\n  - !host db-1_x\n";
        bench.apply(&policy("p", &format!("branch: apps/billing\n{}", keys_in("roles")), document)).await;
        let object = bench.ready::<ConjurPolicy>("p").await;
        let data = bench.data("roles").await.unwrap();
        let mut expected = Vec::new();
        for (name, login) in [
            ("host.apps_2fbilling_2fweb", "host/apps/billing/web"),
            ("host.apps_2fbilling_2feu_2fdb-1_5fx", "host/apps/billing/eu/db-1_x"),
            ("user.alice_40apps-billing", "alice@apps-billing"),
        ] {
            let key = bench.conjur.api_key_of(login).unwrap();
            bench.keep_secret(key.clone());
            expected.push((format!("{name}.api-key"), key));
            expected.push((format!("{name}.login"), login.to_owned()));
        }
        assert_eq!(data, expected.into_iter().collect());
        assert_eq!(
            status(&object).created_roles.unwrap(),
            [
                "demo:host:apps/billing/eu/db-1_x",
                "demo:host:apps/billing/web",
                "demo:user:alice@apps-billing"
            ]
        );
    });
}

#[test]
fn a_connection_can_use_the_keys_as_they_are() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n- !user alice\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        for (name, role, identity) in [
            ("web", "host.billing_2fweb", "host/billing/web"),
            ("alice", "user.alice_40billing", "alice@billing"),
        ] {
            let reference = |key: &str| format!("{{name: roles, key: {role}.{key}}}");
            bench
                .apply(&format!(
                    "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurConnection\nmetadata: {{name: {name}}}\nspec:\n  url: \
                     {}\n  account: demo\n  auth:\n    apiKey:\n      loginSecretRef: {}\n      apiKeySecretRef: {}\n",
                    bench.conjur.url(),
                    reference("login"),
                    reference("api-key")
                ))
                .await;
            let connection = bench.ready::<ConjurConnection>(name).await;
            assert_eq!(connection.status.unwrap().identity.as_deref(), Some(identity));
        }
        bench.keep_secret(bench.conjur.api_key_of("host/billing/web").unwrap());
    });
}

#[test]
fn roles_that_come_later_are_added_and_stored_keys_stay() {
    test(|bench| async move {
        billing(&bench).await;
        let keys = keys_in("roles");
        bench.apply(&policy("p", &keys, "- !host old\n- !host one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let first = bench.data("roles").await.unwrap();
        bench.apply(&policy("p", &keys, "- !host old\n- !host one\n- !host two\n")).await;
        let object = bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["one", "two"]).await;
        let second = bench.data("roles").await.unwrap();
        assert!(first.iter().all(|(name, value)| second.get(name) == Some(value)));
        assert_eq!(second.len(), 4, "the host that existed before needs no key from us");
        assert_eq!(
            status(&object).created_roles.unwrap(),
            ["demo:host:billing/one", "demo:host:billing/two"]
        );
        old_host_is_untouched(&bench);

        // Left out in mode Update it stays in Conjur, and so does its key here.
        bench.apply(&policy("p", &keys, "- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["one", "two"]).await;
        // Also where the policy no longer says where keys go.
        bench
            .kubectl(&[
                "patch",
                "conjurpolicy",
                "p",
                "--type=json",
                "-p",
                r#"[{"op":"remove","path":"/spec/createdRoles"}]"#,
            ])
            .await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["one", "two"]).await;
    });
}

#[test]
fn a_host_that_is_made_anew_has_its_new_key_stored() {
    test(|bench| async move {
        billing(&bench).await;
        let more = format!("mode: Replace\n{}", keys_in("roles"));
        for document in ["- !host web\n", "- !variable v\n", "- !host web\n"] {
            bench.apply(&policy("p", &more, document)).await;
            allow_deletions(&bench, "p", &document_hash(document.as_bytes())).await;
            bench.ready::<ConjurPolicy>("p").await;
        }
        keys_work(&bench, "roles", &["web"]).await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
    });
}

#[test]
fn the_keys_stay_when_the_policy_goes_and_are_found_again() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let secret = bench.api::<Secret>().get("roles").await.unwrap();
        assert_eq!(secret.metadata.owner_references, None, "or the garbage collector would take it");
        bench.kubectl(&["delete", "conjurpolicy", "p"]).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n- !host two\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web", "two"]).await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
    });
}

#[test]
fn success_is_reported_only_when_the_keys_are_stored() {
    test(|bench| async move {
        billing(&bench).await;
        let gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        held(&bench, 1).await;
        let announced = bench.data("roles").await.unwrap();
        assert!(announced["pending.json"].contains("demo:host:billing/web"), "announced before the load");
        let ready = |p: &ConjurPolicy| {
            let conditions = p.status.clone().unwrap_or_default().conditions.unwrap_or_default();
            conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        assert!(!ready(&bench.api().get("p").await.unwrap()));
        bench.conjur.release(gate);
        bench.until("Ready", "p", ready).await;
        assert_hosts(&bench, &bench.data("roles").await.unwrap(), &["web"]);
    });
}

#[test]
fn the_keys_of_roles_that_a_load_takes_away_leave_the_secret() {
    test(|bench| async move {
        billing(&bench).await;
        bench.root("- !policy {id: other, owner: !host ops}\n").await;
        let more = format!("mode: Replace\n{}", keys_in("roles"));
        bench.apply(&policy("p", &more, "- !host web\n- !host api\n- !user alice\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let lost = bench.data("roles").await.unwrap();
        let document = "- !host api\n";
        allow_deletions(&bench, "p", &document_hash(document.as_bytes())).await;
        bench.apply(&policy("p", &more, document)).await;
        let object = bench.ready::<ConjurPolicy>("p").await;
        assert!(!bench.conjur.exists("host", "billing/web"));
        assert_eq!(status(&object).created_roles.unwrap(), ["demo:host:billing/api"]);
        keys_work(&bench, "roles", &["api"]).await;
        assert_eq!(bench.data("roles").await.unwrap().len(), 2, "of {} before", lost.len());

        let of_other =
            |document: &str| policy("q", &format!("branch: other\n{}", keys_in("others")), document);
        bench
            .apply(&of_other("- !host kept\n- !host taken\n- !policy {id: eu, body: [!host inner]}\n"))
            .await;
        bench.ready::<ConjurPolicy>("q").await;
        bench.apply(&of_other("- !delete {record: !host taken}\n- !delete {record: !host eu/inner}\n")).await;
        let object = bench.ready::<ConjurPolicy>("q").await;
        assert_eq!(status(&object).created_roles.unwrap(), ["demo:host:other/kept"]);
        let left: Vec<String> = bench.data("others").await.unwrap().into_keys().collect();
        assert_eq!(left, ["host.other_2fkept.api-key", "host.other_2fkept.login"]);
    });
}

#[test]
fn keys_of_roles_that_are_merely_not_seen_stay_in_the_secret() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n- !host gone\n- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let before = bench.data("roles").await.unwrap();
        // From now on the identity may load the branch, and sees nothing of what is in it.
        change_policy(
            &bench,
            "- !policy {id: billing, owner: !user admin}\n\
             - !permit {role: !host ops, privileges: [read, create, update], resource: !policy billing}\n\
             - !revoke {role: !policy billing, member: !host ops}\n",
        )
        .await;
        bench.apply(&policy("p", &keys_in("roles"), "- !delete {record: !host gone}\n")).await;
        bench
            .until("loaded", "p", |p: &ConjurPolicy| p.status.as_ref().is_some_and(|s| s.version == Some(2)))
            .await;
        assert!(!bench.conjur.exists("host", "billing/gone"));
        assert!(
            bench.data("roles").await.unwrap() == before,
            "who is no owner can't tell that a role is gone"
        );
    });
}

#[test]
fn a_policy_goes_on_when_a_foreign_secret_goes_or_may_be_adopted() {
    test(|bench| async move {
        billing(&bench).await;
        bench
            .root("- !policy {id: second, owner: !host ops}\n- !policy {id: third, owner: !host ops}\n")
            .await;
        for name in ["roles", "others", "conjurpolicy-inventory.listed"] {
            bench.put_secret(name, &[("theirs", "x")]).await;
        }
        bench.apply(&policy("p", &keys_in("roles"), "- !host old\n- !host web\n")).await;
        bench.apply(&policy("q", &format!("branch: second\n{}", keys_in("others")), "- !host h\n")).await;
        let listed = "branch: third\ndeletionPolicy: Delete";
        bench.apply(&policy("listed", listed, "- !variable v\n")).await;
        for name in ["p", "q", "listed"] {
            bench.says::<ConjurPolicy>(name, "ForeignSecret").await;
        }
        // Nothing else would have them looked at within the hour.
        bench.api::<Secret>().delete("roles", &DeleteParams::default()).await.unwrap();
        let adopt =
            json!({ "metadata": { "annotations": { "conjur-operator.io/adopt": "ConjurPolicy/q" } } });
        edit(&bench, "others", adopt).await;
        bench
            .api::<Secret>()
            .delete("conjurpolicy-inventory.listed", &DeleteParams::default())
            .await
            .unwrap();
        for name in ["p", "q", "listed"] {
            bench.ready::<ConjurPolicy>(name).await;
        }
        keys_work(&bench, "roles", &["web"]).await;
        let key = bench.conjur.api_key_of("host/second/h").unwrap();
        bench.keep_secret(key.clone());
        assert_eq!(bench.data("others").await.unwrap().get("host.second_2fh.api-key"), Some(&key));
    });
}

//! What a namespace can write itself says what was done, and never what it may do: inventories and announcements that
//! are forged, and rules of a shared connection that are withdrawn.

use conjur_dev::Kind;
use conjur_operator::{
    api::{ClusterConjurConnection, ConjurPolicy},
    seams::{document_hash, hash},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::super::{
    Bench,
    access::{end, shared},
    test,
};
use super::{
    billing, keys_in, keys_work, loads, policy,
    removal::{INVENTORY, delete, deletes, gone},
    status,
    twins::other_server,
};

const TREE: &str = "- !policy mine\n- !policy former\n- !policy victim\n";

/// A connection of the whole cluster as Conjur's administrator, through which the namespace may load these branches.
async fn shared_connection(bench: &Bench, branches: &[&str]) -> String {
    let key = bench.conjur.admin_key();
    bench.put_secret("admin-login", &[("api-key", &key)]).await;
    let at = json!({ "namespace": bench.namespace, "name": "admin-login", "key": "api-key" });
    let auth = json!({ "apiKey": { "login": "admin", "apiKeySecretRef": at } });
    shared(bench, &auth, &rules(bench, branches)).await
}

fn rules(bench: &Bench, branches: &[&str]) -> Value {
    json!([{ "namespaces": { "names": [bench.namespace] }, "branches": branches }])
}

async fn grant(bench: &Bench, connection: &str, branches: &[&str]) {
    let api = Api::<ClusterConjurConnection>::all(bench.client.clone());
    let spec = json!({ "spec": { "access": rules(bench, branches) } });
    api.patch(connection, &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
}

/// The manifest of a policy that is loaded through a shared connection.
fn through(connection: &str, name: &str, more: &str, document: &str) -> String {
    let shared = format!("{{name: {connection}, kind: ClusterConjurConnection}}");
    policy(name, more, document).replace("{name: conjur}", &shared)
}

/// A Secret that looks as if the operator had written it for the policy `p`.
async fn forge(bench: &Bench, name: &str, kind: &str, key: &str, content: &Value) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {
            "name": name,
            "labels": { "conjur-operator.io/managed": "true" },
            "annotations": { "conjur-operator.io/owner": "ConjurPolicy/p" },
        },
        "stringData": { key: content.to_string() },
    });
    bench.apply(&secret.to_string()).await;
}

fn server(bench: &Bench) -> String {
    hash([bench.conjur.url().trim_end_matches('/'), "demo"])
}

/// Requests for a branch, or what lies in it.
fn asked_of(bench: &Bench, branch: &str) -> usize {
    bench.conjur.requests().iter().filter(|r| r.path.contains(branch)).count()
}

async fn retain(bench: &Bench) {
    let retain = r#"{"spec":{"deletionPolicy":"Retain"}}"#;
    bench.kubectl(&["patch", "conjurpolicy", "p", "--type=merge", "-p", retain]).await;
    gone(bench, "p").await;
}

#[test]
fn a_forged_inventory_removes_nothing_from_a_branch_that_is_not_granted() {
    test(|bench| async move {
        bench.root(TREE).await;
        bench.conjur.load("victim", "- !variable v\n").await.unwrap();
        let name = shared_connection(&bench, &["mine"]).await;
        let load = json!({
            "server": server(&bench), "branch": "victim", "document": "x", "loader": "demo:user:admin", "since": 0,
            "times": [["", "9"]], "absent": { "variable": ["v"] },
        });
        let forged = json!({ "loads": [load] });
        forge(&bench, INVENTORY, "conjur-operator.io/inventory", "inventory.json", &forged).await;
        bench.apply(&through(&name, "p", &deletes("branch: mine"), "- !variable x\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let loaded = loads(&bench);
        delete(&bench, "p").await;
        let message = bench.says::<ConjurPolicy>("p", "AccessDenied").await;
        assert!(message.contains("load policy branch victim"), "{message}");
        assert!(message.contains("set deletionPolicy to Retain"), "{message}");
        assert!(bench.conjur.exists("variable", "victim/v"));
        assert_eq!((asked_of(&bench, "victim"), loads(&bench)), (0, loaded));
        retain(&bench).await;
        assert!(bench.conjur.exists("variable", "victim/v"));
        end(&bench, &name).await;
    });
}

#[test]
fn a_removal_waits_where_a_rule_was_withdrawn() {
    test(|bench| async move {
        bench.root(TREE).await;
        let name = shared_connection(&bench, &["mine", "former"]).await;
        bench.apply(&through(&name, "p", &deletes("branch: former"), "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.apply(&through(&name, "p", &deletes("branch: mine"), "- !variable two\n")).await;
        bench
            .until("loaded", "p", |p: &ConjurPolicy| p.status.as_ref().and_then(|s| s.version) == Some(1))
            .await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(bench.conjur.exists("variable", "mine/two"));
        let loaded = loads(&bench);
        for (granted, missing) in [(&["mine"][..], "former"), (&["former"], "mine"), (&[], "mine")] {
            grant(&bench, &name, granted).await;
            if granted == ["mine"] {
                delete(&bench, "p").await;
            }
            let denied = format!("load policy branch {missing}");
            bench
                .until(&denied, "p", |p: &ConjurPolicy| {
                    let conditions = p.status.clone().unwrap_or_default().conditions.unwrap_or_default();
                    conditions.iter().any(|c| {
                        c.type_ == "Ready"
                            && c.reason == "AccessDenied"
                            && c.message.contains(&denied)
                            && c.message.contains("set deletionPolicy to Retain")
                    })
                })
                .await;
        }
        assert_eq!(loads(&bench), loaded, "nothing was sent");
        assert!(bench.conjur.exists("variable", "former/one") && bench.conjur.exists("variable", "mine/two"));
        grant(&bench, &name, &["mine", "former"]).await;
        gone(&bench, "p").await;
        assert!(
            !bench.conjur.exists("variable", "former/one") && !bench.conjur.exists("variable", "mine/two")
        );
        end(&bench, &name).await;
    });
}

#[test]
fn a_removal_waits_where_its_connection_became_read_only() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(""), "- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.apply(&(bench.connection("conjur", "host/ops") + "  accessMode: ReadOnly\n")).await;
        delete(&bench, "p").await;
        let message = bench.says::<ConjurPolicy>("p", "AccessDenied").await;
        assert!(message.contains("ReadOnly") && message.contains("deletionPolicy to Retain"), "{message}");
        assert!(loads(&bench) == 1 && bench.conjur.exists("variable", "billing/v"));
        bench.apply(&bench.connection("conjur", "host/ops")).await;
        gone(&bench, "p").await;
        assert!(!bench.conjur.exists("variable", "billing/v"));
    });
}

#[test]
fn a_dry_run_of_a_branch_that_no_rule_grants_asks_conjur_nothing() {
    test(|bench| async move {
        bench.root(TREE).await;
        let name = shared_connection(&bench, &["mine"]).await;
        bench.apply(&through(&name, "p", "branch: victim\naction: DryRun", "- !variable v\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "AccessDenied").await;
        assert!(message.contains("ask what a load of policy branch victim would change"), "{message}");
        assert_eq!((asked_of(&bench, "victim"), bench.conjur.count(Kind::DryRun)), (0, 0));
        end(&bench, &name).await;
    });
}

#[test]
fn a_forged_announcement_hands_over_no_key_of_a_branch_that_is_not_granted() {
    test(|bench| async move {
        bench.root(TREE).await;
        let theirs = "- !host web\n";
        for key in bench.conjur.load("victim", theirs).await.unwrap().into_values() {
            bench.keep_secret(key);
        }
        let name = shared_connection(&bench, &["mine"]).await;
        let sha = document_hash(theirs.as_bytes());
        let announced = |branch: &str| {
            json!({
                "document": sha, "inputs": "x", "since": 0, "at": 0, "documents": [sha], "loaders": ["demo:user:admin"],
                "server": server(&bench), "branch": branch, "version": 0, "owed": ["demo:host:victim/web"],
            })
        };
        let roles = |secret: &str| format!("branch: mine\n{}", keys_in(secret));
        forge(&bench, "victims", "Opaque", "pending.json", &announced("victim")).await;
        bench.apply(&through(&name, "p", &roles("victims"), "- !host mine\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "AccessDenied").await;
        assert!(message.contains("pending.json") && message.contains("branch victim"), "{message}");
        assert_eq!((asked_of(&bench, "victim"), loads(&bench)), (0, 0));
        // As if it had been a load into the branch that is granted.
        bench.kubectl(&["delete", "secret", "victims"]).await;
        forge(&bench, "mine", "Opaque", "pending.json", &announced("mine")).await;
        bench.apply(&through(&name, "p", &roles("mine"), "- !host mine\n")).await;
        let p = bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(status(&p).created_roles.unwrap(), ["demo:host:mine/mine"]);
        assert_eq!(bench.conjur.key_generation("host/victim/web"), Some(0));
        assert_eq!(asked_of(&bench, "victim"), 0);
        end(&bench, &name).await;
    });
}

#[test]
fn a_forged_secret_for_keys_tells_nothing_of_roles_that_are_not_granted() {
    test(|bench| async move {
        bench.root(TREE).await;
        for key in bench.conjur.load("victim", "- !host a\n").await.unwrap().into_values() {
            bench.keep_secret(key);
        }
        let name = shared_connection(&bench, &["mine"]).await;
        let mut said = Vec::new();
        for id in ["a", "b"] {
            let forged = json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {
                    "name": "roles",
                    "labels": { "conjur-operator.io/managed": "true" },
                    "annotations": { "conjur-operator.io/owner": "ConjurPolicy/p" },
                },
                "stringData": {
                    format!("host.victim_2f{id}.login"): format!("host/victim/{id}"),
                    format!("host.victim_2f{id}.api-key"): "forged",
                },
            });
            bench.apply(&forged.to_string()).await;
            let more = deletes(&format!("branch: mine\n{}", keys_in("roles")));
            bench.apply(&through(&name, "p", &more, "- !host mine\n")).await;
            let message = bench.says::<ConjurPolicy>("p", "InvalidSpec").await;
            said.push(message.replace(&format!("host/victim/{id}"), "host/victim/?"));
            // Nor is anything told when the object goes.
            delete(&bench, "p").await;
            gone(&bench, "p").await;
            bench.kubectl(&["delete", "secret", "roles", "--ignore-not-found"]).await;
        }
        assert_eq!(said[0], said[1]);
        assert_eq!(asked_of(&bench, "victim"), 0);
        assert!(!bench.conjur.exists("host", "mine/mine"), "refused before the load");
        end(&bench, &name).await;
    });
}

#[test]
fn a_role_that_another_server_said_it_made_is_not_rotated_in_a_branch_that_is_not_granted() {
    test(|bench| async move {
        bench.root(&TREE.replace("victim", "billing")).await;
        for key in bench.conjur.load("billing", "- !host web\n").await.unwrap().into_values() {
            bench.keep_secret(key);
        }
        let name = shared_connection(&bench, &["mine"]).await;
        // A server of the tenant's own, with a branch of the same name.
        let own = other_server(&bench).await;
        let manifest = policy("p", &keys_in("roles"), "- !host web\n");
        bench.apply(&manifest.replace("{name: conjur}", "{name: other}")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench
            .apply(&through(&name, "p", &format!("branch: mine\n{}", keys_in("new")), "- !variable v\n"))
            .await;
        bench.says::<ConjurPolicy>("p", "KeyNotStored").await;
        let rotate = "conjur-operator.io/rotate-keys=host/billing/web";
        bench.kubectl(&["annotate", "conjurpolicy", "p", rotate]).await;
        let message = bench.says::<ConjurPolicy>("p", "AccessDenied").await;
        assert!(message.contains("load policy branch billing"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        assert_eq!(bench.conjur.count(Kind::Rotate), 0);
        own.stop().await;
        end(&bench, &name).await;
    });
}

#[test]
fn an_announcement_or_inventory_that_was_edited_is_told_and_touches_nothing() {
    test(|bench| async move {
        billing(&bench).await;
        forge(&bench, "roles", "Opaque", "pending.json", &json!("edited")).await;
        bench.apply(&policy("p", &deletes(&keys_in("roles")), "- !host web\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "KeyNotStored").await;
        assert!(message.contains("pending.json") && message.contains("was edited"), "{message}");
        assert_eq!(loads(&bench), 0);
        bench.kubectl(&["delete", "secret", "roles"]).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web"]).await;

        let edit = r#"{"stringData":{"inventory.json":"edited"}}"#;
        bench.kubectl(&["patch", "secret", INVENTORY, "--type=merge", "-p", edit]).await;
        delete(&bench, "p").await;
        let message = bench.says::<ConjurPolicy>("p", "InventoryUnreadable").await;
        assert!(message.contains(INVENTORY), "{message}");
        assert!(bench.conjur.exists("host", "billing/web") && loads(&bench) == 1);
        bench.kubectl(&["delete", "secret", INVENTORY]).await;
        gone(&bench, "p").await;
        bench.events("LeftInConjur", "there is no inventory").await;
        assert!(bench.conjur.exists("host", "billing/web"));
        keys_work(&bench, "roles", &["web"]).await;
    });
}

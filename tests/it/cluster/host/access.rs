//! Through a ClusterConjurConnection nothing reaches beyond its rules, whatever a namespace writes into specs, statuses and
//! Secrets; and `accessMode`.

use conjur_dev::Kind;
use conjur_operator::{
    api::{ClusterConjurConnection, ConjurHost},
    seams::hash,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    super::{
        Bench,
        access::{end, shared},
        setup::put,
        test,
    },
    change, host, status, works,
};

const TREE: &str = "- !policy\n  id: mine\n  body:\n  - !layer web\n  - !host old\n  - !host-factory {id: factory, layers: [!layer web]}\n\
    - !policy\n  id: victim\n  body:\n  - !host old\n  - !layer admins\n  - !host-factory {id: factory, layers: [!layer admins]}\n";

/// A connection of the whole cluster as Conjur's administrator, through which the namespace may load these branches.
pub(super) async fn through(bench: &Bench, branches: &[&str]) -> String {
    bench.root(TREE).await;
    let key = bench.conjur.admin_key();
    bench.put_secret("admin-login", &[("api-key", &key)]).await;
    let at = json!({ "namespace": bench.namespace, "name": "admin-login", "key": "api-key" });
    let auth = json!({ "apiKey": { "login": "admin", "apiKeySecretRef": at } });
    shared(bench, &auth, &rules(bench, branches, None)).await
}

fn rules(bench: &Bench, branches: &[&str], identities: Option<bool>) -> Value {
    json!([{ "namespaces": { "names": [bench.namespace] }, "branches": branches, "identities": identities }])
}

pub(super) async fn grant(bench: &Bench, connection: &str, branches: &[&str], identities: Option<bool>) {
    let api = Api::<ClusterConjurConnection>::all(bench.client.clone());
    let spec = json!({ "spec": { "access": rules(bench, branches, identities) } });
    api.patch(connection, &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
}

pub(super) fn by(connection: &str, name: &str, id: &str, more: &Value) -> Value {
    let mut object = host(name, more);
    object["spec"]["connectionRef"] = json!({ "name": connection, "kind": "ClusterConjurConnection" });
    object["spec"]["id"] = id.into();
    object
}

/// Nothing of `victim` was asked for, and all of it is as it was.
fn victim_is_untouched(bench: &Bench) {
    assert_eq!(bench.conjur.key_generation("host/victim/old"), Some(0));
    assert_eq!(bench.conjur.loads("victim"), 0);
    let hosts = bench
        .conjur
        .members("layer", "victim/admins")
        .into_iter()
        .filter(|e| e.member.starts_with("demo:host:"));
    assert_eq!(hosts.count(), 0);
    let asked = bench.conjur.requests().into_iter().filter(|r| r.path.contains("victim"));
    let changing: Vec<_> = asked.filter(|r| r.method != "GET").collect();
    assert!(changing.is_empty(), "{changing:?}");
    assert_eq!(bench.conjur.factory_tokens("victim/factory").len(), 0);
}

#[test]
fn a_tenant_reaches_no_host_factory_layer_or_branch_beyond_its_rules() {
    test(|bench| async move {
        let name = through(&bench, &["mine"]).await;
        let adopt = json!({ "conflictPolicy": "Adopt" });
        let existing = json!({ "via": { "existing": {} }, "conflictPolicy": "Adopt" });
        for (nth, (id, more, what)) in [
            ("victim/new", json!({}), "host/victim/new"),
            ("victim/old", adopt, "host/victim/old"),
            ("victim/old", existing, "host/victim/old"),
            ("mine/a", json!({ "memberOf": ["layer/victim/admins"] }), "layer/victim/admins"),
            (
                "mine/b",
                json!({ "via": { "hostFactory": { "id": "victim/factory" } } }),
                "host factory victim/factory",
            ),
            ("mine/c", json!({ "via": { "branch": "root" } }), "load policy branch root"),
            ("victim/d", json!({ "via": { "hostFactory": { "id": "mine/factory" } } }), "host/victim/d"),
            ("top", json!({ "via": { "branch": "root" } }), "host/top"),
            ("mine/../victim/e", json!({ "via": { "branch": "mine" } }), ""),
        ]
        .into_iter()
        .enumerate()
        {
            let object = format!("h{nth}");
            let made = super::super::setup::try_put(&bench, &by(&name, &object, id, &more)).await;
            if what.is_empty() {
                assert!(made.unwrap_err().contains("segment"));
                continue;
            }
            made.unwrap();
            let message = bench.says::<ConjurHost>(&object, "AccessDenied").await;
            assert!(message.contains(what), "{id}: {message}");
            assert!(bench.data(&object).await.is_none());
        }
        victim_is_untouched(&bench);
        assert!(!bench.conjur.exists("host", "mine/c"));
        put(&bench, &by(&name, "web", "mine/web", &json!({ "memberOf": ["layer/mine/web"] }))).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/mine/web").await;
        end(&bench, &name).await;
    });
}

#[test]
fn a_forged_status_or_secret_grants_nothing() {
    test(|bench| async move {
        let name = through(&bench, &["mine"]).await;
        let server = hash([bench.conjur.url().trim_end_matches('/'), "demo"]);
        // It says that it has the victim's host, granted its layer, and was rotating its key.
        let mut object = by(
            &name,
            "web",
            "victim/old",
            &json!({ "conflictPolicy": "Adopt", "deletionPolicy": "Delete", "suspend": true }),
        );
        put(&bench, &object).await;
        let forged = json!({ "status": {
            "id": "demo:host:victim/old", "created": true,
            "applied": { "server": server, "key": 7, "granted": ["layer/victim/admins"], "memberOf": ["layer/victim/admins"], "apiKey": true },
            "pending": { "step": "Rotate", "at": 1, "number": 8, "server": server,
                "token": { "factory": "victim/factory", "expires": 9_999_999_999_i64 },
                "load": { "branch": "victim", "version": 0, "document": "x", "loaders": ["demo:user:admin"] } },
        } });
        let api = bench.api::<ConjurHost>();
        api.patch_status("web", &PatchParams::default(), &Patch::Merge(forged)).await.unwrap();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {
                "name": "web", "labels": { "conjur-operator.io/managed": "true" },
                "annotations": {
                    "conjur-operator.io/owner": "ConjurHost/web", "conjur-operator.io/server": server,
                    "conjur-operator.io/key-number": "7",
                },
            },
            "stringData": { "login": "host/victim/old", "api-key": "x" },
        });
        bench.apply(&secret.to_string()).await;
        object["spec"]["suspend"] = false.into();
        put(&bench, &object).await;
        bench.says::<ConjurHost>("web", "AccessDenied").await;
        super::annotate(&bench, "web", "rotate-now", "x").await;
        bench.says::<ConjurHost>("web", "AccessDenied").await;
        victim_is_untouched(&bench);
        api.delete("web", &DeleteParams::default()).await.unwrap();
        super::says_that(&bench, "web", "AccessDenied", "deletionPolicy to Retain").await;
        victim_is_untouched(&bench);
        change(&bench, "web", json!({ "spec": { "deletionPolicy": "Retain" } })).await;
        // Its own host, with a status that would have another's layer revoked.
        put(&bench, &by(&name, "own", "mine/own", &json!({}))).await;
        bench.ready::<ConjurHost>("own").await;
        works(&bench, "own", "host/mine/own").await;
        bench
            .conjur
            .load_root("- !grant {role: !layer victim/admins, member: !host mine/own}\n")
            .await
            .unwrap();
        let forged = json!({ "status": { "applied": { "granted": ["layer/victim/admins"] } } });
        api.patch_status("own", &PatchParams::default(), &Patch::Merge(forged)).await.unwrap();
        change(&bench, "own", json!({ "spec": { "annotations": { "a": "b" } } })).await;
        bench.says::<ConjurHost>("own", "AccessDenied").await;
        let still = bench
            .conjur
            .members("layer", "victim/admins")
            .iter()
            .any(|edge| edge.member == "demo:host:mine/own");
        assert!(still, "what another granted stays");
        end(&bench, &name).await;
    });
}

#[test]
fn a_rule_that_is_withdrawn_ends_rotations_and_removals_at_once() {
    test(|bench| async move {
        let name = through(&bench, &["mine"]).await;
        put(&bench, &by(&name, "web", "mine/web", &json!({ "deletionPolicy": "Delete" }))).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/mine/web").await;
        grant(&bench, &name, &["other"], None).await;
        super::annotate(&bench, "web", "rotate-now", "x").await;
        bench.says::<ConjurHost>("web", "AccessDenied").await;
        assert_eq!(bench.conjur.key_generation("host/mine/web"), Some(0));
        bench.api::<ConjurHost>().delete("web", &DeleteParams::default()).await.unwrap();
        super::says_that(&bench, "web", "AccessDenied", "deletionPolicy to Retain").await;
        assert!(bench.conjur.exists("host", "mine/web"));
        change(&bench, "web", json!({ "spec": { "deletionPolicy": "Retain" } })).await;
        end(&bench, &name).await;
    });
}

#[test]
fn adopt_takes_no_host_of_another_object_that_is_there() {
    test(|bench| async move {
        let name = through(&bench, &["mine"]).await;
        let theirs = "- !host\n  id: theirs\n  annotations:\n    conjur-operator.io/owner: other-cluster/ns/ConjurHost/web\n";
        bench.conjur.load("mine", theirs).await.unwrap();
        put(&bench, &by(&name, "web", "mine/theirs", &json!({ "conflictPolicy": "Adopt" }))).await;
        let message = bench.says::<ConjurHost>("web", "ForeignHost").await;
        assert!(message.contains("adopt") && !message.contains("other-cluster/ns"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/mine/theirs"), Some(0));
        let allowed = format!(
            "- !host\n  id: theirs\n  annotations:\n    conjur-operator.io/adopt: {}\n",
            super::owner(&bench, "web").await
        );
        bench.conjur.load("mine", &allowed).await.unwrap();
        super::annotate(&bench, "web", "sync-now", "x").await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/mine/theirs").await;
        end(&bench, &name).await;
    });
}

#[test]
fn a_tenant_takes_no_host_of_another_cluster_by_its_uid() {
    test(|bench| async move {
        bench.may_delete();
        let name = through(&bench, &["mine"]).await;
        let theirs = format!(
            "- !host\n  id: theirs\n  annotations:\n    conjur-operator.io/owner: other-cluster/{}/ConjurHost/web\n    \
             conjur-operator.io/created: \"true\"\n",
            bench.namespace
        );
        bench.conjur.load("mine", &theirs).await.unwrap();
        let mut object = by(&name, "web", "mine/theirs", &json!({ "deletionPolicy": "Delete" }));
        object["metadata"]["annotations"] = json!({ "conjur-operator.io/adopt-cluster": "other-cluster" });
        put(&bench, &object).await;
        bench.says::<ConjurHost>("web", "ForeignHost").await;
        let api = bench.api::<ConjurHost>();
        api.delete("web", &DeleteParams::default()).await.unwrap();
        let gone = || async { api.get_opt("web").await.unwrap().is_none().then_some(()) };
        testbed::wait_for("it is gone", super::SOON, gone).await.unwrap();
        assert_eq!(bench.conjur.key_generation("host/mine/theirs"), Some(0));
        let given = format!(
            "- !host\n  id: theirs\n  annotations:\n    conjur-operator.io/adopt: {}\n",
            super::owner(&bench, "web").await
        );
        bench.conjur.load("mine", &given).await.unwrap();
        put(&bench, &object).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/mine/theirs").await;
        super::is_owned(&bench, "mine/theirs", "web").await;
        change(&bench, "web", json!({ "spec": { "deletionPolicy": "Retain" } })).await;
        end(&bench, &name).await;
    });
}

#[test]
fn the_identity_of_a_connection_is_rotated_only_where_a_rule_says_so() {
    test(|bench| async move {
        let name = through(&bench, &["mine"]).await;
        bench.conjur.load("mine", "- !host bot\n").await.unwrap();
        let key = bench.conjur.api_key_of("host/mine/bot").unwrap();
        bench.keep_secret(key.clone());
        bench.put_secret("bot", &[("api-key", &key)]).await;
        bench.apply(&bench.connection("bots", "host/mine/bot").replace("conjur-login", "bot")).await;
        bench.ready::<conjur_operator::api::ConjurConnection>("bots").await;
        let existing = json!({ "via": { "existing": {} }, "conflictPolicy": "Adopt" });
        put(&bench, &by(&name, "web", "mine/bot", &existing)).await;
        let message = bench.says::<ConjurHost>("web", "AccessDenied").await;
        assert!(message.contains("identities: true"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/mine/bot"), Some(0));
        grant(&bench, &name, &["mine"], Some(true)).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/mine/bot").await;
        end(&bench, &name).await;
    });
}

#[test]
fn a_read_only_connection_enrols_and_rotates_nothing_and_a_write_only_one_does() {
    test(|bench| async move {
        super::billing(&bench).await;
        let mode = |mode: &str| json!({ "spec": { "accessMode": mode } });
        let connections = bench.api::<conjur_operator::api::ConjurConnection>();
        connections.patch("conjur", &PatchParams::default(), &Patch::Merge(mode("ReadOnly"))).await.unwrap();
        put(&bench, &host("web", &json!({}))).await;
        let message = bench.says::<ConjurHost>("web", "AccessDenied").await;
        assert!(message.contains("ReadOnly"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/web"));
        connections.patch("conjur", &PatchParams::default(), &Patch::Merge(mode("WriteOnly"))).await.unwrap();
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        connections.patch("conjur", &PatchParams::default(), &Patch::Merge(mode("ReadOnly"))).await.unwrap();
        super::annotate(&bench, "web", "rotate-now", "x").await;
        bench.says::<ConjurHost>("web", "AccessDenied").await;
        assert_eq!(
            (bench.conjur.count(Kind::Rotate), bench.conjur.key_generation("host/billing/web")),
            (0, Some(0))
        );
    });
}

#[test]
fn who_does_not_own_the_branch_makes_no_host() {
    test(|bench| async move {
        bench
            .root("- !host loader\n- !policy {id: billing}\n- !permit {role: !host loader, privileges: [read, create, update], resource: !policy billing}\n")
            .await;
        bench.connect("host/loader").await;
        put(&bench, &host("web", &json!({}))).await;
        let message = bench.says::<ConjurHost>("web", "NotBranchOwner").await;
        assert!(message.contains("host/loader") && message.contains("owner"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/web"));
        assert!(status(&bench.api::<ConjurHost>().get("web").await.unwrap()).pending.is_none());
    });
}

//! What a verdict depends on wakes the object that it is about: the table in `docs/architecture.md`, as far as other tests
//! don't show it. Refresh intervals are so long that nothing here comes about by itself.

use std::time::{Duration, Instant};

use conjur_dev::Kind;
use conjur_operator::api::{ClusterConjurConnection, ConjurConnection, ConjurPolicy, ConjurSecret};
use k8s_openapi::api::{
    core::v1::{Namespace, Secret},
    events::v1::Event,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    Bench, SOON,
    access::{self, shared},
    login::{jwt, lets_service_accounts_in, service_account},
    setup::{
        LOGIN, api_requests, change_policy, condition, connected, eventually, permitted, project, put,
        secret, states, synced, untyped,
    },
    template::{put_config_map, template_from},
    test, version,
};

/// Sooner than anything is looked at by itself.
const AT_ONCE: Duration = Duration::from_secs(20);

async fn label(bench: &Bench, labels: Value) {
    let namespaces = Api::<Namespace>::all(bench.client.clone());
    let patch = json!({ "metadata": { "labels": labels } });
    namespaces.patch(&bench.namespace, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

fn admin(bench: &Bench) -> Value {
    json!({ "apiKey": { "login": "admin", "apiKeySecretRef": { "namespace": bench.namespace, "name": "conjur-login", "key": "api-key" } } })
}

/// A root policy with a branch for the namespace, and the login of the administrator; the value of `apps/key`.
async fn prepared(bench: &Bench) -> String {
    let namespace = &bench.namespace;
    bench
        .root(&format!(
            "- !policy\n  id: apps\n  body:\n  - !variable key\n  - !policy\n    id: {namespace}\n"
        ))
        .await;
    bench.put_secret("conjur-login", &[("api-key", &bench.conjur.admin_key())]).await;
    bench.set("apps/key")
}

#[test]
fn a_label_of_the_namespace_that_a_rule_selects_counts_at_once_and_so_does_its_end() {
    test(|bench| async move {
        let value = prepared(&bench).await;
        let branch = format!("apps/{}", bench.namespace);
        let access = json!([{
            "namespaces": { "selector": { "matchLabels": { "team": "pay" } } },
            "read": ["apps/k*"], "branches": ["apps/{namespace}"],
        }]);
        let name = shared(&bench, &admin(&bench), &access).await;
        let mut on_change = access::secret("on-change", &name, "apps/key");
        on_change["spec"]["refreshPolicy"] = "OnChange".into();
        put(&bench, &access::secret("periodic", &name, "apps/key")).await;
        put(&bench, &on_change).await;
        put(&bench, &access::policy("p", &name, &branch)).await;
        for object in ["periodic", "on-change"] {
            bench.says::<ConjurSecret>(object, "AccessDenied").await;
        }
        bench.says::<ConjurPolicy>("p", "AccessDenied").await;

        let labelled = tokio::time::Instant::now();
        label(&bench, json!({ "team": "pay" })).await;
        for object in ["periodic", "on-change"] {
            bench.holds(object, &[("v", &value)]).await;
            bench.ready::<ConjurSecret>(object).await;
        }
        bench.ready::<ConjurPolicy>("p").await;
        assert!(labelled.elapsed() < AT_ONCE, "{:?}", labelled.elapsed());

        // A label that no rule selects by changes nothing.
        let before = version(&bench.ready::<ConjurSecret>("periodic").await);
        bench.conjur.clear_requests();
        label(&bench, json!({ "other": "x" })).await;
        label(&bench, json!({ "team": null })).await;
        for object in ["periodic", "on-change"] {
            bench.says::<ConjurSecret>(object, "AccessDenied").await;
            bench.holds(object, &[("v", &value)]).await;
        }
        assert_eq!(bench.conjur.requests().len(), 0);
        assert_ne!(before, version(&bench.api::<ConjurSecret>().get("periodic").await.unwrap()));
        access::end(&bench, &name).await;
    });
}

#[test]
fn a_changed_rule_of_a_connection_counts_at_once_for_both_kinds() {
    test(|bench| async move {
        let value = prepared(&bench).await;
        let name = shared(&bench, &admin(&bench), &json!([])).await;
        put(&bench, &access::secret("s", &name, "apps/key")).await;
        put(&bench, &access::policy("p", &name, &format!("apps/{}", bench.namespace))).await;
        bench.says::<ConjurSecret>("s", "AccessDenied").await;
        bench.says::<ConjurPolicy>("p", "AccessDenied").await;
        let access = json!([{ "namespaces": { "names": [bench.namespace] }, "read": ["**"], "branches": ["apps/**"] }]);
        let patch = json!({ "spec": { "access": access } });
        let connections = Api::<ClusterConjurConnection>::all(bench.client.clone());
        connections.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        bench.holds("s", &[("v", &value)]).await;
        bench.ready::<ConjurPolicy>("p").await;
        access::end(&bench, &name).await;
        // The connection is gone, which both tell; what they made stays.
        bench.says::<ConjurSecret>("s", "ConnectionNotFound").await;
        bench.holds("s", &[("v", &value)]).await;
    });
}

#[test]
fn a_service_account_that_comes_is_waited_for_by_a_connection_and_by_each_tenant() {
    test(|bench| async move {
        let bench = lets_service_accounts_in(&bench, &[(&bench.namespace, "app")]).await;
        let host = format!("apps/k8s/system:serviceaccount:{}:app", bench.namespace);
        change_policy(
            &bench,
            &format!("- !variable v\n- !permit {{role: !host '{host}', privileges: [read, execute], resource: !variable v}}\n"),
        )
        .await;
        let value = bench.set("v");
        let access = json!([{ "namespaces": { "names": [bench.namespace] }, "read": ["**"] }]);
        let name = shared(&bench, &jwt("app", "conjur"), &access).await;
        put(&bench, &access::secret("tenant", &name, "v")).await;
        let own = json!({ "auth": jwt("app", "conjur") });
        put(&bench, &super::setup::connection(&bench, "own", &own)).await;
        bench.says::<ConjurConnection>("own", "CredentialsNotFound").await;
        let message = bench.says::<ConjurSecret>("tenant", "ConnectionNotReady").await;
        assert!(message.contains("does not exist"), "{message}");
        let came = tokio::time::Instant::now();
        service_account(&bench, "app").await;
        bench.ready::<ConjurConnection>("own").await;
        bench.holds("tenant", &[("v", &value)]).await;
        assert!(came.elapsed() < AT_ONCE, "{:?}", came.elapsed());
        access::end(&bench, &name).await;
        bench.conjur.stop().await;
    });
}

/// A template that lies in a Secret, and goes into another under the same key.
fn passes_on(name: &str, from: &str, more: &Value) -> Value {
    let from = json!({ "kind": "Secret", "name": from, "key": "t", "targetKey": "t" });
    let mut object =
        project(name, &[("a", "a")], &json!({ "target": { "template": { "dataFrom": [from] } } }));
    let target = object["spec"]["target"].as_object_mut().unwrap();
    target.extend(more.as_object().unwrap().clone());
    object
}

#[test]
fn objects_that_write_one_anothers_templates_are_refused_and_go_on_when_one_reads_elsewhere() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        bench.put_secret("start", &[("t", "{{ a }}")]).await;
        // Two and three objects, the last over a Secret that it only merges into.
        bench.put_secret("theirs", &[("x", "y")]).await;
        let merge = json!({ "name": "theirs", "creationPolicy": "Merge", "deletionPolicy": "Retain" });
        put(&bench, &passes_on("one", "start", &json!({}))).await;
        bench.ready::<ConjurSecret>("one").await;
        put(&bench, &passes_on("two", "one", &json!({}))).await;
        bench.ready::<ConjurSecret>("two").await;
        put(&bench, &passes_on("three", "two", &merge)).await;
        bench.ready::<ConjurSecret>("three").await;
        for (ends, members) in [("two", vec!["one", "two"]), ("theirs", vec!["one", "two", "three"])] {
            put(&bench, &passes_on("one", ends, &json!({}))).await;
            let message = bench.says::<ConjurSecret>("one", "InvalidSpec").await;
            for member in &members {
                assert!(message.contains(member), "{message}");
            }
            // The others stand, or tell the same when they are asked: nobody writes for ever.
            for member in &members[1..] {
                super::setup::sync_now(&bench, member, ends).await;
                bench.says::<ConjurSecret>(member, "InvalidSpec").await;
            }
            let writes = || {
                let is_write = |r: &&testbed::ApiRequest| r.resource == "secrets" && r.verb != "get";
                api_requests(&bench).iter().filter(is_write).count()
            };
            let before = writes();
            put(&bench, &project("beside", &[("a", "a")], &json!({}))).await;
            bench.ready::<ConjurSecret>("beside").await;
            assert!(writes() <= before + 1);
            bench.holds("two", &[("t", &value)]).await;
            // One edit mends all.
            put(&bench, &passes_on("one", "start", &json!({}))).await;
            for member in members {
                bench.ready::<ConjurSecret>(member).await;
            }
            bench.api::<ConjurSecret>().delete("beside", &DeleteParams::default()).await.unwrap();
        }
    });
}

#[test]
fn a_source_that_somebody_changes_after_each_write_does_not_keep_us_busy() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put_config_map(&bench, "urls", &[("url", "0 {{ a }}")]).await;
        put(&bench, &project("db", &[("a", "a")], &template_from("ConfigMap", "urls"))).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = api_requests(&bench).len();
        let contested = bench.says::<ConjurSecret>("db", "Contested");
        let copies = async {
            let (mut seen, mut count) = (String::new(), 0);
            loop {
                let now = version(&secret(&bench, "db").await);
                if now == seen {
                    tokio::task::yield_now().await;
                } else {
                    (seen, count) = (now, count + 1);
                    put_config_map(&bench, "urls", &[("url", &format!("{count} {{{{ a }}}}"))]).await;
                }
            }
        };
        let message = tokio::select! {
            message = contested => message,
            () = copies => unreachable!("it never ends"),
        };
        assert!(message.contains("changes after each write of it"), "{message}");
        let is_write = |r: &&testbed::ApiRequest| r.resource == "secrets" && r.verb == "update";
        let writes = api_requests(&bench)[before..].iter().filter(is_write).count();
        assert!((5..=22).contains(&writes), "{writes} writes before it was slowed down");
        // Who asks for it has it at once.
        put_config_map(&bench, "urls", &[("url", "last {{ a }}")]).await;
        synced(&bench, "db", "now").await;
        let holds = || async { bench.data("db").await?["DATABASE_URL"].starts_with("last ").then_some(()) };
        wait_for("what was asked for", SOON, holds).await.unwrap();
    });
}

#[test]
fn odd_ids_that_a_list_brings_cost_only_themselves() {
    test(|bench| async move {
        let value = connected(&bench, &["found/a"]).await.remove(0);
        for id in ["found/b//c", "found/tail/", "odd/../x", "found/./y"] {
            change_policy(&bench, &permitted(&format!("'{id}'")).replace("apps/'", "'apps/")).await;
            bench.set(&format!("apps/{id}"));
        }
        let find = |prefix: &str| json!({ "data": null, "dataFrom": [{ "find": { "prefix": prefix } }] });
        put(&bench, &project("some", &[], &find("apps/found/"))).await;
        bench.holds("some", &[("a", &value)]).await;
        let object = bench.ready::<ConjurSecret>("some").await;
        let (_, reason, message) = condition(&object, "Ready").unwrap();
        assert_eq!((states(&object).as_str(), reason.as_str()), ("Ready=True", "Synced"));
        assert!(message.contains("3 variables") && message.contains("\"apps/found/b//c\""), "{message}");
        bench.events("VariablesLeftOut", "3 variables").await;
        // Looked at again, it says the same, and sends no other Event.
        let again = condition(&synced(&bench, "some", "again").await, "Ready").unwrap();
        assert_eq!(again.2, message);
        bench.events("VariablesLeftOut", "3 variables").await;
        let events = bench.api::<Event>().list(&ListParams::default()).await.unwrap();
        let told: Vec<_> =
            events.iter().filter(|e| e.reason.as_deref() == Some("VariablesLeftOut")).collect();
        assert!(told.len() == 1 && told[0].series.is_none(), "{told:?}");
        // Nothing else: no Secret without a key.
        put(&bench, &project("none", &[], &find("apps/odd/"))).await;
        let message = bench.says::<ConjurSecret>("none", "NoKeys").await;
        assert!(message.contains("1 variable") && message.contains("\"apps/odd/../x\""), "{message}");
        assert_eq!(bench.data("none").await, None);
        // What is named is refused by name.
        put(&bench, &project("named", &[("b", "found/b//c")], &json!({}))).await;
        bench.says::<ConjurSecret>("named", "InvalidSpec").await;
    });
}

#[test]
fn what_others_put_on_a_secret_in_masses_is_kept_over_a_write() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({ "refreshInterval": "10s" }))).await;
        bench.ready::<ConjurSecret>("db").await;
        let much = "x".repeat(100_000);
        let theirs = json!({ "metadata": { "annotations": { "example.com/much": much }, "labels": { "theirs": "x" } } });
        super::setup::edit(&bench, "db", theirs).await;
        let value = bench.set("apps/a");
        bench.holds("db", &[("a", &value)]).await;
        let after: Secret = secret(&bench, "db").await;
        assert_eq!(after.metadata.annotations.unwrap()["example.com/much"].len(), much.len());
        assert_eq!(after.metadata.labels.unwrap()["theirs"], "x");
    });
}

#[test]
fn a_long_document_is_loaded_and_loaded_again_when_it_changed() {
    test(|bench| async move {
        bench.root("- !host ops\n- !policy {id: billing, owner: !host ops}\n").await;
        bench.connect("host/ops").await;
        let policy = |last: &str| {
            let document = format!("# {}\n- !variable {last}\n", "x".repeat(100_000));
            json!({
                "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPolicy", "metadata": { "name": "p" },
                "spec": { "connectionRef": { "name": "conjur" }, "branch": "billing", "document": document },
            })
        };
        for last in ["one", "two"] {
            put(&bench, &policy(last)).await;
            bench.ready::<ConjurPolicy>("p").await;
            eventually("the variable", || bench.conjur.exists("variable", &format!("billing/{last}"))).await;
        }
        let loads = bench.conjur.count(conjur_dev::Kind::Load);
        assert_eq!(loads, 2);
        let loaded = bench.conjur.policy_versions("billing").pop().unwrap();
        let object = bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(object.status.unwrap().loaded_hash.as_deref(), Some(loaded.sha256.as_str()));
    });
}

#[test]
fn a_credential_that_is_mended_in_conjur_is_noticed_at_once_by_sync_now_of_the_connection() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        bench.ready::<ConjurConnection>("conjur").await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        assert!(bench.conjur.set_api_key(LOGIN, "another-key-that-nobody-has"));
        bench.conjur.expire_tokens();
        let sync_now = |text: &str| {
            let of = json!({ "metadata": { "annotations": { "conjur-operator.io/sync-now": text } } });
            let connections = untyped(&bench, "ConjurConnection");
            async move {
                connections.patch("conjur", &PatchParams::default(), &Patch::Merge(of)).await.unwrap();
            }
        };
        sync_now("look").await;
        bench.says::<ConjurConnection>("conjur", "AuthenticationFailed").await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.says::<ConjurSecret>("db", "ConnectionNotReady").await;
        // Each refusal doubles the pause: after six of them the next try is half a minute away.
        let refused = bench.conjur.count(Kind::Authenticate);
        eventually("it is tried several times", || bench.conjur.count(Kind::Authenticate) >= refused + 5)
            .await;
        // Nothing in the cluster changes.
        assert!(bench.conjur.set_api_key(LOGIN, &key));
        let mended = Instant::now();
        sync_now("mended").await;
        bench.ready::<ConjurConnection>("conjur").await;
        bench.holds("db", &[("a", &value)]).await;
        assert!(mended.elapsed() < Duration::from_secs(15), "by its own time: {:?}", mended.elapsed());
    });
}

//! `deletionPolicy: Delete`: what a document made goes with its object, and nothing else.

use conjur_dev::{Effect, Fault, Kind, Point, When};
use conjur_operator::api::ConjurPolicy;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use testbed::wait_for;

use super::super::{Bench, SOON, alone, test};
use super::{
    billing, held, hold, keys_in, keys_work, loads, old_host_is_untouched, policy, settled, version,
};

const EVERYTHING: &str = "- !host old\n- !variable old\n- !host web\n- !user alice\n- !group admins\n- !layer apps\n\
    - !host-factory {id: factory, layers: [!layer apps]}\n- !webservice api\n- !variable db/password\n\
    - !policy\n  id: eu\n  owner: !group admins\n  body:\n  - !variable v\n  - !user bob\n  - !policy\n    id: west\n    body:\n    - !host h\n\
    - !grant {role: !group admins, member: !user alice}\n\
    - !permit {role: !group admins, privileges: [read], resource: !variable db/password}\n";
const MADE: [(&str, &str); 12] = [
    ("host", "billing/web"),
    ("user", "alice@billing"),
    ("group", "billing/admins"),
    ("layer", "billing/apps"),
    ("host_factory", "billing/factory"),
    ("webservice", "billing/api"),
    ("variable", "billing/db/password"),
    ("policy", "billing/eu"),
    ("variable", "billing/eu/v"),
    ("user", "bob@billing-eu"),
    ("policy", "billing/eu/west"),
    ("host", "billing/eu/west/h"),
];
pub(super) const INVENTORY: &str = "conjurpolicy-inventory.p";

pub(super) fn deletes(more: &str) -> String {
    format!("deletionPolicy: Delete\n{more}")
}

fn there(bench: &Bench) -> Vec<&'static str> {
    MADE.into_iter().filter(|(kind, id)| bench.conjur.exists(kind, id)).map(|(_, id)| id).collect()
}

/// Asks for the deletion, without waiting for it.
pub(super) async fn delete(bench: &Bench, name: &str) {
    bench.api::<ConjurPolicy>().delete(name, &DeleteParams::default()).await.unwrap();
}

pub(super) async fn gone(bench: &Bench, name: &str) {
    let api = bench.api::<ConjurPolicy>();
    wait_for(&format!("{name} is gone"), SOON, || async {
        api.get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
}

/// The object goes first, and then what it left.
async fn its_secrets_are_gone(bench: &Bench) {
    wait_for("the Secrets of the policy are gone", SOON, || async {
        (bench.data("roles").await.is_none() && bench.data(INVENTORY).await.is_none()).then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
}

async fn keep_keys(bench: &Bench, secret: &str) {
    for (key, value) in bench.data(secret).await.unwrap() {
        if key.ends_with("api-key") {
            bench.keep_secret(value);
        }
    }
}

#[test]
fn what_the_document_made_goes_with_the_object_and_what_was_there_stays() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(&keys_in("roles")), EVERYTHING)).await;
        let p = bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(p.metadata.finalizers.unwrap(), ["conjur-operator.io/policy"]);
        assert_eq!(there(&bench).len(), MADE.len());
        keys_work(&bench, "roles", &["web"]).await;
        keep_keys(&bench, "roles").await;
        for secret in ["roles", INVENTORY] {
            let secret = bench.api::<Secret>().get(secret).await.unwrap();
            assert_eq!(
                secret.metadata.owner_references, None,
                "a foreground deletion would take it too early"
            );
        }
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        assert_eq!(there(&bench), Vec::<&str>::new());
        assert!(bench.conjur.exists("host", "billing/old") && bench.conjur.exists("variable", "billing/old"));
        old_host_is_untouched(&bench);
        assert_eq!(version(&bench, "billing"), 2, "one load, one removal");
        let removal = bench.conjur.policy_versions("billing").last().unwrap().text.clone();
        let deleted: Vec<&str> =
            removal.lines().filter_map(|line| line.trim().strip_prefix("record: !")).collect();
        let at = |record: &str| {
            deleted.iter().position(|r| *r == record).unwrap_or_else(|| panic!("{record}: {removal}"))
        };
        let order = [
            "variable \"db/password\"",
            "host-factory \"factory\"",
            "host \"web\"",
            "group \"admins\"",
            "policy \"eu/west\"",
            "policy \"eu\"",
        ];
        assert!(order.map(at).is_sorted(), "{removal}");
        assert_eq!(deleted.len(), MADE.len());
        its_secrets_are_gone(&bench).await;
        bench.events("Removed", "12 records").await;
    });
}

#[test]
fn what_earlier_documents_made_goes_too_and_what_is_gone_is_no_hindrance() {
    test(|bench| async move {
        billing(&bench).await;
        for document in ["- !variable one\n", "- !variable two\n- !variable one\n", "- !variable three\n"] {
            bench.apply(&policy("p", &deletes(""), document)).await;
            bench.ready::<ConjurPolicy>("p").await;
            settled(&bench, &format!("after-{}", document.len())).await;
        }
        bench.root("- !policy {id: other, owner: !host ops}\n").await;
        bench.apply(&policy("p", &deletes("branch: other"), "- !variable four\n")).await;
        bench
            .until("loaded", "p", |p: &ConjurPolicy| p.status.as_ref().and_then(|s| s.version) == Some(1))
            .await;
        bench.ready::<ConjurPolicy>("p").await;
        let delete_two = "- !delete\n  record: !variable two\n";
        bench.apply(&policy("q", "", delete_two)).await;
        bench.ready::<ConjurPolicy>("q").await;
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        for id in ["billing/one", "billing/two", "billing/three", "other/four"] {
            assert!(!bench.conjur.exists("variable", id), "{id}");
        }
        assert!(bench.conjur.exists("variable", "billing/old"));
    });
}

#[test]
fn with_retain_conjur_is_left_alone() {
    test(|bench| async move {
        billing(&bench).await;
        bench
            .apply(&policy("p", &format!("deletionPolicy: Retain\n{}", keys_in("roles")), "- !host web\n"))
            .await;
        let p = bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(p.metadata.finalizers, None);
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        keys_work(&bench, "roles", &["web"]).await;
        assert_eq!((version(&bench, "billing"), bench.data(INVENTORY).await), (1, None));
    });
}

#[test]
fn a_change_to_retain_takes_the_finalizer_and_the_inventory_away() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(""), "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(bench.data(INVENTORY).await.is_some());
        bench.apply(&policy("p", "deletionPolicy: Retain", "- !variable one\n")).await;
        bench.until("no finalizer", "p", |p: &ConjurPolicy| p.metadata.finalizers.is_none()).await;
        assert!(bench.data(INVENTORY).await.is_none());
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        assert!(bench.conjur.exists("variable", "billing/one"));
    });
}

#[test]
fn what_others_hang_on_stays_with_an_event() {
    test(|bench| async move {
        billing(&bench).await;
        let document = "- !policy eu\n- !group g\n- !variable v\n";
        bench.apply(&policy("p", &deletes(""), document)).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.conjur.load("billing/eu", "- !variable theirs\n").await.unwrap();
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        assert!(
            bench.conjur.exists("variable", "billing/eu/theirs")
                && bench.conjur.exists("policy", "billing/eu")
        );
        assert!(!bench.conjur.exists("group", "billing/g") && !bench.conjur.exists("variable", "billing/v"));
        bench.events("LeftInConjur", "demo:policy:billing/eu (for demo:variable:billing/eu/theirs)").await;
    });
}

#[test]
fn without_its_connection_the_object_goes_all_the_same() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(&keys_in("roles")), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.kubectl(&["delete", "conjurconnection", "conjur"]).await;
        bench.says::<ConjurPolicy>("p", "ConnectionNotFound").await;
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        bench.events("LeftInConjur", "conjur does not exist").await;
        keys_work(&bench, "roles", &["web"]).await;
        assert!(bench.data(INVENTORY).await.is_none());
    });
}

#[test]
fn a_connection_that_fails_is_waited_for() {
    alone(|bench, _operator| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(""), "- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.conjur.stop().await;
        delete(&bench, "p").await;
        bench
            .until("waiting", "p", |p: &ConjurPolicy| {
                let conditions = p.status.clone().unwrap_or_default().conditions.unwrap_or_default();
                conditions
                    .iter()
                    .any(|c| c.type_ == "Ready" && c.message.contains("set deletionPolicy to Retain"))
            })
            .await;
        bench.conjur.resume().await.unwrap();
        gone(&bench, "p").await;
        assert!(!bench.conjur.exists("variable", "billing/v"));
    });
}

#[test]
fn who_no_longer_owns_the_branch_is_told_and_retain_lets_it_go() {
    test(|bench| async move {
        bench.root("- !host ops\n- !group owners\n- !policy {id: billing, owner: !group owners}\n").await;
        let grant = "{role: !group owners, member: !host ops}\n";
        bench.root(&format!("- !grant {grant}- !permit {{role: !host ops, privileges: [read], resource: !policy billing}}\n")).await;
        bench.connect("host/ops").await;
        bench.apply(&policy("p", &deletes(""), "- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.put_secret("admin-login", &[("api-key", &bench.conjur.admin_key())]).await;
        bench.apply(&bench.connection("admin", "admin").replace("conjur-login", "admin-login")).await;
        let revoke = policy("revoke", "branch: root", &format!("- !revoke {grant}"));
        bench.apply(&revoke.replace("{name: conjur}", "{name: admin}")).await;
        bench.ready::<ConjurPolicy>("revoke").await;
        delete(&bench, "p").await;
        let message = bench.says::<ConjurPolicy>("p", "NotBranchOwner").await;
        assert!(message.contains("host/ops does not own branch billing any more"), "{message}");
        let retain = r#"{"spec":{"deletionPolicy":"Retain"}}"#;
        bench.kubectl(&["patch", "conjurpolicy", "p", "--type=merge", "-p", retain]).await;
        gone(&bench, "p").await;
        assert!(bench.conjur.exists("variable", "billing/v"));
    });
}

/// The branch `billing` is owned by the host that the connection is, until the policy `revoke` is applied, which sees to
/// it that the host no longer sees it.
async fn owned_until_revoked(bench: &Bench) -> String {
    bench.root("- !host ops\n- !group owners\n- !policy {id: billing, owner: !group owners}\n").await;
    let grant = "{role: !group owners, member: !host ops}\n";
    bench.root(&format!("- !grant {grant}- !policy {{id: other, owner: !host ops}}\n")).await;
    bench.connect("host/ops").await;
    bench.put_secret("admin-login", &[("api-key", &bench.conjur.admin_key())]).await;
    bench.apply(&bench.connection("admin", "admin").replace("conjur-login", "admin-login")).await;
    let revoke = policy("revoke", "branch: root", &format!("- !revoke {grant}"));
    revoke.replace("{name: conjur}", "{name: admin}")
}

#[test]
fn keys_stay_where_their_branch_is_no_longer_visible() {
    test(|bench| async move {
        let revoke = owned_until_revoked(&bench).await;
        bench.apply(&policy("p", &deletes(&keys_in("roles")), "- !host web\n- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.apply(&revoke).await;
        bench.ready::<ConjurPolicy>("revoke").await;
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        bench.events("LeftInConjur", "no longer visible to host/ops").await;
        bench.events("LeftInConjur", "of 1 of which host/ops can't tell").await;
        assert!(bench.conjur.exists("variable", "billing/v"));
        keys_work(&bench, "roles", &["web"]).await;
    });
}

#[test]
fn keys_of_a_branch_that_is_in_no_inventory_stay_where_it_is_no_longer_visible() {
    test(|bench| async move {
        let revoke = owned_until_revoked(&bench).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let more = deletes(&format!("branch: other\n{}", keys_in("roles")));
        bench.apply(&policy("p", &more, "- !host two\n")).await;
        bench
            .until("two made", "p", |p: &ConjurPolicy| {
                let made = p.status.clone().unwrap_or_default().created_roles.unwrap_or_default();
                made.contains(&"demo:host:other/two".to_owned())
            })
            .await;
        bench.ready::<ConjurPolicy>("p").await;
        let two = "host.other_2ftwo.api-key";
        bench.keep_secret(bench.data("roles").await.unwrap().remove(two).unwrap());
        bench.apply(&revoke).await;
        bench.ready::<ConjurPolicy>("revoke").await;
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        assert!(!bench.conjur.exists("host", "other/two"));
        keys_work(&bench, "roles", &["web"]).await;
        assert!(!bench.data("roles").await.unwrap().contains_key(two), "its role is gone");
    });
}

#[test]
fn what_conjur_no_longer_tells_of_is_left_with_an_event() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", &deletes(""), "- !variable v\n")).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        bench.conjur.release(gate);
        loaded_by_others(&bench, 21).await;
        delete(&bench, "p").await;
        operator.restart().await.unwrap();
        gone(&bench, "p").await;
        bench.events("LeftInConjur", "that ConjurPolicy p may have made").await;
        bench.events("LeftInConjur", "demo:variable:billing/v").await;
        assert!(bench.conjur.exists("variable", "billing/v"));
    });
}

#[test]
fn a_role_that_conjur_no_longer_tells_of_is_not_rotated() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        held(&bench, 1).await;
        operator.kill9().await.unwrap();
        bench.conjur.release(gate);
        loaded_by_others(&bench, 21).await;
        operator.restart().await.unwrap();
        let message = bench.says::<ConjurPolicy>("p", "KeyNotStored").await;
        assert!(message.contains("host/billing/web"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        let rotate = "conjur-operator.io/rotate-keys=host/billing/web";
        bench.kubectl(&["annotate", "conjurpolicy", "p", rotate]).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web"]).await;
    });
}

/// Conjur lists the newest 20 versions of a branch.
async fn loaded_by_others(bench: &Bench, times: usize) {
    for i in 0..times {
        bench.conjur.load("billing", &format!("- !variable others/{i}\n")).await.unwrap();
    }
}

#[test]
fn what_was_loaded_under_retain_is_in_no_inventory_and_stays() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", "", "- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.apply(&policy("p", &deletes(""), "- !variable v\n")).await;
        bench.until("a finalizer", "p", |p: &ConjurPolicy| p.metadata.finalizers.is_some()).await;
        bench.ready::<ConjurPolicy>("p").await;
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        bench.events("LeftInConjur", "there is no inventory of what ConjurPolicy p made").await;
        assert!(bench.conjur.exists("variable", "billing/v"));
        assert_eq!(loads(&bench), 1);
    });
}

#[test]
fn what_is_written_says_whose_it_is() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(&keys_in("roles")), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        for name in ["roles", INVENTORY] {
            let written = bench.api::<Secret>().get(name).await.unwrap().metadata;
            let labels = written.labels.unwrap();
            assert_eq!(labels["conjur-operator.io/managed"], "true", "{name}");
            assert_eq!(labels["app.kubernetes.io/managed-by"], "conjur-operator", "{name}");
            assert_eq!(written.annotations.unwrap()["conjur-operator.io/owner"], "ConjurPolicy/p", "{name}");
            let managers: Vec<_> =
                written.managed_fields.unwrap().into_iter().map(|f| f.manager.unwrap()).collect();
            assert_eq!(managers, ["conjur-operator"], "{name}");
        }
    });
}

#[test]
fn who_does_not_own_the_branch_is_refused_before_the_load() {
    test(|bench| async move {
        bench
            .root(
                "- !host ops\n- !policy billing\n\
                 - !permit {role: !host ops, privileges: [read, create, update], resource: !policy billing}\n",
            )
            .await;
        bench.connect("host/ops").await;
        bench.apply(&policy("p", &deletes(""), "- !variable v\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "NotBranchOwner").await;
        assert!(
            message.contains("deletionPolicy: Delete needs an identity that owns branch billing"),
            "{message}"
        );
        assert_eq!(loads(&bench), 0);
        delete(&bench, "p").await;
        gone(&bench, "p").await;
    });
}

#[test]
fn a_record_that_another_made_between_look_and_load_is_theirs() {
    test(|bench| async move {
        billing(&bench).await;
        let late = Effect::Latency { millis: 1500 };
        bench.conjur.fault(Fault {
            method: Some("PATCH".into()),
            path: "/policies/demo/policy/billing".into(),
            count: Some(1),
            when: When::Before,
            effect: late,
        });
        bench.apply(&policy("p", &deletes(""), "- !variable theirs\n- !variable mine\n")).await;
        wait_for("the load is on its way", SOON, || async { (loads(&bench) == 1).then_some(()) })
            .await
            .unwrap();
        bench.conjur.load("billing", "- !variable theirs\n").await.unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        delete(&bench, "p").await;
        gone(&bench, "p").await;
        assert!(bench.conjur.exists("variable", "billing/theirs"));
        assert!(!bench.conjur.exists("variable", "billing/mine"));
    });
}

#[test]
fn an_object_that_is_being_deleted_is_not_loaded_again() {
    test(|bench| async move {
        billing(&bench).await;
        let manifest =
            policy("p", "", "- !variable one\n").replace("{name: p}", "{name: p, finalizers: [test/hold]}");
        bench.apply(&manifest).await;
        bench.ready::<ConjurPolicy>("p").await;
        delete(&bench, "p").await;
        bench.apply(&manifest.replace("variable one", "variable two")).await;
        settled(&bench, "later").await;
        assert_eq!(version(&bench, "billing"), 1);
        let release = r#"[{"op":"remove","path":"/metadata/finalizers"}]"#;
        bench.kubectl(&["patch", "conjurpolicy", "p", "--type=json", "-p", release]).await;
        gone(&bench, "p").await;
        assert!(!bench.conjur.exists("variable", "billing/two"));
    });
}

#[test]
fn a_suspended_object_says_that_its_deletion_waits() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &deletes(""), "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let suspend = |on: bool| format!(r#"{{"spec":{{"suspend":{on}}}}}"#);
        bench.kubectl(&["patch", "conjurpolicy", "p", "--type=merge", "-p", &suspend(true)]).await;
        delete(&bench, "p").await;
        let message = bench.says::<ConjurPolicy>("p", "Suspended").await;
        assert!(message.contains("being deleted, but suspended"), "{message}");
        assert!(bench.conjur.exists("variable", "billing/one"));
        bench.kubectl(&["patch", "conjurpolicy", "p", "--type=merge", "-p", &suspend(false)]).await;
        gone(&bench, "p").await;
        assert!(!bench.conjur.exists("variable", "billing/one"));
    });
}

#[test]
fn a_kill_during_the_load_or_the_removal_leaves_nothing_behind() {
    for at in [Point::BeforeCommit, Point::AfterCommit] {
        alone(|bench, mut operator| async move {
            billing(&bench).await;
            let gate = hold(&bench, at);
            bench
                .apply(&policy("p", &deletes(&keys_in("roles")), "- !host old\n- !host web\n- !variable v\n"))
                .await;
            held(&bench, 1).await;
            operator.kill9().await.unwrap();
            delete(&bench, "p").await;
            operator.restart().await.unwrap();
            if at == Point::BeforeCommit {
                // The load goes on in Conjur: what it makes is not to be missed.
                bench.says::<ConjurPolicy>("p", "LoadInProgress").await;
            }
            bench.conjur.release(gate);
            gone(&bench, "p").await;
            assert!(
                !bench.conjur.exists("host", "billing/web") && !bench.conjur.exists("variable", "billing/v")
            );
            its_secrets_are_gone(&bench).await;
            old_host_is_untouched(&bench);

            bench.apply(&policy("p", &deletes(""), "- !variable v\n")).await;
            bench.ready::<ConjurPolicy>("p").await;
            let gate = hold(&bench, at);
            delete(&bench, "p").await;
            held(&bench, 1).await;
            operator.kill9().await.unwrap();
            bench.conjur.release(gate);
            operator.restart().await.unwrap();
            gone(&bench, "p").await;
            assert!(!bench.conjur.exists("variable", "billing/v"));
            assert!(bench.conjur.count(Kind::Load) > 2);
        });
    }
}

#[test]
fn a_foreground_deletion_takes_no_key_before_its_role() {
    test(|bench| async move {
        billing(&bench).await;
        let foreground = DeleteParams::foreground();
        for connected in [true, false] {
            bench.apply(&policy("p", &deletes(&keys_in("roles")), "- !host web\n")).await;
            bench.ready::<ConjurPolicy>("p").await;
            keep_keys(&bench, "roles").await;
            if !connected {
                bench.kubectl(&["delete", "conjurconnection", "conjur"]).await;
            }
            bench.api::<ConjurPolicy>().delete("p", &foreground).await.unwrap();
            gone(&bench, "p").await;
            assert_eq!(bench.conjur.exists("host", "billing/web"), !connected);
            assert_eq!(bench.data("roles").await.is_some(), !connected);
        }
        keys_work(&bench, "roles", &["web"]).await;
    });
}

#[test]
fn a_namespace_that_goes_takes_its_policies_along() {
    test(|bench| async move {
        let going = Bench { namespace: format!("{}-going", bench.namespace), ..bench.clone() };
        let meta = serde_json::json!({ "metadata": { "name": going.namespace } });
        let namespaces = Api::<Namespace>::all(bench.client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(meta).unwrap()).await.unwrap();
        billing(&going).await;
        going.apply(&policy("p", &deletes(&keys_in("roles")), "- !host web\n- !variable one\n")).await;
        let p = going.ready::<ConjurPolicy>("p").await;
        assert_eq!(p.metadata.finalizers.unwrap(), ["conjur-operator.io/policy"]);
        keep_keys(&going, "roles").await;
        namespaces.delete(&going.namespace, &DeleteParams::default()).await.unwrap();
        wait_for("the namespace is gone", SOON, || async {
            namespaces.get_opt(&going.namespace).await.unwrap().is_none().then_some(())
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", going.state_now()));
        old_host_is_untouched(&bench);
        // Others go on.
        bench.connect("host/ops").await;
        settled(&bench, "elsewhere").await;
    });
}

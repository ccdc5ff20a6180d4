//! Whose a host is: what another made is left alone, one host has one object, and what may be taken over is.

use conjur_operator::api::{ConjurHost, ConjurPolicy};
use kube::api::DeleteParams;
use serde_json::json;

use super::{
    super::{
        Bench,
        setup::{change_policy, put},
        test,
    },
    billing, change, host, is_owned, old_host_is_untouched, owner, status, works,
};

#[test]
fn a_host_that_another_made_is_left_alone_unless_it_is_adopted() {
    test(|bench| async move {
        billing(&bench).await;
        let more =
            json!({ "id": "billing/old", "annotations": { "a": "b" }, "memberOf": ["layer/billing/web"] });
        put(&bench, &host("web", &more)).await;
        let message = bench.says::<ConjurHost>("web", "ForeignHost").await;
        assert!(
            message.contains("host/billing/old") && message.contains("conflictPolicy: Adopt"),
            "{message}"
        );
        old_host_is_untouched(&bench);
        assert_eq!(bench.conjur.loads("billing"), 0, "nothing of the object reached it");
        assert!(bench.data("web").await.is_none());
        change(&bench, "web", json!({ "spec": { "conflictPolicy": "Adopt" } })).await;
        let object = bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/old").await;
        assert_eq!(bench.conjur.key_generation("host/billing/old"), Some(1), "its old key is dead");
        assert_eq!(status(&object).created, Some(false));
        let annotations = bench.conjur.annotations("host", "billing/old");
        assert_eq!(annotations["conjur-operator.io/owner"], owner(&bench, "web").await);
        assert_eq!(annotations["conjur-operator.io/created"], "false");
        assert_eq!(annotations["a"], "b");
    });
}

#[test]
fn what_exists_is_taken_over_with_adopt_and_nothing_of_it_changes_but_its_key() {
    test(|bench| async move {
        billing(&bench).await;
        let more = json!({ "id": "billing/old", "via": { "existing": {} }, "conflictPolicy": "Adopt" });
        put(&bench, &host("web", &more)).await;
        let object = bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/old").await;
        assert_eq!(bench.conjur.key_generation("host/billing/old"), Some(1));
        assert_eq!((bench.conjur.loads("billing"), status(&object).created), (0, Some(false)));
        assert!(bench.conjur.annotations("host", "billing/old").is_empty());
        super::rotated(&bench, "web", "again").await;
        works(&bench, "web", "host/billing/old").await;
        let more = json!({ "id": "billing/none", "via": { "existing": {} }, "conflictPolicy": "Adopt" });
        put(&bench, &host("none", &more)).await;
        let message = bench.says::<ConjurHost>("none", "HostNotFound").await;
        assert!(message.contains("host/billing/none"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/none"));
    });
}

#[test]
fn of_two_objects_for_one_host_the_older_has_it_and_the_other_waits() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        super::super::setup::later().await;
        let more = json!({ "id": "billing/web", "conflictPolicy": "Adopt" });
        put(&bench, &host("younger", &more)).await;
        let message = bench.says::<ConjurHost>("younger", "HostTaken").await;
        assert!(message.contains("/web"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        bench.kubectl(&["delete", "conjurhost", "web"]).await;
        bench.ready::<ConjurHost>("younger").await;
        works(&bench, "younger", "host/billing/web").await;
    });
}

/// Another namespace, with a connection of its own.
async fn neighbour(bench: &Bench) -> Bench {
    let other = bench.in_namespace(&format!("{}-tenant", bench.namespace)).await;
    other.connect("host/ops").await;
    other
}

#[test]
fn who_has_a_host_keeps_other_namespaces_out_of_it_also_suspended_and_with_a_wrong_spec() {
    test(|bench| async move {
        billing(&bench).await;
        let other = neighbour(&bench).await;
        let older = host("hidden-name", &json!({ "id": "billing/web" }));
        put(&other, &older).await;
        super::super::setup::later().await;
        other.ready::<ConjurHost>("hidden-name").await;
        let wrong =
            json!({ "template": { "dataFrom": [{ "kind": "ConfigMap", "name": "none", "key": "t" }] } });
        change(&other, "hidden-name", json!({ "spec": { "target": wrong } })).await;
        other.says::<ConjurHost>("hidden-name", "TemplateNotFound").await;
        change(&other, "hidden-name", json!({ "spec": { "suspend": true } })).await;
        let rests = |h: &ConjurHost| status(h).observed_generation == h.metadata.generation;
        other.until("it is suspended", "hidden-name", rests).await;
        put(&bench, &host("web", &json!({ "conflictPolicy": "Adopt" }))).await;
        let message = bench.says::<ConjurHost>("web", "HostTaken").await;
        assert!(!message.contains("hidden-name") && !message.contains("tenant"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        works(&other, "hidden-name", "host/billing/web").await;
        other.api::<ConjurHost>().delete("hidden-name", &DeleteParams::default()).await.unwrap();
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
    });
}

#[test]
fn who_can_never_have_a_host_keeps_no_other_namespace_from_it() {
    test(|bench| async move {
        billing(&bench).await;
        let other = neighbour(&bench).await;
        let wrong =
            json!({ "template": { "dataFrom": [{ "kind": "ConfigMap", "name": "none", "key": "t" }] } });
        put(&other, &host("web", &json!({ "target": wrong }))).await;
        other.says::<ConjurHost>("web", "TemplateNotFound").await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
    });
}

#[test]
fn a_cluster_that_was_restored_finds_its_host_by_the_former_uid() {
    test(|bench| async move {
        billing(&bench).await;
        let theirs = format!(
            "- !host\n  id: web\n  annotations:\n    conjur-operator.io/owner: former/{}/ConjurHost/web\n    \
             conjur-operator.io/created: \"true\"\n",
            bench.namespace
        );
        bench.conjur.load("billing", &theirs).await.unwrap();
        put(&bench, &host("web", &json!({}))).await;
        bench.says::<ConjurHost>("web", "ForeignHost").await;
        super::annotate(&bench, "web", "adopt-cluster", "former").await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        is_owned(&bench, "billing/web", "web").await;
    });
}

#[test]
fn a_host_whose_key_a_policy_keeps_is_taken() {
    test(|bench| async move {
        billing(&bench).await;
        let manifest = "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurPolicy\nmetadata: {name: p}\nspec:\n  \
                        connectionRef: {name: conjur}\n  branch: billing\n  createdRoles: {secretName: roles}\n  document: \"- !host web\\n\"\n";
        bench.apply(manifest).await;
        bench.ready::<ConjurPolicy>("p").await;
        let more = json!({ "id": "billing/web", "via": { "existing": {} }, "conflictPolicy": "Adopt" });
        put(&bench, &host("web", &more)).await;
        let message = bench.says::<ConjurHost>("web", "HostTaken").await;
        assert!(message.contains("ConjurPolicy") && message.contains("/p"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
    });
}

#[test]
fn a_branch_that_a_policy_replaces_takes_no_hosts() {
    test(|bench| async move {
        billing(&bench).await;
        let manifest = "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurPolicy\nmetadata: {name: p}\nspec:\n  \
                        connectionRef: {name: conjur}\n  branch: billing\n  mode: Replace\n  document: \"- !policy {id: eu, owner: !host /ops}\\n- !variable v\\n\"\n";
        bench.apply(manifest).await;
        bench.ready::<ConjurPolicy>("p").await;
        put(&bench, &host("web", &json!({}))).await;
        let message = bench.says::<ConjurHost>("web", "BranchTaken").await;
        assert!(message.contains("branch") && message.contains("below"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/web"));
        put(&bench, &host("eu", &json!({ "id": "billing/eu/web" }))).await;
        bench.ready::<ConjurHost>("eu").await;
        works(&bench, "eu", "host/billing/eu/web").await;
    });
}

#[test]
fn the_identity_of_the_connection_itself_is_refused_with_the_way_out() {
    test(|bench| async move {
        bench.root("- !policy\n  id: ops\n  body:\n  - !host me\n").await;
        let owns = "- !policy\n  id: own\n  owner: !host ops/me\n";
        change_policy(&bench, owns).await;
        bench.connect("host/ops/me").await;
        let more = json!({ "id": "ops/me", "via": { "existing": {} }, "conflictPolicy": "Adopt" });
        put(&bench, &host("me", &more)).await;
        let message = bench.says::<ConjurHost>("me", "InvalidSpec").await;
        assert!(message.contains("another identity") && message.contains("existing"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/ops/me"), Some(0));
    });
}

#[test]
fn another_clusters_host_is_named_and_left_alone() {
    test(|bench| async move {
        billing(&bench).await;
        let theirs = "- !host\n  id: web\n  annotations:\n    conjur-operator.io/owner: other-cluster/ns/ConjurHost/web\n    \
                      conjur-operator.io/created: \"true\"\n";
        bench.conjur.load("billing", theirs).await.unwrap();
        put(&bench, &host("web", &json!({}))).await;
        let message = bench.says::<ConjurHost>("web", "ForeignHost").await;
        assert!(message.contains("billing/web"), "{message}");
        assert!(!message.contains("other-cluster/ns"), "no object of elsewhere is named: {message}");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
    });
}

#[test]
fn an_object_of_the_same_name_finds_its_host_and_its_secret_again() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        let before = works(&bench, "web", "host/billing/web").await;
        bench.kubectl(&["delete", "conjurhost", "web"]).await;
        assert_eq!(bench.data("web").await.as_ref(), Some(&before), "the Secret is the only copy, and stays");
        let secret = super::super::setup::secret(&bench, "web").await;
        assert!(secret.metadata.owner_references.is_none(), "no owner takes it along");
        put(&bench, &host("web", &json!({ "rotation": { "interval": "1h" } }))).await;
        let object = bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        is_owned(&bench, "billing/web", "web").await;
        assert!(status(&object).last_rotation_time.is_some(), "else no slot would ever rotate it");
    });
}

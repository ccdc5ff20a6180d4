//! Whose a variable is: made here, declared by an administrator, filled by another, another object's, another cluster's.

use conjur_operator::api::ConjurPush;
use k8s_openapi::api::core::v1::Namespace;

use super::super::{
    access::{end, shared},
    setup::{change_policy, eventually, later},
    test,
};
use super::*;

/// Declares a variable of the branch `litellm`, with these annotations.
async fn declared(bench: &Bench, name: &str, annotations: &[(&str, &str)]) {
    let all: BTreeMap<_, _> = annotations.iter().copied().collect();
    let document = format!("- !variable {{id: {name}, annotations: {}}}\n", json!(all));
    bench.conjur.load("litellm", &document).await.unwrap();
}

/// A ClusterConjurConnection as `host/ops`, through which the test's namespace may write into the branch `litellm`: its name.
async fn shared_to_write(bench: &Bench) -> String {
    let key = bench.conjur.api_key_of("host/ops").unwrap();
    bench.keep_secret(key);
    let login = json!({ "namespace": bench.namespace, "name": "conjur-login", "key": "api-key" });
    let auth = json!({ "apiKey": { "login": "host/ops", "apiKeySecretRef": login } });
    let access = json!([{ "namespaces": { "names": [bench.namespace] }, "write": ["litellm/**"], "branches": ["litellm"] }]);
    shared(bench, &auth, &access).await
}

/// A variable keeps its value, however often it is looked at.
async fn stays(bench: &Bench, object: &str, id: &str, value: &str) {
    synced(bench, object, &format!("stays {id}")).await;
    assert_eq!(bench.conjur.variable(id).as_deref(), Some(value.as_bytes()), "{id}");
}

#[test]
fn one_that_an_administrator_declared_is_filled_and_never_deleted() {
    test(|bench| async move {
        owned(&bench).await;
        declared(&bench, "declared", &[]).await;
        let values = secret(&bench, "keys", &["declared", "made"]).await;
        put(&bench, &push("p", "keys", &json!({ "deletionPolicy": "Delete" }))).await;
        let p = pushed(&bench, "p").await;
        filled(&bench, "litellm/declared", &values[0]).await;
        assert_eq!(variables(&p), ["litellm/declared false 1", "litellm/made true 1"]);
        assert_eq!(annotation(&bench, "litellm/declared", OWNER), None);
        // It is this object's by its status, and goes on to be filled.
        let values = secret(&bench, "keys", &["declared", "made"]).await;
        filled(&bench, "litellm/declared", &values[0]).await;
        pushed(&bench, "p").await;
        delete(&bench, "p").await;
        assert!(!bench.conjur.exists("variable", "litellm/made"));
        assert_eq!(bench.conjur.variable("litellm/declared").as_deref(), Some(values[0].as_bytes()));
    });
}

#[test]
fn one_that_another_filled_is_left_alone_until_it_may_be_adopted() {
    test(|bench| async move {
        owned(&bench).await;
        declared(&bench, "theirs", &[]).await;
        let theirs = bench.set("litellm/theirs");
        let values = secret(&bench, "keys", &["own", "theirs"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let message = told(&bench, "p", "ForeignVariable", "litellm/theirs").await;
        assert!(message.contains("conflictPolicy: Adopt"), "{message}");
        filled(&bench, "litellm/own", &values[0]).await;
        stays(&bench, "p", "litellm/theirs", &theirs).await;
        put(&bench, &push("p", "keys", &json!({ "conflictPolicy": "Adopt" }))).await;
        let p = pushed(&bench, "p").await;
        filled(&bench, "litellm/theirs", &values[1]).await;
        assert_eq!(annotation(&bench, "litellm/theirs", OWNER), Some(owner(&bench, "p").await));
        assert_ne!(
            annotation(&bench, "litellm/theirs", CREATED).as_deref(),
            Some("true"),
            "it did not make it"
        );
        assert_eq!(variables(&p), ["litellm/own true 1", "litellm/theirs false 2"]);
        put(&bench, &push("p", "keys", &json!({ "deletionPolicy": "Delete" }))).await;
        pushed(&bench, "p").await;
        delete(&bench, "p").await;
        assert!(bench.conjur.exists("variable", "litellm/theirs"));
        assert!(!bench.conjur.exists("variable", "litellm/own"));
    });
}

#[test]
fn one_that_carries_another_clusters_annotation_is_foreign_even_without_a_value() {
    test(|bench| async move {
        owned(&bench).await;
        let other = "11111111-2222-3333-4444-555555555555/team/ConjurPush/keys";
        declared(&bench, "empty", &[(OWNER, other), (CREATED, "true")]).await;
        declared(&bench, "full", &[(OWNER, other), (CREATED, "true")]).await;
        let full = bench.set("litellm/full");
        let values = secret(&bench, "keys", &["empty", "full"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let message = told(&bench, "p", "ForeignVariable", "litellm/empty").await;
        assert!(message.contains("litellm/full") && !message.contains("team"), "{message}");
        stays(&bench, "p", "litellm/full", &full).await;
        assert_eq!(bench.conjur.variable("litellm/empty"), None);
        put(&bench, &push("p", "keys", &json!({ "conflictPolicy": "Adopt" }))).await;
        pushed(&bench, "p").await;
        for (id, value) in ["litellm/empty", "litellm/full"].iter().zip(&values) {
            filled(&bench, id, value).await;
            assert_eq!(annotation(&bench, id, OWNER), Some(owner(&bench, "p").await));
        }
    });
}

#[test]
fn of_two_objects_with_one_variable_the_older_has_it_and_the_other_goes_on_without_it() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        let others = secret(&bench, "others", &["a", "c"]).await;
        put(&bench, &push("older", "keys", &json!({ "deletionPolicy": "Delete" }))).await;
        pushed(&bench, "older").await;
        later().await;
        put(&bench, &push("younger", "others", &json!({}))).await;
        let message = told(&bench, "younger", "VariableTaken", "litellm/a").await;
        assert!(message.contains(&format!("ConjurPush {}/older", bench.namespace)), "{message}");
        filled(&bench, "litellm/c", &others[1]).await;
        filled(&bench, "litellm/a", &values[0]).await;
        stays(&bench, "younger", "litellm/a", &values[0]).await;
        delete(&bench, "older").await;
        filled(&bench, "litellm/a", &others[0]).await;
        let p = pushed(&bench, "younger").await;
        assert_eq!(variables(&p), ["litellm/a true 1", "litellm/c true 1"]);
    });
}

#[test]
fn the_older_wins_also_where_the_younger_came_first() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a"]).await;
        let others = secret(&bench, "others", &["a"]).await;
        put(&bench, &push("older", "keys", &json!({ "suspend": true }))).await;
        later().await;
        // One that may not push keeps nobody out.
        put(&bench, &push("younger", "others", &json!({}))).await;
        pushed(&bench, "younger").await;
        filled(&bench, "litellm/a", &others[0]).await;
        put(&bench, &push("older", "keys", &json!({}))).await;
        pushed(&bench, "older").await;
        filled(&bench, "litellm/a", &values[0]).await;
        told(&bench, "younger", "VariableTaken", "litellm/a").await;
        assert_eq!(annotation(&bench, "litellm/a", OWNER), Some(owner(&bench, "older").await));
        stays(&bench, "younger", "litellm/a", &values[0]).await;
        stays(&bench, "older", "litellm/a", &values[0]).await;
    });
}

#[test]
fn who_cannot_push_a_variable_keeps_nobody_out_of_it() {
    test(|bench| async move {
        owned(&bench).await;
        for (name, more) in [
            ("no-secret", json!({})),
            ("no-connection", json!({ "connectionRef": { "name": "missing" } })),
            ("no-branch", json!({ "prefix": "litellm/", "createVariables": { "branch": "elsewhere" } })),
        ] {
            put(&bench, &push(name, "missing", &more)).await;
        }
        told(&bench, "no-secret", "SourceNotFound", "missing").await;
        told(&bench, "no-connection", "ConnectionNotFound", "missing").await;
        later().await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
    });
}

#[test]
fn an_older_object_that_has_not_got_a_variable_keeps_nobody_out_of_it() {
    test(|bench| async move {
        owned(&bench).await;
        declared(&bench, "theirs", &[]).await;
        declared(&bench, "left", &[]).await;
        let left = bench.set("litellm/left");
        secret(&bench, "old", &["left", "theirs"]).await;
        let one = |key: &str| json!([{ "key": key, "variable": key }]);
        // It leaves what holds a value.
        put(&bench, &push("old-left", "old", &json!({ "updatePolicy": "IfNotExists", "data": one("left") })))
            .await;
        pushed(&bench, "old-left").await;
        // It is not let have what another filled.
        bench.set("litellm/theirs");
        put(&bench, &push("old-theirs", "old", &json!({ "data": one("theirs") }))).await;
        told(&bench, "old-theirs", "ForeignVariable", "litellm/theirs").await;
        later().await;
        let values = secret(&bench, "keys", &["left", "theirs"]).await;
        put(&bench, &push("p", "keys", &json!({ "conflictPolicy": "Adopt" }))).await;
        pushed(&bench, "p").await;
        for (id, value) in ["left", "theirs"].iter().zip(&values) {
            filled(&bench, &format!("litellm/{id}"), value).await;
        }
        synced(&bench, "old-left", "again").await;
        assert_ne!(bench.conjur.variable("litellm/left").as_deref(), Some(left.as_bytes()));
        // What is `p`'s now, and names it, the older object may have when it looks again.
        synced(&bench, "old-theirs", "again").await;
        filled(&bench, "litellm/left", &values[0]).await;
    });
}

#[test]
fn what_an_older_object_names_no_more_goes_to_the_other_at_once() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &push("older", "keys", &json!({ "deletionPolicy": "Delete" }))).await;
        pushed(&bench, "older").await;
        later().await;
        let others = secret(&bench, "others", &["a"]).await;
        put(&bench, &push("younger", "others", &json!({}))).await;
        told(&bench, "younger", "VariableTaken", "litellm/a").await;
        put_data(&bench, "keys", &[], &json!({ "b": values[1] })).await;
        filled(&bench, "litellm/a", &others[0]).await;
        pushed(&bench, "younger").await;
    });
}

#[test]
fn who_made_a_variable_that_an_older_object_took_over_waits_quietly() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a"]).await;
        // It makes nothing, and says of nothing whose it is.
        put(&bench, &push("older", "keys", &json!({ "createVariables": null }))).await;
        told(&bench, "older", "VariableNotFound", "litellm/a").await;
        later().await;
        secret(&bench, "others", &["a"]).await;
        put(&bench, &push("younger", "others", &json!({ "deletionPolicy": "Delete" }))).await;
        pushed(&bench, "younger").await;
        synced(&bench, "older", "now").await;
        filled(&bench, "litellm/a", &values[0]).await;
        told(&bench, "younger", "VariableTaken", "litellm/a").await;
        let reads = || {
            let all = super::super::setup::api_requests(&bench).into_iter();
            all.filter(|r| r.verb == "get" && r.resource == "secrets" && r.name == "others").count()
        };
        let before = reads();
        for text in ["once", "twice", "three times"] {
            synced(&bench, "older", text).await;
        }
        assert!(reads() <= before + 3, "{} reads of a Secret that did not change", reads() - before);
        // Nor does it take along what the older one has.
        delete(&bench, "younger").await;
        assert_eq!(bench.conjur.variable("litellm/a").as_deref(), Some(values[0].as_bytes()));
    });
}

#[test]
fn a_changed_secret_overwrites_nothing_that_became_anothers_meanwhile() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &push("p", "keys", &json!({ "driftCheckInterval": "0s" }))).await;
        pushed(&bench, "p").await;
        let other = "11111111-2222-3333-4444-555555555555/team/ConjurPush/keys";
        let document = format!("- !variable {{id: a, annotations: {{{OWNER}: {other}}}}}\n");
        super::super::setup::change_branch(&bench, "litellm", &document).await;
        let theirs = bench.set("litellm/a");
        let values = secret(&bench, "keys", &["a", "b"]).await;
        filled(&bench, "litellm/b", &values[1]).await;
        told(&bench, "p", "ForeignVariable", "litellm/a").await;
        assert_eq!(bench.conjur.variable("litellm/a").as_deref(), Some(theirs.as_bytes()));
    });
}

#[test]
fn through_a_shared_connection_a_former_cluster_is_believed_only_where_the_variable_says_so() {
    test(|bench| async move {
        owned(&bench).await;
        let name = shared_to_write(&bench).await;
        let lives = "aaaaaaaa-2222-3333-4444-555555555555";
        let theirs = format!("{lives}/{}/ConjurPush/p", bench.namespace);
        declared(&bench, "a", &[(OWNER, &theirs), (CREATED, "true")]).await;
        let standing = bench.set("litellm/a");
        let values = secret(&bench, "keys", &["a"]).await;
        let more = json!({
            "connectionRef": { "name": name, "kind": "ClusterConjurConnection" }, "deletionPolicy": "Delete",
        });
        let mut manifest = push("p", "keys", &more);
        manifest["metadata"]["annotations"] = json!({ "conjur-operator.io/adopt-cluster": lives });
        put(&bench, &manifest).await;
        told(&bench, "p", "ForeignVariable", "litellm/a").await;
        stays(&bench, "p", "litellm/a", &standing).await;
        let me = owner(&bench, "p").await;
        let document =
            format!("- !variable {{id: litellm/a, annotations: {{conjur-operator.io/adopt: {me}}}}}\n");
        change_policy(&bench, &document).await;
        synced(&bench, "p", "adopt").await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
        end(&bench, &name).await;
    });
}

#[test]
fn across_namespaces_the_message_names_no_object() {
    test(|bench| async move {
        owned(&bench).await;
        let other = bench.in_namespace(&format!("{}-tenant", bench.namespace)).await;
        other.connect("host/ops").await;
        let values = secret(&other, "keys", &["a"]).await;
        put(&other, &push("hidden-name", "keys", &json!({}))).await;
        pushed(&other, "hidden-name").await;
        later().await;
        let own = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let message = told(&bench, "p", "VariableTaken", "litellm/a").await;
        assert!(!message.contains("hidden-name") && !message.contains("tenant"), "{message}");
        stays(&bench, "p", "litellm/a", &values[0]).await;
        put(&bench, &push("p", "keys", &json!({ "conflictPolicy": "Adopt" }))).await;
        told(&bench, "p", "VariableTaken", "litellm/a").await;
        stays(&bench, "p", "litellm/a", &values[0]).await;
        let namespaces = Api::<Namespace>::all(bench.client.clone());
        namespaces.delete(&other.namespace, &DeleteParams::default()).await.unwrap();
        gone(&other, "hidden-name").await;
        // It holds a value that the object which is gone pushed: with Adopt it is taken over.
        filled(&bench, "litellm/a", &own[0]).await;
        pushed(&bench, "p").await;
    });
}

#[test]
fn an_annotation_whose_object_is_gone_is_nobodys() {
    test(|bench| async move {
        owned(&bench).await;
        let cluster = cluster(&bench).await;
        let gone = format!("{cluster}/{}/ConjurPush/gone", bench.namespace);
        declared(&bench, "empty", &[(OWNER, &gone), (CREATED, "true")]).await;
        declared(&bench, "full", &[(OWNER, &gone), (CREATED, "true")]).await;
        let full = bench.set("litellm/full");
        let values = secret(&bench, "keys", &["empty", "full"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        told(&bench, "p", "ForeignVariable", "litellm/full").await;
        filled(&bench, "litellm/empty", &values[0]).await;
        stays(&bench, "p", "litellm/full", &full).await;
    });
}

#[test]
fn an_object_of_the_same_name_finds_its_variables_again() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        delete(&bench, "p").await;
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({ "deletionPolicy": "Delete" }))).await;
        let p = pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
        assert_eq!(variables(&p), ["litellm/a true 2"]);
        delete(&bench, "p").await;
        assert!(!bench.conjur.exists("variable", "litellm/a"));
    });
}

#[test]
fn a_cluster_that_was_restored_takes_its_variables_over_by_the_former_uid() {
    test(|bench| async move {
        owned(&bench).await;
        let former = "aaaaaaaa-2222-3333-4444-555555555555";
        let was = format!("{former}/{}/ConjurPush/p", bench.namespace);
        declared(&bench, "a", &[(OWNER, &was), (CREATED, "true")]).await;
        let before = bench.set("litellm/a");
        let values = secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({ "deletionPolicy": "Delete" }))).await;
        told(&bench, "p", "ForeignVariable", "litellm/a").await;
        stays(&bench, "p", "litellm/a", &before).await;
        let annotations =
            json!({ "metadata": { "annotations": { "conjur-operator.io/adopt-cluster": former } } });
        change(&bench, "p", annotations).await;
        let p = pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
        assert_eq!(annotation(&bench, "litellm/a", OWNER), Some(owner(&bench, "p").await));
        assert_eq!(variables(&p), ["litellm/a true 2"]);
        delete(&bench, "p").await;
        assert!(!bench.conjur.exists("variable", "litellm/a"));
    });
}

#[test]
fn through_a_shared_connection_only_what_has_no_owner_or_names_the_object_is_adopted() {
    test(|bench| async move {
        owned(&bench).await;
        let name = shared_to_write(&bench).await;
        let other = "11111111-2222-3333-4444-555555555555/team/ConjurPush/keys";
        declared(&bench, "owned", &[(OWNER, other)]).await;
        declared(&bench, "unowned", &[]).await;
        let standing = bench.set("litellm/owned");
        bench.set("litellm/unowned");
        let values = secret(&bench, "keys", &["owned", "unowned"]).await;
        let more = json!({
            "connectionRef": { "name": name, "kind": "ClusterConjurConnection" }, "conflictPolicy": "Adopt",
        });
        put(&bench, &push("p", "keys", &more)).await;
        let me = owner(&bench, "p").await;
        let message = told(&bench, "p", "ForeignVariable", "litellm/owned").await;
        assert!(message.contains(&format!("conjur-operator.io/adopt: {me}")), "{message}");
        filled(&bench, "litellm/unowned", &values[1]).await;
        stays(&bench, "p", "litellm/owned", &standing).await;
        let document =
            format!("- !variable {{id: litellm/owned, annotations: {{conjur-operator.io/adopt: {me}}}}}\n");
        change_policy(&bench, &document).await;
        synced(&bench, "p", "adopt").await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/owned", &values[0]).await;
        assert_eq!(annotation(&bench, "litellm/owned", OWNER), Some(me));
        end(&bench, &name).await;
    });
}

#[test]
fn if_not_exists_leaves_every_value_and_counts_it() {
    test(|bench| async move {
        owned(&bench).await;
        let other = "11111111-2222-3333-4444-555555555555/team/ConjurPush/keys";
        declared(&bench, "empty", &[]).await;
        declared(&bench, "filled", &[]).await;
        declared(&bench, "owned", &[(OWNER, other)]).await;
        let (first, second) = (bench.set("litellm/filled"), bench.set("litellm/owned"));
        let values = secret(&bench, "keys", &["empty", "filled", "missing", "owned"]).await;
        put(&bench, &push("p", "keys", &json!({ "updatePolicy": "IfNotExists" }))).await;
        let p: ConjurPush = pushed(&bench, "p").await;
        assert_eq!((status(&p).skipped, status(&p).variable_count), (Some(2), Some(2)));
        filled(&bench, "litellm/empty", &values[0]).await;
        filled(&bench, "litellm/missing", &values[2]).await;
        stays(&bench, "p", "litellm/filled", &first).await;
        stays(&bench, "p", "litellm/owned", &second).await;
        // What it filled itself holds a value from then on.
        let sent = sent(&bench);
        secret(&bench, "keys", &["empty", "filled", "missing", "owned"]).await;
        eventually("the new version is seen", || true).await;
        stays(&bench, "p", "litellm/empty", &values[0]).await;
        assert_eq!(self::sent(&bench), sent);
    });
}

#[test]
fn an_annotation_that_another_branch_gave_cannot_be_replaced_and_nothing_is_sent() {
    test(|bench| async move {
        owned(&bench).await;
        let other = "11111111-2222-3333-4444-555555555555/team/ConjurPush/keys";
        let document =
            format!("- !variable {{id: litellm/a, owner: !host ops, annotations: {{{OWNER}: {other}}}}}\n");
        change_policy(&bench, &document).await;
        let theirs = bench.set("litellm/a");
        secret(&bench, "keys", &["a"]).await;
        put(&bench, &push("p", "keys", &json!({ "conflictPolicy": "Adopt" }))).await;
        told(&bench, "p", "ForeignVariable", "litellm/a").await;
        stays(&bench, "p", "litellm/a", &theirs).await;
        assert_eq!(sent(&bench), 0);
    });
}

/// Two clusters that push and sync one variable: the other one is played by what it would write.
#[test]
fn a_loop_over_two_clusters_ends_where_variables_are_made() {
    test(|bench| async move {
        bench
            .root(
                "- !policy\n  id: apps\n  body:\n  - !host app\n\
                 - !policy {id: litellm, owner: !host apps/app}\n",
            )
            .await;
        bench.connect("host/apps/app").await;
        // The other cluster made `there` from a Secret that it syncs from `here`, which this cluster makes from `there`.
        let other = "11111111-2222-3333-4444-555555555555/team/ConjurPush/keys";
        declared(&bench, "there", &[(OWNER, other), (CREATED, "true")]).await;
        let theirs = bench.set("litellm/there");
        let synced_here = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": { "name": "here" },
            "spec": {
                "connectionRef": { "name": "conjur" }, "refreshInterval": "10s",
                "data": [{ "key": "a", "variable": "litellm/there" }],
            },
        });
        put(&bench, &synced_here).await;
        bench.holds("here", &[("a", &theirs)]).await;
        // What came from Conjur is not pushed, and a copy of it not into what the other made.
        put(&bench, &push("direct", "here", &json!({}))).await;
        told(&bench, "direct", "InvalidSpec", "circle").await;
        put_data(&bench, "copy", &[], &json!({ "there": theirs })).await;
        put(&bench, &push("copied", "copy", &json!({}))).await;
        told(&bench, "copied", "ForeignVariable", "litellm/there").await;
        assert_eq!(sent(&bench), 0);
        assert_eq!(bench.conjur.variable_versions("litellm/there"), Some(1));
    });
}

//! A host is made by policy, and what the spec says of it reaches Conjur.

use conjur_operator::api::ConjurHost;
use serde_json::json;

use super::{
    super::{
        Bench,
        setup::{api_requests, put},
        test,
    },
    billing, change, host, is_owned, memberships, old_host_is_untouched, owner, status, works,
};

#[test]
fn a_host_is_made_in_its_parent_branch_and_its_key_is_stored() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        let object = bench.ready::<ConjurHost>("web").await;
        let data = works(&bench, "web", "host/billing/web").await;
        assert_eq!(data.len(), 2, "{:?}", data.keys());
        is_owned(&bench, "billing/web", "web").await;
        let status = status(&object);
        assert_eq!((status.id.as_deref(), status.created), (Some("demo:host:billing/web"), Some(true)));
        assert!(status.pending.is_none() && status.last_rotation_time.is_some());
        assert!(status.next_rotation_time.is_none());
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0), "no rotation was needed");
        old_host_is_untouched(&bench);
        let columns = bench.kubectl(&["get", "cjh", "web"]).await;
        for column in
            ["READY", "REASON", "HOST", "LAST ROTATION", "NEXT ROTATION", "AGE", "Enrolled", "billing/web"]
        {
            assert!(columns.contains(column), "{columns}");
        }
    });
}

#[test]
fn annotations_restrictions_and_memberships_reach_conjur_and_follow_the_spec() {
    test(|bench| async move {
        billing(&bench).await;
        bench.root("- !policy\n  id: shared\n  owner: !host ops\n  body:\n  - !group all\n").await;
        let member_of = json!(["layer/billing/web", "group/shared/all"]);
        let more = json!({
            "annotations": { "authn-jwt/dev/sub": "system:serviceaccount:a:\"b\"\n- !host evil", "team": "pay" },
            "restrictedTo": ["10.0.0.0/8", "127.0.0.1"], "memberOf": member_of,
        });
        put(&bench, &host("web", &more)).await;
        bench.ready::<ConjurHost>("web").await;
        let annotations = bench.conjur.annotations("host", "billing/web");
        assert_eq!(annotations["authn-jwt/dev/sub"], "system:serviceaccount:a:\"b\"\n- !host evil");
        assert!(!bench.conjur.exists("host", "billing/evil"));
        assert_eq!(bench.conjur.restricted_to("host/billing/web").len(), 2);
        assert_eq!(memberships(&bench, "billing/web"), ["demo:group:shared/all", "demo:layer:billing/web"]);
        // Another grants a role too, which is no matter of the object.
        bench.conjur.load("billing", "- !grant {role: !group readers, member: !host web}\n").await.unwrap();
        let less = json!({ "spec": {
            "annotations": { "authn-jwt/dev/sub": "system:serviceaccount:a:c", "team": null },
            "restrictedTo": null, "memberOf": ["group/billing/readers"],
        } });
        change(&bench, "web", less).await;
        bench.ready::<ConjurHost>("web").await;
        assert_eq!(memberships(&bench, "billing/web"), ["demo:group:billing/readers"]);
        let annotations = bench.conjur.annotations("host", "billing/web");
        assert_eq!(annotations["authn-jwt/dev/sub"], "system:serviceaccount:a:c");
        bench.events("LeftInConjur", "team").await;
        assert!(annotations.contains_key("team"), "an annotation can't be removed by policy");
        assert_eq!(bench.conjur.restricted_to("host/billing/web"), [""; 0]);
        // What another granted is not revoked.
        change(&bench, "web", json!({ "spec": { "memberOf": null } })).await;
        bench.ready::<ConjurHost>("web").await;
        assert_eq!(memberships(&bench, "billing/web"), ["demo:group:billing/readers"]);
        works(&bench, "web", "host/billing/web").await;
    });
}

#[test]
fn a_host_at_the_root_needs_to_say_so() {
    test(|bench| async move {
        bench.root("- !user someone\n").await;
        bench.connect("admin").await;
        let more = json!({ "id": "web", "via": { "branch": "root" } });
        put(&bench, &host("web", &more)).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/web").await;
        is_owned(&bench, "web", "web").await;
    });
}

#[test]
fn without_an_api_key_no_secret_is_written_and_the_key_is_thrown_away() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({ "apiKey": false }))).await;
        let object = bench.ready::<ConjurHost>("web").await;
        let annotations = bench.conjur.annotations("host", "billing/web");
        assert_eq!(annotations["authn/api-key"], "false");
        assert_eq!(annotations["conjur-operator.io/owner"], owner(&bench, "web").await);
        assert!(bench.data("web").await.is_none() && status(&object).target.is_none());
        bench.keep_secret(bench.conjur.api_key_of("host/billing/web").unwrap());
    });
}

#[test]
fn an_api_key_that_is_not_wanted_any_more_is_rotated_into_nothing_and_comes_back_as_another() {
    test(|bench| async move {
        bench.may_delete();
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        let first = works(&bench, "web", "host/billing/web").await["api-key"].clone();
        change(&bench, "web", json!({ "spec": { "apiKey": false } })).await;
        bench.ready::<ConjurHost>("web").await;
        let nobodys = bench.conjur.api_key_of("host/billing/web").unwrap();
        bench.keep_secret(nobodys.clone());
        assert!(nobodys != first && bench.conjur.key_generation("host/billing/web") == Some(1));
        assert!(bench.data("web").await.is_none(), "its key is dead");
        assert_eq!(bench.conjur.annotations("host", "billing/web")["authn/api-key"], "false");
        change(&bench, "web", json!({ "spec": { "apiKey": true } })).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(2));
        assert_eq!(bench.conjur.annotations("host", "billing/web")["authn/api-key"], "true");
    });
}

#[test]
fn an_unchanged_look_writes_nothing_and_loads_nothing() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({ "memberOf": ["layer/billing/web"] }))).await;
        bench.ready::<ConjurHost>("web").await;
        let (writes, loads) = (writes(&bench), bench.conjur.loads("billing"));
        for text in ["1", "2"] {
            super::looked_again(&bench, "web", text).await;
        }
        // One that is made later is done: what came before was looked at.
        put(&bench, &host("later", &json!({}))).await;
        bench.ready::<ConjurHost>("later").await;
        let now = super::enrol::writes(&bench);
        let of_web = |all: &[String]| all.iter().filter(|name| *name == "web").count();
        assert_eq!(of_web(&now), of_web(&writes));
        assert_eq!(bench.conjur.loads("billing"), loads + 2, "the other's");
    });
}

/// Names of what was written to the API server, statuses and Secrets.
fn writes(bench: &Bench) -> Vec<String> {
    let all =
        api_requests(bench).into_iter().filter(|r| ["create", "update", "patch"].contains(&r.verb.as_str()));
    all.filter(|r| ["secrets", "conjurhosts"].contains(&r.resource.as_str())).map(|r| r.name).collect()
}

#[test]
fn a_host_that_someone_deleted_in_conjur_is_made_again_and_its_new_key_stored() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({ "memberOf": ["layer/billing/web"] }))).await;
        bench.ready::<ConjurHost>("web").await;
        let first = works(&bench, "web", "host/billing/web").await["api-key"].clone();
        super::super::setup::change_policy(&bench, "- !delete\n  record: !host billing/web\n").await;
        assert!(!bench.conjur.exists("host", "billing/web"));
        super::annotate(&bench, "web", "sync-now", "now").await;
        testbed::wait_for("it is made again", super::SOON, || async {
            bench.conjur.exists("host", "billing/web").then_some(())
        })
        .await
        .unwrap();
        bench.until("the new key", "web", |h: &ConjurHost| status(h).pending.is_none()).await;
        bench.ready::<ConjurHost>("web").await;
        let second = works(&bench, "web", "host/billing/web").await["api-key"].clone();
        assert_ne!(first, second);
        is_owned(&bench, "billing/web", "web").await;
        assert_eq!(memberships(&bench, "billing/web"), ["demo:layer:billing/web"]);
    });
}

#[test]
fn a_membership_of_another_branch_that_is_refused_keeps_no_key_from_being_stored() {
    test(|bench| async move {
        billing(&bench).await;
        bench.root("- !policy\n  id: shared\n  owner: !host ops\n  body:\n  - !group all\n").await;
        let more = json!({ "memberOf": ["layer/billing/web", "group/shared/all", "group/shared/none"] });
        put(&bench, &host("web", &more)).await;
        let message = bench.says::<ConjurHost>("web", "PolicyInvalid").await;
        assert!(message.contains("shared/none"), "{message}");
        works(&bench, "web", "host/billing/web").await;
        is_owned(&bench, "billing/web", "web").await;
        assert_eq!(
            memberships(&bench, "billing/web"),
            ["demo:layer:billing/web"],
            "each branch is loaded alone"
        );
        // What was granted before the refusal is known, and is revoked when it leaves the spec.
        change(&bench, "web", json!({ "spec": { "memberOf": ["group/shared/all"] } })).await;
        bench.ready::<ConjurHost>("web").await;
        assert_eq!(memberships(&bench, "billing/web"), ["demo:group:shared/all"]);
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
    });
}

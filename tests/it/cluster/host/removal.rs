//! `deletionPolicy: Delete`: the host that the object made goes with it, and its Secret after it; nothing else does.

use conjur_operator::api::{ConjurConnection, ConjurHost};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::json;
use testbed::wait_for;

use super::{
    super::{Bench, SOON, setup::put, test},
    annotate, billing, change, host, old_host_is_untouched, works,
};

async fn delete(bench: &Bench, name: &str) {
    bench.api::<ConjurHost>().delete(name, &DeleteParams::default()).await.unwrap();
}

async fn gone(bench: &Bench, name: &str) {
    let api = bench.api::<ConjurHost>();
    wait_for("it is gone", SOON, || async { api.get_opt(name).await.unwrap().is_none().then_some(()) })
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
}

#[test]
fn the_host_that_the_object_made_goes_with_it_and_its_secret_too() {
    test(|bench| async move {
        bench.may_delete();
        billing(&bench).await;
        put(&bench, &host("web", &json!({ "deletionPolicy": "Delete" }))).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        delete(&bench, "web").await;
        gone(&bench, "web").await;
        assert!(!bench.conjur.exists("host", "billing/web"));
        assert!(bench.data("web").await.is_none());
        bench.events("Removed", "host/billing/web").await;
        old_host_is_untouched(&bench);
    });
}

#[test]
fn a_host_that_was_taken_over_stays_with_its_secret() {
    test(|bench| async move {
        billing(&bench).await;
        let more = json!({ "id": "billing/old", "conflictPolicy": "Adopt", "deletionPolicy": "Delete" });
        put(&bench, &host("web", &more)).await;
        bench.ready::<ConjurHost>("web").await;
        delete(&bench, "web").await;
        gone(&bench, "web").await;
        works(&bench, "web", "host/billing/old").await;
        bench.events("LeftInConjur", "host/billing/old").await;
    });
}

#[test]
fn a_host_that_an_object_which_is_gone_made_stays_when_it_was_taken_over() {
    test(|bench| async move {
        billing(&bench).await;
        let left = format!(
            "- !host\n  id: left\n  annotations:\n    conjur-operator.io/owner: {}\n    conjur-operator.io/created: \"true\"\n",
            super::owner(&bench, "gone").await
        );
        bench.conjur.load("billing", &left).await.unwrap();
        let more = json!({ "id": "billing/left", "conflictPolicy": "Adopt", "deletionPolicy": "Delete" });
        put(&bench, &host("web", &more)).await;
        bench.ready::<ConjurHost>("web").await;
        assert_eq!(bench.conjur.annotations("host", "billing/left")["conjur-operator.io/created"], "false");
        delete(&bench, "web").await;
        gone(&bench, "web").await;
        works(&bench, "web", "host/billing/left").await;
        bench.events("LeftInConjur", "host/billing/left").await;
    });
}

#[test]
fn without_its_connection_the_object_goes_and_the_host_stays() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({ "deletionPolicy": "Delete" }))).await;
        bench.ready::<ConjurHost>("web").await;
        bench.api::<ConjurConnection>().delete("conjur", &DeleteParams::default()).await.unwrap();
        delete(&bench, "web").await;
        gone(&bench, "web").await;
        works(&bench, "web", "host/billing/web").await;
        bench.events("LeftInConjur", "host/billing/web").await;
    });
}

#[test]
fn while_its_connection_fails_the_object_waits_unless_retain_is_set() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({ "deletionPolicy": "Delete" }))).await;
        bench.ready::<ConjurHost>("web").await;
        bench.conjur.stop().await;
        bench.kubectl(&["annotate", "conjurconnection", "conjur", "conjur-operator.io/sync-now=x"]).await;
        let failing = |c: &ConjurConnection| {
            use super::super::Told;
            c.told().1.iter().any(|c| c.type_ == "Ready" && c.status == "False")
        };
        bench.until("it fails", "conjur", failing).await;
        delete(&bench, "web").await;
        let message = bench.says::<ConjurHost>("web", "ConnectionNotReady").await;
        assert!(message.contains("deletionPolicy to Retain"), "{message}");
        change(&bench, "web", json!({ "spec": { "deletionPolicy": "Retain" } })).await;
        gone(&bench, "web").await;
        bench.conjur.resume().await.unwrap();
        works(&bench, "web", "host/billing/web").await;
    });
}

#[test]
fn suspended_it_waits_and_removes_when_it_goes_on() {
    test(|bench| async move {
        bench.may_delete();
        billing(&bench).await;
        put(&bench, &host("web", &json!({ "deletionPolicy": "Delete" }))).await;
        bench.ready::<ConjurHost>("web").await;
        change(&bench, "web", json!({ "spec": { "suspend": true } })).await;
        delete(&bench, "web").await;
        let message = bench.says::<ConjurHost>("web", "Suspended").await;
        assert!(message.contains("spec.suspend"), "{message}");
        assert!(bench.conjur.exists("host", "billing/web"));
        bench.keep_secret(bench.conjur.api_key_of("host/billing/web").unwrap());
        change(&bench, "web", json!({ "spec": { "suspend": false } })).await;
        gone(&bench, "web").await;
        assert!(!bench.conjur.exists("host", "billing/web"));
    });
}

#[test]
fn a_host_of_a_factory_goes_where_its_id_lies_in_a_branch_of_the_identity() {
    test(|bench| async move {
        bench.may_delete();
        bench
            .root("- !host ops\n- !policy\n  id: billing\n  owner: !host ops\n  body:\n  - !layer web\n  - !host-factory {id: factory, layers: [!layer web]}\n")
            .await;
        bench.connect("host/ops").await;
        let more =
            json!({ "via": { "hostFactory": { "id": "billing/factory" } }, "deletionPolicy": "Delete" });
        put(&bench, &host("web", &more)).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        annotate(&bench, "web", "sync-now", "x").await;
        delete(&bench, "web").await;
        gone(&bench, "web").await;
        assert!(!bench.conjur.exists("host", "billing/web") && bench.data("web").await.is_none());
    });
}

#[test]
fn a_namespace_that_goes_does_not_hang() {
    test(|bench| async move {
        billing(&bench).await;
        let namespaces = Api::<Namespace>::all(bench.client.clone());
        for works in [true, false] {
            let other = bench.in_namespace(&format!("{}-{works}", bench.namespace)).await;
            other.connect("host/ops").await;
            let more = json!({ "id": format!("billing/{}", other.namespace), "deletionPolicy": "Delete" });
            put(&other, &host("web", &more)).await;
            other.ready::<ConjurHost>("web").await;
            other.keep_secret(other.conjur.api_key_of(&format!("host/billing/{}", other.namespace)).unwrap());
            if !works {
                bench.conjur.stop().await;
                other
                    .kubectl(&["annotate", "conjurconnection", "conjur", "conjur-operator.io/sync-now=x"])
                    .await;
                other.says::<ConjurConnection>("conjur", "ConjurUnavailable").await;
            }
            namespaces.delete(&other.namespace, &DeleteParams::default()).await.unwrap();
            gone(&other, "web").await;
            if !works {
                bench.conjur.resume().await.unwrap();
            }
        }
    });
}

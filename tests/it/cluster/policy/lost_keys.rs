//! A key that was stored and is gone: the user decides, for a rotation ends the old one.

use conjur_operator::api::ConjurPolicy;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::super::{Bench, alone, test};
use super::{billing, keys_in, keys_work, names, old_host_is_untouched, policy, settled, status, version};

async fn with_web_and_two(bench: &Bench) {
    billing(bench).await;
    bench.apply(&policy("p", &keys_in("roles"), "- !host old\n- !host web\n- !host two\n")).await;
    bench.ready::<ConjurPolicy>("p").await;
    keys_work(bench, "roles", &["web", "two"]).await;
}

async fn remove(bench: &Bench, key: &str) {
    let patch = Patch::Merge(json!({"data": {key: null}}));
    bench.api::<Secret>().patch("roles", &PatchParams::default(), &patch).await.unwrap();
}

#[test]
fn a_removed_key_is_complained_of_and_may_be_restored_by_hand() {
    test(|bench| async move {
        with_web_and_two(&bench).await;
        let (_, api_key) = names("web");
        let kept = bench.api::<Secret>().get("roles").await.unwrap().data.unwrap()[&api_key].clone();
        remove(&bench, &api_key).await;
        let message = bench.says::<ConjurPolicy>("p", "KeyNotStored").await;
        assert!(message.contains("host/billing/web") && !message.contains("host/billing/two"), "{message}");
        assert!(message.contains("conjur-operator.io/rotate-keys=host/billing/web"), "{message}");
        settled(&bench, "later").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0), "not without permission");
        let patch = Patch::Merge(json!({"data": {api_key: kept}}));
        bench.api::<Secret>().patch("roles", &PatchParams::default(), &patch).await.unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web", "two"]).await;
        assert_eq!(version(&bench, "billing"), 1);
    });
}

#[test]
fn a_deleted_secret_is_complained_of_and_may_be_restored_by_hand() {
    test(|bench| async move {
        with_web_and_two(&bench).await;
        let api = bench.api::<Secret>();
        let mut kept = api.get("roles").await.unwrap();
        api.delete("roles", &DeleteParams::default()).await.unwrap();
        let message = bench.says::<ConjurPolicy>("p", "KeyNotStored").await;
        assert!(message.contains("host/billing/two") && message.contains("host/billing/web"), "{message}");
        assert!(!message.contains("billing/old"), "{message}");
        (kept.metadata.resource_version, kept.metadata.uid) = (None, None);
        api.create(&PostParams::default(), &kept).await.unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web", "two"]).await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
    });
}

#[test]
fn a_permitted_rotation_stores_a_new_key() {
    test(|bench| async move {
        with_web_and_two(&bench).await;
        bench.kubectl(&["delete", "secret", "roles"]).await;
        bench.says::<ConjurPolicy>("p", "KeyNotStored").await;
        let annotate = |logins: &str| format!("conjur-operator.io/rotate-keys={logins}");
        // What is not named, or not lost, or not ours, stays.
        bench
            .kubectl(&[
                "annotate",
                "conjurpolicy",
                "p",
                &annotate("host/billing/web,host/billing/old,host/ops"),
            ])
            .await;
        bench
            .until("only two lost", "p", |p: &ConjurPolicy| {
                let conditions = p.status.clone().unwrap_or_default().conditions.unwrap_or_default();
                conditions.iter().any(|c| c.reason == "KeyNotStored" && !c.message.contains("billing/web"))
            })
            .await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1));
        assert_eq!(bench.conjur.key_generation("host/billing/two"), Some(0));
        bench
            .kubectl(&[
                "annotate",
                "--overwrite",
                "conjurpolicy",
                "p",
                &annotate("host/billing/web, host/billing/two"),
            ])
            .await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web", "two"]).await;
        for host in ["web", "two"] {
            bench.events("KeyRotated", &format!("host/billing/{host} is not stored any more")).await;
        }
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1), "once");
        assert_eq!(bench.conjur.key_generation("host/billing/two"), Some(1));
        assert_eq!(bench.conjur.key_generation("host/ops"), Some(0));
        old_host_is_untouched(&bench);
        assert_eq!(version(&bench, "billing"), 1, "nothing was loaded for it");
    });
}

#[test]
fn a_login_that_was_removed_or_edited_is_put_back() {
    test(|bench| async move {
        with_web_and_two(&bench).await;
        let (login, _) = names("web");
        let before = bench.data("roles").await.unwrap();
        remove(&bench, &login).await;
        let expected: Vec<(&str, &str)> = before.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        bench.holds("roles", &expected).await;
        let patch = Patch::Merge(json!({"stringData": {login: "host/other"}}));
        bench.api::<Secret>().patch("roles", &PatchParams::default(), &patch).await.unwrap();
        bench.holds("roles", &expected).await;
        bench.ready::<ConjurPolicy>("p").await;
    });
}

#[test]
fn a_role_that_is_gone_from_conjur_needs_no_key() {
    test(|bench| async move {
        with_web_and_two(&bench).await;
        bench.apply(&policy("q", "", "- !delete\n  record: !host web\n")).await;
        bench.ready::<ConjurPolicy>("q").await;
        let (_, api_key) = names("web");
        remove(&bench, &api_key).await;
        bench
            .until("web forgotten", "p", |p: &ConjurPolicy| {
                p.status.clone().unwrap_or_default().created_roles
                    == Some(vec!["demo:host:billing/two".into()])
            })
            .await;
        bench.ready::<ConjurPolicy>("p").await;
    });
}

#[test]
fn keys_are_taken_over_into_a_secret_of_another_name() {
    test(|bench| async move {
        with_web_and_two(&bench).await;
        let document = "- !host old\n- !host web\n- !host two\n";
        bench.apply(&policy("p", &keys_in("elsewhere"), document)).await;
        bench.ready::<ConjurPolicy>("p").await;
        for secret in ["elsewhere", "roles"] {
            keys_work(&bench, secret, &["web", "two"]).await;
        }
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        assert_eq!(version(&bench, "billing"), 1);
        // What neither has is lost.
        bench.kubectl(&["delete", "secret", "roles", "elsewhere"]).await;
        bench.says::<ConjurPolicy>("p", "KeyNotStored").await;
    });
}

#[test]
fn a_complaint_stands_over_a_restart() {
    alone(|bench, mut operator| async move {
        with_web_and_two(&bench).await;
        remove(&bench, &names("web").1).await;
        bench.says::<ConjurPolicy>("p", "KeyNotStored").await;
        settled(&bench, "before").await;
        let before: ConjurPolicy = bench.api().get("p").await.unwrap();
        operator.restart().await.unwrap();
        settled(&bench, "later").await;
        let after: ConjurPolicy = bench.api().get("p").await.unwrap();
        assert_eq!(status(&after), status(&before));
        assert_eq!(super::super::version(&after), super::super::version(&before), "it never said otherwise");
    });
}

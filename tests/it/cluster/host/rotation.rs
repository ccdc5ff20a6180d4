//! Keys are rotated when it is asked for and when it is time, and only then.

use std::time::Duration;

use conjur_dev::{Effect, Kind, When};
use conjur_operator::{
    api::{ConjurHost, ConjurHostStatus},
    seams::Slots,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    super::{
        Bench, Told, alone,
        setup::{edit, put, secret},
        test,
    },
    ROTATE, annotate, billing, change, host, looked_again, rotated, status, strike, works,
};

#[test]
fn each_new_text_of_rotate_now_rotates_once() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        for (nth, text) in ["one", "two"].into_iter().enumerate() {
            let object = rotated(&bench, "web", text).await;
            let generation = u64::try_from(nth).unwrap() + 1;
            assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(generation));
            works(&bench, "web", "host/billing/web").await;
            assert!(status(&object).pending.is_none());
        }
        bench.events("KeyRotated", "host/billing/web").await;
        looked_again(&bench, "web", "look").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(2));
    });
}

/// Writes into a status what the operator wrote there an hour ago.
async fn set_status(bench: &Bench, name: &str, change: Value) {
    let api = bench.api::<ConjurHost>();
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": change })))
        .await
        .unwrap();
}

#[test]
fn a_rotation_that_was_missed_is_made_up_for_at_the_start_and_the_next_lies_on_the_grid() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({ "rotation": { "interval": "1h" } }))).await;
        let object = bench.ready::<ConjurHost>("web").await;
        let slots = Slots::new(Duration::from_secs(3600), &object.uid().unwrap(), 16);
        let next = status(&object).next_rotation_time.unwrap().0;
        let expected = Timestamp::now() + slots.next_in(Timestamp::now());
        assert!((next.as_second() - expected.as_second()).abs() <= 2, "{next} {expected}");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0), "it is not due");
        operator.kill9().await.unwrap();
        let long_ago = Timestamp::now() - Duration::from_secs(2 * 3600);
        set_status(&bench, "web", json!({ "lastRotationTime": long_ago.to_string() })).await;
        operator.restart().await.unwrap();
        let recent = |h: &ConjurHost| {
            status(h).last_rotation_time.is_some_and(|at| at.0 > Timestamp::now() - Duration::from_secs(600))
        };
        bench.until("the missed rotation", "web", recent).await;
        let object = bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1));
        assert_eq!(status(&object).next_rotation_time.unwrap().0, next);
        operator.restart().await.unwrap();
        looked_again(&bench, "web", "look").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1), "it was done once");
    });
}

#[test]
fn a_rotation_whose_answer_is_lost_is_made_again_and_the_stored_key_works() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        strike(&bench, ROTATE, 1, When::After, Effect::Reset);
        annotate(&bench, "web", "rotate-now", "x").await;
        let handled = |h: &ConjurHost| status(h).last_handled_rotate_now.as_deref() == Some("x");
        let object: ConjurHost = bench.until("the rotation", "web", handled).await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(2));
        // The lost one may still come through.
        assert!(status(&object).pending.is_some_and(|pending| pending.until.is_some()));
        bench.ready::<ConjurHost>("web").await;
    });
}

#[test]
fn a_secret_that_can_not_be_written_keeps_the_old_key_alive() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        edit(&bench, "web", json!({ "immutable": true })).await;
        annotate(&bench, "web", "rotate-now", "x").await;
        let message = bench.says::<ConjurHost>("web", "ForeignSecret").await;
        assert!(message.contains("immutable"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        works(&bench, "web", "host/billing/web").await;
        // A template that makes what its type does not take is found by the dry run.
        put(&bench, &host("tls", &json!({ "target": { "type": "kubernetes.io/tls" } }))).await;
        let message = bench.says::<ConjurHost>("tls", "InvalidSpec").await;
        assert!(message.contains("tls.crt"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/tls"));
    });
}

#[test]
fn a_key_that_another_rotated_is_told_and_rotated_only_when_asked() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        let own = works(&bench, "web", "host/billing/web").await["api-key"].clone();
        let anothers = bench.secret_value("another-key");
        assert!(bench.conjur.set_api_key("host/billing/web", &anothers));
        annotate(&bench, "web", "sync-now", "look").await;
        let message = bench.says::<ConjurHost>("web", "KeyInvalid").await;
        assert!(message.contains("rotate-now") && message.contains("host/billing/web"), "{message}");
        assert_eq!(bench.conjur.api_key_of("host/billing/web"), Some(anothers));
        assert_eq!(bench.data("web").await.unwrap()["api-key"], own, "the Secret is as it was");
        rotated(&bench, "web", "mend").await;
        works(&bench, "web", "host/billing/web").await;
    });
}

#[test]
fn a_secret_that_was_deleted_by_hand_is_told_and_made_only_when_asked() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        let kept = secret(&bench, "web").await;
        bench.kubectl(&["delete", "secret", "web"]).await;
        let message = bench.says::<ConjurHost>("web", "KeyNotStored").await;
        assert!(message.contains("rotate-now"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        // It may be restored from a copy.
        let mut copy = Secret { data: kept.data.clone(), ..Secret::default() };
        copy.metadata.name = Some("web".into());
        copy.metadata.annotations.clone_from(&kept.metadata.annotations);
        copy.metadata.labels.clone_from(&kept.metadata.labels);
        bench.api::<Secret>().create(&kube::api::PostParams::default(), &copy).await.unwrap();
        bench.ready::<ConjurHost>("web").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        works(&bench, "web", "host/billing/web").await;
        bench.kubectl(&["delete", "secret", "web"]).await;
        bench.says::<ConjurHost>("web", "KeyNotStored").await;
        rotated(&bench, "web", "mend").await;
        works(&bench, "web", "host/billing/web").await;
    });
}

#[test]
fn a_slot_makes_no_key_anew_that_is_gone_or_that_another_rotated() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        for name in ["invalid", "gone"] {
            put(&bench, &host(name, &json!({ "rotation": { "interval": "1h" } }))).await;
            bench.ready::<ConjurHost>(name).await;
        }
        let kept = works(&bench, "invalid", "host/billing/invalid").await;
        operator.kill9().await.unwrap();
        let anothers = bench.secret_value("another-key");
        assert!(bench.conjur.set_api_key("host/billing/invalid", &anothers));
        bench.kubectl(&["delete", "secret", "gone"]).await;
        let long_ago = (Timestamp::now() - Duration::from_secs(2 * 3600)).to_string();
        for name in ["invalid", "gone"] {
            set_status(&bench, name, json!({ "lastRotationTime": long_ago })).await;
        }
        operator.restart().await.unwrap();
        bench.says::<ConjurHost>("invalid", "KeyInvalid").await;
        bench.says::<ConjurHost>("gone", "KeyNotStored").await;
        assert_eq!(bench.conjur.api_key_of("host/billing/invalid"), Some(anothers));
        assert_eq!(bench.data("invalid").await, Some(kept));
        assert_eq!(bench.conjur.key_generation("host/billing/gone"), Some(0));
        assert_eq!(bench.conjur.count(Kind::Rotate), 0);
        for name in ["invalid", "gone"] {
            rotated(&bench, name, "mend").await;
            works(&bench, name, &format!("host/billing/{name}")).await;
        }
    });
}

#[test]
fn the_stored_key_is_tried_once_after_a_start() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        operator.kill9().await.unwrap();
        let anothers = bench.secret_value("another-key");
        assert!(bench.conjur.set_api_key("host/billing/web", &anothers));
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        bench.says::<ConjurHost>("web", "KeyInvalid").await;
        // Whatever wakes it, that key is known to be refused.
        change(&bench, "web", json!({ "spec": { "annotations": { "team": "pay" } } })).await;
        let is_seen = |h: &ConjurHost| {
            status(h).observed_generation == h.metadata.generation
                && Told::told(h).1.iter().any(|c| c.reason == "KeyInvalid")
        };
        bench.until("the changed spec is handled", "web", is_seen).await;
        assert_eq!((bench.conjur.count(Kind::Login), bench.conjur.count(Kind::Rotate)), (1, 0));
        // One that is put in its place is another.
        edit(&bench, "web", json!({ "stringData": { "api-key": anothers } })).await;
        bench.ready::<ConjurHost>("web").await;
        assert_eq!((bench.conjur.count(Kind::Login), bench.conjur.count(Kind::Rotate)), (2, 0));
    });
}

#[test]
fn while_it_is_suspended_nothing_is_rotated() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        change(&bench, "web", json!({ "spec": { "suspend": true } })).await;
        annotate(&bench, "web", "rotate-now", "x").await;
        put(&bench, &host("later", &json!({}))).await;
        bench.ready::<ConjurHost>("later").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        change(&bench, "web", json!({ "spec": { "suspend": false } })).await;
        let handled = |s: ConjurHostStatus| s.last_handled_rotate_now.as_deref() == Some("x");
        bench.until("the rotation", "web", |h: &ConjurHost| handled(status(h))).await;
        works(&bench, "web", "host/billing/web").await;
    });
}

//! kill -9 of the operator before, during and right after each change in Conjur, and what it finds when it is back.

use conjur_dev::{Effect, Hold, Kind, Point, When};
use conjur_operator::api::ConjurHost;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testbed::wait_for;

use super::{
    super::{
        Bench, SOON, alone,
        setup::{change_policy, put},
    },
    ROTATE, annotate, billing, host, is_owned, memberships, old_host_is_untouched, status, strike, works,
};

const LOADS: &str = "/policies/demo/policy/billing";

async fn enrolled(bench: &Bench, name: &str) -> ConjurHost {
    let known = |h: &ConjurHost| status(h).applied.is_some();
    bench.until("it is enrolled", name, known).await;
    let object = bench.ready::<ConjurHost>(name).await;
    works(bench, name, &format!("host/billing/{name}")).await;
    is_owned(bench, &format!("billing/{name}"), name).await;
    object
}

#[test]
fn a_kill_at_any_load_of_an_enrolment_loses_no_key_and_makes_one_host() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        // The first load makes the bare host, the second gives it what the spec says.
        for (nth, (skipped, at)) in [
            (0, Point::BeforeCommit),
            (0, Point::AfterCommit),
            (1, Point::BeforeCommit),
            (1, Point::AfterCommit),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("web{nth}");
            let method = if skipped == 0 { "POST" } else { "PATCH" };
            let hold = Hold { method: Some(method.to_owned()), path: LOADS.into(), at, count: Some(1) };
            let gate = bench.conjur.hold(hold);
            put(&bench, &host(&name, &json!({ "memberOf": ["layer/billing/web"] }))).await;
            wait_for("the load is held", SOON, || async { (bench.conjur.held() == 1).then_some(()) })
                .await
                .unwrap();
            operator.kill9().await.unwrap();
            bench.conjur.release(gate);
            operator.restart().await.unwrap();
            enrolled(&bench, &name).await;
            assert_eq!(memberships(&bench, &format!("billing/{name}")), ["demo:layer:billing/web"]);
        }
        old_host_is_untouched(&bench);
    });
}

#[test]
fn a_host_that_another_makes_while_the_operator_is_dead_is_left_alone() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        strike(&bench, LOADS, 1, When::Before, Effect::Stall);
        put(&bench, &host("web", &json!({ "annotations": { "a": "b" } }))).await;
        wait_for("the load", SOON, || async {
            bench
                .conjur
                .requests()
                .iter()
                .any(|r| r.path.starts_with(LOADS) && r.method == "POST")
                .then_some(())
        })
        .await
        .unwrap();
        let announced = status(&bench.api::<ConjurHost>().get("web").await.unwrap()).pending;
        assert!(announced.is_some_and(|pending| pending.load.is_some()), "it was announced before");
        operator.kill9().await.unwrap();
        bench.conjur.clear_faults();
        change_policy(&bench, "- !host billing/web\n").await;
        bench.keep_secret(bench.conjur.api_key_of("host/billing/web").unwrap());
        operator.restart().await.unwrap();
        bench.says::<ConjurHost>("web", "ForeignHost").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        assert!(bench.conjur.annotations("host", "billing/web").is_empty());
        assert!(status(&bench.api::<ConjurHost>().get("web").await.unwrap()).pending.is_none());
    });
}

#[test]
fn a_kill_around_a_rotation_leaves_a_stored_key_that_works() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        enrolled(&bench, "web").await;
        for (nth, when) in [When::Before, When::After].into_iter().enumerate() {
            let before = bench.conjur.key_generation("host/billing/web").unwrap();
            bench.conjur.clear_requests();
            strike(&bench, ROTATE, 1, when, Effect::Stall);
            let text = nth.to_string();
            annotate(&bench, "web", "rotate-now", &text).await;
            let reached =
                || bench.conjur.requests().iter().any(|r| r.path.starts_with(ROTATE) && r.method == "PUT");
            wait_for("the rotation", SOON, || async { reached().then_some(()) }).await.unwrap();
            if when == When::After {
                let done = || bench.conjur.key_generation("host/billing/web").unwrap() > before;
                wait_for("its effect", SOON, || async { done().then_some(()) }).await.unwrap();
            }
            operator.kill9().await.unwrap();
            bench.conjur.clear_faults();
            operator.restart().await.unwrap();
            let handled =
                |h: &ConjurHost| status(h).last_handled_rotate_now.as_deref() == Some(text.as_str());
            let object: ConjurHost = bench.until("the rotation", "web", handled).await;
            works(&bench, "web", "host/billing/web").await;
            assert!(
                status(&object).pending.is_some_and(|p| p.until.is_some()),
                "the lost one may still come through"
            );
        }
    });
}

#[test]
fn a_rotation_that_comes_through_late_is_made_good_when_no_other_can() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        enrolled(&bench, "web").await;
        bench.conjur.clear_requests();
        strike(&bench, ROTATE, 1, When::Before, Effect::Stall);
        annotate(&bench, "web", "rotate-now", "x").await;
        let reached = || bench.conjur.count(Kind::Rotate) == 1;
        wait_for("the rotation", SOON, || async { reached().then_some(()) }).await.unwrap();
        operator.kill9().await.unwrap();
        bench.conjur.clear_faults();
        operator.restart().await.unwrap();
        let handled = |h: &ConjurHost| status(h).last_handled_rotate_now.as_deref() == Some("x");
        bench.until("another rotation", "web", handled).await;
        works(&bench, "web", "host/billing/web").await;
        // Now the first one comes through, of which no one has the key.
        let lost = bench.secret_value("lost-key");
        assert!(bench.conjur.set_api_key("host/billing/web", &lost));
        annotate(&bench, "web", "sync-now", "early").await;
        let settled = |h: &ConjurHost| status(h).pending.is_some_and(|pending| pending.until.is_some());
        bench.until("it waits for what may come through", "web", settled).await;
        assert_eq!(bench.conjur.api_key_of("host/billing/web"), Some(lost), "not before no other can");
        // The two minutes are over.
        let over = json!({ "status": { "pending": { "until": Timestamp::now().as_second() } } });
        let api = bench.api::<ConjurHost>();
        api.patch_status("web", &PatchParams::default(), &Patch::Merge(over)).await.unwrap();
        annotate(&bench, "web", "sync-now", "over").await;
        let done = |h: &ConjurHost| status(h).pending.is_none();
        bench.until("nothing is announced", "web", done).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.count(Kind::Rotate), 3);
    });
}

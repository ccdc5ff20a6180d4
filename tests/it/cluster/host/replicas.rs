//! Two operators, of which one rotates, and the other takes over what it left.

use conjur_dev::{Effect, Kind, When};
use conjur_operator::api::ConjurHost;
use serde_json::json;
use testbed::wait_for;

use super::{
    super::{SOON, alone, setup::put},
    ROTATE, annotate, billing, host, status, strike, works,
};

#[test]
fn of_two_operators_one_rotates_and_the_other_takes_over_what_it_left() {
    alone(|bench, mut first| async move {
        billing(&bench).await;
        let second = bench.second_operator().await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0), "one of them made it");
        bench.conjur.clear_requests();

        strike(&bench, ROTATE, 1, When::After, Effect::Stall);
        annotate(&bench, "web", "rotate-now", "x").await;
        let is_rotated = || bench.conjur.key_generation("host/billing/web") == Some(1);
        wait_for("the rotation", SOON, || async { is_rotated().then_some(()) }).await.unwrap();
        first.kill9().await.unwrap();
        let handled = |h: &ConjurHost| status(h).last_handled_rotate_now.as_deref() == Some("x");
        bench.until("the other rotates", "web", handled).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(
            bench.conjur.count(Kind::Rotate),
            2,
            "the key of the one that was killed is lost, and no other"
        );

        second.terminate().await.unwrap();
        first.restart().await.unwrap();
        bench.no_secret_in(&second.log());
    });
}

#[test]
fn a_leader_that_was_paused_stores_no_dead_key_over_that_of_its_successor() {
    alone(|bench, mut first| async move {
        billing(&bench).await;
        let second = bench.second_operator().await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        bench.conjur.clear_requests();
        // It stands still while the answer with the new key is on its way.
        strike(&bench, ROTATE, 1, When::After, Effect::Latency { millis: 2000 });
        annotate(&bench, "web", "rotate-now", "x").await;
        let is_rotated = || bench.conjur.key_generation("host/billing/web") == Some(1);
        wait_for("the rotation", SOON, || async { is_rotated().then_some(()) }).await.unwrap();
        first.signal("STOP").unwrap();
        let handled = |h: &ConjurHost| status(h).last_handled_rotate_now.as_deref() == Some("x");
        bench.until("its successor rotates", "web", handled).await;
        works(&bench, "web", "host/billing/web").await;
        first.signal("CONT").unwrap();
        wait_for("it ends without its Lease", SOON, || async { first.ended() }).await.unwrap();
        works(&bench, "web", "host/billing/web").await;
        annotate(&bench, "web", "sync-now", "x").await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.count(Kind::Rotate), 2);
        second.terminate().await.unwrap();
        first.restart().await.unwrap();
        bench.no_secret_in(&second.log());
    });
}

//! The end by SIGTERM while values are sent.

use conjur_dev::{Effect, When};
use serde_json::json;
use testbed::wait_for;

use super::{fault, filled, owned, push, pushed, secret, sent};
use crate::cluster::{SOON, alone, setup::put};

const KEYS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

#[test]
fn after_the_signal_no_value_is_sent_any_more_and_the_next_leader_sends_the_rest() {
    alone(|bench, mut operator| async move {
        owned(&bench).await;
        bench.conjur.fault(fault("/secrets/", None, When::After, Effect::Latency { millis: 3000 }));
        let values = secret(&bench, "keys", &KEYS).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        wait_for("values are under way", SOON, || async { (sent(&bench) > 0).then_some(()) }).await.unwrap();
        operator.signal("TERM").unwrap();
        wait_for("the end", SOON, || async { operator.ended() }).await.unwrap();
        assert!(operator.ended().unwrap().success(), "{}", operator.log_tail(20));
        // Those that were under way have ended well, and of the others none was begun.
        let first = sent(&bench);
        assert!(first < KEYS.len() / 2, "{first} of {} were sent", KEYS.len());
        bench.conjur.clear_faults();
        operator.restart().await.unwrap();
        pushed(&bench, "p").await;
        for (key, value) in KEYS.iter().zip(&values) {
            filled(&bench, &format!("litellm/{key}"), value).await;
        }
    });
}

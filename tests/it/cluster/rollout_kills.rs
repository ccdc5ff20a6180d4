//! Many kills at random moments of a restart of workloads: exactly one for each change of the data.

use std::time::{Duration, Instant};

use conjur_operator::api::ConjurSecret;
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    SOON, alone,
    rollout::{done, web},
    setup::sync_now,
};

const ROUNDS: usize = 20;
const LONGEST: Duration = Duration::from_secs(75);

fn killed(target: &'static str) {
    alone(move |bench, mut operator| async move {
        bench.may_delete();
        let target: Value = serde_json::from_str(target).unwrap();
        done(&bench, &json!({ "target": target, "refreshInterval": "1h" })).await;
        let started = Instant::now();
        let mut rounds = 0;
        for round in 0..ROUNDS {
            if started.elapsed() > LONGEST {
                break;
            }
            let value = bench.set("apps/a");
            sync_now(&bench, "db", &round.to_string()).await;
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..250))).await;
            operator.kill9().await.unwrap();
            operator.restart().await.unwrap();
            rounds += 1;
            bench.holds("db", &[("a", &value)]).await;
            bench.ready::<ConjurSecret>("db").await;
            let what = format!("{rounds} restarts");
            wait_for(&what, SOON, || async { (web(&bench).await >= rounds).then_some(()) }).await.unwrap();
            assert_eq!(web(&bench).await, rounds, "{target}");
        }
        assert!(rounds >= 5, "too few rounds in {LONGEST:?}");
    });
}

#[test]
fn kills_at_random_moments_restart_once_for_each_change() {
    killed("{}");
}

#[test]
fn kills_at_random_moments_restart_once_for_each_change_where_the_secret_is_made_anew() {
    killed(r#"{"immutable": true}"#);
}

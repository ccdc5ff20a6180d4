//! Many kills at random moments.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use conjur_dev::{Effect, Fault, Kind, Point, When};
use conjur_operator::api::ConjurPolicy;

use super::super::alone;
use super::{
    billing, hold, hosts_document, keys_in, keys_work, old_host_is_untouched, policy, version, ways,
};

const ROUNDS: usize = 20;
const LONGEST: Duration = Duration::from_secs(60);

#[test]
fn kills_at_random_moments_lose_no_key() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        let logged = operator.log().len();
        let started = Instant::now();
        let (mut hosts, mut before): (Vec<String>, _) = (Vec::new(), BTreeMap::new());
        for round in 0..ROUNDS {
            if started.elapsed() > LONGEST {
                break;
            }
            // Slow answers make the moments between two steps long enough to be hit.
            let millis = rand::random_range(1..15);
            let slow = Effect::Latency { millis };
            bench.conjur.fault(Fault {
                method: None,
                path: "/".into(),
                count: None,
                when: When::After,
                effect: slow,
            });
            let gate = match rand::random_range(0..4) {
                0 => Some(hold(&bench, Point::BeforeCommit)),
                1 => Some(hold(&bench, Point::AfterCommit)),
                _ => None,
            };
            hosts.extend([format!("a{round}"), format!("b{round}")]);
            let asked = bench.conjur.requests().len();
            bench.apply(&policy("p", &keys_in("roles"), &hosts_document(&hosts))).await;
            // From the first request on, up to some time after the load.
            let begun = Instant::now();
            while bench.conjur.requests().len() == asked && begun.elapsed() < Duration::from_millis(500) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..250))).await;
            operator.kill9().await.unwrap();
            if let Some(gate) = gate {
                bench.conjur.release(gate);
            }
            operator.restart().await.unwrap();
            bench.ready::<ConjurPolicy>("p").await;
            let all: Vec<&str> = hosts.iter().map(String::as_str).collect();
            keys_work(&bench, "roles", &all).await;
            let stored = bench.data("roles").await.unwrap();
            for (key, value) in &before {
                assert!(stored.get(key) == Some(value), "{key} was stored, and was rotated all the same");
            }
            before = stored;
            old_host_is_untouched(&bench);
            bench.conjur.clear_faults();
        }
        assert!(hosts.len() >= 10, "too few rounds in {LONGEST:?}");
        let runs = ways::are_the_models(&operator.log()[logged..]);
        assert!(runs >= hosts.len() / 2, "the log tells of {runs} runs");
        let rotated = bench.conjur.count(Kind::Rotate);
        let loaded = version(&bench, "billing");
        assert!(rotated <= hosts.len() * 2, "{rotated} rotations in {loaded} loads");
        for host in &hosts {
            let generation = bench.conjur.key_generation(&format!("host/billing/{host}"));
            assert!(generation <= Some(2), "{host} was rotated {generation:?} times");
        }
    });
}

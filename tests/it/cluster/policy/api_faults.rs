//! Policies, while the way to the API server loses requests and answers at random.

use std::collections::{BTreeMap, BTreeSet};

use conjur_operator::api::ConjurPolicy;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use rand::{Rng, SeedableRng, rngs::StdRng};
use testbed::{ApiPath, Loss};

use super::super::{Bench, api_faults::by_a_faulty_way};
use super::removal::{delete, deletes, gone};
use super::{billing, keys_in, many_kills::stored_keys_work, old_host_is_untouched, policy};

const ROUNDS: usize = 12;
/// In one round; each costs the object that it hits a pause.
const LOSSES: usize = 8;
const NAMES: [&str; 3] = ["p", "q", "r"];

/// Strikes writes more than looks and watches.
fn lose_at_random(way: &ApiPath, namespace: &str, mut random: StdRng) {
    let mut left = LOSSES;
    let namespace = format!("/namespaces/{namespace}/");
    way.lose(move |method, path| {
        let write = method != "GET";
        // What is watched is watched in all namespaces; Events are best effort.
        if left == 0 || path.contains("/events") || write && !path.contains(&namespace) {
            return None;
        }
        let loss = match (write, random.random_range(0..24)) {
            (true, 0..6) => Loss::Answer,
            (true, 6..8) => Loss::Request,
            (_, 8..10) => Loss::HalfTheAnswer,
            _ => return None,
        };
        left -= 1;
        Some(loss)
    });
}

fn document(name: &str, round: usize) -> String {
    let made = (0..=round).fold("- !host old\n".to_owned(), |all, i| {
        all + &format!("- !host {name}{i}x\n- !variable {name}{i}x\n")
    });
    format!("{made}# {name} {round}\n")
}

async fn every_key_is_stored(bench: &Bench, round: usize, seed: u64) {
    for name in NAMES {
        let data = bench.data(&format!("{name}-roles")).await.unwrap();
        assert!(!data.contains_key("pending.json"), "an announcement was left over, seed {seed}");
        for i in 0..=round {
            let key = bench.conjur.api_key_of(&format!("host/billing/{name}{i}x")).unwrap();
            let stored = data.get(&format!("host.billing_2f{name}{i}x.api-key"));
            assert!(stored == Some(&key), "no key that works is stored for {name}{i}x, seed {seed}");
        }
    }
}

#[test]
fn losses_on_the_way_to_the_api_server_lose_no_key_rotate_no_stored_one_and_repeat_no_load() {
    by_a_faulty_way(|bench, way| async move {
        let seed: u64 = rand::random();
        eprintln!("the seed of these losses is {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        billing(&bench).await;
        let mut stored = BTreeMap::new();
        for round in 0..ROUNDS {
            lose_at_random(&way, &bench.namespace, StdRng::seed_from_u64(random.random()));
            for name in NAMES {
                let keys = keys_in(&format!("{name}-roles"));
                bench.apply(&policy(name, &deletes(&keys), &document(name, round))).await;
            }
            for name in NAMES {
                bench.ready::<ConjurPolicy>(name).await;
            }
            every_key_is_stored(&bench, round, seed).await;
            stored_keys_work(&bench, &mut stored).await;
        }
        assert!(way.struck() >= ROUNDS * 2, "only {} losses", way.struck());
        eprintln!("{} losses", way.struck());
        old_host_is_untouched(&bench);
        let texts: Vec<String> =
            bench.conjur.policy_versions("billing").into_iter().map(|v| v.text).collect();
        let documents: Vec<&String> = texts.iter().filter(|text| text.contains("# ")).collect();
        let different: BTreeSet<&&String> = documents.iter().collect();
        assert_eq!(documents.len(), different.len(), "a document was loaded twice, seed {seed}");
        assert_eq!(documents.len(), ROUNDS * NAMES.len(), "seed {seed}");

        lose_at_random(&way, &bench.namespace, StdRng::seed_from_u64(random.random()));
        for name in NAMES {
            delete(&bench, name).await;
        }
        for name in NAMES {
            gone(&bench, name).await;
            assert!(bench.data(&format!("{name}-roles")).await.is_none(), "seed {seed}");
            for i in 0..ROUNDS {
                let id = format!("billing/{name}{i}x");
                let left = bench.conjur.exists("host", &id) || bench.conjur.exists("variable", &id);
                assert!(!left, "{id} was left in Conjur, seed {seed}");
            }
        }
        let events = bench.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let left = events.iter().find(|e| e.reason.as_deref() == Some("LeftInConjur"));
        assert!(left.is_none(), "{left:?}, seed {seed}");
    });
}

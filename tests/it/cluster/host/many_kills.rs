//! Two hundred kills of the operator at random moments, with hosts of each way that are made, rotated, changed and removed, and
//! answers of Conjur that are late or lost.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use conjur_dev::{Effect, Fault, When};
use conjur_operator::api::ConjurHost;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    super::{Bench, SOON, apart, setup::try_put},
    host, status,
};

const KILLS: usize = 200;
/// After so many kills all is left alone until it is done, and looked at.
const LAP: usize = 100;
const HOSTS: usize = 9;
/// Longest time from a start to the kill: some more than all objects take.
const LONGEST_LIFE: u64 = 700;

/// What a test asks of one object.
struct Asked {
    name: String,
    id: String,
    more: Value,
    deletes: bool,
    rotations: usize,
}

async fn set_up(bench: &Bench) -> Vec<Asked> {
    bench
        .root(
            "- !host ops\n- !policy\n  id: billing\n  owner: !host ops\n  body:\n  - !layer web\n  - !host-factory {id: factory, \
             layers: [!layer web]}\n  - !host x6\n  - !host x7\n  - !host x8\n  - !host stranger\n",
        )
        .await;
    bench.connect("host/ops").await;
    let asked = |i: usize| {
        let (id, more) = match i / 3 {
            0 => (format!("billing/b{i}"), json!({ "memberOf": ["layer/billing/web"] })),
            1 => (format!("billing/f{i}"), json!({ "via": { "hostFactory": { "id": "billing/factory" } } })),
            _ => (format!("billing/x{i}"), json!({ "via": { "existing": {} }, "conflictPolicy": "Adopt" })),
        };
        let deletes = i % 3 == 2;
        let mut more = more;
        more["id"] = id.clone().into();
        more["deletionPolicy"] = if deletes { "Delete" } else { "Retain" }.into();
        Asked { name: format!("h{i}"), id, more, deletes, rotations: 0 }
    };
    (0..HOSTS).map(asked).collect()
}

/// A key that is stored belongs to its host, and all that were ever stored are secrets.
async fn keep_stored_keys(bench: &Bench) {
    for secret in bench.api::<Secret>().list(&ListParams::default()).await.unwrap() {
        let key = secret.data.unwrap_or_default().remove("api-key");
        if let Some(key) = key.and_then(|key| String::from_utf8(key.0).ok()) {
            bench.keep_secret(key);
        }
    }
}

async fn all_done(bench: &Bench, asked: &[Asked], seed: u64) {
    let api = bench.api::<ConjurHost>();
    // What was lost may come through for two minutes, and is tried then.
    wait_for(&format!("all are Ready (seed {seed})"), SOON * 4, || async {
        let all = api.list(&ListParams::default()).await.unwrap().items;
        let ready = |h: &&ConjurHost| {
            let said = status(h);
            let conditions = said.conditions.unwrap_or_default();
            let wanted = asked.iter().find(|asked| Some(&asked.name) == h.metadata.name.as_ref());
            let rotated = wanted.is_some_and(|wanted| {
                wanted.rotations == 0 || said.last_handled_rotate_now == Some(wanted.rotations.to_string())
            });
            said.observed_generation == h.metadata.generation
                && conditions.len() == 1
                && conditions[0].status == "True"
                && said.pending.is_none()
                && rotated
        };
        (all.iter().filter(ready).count() == asked.len()).then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
    for object in asked {
        super::works(bench, &object.name, &format!("host/{}", object.id)).await;
    }
    assert_eq!(bench.conjur.factory_tokens("billing/factory").len(), 0, "a token is left, seed {seed}");
    assert_eq!(bench.conjur.key_generation("host/billing/stranger"), Some(0), "seed {seed}");
}

#[test]
fn two_hundred_kills_leave_every_stored_key_working_and_no_token_or_strangers_key_touched() {
    apart(|bench, mut operator| async move {
        bench.may_delete();
        let seed: u64 = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        let mut asked = set_up(&bench).await;
        let started = Instant::now();
        for object in &asked {
            try_put(&bench, &host(&object.name, &object.more)).await.unwrap();
        }
        // It asks for what another made, and for its rotation, and never gets it.
        let mut in_vain = host("stranger", &json!({ "id": "billing/stranger" }));
        in_vain["metadata"]["annotations"] = json!({ "conjur-operator.io/rotate-now": "1" });
        try_put(&bench, &in_vain).await.unwrap();
        let slow = || {
            let effect = Effect::Latency { millis: 4 };
            bench.conjur.fault(Fault {
                method: None,
                path: "/".into(),
                count: None,
                when: When::After,
                effect,
            });
        };
        slow();
        let api = bench.api::<ConjurHost>();
        for kill in 1..=KILLS {
            for _ in 0..random.random_range(0..3) {
                let at = random.random_range(0..asked.len());
                let object = &mut asked[at];
                // A load that was announced is waited for by a removal for longer than the test lasts.
                let may_go = at >= 3 || is_enrolled(&bench, &object.name).await;
                if object.deletes && at < 6 && may_go && random.random_range(0..4) == 0 {
                    drop(api.delete(&object.name, &DeleteParams::default()).await);
                } else {
                    drop(try_put(&bench, &host(&object.name, &object.more)).await);
                    object.rotations += 1;
                    let annotation = json!({ "conjur-operator.io/rotate-now": object.rotations.to_string() });
                    let change = json!({ "metadata": { "annotations": annotation } });
                    drop(api.patch(&object.name, &PatchParams::default(), &Patch::Merge(change)).await);
                }
            }
            if random.random_range(0..3) == 0 {
                let paths = ["/policies/", "/authn/demo/api_key", "/host_factories/", "/host_factory_tokens"];
                let path = paths[random.random_range(0..paths.len())].to_owned();
                let when = if random.random_range(0..2) == 0 { When::After } else { When::Before };
                bench.conjur.fault(Fault { method: None, path, count: Some(1), when, effect: Effect::Reset });
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..LONGEST_LIFE))).await;
            operator.kill9().await.unwrap();
            keep_stored_keys(&bench).await;
            operator.restart().await.unwrap();
            if kill % LAP == 0 {
                // Each answer that is lost may have to be waited for: those that no request met yet would come one by one.
                bench.conjur.clear_faults();
                slow();
                settle(&bench, &mut asked).await;
                all_done(&bench, &asked, seed).await;
            }
        }
        removed(&bench, &asked).await;
        eprintln!("{KILLS} kills in {:?}", started.elapsed());
    });
}

/// Whether nothing of an object's enrolment is under way any more.
async fn is_enrolled(bench: &Bench, name: &str) -> bool {
    let object = bench.api::<ConjurHost>().get_opt(name).await.unwrap();
    object.is_some_and(|object| status(&object).applied.is_some() && status(&object).pending.is_none())
}

/// Waits until none is being deleted, and asks for each with another rotation.
async fn settle(bench: &Bench, asked: &mut [Asked]) {
    let api = bench.api::<ConjurHost>();
    for object in asked {
        wait_for("it is gone or stays", SOON * 3, || async {
            let there = api.get_opt(&object.name).await.unwrap();
            there.is_none_or(|h| h.metadata.deletion_timestamp.is_none()).then_some(())
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
        try_put(bench, &host(&object.name, &object.more)).await.unwrap();
        object.rotations += 1;
        let annotation = json!({ "conjur-operator.io/rotate-now": object.rotations.to_string() });
        let change = json!({ "metadata": { "annotations": annotation } });
        api.patch(&object.name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }
}

/// All that are to be removed from Conjur with their objects are.
async fn removed(bench: &Bench, asked: &[Asked]) {
    let api = bench.api::<ConjurHost>();
    let mut left = BTreeMap::new();
    for object in asked.iter().filter(|object| object.deletes) {
        api.delete(&object.name, &DeleteParams::default()).await.unwrap();
    }
    for object in asked.iter().filter(|object| object.deletes) {
        wait_for("it is gone", SOON, || async {
            api.get_opt(&object.name).await.unwrap().is_none().then_some(())
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
        let is_made = !object.id.contains("/x");
        if bench.conjur.exists("host", &object.id) == is_made {
            left.insert(&object.id, is_made);
        }
    }
    assert!(left.is_empty(), "removed, or left, and should be the other: {left:?}");
}

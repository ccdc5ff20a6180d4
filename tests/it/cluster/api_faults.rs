//! A way to the API server on which answers get lost after what was asked for was done.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
};

use conjur_operator::api::ConjurSecret;
use serde_json::json;
use testbed::{ApiPath, Loss, Operator, OperatorOptions, wait_for};

use super::{
    Bench, SOON, alone,
    rollout::{done, web},
    setup::synced,
};

/// Runs a test with an operator that goes by such a way.
pub fn by_a_faulty_way<T: Future<Output = ()>>(body: impl FnOnce(Bench, ApiPath) -> T) {
    alone(|bench, mut shared| async move {
        shared.terminate().await.unwrap();
        let world = bench.world;
        let way = ApiPath::start(world.plane).await.unwrap();
        let mut options = OperatorOptions::under(&world.release);
        "by-a-faulty-way".clone_into(&mut options.name);
        "trace".clone_into(&mut options.log_level);
        options.way = Some(way.address());
        let operator =
            Operator::start(env!("CARGO_BIN_EXE_conjur-operator"), world.plane, options).await.unwrap();
        body(bench.clone(), way).await;
        operator.terminate().await.unwrap();
        let log = operator.log();
        for value in bench.secrets.lock().unwrap().iter() {
            assert!(!log.contains(value), "a secret was seen in the log");
        }
        shared.restart().await.unwrap();
    });
}

/// From now on the answer of the next such request gets lost.
fn lose_next(way: &ApiPath, method: &'static str, path: String) {
    let done = AtomicBool::new(false);
    way.lose(move |m, p| {
        let hit = m == method && p.split('?').next() == Some(&path) && !done.swap(true, Ordering::Relaxed);
        hit.then_some(Loss::Answer)
    });
}

#[test]
fn lost_answers_to_writes_for_a_conjursecret_do_no_harm_and_restart_nothing_twice() {
    by_a_faulty_way(|bench, way| async move {
        let ns = bench.namespace.clone();
        let secrets = format!("/api/v1/namespaces/{ns}/secrets");
        let status = format!("/apis/conjur-operator.io/v1alpha1/namespaces/{ns}/conjursecrets/db/status");
        lose_next(&way, "POST", secrets.clone());
        done(&bench, &json!({})).await;
        assert_eq!((way.struck(), web(&bench).await), (1, 0));
        let writes = BTreeMap::from([
            ("PUT", format!("{secrets}/db")),
            ("PATCH", status),
            ("PATCH ", format!("/apis/apps/v1/namespaces/{ns}/deployments/web")),
        ]);
        let mut restarts = 0;
        for round in 0..2 {
            for (method, path) in &writes {
                let struck = way.struck();
                lose_next(&way, method.trim(), path.clone());
                let value = bench.set("apps/a");
                synced(&bench, "db", &format!("{}-{round}", path.len())).await;
                bench.holds("db", &[("a", &value)]).await;
                bench.ready::<ConjurSecret>("db").await;
                restarts += 1;
                let what = format!("{path}: one restart for one change");
                wait_for(&what, SOON, || async { (web(&bench).await == restarts).then_some(()) })
                    .await
                    .unwrap();
                assert_eq!(way.struck(), struck + 1, "{path}");
                way.lose_nothing();
                synced(&bench, "db", &format!("{}-{round}-again", path.len())).await;
                assert_eq!(web(&bench).await, restarts, "{path}");
            }
        }
    });
}

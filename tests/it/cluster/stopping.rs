//! The end by SIGTERM: nothing new begins, and the Lease is kept for a load that is under way.

use std::time::{Duration, Instant};

use conjur_dev::{Hold, Point};
use conjur_operator::api::ConjurPolicy;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::{Value, json};
use testbed::{Operator, OperatorOptions, wait_for};

use super::{Bench, SOON, alone, setup::eventually};

const BRANCH: &str = "/policies/demo/policy/billing";

/// Another operator in the place of the shared one, which has ended.
async fn another(bench: &Bench, name: &str, more: &[&str]) -> Operator {
    let mut options = OperatorOptions::under(&bench.world.release);
    name.clone_into(&mut options.name);
    options.args.push("--leader-elect".into());
    options.args.extend(more.iter().map(|arg| (*arg).to_owned()));
    Operator::start(env!("CARGO_BIN_EXE_conjur-operator"), bench.world.plane, options).await.unwrap()
}

async fn lease(bench: &Bench) -> (String, Option<jiff::Timestamp>) {
    let leases = Api::<Lease>::namespaced(bench.client.clone(), &bench.world.release.namespace);
    let spec = leases.get("conjur-operator").await.unwrap().spec.unwrap();
    (spec.holder_identity.unwrap_or_default(), spec.renew_time.map(|time| time.0))
}

/// A ConjurPolicy of the branch; `more` goes over its spec.
async fn put_policy(bench: &Bench, name: &str, document: &str, more: &Value) {
    let mut spec =
        json!({ "connectionRef": { "name": "conjur" }, "branch": "billing", "document": document });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let metadata = json!({ "name": name });
    let api_version = "conjur-operator.io/v1alpha1";
    let object =
        json!({ "apiVersion": api_version, "kind": "ConjurPolicy", "metadata": metadata, "spec": spec });
    super::setup::put(bench, &object).await;
}

/// A ConjurPolicy whose document makes a host, and is held in Conjur.
async fn slow_load(bench: &Bench) -> u64 {
    bench.root("- !host ops\n- !policy\n  id: billing\n  owner: !host ops\n").await;
    bench.connect("host/ops").await;
    let hold =
        Hold { method: Some("PATCH".into()), path: BRANCH.into(), at: Point::BeforeCommit, count: None };
    let hold = bench.conjur.hold(hold);
    put_policy(bench, "p", "- !host web\n", &json!({ "createdRoles": { "secretName": "roles" } })).await;
    eventually("the load is under way", || sent(bench) == 1).await;
    hold
}

fn sent(bench: &Bench) -> usize {
    bench.conjur.requests().iter().filter(|r| r.method == "PATCH" && r.path == BRANCH).count()
}

async fn key_is_stored(bench: &Bench, generation: u64) {
    bench.ready::<ConjurPolicy>("p").await;
    let data = bench.data("roles").await.unwrap();
    let key = bench.conjur.api_key_of("host/billing/web").unwrap();
    bench.keep_secret(key.clone());
    assert!(
        data.get("host.billing_2fweb.api-key") == Some(&key),
        "the stored key is missing or does not work"
    );
    assert!(!data.contains_key("pending.json"), "an announcement was left over");
    assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(generation));
}

#[test]
fn the_lease_is_kept_until_a_load_that_is_under_way_has_ended() {
    alone(|bench, mut shared| async move {
        shared.terminate().await.unwrap();
        let operator = another(&bench, "stopping-0", &[]).await;
        let hold = slow_load(&bench).await;
        // Another load of the branch waits for its turn.
        put_policy(&bench, "waits", "- !variable more\n", &json!({})).await;
        bench.says::<ConjurPolicy>("waits", "LoadInProgress").await;
        operator.signal("TERM").unwrap();
        wait_for("it is told to stop", SOON, || async {
            operator.log().contains("shutting down").then_some(())
        })
        .await
        .unwrap();
        // What comes now is the next leader's.
        super::setup::put(&bench, &super::setup::project("later", &[("a", "a")], &json!({}))).await;
        let (holder, first) = lease(&bench).await;
        assert_eq!(holder, "stopping-0");
        // Longer than other work is waited for.
        let begun = Instant::now();
        wait_for("renewals for longer than other work is waited for", SOON, || async {
            let (holder, renewed) = lease(&bench).await;
            assert_eq!(holder, "stopping-0", "it was released during the load");
            (renewed > first && begun.elapsed() > Duration::from_secs(22)).then_some(())
        })
        .await
        .unwrap();
        bench.conjur.release(hold);
        wait_for("the end", SOON, || async { operator.ended() }).await.unwrap();
        assert!(operator.ended().unwrap().success(), "{}", operator.log_tail(20));
        assert_eq!(lease(&bench).await.0, "", "the Lease was not released");
        // All of it is done: the key is stored, and nothing is left to resolve.
        key_is_stored(&bench, 0).await;
        let later = bench.api::<conjur_operator::api::ConjurSecret>().get("later").await.unwrap();
        let generation = later.status.and_then(|status| status.observed_generation);
        assert!(generation.is_none_or(|generation| generation < 0), "it was begun after the signal");
        assert_eq!(sent(&bench), 1, "a load was begun after the signal");
        // The one that waited is not told that anything is wrong, and is the next leader's.
        bench.says::<ConjurPolicy>("waits", "LoadInProgress").await;
        bench.no_secret_in(&operator.log());
        shared.restart().await.unwrap();
        bench.ready::<ConjurPolicy>("waits").await;
    });
}

#[test]
fn a_load_that_takes_longer_than_its_grace_is_left_and_resolved_by_the_next_leader() {
    alone(|bench, mut shared| async move {
        shared.terminate().await.unwrap();
        let operator = another(&bench, "stopping-1", &["--load-grace", "3s"]).await;
        let hold = slow_load(&bench).await;
        let begun = Instant::now();
        operator.signal("TERM").unwrap();
        wait_for("the end", SOON, || async { operator.ended() }).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(operator.ended().unwrap().success(), "{}", operator.log_tail(20));
        assert_eq!(lease(&bench).await.0, "", "the Lease was not released");
        assert!(operator.log().contains("loads were still in flight after 3s"), "{}", operator.log_tail(20));
        // The server goes on with it, and the next leader finds out what became of it.
        shared.restart().await.unwrap();
        bench.says::<ConjurPolicy>("p", "LoadInProgress").await;
        bench.conjur.release(hold);
        key_is_stored(&bench, 1).await;
        assert_eq!(bench.conjur.policy_versions("billing").last().map(|v| v.version), Some(1));
        bench.no_secret_in(&operator.log());
    });
}

//! Two replicas, one of which acts.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::WatchParams;
use kube::core::WatchEvent;
use serde_json::json;
use testbed::wait_for;

use super::setup::{
    NAMESPACE, conjur, holder, install, name, node, pods, until_held, until_holds, until_pods,
};

/// Who held the Lease from when on; an empty name where nobody did.
type Holders = Arc<Mutex<Vec<(Instant, String)>>>;

/// Writes down every change of the holder, until it is dropped.
async fn watch_lease(client: kube::Client) -> (Holders, tokio::task::JoinHandle<()>) {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let of =
        |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    let first = leases.get("conjur-operator").await.unwrap();
    let holders: Holders = Arc::new(Mutex::new(vec![(Instant::now(), of(&first))]));
    let seen = holders.clone();
    let watching = tokio::spawn(async move {
        let version = first.metadata.resource_version.unwrap();
        let params = WatchParams::default().fields("metadata.name=conjur-operator").timeout(280);
        let events = leases.watch(&params, &version).await.unwrap();
        pin_mut!(events);
        while let Some(Ok(event)) = events.next().await {
            let (WatchEvent::Added(lease) | WatchEvent::Modified(lease)) = event else { continue };
            let holder = of(&lease);
            let mut seen = seen.lock().unwrap();
            if seen.last().unwrap().1 != holder {
                seen.push((Instant::now(), holder));
            }
        }
    });
    (holders, watching)
}

#[tokio::test]
async fn a_rollout_hands_the_lease_over_within_three_seconds_and_one_alone_acts() {
    let Some(node) = node().await else { return };
    install(&node, json!({"replicaCount": 2})).await;
    let first: Vec<String> = until_pods(&node, 2).await.iter().map(name).collect();
    let leader = until_held(&node, |holder| first.iter().any(|pod| pod == holder)).await;
    let (holders, watching) = watch_lease(node.client().await.unwrap()).await;

    node.kubectl(&["rollout", "restart", "deployment/conjur-operator", "--namespace", NAMESPACE])
        .await
        .unwrap();
    let status =
        ["rollout", "status", "deployment/conjur-operator", "--namespace", NAMESPACE, "--timeout=180s"];
    node.kubectl(&status).await.unwrap();
    let second: Vec<String> = wait_for("only new Pods are left", Duration::from_secs(120), async || {
        let names: Vec<String> = pods(&node).await.iter().map(name).collect();
        (names.len() == 2 && !names.iter().any(|pod| first.contains(pod))).then_some(names)
    })
    .await
    .unwrap();
    until_held(&node, |holder| second.iter().any(|pod| pod == holder)).await;
    watching.abort();

    let holders = holders.lock().unwrap().clone();
    assert_eq!(holders[0].1, leader);
    for (one, next) in holders.iter().zip(&holders[1..]) {
        // Each lets go before another takes it: what follows a holder is nobody.
        assert!(one.1.is_empty() || next.1.is_empty(), "taken over without a release: {holders:?}");
        if one.1.is_empty() {
            assert!(next.0 - one.0 <= Duration::from_secs(3), "nobody held it for {:?}", next.0 - one.0);
        }
    }
}

#[tokio::test]
async fn after_the_leaders_death_the_other_goes_on() {
    let Some(node) = node().await else { return };
    install(&node, json!({"replicaCount": 2})).await;
    let conjur = conjur(&node).await;
    let pods = until_pods(&node, 2).await;
    let leader = holder(&node).await.unwrap();
    let pod = pods.iter().find(|pod| name(pod) == leader).unwrap();
    node.kubectl(&["delete", "pod", &name(pod), "--namespace", NAMESPACE, "--grace-period=0", "--force"])
        .await
        .unwrap();
    until_held(&node, |holder| holder != leader).await;
    until_pods(&node, 2).await;
    conjur.set("apps/billing/db/password", "a-second-password").await.unwrap();
    until_holds(&node, "password", "a-second-password").await;
}

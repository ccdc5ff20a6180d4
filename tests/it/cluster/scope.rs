//! An operator that watches and touches some namespaces only, with no right to Secrets of the whole cluster.

use std::{collections::BTreeSet, time::Duration};

use conjur_dev::Options;
use conjur_operator::api::{ClusterConjurConnection, ConjurSecret, condition::find};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use testbed::{Chart, ControlPlane, Operator, wait_for};
use tokio::sync::RwLockWriteGuard;

use super::{
    Bench, RUNTIME, SOON, World, everything,
    login::with,
    rights,
    setup::{connection, eventually, project, put, variables},
};

const SHARED: &str = "shared";

/// The chart's values for these namespaces, with all rights that the operator may need there.
fn values(watched: &[&str], cluster_connections: bool) -> Chart {
    let values = json!({
        "watchNamespaces": watched,
        "clusterConnections": { "enabled": cluster_connections },
        "rbac": { "aggregate": false, "tokenRequest": { "serviceAccountNames": ["app"] } },
    });
    Chart { values, ..Chart::default() }
}

/// Runs a test on a cluster of its own with these namespaces, where the operator watches `first` and `second`, with the rights
/// of the chart.
fn scoped<T: Future<Output = ()>>(
    there: &[&str],
    chart: &Chart,
    args: &'static [&'static str],
    body: impl FnOnce(Bench, RwLockWriteGuard<'static, Operator>) -> T,
) {
    RUNTIME.block_on(async {
        let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await.unwrap()));
        namespaces(plane, there).await;
        let release = plane.install_chart(chart).await.unwrap();
        let args = [&["--watch-namespace", "first,second"], args].concat();
        let world: &'static World = Box::leak(Box::new(World::of(plane, release, &args).await));
        let operator = world.operator.write().await;
        Bench::run(world, async |bench| {
            let options = Options { authenticators: vec!["authn-jwt/k8s".to_owned()], ..Options::default() };
            let bench = with(&bench, options).await;
            body(bench.clone(), operator).await;
            bench.conjur.stop().await;
        })
        .await;
        world.operator.write().await.kill9().await.unwrap();
        plane.stop_api_server().await.unwrap();
    });
}

async fn namespaces(plane: &ControlPlane, names: &[&str]) {
    for name in names {
        plane.kubectl(&["create", "namespace", name]).await.unwrap();
    }
}

fn at(bench: &Bench, namespace: &str) -> Bench {
    Bench { namespace: namespace.to_owned(), ..bench.clone() }
}

/// A ClusterConjurConnection as a host, whose key lies in a namespace.
async fn shared(bench: &Bench, name: &str, login: &str, namespace: &str) {
    let secret = json!({ "namespace": namespace, "name": "conjur-login", "key": "api-key" });
    let all = ["first", "second", "third"];
    let object = json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ClusterConjurConnection", "metadata": { "name": name },
        "spec": {
            "url": bench.conjur.url(), "account": "demo",
            "auth": { "apiKey": { "login": login, "apiKeySecretRef": secret } },
            "access": [{
                "namespaces": { "names": all }, "read": ["{namespace}/**"], "write": ["{namespace}/**"],
                "branches": ["{namespace}", "{namespace}/**"],
            }],
        },
    });
    let api = Api::<ClusterConjurConnection>::all(bench.client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

async fn shared_says(bench: &Bench, name: &str, reason: &str) -> String {
    let api = Api::<ClusterConjurConnection>::all(bench.client.clone());
    wait_for(&format!("ClusterConjurConnection {name}: {reason}"), SOON, || async {
        let conditions = api.get(name).await.ok()?.status?.conditions?;
        find(&conditions, "Ready").filter(|ready| ready.reason == reason).map(|ready| ready.message.clone())
    })
    .await
    .unwrap()
}

/// What the operator asked for of these resources that concerns no single namespace.
fn asked_of_all(bench: &Bench, before: usize) -> BTreeSet<String> {
    let all = rights::requests(bench, before).into_iter().filter(|request| request.namespace.is_empty());
    all.map(|request| request.resource).collect()
}

#[test]
fn two_namespaces_have_all_kinds_without_a_right_beyond_them_and_a_third_is_not_touched() {
    let chart = values(&["first", "second"], true);
    scoped(&["first", "second", "third"], &chart, &[], async |bench, _operator| {
        let (first, second, third) = (at(&bench, "first"), at(&bench, "second"), at(&bench, "third"));
        for there in [&first, &second, &third] {
            there.may_delete();
            everything::in_conjur(there).await;
            let login = format!("host/{}-ops", there.namespace);
            let key = bench.conjur.api_key_of(&login).unwrap();
            there.put_secret("conjur-login", &[("api-key", &key)]).await;
        }
        let named = json!({ "name": "conjur" });
        let through_all = json!({ "name": SHARED, "kind": "ClusterConjurConnection" });
        let login = |name: &str| format!("host/{name}-ops");
        put(&third, &everything::connection_as(&third, &login("third"))).await;
        put(&third, &project("db", &[("a", "a")], &json!({}))).await;

        put(&first, &everything::connection_as(&first, &login("first"))).await;
        everything::make(&first, &named).await;
        shared(&bench, SHARED, &login("second"), "second").await;
        shared_says(&bench, SHARED, "Connected").await;
        everything::make(&second, &through_all).await;

        // Its credentials lie where the operator has no right to look.
        shared(&bench, "outside", &login("third"), "third").await;
        let message = shared_says(&bench, "outside", "InvalidSpec").await;
        for word in ["namespace third", "spec.auth.apiKey.apiKeySecretRef", "watchNamespaces"] {
            assert!(message.contains(word), "{message}");
        }

        tokio::join!(everything::change(&first), everything::change(&second));
        let untouched = third.api::<ConjurSecret>().get("db").await.unwrap();
        let generation = untouched.status.and_then(|status| status.observed_generation);
        assert!(generation.is_none_or(|generation| generation < 0), "{generation:?}");
        let there = rights::requests(&bench, 0).into_iter().filter(|r| r.namespace == "third");
        assert_eq!(there.map(|request| request.uri).collect::<Vec<_>>(), [""; 0]);
        let of_all = ["clusterconjurconnections", "namespaces"].map(str::to_owned);
        assert_eq!(asked_of_all(&bench, 0), BTreeSet::from(of_all));

        everything::remove(&first).await;
        everything::remove(&second).await;
        rights::are_what_was_used(&bench, 0).await;
    });
}

#[test]
fn without_cluster_connections_nothing_of_the_cluster_is_read_and_what_was_made_stays_the_operators() {
    let chart = values(&["first", "second"], false);
    scoped(&["first", "second"], &chart, &["--cluster-connections=false"], async |bench, _operator| {
        let (first, second) = (at(&bench, "first"), at(&bench, "second"));
        for there in [&first, &second] {
            there.may_delete();
            everything::in_conjur(there).await;
            let login = format!("host/{}-ops", there.namespace);
            let key = bench.conjur.api_key_of(&login).unwrap();
            there.put_secret("conjur-login", &[("api-key", &key)]).await;
            put(there, &everything::connection_as(there, &login)).await;
            everything::make(there, &json!({ "name": "conjur" })).await;
        }
        shared(&bench, SHARED, "host/first-ops", "first").await;
        put(&first, &super::access::secret("denied", SHARED, "first/a")).await;
        let message = first.says::<ConjurSecret>("denied", "AccessDenied").await;
        for word in [SHARED, "clusterConnections.enabled"] {
            assert!(message.contains(word), "{message}");
        }
        tokio::join!(everything::change(&first), everything::change(&second));
        assert_eq!(asked_of_all(&bench, 0), BTreeSet::new());

        // With all of the cluster in sight the uid comes from the watch of namespaces, and is the same.
        let owner = |there: &Bench| {
            let all = there.conjur.annotations("variable", &format!("{}/pushed/openai", there.namespace));
            all.get("conjur-operator.io/owner").cloned().unwrap()
        };
        let before = owner(&first);
        let uid = bench
            .world
            .plane
            .kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"])
            .await;
        assert!(before.starts_with(&uid.unwrap()), "{before}");
        everything::remove(&first).await;
        everything::remove(&second).await;
        rights::are_what_was_used(&bench, 0).await;
        first.api::<ConjurSecret>().delete("denied", &DeleteParams::default()).await.unwrap();
    });
}

#[test]
fn a_namespace_that_is_forbidden_or_missing_holds_up_no_other_and_is_watched_when_it_comes() {
    let chart = values(&["first"], true);
    scoped(&["first"], &chart, &[], async |bench, operator| {
        let first = at(&bench, "first");
        let value = variables(&bench, &["a"]).await.remove(0);
        first.connect(super::setup::LOGIN).await;
        put(&first, &project("db", &[("a", "a")], &json!({}))).await;
        first.holds("db", &[("a", &value)]).await;
        // Each watch was refused more than once, and said so once.
        let refused = |resource: &str| {
            let all = rights::requests(&bench, 0);
            all.iter().filter(|r| r.namespace == "second" && r.code == 403 && r.resource == resource).count()
        };
        eventually("the watch is tried again", || refused("conjursecrets") > 1).await;
        let log = operator.log();
        let told = log.lines().filter(|line| {
            line.contains("a watch is forbidden") && line.contains("ConjurSecret") && line.contains("second")
        });
        assert_eq!(told.count(), 1);

        let second = bench.in_namespace("second").await;
        second
            .put_secret(
                "conjur-login",
                &[("api-key", &bench.conjur.api_key_of(super::setup::LOGIN).unwrap())],
            )
            .await;
        put(&second, &connection(&second, "conjur", &json!({}))).await;
        put(&second, &project("db", &[("a", "a")], &json!({}))).await;
        bench.world.plane.install_chart(&values(&["first", "second"], true)).await.unwrap();
        // Each watch backs off to half a minute, and the one that is last counts.
        wait_for("the other namespace works, too", 2 * SOON + Duration::from_secs(30), || async {
            (second.data("db").await?.get("a") == Some(&value)).then_some(())
        })
        .await
        .unwrap();
    });
}

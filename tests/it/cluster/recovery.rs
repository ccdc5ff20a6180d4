//! When something that many objects need works again or changes.

use conjur_dev::{Effect, Fault, Kind, When};
use conjur_operator::api::{ConjurConnection, ConjurSecret};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use serde_json::json;
use testbed::wait_for;

use super::{
    Bench, SOON,
    setup::{api_requests, change_policy, connected, connection, fetches, permitted, project, put, states},
    test,
};

/// How many objects have these conditions.
async fn count(bench: &Bench, expected: &str) -> usize {
    let all = bench.api::<ConjurSecret>().list(&ListParams::default()).await.unwrap().items;
    all.iter().filter(|object| states(*object) == expected).count()
}

#[test]
fn what_waited_for_a_connection_is_refreshed_at_once_and_spread() {
    test(|bench| async move {
        const OBJECTS: usize = 300;
        let value = connected(&bench, &["a"]).await.remove(0);
        bench.conjur.stop().await;
        put(&bench, &project("first", &[("a", "a")], &json!({}))).await;
        bench.says::<ConjurConnection>("conjur", "ConjurUnavailable").await;
        let all: Vec<_> = (1..OBJECTS)
            .map(|at| project(&format!("db-{at}"), &[("a", "a")], &json!({ "refreshInterval": "1000h" })))
            .map(|object| object.to_string())
            .collect();
        bench.apply(&all.join("\n---\n")).await;
        wait_for("all wait", SOON, || async {
            (count(&bench, "Ready=False Reconciling=True").await == OBJECTS).then_some(())
        })
        .await
        .unwrap();
        bench.conjur.clear_requests();
        bench.conjur.resume().await.unwrap();
        wait_for("all are done", SOON, || async {
            (count(&bench, "Ready=True").await == OBJECTS).then_some(())
        })
        .await
        .unwrap();
        bench.holds("db-1", &[("a", &value)]).await;
        let batches = bench.conjur.count(Kind::Batch) + bench.conjur.count(Kind::Single);
        assert!(batches <= 15, "{batches} requests for values");
        let made: Vec<_> = api_requests(&bench)
            .into_iter()
            .filter(|r| r.resource == "secrets" && r.verb == "create")
            .collect();
        assert_eq!(made.len(), OBJECTS);
        let (first, last) =
            (made.iter().map(|r| r.time).min().unwrap(), made.iter().map(|r| r.time).max().unwrap());
        // 300 are five groups, a tenth of a second apart.
        let took = last.duration_since(first).as_millis();
        assert!(took >= 200, "all within {took} ms");
    });
}

#[test]
fn one_that_does_not_exist_is_waited_for_and_one_that_fails_is_a_fault() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        let through = |name: &str| json!({ "connectionRef": { "name": name } });
        put(&bench, &project("waits", &[("a", "a")], &through("none"))).await;
        bench.says::<ConjurSecret>("waits", "ConnectionNotFound").await;
        let wrong = json!({ "auth": { "apiKey": { "login": "host/apps/nobody", "apiKeySecretRef": { "name": "conjur-login", "key": "api-key" } } } });
        put(&bench, &connection(&bench, "wrong", &wrong)).await;
        bench.says::<ConjurConnection>("wrong", "AuthenticationFailed").await;
        put(&bench, &project("fails", &[("a", "a")], &through("wrong"))).await;
        bench.says::<ConjurSecret>("fails", "ConnectionNotReady").await;
        for (name, observed) in [("waits", Some(1)), ("fails", Some(-1))] {
            let object: ConjurSecret = kube::Api::get(&bench.api(), name).await.unwrap();
            assert_eq!(states(&object), "Ready=False Reconciling=True", "{name}");
            assert_eq!(object.status.unwrap().observed_generation, observed, "{name}");
        }
    });
}

#[test]
fn on_change_means_a_change_of_what_it_refers_to_as_well() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        let map = |text: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "texts" }, "data": { "t": text } });
        bench.apply(&map("1 {{ a }}").to_string()).await;
        let from = json!([{ "kind": "ConfigMap", "name": "texts", "key": "t" }]);
        let more = json!({ "refreshPolicy": "OnChange", "refreshInterval": "10s", "target": { "template": { "dataFrom": from } } });
        put(&bench, &project("db", &[("a", "a")], &more)).await;
        put(&bench, &project("plain", &[("a", "a")], &json!({ "refreshPolicy": "OnChange" }))).await;
        for name in ["db", "plain"] {
            bench.ready::<ConjurSecret>(name).await;
        }
        let value = bench.set("apps/a");
        bench.apply(&map("2 {{ a }}").to_string()).await;
        bench.holds("db", &[("t", &format!("2 {value}"))]).await;
        let value = bench.set("apps/a");
        put(&bench, &connection(&bench, "conjur", &json!({ "tokenRefreshInterval": "4m" }))).await;
        bench.holds("db", &[("t", &format!("2 {value}"))]).await;
        bench.holds("plain", &[("a", &value)]).await;
        for name in ["db", "plain"] {
            bench.ready::<ConjurSecret>(name).await;
        }
    });
}

#[test]
fn what_many_refer_to_is_watched_once() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        let map = |text: &str| -> ConfigMap {
            serde_json::from_value(json!({ "metadata": { "name": "watched-texts" }, "data": { "t": text } }))
                .unwrap()
        };
        bench.api().create(&kube::api::PostParams::default(), &map("1 {{ a }}")).await.unwrap();
        let from = json!([{ "kind": "ConfigMap", "name": "watched-texts", "key": "t" }]);
        let target = json!({ "target": { "template": { "dataFrom": from } } });
        for at in 0..5 {
            put(&bench, &project(&format!("db-{at}"), &[("a", "a")], &target)).await;
            bench.holds(&format!("db-{at}"), &[("t", &format!("1 {value}"))]).await;
        }
        let all = bench.world.plane.api_requests_by(&bench.world.release.user()).unwrap();
        // One for the kind, of the whole cluster; it may be opened again where it ended.
        let watches: std::collections::BTreeSet<_> = all
            .into_iter()
            .filter(|r| r.resource == "configmaps" && r.verb == "watch" && r.stage == "ResponseStarted")
            .map(|r| r.uri.split('?').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(watches.len(), 1, "{watches:?}");
        assert!(watches.contains("/api/v1/configmaps"), "{watches:?}");
    });
}

#[test]
fn while_a_connection_fails_it_alone_is_tried() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        let fast = json!({ "refreshInterval": "10s" });
        for at in 0..20 {
            put(&bench, &project(&format!("db-{at}"), &[("a", "a")], &fast)).await;
        }
        for at in 0..20 {
            bench.ready::<ConjurSecret>(&format!("db-{at}")).await;
        }
        let effect = Effect::Status { status: 503, retry_after: None };
        bench.conjur.fault(Fault { method: None, path: "/".into(), count: None, when: When::Before, effect });
        bench.says::<ConjurConnection>("conjur", "ConjurUnavailable").await;
        bench.conjur.clear_requests();
        // A slot of each object has come.
        wait_for("all are due", SOON, || async {
            (count(&bench, "Ready=True Reconciling=True").await == 20).then_some(())
        })
        .await
        .unwrap();
        assert_eq!(fetches(&bench), 0, "{:?}", bench.conjur.counts());
        assert!(bench.conjur.requests().len() <= 10, "{:?}", bench.conjur.counts());
        bench.conjur.clear_faults();
        for at in 0..20 {
            bench.ready::<ConjurSecret>(&format!("db-{at}")).await;
        }
    });
}

#[test]
fn ids_that_are_missing_are_looked_for_together() {
    test(|bench| async move {
        const MISSING: usize = 50;
        connected(&bench, &["a"]).await;
        let names: Vec<_> = (0..MISSING).map(|at| format!("late/v{at}")).collect();
        for (at, name) in names.iter().enumerate() {
            put(&bench, &project(&format!("db-{at}"), &[("a", name)], &json!({}))).await;
        }
        for at in 0..MISSING {
            bench.says::<ConjurSecret>(&format!("db-{at}"), "VariableNotFound").await;
        }
        let policy: String = names.iter().map(|name| permitted(name)).collect();
        change_policy(&bench, &policy).await;
        let values: Vec<_> = names.iter().map(|name| bench.set(&format!("apps/{name}"))).collect();
        bench.conjur.clear_requests();
        for (at, value) in values.iter().enumerate() {
            bench.holds(&format!("db-{at}"), &[("a", value)]).await;
            bench.ready::<ConjurSecret>(&format!("db-{at}")).await;
        }
        let singles = bench.conjur.count(Kind::Single);
        assert!(
            singles <= 3,
            "{singles} of {MISSING} were looked for one by one: {:?}",
            bench.conjur.counts()
        );
    });
}

//! Many objects at once, and restarts of the operator: what they cost.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use conjur_dev::Kind;
use conjur_operator::api::{ConjurConnection, ConjurSecret};
use futures::StreamExt;
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use testbed::wait_for;

use super::{
    Bench, SOON, alone,
    setup::{LOGIN, api_requests, connection, eventually, project, put, variables},
    test, version,
};

const OBJECTS: usize = 200;
const EACH: usize = 5;

/// Objects of five variables each, and the connection, as one manifest.
async fn manifest(bench: &Bench, objects: usize, interval: &str) -> String {
    let names: Vec<_> = (0..objects * EACH).map(|i| format!("service-{}/v{}", i / EACH, i % EACH)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    variables(bench, &names).await;
    let key = bench.conjur.api_key_of(LOGIN).unwrap();
    bench.put_secret("conjur-login", &[("api-key", &key)]).await;
    let mut yaml = format!("{}\n", connection(bench, "conjur", &json!({})));
    for (at, variables) in names.chunks(EACH).enumerate() {
        let keys: Vec<_> = variables.iter().map(|v| (&v[v.len() - 2..], *v)).collect();
        let object = project(&format!("service-{at}"), &keys, &json!({ "refreshInterval": interval }));
        writeln!(yaml, "---\n{object}").unwrap();
    }
    yaml
}

/// Waits until all are Ready; name and resource version of each.
async fn all_ready(bench: &Bench, objects: usize) -> BTreeMap<String, String> {
    wait_for("all are Ready", 2 * SOON, || async {
        let all = bench.api::<ConjurSecret>().list(&ListParams::default()).await.unwrap().items;
        let ready: BTreeMap<_, _> = all
            .iter()
            .filter(|o| super::setup::states(*o) == "Ready=True")
            .map(|o| (o.name_any(), version(o)))
            .collect();
        (ready.len() == objects).then_some(ready)
    })
    .await
    .unwrap()
}

/// How often each object's first variable was asked for.
fn asked(bench: &Bench, objects: usize) -> usize {
    let requests = bench.conjur.requests();
    let batches: Vec<_> = requests.iter().filter(|r| r.kind == Kind::Batch).collect();
    (0..objects)
        .map(|at| {
            let (id, next) = (format!("apps/service-{at}/v0,"), format!("apps/service-{at}/v0"));
            batches.iter().filter(|r| r.path.contains(&id) || r.path.ends_with(&next)).count()
        })
        .min()
        .unwrap_or_default()
}

#[test]
fn two_hundred_objects_cost_few_requests_and_an_unchanged_refresh_none_to_the_api_server() {
    test(|bench| async move {
        let yaml = manifest(&bench, OBJECTS, "1000h").await;
        bench.conjur.clear_requests();
        bench.apply(&yaml).await;
        all_ready(&bench, OBJECTS).await;
        let requests = bench.conjur.requests().len();
        assert!(requests <= 15, "{requests} requests: {:?}", bench.conjur.counts());
        assert_eq!(bench.conjur.count(Kind::Authenticate), 1);
        for at in [0, OBJECTS - 1] {
            let data = bench.data(&format!("service-{at}")).await.unwrap();
            let value = bench.conjur.variable(&format!("apps/service-{at}/v3")).unwrap();
            assert_eq!(data["v3"].as_bytes(), value);
        }

        bench.apply(&yaml.replace("1000h", "10s")).await;
        all_ready(&bench, OBJECTS).await;
        bench.conjur.clear_requests();
        eventually("all were refreshed", || asked(&bench, OBJECTS) >= 1).await;
        let (before, quiet) = (all_ready(&bench, OBJECTS).await, api_requests(&bench).len());
        bench.conjur.clear_requests();
        eventually("all were refreshed again", || asked(&bench, OBJECTS) >= 1).await;
        assert_eq!(api_requests(&bench)[quiet..], []);
        assert_eq!(all_ready(&bench, OBJECTS).await, before);
        assert_eq!(bench.conjur.count(Kind::Authenticate), 0);
    });
}

#[test]
fn a_restart_costs_one_authenticate_and_one_whoami_and_leaves_everything_ready() {
    alone(|bench, mut operator| async move {
        const FEW: usize = 30;
        // So long that no slot comes while the test runs.
        let yaml = manifest(&bench, FEW, "1000h").await;
        bench.apply(&yaml).await;
        let before = all_ready(&bench, FEW).await;
        let connection: ConjurConnection = bench.ready("conjur").await;
        for kill in [false, true] {
            bench.conjur.clear_requests();
            let asked = api_requests(&bench).len();
            if kill {
                operator.kill9().await.unwrap();
            }
            operator.restart().await.unwrap();
            eventually("the connection is tried", || bench.conjur.count(Kind::Whoami) == 1).await;
            // A new object is done last: everything that was there had its turn.
            let name = format!("later-{kill}");
            put(&bench, &project(&name, &[("a", "service-0/v0")], &json!({ "refreshInterval": "1000h" })))
                .await;
            bench.ready::<ConjurSecret>(&name).await;
            let counts = bench.conjur.counts();
            assert_eq!(
                counts,
                BTreeMap::from([(Kind::Authenticate, 1), (Kind::Whoami, 1), (Kind::Batch, 1)]),
                "kill {kill}"
            );
            let mut now = all_ready(&bench, FEW + 1 + usize::from(kill)).await;
            now.retain(|name, _| before.contains_key(name));
            assert_eq!(now, before);
            assert_eq!(version(&bench.ready::<ConjurConnection>("conjur").await), version(&connection));
            let writes: Vec<_> = api_requests(&bench)
                .into_iter()
                .skip(asked)
                .filter(|r| r.verb != "get" && r.verb != "list" && r.name != name)
                .collect();
            assert_eq!(writes, [], "kill {kill}");
        }
    });
}

#[test]
fn what_happened_while_the_operator_was_away_is_made_up_for() {
    alone(|bench, mut operator| async move {
        let yaml = manifest(&bench, 4, "1000h").await;
        bench.apply(&yaml).await;
        all_ready(&bench, 4).await;
        let value = bench.data("service-0").await.unwrap();
        operator.terminate().await.unwrap();
        super::setup::edit(&bench, "service-0", json!({ "stringData": { "v0": "by hand" } })).await;
        bench.kubectl(&["delete", "secret", "service-1"]).await;
        let object =
            project("service-2", &[("only", "service-2/v0")], &json!({ "refreshInterval": "1000h" }));
        put(&bench, &object).await;
        operator.restart().await.unwrap();
        let text: Vec<_> = value.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        bench.holds("service-0", &text).await;
        let gone = bench.conjur.variable("apps/service-2/v0").unwrap();
        bench.holds("service-2", &[("only", std::str::from_utf8(&gone).unwrap())]).await;
        let back = || async { bench.data("service-1").await.filter(|d| d.len() == EACH) };
        wait_for("the deleted Secret is back", SOON, back).await.unwrap();
        all_ready(&bench, 4).await;
    });
}

#[test]
fn the_operator_may_start_while_conjur_is_down() {
    alone(|bench, mut operator| async move {
        let yaml = manifest(&bench, 4, "1000h").await;
        bench.apply(&yaml).await;
        let before = all_ready(&bench, 4).await;
        operator.terminate().await.unwrap();
        bench.conjur.stop().await;
        operator.restart().await.unwrap();
        bench.says::<ConjurConnection>("conjur", "ConjurUnavailable").await;
        bench.conjur.resume().await.unwrap();
        let started = Instant::now();
        bench.ready::<ConjurConnection>("conjur").await;
        assert!(started.elapsed() < Duration::from_secs(45));
        assert_eq!(all_ready(&bench, 4).await, before);
    });
}

#[test]
fn more_objects_than_are_worked_on_at_once_are_fetched_once_each() {
    alone(|bench, mut operator| async move {
        const MANY: usize = 1300;
        let names: Vec<_> = (0..MANY).map(|at| format!("value-{at}")).collect();
        variables(&bench, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        operator.terminate().await.unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        let never = json!({ "refreshInterval": "1000h" });
        futures::stream::iter(&names)
            .for_each_concurrent(16, |name| {
                let object = project(name, &[("a", name)], &never);
                let bench = &bench;
                async move { drop(put(bench, &object).await) }
            })
            .await;
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        all_ready(&bench, MANY).await;
        // What waits for its turn once more has had it when a new object has.
        put(&bench, &project("later", &[("a", "value-0")], &never)).await;
        bench.ready::<ConjurSecret>("later").await;
        let batches = bench.conjur.requests().into_iter().filter(|r| r.kind == Kind::Batch);
        let asked: usize = batches.map(|r| r.path.matches("apps/value-").count()).sum();
        assert_eq!(asked, MANY + 1);
    });
}

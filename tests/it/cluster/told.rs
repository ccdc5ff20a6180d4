//! How much is said of what fails: in Events and in the log.

use conjur_dev::Effect;
use conjur_operator::api::{ConjurConnection, ConjurSecret};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;
use testbed::wait_for;

use super::{
    Bench, SOON, setup,
    setup::{change, connected, project, put, sync_now},
    test,
};

async fn events(bench: &Bench, kind: &str, reason: &str) -> Vec<Event> {
    let all = bench.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let about = |event: &Event| event.regarding.as_ref().and_then(|about| about.kind.clone());
    all.into_iter()
        .filter(|event| about(event).as_deref() == Some(kind) && event.reason.as_deref() == Some(reason))
        .collect()
}

#[test]
fn a_connection_that_fails_is_one_event_and_no_line_for_each_object_that_waits_for_it() {
    test(|bench| async move {
        const OBJECTS: usize = 20;
        connected(&bench, &["a"]).await;
        let name = |n: usize| format!("db-{n}");
        for n in 0..OBJECTS {
            put(&bench, &project(&name(n), &[("a", "a")], &json!({}))).await;
        }
        for n in 0..OBJECTS {
            bench.ready::<ConjurSecret>(&name(n)).await;
        }
        let down = Effect::Status { status: 503, retry_after: None };
        bench.conjur.fault(conjur_dev::Fault {
            method: None,
            path: "/".into(),
            count: None,
            when: conjur_dev::When::Before,
            effect: down,
        });
        for n in 0..OBJECTS {
            sync_now(&bench, &name(n), "down").await;
        }
        let of_connection = ["ConjurUnavailable", "ConnectionNotReady"];
        for n in 0..OBJECTS {
            let waits = |s: &ConjurSecret| {
                let ready = setup::condition(s, "Ready").unwrap();
                ready.0 == "False" && of_connection.contains(&ready.1.as_str())
            };
            bench.until("it says why it waits", &name(n), waits).await;
        }
        bench.says::<ConjurConnection>("conjur", "ConjurUnavailable").await;
        bench.events("ConjurUnavailable", "answered 503").await;
        bench.conjur.clear_faults();
        bench.ready::<ConjurConnection>("conjur").await;
        for n in 0..OBJECTS {
            bench.ready::<ConjurSecret>(&name(n)).await;
        }
        bench.events("Connected", "connected to").await;
        assert_eq!(events(&bench, "ConjurConnection", "ConjurUnavailable").await.len(), 1);
        for reason in ["ConjurUnavailable", "ConnectionNotReady", "Synced"] {
            assert_eq!(events(&bench, "ConjurSecret", reason).await, [], "{reason}");
        }
        let log = std::fs::read_to_string(&bench.world.log).unwrap();
        let here =
            |line: &&str| line.contains(&format!("\"{}\"", bench.namespace)) && line.contains(" WARN ");
        let lines: Vec<_> = log.lines().filter(here).filter(|line| line.contains("ConjurSecret")).collect();
        assert!(lines.is_empty(), "{lines:?}");
    });
}

#[test]
fn what_fails_again_and_again_is_one_event_with_a_count() {
    test(|bench| async move {
        const TIMES: usize = 10;
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        for _ in 0..TIMES {
            let missing = json!([{ "key": "a", "variable": "apps/none" }]);
            change(&bench, "db", json!({ "spec": { "data": missing } })).await;
            bench.says::<ConjurSecret>("db", "VariableNotFound").await;
            change(&bench, "db", json!({ "spec": { "data": [{ "key": "a", "variable": "apps/a" }] } })).await;
            bench.ready::<ConjurSecret>("db").await;
        }
        let counted = async |reason: &str| {
            let told = events(&bench, "ConjurSecret", reason).await;
            assert!(told.len() <= 1, "{reason}: {}", told.len());
            let count = told.first()?.series.as_ref()?.count;
            usize::try_from(count).is_ok_and(|count| count == TIMES).then_some(())
        };
        for reason in ["VariableNotFound", "Synced"] {
            wait_for(&format!("{reason} is counted"), SOON * 2, || counted(reason)).await.unwrap();
        }
    });
}

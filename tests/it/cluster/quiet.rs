//! `changeDetection: Version`: refreshes that move no value while nothing changed.

use std::time::Instant;

use conjur_dev::{Effect, Fault, Kind, When};
use conjur_operator::api::ConjurSecret;
use serde_json::{Value, json};

use super::{
    Bench, alone,
    setup::{
        api_requests, change_policy, connected, eventually, fetches, permitted, project, put, secret, synced,
    },
    test, version,
};

/// The spec's fields for quiet refreshes, with `more` over them.
fn quiet(more: &Value) -> Value {
    let mut spec = json!({ "refreshInterval": "10s", "changeDetection": "Version" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// A ConjurSecret `db` that is done, with the keys `a` and `b`; their values.
async fn done(bench: &Bench) -> Vec<String> {
    let values = connected(bench, &["a", "b"]).await;
    put(bench, &project("db", &[("a", "a"), ("b", "b")], &quiet(&json!({})))).await;
    bench.ready::<ConjurSecret>("db").await;
    values
}

fn lists(bench: &Bench) -> usize {
    bench.conjur.count(Kind::List)
}

/// Waits until the list was walked `more` times; the last but one of them was made use of by then.
async fn looks(bench: &Bench, more: usize) {
    let before = lists(bench);
    eventually("looks at the versions", || lists(bench) >= before + more).await;
}

#[test]
fn an_unchanged_refresh_fetches_nothing_and_costs_no_request_to_the_api_server() {
    test(|bench| async move {
        let values = done(&bench).await;
        bench.holds("db", &[("a", &values[0]), ("b", &values[1])]).await;
        let versions = || async {
            let object: ConjurSecret = bench.api().get("db").await.unwrap();
            (version(&object), version(&secret(&bench, "db").await))
        };
        let (before, asked) = (versions().await, api_requests(&bench).len());
        bench.conjur.clear_requests();
        // The very first refresh is one of them.
        looks(&bench, 3).await;
        assert_eq!(fetches(&bench), 0, "{:?}", bench.conjur.counts());
        assert_eq!(api_requests(&bench)[asked..], []);
        assert_eq!(versions().await, before);
    });
}

#[test]
fn a_new_value_is_fetched_once_and_one_that_came_back_writes_nothing() {
    test(|bench| async move {
        let values = done(&bench).await;
        bench.conjur.clear_requests();
        let new = bench.set("apps/a");
        bench.holds("db", &[("a", &new), ("b", &values[1])]).await;
        looks(&bench, 2).await;
        assert_eq!(fetches(&bench), 1, "{:?}", bench.conjur.counts());

        let (before, asked) = (secret(&bench, "db").await, api_requests(&bench).len());
        bench.conjur.clear_requests();
        bench.set("apps/b");
        assert!(bench.conjur.set_variable("apps/b", values[1].as_bytes()));
        eventually("it is fetched", || fetches(&bench) == 1).await;
        looks(&bench, 2).await;
        assert_eq!(fetches(&bench), 1, "{:?}", bench.conjur.counts());
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
        assert_eq!(api_requests(&bench)[asked..], []);
    });
}

#[test]
fn many_objects_share_a_walk() {
    test(|bench| async move {
        const OBJECTS: usize = 60;
        let names: Vec<_> = (0..OBJECTS).map(|i| format!("v{i}")).collect();
        connected(&bench, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        for name in &names {
            put(&bench, &project(name, &[("a", name)], &quiet(&json!({})))).await;
        }
        for name in &names {
            bench.ready::<ConjurSecret>(name).await;
        }
        bench.conjur.clear_requests();
        let started = Instant::now();
        looks(&bench, 5).await;
        assert_eq!(fetches(&bench), 0, "{:?}", bench.conjur.counts());
        let values: Vec<_> = names.iter().map(|name| bench.set(&format!("apps/{name}"))).collect();
        for (name, value) in names.iter().zip(&values) {
            bench.holds(name, &[("a", value)]).await;
        }
        // Four slots an interval; a slow machine may walk twice for one.
        let most = 2 * 4 * (usize::try_from(started.elapsed().as_secs()).unwrap() / 10 + 2);
        assert!(lists(&bench) <= most, "{} walks, {most} at most", lists(&bench));
        assert!(fetches(&bench) <= 12, "{:?}", bench.conjur.counts());
    });
}

#[test]
fn a_variable_that_was_removed_and_made_again_is_noticed() {
    test(|bench| async move {
        let values = done(&bench).await;
        assert_eq!(bench.conjur.variable_versions("apps/a"), Some(1));
        change_policy(&bench, "- !delete { record: !variable apps/a }\n").await;
        change_policy(&bench, &permitted("a")).await;
        let new = bench.set("apps/a");
        assert_eq!(bench.conjur.variable_versions("apps/a"), Some(1));
        bench.holds("db", &[("a", &new), ("b", &values[1])]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn a_removed_variable_is_told_and_the_last_good_secret_stays() {
    test(|bench| async move {
        let values = done(&bench).await;
        let before = secret(&bench, "db").await;
        change_policy(&bench, "- !delete { record: !variable apps/a }\n").await;
        let message = bench.says::<ConjurSecret>("db", "VariableNotFound").await;
        assert!(message.contains("apps/a"), "{message}");
        bench.conjur.clear_requests();
        eventually("it is looked for", || fetches(&bench) > 0).await;
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
        change_policy(&bench, &permitted("a")).await;
        let new = bench.set("apps/a");
        bench.holds("db", &[("a", &new), ("b", &values[1])]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn pinned_versions_need_no_look_and_a_missing_optional_variable_is_looked_for() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        let pinned = json!([
            { "key": "a", "variable": "apps/a", "version": 1 },
            { "key": "b", "variable": "apps/b", "version": 1 },
        ]);
        put(&bench, &project("pinned", &[], &quiet(&json!({ "data": pinned })))).await;
        bench.ready::<ConjurSecret>("pinned").await;
        assert_eq!(lists(&bench), 0);
        let some = json!([
            { "key": "a", "variable": "apps/a" },
            { "key": "b", "variable": "apps/b", "version": 1 },
            { "key": "later", "variable": "apps/later", "optional": true },
        ]);
        put(&bench, &project("some", &[], &quiet(&json!({ "data": some })))).await;
        bench.ready::<ConjurSecret>("some").await;
        bench.holds("some", &[("a", &values[0]), ("b", &values[1])]).await;
        // That the missing one is looked for is the client's own doing.
        bench.conjur.clear_requests();
        looks(&bench, 4).await;
        let seen = bench.conjur.requests();
        let moved: Vec<_> = seen
            .iter()
            .filter(|r| r.path.starts_with("/secrets") && !r.path.ends_with("apps%2Flater"))
            .collect();
        assert!(moved.is_empty(), "{moved:?}");

        bench.set("apps/b");
        change_policy(&bench, &permitted("later")).await;
        let later = bench.set("apps/later");
        bench.holds("some", &[("a", &values[0]), ("b", &values[1]), ("later", &later)]).await;
        bench.holds("pinned", &[("a", &values[0]), ("b", &values[1])]).await;
    });
}

#[test]
fn what_a_find_brings_is_quiet_until_it_finds_another() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        let find = json!([{ "find": { "prefix": "apps/" } }]);
        put(&bench, &project("db", &[], &quiet(&json!({ "data": null, "dataFrom": find })))).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("db", &[("a", &values[0]), ("b", &values[1])]).await;
        bench.conjur.clear_requests();
        looks(&bench, 3).await;
        assert_eq!(fetches(&bench), 0, "{:?}", bench.conjur.counts());
        change_policy(&bench, &permitted("c")).await;
        let new = bench.set("apps/c");
        bench.holds("db", &[("a", &values[0]), ("b", &values[1]), ("c", &new)]).await;
    });
}

#[test]
fn a_refresh_that_is_asked_for_fetches_and_a_list_that_fails_costs_no_refresh() {
    test(|bench| async move {
        let values = done(&bench).await;
        bench.conjur.clear_requests();
        synced(&bench, "db", "now").await;
        assert_eq!(fetches(&bench), 1);

        bench.conjur.fault(Fault {
            method: Some("GET".into()),
            path: "/resources".into(),
            count: None,
            when: When::Before,
            effect: Effect::Status { status: 403, retry_after: None },
        });
        let new = bench.set("apps/b");
        bench.holds("db", &[("a", &values[0]), ("b", &new)]).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.conjur.clear_faults();
        looks(&bench, 2).await;
        bench.conjur.clear_requests();
        looks(&bench, 2).await;
        assert_eq!(fetches(&bench), 0, "quiet again: {:?}", bench.conjur.counts());
    });
}

#[test]
fn after_an_outage_only_the_versions_are_asked_for() {
    test(|bench| async move {
        done(&bench).await;
        let before = secret(&bench, "db").await;
        bench.conjur.stop().await;
        bench.says::<ConjurSecret>("db", "ConnectionNotReady").await;
        bench.conjur.clear_requests();
        bench.conjur.resume().await.unwrap();
        bench.ready::<ConjurSecret>("db").await;
        looks(&bench, 2).await;
        assert_eq!(fetches(&bench), 0, "{:?}", bench.conjur.counts());
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
    });
}

#[test]
fn a_restart_costs_one_fetch_and_then_it_is_quiet() {
    alone(|bench, mut operator| async move {
        done(&bench).await;
        let before = secret(&bench, "db").await;
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        eventually("the first refresh", || fetches(&bench) == 1).await;
        looks(&bench, 3).await;
        assert_eq!(fetches(&bench), 1, "{:?}", bench.conjur.counts());
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
    });
}

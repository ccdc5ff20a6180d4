//! Ids with letters that mean something in an address, many keys, and lists that objects share.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use conjur_dev::Kind;
use conjur_operator::api::ConjurSecret;
use serde_json::{Value, json};

use super::{
    setup::{LOGIN, change_policy, connected, permitted, project, put, secret},
    test,
};

const ODD: [&str; 7] =
    ["comma,id", "space id", "per%cent", "plus+id", "é", "co:lon", "all of, them+%é: together"];

#[test]
fn ids_of_any_letters_are_fetched() {
    test(|bench| async move {
        let mut body = String::from("- !policy\n  id: apps\n  body:\n  - !host app\n");
        for id in ODD {
            writeln!(
                body,
                "  - !variable 'odd/{id}'\n  - !permit {{role: !host app, privileges: [read, execute], resource: !variable 'odd/{id}'}}"
            )
            .unwrap();
        }
        bench.root(&body).await;
        let values = ODD.map(|id| bench.set(&format!("apps/odd/{id}")));
        bench.connect(LOGIN).await;
        let keys: Vec<_> = (0..ODD.len()).map(|at| format!("k{at}")).collect();
        let expected: Vec<_> =
            keys.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
        let entries = |version: Option<u32>| -> Value {
            let entry = |(key, id): (&String, &str)| json!({ "key": key, "variable": format!("apps/odd/{id}"), "version": version });
            let mut entries: Vec<_> = keys.iter().zip(ODD).map(entry).collect();
            for entry in entries.iter_mut().filter(|_| version.is_none()) {
                entry.as_object_mut().unwrap().remove("version");
            }
            json!({ "data": entries })
        };
        put(&bench, &project("named", &[], &entries(None))).await;
        put(&bench, &project("pinned", &[], &entries(Some(1)))).await;
        for name in ["named", "pinned"] {
            bench.holds(name, &expected).await;
            bench.ready::<ConjurSecret>(name).await;
        }
        let rewrite = json!([{ "pattern": "[^-._a-zA-Z0-9]+", "replacement": "-" }]);
        let find = json!([{ "find": { "prefix": "apps/odd/" }, "rewrite": rewrite }]);
        put(&bench, &project("found", &[], &json!({ "data": null, "dataFrom": find }))).await;
        let renamed = ["comma-id", "space-id", "per-cent", "plus-id", "-", "co-lon", "all-of-them-together"];
        let expected: Vec<_> = renamed.into_iter().zip(values.iter().map(String::as_str)).collect();
        bench.holds("found", &expected).await;
        bench.ready::<ConjurSecret>("found").await;
        // A comma parts the ids of a batch.
        bench.conjur.clear_requests();
        put(&bench, &project("comma", &[("a", "odd/comma,id")], &json!({}))).await;
        bench.holds("comma", &[("a", &values[0])]).await;
        assert_eq!(bench.conjur.counts(), BTreeMap::from([(Kind::Single, 1)]));
    });
}

#[test]
fn three_hundred_keys_have_each_its_own_value() {
    test(|bench| async move {
        const NAMED: usize = 256;
        const FOUND: usize = 50;
        let names: Vec<_> = (0..NAMED)
            .map(|at| format!("named/v{at}"))
            .chain((0..FOUND).map(|at| format!("found/w{at}")))
            .collect();
        connected(&bench, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let entries: Vec<_> = (0..NAMED)
            .map(|at| json!({ "key": format!("v{at}"), "variable": format!("apps/named/v{at}") }))
            .collect();
        let find = json!([{ "find": { "prefix": "apps/found/" } }]);
        put(&bench, &project("db", &[], &json!({ "data": entries, "dataFrom": find }))).await;
        let object: ConjurSecret = bench.ready("db").await;
        assert_eq!(object.status.unwrap().keys, Some(306));
        let data = secret(&bench, "db").await.data.unwrap();
        assert_eq!(data.len(), NAMED + FOUND);
        for name in &names {
            let key = name.rsplit('/').next().unwrap();
            assert_eq!(bench.conjur.variable(&format!("apps/{name}")), Some(data[key].0.clone()), "{name}");
        }
    });
}

fn finding(name: &str, prefix: &str) -> Value {
    project(name, &[], &json!({ "data": null, "dataFrom": [{ "find": { "prefix": prefix } }] }))
}

#[test]
fn objects_that_come_one_after_the_other_share_a_list_and_miss_nothing() {
    test(|bench| async move {
        const OBJECTS: usize = 8;
        let first = connected(&bench, &["db/a"]).await.remove(0);
        let started = Instant::now();
        bench.conjur.clear_requests();
        for at in 0..OBJECTS {
            put(&bench, &finding(&format!("db-{at}"), "apps/db/")).await;
            bench.ready::<ConjurSecret>(&format!("db-{at}")).await;
        }
        let (lists, seconds) = (bench.conjur.count(Kind::List), started.elapsed().as_secs());
        // One for all that come within five seconds, and one to look once more.
        let most = 1 + 2 * usize::try_from(seconds / 5).unwrap();
        assert!(lists <= most, "{lists} walks for {OBJECTS} objects in {seconds} seconds");

        // What was made after the list was begun is found at once where it is all that there is, and else soon.
        change_policy(&bench, &(permitted("db/b") + &permitted("new/a"))).await;
        let (second, new) = (bench.set("apps/db/b"), bench.set("apps/new/a"));
        put(&bench, &finding("new", "apps/new/")).await;
        put(&bench, &finding("both", "apps/db/")).await;
        bench.holds("new", &[("a", &new)]).await;
        bench.holds("both", &[("a", &first), ("b", &second)]).await;
        for name in ["new", "both"] {
            bench.ready::<ConjurSecret>(name).await;
        }
    });
}

//! ConjurSecret: where its keys and values come from, `data` and `dataFrom`.

use std::fmt::Write as _;

use conjur_dev::Kind;
use conjur_operator::api::{ConjurConnection, ConjurSecret};
use serde_json::{Value, json};

use super::{
    Bench,
    access::{end, shared},
    setup::{
        LOGIN, change, change_policy, condition, connected, connection, permitted, project, put, secret,
        sync_now, synced,
    },
    test,
};

/// A ConjurSecret `name` of these sources alone.
fn from(name: &str, sources: &Value) -> Value {
    project(name, &[], &json!({ "data": null, "dataFrom": sources }))
}

/// Waits until a Secret holds exactly this.
async fn holds(bench: &Bench, name: &str, expected: &[(&str, &String)]) {
    let expected: Vec<_> = expected.iter().map(|(key, value)| (*key, value.as_str())).collect();
    bench.holds(name, &expected).await;
}

fn set(bench: &Bench, variable: &str, value: &[u8]) {
    assert!(bench.conjur.set_variable(variable, value), "no variable {variable}");
}

/// Variables below `apps` with annotations as YAML, which the usual host may read; each gets a value.
async fn annotated(bench: &Bench, variables: &[(&str, &str)]) -> Vec<String> {
    let mut body = String::from("- !policy\n  id: apps\n  body:\n  - !host app\n");
    for (name, annotations) in variables {
        writeln!(
            body,
            "  - !variable\n    id: {name}\n    annotations:\n      made-by: test\n{annotations}  - !permit {{role: !host app, privileges: \
             [read, execute], resource: !variable {name}}}"
        )
        .unwrap();
    }
    bench.root(&body).await;
    let values = variables.iter().map(|(name, _)| bench.set(&format!("apps/{name}"))).collect();
    bench.connect(LOGIN).await;
    values
}

/// The reason of each variable that the status says is missing.
fn missing(object: &ConjurSecret) -> Vec<(String, String)> {
    let missing = object.status.as_ref().and_then(|status| status.missing.clone()).unwrap_or_default();
    missing.into_iter().map(|m| (m.variable, m.reason)).collect()
}

#[test]
fn values_are_taken_apart_and_decoded_as_the_entries_say() {
    test(|bench| async move {
        connected(&bench, &["json", "base64", "binary"]).await;
        let password = bench.secret_value("password");
        let json = json!({ "user": "app", "db": { "password": password, "port": 5432, "tls": true, "hosts": ["a", "b"] } });
        set(&bench, "apps/json", serde_json::to_string_pretty(&json).unwrap().as_bytes());
        // URL-safe, without padding, on two lines.
        set(&bench, "apps/base64", b"-_8A\nZm9v");
        let binary = [0, 0xff, b'\n', 0xfe, 0];
        set(&bench, "apps/binary", &binary);
        let data = json!([
            { "key": "user", "variable": "apps/json", "property": "user" },
            { "key": "password", "variable": "apps/json", "property": "/db/password" },
            { "key": "port", "variable": "apps/json", "property": "/db/port" },
            { "key": "tls", "variable": "apps/json", "property": "/db/tls" },
            { "key": "hosts", "variable": "apps/json", "property": "/db/hosts" },
            { "key": "binary", "variable": "apps/binary" },
            { "key": "decoded", "variable": "apps/base64", "decode": "Base64" },
            { "key": "never", "variable": "apps/never", "property": "x", "optional": true },
        ]);
        put(&bench, &project("db", &[], &json!({ "data": data }))).await;
        bench.ready::<ConjurSecret>("db").await;
        let made = secret(&bench, "db").await.data.unwrap();
        let value = |key: &str| made[key].0.clone();
        assert_eq!(made.len(), 7, "{:?}", made.keys());
        for (key, text) in [
            ("user", "app"),
            ("password", password.as_str()),
            ("port", "5432"),
            ("tls", "true"),
            ("hosts", "[\"a\",\"b\"]"),
        ] {
            assert_eq!(value(key), text.as_bytes(), "{key}");
        }
        assert_eq!(value("binary"), binary);
        assert_eq!(value("decoded"), [0xfb, 0xff, 0, b'f', b'o', b'o']);
    });
}

#[test]
fn a_value_that_does_not_fit_is_told_without_it_and_leaves_the_secret() {
    test(|bench| async move {
        // A random value alone may be base64.
        let value = format!("{}%", connected(&bench, &["a"]).await.remove(0));
        set(&bench, "apps/a", value.as_bytes());
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.holds("db", &[("a", &value)]).await;
        for (entry, said) in
            [(json!({ "property": "x" }), "is not JSON"), (json!({ "decode": "Base64" }), "is not base64")]
        {
            let mut data = json!({ "key": "a", "variable": "apps/a" });
            data.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
            put(&bench, &project("db", &[], &json!({ "data": [data] }))).await;
            let what = format!("InvalidValue: {said}");
            let told = |s: &ConjurSecret| {
                condition(s, "Ready").is_some_and(|(_, reason, message)| {
                    reason == "InvalidValue" && message.contains(said) && message.contains("apps/a")
                })
            };
            bench.until(&what, "db", told).await;
            bench.holds("db", &[("a", &value)]).await;
        }
        // Corrected in Conjur, and asked for.
        set(&bench, "apps/a", b"Zml0cw==");
        synced(&bench, "db", "corrected").await;
        bench.holds("db", &[("a", "fits")]).await;
    });
}

#[test]
fn the_fields_of_a_json_object_and_public_keys_become_keys() {
    test(|bench| async move {
        let values = connected(&bench, &["config.json", "a"]).await;
        let password = bench.secret_value("password");
        let json = json!({ "app": { "password": password, "retries": 3, "list": [1, { "a": null }] } });
        set(&bench, "apps/config.json", json.to_string().as_bytes());
        let user = "- !user\n  id: alice\n  public_keys:\n  - ssh-ed25519 AAAAC3 alice@desk\n  - ssh-rsa AAAAB3 alice@laptop\n- !user bob\n";
        change_policy(&bench, user).await;
        let prefix = |with: &str| json!([{ "pattern": "^", "replacement": with }]);
        let sources = json!([
            { "extract": { "variable": "apps/config.json", "property": "app" }, "rewrite": prefix("app.") },
            { "extract": { "variable": "apps/config.json", "version": 2 } },
            { "publicKeys": { "kind": "user", "id": "alice", "key": "keys" }, "rewrite": prefix("authorized_") },
        ]);
        let object = project("all", &[("a", "a")], &json!({ "dataFrom": sources }));
        put(&bench, &object).await;
        let whole = json["app"].to_string();
        let list = "[1,{\"a\":null}]".to_owned();
        let keys = "ssh-ed25519 AAAAC3 alice@desk\nssh-rsa AAAAB3 alice@laptop\n".to_owned();
        let expected = [
            ("a", &values[1]),
            ("app.password", &password),
            ("app.retries", &"3".to_owned()),
            ("app.list", &list),
            ("app", &whole),
            ("authorized_keys", &keys),
        ];
        holds(&bench, "all", &expected).await;

        // Conjur does not tell a user without keys from one that is not there.
        put(&bench, &from("bob", &json!([{ "publicKeys": { "kind": "user", "id": "bob", "key": "k" } }])))
            .await;
        let message = bench.says::<ConjurSecret>("bob", "VariableNotFound").await;
        assert!(message.contains("user bob has no public keys"), "{message}");
        put(
            &bench,
            &from("host", &json!([{ "publicKeys": { "kind": "host", "id": "apps/app", "key": "k" } }])),
        )
        .await;
        let message = bench.says::<ConjurSecret>("host", "InvalidSpec").await;
        assert!(message.contains("spec.dataFrom[0].publicKeys"), "{message}");
    });
}

#[test]
fn public_keys_of_a_server_that_has_none_stall_their_object_alone() {
    test(|bench| async move {
        let values = connected(&bench, &["a"]).await;
        change_policy(&bench, "- !user\n  id: alice\n  public_keys: [ ssh-ed25519 AAAAC3 alice@desk ]\n")
            .await;
        let keys = json!([{ "publicKeys": { "kind": "user", "id": "alice", "key": "keys" } }]);
        put(&bench, &from("keys", &keys)).await;
        let held = "ssh-ed25519 AAAAC3 alice@desk\n".to_owned();
        holds(&bench, "keys", &[("keys", &held)]).await;
        // In this order: a version that lacks them is believed for ten minutes, and then the server is not asked.
        for (version, named) in
            [(None, "(which doesn't say its version)"), (Some("1.27.0"), "(version 1.27.0)")]
        {
            bench.conjur.set_version(version);
            let name = format!("keys-{}", version.map_or("hosted", |_| "new"));
            put(&bench, &from(&name, &keys)).await;
            let message = bench.says::<ConjurSecret>(&name, "Unsupported").await;
            assert!(message.starts_with("spec.dataFrom[0].publicKeys: the server at "), "{message}");
            assert!(message.contains(named) && message.contains("removed in 1.27"), "{message}");
            let object = bench.api::<ConjurSecret>().get(&name).await.unwrap();
            assert_eq!(condition(&object, "Stalled").unwrap().0, "True");
        }
        // Nothing else minds, and what was read before stays.
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        holds(&bench, "db", &[("a", &values[0])]).await;
        sync_now(&bench, "keys", "again").await;
        bench.says::<ConjurSecret>("keys", "Unsupported").await;
        holds(&bench, "keys", &[("keys", &held)]).await;
        bench.ready::<ConjurConnection>("conjur").await;
    });
}

#[test]
fn variables_are_found_by_each_criterion_and_by_all_together() {
    test(|bench| async move {
        let v = annotated(
            &bench,
            &[
                ("db/user", "      env: prod\n"),
                ("db/password", "      env: prod\n      tier: gold\n"),
                ("web/password", "      env: dev\n"),
                ("web/token", "      env: prod\n      note: the gold standard\n"),
            ],
        )
        .await;
        // One that was never set, one that the host may not see.
        let more = "- !variable apps/db/unset\n- !permit {role: !host apps/app, privileges: [read, execute], resource: !variable apps/db/unset}\n- !variable apps/db/hidden\n";
        change_policy(&bench, more).await;
        bench.set("apps/db/hidden");
        let env = json!({ "env": "prod" });
        let all = json!({ "prefix": "apps/", "search": "gold", "annotations": env, "pattern": "password$" });
        for (name, source, expected) in [
            (
                "prefix",
                json!({ "find": { "prefix": "apps/db/" } }),
                vec![("user", &v[0]), ("password", &v[1])],
            ),
            (
                "search",
                json!({ "find": { "search": "gold" } }),
                vec![("apps_db_password", &v[1]), ("apps_web_token", &v[3])],
            ),
            (
                "annotations",
                json!({ "find": { "annotations": env, "prefix": "apps/" } }),
                vec![("db_user", &v[0]), ("db_password", &v[1]), ("web_token", &v[3])],
            ),
            (
                "pattern",
                json!({ "find": { "pattern": "^apps/(db|web)/password$" } }),
                vec![("apps_db_password", &v[1]), ("apps_web_password", &v[2])],
            ),
            ("all", json!({ "find": all }), vec![("db_password", &v[1])]),
            (
                "last",
                json!({ "find": { "prefix": "apps/db/" }, "keyFrom": "LastSegment", "rewrite": [
                    { "pattern": "^(.*)$", "replacement": "DB_${1}" },
                    { "pattern": "word", "replacement": "" },
                ] }),
                vec![("DB_user", &v[0]), ("DB_pass", &v[1])],
            ),
        ] {
            put(&bench, &from(name, &json!([source]))).await;
            holds(&bench, name, &expected).await;
            let status = bench.ready::<ConjurSecret>(name).await.status.unwrap();
            assert_eq!(status.keys, i32::try_from(expected.len()).ok(), "{name}");
        }

        // What is new is found at the next refresh, what is gone is left out.
        change_policy(&bench, &permitted("db/later")).await;
        let later = bench.set("apps/db/later");
        change_policy(&bench, "- !delete\n  record: !variable apps/db/user\n").await;
        synced(&bench, "prefix", "again").await;
        holds(&bench, "prefix", &[("password", &v[1]), ("later", &later)]).await;
    });
}

#[test]
fn one_walk_through_the_pages_serves_all_objects_of_the_connection() {
    test(|bench| async move {
        const MANY: usize = 1_050;
        const OBJECTS: usize = 8;
        let names: Vec<_> = (0..MANY).map(|at| format!("many/v{at:04}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        super::setup::variables(&bench, &names).await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        put(&bench, &from("all", &json!([{ "find": { "prefix": "apps/many/" } }]))).await;
        for at in 1..OBJECTS {
            // The last ones of the list, beyond the first page.
            let find = json!([{ "find": { "prefix": "apps/many/", "pattern": format!("v104{at}$") } }]);
            put(&bench, &from(&format!("one-{at}"), &find)).await;
        }
        for at in 1..OBJECTS {
            bench.says::<ConjurSecret>(&format!("one-{at}"), "ConnectionNotFound").await;
        }
        bench.says::<ConjurSecret>("all", "ConnectionNotFound").await;
        bench.conjur.clear_requests();
        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        assert_eq!(bench.ready::<ConjurSecret>("all").await.status.unwrap().keys, Some(1_050));
        for at in 1..OBJECTS {
            let value = bench.conjur.variable(&format!("apps/many/v104{at}")).unwrap();
            let key = format!("v104{at}");
            bench.holds(&format!("one-{at}"), &[(&key, std::str::from_utf8(&value).unwrap())]).await;
        }
        // Two pages a walk; a second one where somebody came late.
        let lists = bench.conjur.count(Kind::List);
        assert!((2..=4).contains(&lists), "{lists} requests for pages");
    });
}

#[test]
fn what_a_find_brings_is_filtered_by_the_access_rules() {
    test(|bench| async move {
        let namespace = bench.namespace.clone();
        let policy = format!(
            "- !policy\n  id: apps\n  body:\n  - !policy\n    id: {namespace}\n    body:\n    - !variable own\n    - !variable deep/own\n  \
             - !policy\n    id: other\n    body:\n    - !variable theirs\n"
        );
        bench.root(&policy).await;
        let own = bench.set(&format!("apps/{namespace}/own"));
        let deep = bench.set(&format!("apps/{namespace}/deep/own"));
        bench.set("apps/other/theirs");
        let key = bench.conjur.admin_key();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        let reference = json!({ "namespace": namespace, "name": "conjur-login", "key": "api-key" });
        let auth = json!({ "apiKey": { "login": "admin", "apiKeySecretRef": reference } });
        let access = json!([{ "namespaces": { "names": [namespace] }, "read": ["apps/{namespace}/**"] }]);
        let name = shared(&bench, &auth, &access).await;
        let connection = json!({ "name": name, "kind": "ClusterConjurConnection" });
        let through = |object: &str, sources: Value| {
            let more = json!({ "connectionRef": connection, "data": null, "dataFrom": sources });
            project(object, &[], &more)
        };
        put(&bench, &through("find", json!([{ "find": { "prefix": "apps/" } }]))).await;
        let expected = [(format!("{namespace}_own"), &own), (format!("{namespace}_deep_own"), &deep)];
        let expected: Vec<_> = expected.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        holds(&bench, "find", &expected).await;
        put(&bench, &through("theirs", json!([{ "find": { "prefix": "apps/other/" } }]))).await;
        bench.says::<ConjurSecret>("theirs", "NoKeys").await;
        // What is named is refused, not dropped.
        put(&bench, &through("named", json!([{ "extract": { "variable": "apps/other/theirs" } }]))).await;
        bench.says::<ConjurSecret>("named", "AccessDenied").await;

        let none =
            json!({ "spec": { "access": [{ "namespaces": { "names": ["nobody"] }, "read": ["**"] }] } });
        let connections =
            kube::Api::<conjur_operator::api::ClusterConjurConnection>::all(bench.client.clone());
        let patch = kube::api::Patch::Merge(none);
        connections.patch(&name, &kube::api::PatchParams::default(), &patch).await.unwrap();
        // Nobody without a rule, not even for what is no variable.
        let keys = json!([{ "publicKeys": { "kind": "user", "id": "admin", "key": "k" } }]);
        put(&bench, &through("keys", keys)).await;
        bench.says::<ConjurSecret>("keys", "AccessDenied").await;
        bench.says::<ConjurSecret>("find", "AccessDenied").await;
        holds(&bench, "find", &expected).await;
        end(&bench, &name).await;
    });
}

#[test]
fn keys_that_clash_or_cannot_be_are_left_out_until_they_are_rewritten() {
    test(|bench| async move {
        let v = connected(&bench, &["db/user", "db_user", "odd/a@b", "odd/fine"]).await;
        let find = json!({ "find": { "prefix": "apps/", "pattern": "user$" } });
        put(&bench, &from("clash", &json!([find]))).await;
        // Of the two the first in the order of the ids.
        holds(&bench, "clash", &[("db_user", &v[0])]).await;
        bench.ready::<ConjurSecret>("clash").await;
        bench.events("VariablesLeftOut", "\"apps/db_user\"").await;
        // What is named comes before what is found.
        let entry = json!([{ "key": "user", "variable": "apps/db_user" }]);
        let last = json!([{ "find": { "prefix": "apps/db/" }, "keyFrom": "LastSegment" }]);
        put(&bench, &project("both", &[], &json!({ "data": entry, "dataFrom": last }))).await;
        holds(&bench, "both", &[("user", &v[1])]).await;

        let mut odd = json!({ "find": { "prefix": "apps/odd/" } });
        put(&bench, &from("odd", &json!([odd]))).await;
        holds(&bench, "odd", &[("fine", &v[3])]).await;
        let object = bench.ready::<ConjurSecret>("odd").await;
        let (_, _, message) = condition(&object, "Ready").unwrap();
        assert!(message.contains("1 variable") && message.contains("\"apps/odd/a@b\""), "{message}");
        let none = json!([{ "find": { "prefix": "apps/odd/", "pattern": "@" } }]);
        put(&bench, &from("none", &none)).await;
        let message = bench.says::<ConjurSecret>("none", "NoKeys").await;
        assert!(message.contains("\"apps/odd/a@b\""), "{message}");
        odd["rewrite"] = json!([{ "pattern": "[^-._a-zA-Z0-9]", "replacement": "-at-" }]);
        put(&bench, &from("odd", &json!([odd]))).await;
        holds(&bench, "odd", &[("a-at-b", &v[2]), ("fine", &v[3])]).await;

        let bad = json!([{ "find": { "pattern": "(" } }]);
        put(&bench, &from("bad", &bad)).await;
        let message = bench.says::<ConjurSecret>("bad", "InvalidSpec").await;
        assert!(
            message.contains("spec.dataFrom[0].find.pattern") && message.contains("unclosed group"),
            "{message}"
        );
    });
}

#[test]
fn what_is_missing_or_forbidden_is_named_in_the_status_and_waited_for() {
    test(|bench| async move {
        let values = connected(&bench, &["db/a", "db/b"]).await;
        change_policy(
            &bench,
            "- !variable apps/db/locked\n- !permit {role: !host apps/app, privileges: [read], resource: !variable apps/db/locked}\n",
        )
        .await;
        let locked = bench.set("apps/db/locked");
        let sources = json!([{ "find": { "prefix": "apps/db/" } }]);
        put(&bench, &from("find", &sources)).await;
        let message = bench.says::<ConjurSecret>("find", "VariableForbidden").await;
        assert!(message.contains("apps/db/locked") && message.contains("execute"), "{message}");
        let object: ConjurSecret = bench.until("missing", "find", |s| !missing(s).is_empty()).await;
        assert_eq!(missing(&object), [("apps/db/locked".into(), "Forbidden".into())]);
        assert_eq!(bench.data("find").await, None);

        let extract =
            json!([{ "extract": { "variable": "apps/never" } }, { "find": { "prefix": "apps/db/" } }]);
        put(&bench, &from("extract", &extract)).await;
        bench.says::<ConjurSecret>("extract", "VariableNotFound").await;
        let named =
            [("apps/never".to_owned(), "NotFound".to_owned()), ("apps/db/locked".into(), "Forbidden".into())];
        bench.until("both are named", "extract", |s: &ConjurSecret| missing(s) == named).await;

        // Both go on by themselves, long before they would look again.
        change_policy(
            &bench,
            "- !permit {role: !host apps/app, privileges: [execute], resource: !variable apps/db/locked}\n",
        )
        .await;
        let found = [("a", &values[0]), ("b", &values[1]), ("locked", &locked)];
        holds(&bench, "find", &found).await;
        assert_eq!(missing(&bench.ready("find").await), []);
        change_policy(&bench, &permitted("never")).await;
        set(&bench, "apps/never", b"{\"x\": 1.0}");
        let one = "1.0".to_owned();
        holds(&bench, "extract", &[found[0], found[1], found[2], ("x", &one)]).await;
    });
}

#[test]
fn a_find_that_finds_nothing_any_more_leaves_the_secret() {
    test(|bench| async move {
        let values = connected(&bench, &["db/a", "db/b"]).await;
        put(&bench, &from("db", &json!([{ "find": { "prefix": "apps/db/" } }]))).await;
        holds(&bench, "db", &[("a", &values[0]), ("b", &values[1])]).await;
        let before = secret(&bench, "db").await;
        change_policy(
            &bench,
            "- !delete\n  record: !variable apps/db/a\n- !delete\n  record: !variable apps/db/b\n",
        )
        .await;
        synced(&bench, "db", "gone").await;
        let message = bench.says::<ConjurSecret>("db", "NoKeys").await;
        assert!(message.contains("nothing that has a value was found"), "{message}");
        assert_eq!(secret(&bench, "db").await, before);

        // One that comes is found at once by a new spec, and at the next refresh without one.
        change_policy(&bench, &permitted("db/c")).await;
        let c = bench.set("apps/db/c");
        change(&bench, "db", json!({ "spec": { "refreshInterval": "10s" } })).await;
        holds(&bench, "db", &[("c", &c)]).await;
        bench.ready::<ConjurSecret>("db").await;
        change_policy(&bench, "- !delete\n  record: !variable apps/db/c\n").await;
        bench.says::<ConjurSecret>("db", "NoKeys").await;
        change_policy(&bench, &permitted("db/d")).await;
        let d = bench.set("apps/db/d");
        holds(&bench, "db", &[("d", &d)]).await;
    });
}

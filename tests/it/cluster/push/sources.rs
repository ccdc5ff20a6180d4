//! What of which Secrets is pushed, and what never is.

use conjur_operator::api::ConjurSecret;
use kube::api::PostParams;

use super::super::{
    alone,
    setup::{api_requests, eventually},
    target::merging,
    test,
};
use super::*;

fn selected(more: &Value) -> Value {
    let mut all = json!({
        "source": { "selector": { "matchLabels": { "push": "conjur" } } }, "prefix": "litellm/{secret}/",
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    push("p", "unused", &all)
}

const LABEL: [(&str, &str); 1] = [("push", "conjur")];

#[test]
fn a_secret_that_is_missing_or_empty_is_waited_for_and_removes_nothing() {
    test(|bench| async move {
        owned(&bench).await;
        put(&bench, &push("p", "keys", &json!({ "deletionPolicy": "Delete" }))).await;
        let message = told(&bench, "p", "SourceNotFound", "keys").await;
        assert!(message.contains(&bench.namespace), "{message}");
        let values = secret(&bench, "keys", &["a"]).await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/a", &values[0]).await;
        for empty in [false, true] {
            if empty {
                put_data(&bench, "keys", &[], &json!({})).await;
            } else {
                drop_secret(&bench, "keys").await;
            }
            told(&bench, "p", "SourceNotFound", "keys").await;
            synced(&bench, "p", &format!("{empty}")).await;
            assert!(bench.conjur.exists("variable", "litellm/a"));
        }
        let values = secret(&bench, "keys", &["a"]).await;
        filled(&bench, "litellm/a", &values[0]).await;
        let p = pushed(&bench, "p").await;
        assert_eq!(variables(&p), ["litellm/a true 2"]);
    });
}

#[test]
fn a_key_that_is_missing_is_told_and_the_others_are_pushed() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["a"]).await;
        let data = json!([
            { "key": "a", "variable": "one" }, { "key": "missing", "variable": "two" },
            { "template": "{{ a }}/{{ a | upper }}", "variable": "both" },
        ]);
        put(&bench, &push("p", "keys", &json!({ "data": data }))).await;
        let message = told(&bench, "p", "SourceNotFound", "'missing'").await;
        assert!(message.contains("litellm/two"), "{message}");
        filled(&bench, "litellm/one", &values[0]).await;
        let both = format!("{}/{}", values[0], values[0].to_uppercase());
        bench.keep_secret(both.clone());
        filled(&bench, "litellm/both", &both).await;
        let values = secret(&bench, "keys", &["a", "missing"]).await;
        filled(&bench, "litellm/two", &values[1]).await;
        pushed(&bench, "p").await;
    });
}

#[test]
fn every_secret_with_the_labels_is_pushed_and_the_last_one_takes_nothing_along() {
    test(|bench| async move {
        owned(&bench).await;
        let one = labelled(&bench, "one", &LABEL, &["a"]).await;
        labelled(&bench, "unlabelled", &[("push", "no")], &["a"]).await;
        put(&bench, &selected(&json!({ "deletionPolicy": "Delete" }))).await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/one/a", &one[0]).await;
        // A new Secret, a label that comes, one that goes, a Secret that is deleted.
        let two = labelled(&bench, "two", &LABEL, &["a", "b"]).await;
        filled(&bench, "litellm/two/b", &two[1]).await;
        let late = labelled(&bench, "unlabelled", &LABEL, &["a"]).await;
        filled(&bench, "litellm/unlabelled/a", &late[0]).await;
        labelled(&bench, "unlabelled", &[("push", "no")], &["a"]).await;
        eventually("it goes", || !bench.conjur.exists("variable", "litellm/unlabelled/a")).await;
        drop_secret(&bench, "one").await;
        eventually("it goes", || !bench.conjur.exists("variable", "litellm/one/a")).await;
        let p = pushed(&bench, "p").await;
        assert_eq!(variables(&p), ["litellm/two/a true 1", "litellm/two/b true 1"]);
        // A key of one that stays.
        let kept = labelled(&bench, "two", &LABEL, &["a"]).await;
        eventually("it goes", || !bench.conjur.exists("variable", "litellm/two/b")).await;
        filled(&bench, "litellm/two/a", &kept[0]).await;
        labelled(&bench, "two", &[("push", "no")], &["a"]).await;
        synced(&bench, "p", "none left").await;
        assert_eq!(bench.conjur.variable("litellm/two/a").as_deref(), Some(kept[0].as_bytes()));
        let back = labelled(&bench, "two", &LABEL, &["a"]).await;
        filled(&bench, "litellm/two/a", &back[0]).await;
        bench.until("it goes on", "p", |p: &ConjurPush| variables(p) == ["litellm/two/a true 3"]).await;
    });
}

#[test]
fn of_selected_secrets_one_that_lacks_a_key_is_skipped_with_an_event() {
    test(|bench| async move {
        owned(&bench).await;
        let whole = labelled(&bench, "whole", &LABEL, &["user", "password"]).await;
        labelled(&bench, "part", &LABEL, &["user"]).await;
        let data = json!([
            { "key": "user", "variable": "{namespace}/{secret}.user" },
            { "key": "password", "variable": "{namespace}/{secret}.password" },
        ]);
        put(&bench, &selected(&json!({ "prefix": "litellm/", "data": data }))).await;
        pushed(&bench, "p").await;
        let id = |rest: &str| format!("litellm/{}/{rest}", bench.namespace);
        filled(&bench, &id("whole.user"), &whole[0]).await;
        filled(&bench, &id("whole.password"), &whole[1]).await;
        bench.events("SourceSkipped", "'password'").await;
        assert!(!bench.conjur.exists("variable", &id("part.user")));
        let part = labelled(&bench, "part", &LABEL, &["user", "password"]).await;
        filled(&bench, &id("part.password"), &part[1]).await;
    });
}

#[test]
fn keys_are_renamed_and_two_that_become_one_are_named_and_not_pushed() {
    test(|bench| async move {
        owned(&bench).await;
        let values = secret(&bench, "keys", &["OPENAI_KEY", "x_KEY", "y_KEY"]).await;
        let rewrite = json!([
            { "pattern": "^(.*)_KEY$", "replacement": "${1}" }, { "pattern": "^[xy]$", "replacement": "z" },
        ]);
        put(&bench, &push("p", "keys", &json!({ "rewrite": rewrite }))).await;
        let message = told(&bench, "p", "InvalidSpec", "litellm/z").await;
        assert!(message.contains("'x_KEY'") && message.contains("'y_KEY'"), "{message}");
        filled(&bench, "litellm/OPENAI", &values[0]).await;
        assert!(!bench.conjur.exists("variable", "litellm/z"));
    });
}

#[test]
fn an_empty_value_is_told_and_the_others_are_pushed() {
    test(|bench| async move {
        owned(&bench).await;
        let value = bench.secret_value("good");
        put_data(&bench, "keys", &[], &json!({ "blank": " \n", "empty": "", "good": value })).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        let message = told(&bench, "p", "EmptyValue", "'blank'").await;
        assert!(message.contains("'empty'"), "{message}");
        filled(&bench, "litellm/good", &value).await;
        assert!(!bench.conjur.exists("variable", "litellm/empty"));
    });
}

#[test]
fn values_arrive_byte_by_byte() {
    test(|bench| async move {
        owned(&bench).await;
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        let data = BTreeMap::from([
            ("bytes".to_owned(), k8s_openapi::ByteString(bytes.clone())),
            ("large".to_owned(), k8s_openapi::ByteString(vec![0xA7; 900_000])),
            ("newline".to_owned(), k8s_openapi::ByteString(b"line\n".to_vec())),
        ]);
        let mut secret = Secret { data: Some(data.clone()), ..Secret::default() };
        secret.metadata.name = Some("keys".into());
        bench.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        for (key, value) in data {
            let there = bench.conjur.variable(&format!("litellm/{key}"));
            assert!(there.as_deref() == Some(&value.0[..]), "{key}: {:?} bytes", there.map(|v| v.len()));
        }
    });
}

#[test]
fn what_mints_credentials_or_belongs_to_a_tool_is_never_pushed() {
    test(|bench| async move {
        owned(&bench).await;
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "app" } });
        bench.apply(&account.to_string()).await;
        for (name, kind, annotations) in [
            (
                "token",
                "kubernetes.io/service-account-token",
                json!({ "kubernetes.io/service-account.name": "app" }),
            ),
            ("release", "helm.sh/release.v1", json!({})),
            ("host-key", "Opaque", json!({ "conjur-operator.io/owner": "ConjurPolicy/p" })),
        ] {
            let labels = json!({ "push": "conjur" });
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": kind,
                "metadata": { "name": name, "annotations": annotations, "labels": labels },
                "stringData": { "a": bench.secret_value(name) },
            });
            bench.apply(&secret.to_string()).await;
            put(&bench, &push(&format!("of-{name}"), name, &json!({}))).await;
            told(&bench, &format!("of-{name}"), "InvalidSpec", name).await;
        }
        let values = labelled(&bench, "good", &LABEL, &["a"]).await;
        put(&bench, &selected(&json!({}))).await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/good/a", &values[0]).await;
        for name in ["token", "release", "host-key"] {
            bench.events("SourceSkipped", &format!("/{name} ")).await;
        }
        assert_eq!(bench.conjur.all("variable"), ["demo:variable:litellm/good/a"]);
    });
}

#[test]
fn what_a_conjur_secret_writes_is_never_pushed_back() {
    test(|bench| async move {
        bench
            .root(
                "- !policy\n  id: apps\n  body:\n  - !host app\n  - !variable a\n  \
                 - !permit {role: !host app, privileges: [read, execute], resource: !variable a}\n\
                 - !policy {id: litellm, owner: !host apps/app}\n",
            )
            .await;
        let value = bench.set("apps/a");
        bench.connect("host/apps/app").await;
        let own = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": { "name": "written" },
            "spec": {
                "connectionRef": { "name": "conjur" }, "data": [{ "key": "a", "variable": "apps/a" }],
                "target": { "labels": { "push": "conjur" } },
            },
        });
        put(&bench, &own).await;
        bench.holds("written", &[("a", &value)]).await;
        let theirs = labelled(&bench, "merged", &LABEL, &["theirs"]).await;
        put(&bench, &merging("merge", "merged", &[("a", "a")])).await;
        bench.ready::<ConjurSecret>("merge").await;
        for name in ["written", "merged"] {
            put(&bench, &push(&format!("of-{name}"), name, &json!({}))).await;
            let message = told(&bench, &format!("of-{name}"), "InvalidSpec", name).await;
            assert!(message.contains("ConjurSecret") && message.contains("circle"), "{message}");
        }
        let good = labelled(&bench, "good", &LABEL, &["a"]).await;
        put(&bench, &selected(&json!({}))).await;
        pushed(&bench, "p").await;
        filled(&bench, "litellm/good/a", &good[0]).await;
        for name in ["written", "merged"] {
            bench.events("SourceSkipped", &format!("/{name} ")).await;
            assert!(!bench.conjur.exists("variable", &format!("litellm/{name}/a")));
        }
        // Other keys of a Secret that is merged into are its owner's own.
        let data = json!([{ "key": "theirs", "variable": "theirs" }]);
        put(&bench, &push("of-merged", "merged", &json!({ "data": data }))).await;
        pushed(&bench, "of-merged").await;
        filled(&bench, "litellm/theirs", &theirs[0]).await;
    });
}

#[test]
fn one_variable_more_than_a_thousand_is_refused_with_the_count() {
    test(|bench| async move {
        owned(&bench).await;
        let keys = |count: usize| -> Value {
            (0..count)
                .map(|n| (format!("k{n:04}"), format!("v{n}")))
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .map(|(k, v)| (k, Value::from(v)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        put_data(&bench, "keys", &[], &keys(1001)).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        told(&bench, "p", "InvalidSpec", "1001").await;
        assert_eq!((loads(&bench), sent(&bench)), (0, 0));
        put_data(&bench, "keys", &[], &keys(1000)).await;
        let p = pushed(&bench, "p").await;
        assert_eq!((status(&p).variable_count, sent(&bench), loads(&bench)), (Some(1000), 1000, 1));
    });
}

#[test]
fn more_than_a_thousand_or_too_long_values_of_all_selected_secrets_are_refused() {
    test(|bench| async move {
        owned(&bench).await;
        let keys = |prefix: &str, count: usize| -> Value {
            (0..count)
                .map(|n| (format!("{prefix}{n:04}"), Value::from(format!("v{n}"))))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        for name in ["one", "two"] {
            put_data(&bench, name, &LABEL, &keys("k", 501)).await;
        }
        put(&bench, &selected(&json!({}))).await;
        told(&bench, "p", "InvalidSpec", "1002").await;
        assert_eq!((loads(&bench), sent(&bench)), (0, 0));
        // Each of them is as long as a Secret may be.
        let long = "v".repeat(1_000_000);
        for nth in 0..9 {
            put_data(&bench, &format!("long{nth}"), &LABEL, &json!({ "k": long })).await;
        }
        told(&bench, "p", "SecretTooLarge", "8 MiB").await;
        for name in ["one", "two"] {
            drop_secret(&bench, name).await;
        }
        synced(&bench, "p", "without them").await;
        told(&bench, "p", "SecretTooLarge", "8 MiB").await;
        assert_eq!((loads(&bench), sent(&bench)), (0, 0));
        drop_secret(&bench, "long8").await;
        let p = pushed(&bench, "p").await;
        assert_eq!((status(&p).variable_count, sent(&bench)), (Some(8), 8));
        assert_eq!(bench.conjur.variable("litellm/long0/k").map(|v| v.len()), Some(long.len()));
    });
}

#[test]
fn a_changed_value_arrives_in_seconds_and_the_others_are_not_sent() {
    test(|bench| async move {
        owned(&bench).await;
        let first = secret(&bench, "keys", &["a", "b"]).await;
        put(&bench, &push("p", "keys", &json!({}))).await;
        pushed(&bench, "p").await;
        let before = sent(&bench);
        let value = bench.secret_value("new");
        put_data(&bench, "keys", &[], &json!({ "a": value, "b": first[1] })).await;
        let began = std::time::Instant::now();
        filled(&bench, "litellm/a", &value).await;
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
        let p = bench
            .until("settled", "p", |p: &ConjurPush| variables(p) == ["litellm/a true 2", "litellm/b true 1"])
            .await;
        assert_eq!((sent(&bench), loads(&bench)), (before + 1, 1));
        assert_eq!(status(&p).variable_count, Some(2));
    });
}

#[test]
fn an_unchanged_look_costs_pages_of_the_list_and_nothing_else() {
    test(|bench| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a", "b"]).await;
        labelled(&bench, "labelled", &LABEL, &["c"]).await;
        put(&bench, &push("q", "keys", &json!({ "driftCheckInterval": "10s" }))).await;
        put(&bench, &selected(&json!({ "driftCheckInterval": "10s" }))).await;
        pushed(&bench, "p").await;
        pushed(&bench, "q").await;
        let lists = || bench.conjur.count(Kind::List);
        // The first look after a push may take note of what the push left.
        eventually("a look", || lists() >= 3).await;
        let before = (api_requests(&bench).len(), lists());
        bench.conjur.clear_requests();
        eventually("looks at the versions", || lists() >= 4).await;
        assert_eq!(api_requests(&bench)[before.0..], []);
        let seen = bench.conjur.counts();
        let only =
            |kind: &Kind| matches!(kind, Kind::List | Kind::Authenticate | Kind::Whoami | Kind::Version);
        assert!(seen.keys().all(only), "{seen:?}");
    });
}

#[test]
fn a_restart_sends_nothing_and_a_change_meanwhile_is_pushed() {
    alone(|bench, mut operator| async move {
        owned(&bench).await;
        secret(&bench, "keys", &["a"]).await;
        labelled(&bench, "labelled", &LABEL, &["c"]).await;
        put(&bench, &push("q", "keys", &json!({ "driftCheckInterval": "10s" }))).await;
        put(&bench, &selected(&json!({ "driftCheckInterval": "10s" }))).await;
        let before = [pushed(&bench, "p").await, pushed(&bench, "q").await];
        let sent_before = sent(&bench);
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        eventually("looks", || bench.conjur.count(Kind::List) >= 2).await;
        assert_eq!((sent(&bench), loads(&bench)), (0, 0), "{sent_before} before");
        let after = [pushed(&bench, "p").await, pushed(&bench, "q").await];
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(
                before.resource_version(),
                after.resource_version(),
                "{:?} {:?}",
                before.status,
                after.status
            );
        }
        operator.kill9().await.unwrap();
        let values = secret(&bench, "keys", &["a"]).await;
        operator.restart().await.unwrap();
        filled(&bench, "litellm/a", &values[0]).await;
        eventually("one was sent", || sent(&bench) == 1).await;
    });
}

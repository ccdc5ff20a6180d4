//! Templates: what they make of the values, where they lie, and what is said of those that don't work.

use std::collections::BTreeMap;

use conjur_dev::Kind;
use conjur_operator::api::ConjurSecret;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::{
    Bench, alone,
    setup::{
        api_requests, change, connected, eventually, fetches, project, put, secret, states, synced, try_put,
    },
    test, version,
};

/// A spec whose target has this template.
fn template(data: &Value) -> Value {
    json!({ "target": { "template": { "data": data } } })
}

/// A spec whose target has its template in a ConfigMap or Secret, under the key `url`.
pub fn template_from(kind: &str, name: &str) -> Value {
    let from = json!({ "kind": kind, "name": name, "key": "url", "targetKey": "DATABASE_URL" });
    json!({ "target": { "template": { "dataFrom": [from] } } })
}

/// Makes a ConfigMap, or changes its data.
pub async fn put_config_map(bench: &Bench, name: &str, data: &[(&str, &str)]) {
    let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let mut map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
    let api = bench.api::<ConfigMap>();
    if let Some(old) = api.get_opt(name).await.unwrap() {
        map.metadata.resource_version = old.metadata.resource_version;
        api.replace(name, &PostParams::default(), &map).await.unwrap();
    } else {
        api.create(&PostParams::default(), &map).await.unwrap();
    }
}

const DATA: &[(&str, &str)] = &[("user", "user"), ("password", "password")];

/// A connection and the variables `user` and `password`, which has what a URL can't hold.
async fn credentials(bench: &Bench) -> (String, String) {
    let user = connected(bench, &["user", "password"]).await.remove(0);
    let password = bench.secret_value("p@ss/w:ord?");
    assert!(bench.conjur.set_variable("apps/password", password.as_bytes()));
    let encoded = password.replace('@', "%40").replace('/', "%2F").replace(':', "%3A").replace('?', "%3F");
    bench.keep_secret(encoded.clone());
    (user, encoded)
}

const URL: &str = "postgres://{{ user }}:{{ password | urlencode }}@db/billing";

#[test]
fn a_template_replaces_the_plain_keys() {
    test(|bench| async move {
        let (user, password) = credentials(&bench).await;
        put(&bench, &project("db", DATA, &template(&json!({ "DATABASE_URL": URL, "fixed": "text" })))).await;
        let url = format!("postgres://{user}:{password}@db/billing");
        bench.holds("db", &[("DATABASE_URL", &url), ("fixed", "text")]).await;
        assert_eq!(bench.ready::<ConjurSecret>("db").await.status.unwrap().keys, Some(2));
        // Another value, another rendering; another template, too; and without one, the plain keys are back.
        let password = bench.set("apps/password");
        synced(&bench, "db", "1").await;
        let url = format!("postgres://{user}:{password}@db/billing");
        bench.holds("db", &[("DATABASE_URL", &url), ("fixed", "text")]).await;
        let other = json!({ "DATABASE_URL": null, "fixed": null, "u": "{{ data['user'] | b64encode }}" });
        change(&bench, "db", json!({ "spec": { "target": { "template": { "data": other } } } })).await;
        let encoded = base64(&user);
        bench.holds("db", &[("u", &encoded)]).await;
        change(&bench, "db", json!({ "spec": { "target": null } })).await;
        bench.holds("db", &[("user", &user), ("password", &password)]).await;
    });
}

fn base64(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

#[test]
fn a_fault_tells_key_and_line_and_no_value_and_leaves_the_secret() {
    test(|bench| async move {
        let (user, password) = credentials(&bench).await;
        put(&bench, &project("db", DATA, &template(&json!({ "url": URL })))).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "db").await;
        for (text, words) in [
            ("first\n{{ pasword }}", "line 2: 'pasword' is missing; the fetched keys: 'password', 'user'"),
            ("{{ user | fromjson }}", "line 1: the value is not JSON"),
            ("{{ user | nofilter }}", "line 1: unknown filter 'nofilter'"),
            ("a\nb\n{{ password | b64decode }}", "line 3: the value is not base64"),
            ("{{ [1] | map(user) }}", "line 1: unknown filter"),
            (
                "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
                "too much work",
            ),
            ("{{ user * 100000 }}", "larger than 1048576 bytes"),
        ] {
            change(
                &bench,
                "db",
                json!({ "spec": { "target": { "template": { "data": { "url": text } } } } }),
            )
            .await;
            let is_told = |s: &ConjurSecret| {
                let told = super::setup::condition(s, "Ready");
                told.is_some_and(|(_, reason, message)| {
                    reason == "TemplateInvalid" && message.contains(words)
                })
            };
            let object = bench.until(words, "db", is_told).await;
            assert_eq!(states(&object), "Ready=False Stalled=True");
            let (_, _, message) = super::setup::condition(&object, "Ready").unwrap();
            assert!(message.contains("key 'url'"), "{message}");
            assert!(!message.contains(&user) && !message.contains(&password), "{message}");
            assert_eq!(version(&secret(&bench, "db").await), version(&before), "{text}");
        }
        change(
            &bench,
            "db",
            json!({ "spec": { "target": { "template": { "data": { "url": "{{ user }}" } } } } }),
        )
        .await;
        bench.holds("db", &[("url", &user)]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn a_template_without_a_key_is_refused_and_leaves_the_secret() {
    test(|bench| async move {
        credentials(&bench).await;
        put(&bench, &project("db", DATA, &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "db").await;
        let error = try_put(&bench, &project("db", DATA, &template(&json!({})))).await.unwrap_err();
        assert!(error.contains("should have at least 1 properties"), "{error}");
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
    });
}

#[test]
fn what_the_user_must_mend_may_lie_in_conjur_and_is_looked_at_again() {
    test(|bench| async move {
        credentials(&bench).await;
        let decoded = |interval: &str| {
            let mut spec = template(&json!({ "decoded": "{{ user | b64decode }}" }));
            spec["refreshInterval"] = interval.into();
            spec
        };
        put(&bench, &project("often", DATA, &decoded("10s"))).await;
        put(&bench, &project("asked", DATA, &decoded("1h"))).await;
        for name in ["often", "asked"] {
            bench.says::<ConjurSecret>(name, "TemplateInvalid").await;
        }
        let value = bench.secret_value("mended");
        bench.keep_secret(base64(&value));
        assert!(bench.conjur.set_variable("apps/user", base64(&value).as_bytes()));
        bench.holds("often", &[("decoded", &value)]).await;
        bench.ready::<ConjurSecret>("often").await;
        assert_eq!(bench.data("asked").await, None);
        super::setup::sync_now(&bench, "asked", "1").await;
        bench.holds("asked", &[("decoded", &value)]).await;
        bench.ready::<ConjurSecret>("asked").await;
    });
}

#[test]
fn a_template_that_does_not_parse_is_told_before_conjur_is_asked() {
    test(|bench| async move {
        credentials(&bench).await;
        let asked = bench.conjur.requests().len();
        put(&bench, &project("db", DATA, &template(&json!({ "url": "a\n{{ user" })))).await;
        let message = bench.says::<ConjurSecret>("db", "TemplateInvalid").await;
        assert!(message.contains("key 'url', line 2: syntax error"), "{message}");
        assert_eq!(bench.conjur.requests().len(), asked);
        assert_eq!(bench.data("db").await, None);
    });
}

#[test]
fn a_changed_config_map_renders_anew_at_once_for_all_that_use_it() {
    test(|bench| async move {
        let (user, password) = credentials(&bench).await;
        put_config_map(&bench, "urls", &[("url", URL), ("other", "x")]).await;
        for name in ["one", "two"] {
            put(&bench, &project(name, DATA, &template_from("ConfigMap", "urls"))).await;
            let url = format!("postgres://{user}:{password}@db/billing");
            bench.holds(name, &[("DATABASE_URL", &url)]).await;
            bench.ready::<ConjurSecret>(name).await;
        }
        put_config_map(&bench, "urls", &[("url", "mysql://{{ user }}:{{ password | urlencode }}@db")]).await;
        let url = format!("mysql://{user}:{password}@db");
        for name in ["one", "two"] {
            bench.holds(name, &[("DATABASE_URL", &url)]).await;
        }
        // One that breaks is told, and mended it goes on; the Secrets stay meanwhile.
        put_config_map(&bench, "urls", &[("url", "\n{% if %}")]).await;
        for name in ["one", "two"] {
            let message = bench.says::<ConjurSecret>(name, "TemplateInvalid").await;
            let expected =
                format!("key 'DATABASE_URL' (ConfigMap {}/urls, key 'url'), line 2", bench.namespace);
            assert!(message.contains(&expected), "{message}");
            bench.holds(name, &[("DATABASE_URL", &url)]).await;
        }
        put_config_map(&bench, "urls", &[("url", "{{ user }}")]).await;
        for name in ["one", "two"] {
            bench.holds(name, &[("DATABASE_URL", &user)]).await;
            bench.ready::<ConjurSecret>(name).await;
        }
    });
}

#[test]
fn a_template_may_lie_in_a_secret_whose_text_is_never_told() {
    test(|bench| async move {
        let (user, _) = credentials(&bench).await;
        let hidden = bench.secret_value("template");
        bench.put_secret("texts", &[("url", &format!("{hidden}:{{{{ user }}}}"))]).await;
        put(&bench, &project("db", DATA, &template_from("Secret", "texts"))).await;
        bench.holds("db", &[("DATABASE_URL", &format!("{hidden}:{user}"))]).await;
        bench.put_secret("texts", &[("url", &format!("{{{{ '{hidden}' x }}}}"))]).await;
        let message = bench.says::<ConjurSecret>("db", "TemplateInvalid").await;
        assert!(message.contains("line 1: syntax error"), "{message}");
        bench.put_secret("texts", &[("url", "{{ user }}")]).await;
        bench.holds("db", &[("DATABASE_URL", &user)]).await;
    });
}

#[test]
fn a_template_that_is_missing_is_waited_for() {
    test(|bench| async move {
        let (user, _) = credentials(&bench).await;
        let asked = bench.conjur.requests().len();
        put(&bench, &project("db", DATA, &template_from("ConfigMap", "urls"))).await;
        let message = bench.says::<ConjurSecret>("db", "TemplateNotFound").await;
        let map = format!("ConfigMap {}/urls", bench.namespace);
        assert!(message.contains(&format!("{map}, where a template is to be, does not exist")), "{message}");
        let object: ConjurSecret = kube::Api::get(&bench.api(), "db").await.unwrap();
        assert_eq!(states(&object), "Ready=False Reconciling=True");
        put_config_map(&bench, "urls", &[("wrong", "x")]).await;
        let no_key = format!("{map} has no key 'url'");
        let told = |s: &ConjurSecret| {
            super::setup::condition(s, "Ready").is_some_and(|(_, _, message)| message.contains(&no_key))
        };
        bench.until("the missing key is told", "db", told).await;
        assert_eq!(bench.conjur.requests().len(), asked);
        put_config_map(&bench, "urls", &[("url", "{{ user }}")]).await;
        bench.holds("db", &[("DATABASE_URL", &user)]).await;
        bench.ready::<ConjurSecret>("db").await;
        // Gone again, the Secret stays.
        let before = secret(&bench, "db").await;
        bench.api::<ConfigMap>().delete("urls", &DeleteParams::default()).await.unwrap();
        bench.says::<ConjurSecret>("db", "TemplateNotFound").await;
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
        put_config_map(&bench, "urls", &[("url", "{{ user }}")]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn two_templates_for_one_key_and_the_target_as_a_source_are_refused() {
    test(|bench| async move {
        credentials(&bench).await;
        put_config_map(&bench, "urls", &[("url", "{{ user }}")]).await;
        let mut both = template_from("ConfigMap", "urls");
        both["target"]["template"]["data"] = json!({ "DATABASE_URL": "x" });
        put(&bench, &project("two", DATA, &both)).await;
        let message = bench.says::<ConjurSecret>("two", "InvalidSpec").await;
        assert!(message.contains("data['DATABASE_URL'] and dataFrom[0] both make the key"), "{message}");
        put(&bench, &project("self", DATA, &template_from("Secret", "self"))).await;
        let message = bench.says::<ConjurSecret>("self", "InvalidSpec").await;
        assert!(message.contains("which is the target"), "{message}");
    });
}

#[test]
fn binary_values_pass_whole_and_encoded_and_not_in_a_text() {
    test(|bench| async move {
        connected(&bench, &["store"]).await;
        let bytes = [0xfe, 0xed, 0xfe, 0xed, 0, 0xff];
        assert!(bench.conjur.set_variable("apps/store", &bytes));
        let texts = json!({ "store.jks": "{{ store }}", "again": "{{ store | b64encode | b64decode }}\n", "store.b64": "{{ store | b64encode }}" });
        put(&bench, &project("keys", &[("store", "store")], &template(&texts))).await;
        bench.ready::<ConjurSecret>("keys").await;
        let expected =
            [("again", bytes.to_vec()), ("store.b64", b"/u3+7QD/".to_vec()), ("store.jks", bytes.to_vec())];
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v))).collect();
        assert_eq!(secret(&bench, "keys").await.data.unwrap(), expected);
        put(&bench, &project("text", &[("store", "store")], &template(&json!({ "x": "a {{ store }}" }))))
            .await;
        let message = bench.says::<ConjurSecret>("text", "TemplateInvalid").await;
        assert!(message.contains("key 'x', line 1") && message.contains("b64encode"), "{message}");
    });
}

#[test]
fn filters_quote_what_is_nasty() {
    test(|bench| async move {
        connected(&bench, &["nasty"]).await;
        let mark = bench.secret_value("nasty");
        let nasty = format!("{mark} it's \"$HOME\" `id` \\ é\n; rm");
        assert!(bench.conjur.set_variable("apps/nasty", nasty.as_bytes()));
        let texts = json!({
            "shell": "{{ nasty | quote_shell }}",
            "dotenv": "{{ nasty | quote_dotenv }}",
            "json": "{{ nasty | tojson }}",
            "plain": "{{ nasty }}",
        });
        put(&bench, &project("db", &[("nasty", "nasty")], &template(&texts))).await;
        let shell = format!(r#"'{mark} it'\''s "$HOME" `id` \ é{}; rm'"#, '\n');
        let dotenv = format!(r#""{mark} it's \"\$HOME\" \`id\` \\ é\n; rm""#);
        let text = format!(r#""{mark} it's \"$HOME\" `id` \\ é\n; rm""#);
        let expected = [("shell", &shell), ("dotenv", &dotenv), ("json", &text), ("plain", &nasty)];
        bench.holds("db", &expected.map(|(key, value)| (key, value.as_str()))).await;
    });
}

#[test]
fn a_text_goes_under_its_own_key_and_must_be_text() {
    test(|bench| async move {
        let (user, _) = credentials(&bench).await;
        put_config_map(&bench, "urls", &[("url", "{{ user }}")]).await;
        let from = |key: &str| {
            let from = json!({ "kind": "ConfigMap", "name": "urls", "key": key });
            project("db", DATA, &json!({ "target": { "template": { "dataFrom": [from] } } }))
        };
        put(&bench, &from("url")).await;
        bench.holds("db", &[("url", &user)]).await;
        let binary = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "urls" }, "binaryData": { "b": "//79" } });
        bench.apply(&binary.to_string()).await;
        put(&bench, &from("b")).await;
        let message = bench.says::<ConjurSecret>("db", "TemplateInvalid").await;
        assert!(message.contains("under the key 'b' is not text"), "{message}");
        bench.holds("db", &[("url", &user)]).await;
    });
}

#[test]
fn an_unchanged_refresh_of_a_template_reads_nothing_from_the_api_server() {
    test(|bench| async move {
        credentials(&bench).await;
        put_config_map(&bench, "urls", &[("url", URL)]).await;
        let mut spec = template_from("ConfigMap", "urls");
        spec["refreshInterval"] = "10s".into();
        put(&bench, &project("db", DATA, &spec)).await;
        bench.ready::<ConjurSecret>("db").await;
        let fetched = fetches(&bench);
        eventually("the first refresh", || fetches(&bench) > fetched).await;
        let (asked, fetched) = (api_requests(&bench).len(), fetches(&bench));
        eventually("two more", || fetches(&bench) > fetched + 1).await;
        assert_eq!(api_requests(&bench)[asked..], []);
    });
}

#[test]
fn a_restart_asks_conjur_nothing_unless_a_template_changed_meanwhile() {
    alone(|bench, mut operator| async move {
        let (user, _) = credentials(&bench).await;
        put_config_map(&bench, "urls", &[("url", URL)]).await;
        bench.put_secret("texts", &[("url", URL)]).await;
        let long = |mut spec: Value| {
            spec["refreshInterval"] = "1000h".into();
            spec
        };
        put(&bench, &project("map", DATA, &long(template_from("ConfigMap", "urls")))).await;
        put(&bench, &project("secret", DATA, &long(template_from("Secret", "texts")))).await;
        let mut before = Vec::new();
        for name in ["map", "secret"] {
            before.push(version(&bench.ready::<ConjurSecret>(name).await));
        }
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        eventually("the connection is tried", || bench.conjur.count(Kind::Whoami) == 1).await;
        put(&bench, &project("later", DATA, &long(json!({})))).await;
        bench.ready::<ConjurSecret>("later").await;
        let expected = BTreeMap::from([(Kind::Authenticate, 1), (Kind::Whoami, 1), (Kind::Batch, 1)]);
        assert_eq!(bench.conjur.counts(), expected);
        for (name, before) in ["map", "secret"].into_iter().zip(&before) {
            assert_eq!(&version(&bench.ready::<ConjurSecret>(name).await), before, "{name}");
        }
        // The watch is there again, and what changes while nobody looks is seen at the next start.
        put_config_map(&bench, "urls", &[("url", "a {{ user }}")]).await;
        bench.holds("map", &[("DATABASE_URL", &format!("a {user}"))]).await;
        operator.kill9().await.unwrap();
        put_config_map(&bench, "urls", &[("url", "b {{ user }}")]).await;
        bench.put_secret("texts", &[("url", "c {{ user }}")]).await;
        operator.restart().await.unwrap();
        bench.holds("map", &[("DATABASE_URL", &format!("b {user}"))]).await;
        bench.holds("secret", &[("DATABASE_URL", &format!("c {user}"))]).await;
        let all: Vec<Secret> =
            kube::Api::list(&bench.api(), &kube::api::ListParams::default()).await.unwrap().items;
        assert_eq!(all.len(), 5);
    });
}

//! ConjurConnection: how it comes to be Ready, what it says where it does not, and that it mends itself.

use conjur_dev::{Kind, Options, Server, TlsPem};
use conjur_operator::api::{ConjurConnection, ConjurSecret};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use testbed::pki::Authority;

use super::{
    Bench,
    setup::{
        LOGIN, connected, connection, eventually, project, put, secret, states, sync_now, untyped, variables,
    },
    test, version,
};

/// Puts the host's present key where the connection looks for it.
async fn right_key(bench: &Bench) {
    let key = bench.conjur.api_key_of(LOGIN).unwrap();
    bench.put_secret("conjur-login", &[("api-key", &key)]).await;
}

/// The same test, with a Conjur that speaks TLS under a certificate of `authority`.
async fn with_tls(bench: &Bench, authority: &Authority) -> Bench {
    let identity = authority.issue(&["127.0.0.1"]).unwrap();
    let tls = TlsPem { certificate: identity.certificate, key: identity.key };
    let conjur = Server::start(Options { tls: Some(tls), ..Options::default() }).await.unwrap();
    let bench = Bench { conjur, ..bench.clone() };
    bench.keep_secret(bench.conjur.admin_key());
    bench
}

#[test]
fn a_connection_tells_who_it_is_and_what_the_server_is() {
    test(|bench| async move {
        variables(&bench, &["a"]).await;
        right_key(&bench).await;
        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        let ready: ConjurConnection = bench.ready("conjur").await;
        let status = ready.status.unwrap();
        assert_eq!(status.identity.as_deref(), Some(LOGIN));
        assert!(status.server_version.is_some_and(|v| v.starts_with("1.")), "no server version");
        assert!(status.conditions.unwrap()[0].message.contains(LOGIN));
        bench.events("InsecureConnection", "plain http").await;
        let counted = (bench.conjur.count(Kind::Authenticate), bench.conjur.count(Kind::Whoami));
        assert_eq!(counted, (1, 1));
        // A server that is upgraded while the connection works.
        bench.conjur.set_version(Some("1.27.3"));
        let ask = json!({ "metadata": { "annotations": { "conjur-operator.io/sync-now": "upgraded" } } });
        let api = bench.api::<ConjurConnection>();
        api.patch("conjur", &PatchParams::default(), &Patch::Merge(ask)).await.unwrap();
        let tells = |c: &ConjurConnection| {
            c.status.as_ref().is_some_and(|s| s.server_version.as_deref() == Some("1.27.3"))
        };
        bench.until("the new version", "conjur", tells).await;
    });
}

#[test]
fn login_and_key_come_from_secrets_with_or_without_a_newline_at_their_end() {
    test(|bench| async move {
        variables(&bench, &["a"]).await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        for (name, end) in [("unix", "\n"), ("dos", "\r\n"), ("bare", "")] {
            let (login, key) = (format!("{LOGIN}{end}"), format!("{key}{end}"));
            bench.put_secret(name, &[("login", &login), ("api-key", &key)]).await;
            let refer = |key: &str| json!({ "name": name, "key": key });
            let auth = json!({ "apiKey": { "loginSecretRef": refer("login"), "apiKeySecretRef": refer("api-key") } });
            put(&bench, &connection(&bench, name, &json!({ "auth": auth }))).await;
            let ready: ConjurConnection = bench.ready(name).await;
            assert_eq!(ready.status.unwrap().identity.as_deref(), Some(LOGIN), "{name}");
        }
    });
}

#[test]
fn https_works_with_the_right_authority_and_says_what_to_do_with_another() {
    test(|bench| async move {
        let (right, wrong) = (Authority::new("right").unwrap(), Authority::new("wrong").unwrap());
        let bench = with_tls(&bench, &right).await;
        variables(&bench, &["a"]).await;
        right_key(&bench).await;
        bench.put_secret("ca", &[("ca.crt", &right.certificate())]).await;
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "ca" }, "data": { "ca.crt": wrong.certificate() },
        });
        bench.apply(&map.to_string()).await;
        let from = |kind: &str| json!({ "tls": { "caBundleFrom": { "kind": kind, "name": "ca", "key": "ca.crt" } } });
        put(&bench, &connection(&bench, "given", &json!({ "tls": { "caBundle": right.certificate() } })))
            .await;
        put(&bench, &connection(&bench, "secret", &from("Secret"))).await;
        put(&bench, &connection(&bench, "map", &from("ConfigMap"))).await;
        put(&bench, &connection(&bench, "system", &json!({}))).await;
        bench.ready::<ConjurConnection>("given").await;
        bench.ready::<ConjurConnection>("secret").await;
        for name in ["map", "system"] {
            let message = bench.says::<ConjurConnection>(name, "TlsFailed").await;
            assert!(message.contains("caBundle"), "{message}");
            let object: ConjurConnection = bench.api().get(name).await.unwrap();
            assert_eq!(states(&object), "Ready=False Stalled=True");
        }
        // Corrected, it is picked up by itself.
        let map = map.to_string().replace(
            serde_json::to_string(&wrong.certificate()).unwrap().as_str(),
            serde_json::to_string(&right.certificate()).unwrap().as_str(),
        );
        bench.apply(&map).await;
        bench.ready::<ConjurConnection>("map").await;
        bench.conjur.stop().await;
    });
}

#[test]
fn a_wrong_key_is_tried_rarely_however_many_wait_and_works_when_it_is_corrected() {
    test(|bench| async move {
        let value = variables(&bench, &["a"]).await.remove(0);
        bench.put_secret("conjur-login", &[("api-key", "wrong")]).await;
        for i in 0..20 {
            put(&bench, &project(&format!("db-{i}"), &[("a", "a")], &json!({}))).await;
        }
        bench.says::<ConjurSecret>("db-0", "ConnectionNotFound").await;
        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        let message = bench.says::<ConjurConnection>("conjur", "AuthenticationFailed").await;
        assert!(message.contains(LOGIN) && message.contains("check login, API key"), "{message}");
        let object: ConjurConnection = bench.api().get("conjur").await.unwrap();
        assert_eq!(states(&object), "Ready=False Stalled=True");
        for i in 0..20 {
            let message = bench.says::<ConjurSecret>(&format!("db-{i}"), "ConnectionNotReady").await;
            assert!(message.contains("AuthenticationFailed"), "{message}");
            sync_now(&bench, &format!("db-{i}"), "1").await;
        }
        put(&bench, &project("later", &[("a", "a")], &json!({}))).await;
        bench.says::<ConjurSecret>("later", "ConnectionNotReady").await;
        let tries = bench.conjur.count(Kind::Authenticate);
        assert!(tries <= 4, "{tries} tries with a wrong key");

        right_key(&bench).await;
        bench.ready::<ConjurConnection>("conjur").await;
        for i in 0..20 {
            bench.ready::<ConjurSecret>(&format!("db-{i}")).await;
        }
        bench.holds("db-0", &[("a", &value)]).await;
    });
}

#[test]
fn a_key_that_is_rotated_in_conjur_leaves_secrets_and_is_picked_up() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "db").await;
        let key = bench.secret_value("rotated");
        assert!(bench.conjur.set_api_key(LOGIN, &key));
        bench.conjur.expire_tokens();
        sync_now(&bench, "db", "1").await;
        bench.says::<ConjurConnection>("conjur", "AuthenticationFailed").await;
        let failing = |s: &ConjurSecret| states(s) == "Ready=False Reconciling=True";
        bench.until("it says that what was asked is not done", "db", failing).await;
        assert_eq!(version(&secret(&bench, "db").await), version(&before));

        right_key(&bench).await;
        bench.ready::<ConjurConnection>("conjur").await;
        let again: ConjurSecret = bench.ready("db").await;
        assert_eq!(again.status.unwrap().last_handled_sync_now.as_deref(), Some("1"));
        bench.holds("db", &[("a", &value)]).await;
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
    });
}

#[test]
fn an_expired_token_is_renewed_unseen() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.conjur.expire_tokens();
        let value = bench.set("apps/a");
        sync_now(&bench, "db", "1").await;
        bench.holds("db", &[("a", &value)]).await;
        assert_eq!(bench.conjur.count(Kind::Authenticate), 2);
    });
}

#[test]
fn what_a_connection_needs_may_come_later() {
    test(|bench| async move {
        let value = variables(&bench, &["a"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        let message = bench.says::<ConjurSecret>("db", "ConnectionNotFound").await;
        assert!(
            message.contains("/conjur does not exist: create it, or correct spec.connectionRef.name"),
            "{message}"
        );
        let object: ConjurSecret = bench.api().get("db").await.unwrap();
        assert_eq!(states(&object), "Ready=False Reconciling=True");

        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        let message = bench.says::<ConjurConnection>("conjur", "CredentialsNotFound").await;
        assert!(message.contains("/conjur-login does not exist; create it"), "{message}");
        let message = bench.says::<ConjurSecret>("db", "ConnectionNotReady").await;
        assert!(message.contains("/conjur-login does not exist"), "{message}");
        bench.put_secret("conjur-login", &[("other", "x")]).await;
        let no_key = |c: &ConjurConnection| {
            super::setup::condition(c, "Ready").is_some_and(|c| c.2.contains("has no key 'api-key'; add it"))
        };
        bench.until("the key is missing", "conjur", no_key).await;
        right_key(&bench).await;
        bench.ready::<ConjurConnection>("conjur").await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("db", &[("a", &value)]).await;
    });
}

#[test]
fn a_connection_that_is_deleted_leaves_secrets_and_may_come_back() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.api::<ConjurConnection>().delete("conjur", &DeleteParams::default()).await.unwrap();
        bench.says::<ConjurSecret>("db", "ConnectionNotFound").await;
        bench.holds("db", &[("a", &value)]).await;
        let value = bench.set("apps/a");
        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        bench.holds("db", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn a_changed_connection_is_used_at_once() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        // Another server, with other values and keys.
        let other = Server::start(Options::default()).await.unwrap();
        let other = Bench { conjur: other, ..bench.clone() };
        other.keep_secret(other.conjur.admin_key());
        let value = variables(&other, &["a"]).await.remove(0);
        right_key(&other).await;
        put(&other, &connection(&other, "conjur", &json!({}))).await;
        other.holds("db", &[("a", &value)]).await;
        other.ready::<ConjurConnection>("conjur").await;
        other.conjur.stop().await;
    });
}

#[test]
fn a_server_that_wants_another_version_of_the_api_is_named_and_tried_until_it_does_not() {
    test(|bench| async move {
        let values = variables(&bench, &["a"]).await;
        right_key(&bench).await;
        bench.conjur.set_contract(Some("2.1"));
        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        let message = bench.says::<ConjurConnection>("conjur", "Unsupported").await;
        assert!(
            message.contains(&bench.conjur.url()) && message.contains("wants version 2.1 of the API"),
            "{message}"
        );
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.says::<ConjurSecret>("db", "ConnectionNotReady").await;
        bench.conjur.set_contract(None);
        bench.ready::<ConjurConnection>("conjur").await;
        bench.holds("db", &[("a", &values[0])]).await;
    });
}

#[test]
fn a_server_that_is_not_there_is_tried_until_it_is() {
    test(|bench| async move {
        variables(&bench, &["a"]).await;
        right_key(&bench).await;
        bench.conjur.stop().await;
        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        let message = bench.says::<ConjurConnection>("conjur", "ConjurUnavailable").await;
        assert!(message.contains(&bench.conjur.url()), "{message}");
        let object = untyped(&bench, "ConjurConnection").get("conjur").await.unwrap();
        assert_eq!(
            object.data["status"]["observedGeneration"],
            json!(-1),
            "a fault does not count as observed"
        );
        bench.conjur.resume().await.unwrap();
        let ready: ConjurConnection = bench.ready("conjur").await;
        assert_eq!(ready.status.unwrap().observed_generation, ready.metadata.generation);
        assert_eq!(ready.metadata.name, Some(object.name_any()));
        eventually("one authenticate", || bench.conjur.count(Kind::Authenticate) == 1).await;
    });
}

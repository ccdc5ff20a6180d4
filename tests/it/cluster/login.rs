//! Every way to log in, through a ConjurConnection.

use std::fmt::Write as _;

use conjur_client::{Client, Config, Credentials, sensitive::Sensitive};
use conjur_dev::{ClientCertificates, Options, Server, TlsPem};
use conjur_operator::api::{ConjurConnection, ConjurPolicy, ConjurSecret};
use http::Request;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use serde_json::{Value, json};
use testbed::pki::Authority;

use super::{
    Bench,
    setup::{LOGIN, change_policy, connection, eventually, project, put, states, variables},
    test,
};

/// The same bench with a Conjur of its own that was started otherwise.
pub async fn with(bench: &Bench, options: Options) -> Bench {
    let conjur = Server::start(options).await.unwrap();
    let bench = Bench { conjur, ..bench.clone() };
    bench.keep_secret(bench.conjur.admin_key());
    bench
}

pub fn tls(authority: &Authority) -> TlsPem {
    let identity = authority.issue(&["127.0.0.1"]).unwrap();
    TlsPem { certificate: identity.certificate, key: identity.key }
}

pub async fn service_account(bench: &Bench, name: &str) {
    let account: ServiceAccount = serde_json::from_value(
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } }),
    )
    .unwrap();
    bench.api::<ServiceAccount>().create(&PostParams::default(), &account).await.unwrap();
}

/// A Conjur that lets in the ServiceAccounts of this cluster as `host/apps/k8s/<subject>`, with its hosts.
pub async fn lets_service_accounts_in(bench: &Bench, hosts: &[(&str, &str)]) -> Bench {
    let options = Options { authenticators: vec!["authn-jwt/k8s".to_owned()], ..Options::default() };
    let bench = with(bench, options).await;
    trust_service_accounts(&bench, hosts).await;
    bench
}

/// Makes authn-jwt/k8s trust the cluster's tokens, and the hosts that they log in.
pub async fn trust_service_accounts(bench: &Bench, hosts: &[(&str, &str)]) {
    let mut policy = String::from(
        "- !policy\n  id: conjur/authn-jwt/k8s\n  body:\n  - !webservice\n  - !variable public-keys\n  - !variable issuer\n  \
         - !variable audience\n  - !variable token-app-property\n  - !variable identity-path\n",
    );
    for (namespace, name) in hosts {
        let id = format!("apps/k8s/system:serviceaccount:{namespace}:{name}");
        write!(
            policy,
            "- !host\n  id: {id}\n  annotations:\n    authn-jwt/k8s/kubernetes.io/namespace: {namespace}\n- !permit\n  role: !host {id}\n  \
             privileges: [read, authenticate]\n  resource: !webservice conjur/authn-jwt/k8s\n"
        )
        .unwrap();
    }
    bench.root(&policy).await;
    let keys = Request::get("/openid/v1/jwks").body(Vec::new()).unwrap();
    let keys: Value = bench.client.request(keys).await.unwrap();
    let given = json!({ "type": "jwks", "value": keys }).to_string();
    for (name, value) in [
        ("public-keys", given.as_str()),
        ("issuer", "https://kubernetes.default.svc"),
        ("audience", "conjur"),
        ("token-app-property", "sub"),
        ("identity-path", "apps/k8s"),
    ] {
        assert!(bench.conjur.set_variable(&format!("conjur/authn-jwt/k8s/{name}"), value.as_bytes()));
    }
}

pub fn jwt(name: &str, audience: &str) -> Value {
    json!({ "jwt": { "serviceID": "k8s", "serviceAccountRef": { "name": name, "audiences": [audience] } } })
}

#[test]
fn a_user_logs_in_with_a_password_and_with_another_when_it_changed() {
    test(|bench| async move {
        bench.root("- !user alice\n- !variable v\n- !permit {role: !user alice, privileges: [read, execute], resource: !variable v}\n").await;
        let value = bench.set("v");
        let key = Sensitive::new(bench.conjur.api_key_of("alice").unwrap());
        let first = format!("Aa-First-12-{}", bench.namespace);
        bench.keep_secret(first.clone());
        let anonymous = Config::new(bench.conjur.url().parse().unwrap(), "demo", Credentials::Anonymous);
        let client = Client::new(anonymous).unwrap();
        client.change_password("alice", &key, &Sensitive::new(first.clone())).await.unwrap();
        bench.put_secret("alice", &[("password", &first)]).await;
        let auth = json!({ "password": { "login": "alice", "passwordSecretRef": { "name": "alice", "key": "password" } } });
        put(&bench, &connection(&bench, "conjur", &json!({ "auth": auth }))).await;
        let ready: ConjurConnection = bench.ready("conjur").await;
        assert_eq!(ready.status.unwrap().identity.as_deref(), Some("alice"));
        put(&bench, &json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": { "name": "s" },
            "spec": { "connectionRef": { "name": "conjur" }, "data": [{ "key": "v", "variable": "v" }] },
        }))
        .await;
        bench.holds("s", &[("v", &value)]).await;
        bench.put_secret("alice", &[("password", "Wrong-Pass-12x")]).await;
        let message = bench.says::<ConjurConnection>("conjur", "AuthenticationFailed").await;
        assert!(message.contains("alice"), "{message}");
        bench.put_secret("alice", &[("password", &first)]).await;
        bench.ready::<ConjurConnection>("conjur").await;
    });
}

#[test]
fn a_service_account_logs_in_with_its_token() {
    test(|bench| async move {
        let bench = lets_service_accounts_in(&bench, &[(&bench.namespace, "app")]).await;
        let host = format!("host/apps/k8s/system:serviceaccount:{}:app", bench.namespace);
        put(&bench, &connection(&bench, "conjur", &json!({ "auth": jwt("app", "conjur") }))).await;
        let message = bench.says::<ConjurConnection>("conjur", "CredentialsNotFound").await;
        assert!(message.contains("ServiceAccount") && message.contains("app"), "{message}");
        service_account(&bench, "app").await;
        let ready: ConjurConnection = bench.ready("conjur").await;
        assert_eq!(ready.status.unwrap().identity.as_deref(), Some(host.as_str()));
        bench.conjur.stop().await;
    });
}

#[test]
fn the_clusters_own_audiences_are_refused() {
    test(|bench| async move {
        service_account(&bench, "app").await;
        let auth = jwt("app", "https://kubernetes.default.svc");
        put(&bench, &connection(&bench, "conjur", &json!({ "auth": auth }))).await;
        let message = bench.says::<ConjurConnection>("conjur", "InvalidSpec").await;
        assert!(
            message.contains("https://kubernetes.default.svc") && message.contains("such as conjur"),
            "{message}"
        );
        assert!(bench.conjur.requests().is_empty(), "the token went to Conjur");
    });
}

#[test]
fn a_host_logs_in_with_a_certificate_and_with_another_when_it_is_exchanged() {
    test(|bench| async move {
        let (server, clients) = (Authority::new("server").unwrap(), Authority::new("clients").unwrap());
        let options = Options {
            tls: Some(tls(&server)),
            client_certificates: ClientCertificates::Optional,
            authenticators: vec!["authn-cert/prod".to_owned()],
            ..Options::default()
        };
        let bench = with(&bench, options).await;
        bench
            .root(
                "- !policy\n  id: conjur/authn-cert/prod\n  body:\n  - !webservice\n  - !variable ca-cert\n- !policy\n  id: apps\n  body:\n  \
                 - !host\n    id: web\n    annotations:\n      authn-cert/prod/cn: web\n- !permit\n  role: !host apps/web\n  \
                 privileges: [read, authenticate]\n  resource: !webservice conjur/authn-cert/prod\n",
            )
            .await;
        assert!(
            bench.conjur.set_variable("conjur/authn-cert/prod/ca-cert", clients.certificate().as_bytes())
        );
        let give = async |name: &str| {
            let identity = clients.issue_client(name).unwrap();
            bench.keep_secret(identity.key.clone());
            bench
                .put_secret("web-tls", &[("tls.crt", &identity.certificate), ("tls.key", &identity.key)])
                .await;
        };
        give("somebody-else").await;
        let auth = json!({ "certificate": { "serviceID": "prod", "hostID": "apps/web", "certificateSecretRef": { "name": "web-tls" } } });
        let spec = json!({ "auth": auth, "tls": { "caBundle": server.certificate() } });
        put(&bench, &connection(&bench, "conjur", &spec)).await;
        bench.says::<ConjurConnection>("conjur", "AuthenticationFailed").await;
        give("web").await;
        let ready: ConjurConnection = bench.ready("conjur").await;
        assert_eq!(ready.status.unwrap().identity.as_deref(), Some("host/apps/web"));
        bench.conjur.stop().await;
    });
}

#[test]
fn a_client_certificate_is_presented_besides_any_way_to_log_in() {
    test(|bench| async move {
        let (server, clients) = (Authority::new("server").unwrap(), Authority::new("clients").unwrap());
        let client_certificates = ClientCertificates::Required { ca: clients.certificate() };
        let bench =
            with(&bench, Options { tls: Some(tls(&server)), client_certificates, ..Options::default() })
                .await;
        variables(&bench, &["a"]).await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        let ca = server.certificate();
        put(&bench, &connection(&bench, "bare", &json!({ "tls": { "caBundle": ca } }))).await;
        let message = bench.says::<ConjurConnection>("bare", "TlsFailed").await;
        assert!(!message.is_empty());
        let identity = clients.issue_client("operator").unwrap();
        bench.keep_secret(identity.key.clone());
        bench
            .put_secret("operator-tls", &[("tls.crt", &identity.certificate), ("tls.key", &identity.key)])
            .await;
        let spec =
            json!({ "tls": { "caBundle": ca, "clientCertificateSecretRef": { "name": "operator-tls" } } });
        put(&bench, &connection(&bench, "conjur", &spec)).await;
        bench.ready::<ConjurConnection>("conjur").await;
        bench.conjur.stop().await;
    });
}

#[test]
fn authority_and_client_certificate_are_exchanged_while_it_runs() {
    test(|bench| async move {
        let (server, clients) = (Authority::new("server").unwrap(), Authority::new("clients").unwrap());
        let required = |clients: &Authority| ClientCertificates::Required { ca: clients.certificate() };
        let options = Options {
            tls: Some(tls(&server)),
            client_certificates: required(&clients),
            ..Options::default()
        };
        let bench = with(&bench, options).await;
        let value = variables(&bench, &["a"]).await.remove(0);
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        let give = async |server: &Authority, clients: &Authority| {
            let identity = clients.issue_client("operator").unwrap();
            bench.keep_secret(identity.key.clone());
            bench.put_secret("ca", &[("ca.crt", &server.certificate())]).await;
            let pair = [("tls.crt", identity.certificate.as_str()), ("tls.key", identity.key.as_str())];
            bench.put_secret("operator-tls", &pair).await;
        };
        give(&server, &clients).await;
        let spec = json!({ "tls": {
            "caBundleFrom": { "kind": "Secret", "name": "ca", "key": "ca.crt" },
            "clientCertificateSecretRef": { "name": "operator-tls" },
        } });
        put(&bench, &connection(&bench, "conjur", &spec)).await;
        bench.ready::<ConjurConnection>("conjur").await;

        let (server, clients) = (Authority::new("next").unwrap(), Authority::new("next clients").unwrap());
        bench.conjur.set_tls(&tls(&server), &required(&clients)).unwrap();
        bench.conjur.clear_requests();
        give(&server, &clients).await;
        eventually("a request under the new certificates", || {
            bench.conjur.requests().iter().any(|r| r.client_certificate)
        })
        .await;
        bench.ready::<ConjurConnection>("conjur").await;
        put(&bench, &project("s", &[("a", "a")], &json!({}))).await;
        bench.holds("s", &[("a", &value)]).await;
        bench.conjur.stop().await;
    });
}

#[test]
fn the_access_mode_refuses_the_other_direction() {
    test(|bench| async move {
        let value = variables(&bench, &["a"]).await.remove(0);
        change_policy(
            &bench,
            "- !permit {role: !host apps/app, privileges: [read, create, update], resource: !policy apps}\n",
        )
        .await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        put(&bench, &connection(&bench, "conjur", &json!({ "accessMode": "ReadOnly" }))).await;
        put(&bench, &project("s", &[("a", "a")], &json!({}))).await;
        bench.holds("s", &[("a", &value)]).await;
        let policy = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPolicy", "metadata": { "name": "p" },
            "spec": { "connectionRef": { "name": "conjur" }, "branch": "apps", "document": "- !variable b\n" },
        });
        put(&bench, &policy).await;
        let message = bench.says::<ConjurPolicy>("p", "AccessDenied").await;
        assert!(message.contains("ReadOnly"), "{message}");
        assert!(!bench.conjur.exists("variable", "apps/b"));
        put(&bench, &connection(&bench, "conjur", &json!({ "accessMode": "WriteOnly" }))).await;
        bench.ready::<ConjurPolicy>("p").await;
        let message = bench.says::<ConjurSecret>("s", "AccessDenied").await;
        assert!(message.contains("WriteOnly"), "{message}");
        let object: ConjurSecret = bench.api().get("s").await.unwrap();
        assert_eq!(states(&object), "Ready=False Stalled=True");
        bench.holds("s", &[("a", &value)]).await;
    });
}

#[test]
fn the_limits_of_a_connection_hold() {
    test(|bench| async move {
        let names = ["a", "b", "c", "d", "e"];
        variables(&bench, &names).await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        put(&bench, &connection(&bench, "conjur", &json!({ "limits": { "batchSize": 2 } }))).await;
        let data: Vec<_> = names.iter().map(|n| (*n, *n)).collect();
        put(&bench, &project("s", &data, &json!({}))).await;
        bench.ready::<ConjurSecret>("s").await;
        assert_eq!(super::setup::fetches(&bench), 3);
    });
}

//! authn-jwt beyond the recordings: the other algorithm, keys by URI, and the rarer variables.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use conjur_dev::{Options, Server};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::certificates::Authority;
use crate::wire::{self, Request, Response};
use crate::{request, token};

const ISSUER: &str = "https://issuer.test";

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn keys(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "e1", "use": "sig", "x": x, "y": y}]})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": "e1"}).to_string();
        let signed = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// A service that is enabled, with these variables, and one host with these annotations.
async fn start(variables: &[(&str, &str)], annotations: &[(&str, &str)]) -> Server {
    let mut policy = "
- !policy
  id: conjur/authn-jwt/k8s
  body:
  - !webservice
  - !permit
    role: !host /apps/web
    privileges: [ read, authenticate ]
    resource: !webservice
"
    .to_owned();
    for (name, _) in variables {
        writeln!(policy, "  - !variable {name}").unwrap();
    }
    policy += "- !policy\n  id: apps\n  body:\n  - !host\n    id: web\n    annotations:\n      about: web\n";
    for (name, value) in annotations {
        writeln!(policy, "      authn-jwt/k8s/{name}: {value}").unwrap();
    }
    let options = Options { authenticators: vec!["authn-jwt/k8s".to_owned()], ..Options::default() };
    let server = Server::start(options).await.unwrap();
    server.load_root(&policy).await.unwrap();
    for (name, value) in variables {
        assert!(server.set_variable(&format!("conjur/authn-jwt/k8s/{name}"), value.as_bytes()));
    }
    server
}

fn given(signer: &Signer) -> String {
    json!({"type": "jwks", "value": signer.keys()}).to_string()
}

fn claims() -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": ISSUER, "sub": "web", "aud": ["other", "conjur"], "iat": now, "exp": now + 300,
        "kubernetes.io": {"namespace": "ns1", "serviceaccount": {"name": "sa1"}},
    })
}

async fn log_in(server: &Server, login: &str, jwt: &str) -> Response {
    let request = Request {
        method: "POST".to_owned(),
        path: format!("/authn-jwt/k8s/demo/{login}authenticate"),
        headers: vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
        body: format!("jwt={jwt}").into_bytes(),
    };
    wire::send(server.address(), &request).await
}

#[tokio::test]
async fn an_es256_token_of_a_service_account_logs_its_host_in() {
    let signer = Signer::new();
    let variables = [
        ("public-keys", given(&signer)),
        ("issuer", ISSUER.to_owned()),
        ("audience", "conjur".to_owned()),
        ("token-app-property", "sub".to_owned()),
        ("identity-path", "apps".to_owned()),
        ("enforced-claims", "kubernetes.io/serviceaccount/name".to_owned()),
        ("claim-aliases", "sa:kubernetes.io/serviceaccount/name".to_owned()),
    ];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = start(&variables, &[("sa", "sa1"), ("kubernetes.io/namespace", "ns1")]).await;
    let answer = log_in(&server, "", &signer.sign(&claims())).await;
    assert_eq!(answer.status, 200);
    let token: Value = serde_json::from_slice(&answer.body).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE.decode(token["payload"].as_str().unwrap());
    let payload: Value = serde_json::from_slice(&payload.unwrap()).unwrap();
    assert_eq!(payload["sub"], "host/apps/web");
    assert_eq!(server.requests()[0].login.as_deref(), Some("host/apps/web"));

    let without_the_enforced = start(&variables, &[("kubernetes.io/namespace", "ns1")]).await;
    assert_eq!(log_in(&without_the_enforced, "", &signer.sign(&claims())).await.status, 401);
    for (name, value) in [("nbf", json!(4_000_000_000_u64)), ("aud", json!("other")), ("exp", Value::Null)] {
        let mut wrong = claims();
        wrong[name] = value;
        let refused = log_in(&server, "", &signer.sign(&wrong)).await;
        assert_eq!((refused.status, refused.body.len()), (401, 0), "{name}");
    }
    assert_eq!(log_in(&server, "", &Signer::new().sign(&claims())).await.status, 401);
}

#[tokio::test]
async fn keys_are_read_where_the_uri_says_and_again_when_they_change() {
    let signer = Signer::new();
    let keys = Jwks::start(signer.keys()).await;
    let variables = [("jwks-uri", keys.uri.as_str()), ("issuer", ISSUER)];
    let server = start(&variables, &[("sub", "web")]).await;
    let login = "host%2Fapps%2Fweb/";
    assert_eq!(log_in(&server, login, &signer.sign(&claims())).await.status, 200);
    assert_eq!(log_in(&server, "", &signer.sign(&claims())).await.status, 401);
    let next = Signer::new();
    keys.exchange(next.keys());
    assert_eq!(log_in(&server, login, &signer.sign(&claims())).await.status, 401);
    assert_eq!(log_in(&server, login, &next.sign(&claims())).await.status, 200);
}

#[tokio::test]
async fn keys_over_https_are_read_from_who_the_ca_vouches_for() {
    let (signer, authority) = (Signer::new(), Authority::new());
    let uri = https_jwks(&authority, &signer.keys()).await;
    let (right, wrong) = (authority.pem(), Authority::new().pem());
    for (ca, status) in [(&right, 200), (&wrong, 401)] {
        let variables = [("jwks-uri", uri.as_str()), ("issuer", ISSUER), ("ca-cert", ca)];
        let server = start(&variables, &[("sub", "web")]).await;
        assert_eq!(log_in(&server, "host%2Fapps%2Fweb/", &signer.sign(&claims())).await.status, status);
    }
}

/// The same keys to everybody, one connection after the other.
async fn https_jwks(authority: &Authority, keys: &Value) -> String {
    let pem = authority.server();
    let certificate = CertificateDer::from_pem_slice(pem.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}/jwks", listener.local_addr().unwrap());
    let keys = keys.to_string();
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{keys}", keys.len());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Who does not trust the certificate ends it here.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        }
    });
    uri
}

#[tokio::test]
async fn a_service_is_enabled_and_disabled_by_request() {
    let signer = Signer::new();
    let given = given(&signer);
    let variables = [("public-keys", given.as_str()), ("issuer", ISSUER)];
    let server = Server::start(Options::default()).await.unwrap();
    let template = start(&variables, &[("sub", "web")]).await;
    let policy = &template.policy_versions("root")[0].text;
    server.load_root(policy).await.unwrap();
    for (name, value) in variables {
        assert!(server.set_variable(&format!("conjur/authn-jwt/k8s/{name}"), value.as_bytes()));
    }
    let token = token(&server).await;
    let login = "host%2Fapps%2Fweb/";
    let jwt = signer.sign(&claims());
    assert_eq!(log_in(&server, login, &jwt).await.status, 401);
    for (enabled, status) in [("true", 200), ("false", 401)] {
        let body = format!("enabled={enabled}");
        let patch = request(&token, "PATCH", "/authn-jwt/k8s/demo", &body);
        assert_eq!(wire::send(server.address(), &patch).await.status, 204);
        assert_eq!(log_in(&server, login, &jwt).await.status, status);
    }
}

#[tokio::test]
async fn a_server_whose_clock_is_behind_refuses_tokens_of_the_future() {
    let signer = Signer::new();
    let given = given(&signer);
    let variables = [("public-keys", given.as_str()), ("issuer", ISSUER)];
    let server = start(&variables, &[("sub", "web")]).await;
    let jwt = signer.sign(&claims());
    server.set_clock_offset(-7_200);
    assert_eq!(log_in(&server, "host%2Fapps%2Fweb/", &jwt).await.status, 401);
    server.set_clock_offset(7_200);
    let expired = log_in(&server, "host%2Fapps%2Fweb/", &jwt).await;
    assert!(String::from_utf8(expired.body).unwrap().contains("CONJ00016E Token expired"));
}

#[tokio::test]
async fn status_and_enabling_are_for_who_holds_the_privilege_on_what_is_configured() {
    let server = start(&[("issuer", ISSUER)], &[("sub", "web")]).await;
    server
        .load_root("- !webservice conjur/authn-jwt/k8s/status\n- !variable conjur/authn-jwt/k8s/public-keys")
        .await
        .unwrap();
    let admin = token(&server).await;
    let host = host_token(&server).await;
    let (status, enable) = ("/authn-jwt/k8s/demo/status", "/authn-jwt/k8s/demo");
    for (token, method, path, body, wanted) in [
        (&admin, "GET", status, "", 500),
        (&host, "GET", status, "", 403),
        (&host, "PATCH", enable, "enabled=true", 403),
        (&host, "PATCH", "/authn-jwt/other/demo", "enabled=true", 404),
        (&admin, "PATCH", enable, "enabled=maybe", 422),
        (&admin, "GET", "/authenticators/demo", "", 404),
        (&admin, "GET", "/branches/demo", "", 404),
        (&admin, "GET", "/authn-oidc/k8s/demo/status", "", 404),
    ] {
        let answer = wire::send(server.address(), &request(token, method, path, body)).await;
        assert_eq!(answer.status, wanted, "{method} {path}");
    }
    let keys = given(&Signer::new());
    assert!(server.set_variable("conjur/authn-jwt/k8s/public-keys", keys.as_bytes()));
    let ok = wire::send(server.address(), &request(&admin, "GET", status, "")).await;
    assert_eq!((ok.status, ok.body.as_slice()), (200, &br#"{"status":"ok"}"#[..]));
}

async fn host_token(server: &Server) -> String {
    let request = Request {
        method: "POST".to_owned(),
        path: "/authn/demo/host%2Fapps%2Fweb/authenticate".to_owned(),
        headers: vec![("accept-encoding".to_owned(), "base64".to_owned())],
        body: server.api_key_of("host/apps/web").unwrap().into_bytes(),
    };
    String::from_utf8(wire::send(server.address(), &request).await.body).unwrap()
}

/// Somebody's keys, on a port of its own.
struct Jwks {
    uri: String,
    keys: Arc<Mutex<Value>>,
}

impl Jwks {
    async fn start(keys: Value) -> Self {
        let keys = Arc::new(Mutex::new(keys));
        let shown = Arc::clone(&keys);
        let show = move || {
            let keys = shown.lock().unwrap().clone();
            async move { axum::Json(keys) }
        };
        let router = axum::Router::new().route("/jwks", axum::routing::get(show));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/jwks", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { uri, keys }
    }

    fn exchange(&self, keys: Value) {
        *self.keys.lock().unwrap() = keys;
    }
}

//! Certificates of both sides, HTTP/2, few connections, and the ways to log in that need a server that checks.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use conjur_client::{Client, ClientIdentity, Config, Credentials, Error, Limits, Page, VariableId, Wanted};
use conjur_client::{Freshness, Priority};
use conjur_dev::{ClientCertificates, Effect, Fault, Options, Server, TlsPem, When};
use futures::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use super::{Target, key, secret};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    fn sign(&self, common: &str, expired: bool) -> TlsPem {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), format!("{common}.test")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 2);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        TlsPem { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn identity(&self, common: &str) -> ClientIdentity {
        let pem = self.sign(common, false);
        ClientIdentity { certificate: pem.certificate.into_bytes(), key: pem.key.into_bytes().into() }
    }

    async fn start(&self, client_certificates: ClientCertificates) -> Server {
        let tls = Some(self.sign("conjur", false));
        Server::start(Options { tls, client_certificates, ..Options::default() }).await.unwrap()
    }

    fn config(&self, server: &Server) -> Config {
        let target = Target::of(server);
        let mut config = target.config(key("admin", &target.admin_key));
        config.ca_bundle = Some(self.pem().into_bytes());
        config
    }
}

fn client(config: Config) -> Client {
    Client::new(config).unwrap()
}

async fn tls_error(config: Config) -> String {
    match client(config).whoami().await {
        Err(error @ Error::Tls { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_offered_and_one_connection_carries_all() {
    let authority = Authority::new();
    let server = authority.start(ClientCertificates::Optional).await;
    let client = client(authority.config(&server));
    client.whoami().await.unwrap();
    for result in join_all((0..20).map(|_| client.whoami())).await {
        result.unwrap();
    }
    let seen = server.requests();
    assert!(seen.iter().all(|request| request.http2), "{seen:?}");
    assert!(seen.iter().all(|request| request.connection == seen[0].connection), "{seen:?}");
}

#[tokio::test]
async fn over_http1_there_are_no_more_connections_than_allowed() {
    let server = Server::start(Options::default()).await.unwrap();
    let target = Target::of(&server);
    let limits = Limits { max_connections: 3, requests_per_second: 1000, ..Limits::default() };
    let client = client(Config { limits, ..target.config(key("admin", &target.admin_key)) });
    let latency = Effect::Latency { millis: 5 };
    server.fault(Fault { method: None, path: "/".into(), count: None, when: When::Before, effect: latency });
    let all = join_all((0..60).map(|_| client.whoami()));
    let most_at_once = async {
        let mut most = 0;
        while server.requests().iter().filter(|request| request.status.is_some()).count() < 60 {
            most = most.max(server.requests().iter().filter(|request| request.status.is_none()).count());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        most
    };
    let (results, most) = tokio::join!(all, most_at_once);
    for result in results {
        result.unwrap();
    }
    assert!((2..=3).contains(&most), "{most} at once");
    let mut connections: Vec<u64> = server.requests().iter().map(|request| request.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    // One that just became free may be a moment late for the next request, which then gets a new one.
    assert!(connections.len() < 20, "{connections:?}");
}

#[tokio::test]
async fn a_client_certificate_is_presented_whatever_one_logs_in_with() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.start(ClientCertificates::Required { ca: clients.pem() }).await;
    let message = tls_error(authority.config(&server)).await;
    assert!(message.contains("wants a client certificate"), "{message}");
    let mut config = authority.config(&server);
    config.client_identity = Some(clients.identity("web"));
    client(config.clone()).whoami().await.unwrap();
    assert!(server.requests().iter().all(|request| request.client_certificate));
    config.client_identity = Some(authority.identity("web"));
    let message = tls_error(config).await;
    assert!(message.contains("does not accept the client certificate"), "{message}");
}

#[tokio::test]
async fn another_authority_and_an_expired_certificate_are_told_apart() {
    let authority = Authority::new();
    let server = authority.start(ClientCertificates::Optional).await;
    let mut config = authority.config(&server);
    config.ca_bundle = Some(Authority::new().pem().into_bytes());
    let message = tls_error(config).await;
    assert!(message.contains("is not signed by the CA bundle given"), "{message}");
    server.set_tls(&authority.sign("conjur", true), &ClientCertificates::Optional).unwrap();
    let message = tls_error(authority.config(&server)).await;
    assert!(message.contains("has expired"), "{message}");
}

#[tokio::test]
async fn a_certificate_logs_its_host_in() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let options = Options {
        tls: Some(authority.sign("conjur", false)),
        authenticators: vec!["authn-cert/prod".to_owned()],
        ..Options::default()
    };
    let server = Server::start(options).await.unwrap();
    let policy = "
- !policy
  id: conjur/authn-cert/prod
  body:
  - !webservice
  - !variable ca-cert
  - !permit
    role: !host /apps/web
    privileges: [ read, authenticate ]
    resource: !webservice
- !policy
  id: apps
  body:
  - !host
    id: web
    annotations:
      authn-cert/prod/cn: web
";
    server.load_root(policy).await.unwrap();
    assert!(server.set_variable("conjur/authn-cert/prod/ca-cert", clients.pem().as_bytes()));
    let with = |common: &str, host: &str| Config {
        credentials: Credentials::Certificate {
            service_id: "prod".to_owned(),
            host_id: Some(host.to_owned()),
            identity: clients.identity(common),
        },
        ..authority.config(&server)
    };
    assert_eq!(client(with("web", "apps/web")).whoami().await.unwrap().username, "host/apps/web");
    for (common, host) in [("other", "apps/web"), ("web", "apps/nobody")] {
        let error = client(with(common, host)).whoami().await.expect_err("refused");
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        assert!(error.to_string().contains("trusts the certificate's issuer"), "{error}");
    }
}

struct Signer(EcdsaKeyPair);

impl Signer {
    fn keys(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "e1", "use": "sig", "x": x, "y": y}]})
    }

    /// A JWT that ends so many seconds from now.
    fn sign(&self, ends_in: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let header = json!({"alg": "ES256", "kid": "e1"}).to_string();
        let claims =
            json!({"iss": "https://issuer.test", "sub": "web", "iat": now - 600, "exp": now + ends_in});
        let signed = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

const JWT_POLICY: &str = "
- !policy
  id: conjur/authn-jwt/dev
  body:
  - !webservice
  - !variable public-keys
  - !variable issuer
  - !permit
    role: !host /apps/web
    privileges: [ read, authenticate ]
    resource: !webservice
- !policy
  id: apps
  body:
  - !host
    id: web
    annotations:
      authn-jwt/dev/sub: web
";

#[tokio::test]
async fn a_jwt_logs_its_host_in_and_one_that_ended_says_so() {
    let options = Options { authenticators: vec!["authn-jwt/dev".to_owned()], ..Options::default() };
    let server = Server::start(options).await.unwrap();
    server.load_root(JWT_POLICY).await.unwrap();
    let signer = Arc::new(Signer(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()));
    let keys = json!({"type": "jwks", "value": signer.keys()}).to_string();
    for (name, value) in [("public-keys", keys.as_str()), ("issuer", "https://issuer.test")] {
        assert!(server.set_variable(&format!("conjur/authn-jwt/dev/{name}"), value.as_bytes()));
    }
    let with = |ends_in: i64| {
        let signer = Arc::clone(&signer);
        Target::of(&server).client(Credentials::Jwt {
            service_id: "dev".to_owned(),
            host_id: Some("apps/web".to_owned()),
            source: Arc::new(move || ready(Ok(secret(&signer.sign(ends_in))))),
        })
    };
    assert_eq!(with(300).whoami().await.unwrap().username, "host/apps/web");
    let error = with(-60).whoami().await.expect_err("refused");
    assert!(error.to_string().contains("its token has expired"), "{error}");
}

#[tokio::test]
async fn a_clock_that_is_hours_off_makes_no_difference() {
    for hours in [-2, 2] {
        let server = Server::start(Options::default()).await.unwrap();
        server.set_clock_offset(hours * 3600);
        let admin = Target::of(&server).admin();
        for _ in 0..5 {
            admin.whoami().await.unwrap();
        }
        assert_eq!(server.count(conjur_dev::Kind::Authenticate), 1, "{hours} hours");
        admin.list_resources("policy", Page::FIRST).await.unwrap();
    }
}

#[tokio::test]
async fn idle_connections_and_tokens_do_not_outlive_a_restart_of_the_server() {
    let server = Server::start(Options::default()).await.unwrap();
    server.load_root("- !variable v\n").await.unwrap();
    assert!(server.set_variable("v", b"value"));
    let admin = Target::of(&server).admin();
    let wanted = [Wanted::latest(VariableId::new("v").unwrap())];
    let fetch =
        || admin.fetch_variables(&wanted, Priority::Foreground, Freshness::NoOlderThan(Duration::ZERO));
    assert!(fetch().await[&wanted[0]].is_ok());
    server.stop().await;
    let error = fetch().await[&wanted[0]].clone().expect_err("nobody listens");
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_connection(), "{error:?}");
    server.resume().await.unwrap();
    server.expire_tokens();
    assert_eq!(fetch().await[&wanted[0]].as_ref().unwrap().expose(), b"value");
}

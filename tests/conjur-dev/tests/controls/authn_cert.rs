//! authn-cert: a client certificate becomes a token.

use conjur_dev::{ClientCertificates, Options, Server, TlsPem};

use crate::certificates::Authority;
use crate::wire::{self, Request, Response};

const POLICY: &str = "
- !policy
  id: conjur/authn-cert/prod
  body:
  - !webservice
  - !variable ca-cert
  - !variable host-mode
  - !variable trust-domain
  - !variable identity-path
  - !variable crl
  - !permit
    role: !group /apps/all
    privileges: [ read, authenticate ]
    resource: !webservice
- !policy
  id: apps
  body:
  - !group all
  - !host
    id: web
    annotations:
      authn-cert/prod/cn: web
      authn-cert/san-dns: web.test
  - !host plain
  - !host
    id: stranger
    annotations:
      authn-cert/prod/cn: web
  - !grant
    role: !group all
    members: [ !host web, !host plain ]
";

/// The server's own certificate is the first authority's, those of clients the second's.
async fn start() -> (Authority, Authority, Server) {
    let (authority, clients) = (Authority::new(), Authority::new());
    let options = Options {
        tls: Some(authority.server()),
        client_certificates: ClientCertificates::Optional,
        authenticators: vec!["authn-cert/prod".to_owned()],
        ..Options::default()
    };
    let server = Server::start(options).await.unwrap();
    server.load_root(POLICY).await.unwrap();
    set(&server, "ca-cert", &clients.pem());
    (authority, clients, server)
}

fn set(server: &Server, name: &str, value: &str) {
    assert!(server.set_variable(&format!("conjur/authn-cert/prod/{name}"), value.as_bytes()));
}

async fn log_in(
    authority: &Authority,
    server: &Server,
    client: Option<&TlsPem>,
    host: Option<&str>,
) -> Response {
    let login = host.map(|host| format!("host%2Fapps%2F{host}/")).unwrap_or_default();
    let request = Request {
        method: "POST".to_owned(),
        path: format!("/authn-cert/prod/demo/{login}authenticate"),
        headers: Vec::new(),
        body: Vec::new(),
    };
    let stream = authority.connect(server, client, "http/1.1").await.unwrap();
    wire::exchange(stream, &request).await.unwrap()
}

#[tokio::test]
async fn a_certificate_logs_the_host_in_that_its_annotations_name() {
    let (authority, clients, server) = start().await;
    let web = clients.client("web", &[]);
    assert_eq!(log_in(&authority, &server, Some(&web), Some("web")).await.status, 200);
    let seen = server.requests().pop().unwrap();
    assert_eq!((seen.login.as_deref(), seen.client_certificate), (Some("host/apps/web"), true));
    for (client, host, why) in [
        (None, "web", "no certificate"),
        (Some(clients.client("other", &[])), "web", "another's name"),
        (Some(clients.expired_client("web")), "web", "an expired one"),
        (Some(authority.client("web", &[])), "web", "another authority"),
        (Some(web.clone()), "plain", "a host without annotations"),
        (Some(web.clone()), "stranger", "a host without the privilege"),
        (Some(web.clone()), "nobody", "no such host"),
    ] {
        let refused = log_in(&authority, &server, client.as_ref(), Some(host)).await;
        assert_eq!((refused.status, refused.body.len()), (401, 0), "{why}");
    }
    assert_eq!(log_in(&authority, &server, Some(&web), None).await.status, 401);
}

#[tokio::test]
async fn a_spiffe_uri_names_the_host_where_the_service_says_so() {
    let (authority, clients, server) = start().await;
    set(&server, "host-mode", "spiffe");
    set(&server, "trust-domain", "conjur.test");
    set(&server, "identity-path", "apps");
    let plain = clients.client("any", &["spiffe://conjur.test/plain"]);
    assert_eq!(log_in(&authority, &server, Some(&plain), None).await.status, 200);
    assert_eq!(log_in(&authority, &server, Some(&plain), Some("plain")).await.status, 401);
    for uris in [
        &["spiffe://elsewhere.test/plain"][..],
        &["spiffe://conjur.test/"],
        &["spiffe://conjur.test/plain", "spiffe://conjur.test/web"],
        &[],
    ] {
        let client = clients.client("any", uris);
        assert_eq!(log_in(&authority, &server, Some(&client), None).await.status, 401, "{uris:?}");
    }
}

#[tokio::test]
async fn the_ca_of_a_service_can_be_exchanged() {
    let (authority, before, server) = start().await;
    let after = Authority::new();
    set(&server, "ca-cert", &after.pem());
    assert_eq!(log_in(&authority, &server, Some(&before.client("web", &[])), Some("web")).await.status, 401);
    assert_eq!(log_in(&authority, &server, Some(&after.client("web", &[])), Some("web")).await.status, 200);
}

#[tokio::test]
async fn a_service_with_a_restriction_that_is_not_built_lets_nobody_in() {
    let (authority, clients, server) = start().await;
    set(&server, "crl", "whatever");
    let web = clients.client("web", &[]);
    assert_eq!(log_in(&authority, &server, Some(&web), Some("web")).await.status, 401);
}

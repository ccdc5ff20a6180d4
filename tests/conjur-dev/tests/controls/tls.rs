//! HTTPS: certificates of both sides, and HTTP/2.

use std::io;

use conjur_dev::{ClientCertificates, Effect, Options, Server, TlsPem, When};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::certificates::Authority;
use crate::wire::{self, Response};
use crate::{fault, request};

const HTTP1: &str = "http/1.1";

/// The front page over HTTP/1.1.
async fn front(authority: &Authority, server: &Server, client: Option<&TlsPem>) -> io::Result<Response> {
    let stream = authority.connect(server, client, HTTP1).await?;
    wire::exchange(stream, &request("x", "GET", "/", "")).await
}

async fn http2_client(authority: &Authority, server: &Server) -> SendRequest<Empty<Bytes>> {
    let stream = authority.connect(server, None, "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

fn get(server: &Server, path: &str) -> hyper::Request<Empty<Bytes>> {
    hyper::Request::get(format!("{}{path}", server.url())).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn https_is_served_with_the_given_certificate() {
    let authority = Authority::new();
    let server = authority.start(ClientCertificates::Optional).await;
    assert!(server.url().starts_with("https://127.0.0.1:"));
    assert_eq!(front(&authority, &server, None).await.unwrap().status, 200);
    assert!(!server.requests()[0].client_certificate);
}

#[tokio::test]
async fn an_optional_client_certificate_may_be_from_anybody() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.start(ClientCertificates::Optional).await;
    let client = stranger.client("web", &[]);
    assert_eq!(front(&authority, &server, Some(&client)).await.unwrap().status, 200);
    assert!(server.requests()[0].client_certificate);
}

#[tokio::test]
async fn a_required_client_certificate_must_be_there_and_signed_by_the_ca() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.start(ClientCertificates::Required { ca: authority.pem() }).await;
    let (own, foreign) = (authority.client("web", &[]), stranger.client("web", &[]));
    assert!(front(&authority, &server, None).await.is_err());
    assert!(front(&authority, &server, Some(&foreign)).await.is_err());
    assert!(front(&authority, &server, Some(&authority.expired_client("web"))).await.is_err());
    assert!(server.requests().is_empty());
    assert_eq!(front(&authority, &server, Some(&own)).await.unwrap().status, 200);
}

#[tokio::test]
async fn the_certificate_can_be_exchanged_while_it_runs() {
    let (before, after) = (Authority::new(), Authority::new());
    let server = before.start(ClientCertificates::Optional).await;
    server.set_tls(&after.server(), &ClientCertificates::Required { ca: after.pem() }).unwrap();
    assert!(front(&before, &server, None).await.is_err());
    assert!(front(&after, &server, None).await.is_err());
    assert_eq!(front(&after, &server, Some(&after.client("web", &[]))).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_server_without_tls_has_no_certificate_to_exchange() {
    let server = Server::start(Options::default()).await.unwrap();
    let refused = server.set_tls(&Authority::new().server(), &ClientCertificates::Optional);
    assert_eq!(refused.unwrap_err().to_string(), "TLS: the server speaks plain HTTP");
}

#[tokio::test]
async fn http2_is_spoken_to_who_offers_it_many_requests_on_one_connection() {
    let authority = Authority::new();
    let server = authority.start(ClientCertificates::Optional).await;
    let mut client = http2_client(&authority, &server).await;
    // Longer than a header list may be by hyper's default.
    let long = format!("/?{}", "x".repeat(20_000));
    let (page, too_long) = futures::join!(
        client.clone().send_request(get(&server, "/")),
        client.send_request(get(&server, &long)),
    );
    let page = page.unwrap();
    assert_eq!((page.status().as_u16(), too_long.unwrap().status().as_u16()), (200, 400));
    assert!(page.into_body().collect().await.unwrap().to_bytes().starts_with(b"<html>"));
    assert!(server.requests().iter().all(|seen| seen.http2 && seen.connection == 1));
}

#[tokio::test]
async fn a_reset_ends_the_whole_connection_over_http2() {
    let authority = Authority::new();
    let server = authority.start(ClientCertificates::Optional).await;
    let mut client = http2_client(&authority, &server).await;
    server.fault(fault("/", When::Before, Effect::Reset));
    assert!(client.send_request(get(&server, "/")).await.is_err());
    assert!(client.ready().await.is_err());
    let mut again = http2_client(&authority, &server).await;
    assert_eq!(again.send_request(get(&server, "/")).await.unwrap().status(), 200);
    assert_eq!(server.requests()[1].connection, 2);
}

#[tokio::test]
async fn a_truncated_body_is_an_error_over_http2() {
    let authority = Authority::new();
    let server = authority.start(ClientCertificates::Optional).await;
    let mut client = http2_client(&authority, &server).await;
    server.fault(fault("/", When::After, Effect::Truncate));
    let answer = client.send_request(get(&server, "/")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err());
}

//! What a test can do to the server: faults, holds, outages, and reading what was asked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; what can't be unwrapped fails it"
)]

mod authn_cert;
mod authn_jwt;
mod certificates;
mod effective;
mod look;
mod process;
mod tls;
#[path = "../recordings/wire.rs"]
mod wire;

use std::time::Duration;

use conjur_dev::{Effect, Fault, Hold, Kind, Options, Point, Server, When};
use wire::{Request, Response};

const POLICY: &str = "
- !policy
  id: app
  body:
  - !variable password
  - !host web
";

const VARIABLE: &str = "/secrets/demo/variable/app%2Fpassword";

async fn start() -> (Server, String) {
    let server = Server::start(Options::default()).await.unwrap();
    server.load_root(POLICY).await.unwrap();
    let token = token(&server).await;
    (server, token)
}

async fn token(server: &Server) -> String {
    let headers = vec![("accept-encoding".to_owned(), "base64".to_owned())];
    let (method, path) = ("POST".to_owned(), "/authn/demo/admin/authenticate".to_owned());
    let request = Request { method, path, headers, body: server.admin_key().into_bytes() };
    let response = wire::send(server.address(), &request).await;
    assert_eq!(response.status, 200);
    String::from_utf8(response.body).unwrap()
}

fn request(token: &str, method: &str, path: &str, body: &str) -> Request {
    let headers = vec![("authorization".to_owned(), format!("Token token=\"{token}\""))];
    Request { method: method.to_owned(), path: path.to_owned(), headers, body: body.as_bytes().to_vec() }
}

async fn ask(
    server: &Server,
    token: &str,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<Response> {
    wire::try_send(server.address(), &request(token, method, path, body)).await
}

fn fault(path: &str, when: When, effect: Effect) -> Fault {
    Fault { method: None, path: path.to_owned(), count: Some(1), when, effect }
}

/// Waits until it is so, for ten seconds at most.
async fn eventually(what: &str, so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}, within ten seconds");
}

#[tokio::test]
async fn a_status_strikes_as_often_as_it_says_and_tells_when_to_come_back() {
    let (server, token) = start().await;
    server.fault(fault("/whoami", When::Before, Effect::Status { status: 503, retry_after: Some(7) }));
    let struck = ask(&server, &token, "GET", "/whoami", "").await.unwrap();
    assert_eq!((struck.status, struck.header("retry-after")), (503, Some("7")));
    assert_eq!(ask(&server, &token, "GET", "/whoami", "").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_reset_before_processing_changes_nothing() {
    let (server, token) = start().await;
    server.fault(fault(VARIABLE, When::Before, Effect::Reset));
    assert!(ask(&server, &token, "POST", VARIABLE, "value").await.is_err());
    assert_eq!(server.variable("app/password"), None);
}

#[tokio::test]
async fn a_reset_after_processing_loses_only_the_answer() {
    let (server, token) = start().await;
    server.fault(fault(VARIABLE, When::After, Effect::Reset));
    assert!(ask(&server, &token, "POST", VARIABLE, "value").await.is_err());
    assert_eq!(server.variable("app/password").as_deref(), Some(&b"value"[..]));
}

#[tokio::test]
async fn a_truncated_body_is_shorter_than_it_says() {
    let (server, token) = start().await;
    assert!(server.set_variable("app/password", b"0123456789"));
    server.fault(fault(VARIABLE, When::After, Effect::Truncate));
    let half = ask(&server, &token, "GET", VARIABLE, "").await.unwrap();
    assert_eq!((half.header("content-length"), half.body.as_slice()), (Some("10"), &b"01234"[..]));
}

#[tokio::test]
async fn latency_delays_an_answer_and_leaves_it_whole() {
    let (server, token) = start().await;
    server.fault(fault("/whoami", When::Before, Effect::Latency { millis: 50 }));
    let before = std::time::Instant::now();
    assert_eq!(ask(&server, &token, "GET", "/whoami", "").await.unwrap().status, 200);
    assert!(before.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_stalled_request_ends_when_the_server_stops() {
    let (server, token) = start().await;
    server.fault(fault("/whoami", When::Before, Effect::Stall));
    let stalled = tokio::spawn({
        let (server, token) = (server.clone(), token.clone());
        async move { ask(&server, &token, "GET", "/whoami", "").await }
    });
    eventually("the request arrives", || server.count(Kind::Whoami) == 1).await;
    server.stop().await;
    assert!(stalled.await.unwrap().is_err());
}

#[tokio::test]
async fn a_load_held_before_its_commit_is_invisible_and_outlives_its_caller() {
    let (server, token) = start().await;
    let path = "/policies/demo/policy/app";
    let hold = Hold { method: None, path: path.to_owned(), at: Point::BeforeCommit, count: Some(1) };
    let hold = server.hold(hold);
    let load = tokio::spawn({
        let (server, token) = (server.clone(), token.clone());
        async move { ask(&server, &token, "POST", path, "- !host held\n").await }
    });
    server.held_changes().wait_for(|held| *held == 1).await.unwrap();
    load.abort();
    assert!(!server.exists("host", "app/held"));
    let busy = ask(&server, &token, "POST", path, "- !host other\n").await.unwrap();
    assert!(busy.status == 409 && busy.header("retry-after").is_some());
    server.release(hold);
    eventually("the load is committed", || server.exists("host", "app/held")).await;
    assert_eq!(server.policy_versions("app").len(), 1);
}

#[tokio::test]
async fn a_load_held_after_its_commit_is_there_before_it_is_answered() {
    let (server, token) = start().await;
    let path = "/policies/demo/policy/app";
    let hold = Hold { method: None, path: path.to_owned(), at: Point::AfterCommit, count: None };
    let hold = server.hold(hold);
    let load = tokio::spawn({
        let (server, token) = (server.clone(), token.clone());
        async move { ask(&server, &token, "POST", path, "- !host held\n").await }
    });
    server.held_changes().wait_for(|held| *held == 1).await.unwrap();
    assert!(server.exists("host", "app/held") && !load.is_finished());
    server.release(hold);
    assert_eq!(load.await.unwrap().unwrap().status, 201);
    assert_eq!(server.held(), 0);
}

#[tokio::test]
async fn an_outage_keeps_port_state_and_tokens() {
    let (server, token) = start().await;
    assert!(server.set_variable("app/password", b"kept"));
    server.stop().await;
    assert!(ask(&server, &token, "GET", VARIABLE, "").await.is_err());
    server.resume().await.unwrap();
    assert_eq!(ask(&server, &token, "GET", VARIABLE, "").await.unwrap().body, b"kept");
}

#[tokio::test]
async fn tokens_expire_by_time_and_on_command() {
    let (server, old) = start().await;
    server.expire_tokens();
    assert_eq!(ask(&server, &old, "GET", "/whoami", "").await.unwrap().status, 401);
    server.set_token_lifetime(Duration::ZERO);
    let spent = token(&server).await;
    assert_eq!(ask(&server, &spent, "GET", "/whoami", "").await.unwrap().status, 401);
}

#[tokio::test]
async fn keys_can_be_read_set_and_counted() {
    let (server, token) = start().await;
    let made = server.api_key_of("host/app/web").unwrap();
    assert_eq!(server.key_generation("host/app/web"), Some(0));
    let rotated = ask(&server, &token, "PUT", "/authn/demo/api_key?role=host:app/web", "").await.unwrap();
    assert_eq!(server.api_key_of("host/app/web").map(String::into_bytes), Some(rotated.body));
    assert_ne!(server.api_key_of("host/app/web"), Some(made));
    assert_eq!(server.key_generation("host/app/web"), Some(1));
    assert!(server.set_api_key("admin", "of-my-own") && server.admin_key() == "of-my-own");
    assert!(!server.set_api_key("nobody", "x"));
}

#[tokio::test]
async fn requests_are_kept_with_who_asked_and_what_was_answered() {
    let (server, token) = start().await;
    let batch = "/secrets?variable_ids=demo:variable:app/password";
    ask(&server, &token, "GET", batch, "").await.unwrap();
    ask(&server, &token, "GET", VARIABLE, "").await.unwrap();
    let kinds: Vec<Kind> = server.requests().iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, [Kind::Authenticate, Kind::Batch, Kind::Single]);
    let seen = &server.requests()[1];
    assert_eq!((seen.path.as_str(), seen.login.as_deref(), seen.status), (batch, Some("admin"), Some(404)));
    server.clear_requests();
    assert!(server.counts().is_empty());
}

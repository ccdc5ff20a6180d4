//! The client against a server on loopback.

mod catalogue;
mod hostile;
mod policies;
mod reach;
mod tls;
mod tokens;
mod transport;
mod variables;
mod ways;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use tokio::time::Instant;
use wiremock::matchers::{method, path_regex};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::authn::Backoff;
use super::variables::Timing;
use super::*;
use crate::sensitive::Sensitive;

const KEY: &str = "k3y-that-nobody-may-see";

fn config(url: &str) -> Config {
    let credentials =
        Credentials::ApiKey { login: "host/apps/web".to_owned(), api_key: Sensitive::new(KEY.to_owned()) };
    Config::new(url.parse().unwrap(), "demo", credentials)
}

/// A client that waits less than a real one between its batches.
fn client(config: Config) -> Client {
    let timing = Timing { quiet: Duration::from_millis(30), ..Timing::default() };
    Client::builder(config).with_timing(Backoff::default(), timing).unwrap()
}

fn token(life: u64) -> ResponseTemplate {
    let payload = URL_SAFE.encode(format!(r#"{{"iat":1000,"sub":"host/apps/web","exp":{}}}"#, 1000 + life));
    ResponseTemplate::new(200).set_body_raw(
        format!(r#"{{"protected":"cA==","payload":"{payload}","signature":"cw=="}}"#),
        "application/json",
    )
}

/// A server that gives tokens to everybody; the rest is for the test to mount.
async fn server() -> MockServer {
    let server = MockServer::start().await;
    mount(&server, "POST", "/authenticate$", |_: &Request| token(480)).await;
    server
}

async fn mount(
    server: &MockServer,
    verb: &str,
    path: &str,
    answer: impl Fn(&Request) -> ResponseTemplate + Send + Sync + 'static,
) {
    Mock::given(method(verb)).and(path_regex(path)).respond_with(answer).mount(server).await;
}

fn whoami() -> ResponseTemplate {
    ResponseTemplate::new(200)
        .set_body_raw(r#"{"account":"demo","username":"host/apps/web"}"#, "application/json")
}

/// How many requests came whose path contains `part`.
async fn count(server: &MockServer, part: &str) -> usize {
    server
        .received_requests()
        .await
        .unwrap()
        .iter()
        .filter(|request| request.url.path().contains(part))
        .count()
}

/// Polls until `check` holds; fails after ten seconds.
async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !check().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn error_of<T>(result: Result<T, Error>) -> Error {
    result.err().expect("an error")
}

#[test]
fn a_configuration_that_cannot_work_says_what_is_wrong() {
    let refused = |change: fn(&mut Config)| {
        let mut config = config("https://conjur.example.com/api");
        change(&mut config);
        match Client::new(config) {
            Err(Error::Config { message, .. }) => message,
            other => panic!("{other:?}"),
        }
    };
    for (change, expected) in [
        ((|c| c.url = "ftp://x/".parse().unwrap()) as fn(&mut Config), "https://"),
        (|c| c.url = "https://u:p@x/".parse().unwrap(), "a user or a password"),
        (|c| c.url = "https://x/?a=b".parse().unwrap(), "query"),
        (|c| c.account = String::new(), "account"),
        (|c| c.account = "a:b".to_owned(), "a:b"),
        (|c| c.ca_bundle = Some(b"nothing".to_vec()), "holds no certificate"),
        (
            |c| c.ca_bundle = Some(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec()),
            "is not valid base64",
        ),
        (
            |c| {
                c.credentials =
                    Credentials::ApiKey { login: "host/".to_owned(), api_key: KEY.to_owned().into() };
            },
            "host/",
        ),
        (
            |c| {
                c.credentials = Credentials::ApiKey { login: "a".to_owned(), api_key: String::new().into() };
            },
            "empty",
        ),
    ] {
        let message = refused(change);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn debug_of_configuration_and_client_shows_no_key() {
    let config = config("http://127.0.0.1:1/");
    let shown = format!("{config:?} {:?}", Client::new(config.clone()).unwrap());
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("host/apps/web"), "{shown}");
}

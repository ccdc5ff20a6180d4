use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::lock::lock;

/// Gives the answers in order, the last one for ever.
fn in_order(answers: Vec<ResponseTemplate>) -> impl Fn(&Request) -> ResponseTemplate + Send + Sync + 'static {
    let next = AtomicUsize::new(0);
    move |_| answers[next.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)].clone()
}

#[tokio::test]
async fn a_page_of_html_is_not_an_api() {
    let server = server().await;
    mount(&server, "GET", "/whoami", |_: &Request| {
        ResponseTemplate::new(200).set_body_raw("<html>welcome</html>", "text/html")
    })
    .await;
    let error = error_of(client(config(&server.uri())).whoami().await);
    assert!(matches!(error, Error::Unexpected { status: Some(200), .. }), "{error:?}");
    assert!(error.to_string().contains("is it the URL of a Conjur API?"), "{error}");
}

#[tokio::test]
async fn a_wrong_path_is_not_taken_for_something_missing() {
    let server = server().await;
    let error =
        error_of(client(config(&format!("{}/elsewhere", server.uri()))).show_resource("host", "x").await);
    assert!(matches!(error, Error::NoRoute { .. }), "{error:?}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = server().await;
    mount(&server, "GET", "/whoami", |_: &Request| {
        ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/")
    })
    .await;
    let error = error_of(client(config(&server.uri())).whoami().await);
    assert!(error.to_string().contains("redirects (status 302)"), "{error}");
}

#[tokio::test]
async fn gateway_errors_are_tried_three_times() {
    let server = server().await;
    let bad = || ResponseTemplate::new(503);
    mount(&server, "GET", "/whoami", in_order(vec![bad(), ResponseTemplate::new(502), whoami()])).await;
    let client = client(config(&server.uri()));
    client.whoami().await.unwrap();
    assert_eq!(count(&server, "/whoami").await, 3);
}

#[tokio::test]
async fn a_server_that_stays_away_is_unavailable_after_three_tries() {
    let server = server().await;
    mount(&server, "GET", "/whoami", |_: &Request| ResponseTemplate::new(504)).await;
    let error = error_of(client(config(&server.uri())).whoami().await);
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_connection(), "{error:?}");
    assert_eq!(count(&server, "/whoami").await, 3);
}

#[tokio::test]
async fn a_short_retry_after_is_obeyed_and_a_long_one_is_handed_on() {
    let server = server().await;
    let limited = |wait: &str| ResponseTemplate::new(429).insert_header("retry-after", wait);
    mount(&server, "GET", "/whoami", in_order(vec![limited("1"), whoami(), limited("60")])).await;
    let client = client(config(&server.uri()));
    let start = Instant::now();
    client.whoami().await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let error = error_of(client.whoami().await);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert!(matches!(error, Error::RateLimited { .. }) && error.is_connection(), "{error:?}");
    assert_eq!(count(&server, "/whoami").await, 3);
}

#[tokio::test]
async fn a_retry_after_that_is_a_date_is_compared_with_the_servers_clock() {
    let server = server().await;
    mount(&server, "GET", "/whoami", |_: &Request| {
        ResponseTemplate::new(503)
            .insert_header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .insert_header("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT")
    })
    .await;
    let error = error_of(client(config(&server.uri())).whoami().await);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(120)), "{error}");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_read() {
    let server = server().await;
    mount(&server, "GET", "/whoami", |_: &Request| {
        ResponseTemplate::new(200).set_body_bytes(vec![b' '; 17 << 20])
    })
    .await;
    let error = error_of(client(config(&server.uri())).whoami().await);
    assert!(matches!(error, Error::TooLarge { limit: 16_777_216, .. }), "{error:?}");
}

/// Answers every request with `bytes` and hangs up.
async fn blunt(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            drop(socket.read(&mut buffer).await);
            drop(socket.write_all(bytes).await);
        }
    });
    url
}

#[tokio::test]
async fn an_answer_without_a_length_is_limited_too() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let bytes: &'static [u8] = Box::leak([HEAD, &vec![b'x'; 17 << 20]].concat().into_boxed_slice());
    let url = blunt(bytes).await;
    let error = error_of(client(config(&url)).server_version().await);
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_unavailable() {
    let url = blunt(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"version\":").await;
    let error = error_of(client(config(&url)).server_version().await);
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("broke"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = error_of(client(config(&url)).whoami().await);
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("can't be reached"), "{error}");
}

#[tokio::test]
async fn a_stalled_server_meets_the_deadline() {
    let server = MockServer::start().await;
    mount(&server, "GET", "/", |_: &Request| ResponseTemplate::new(200).set_delay(Duration::from_secs(60)))
        .await;
    let mut config = config(&server.uri());
    config.limits.timeout = Duration::from_secs(1);
    let start = Instant::now();
    let error = error_of(client(config).server_version().await);
    assert!(error.to_string().contains("did not answer within 1 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_version_is_read_without_a_token_where_the_server_says_it() {
    let server = MockServer::start().await;
    mount(&server, "GET", "^/$", |request: &Request| {
        assert!(request.headers.get("authorization").is_none());
        assert_eq!(request.headers["accept"], "application/json");
        ResponseTemplate::new(200).set_body_raw(r#"{"version":"1.24.0"}"#, "application/json")
    })
    .await;
    assert_eq!(client(config(&server.uri())).server_version().await.unwrap().as_deref(), Some("1.24.0"));
    server.reset().await;
    mount(&server, "GET", "^/$", |_: &Request| {
        ResponseTemplate::new(200).set_body_raw("<html>", "text/html")
    })
    .await;
    assert_eq!(client(config(&server.uri())).server_version().await.unwrap(), None);
}

#[derive(Default)]
struct Counts(Mutex<HashMap<(Endpoint, Outcome), usize>>);

impl Observer for Counts {
    fn request(&self, endpoint: Endpoint, outcome: Outcome, _: Duration) {
        *lock(&self.0).entry((endpoint, outcome)).or_default() += 1;
    }
}

#[tokio::test]
async fn every_request_on_the_wire_is_counted_once() {
    let server = server().await;
    mount(&server, "GET", "/whoami", in_order(vec![ResponseTemplate::new(503), whoami()])).await;
    let counts = Arc::new(Counts::default());
    let client = Client::builder(config(&server.uri()))
        .observer(Arc::clone(&counts) as Arc<dyn Observer>)
        .build()
        .unwrap();
    client.whoami().await.unwrap();
    let expected = HashMap::from([
        ((Endpoint::Authenticate, Outcome::Ok), 1),
        ((Endpoint::WhoAmI, Outcome::ServerError), 1),
        ((Endpoint::WhoAmI, Outcome::Ok), 1),
    ]);
    assert_eq!(*lock(&counts.0), expected);
}

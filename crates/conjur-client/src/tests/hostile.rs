//! Servers that say too much, or never stop.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::limits;

fn json(status: u16, body: impl Into<Vec<u8>>) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(body.into(), "application/json")
}

/// Words that are long, of several lines, and that a terminal obeys.
fn rude() -> String {
    format!("first\n\u{1b}[31mred\u{202e} {}", "word ".repeat(10_000))
}

fn is_tame(text: &str) {
    assert!(text.len() < 2 * limits::WORDS_BYTES, "{} bytes", text.len());
    assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text:?}");
}

#[tokio::test]
async fn what_a_server_says_is_cut_whatever_it_says_it_with() {
    let said =
        json!({ "error": { "code": rude(), "message": rude(), "innererror": { "line": 1 } } }).to_string();
    for status in [400, 401, 403, 404, 405, 406, 407, 409, 413, 418, 422, 429, 500, 501, 502, 503, 504, 599] {
        let server = server().await;
        let said = said.clone();
        mount(&server, "GET", "^/(whoami|resources|roles)", move |_: &Request| json(status, said.clone()))
            .await;
        let client = client(config(&server.uri()));
        let errors = [
            client.whoami().await.err(),
            client.list_resources("host", Page::FIRST).await.err(),
            client.role_members("group", "g", &roles::Members::default()).await.err(),
        ];
        for error in errors.into_iter().flatten() {
            is_tame(&error.to_string());
            if let Error::Invalid { code, .. } = error {
                assert_eq!(code, status.to_string(), "a code is one word, or none");
            }
        }
    }
    let server = server().await;
    mount(&server, "GET", "/whoami", |_: &Request| {
        json(200, json!({ "account": rude(), "username": rude() }).to_string())
    })
    .await;
    mount(&server, "GET", "^/$", |_: &Request| json(200, json!({ "version": rude() }).to_string())).await;
    mount(&server, "PATCH", "dryRun|policies", |_: &Request| {
        json(422, json!({ "errors": [{ "line": 1, "message": rude() }] }).to_string())
    })
    .await;
    let client = client(config(&server.uri()));
    is_tame(&client.whoami().await.unwrap().username);
    assert_eq!(client.server_version().await.unwrap(), None, "what can be no version is none");
}

/// Reads a request, and answers with `head`, then with `part` until the other side has enough; how much was written.
async fn flood(head: &'static str, part: &'static [u8], pause: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(pour(socket, head, part, pause, Arc::clone(&count)));
        }
    });
    (url, written)
}

async fn pour(
    mut socket: TcpStream,
    head: &'static str,
    part: &'static [u8],
    pause: Duration,
    count: Arc<AtomicUsize>,
) {
    let mut buffer = [0; 8192];
    let read = socket.read(&mut buffer).await.unwrap_or(0);
    if buffer[..read].starts_with(b"POST /authn") {
        let token = r#"{"payload":""}"#;
        let answer =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{token}", token.len());
        socket.write_all(answer.as_bytes()).await.ok();
        return;
    }
    socket.write_all(head.as_bytes()).await.ok();
    while socket.write_all(part).await.is_ok() {
        count.fetch_add(part.len(), Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
}

const ENDLESS: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n[";
const REFUSAL: &str = "HTTP/1.1 422 No\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n";
static SMALL: [[u8; 3]; 4096] = [*b"[],"; 4096];
static BLANK: [u8; 4096] = [b' '; 4096];

#[tokio::test]
async fn of_a_refusal_only_the_beginning_is_read() {
    let (url, written) = flood(REFUSAL, &BLANK, Duration::ZERO).await;
    let error = error_of(client(config(&url)).whoami().await);
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    let read = written.load(Ordering::Relaxed);
    assert!(read < 16 << 20, "{read} bytes were taken");
}

/// Eight million of these are 24 MiB of text, and would be half a gigabyte of list.
#[tokio::test]
async fn a_streamed_list_of_small_records_is_bounded_by_what_it_would_become() {
    let (url, written) = flood(ENDLESS, SMALL.as_flattened(), Duration::ZERO).await;
    let client = client(config(&url));
    let error = error_of(client.list_resources("host", Page::FIRST).await);
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    let error = error_of(client.all_role_memberships("host", "a").await);
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    let read = written.load(Ordering::Relaxed);
    assert!(read < 16 << 20, "{read} bytes were taken");
}

/// Whatever the route: what is held of an answer is paid for, also where the server doesn't say how long it will be.
#[tokio::test]
async fn an_answer_without_a_length_takes_its_share_as_it_grows() {
    for (route, party) in
        ["version", "whoami", "list", "roles", "load", "effective policy"].into_iter().zip(b'a'..)
    {
        let party = format!("unmeasured-{}", char::from(party));
        let (url, written) = flood(ENDLESS, &BLANK, Duration::from_micros(100)).await;
        let client = client(Config { party: party.as_str().into(), ..config(&url) });
        let memory = client.session().transport.memory().clone();
        let paid = |party: &str| memory.answers().held_by(party);
        let asked = tokio::spawn(async move {
            let branch = PolicyBranch::new("apps").unwrap();
            match route {
                "version" => drop(client.server_version().await),
                "whoami" => drop(client.whoami().await),
                "list" => drop(client.list_variables(None, Priority::Refresh, Freshness::Remembered).await),
                "roles" => drop(client.permitted_roles("host", "a", "read").await),
                "load" => drop(client.load_policy(&branch, LoadMode::Update, b"").await),
                _ => drop(client.effective_policy(&branch).await),
            }
        });
        until(route, || async { written.load(Ordering::Relaxed) > 2 << 20 || asked.is_finished() }).await;
        let held = paid(&party);
        // What the sockets hold is written, and not yet read.
        assert!(asked.is_finished() || held > 100_000, "{route}: {held}");
        assert!(!asked.is_finished(), "{route} was read to its end before anybody looked");
        asked.abort();
        until("all is given back", || async { paid(&party) == 0 }).await;
    }
}

/// A runtime with one thread for what blocks: 8 streams that stand still leave it to others.
#[test]
fn streams_that_stand_still_hold_no_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (url, written) = flood(ENDLESS, &BLANK, Duration::from_secs(60)).await;
        let mut config = config(&url);
        config.limits.max_connections = 8;
        let client = client(config);
        let streams: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.list_resources("host", Page::FIRST).await })
            })
            .collect();
        until("they stand", || async { written.load(Ordering::Relaxed) >= 4 * BLANK.len() }).await;
        let free = tokio::time::timeout(Duration::from_secs(5), tokio::task::spawn_blocking(|| 1));
        assert_eq!(free.await.expect("a thread is free").unwrap(), 1);
        streams.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[tokio::test]
async fn an_answer_that_is_held_is_bounded_by_its_records_too() {
    let server = server().await;
    let many = format!("[{}]", vec!["\"a:b:c\""; 1_000_000].join(","));
    mount(&server, "GET", "/resources/", move |_: &Request| json(200, many.clone())).await;
    let client = client(config(&server.uri()));
    let error = error_of(client.permitted_roles("variable", "x", "read").await);
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    let error = error_of(client.list_variables(None, Priority::Refresh, Freshness::Remembered).await);
    assert!(!error.is_connection(), "{error:?}");
}

#[tokio::test]
async fn a_list_whose_pages_never_end_is_given_up() {
    for new in [0, 1, 998] {
        let (server, pages) = (server().await, Mutex::new(0_usize));
        mount(&server, "GET", "^/resources/demo/variable$", move |request: &Request| {
            let mut pages = pages.lock().unwrap();
            *pages += 1;
            let limit = request.url.query_pairs().find(|(name, _)| name == "limit").unwrap().1;
            let limit: usize = limit.parse().unwrap();
            let id = |at: usize| {
                if at > new {
                    0
                } else if at == 0 {
                    (*pages - 1) * new
                } else {
                    *pages * new + at
                }
            };
            let page: Vec<_> = (0..limit)
                .map(|at| json!({ "id": format!("demo:variable:{}", id(at)), "secrets": [] }))
                .collect();
            json(200, serde_json::to_string(&page).unwrap())
        })
        .await;
        let mut config = config(&server.uri());
        config.limits.requests_per_second = 100_000;
        let error =
            error_of(client(config).list_variables(None, Priority::Refresh, Freshness::Remembered).await);
        assert!(!error.is_connection(), "{error:?}");
        assert!(count(&server, "/resources/").await <= limits::LIST_RECORDS / 1_000 + 1);
    }
}

/// A policy's work keeps what it lists until it is done: so long that counts, and no longer.
#[tokio::test]
async fn what_is_listed_counts_until_the_work_that_keeps_it_is_done() {
    use futures::TryStreamExt;
    let server = server().await;
    mount(&server, "GET", "^/resources/demo/host$", |_: &Request| {
        let hosts: Vec<_> = (0..500)
            .map(|at| json!({ "id": format!("demo:host:{at}"), "owner": "o", "created_at": "t" }))
            .collect();
        json(200, serde_json::to_string(&hosts).unwrap())
    })
    .await;
    let client = client(Config { party: "lists".into(), ..config(&server.uri()) });
    let listing = Listing::of_kind("host");
    let memory = client.session().transport.memory().clone();
    let held = || memory.lists().held_by("lists");
    memory_budget::until_done(async {
        let listed: Vec<_> = client.list_pages(&listing, 1000).try_collect().await.unwrap();
        assert_eq!(listed.iter().map(Vec::len).sum::<usize>(), 500);
        assert!(held() > 500 * std::mem::size_of::<Resource>(), "{}", held());
    })
    .await;
    assert_eq!(held(), 0);
}

#[tokio::test]
async fn a_list_of_megabytes_of_annotations_is_given_up() {
    let server = server().await;
    mount(&server, "GET", "^/resources/demo/variable$", |request: &Request| {
        let asked = |name: &str| -> usize {
            let found = request.url.query_pairs().find(|(key, _)| key == name).unwrap().1;
            found.parse().unwrap()
        };
        let note = [json!({ "name": "a", "value": "x".repeat(2_000) })];
        let ids = asked("offset")..asked("offset") + asked("limit");
        let page: Vec<_> =
            ids.map(|at| json!({ "id": format!("demo:variable:{at}"), "annotations": note })).collect();
        json(200, serde_json::to_string(&page).unwrap())
    })
    .await;
    let mut config = config(&server.uri());
    config.limits.requests_per_second = 100_000;
    let error = error_of(client(config).list_variables(None, Priority::Refresh, Freshness::Remembered).await);
    assert!(matches!(error, Error::TooLarge { limit: limits::LIST_BYTES, .. }), "{error:?}");
    let pages = count(&server, "/resources/").await;
    assert!(pages < 2 * limits::LIST_BYTES / 2_000 / 1_000 + 2, "{pages} pages");
}

#[test]
fn a_pause_that_a_server_asks_for_is_never_endless() {
    let seconds = Duration::from_secs;
    let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
    for (text, now, expected) in [
        ("1", None, Some(seconds(1))),
        (" 8 ", None, Some(seconds(8))),
        ("0", None, Some(Duration::ZERO)),
        ("601", None, Some(limits::RETRY_AFTER)),
        ("18446744073709551615", None, Some(limits::RETRY_AFTER)),
        ("99999999999999999999999999999999", None, Some(limits::RETRY_AFTER)),
        ("-1", None, None),
        ("1.5", None, None),
        ("", None, None),
        ("soon", date, None),
        ("Sun, 06 Nov 1994 08:51:37 GMT", date, Some(seconds(120))),
        ("Sun, 06 Nov 1994 08:51:37 GMT", None, None),
        ("Sun, 06 Nov 1994 08:40:37 GMT", date, None),
        ("Thu, 30 Dec 9999 00:00:00 GMT", date, Some(limits::RETRY_AFTER)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", date, None),
        ("Mon, 01 Jan 0001 00:00:00 GMT", date, None),
        ("Sun, 06 Nov 1994 08:51:37 GMT", Some("never"), None),
    ] {
        assert_eq!(response::retry_after(text, now), expected, "{text:?}");
    }
}

#[tokio::test]
async fn a_busy_branch_is_left_alone_for_a_minute_at_most() {
    let server = server().await;
    mount(&server, "PATCH", "/policies/", |_: &Request| {
        ResponseTemplate::new(409).insert_header("retry-after", "18446744073709551615")
    })
    .await;
    let branch = PolicyBranch::new("apps").unwrap();
    let error = client(config(&server.uri())).load_policy(&branch, LoadMode::Update, b"").await.unwrap_err();
    let LoadError::Refused(error) = error else { panic!("{error:?}") };
    assert_eq!(error.retry_after(), Some(limits::RETRY_AFTER_LOAD));
}

#[tokio::test]
async fn a_role_that_a_load_names_oddly_costs_only_its_own_key() {
    let server = server().await;
    mount(&server, "PATCH", "/policies/", |_: &Request| {
        json(201, r#"{"created_roles":{"odd":{"api_key":"k1"},"demo:host:a":{"api_key":"k2"}},"version":2}"#)
    })
    .await;
    let branch = PolicyBranch::new("apps").unwrap();
    let loaded = client(config(&server.uri())).load_policy(&branch, LoadMode::Update, b"").await.unwrap();
    assert_eq!(loaded.created_roles.keys().map(ToString::to_string).collect::<Vec<_>>(), ["demo:host:a"]);
}

#[tokio::test]
async fn who_is_not_let_in_is_told_of_the_authenticator() {
    let server = MockServer::start().await;
    mount(&server, "POST", "/authenticate$", |_: &Request| ResponseTemplate::new(403)).await;
    let error = error_of(client(config(&server.uri())).whoami().await);
    assert!(matches!(error, Error::Unauthenticated { .. }) && error.is_connection(), "{error:?}");
    let message = error.to_string();
    for part in ["host/apps/web", "`authenticate`", "webservice", "restricted_to"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("lacks login"), "{message}");
}

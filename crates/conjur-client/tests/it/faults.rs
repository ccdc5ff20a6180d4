//! What goes wrong on the way, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use conjur_client::{
    Client, Error, Freshness, Limits, LoadError, LoadMode, PolicyBranch, Priority, VariableId, Wanted,
};
use conjur_dev::{Effect, Fault, Kind, Options, Server, When};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Target, key};

/// A server that gives tokens, answers all else with `bytes` as they are, and hangs up.
struct Blunt {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Blunt {
    async fn start(bytes: Vec<u8>, then: fn(TcpStream)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (bytes, count) = (bytes.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                        if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    if request.starts_with(b"POST /authn/") {
                        socket.write_all(token().as_bytes()).await.ok();
                        return;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    socket.write_all(&bytes).await.ok();
                    then(socket);
                });
            }
        });
        Self { url, asked }
    }

    fn client(&self) -> Client {
        let target =
            Target { url: self.url.clone(), account: "demo".to_owned(), admin_key: "key".to_owned() };
        let mut config = target.config(key("admin", "key"));
        config.limits =
            Limits { timeout: Duration::from_secs(20), requests_per_second: 10_000, ..Limits::default() };
        Client::new(config).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn token() -> String {
    let payload = URL_SAFE.encode(r#"{"iat":1000,"exp":1480}"#);
    let body = format!(r#"{{"protected":"cA==","payload":"{payload}","signature":"cw=="}}"#);
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn hang_up(_: TcpStream) {}

fn reset(socket: TcpStream) {
    socket.set_zero_linger().unwrap();
    drop(socket);
}

/// Zeros without end, until the other side has had enough.
fn pour(mut socket: TcpStream) {
    tokio::spawn(async move {
        let zeros = vec![b'0'; 1 << 16];
        for _ in 0..(1 << 14) {
            if socket.write_all(&zeros).await.is_err() {
                return;
            }
        }
    });
}

fn branch() -> PolicyBranch {
    PolicyBranch::new("root").unwrap()
}

async fn fetch(client: &Client, id: &str) -> Result<Vec<u8>, Error> {
    let wanted = [Wanted::latest(VariableId::new(id).unwrap())];
    let mut answers =
        client.fetch_variables(&wanted, Priority::Foreground, Freshness::NoOlderThan(Duration::ZERO)).await;
    answers.remove(&wanted[0]).unwrap().map(|value| value.expose().clone())
}

#[tokio::test]
async fn a_refused_connection_is_tried_three_times_and_is_the_connections_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let nobody = Blunt { url, asked: Arc::default() };
    for error in [
        nobody.client().whoami().await.expect_err("nobody"),
        fetch(&nobody.client(), "v").await.expect_err("nobody"),
    ] {
        assert!(matches!(error, Error::Unavailable { .. }) && error.is_connection(), "{error:?}");
        assert!(error.to_string().contains("can't be reached"), "{error}");
    }
    let load = nobody.client().load_policy(&branch(), LoadMode::Append, b"- !host a\n").await;
    assert!(matches!(load, Err(LoadError::Refused(Error::Unavailable { .. }))), "nothing was sent: {load:?}");
}

#[tokio::test]
async fn a_reset_in_the_body_is_repeated_where_that_is_safe() {
    let half =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"account\":"
            .to_vec();
    let server = Blunt::start(half, reset).await;
    let error = server.client().whoami().await.expect_err("a reset");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_eq!(server.asked(), 3);
    let load = server.client().load_policy(&branch(), LoadMode::Append, b"- !host a\n").await;
    assert!(matches!(load, Err(LoadError::Unknown(Error::Unavailable { .. }))), "{load:?}");
    assert_eq!(server.asked(), 4, "a load is sent once");
}

#[tokio::test]
async fn truncated_json_and_html_are_not_an_api() {
    for (kind, body) in [
        ("application/json", r#"{"account":"demo","usern"#),
        ("application/json", "[]"),
        ("text/html", "<html>Welcome! Sign in, please.</html>"),
    ] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let server = Blunt::start(answer.into_bytes(), hang_up).await;
        let client = server.client();
        let whoami = client.whoami().await.expect_err("no JSON");
        let list = client.list_resources("group", conjur_client::Page::FIRST).await;
        for error in [whoami].into_iter().chain(list.err()) {
            assert!(matches!(error, Error::Unexpected { status: Some(200), .. }), "{error:?}");
            assert!(!error.to_string().contains("Welcome"), "{error}");
        }
        let batch = fetch(&client, "v").await.expect_err("no batch");
        assert!(matches!(batch, Error::Unexpected { status: Some(200), .. }), "{batch:?}");
        let load = client.load_policy(&branch(), LoadMode::Append, b"- !host a\n").await;
        assert!(matches!(load, Err(LoadError::Unknown(_))), "it may be loaded: {load:?}");
    }
}

#[tokio::test]
async fn a_gibibyte_is_not_read() {
    let declared =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n".to_vec();
    let endless = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    for head in [declared, endless] {
        let server = Blunt::start(head, pour).await;
        let client = server.client();
        for error in [
            client.whoami().await.expect_err("too large"),
            client.fetch_secret("variable", "v", None).await.expect_err("too large"),
            fetch(&client, "v").await.expect_err("too large"),
        ] {
            assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
            assert!(!error.is_connection(), "{error}");
        }
        let list = client.list_resources("group", conjur_client::Page::FIRST).await;
        let error = list.expect_err("nothing but zeros");
        assert!(matches!(error, Error::Unexpected { status: Some(200), .. }), "read as it comes: {error:?}");
    }
}

async fn dev() -> (Server, Client) {
    let server = Server::start(Options::default()).await.unwrap();
    server.load_root("- !variable v\n- !host web\n- !permit\n  role: !host web\n  privileges: [ read, execute ]\n  resource: !variable v\n").await.unwrap();
    assert!(server.set_variable("v", b"value"));
    let admin = Target::of(&server).admin();
    (server, admin)
}

fn fault(path: &str, count: u64, effect: Effect) -> Fault {
    Fault { method: None, path: path.to_owned(), count: Some(count), when: When::Before, effect }
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for_and_a_long_one_handed_on() {
    for status in [429, 503] {
        let (server, admin) = dev().await;
        server.fault(fault("/secrets", 1, Effect::Status { status, retry_after: Some(1) }));
        let start = Instant::now();
        assert_eq!(fetch(&admin, "v").await.unwrap(), b"value");
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        for (asked, handed_on) in [(300, 300), (3600, 600)] {
            server.fault(fault("/secrets", 1, Effect::Status { status, retry_after: Some(asked) }));
            let error = fetch(&admin, "v").await.expect_err("limited");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(handed_on)), "{error:?}");
            assert!(matches!(error, Error::RateLimited { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_stalled_server_meets_the_deadline() {
    let (server, _) = dev().await;
    let target = Target::of(&server);
    let mut config = target.config(key("admin", &target.admin_key));
    config.limits.timeout = Duration::from_millis(500);
    let client = Client::new(config).unwrap();
    server.fault(fault("/secrets", 10, Effect::Stall));
    let start = Instant::now();
    let error = fetch(&client, "v").await.expect_err("stalled");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    server.clear_faults();
    assert_eq!(fetch(&client, "v").await.unwrap(), b"value", "the permit is free again");
}

#[tokio::test]
async fn an_expired_token_is_renewed_once_and_the_call_repeated() {
    let (server, admin) = dev().await;
    fetch(&admin, "v").await.unwrap();
    server.expire_tokens();
    assert_eq!(fetch(&admin, "v").await.unwrap(), b"value");
    assert_eq!(server.count(Kind::Authenticate), 2);
    server.expire_tokens();
    admin.load_policy(&branch(), LoadMode::Append, b"- !host b\n").await.expect("a 401 did nothing yet");
}

#[tokio::test]
async fn a_host_that_is_deleted_between_two_calls_is_forbidden_and_then_a_stranger() {
    let (server, admin) = dev().await;
    let target = Target::of(&server);
    let mut config = target.config(key("host/web", &server.api_key_of("host/web").unwrap()));
    config.token_refresh_interval = Duration::from_secs(400);
    let web = Client::new(config).unwrap();
    assert_eq!(fetch(&web, "v").await.unwrap(), b"value");
    admin.load_policy(&branch(), LoadMode::Update, b"- !delete\n  record: !host web\n").await.unwrap();
    let error = fetch(&web, "v").await.expect_err("deleted");
    assert!(matches!(error, Error::Forbidden { .. }), "a deleted role's token gets 403: {error:?}");
    server.expire_tokens();
    let error = fetch(&web, "v").await.expect_err("deleted");
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
}

#[tokio::test]
async fn a_load_whose_answer_is_lost_is_unknown_and_not_sent_again() {
    for effect in [Effect::Reset, Effect::Truncate, Effect::Status { status: 502, retry_after: None }] {
        let (server, admin) = dev().await;
        let count = Some(1);
        server.fault(Fault { method: None, path: "/policies".to_owned(), count, when: When::After, effect });
        let load = admin.load_policy(&branch(), LoadMode::Append, b"- !host b\n").await;
        assert!(matches!(load, Err(LoadError::Unknown(_))), "{effect:?}: {load:?}");
        assert_eq!(server.policy_versions("root").len(), 2, "{effect:?}");
    }
}

/// Answers of any kind: a status, a content type, headers that change the meaning, and bytes.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        Just(200_u16),
        Just(201),
        Just(204),
        Just(304),
        Just(400),
        Just(401),
        Just(403),
        Just(404),
        Just(409),
        Just(422),
        Just(500),
        200_u16..600,
    ];
    let header = prop_oneof![
        Just("content-encoding: base64\r\n"),
        Just("content-encoding: gzip\r\n"),
        Just("retry-after: x\r\n"),
        Just("retry-after: 99999999999999999999\r\n"),
        Just("location: //\r\n"),
        Just(""),
    ];
    let body = prop_oneof![
        Just(br#"{"demo:variable:v":"!"}"#.to_vec()),
        Just(br#"{"error":{"code":1}}"#.to_vec()),
        Just(br#"{"error":{"code":"c","message":"demo:variable:v"}}"#.to_vec()),
        Just(br#"{"created_roles":{"x":{"api_key":""}},"version":-1}"#.to_vec()),
        Just(b"[[[[".to_vec()),
        Just(b"null".to_vec()),
        Just(Vec::new()),
        Just(br#"[{"id":"::"}]"#.to_vec()),
        proptest::collection::vec(any::<u8>(), 0..200),
    ];
    (status, prop_oneof![Just("application/json"), Just("text/html")], header, body).prop_map(
        |(status, kind, header, body)| {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{header}content-length: {length}\r\n\r\n"
            );
            [head.into_bytes(), body].concat()
        },
    )
}

/// Every kind of call; what matters is that each comes back.
async fn everything(client: &Client) {
    use conjur_client::{Listing, Members, RoleId};
    let role: RoleId = "demo:host:x".parse().unwrap();
    let listing = Listing::default();
    let _results = (
        client.whoami().await.is_ok(),
        client.server_version().await.is_ok(),
        fetch(client, "v").await.is_ok(),
        client.fetch_secret("variable", "v", Some(1)).await.is_ok(),
        client.set_secret("variable", "v", b"x").await.is_ok(),
        client.load_policy(&branch(), LoadMode::Append, b"x").await.is_ok(),
        client.dry_run_policy(&branch(), LoadMode::Append, b"x").await.is_ok(),
        client.effective_policy(&branch()).await.is_ok(),
        client.effective_policy_json(&branch()).await.is_ok(),
        client.policy_versions(&branch()).await.is_ok(),
        client.owns_branch(&branch()).await.is_ok(),
        client.list(&listing, conjur_client::Page::FIRST).await.is_ok(),
    );
    let _results = (
        client.count_resources(&listing).await.is_ok(),
        client.show_resource("host", "x").await.is_ok(),
        client.show_role("host", "x").await.is_ok(),
        client.role_members("host", "x", &Members::default()).await.is_ok(),
        client.all_role_memberships("host", "x").await.is_ok(),
        client.permitted_roles("host", "x", "read").await.is_ok(),
        client.rotate_api_key(&role).await.is_ok(),
        client.login("alice", &super::secret("p")).await.is_ok(),
        client.change_password("alice", &super::secret("p"), &super::secret("q")).await.is_ok(),
        client.create_host_factory_tokens("f", jiff::Timestamp::UNIX_EPOCH, &[], 1).await.is_ok(),
        client.revoke_host_factory_token(&super::secret("t")).await.is_ok(),
        client.create_host(&super::secret("t"), "h", &std::collections::BTreeMap::new()).await.is_ok(),
    );
}

#[test]
fn whatever_the_server_answers_every_call_comes_back() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(answer in answers())| {
        runtime.block_on(async {
            let server = Blunt::start(answer.clone(), hang_up).await;
            let done = tokio::time::timeout(Duration::from_secs(60), everything(&server.client())).await;
            prop_assert!(done.is_ok(), "{}", String::from_utf8_lossy(&answer));
            Ok(())
        })?;
    });
}

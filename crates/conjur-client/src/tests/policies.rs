use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn branch(name: &str) -> PolicyBranch {
    PolicyBranch::new(name).unwrap()
}

fn json(status: u16, body: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(body.to_owned(), "application/json; charset=utf-8")
}

async fn load(server: &MockServer) -> Result<Loaded, LoadError> {
    client(config(&server.uri()))
        .load_policy(&branch("apps/billing"), LoadMode::Update, b"- !variable v\n")
        .await
}

#[tokio::test]
async fn a_load_gives_the_keys_of_created_roles_and_debug_does_not() {
    let server = server().await;
    mount(&server, "PATCH", "^/policies/demo/policy/apps%2Fbilling$", |request: &Request| {
        assert_eq!(request.body, b"- !variable v\n");
        json(201, r#"{"created_roles":{"demo:host:apps/web":{"id":"demo:host:apps/web","api_key":"s3cr3tk3y"}},"version":7}"#)
    })
    .await;
    let loaded = load(&server).await.unwrap();
    assert_eq!(loaded.version, 7);
    let (role, key) = loaded.created_roles.first_key_value().unwrap();
    assert_eq!((role.login().as_str(), key.expose().as_str()), ("host/apps/web", "s3cr3tk3y"));
    assert!(!format!("{loaded:?}").contains("s3cr3tk3y"));
}

#[tokio::test]
async fn what_the_server_refuses_was_not_loaded() {
    let invalid = r#"{"error":{"code":"policy_invalid","message":"Error at line 0, column 2 in policy : Unexpected mapping","innererror":{"code":"policy_invalid","filename":"policy","line":0,"column":2}}}"#;
    let missing = r#"{"error":{"code":"not_found","message":"Policy 'x' not found in account 'demo'","target":"policy"}}"#;
    let busy = r#"{"error":{"code":"policy_conflict","message":"Concurrent policy load in progress, please retry"}}"#;
    for (answer, expected) in [
        (json(422, invalid), "Unexpected mapping"),
        (json(404, missing), "policy branch apps/billing is missing, or not visible to host/apps/web"),
        (
            ResponseTemplate::new(403),
            "may see policy branch apps/billing but lacks the update privilege on it",
        ),
        (json(409, busy).insert_header("retry-after", "6"), "Concurrent policy load in progress"),
        (ResponseTemplate::new(413), "413"),
        (ResponseTemplate::new(429).insert_header("retry-after", "1"), "asks to wait 1 s"),
    ] {
        let server = server().await;
        mount(&server, "PATCH", "/policies/", move |_: &Request| answer.clone()).await;
        match load(&server).await {
            Err(LoadError::Refused(error)) => {
                assert!(error.to_string().contains(expected), "{error}");
                match error {
                    Error::Invalid { line, column, code, .. } if code == "policy_invalid" => {
                        assert_eq!((line, column), (Some(0), Some(2)));
                    }
                    Error::Conflict { retry_after, .. } => {
                        assert_eq!(retry_after, Some(Duration::from_secs(6)));
                    }
                    _ => {}
                }
            }
            other => panic!("{expected}: {other:?}"),
        }
        assert_eq!(count(&server, "/policies/").await, 1, "never repeated");
    }
}

#[tokio::test]
async fn an_answer_that_leaves_it_open_is_of_unknown_outcome() {
    for answer in [
        ResponseTemplate::new(500),
        ResponseTemplate::new(502),
        ResponseTemplate::new(503).insert_header("retry-after", "1"),
        ResponseTemplate::new(504),
        ResponseTemplate::new(408),
        json(201, r#"{"created_roles":{"demo:host:a":{"api_key":"s3cr3tk3y""#),
        ResponseTemplate::new(200).set_body_raw("<html>s3cr3tk3y", "text/html"),
    ] {
        let server = server().await;
        mount(&server, "PATCH", "/policies/", move |_: &Request| answer.clone()).await;
        let error = load(&server).await.unwrap_err();
        assert!(matches!(error, LoadError::Unknown(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("s3cr3tk3y"), "{error:?}");
        assert_eq!(count(&server, "/policies/").await, 1, "never repeated");
    }
}

#[tokio::test]
async fn a_load_that_is_too_slow_is_of_unknown_outcome() {
    let server = server().await;
    mount(&server, "PATCH", "/policies/", |_: &Request| {
        json(201, r#"{"version":1}"#).set_delay(Duration::from_secs(60))
    })
    .await;
    let mut config = config(&server.uri());
    config.limits.policy_timeout = Duration::from_millis(300);
    let result = client(config).load_policy(&branch("root"), LoadMode::Update, b"x").await;
    assert!(matches!(result, Err(LoadError::Unknown(Error::Unavailable { .. }))), "{result:?}");
}

#[tokio::test]
async fn a_reset_during_a_load_is_of_unknown_outcome_and_no_connection_is_a_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = Arc::clone(&stop);
    let serving = tokio::spawn(async move {
        loop {
            let (mut socket, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                () = stopped.notified() => return,
            };
            let mut buffer = [0; 4096];
            let read = socket.read(&mut buffer).await.unwrap_or(0);
            if buffer[..read].starts_with(b"POST /authn") {
                let body = r#"{"payload":""}"#;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                socket.write_all(answer.as_bytes()).await.ok();
            }
        }
    });
    let client = client(config(&url));
    let result = client.load_policy(&branch("root"), LoadMode::Append, b"x").await;
    assert!(matches!(result, Err(LoadError::Unknown(Error::Unavailable { .. }))), "{result:?}");
    stop.notify_one();
    serving.await.unwrap();
    let result = client.load_policy(&branch("root"), LoadMode::Append, b"x").await;
    assert!(matches!(result, Err(LoadError::Refused(Error::Unavailable { .. }))), "{result:?}");
}

#[tokio::test]
async fn an_expired_token_renews_and_repeats_a_load_for_nothing_was_done() {
    let server = server().await;
    let first = AtomicBool::new(true);
    mount(&server, "PATCH", "/policies/", move |_: &Request| {
        if first.swap(false, Ordering::SeqCst) {
            ResponseTemplate::new(401)
        } else {
            json(201, r#"{"version":2}"#)
        }
    })
    .await;
    assert_eq!(load(&server).await.unwrap().version, 2);
}

#[tokio::test]
async fn ownership_is_told_by_a_check_that_nobody_else_passes() {
    let missing = r#"{"error":{"code":"not_found","message":"Policy 'x' not found in account 'demo'"}}"#;
    for (answer, expected) in [
        (ResponseTemplate::new(204), Ownership::Owner),
        (ResponseTemplate::new(404).insert_header("content-type", "text/html"), Ownership::NotOwner),
        (json(404, missing), Ownership::NoBranch),
    ] {
        let server = server().await;
        mount(&server, "GET", "^/resources/demo/policy/apps%2Fbilling$", move |request: &Request| {
            assert!(request.url.query().unwrap().starts_with("check=true&privilege="));
            answer.clone()
        })
        .await;
        assert_eq!(
            client(config(&server.uri())).owns_branch(&branch("apps/billing")).await.unwrap(),
            expected
        );
    }
    let server = server().await;
    mount(&server, "GET", "^/resources/demo/host_factory/apps%2Ff$", |request: &Request| {
        assert!(request.url.query().unwrap().starts_with("check=true&privilege="));
        ResponseTemplate::new(404).insert_header("content-type", "text/html")
    })
    .await;
    let owns = client(config(&server.uri())).owns_host_factory("apps/f").await.unwrap();
    assert_eq!(owns, Ownership::NotOwner);
}

#[tokio::test]
async fn versions_are_read_past_texts_larger_than_what_is_held_in_memory() {
    let server = server().await;
    let text = "- !variable \\u0061\\n".repeat(100_000);
    let version = |number: u32, end: &str| {
        format!(
            r#"{{"version":{number},"created_at":"2026-11-22T02:39:05.527+00:00","policy_text":"{text}","policy_sha256":"f316","finished_at":{end},"client_ip":"127.0.0.1","id":"demo:policy:x","role":"demo:host:a"}}"#
        )
    };
    let versions: Vec<_> =
        (1..=10).rev().map(|n| version(n, if n == 10 { "null" } else { "\"t\"" })).collect();
    let body = format!(
        r#"{{"created_at":"2026-11-22","id":"demo:policy:x","owner":"demo:user:admin","policy_versions":[{}],"annotations":[{{"name":"a","value":"1","policy":"p"}}]}}"#,
        versions.join(",")
    );
    assert!(body.len() > session::BODY_LIMIT);
    mount(&server, "GET", "/resources/", move |_: &Request| json(200, &body)).await;
    let client = client(config(&server.uri()));
    let versions = client.policy_versions(&branch("x")).await.unwrap();
    assert_eq!(
        versions.iter().map(|version| version.version).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
    assert_eq!((versions[0].sha256.as_str(), versions[0].role.as_str()), ("f316", "demo:host:a"));
    assert_eq!((versions[0].finished_at.as_deref(), versions[9].finished_at.as_deref()), (Some("t"), None));
    let shown = client.show_resource("policy", "x").await.unwrap().unwrap();
    assert_eq!((shown.owner.as_str(), shown.annotations[0].value.as_str()), ("demo:user:admin", "1"));
}

#[tokio::test]
async fn what_is_missing_is_none_to_show_and_an_error_to_list_versions_of() {
    let server = server().await;
    let missing = r#"{"error":{"code":"not_found","message":"Policy 'x' not found in account 'demo'"}}"#;
    mount(&server, "GET", "/resources/", move |_: &Request| json(404, missing)).await;
    let client = client(config(&server.uri()));
    assert_eq!(client.show_resource("host", "a/b").await.unwrap(), None);
    let error = error_of(client.policy_versions(&branch("x")).await);
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_list_is_one_page_of_resources() {
    let server = server().await;
    mount(&server, "GET", "^/resources/demo/variable$", |request: &Request| {
        assert_eq!(request.url.query(), Some("limit=1000&offset=1000"));
        json(200, r#"[{"created_at":"t","id":"demo:variable:a","owner":"demo:user:admin","secrets":[{"version":1}]}]"#)
    })
    .await;
    let listed = client(config(&server.uri()))
        .list_resources("variable", Page { limit: 1000, offset: 1000 })
        .await
        .unwrap();
    assert_eq!(listed[0].id, "demo:variable:a");
}

#[tokio::test]
async fn another_roles_key_is_rotated_and_the_callers_own_is_not() {
    let server = server().await;
    mount(&server, "PUT", "^/authn/demo/api_key$", |request: &Request| {
        assert_eq!(request.url.query(), Some("role=demo:host:apps/b%2Cc"));
        ResponseTemplate::new(200).set_body_raw("n3wk3y", "text/plain")
    })
    .await;
    let client = client(config(&server.uri()));
    let key = client.rotate_api_key(&"demo:host:apps/b,c".parse().unwrap()).await.unwrap();
    assert_eq!(key.expose(), "n3wk3y");
    let error = error_of(client.rotate_api_key(&"demo:host:apps/web".parse().unwrap()).await);
    assert!(error.to_string().contains("is the caller itself"), "{error}");
    assert_eq!(count(&server, "/api_key").await, 1);
}

/// A kept connection may be closed by the server as the load is sent, which would leave its outcome unknown.
#[tokio::test]
async fn a_load_has_a_connection_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (requests, mut seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                    let body = r#"{"payload":"","account":"a","username":"u","version":1}"#;
                    let verb = String::from_utf8_lossy(&buffer[..read]).split('/').nth(1).unwrap().to_owned();
                    requests.send((connection, verb)).unwrap();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    socket.write_all(head.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let client = client(config(&url));
    client.whoami().await.unwrap();
    client.load_policy(&branch("root"), LoadMode::Append, b"").await.unwrap();
    let mut next = || seen.try_recv().unwrap();
    assert_eq!(next(), (0, "authn".to_owned()));
    assert_eq!(next().0, 0, "kept");
    assert_eq!(next(), (1, "policies".to_owned()));
}

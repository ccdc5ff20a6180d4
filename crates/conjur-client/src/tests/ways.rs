//! The ways to log in.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;

use super::*;

const PASSWORD: &str = "Passw0rd-that-nobody:may-see";

fn with(url: &str, credentials: Credentials) -> Config {
    Config { credentials, ..config(url) }
}

fn password() -> Credentials {
    Credentials::Password { login: "alice".to_owned(), password: PASSWORD.to_owned().into() }
}

/// JWTs `jwt+1`, `jwt+2`, …
fn jwt(host_id: Option<&str>) -> Credentials {
    let asked = AtomicUsize::new(0);
    Credentials::Jwt {
        service_id: "dev".to_owned(),
        host_id: host_id.map(str::to_owned),
        source: Arc::new(move || {
            let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
            std::future::ready(Ok(Sensitive::new(format!("jwt+{number}"))))
        }),
    }
}

fn key(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(text, "text/plain")
}

#[tokio::test]
async fn a_password_gives_the_key_once_and_the_key_the_tokens() {
    let server = MockServer::start().await;
    mount(&server, "GET", "^/authn/demo/login$", |request: &Request| {
        let header = request.headers.get("authorization").unwrap().to_str().unwrap().to_owned();
        assert_eq!(header, format!("Basic {}", STANDARD.encode(format!("alice:{PASSWORD}"))));
        key("k1")
    })
    .await;
    mount(&server, "POST", "^/authn/demo/alice/authenticate$", |request: &Request| {
        assert_eq!(request.body, b"k1");
        token(480)
    })
    .await;
    mount(&server, "GET", "/whoami", |_: &Request| whoami()).await;
    let config =
        Config { token_refresh_interval: Duration::from_millis(100), ..with(&server.uri(), password()) };
    let client = client(config);
    for result in join_all((0..20).map(|_| client.whoami())).await {
        result.unwrap();
    }
    until("a renewal", || async {
        client.whoami().await.unwrap();
        count(&server, "/authenticate").await >= 2
    })
    .await;
    assert_eq!(count(&server, "/login").await, 1);
    assert!(!format!("{client:?} {:?}", password()).contains("Passw0rd"));
}

#[tokio::test]
async fn a_key_that_was_rotated_is_asked_for_again() {
    let server = MockServer::start().await;
    let logins = AtomicUsize::new(0);
    mount(&server, "GET", "/login$", move |_: &Request| {
        key(&format!("k{}", logins.fetch_add(1, Ordering::SeqCst) + 1))
    })
    .await;
    let rotated = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let after = Arc::clone(&rotated);
    mount(&server, "POST", "/authenticate$", move |request: &Request| {
        let good: &[u8] = if after.load(Ordering::SeqCst) { b"k2" } else { b"k1" };
        if request.body == good { token(480) } else { ResponseTemplate::new(401) }
    })
    .await;
    mount(&server, "GET", "/whoami", |_: &Request| whoami()).await;
    let config =
        Config { token_refresh_interval: Duration::from_millis(1), ..with(&server.uri(), password()) };
    let client = client(config);
    client.whoami().await.unwrap();
    rotated.store(true, Ordering::SeqCst);
    until("the new key", || async {
        client.whoami().await.unwrap();
        count(&server, "/login").await == 2
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_however_many_wait() {
    let server = MockServer::start().await;
    mount(&server, "GET", "/login$", |_: &Request| ResponseTemplate::new(401)).await;
    let client = client(with(&server.uri(), password()));
    for result in join_all((0..20).map(|_| client.whoami())).await {
        let error = error_of(result);
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        assert!(
            error.to_string().contains("refused the credentials of alice: check login, password"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("Passw0rd"));
    }
    assert_eq!((count(&server, "/login").await, count(&server, "/authenticate").await), (1, 0));
}

#[tokio::test]
async fn a_jwt_is_asked_for_anew_for_each_token_and_sent_as_a_form() {
    let server = MockServer::start().await;
    mount(&server, "POST", "^/authn-jwt/dev/demo/authenticate$", |request: &Request| {
        assert_eq!(request.headers.get("content-type").unwrap(), "application/x-www-form-urlencoded");
        assert!(request.body.starts_with(b"jwt=jwt%2B"), "{:?}", request.body);
        token(480)
    })
    .await;
    mount(&server, "GET", "/whoami", |_: &Request| whoami()).await;
    let config =
        Config { token_refresh_interval: Duration::from_millis(50), ..with(&server.uri(), jwt(None)) };
    let client = client(config);
    assert!(format!("{client:?}").contains("the JWT for authn-jwt/dev"));
    until("a renewal", || async {
        client.whoami().await.unwrap();
        count(&server, "/authenticate").await >= 2
    })
    .await;
    let requests = server.received_requests().await.unwrap();
    let bodies: Vec<_> = requests
        .iter()
        .filter(|request| !request.body.is_empty())
        .map(|request| request.body.clone())
        .collect();
    assert_eq!(bodies[..2], [b"jwt=jwt%2B1".to_vec(), b"jwt=jwt%2B2".to_vec()]);
    assert!(format!("{client:?}").contains("host/apps/web"), "the token says who it is: {client:?}");
}

#[tokio::test]
async fn the_host_of_a_jwt_is_one_segment_with_or_without_its_kind() {
    for host in ["apps/billing", "host/apps/billing"] {
        let server = MockServer::start().await;
        mount(&server, "POST", "^/authn-jwt/dev/demo/host%2Fapps%2Fbilling/authenticate$", |_: &Request| {
            token(480)
        })
        .await;
        mount(&server, "GET", "/whoami", |_: &Request| whoami()).await;
        client(with(&server.uri(), jwt(Some(host)))).whoami().await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_jwt_says_what_to_check_and_whether_it_has_expired() {
    let server = MockServer::start().await;
    let expired = AtomicUsize::new(0);
    mount(&server, "POST", "/authenticate$", move |_: &Request| {
        let answer = ResponseTemplate::new(401);
        if expired.fetch_add(1, Ordering::SeqCst) == 0 {
            return answer;
        }
        let body = r#"{"error":{"code":"unauthorized","message":"CONJ00016E Token expired"}}"#;
        answer.set_body_raw(body, "application/json")
    })
    .await;
    let first = error_of(client(with(&server.uri(), jwt(Some("apps/web")))).whoami().await).to_string();
    assert!(first.contains("host/apps/web: check that the authenticator is enabled"), "{first}");
    let second = error_of(client(with(&server.uri(), jwt(None))).whoami().await).to_string();
    assert!(second.contains("(its token has expired)"), "{second}");
}

#[tokio::test]
async fn where_no_jwt_can_be_had_its_reason_goes_to_all_who_wait_and_nothing_is_sent() {
    let server = server().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let credentials = Credentials::Jwt {
        service_id: "dev".to_owned(),
        host_id: None,
        source: Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let message = "ServiceAccount web is missing".to_owned();
            std::future::ready(Err(Error::config(message)))
        }),
    };
    let client = client(with(&server.uri(), credentials));
    for result in join_all((0..20).map(|_| client.whoami())).await {
        assert_eq!(error_of(result).to_string(), "ServiceAccount web is missing");
    }
    assert_eq!((asked.load(Ordering::SeqCst), count(&server, "").await), (1, 0));
}

#[tokio::test]
async fn without_credentials_only_calls_without_a_token_work() {
    let server = server().await;
    mount(&server, "GET", "^/public_keys/demo/user/alice$", |request: &Request| {
        assert!(request.headers.get("authorization").is_none());
        key("ssh-ed25519 A a\nssh-ed25519 B b\n")
    })
    .await;
    let client = client(with(&server.uri(), Credentials::Anonymous));
    assert_eq!(client.public_keys("user", "alice").await.unwrap(), ["ssh-ed25519 A a", "ssh-ed25519 B b"]);
    assert!(matches!(error_of(client.whoami().await), Error::Config { .. }));
    assert_eq!(count(&server, "/authenticate").await, 0);
}

#[test]
fn credentials_that_cannot_work_say_what_is_wrong() {
    let identity = || ClientIdentity { certificate: b"none".to_vec(), key: Sensitive::new(b"none".to_vec()) };
    let certificate =
        || Credentials::Certificate { service_id: "prod".to_owned(), host_id: None, identity: identity() };
    let https = "https://conjur.example.com/";
    let service = |service_id: &str| Credentials::Jwt {
        service_id: service_id.to_owned(),
        host_id: None,
        source: Arc::new(|| std::future::ready(Ok(Sensitive::new(String::new())))),
    };
    for (config, expected) in [
        (with("http://127.0.0.1/", certificate()), "https://"),
        (with(https, certificate()), "can't be read"),
        (
            Config { client_identity: Some(identity()), ..with(https, certificate()) },
            "one client certificate",
        ),
        (Config { client_identity: Some(identity()), ..config("http://127.0.0.1/") }, "https://"),
        (Config { client_identity: Some(identity()), ..config(https) }, "can't be read"),
        (with(https, service("")), "service id"),
        (with(https, service("a/b")), "service id"),
        (with(https, jwt(Some("a//b"))), "not a login"),
        (
            with(https, Credentials::Password { login: "alice".to_owned(), password: String::new().into() }),
            "the password of alice is empty",
        ),
    ] {
        let error = Client::new(config).map(drop).expect_err("an error");
        assert!(matches!(error, Error::Config { .. }) && error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn where_no_answer_has_a_date_the_tokens_own_time_goes_on() {
    let server = server().await;
    let undated = || whoami().insert_header("date", "soon");
    mount(&server, "GET", "^/whoami$", move |_: &Request| undated()).await;
    let client = client(config(&server.uri()));
    // The token was made at second 1,000.
    let now = client.server_date().await.unwrap().as_second();
    assert!((1000..1010).contains(&now), "{now}");
}

#[tokio::test]
async fn only_conjurs_own_refusal_says_that_a_key_is_not_valid() {
    let server = MockServer::start().await;
    let (role, key) = ("demo:host:apps/web".parse().unwrap(), Sensitive::new(KEY.to_owned()));
    let client = client(config(&server.uri()));
    for (answer, expected) in [
        (ResponseTemplate::new(200).set_body_raw(KEY, "text/plain"), Ok(true)),
        (ResponseTemplate::new(401).set_body_raw("", "text/html"), Ok(false)),
        (
            ResponseTemplate::new(401).insert_header("www-authenticate", "Basic realm=proxy"),
            Err("Unauthenticated"),
        ),
        (ResponseTemplate::new(401).set_body_raw("<html>log in</html>", "text/html"), Err("Unauthenticated")),
        (ResponseTemplate::new(200).set_body_raw("<html>log in</html>", "text/html"), Err("Unexpected")),
        (ResponseTemplate::new(403), Err("Forbidden")),
        (ResponseTemplate::new(503), Err("Unavailable")),
    ] {
        server.reset().await;
        let given = answer.clone();
        mount(&server, "GET", "^/authn/demo/login$", move |_: &Request| given.clone()).await;
        let found = client.is_api_key_valid(&role, &key, Priority::Refresh).await;
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected),
            (Err(error), Err(name)) => {
                assert!(format!("{error:?}").starts_with(name), "{error:?}");
                assert!(!error.to_string().contains(KEY), "{error}");
            }
            _ => panic!("{found:?}, not {expected:?}"),
        }
        let asked = server.received_requests().await.unwrap();
        let basic = asked[0].headers["authorization"].to_str().unwrap();
        assert!(basic.starts_with("Basic "), "with no token: {basic}");
    }
}

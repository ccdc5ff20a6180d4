use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;

use super::*;

fn authorization(request: &Request) -> String {
    request.headers.get("authorization").map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn fifty_callers_cost_one_authentication() {
    let server = server().await;
    mount(&server, "GET", "/whoami", |_: &Request| whoami()).await;
    let client = client(config(&server.uri()));
    for result in join_all((0..50).map(|_| client.whoami())).await {
        assert_eq!(result.unwrap().username, "host/apps/web");
    }
    assert_eq!(count(&server, "/authenticate").await, 1);
}

#[tokio::test]
async fn the_login_is_one_segment_the_key_goes_as_given_and_the_header_is_exact() {
    let server = MockServer::start().await;
    mount(&server, "POST", "^/api/authn/demo/host%2Fapps%2Fweb/authenticate$", |request: &Request| {
        assert_eq!(request.body, KEY.as_bytes());
        assert!(request.headers.get("accept-encoding").is_none());
        token(480)
    })
    .await;
    mount(&server, "GET", "^/api/whoami$", |request: &Request| {
        let header = authorization(request);
        assert!(header.starts_with("Token token=\"ey") && header.ends_with('"'), "{header}");
        whoami()
    })
    .await;
    client(config(&format!("{}/api/", server.uri()))).whoami().await.unwrap();
}

#[tokio::test]
async fn a_401_renews_the_token_once_and_repeats() {
    let server = server().await;
    let calls = AtomicUsize::new(0);
    mount(&server, "GET", "/whoami", move |_: &Request| {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 { ResponseTemplate::new(401) } else { whoami() }
    })
    .await;
    client(config(&server.uri())).whoami().await.unwrap();
    assert_eq!((count(&server, "/authenticate").await, count(&server, "/whoami").await), (2, 2));
}

#[tokio::test]
async fn a_token_that_is_never_accepted_is_no_storm() {
    let server = server().await;
    mount(&server, "GET", "/whoami", |_: &Request| ResponseTemplate::new(401)).await;
    let client = client(config(&server.uri()));
    for _ in 0..20 {
        let error = error_of(client.whoami().await);
        assert!(matches!(error, Error::Unauthenticated { .. }) && error.is_connection(), "{error:?}");
    }
    assert_eq!((count(&server, "/authenticate").await, count(&server, "/whoami").await), (2, 2));
}

#[tokio::test]
async fn a_wrong_key_is_tried_once_and_backed_off() {
    let server = MockServer::start().await;
    mount(&server, "POST", "/authenticate$", |_: &Request| ResponseTemplate::new(401)).await;
    let backoff = Backoff { first: Duration::from_millis(400), ..Backoff::default() };
    let client = Client::builder(config(&server.uri())).with_timing(backoff, Timing::default()).unwrap();
    let start = Instant::now();
    for result in join_all((0..50).map(|_| client.whoami())).await {
        let error = error_of(result);
        assert!(error.to_string().contains("refused the credentials of host/apps/web"), "{error}");
        assert!(!format!("{error:?}").contains(KEY));
    }
    assert_eq!(count(&server, "/authenticate").await, 1);
    until("the second try", || async {
        error_of(client.whoami().await);
        count(&server, "/authenticate").await == 2
    })
    .await;
    until("the third try", || async {
        error_of(client.whoami().await);
        count(&server, "/authenticate").await == 3
    })
    .await;
    assert!(start.elapsed() >= Duration::from_millis(1150), "the wait doubles: {:?}", start.elapsed());
}

#[tokio::test]
async fn a_token_is_renewed_at_three_quarters_of_its_own_life_whatever_the_clocks_say() {
    let server = MockServer::start().await;
    mount(&server, "POST", "/authenticate$", |_: &Request| token(2)).await;
    mount(&server, "GET", "/whoami", |_: &Request| whoami()).await;
    let client = client(config(&server.uri()));
    let start = Instant::now();
    until("the renewal", || async {
        client.whoami().await.unwrap();
        count(&server, "/authenticate").await == 2
    })
    .await;
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_token_is_no_older_than_the_refresh_interval() {
    let server = server().await;
    mount(&server, "GET", "/whoami", |_: &Request| whoami()).await;
    let client =
        client(Config { token_refresh_interval: Duration::from_millis(300), ..config(&server.uri()) });
    until("the renewal", || async {
        client.whoami().await.unwrap();
        count(&server, "/authenticate").await == 2
    })
    .await;
}

#[tokio::test]
async fn a_server_that_makes_no_tokens_is_unavailable_and_is_asked_once_for_all_who_wait() {
    let server = MockServer::start().await;
    mount(&server, "POST", "/authenticate$", |_: &Request| ResponseTemplate::new(500)).await;
    let client = client(config(&server.uri()));
    for result in join_all((0..50).map(|_| client.whoami())).await {
        let error = error_of(result);
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    }
    assert_eq!(count(&server, "/authenticate").await, 1);
}

#[tokio::test]
async fn a_token_that_still_lives_is_used_while_no_new_one_can_be_had() {
    let server = MockServer::start().await;
    let first = std::sync::atomic::AtomicBool::new(true);
    mount(&server, "POST", "/authenticate$", move |_: &Request| {
        if first.swap(false, Ordering::SeqCst) { token(480) } else { ResponseTemplate::new(500) }
    })
    .await;
    mount(&server, "GET", "/whoami", |_: &Request| whoami()).await;
    let client =
        client(Config { token_refresh_interval: Duration::from_millis(100), ..config(&server.uri()) });
    until("the failed renewal", || async {
        client.whoami().await.unwrap();
        count(&server, "/authenticate").await == 2
    })
    .await;
    client.whoami().await.unwrap();
}

#[tokio::test]
async fn who_waited_for_a_failure_takes_it_even_when_nothing_is_backed_off() {
    let server = MockServer::start().await;
    mount(&server, "POST", "/authenticate$", |_: &Request| ResponseTemplate::new(401)).await;
    let backoff = Backoff { first: Duration::ZERO, longest: Duration::ZERO, connection: Duration::ZERO };
    let client = Client::builder(config(&server.uri())).with_timing(backoff, Timing::default()).unwrap();
    for result in join_all((0..50).map(|_| client.whoami())).await {
        error_of(result);
    }
    assert_eq!(count(&server, "/authenticate").await, 1);
    error_of(client.whoami().await);
    assert_eq!(count(&server, "/authenticate").await, 2);
}

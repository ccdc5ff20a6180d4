//! Batches on the wire. What the collector decides is tested beside it, without sockets.

use std::collections::{HashMap, HashSet};

use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use percent_encoding::percent_decode_str;

use super::*;
use crate::variables::Answer;

const VALUE: &str = "v4lue-that-nobody-may-see";

fn wanted(id: &str) -> Wanted {
    Wanted::latest(VariableId::new(id).unwrap())
}

async fn fetch(client: &Client, ids: &[Wanted]) -> HashMap<Wanted, Answer> {
    client.fetch_variables(ids, Priority::Foreground, Freshness::Remembered).await
}

fn ids_of(request: &Request) -> Vec<String> {
    let query = request.url.query().unwrap().strip_prefix("variable_ids=").unwrap();
    query.split(',').map(|id| percent_decode_str(id).decode_utf8().unwrap().into_owned()).collect()
}

/// Answers as the recordings do: all or nothing, base64 only where it was asked for exactly.
fn batch(request: &Request, missing: &[&str]) -> ResponseTemplate {
    let ids = ids_of(request);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "an id twice is a 500");
    assert_eq!(request.headers["accept-encoding"], "base64");
    if let Some(id) = ids.iter().find(|id| missing.iter().any(|missing| id.ends_with(missing))) {
        let body = format!(
            r#"{{"error":{{"code":"not_found","message":"CONJ00076E Variable {id} is empty or not found."}}}}"#
        );
        return ResponseTemplate::new(404).set_body_raw(body, "application/json");
    }
    let value = |id: &String| {
        let mut text = STANDARD.encode(format!("{VALUE} of {id} \u{0}").into_bytes().repeat(3));
        text.insert(60, '\n');
        (id.clone(), text)
    };
    let body: std::collections::BTreeMap<_, _> = ids.iter().map(value).collect();
    ResponseTemplate::new(200).insert_header("content-encoding", "base64").set_body_json(body)
}

#[tokio::test]
async fn a_thousand_ids_of_two_hundred_callers_go_in_few_batches() {
    let server = server().await;
    mount(&server, "GET", "^/secrets$", |request: &Request| {
        assert!(request.url.query().unwrap().len() <= 7500);
        batch(request, &[])
    })
    .await;
    let client = client(config(&server.uri()));
    let asks = (0..200).map(|caller| {
        let client = client.clone();
        async move {
            let ids: Vec<_> =
                (0..5).map(|n| wanted(&format!("apps/{caller:04}/{n}/{}", "x".repeat(28)))).collect();
            let answers = fetch(&client, &ids).await;
            for id in ids {
                let value = format!("{VALUE} of demo:variable:{} \u{0}", id.id).repeat(3);
                assert_eq!(answers[&id].as_ref().unwrap().expose(), value.as_bytes());
            }
        }
    });
    join_all(asks).await;
    let requests = count(&server, "/secrets").await;
    assert!((8..=10).contains(&requests), "{requests} requests");
    assert_eq!(count(&server, "/authenticate").await, 1);
}

#[tokio::test]
async fn the_missing_one_is_named_and_the_others_have_their_values() {
    let server = server().await;
    mount(&server, "GET", "^/secrets$", |request: &Request| batch(request, &[":a/b"])).await;
    let client = client(config(&server.uri()));
    let ids = [wanted("a"), wanted("a/b"), wanted("a/b/c"), wanted("ü +%")];
    let answers = fetch(&client, &ids).await;
    assert_eq!(answers.values().filter(|answer| answer.is_ok()).count(), 3);
    let error = answers[&ids[1]].as_ref().unwrap_err();
    let message = "variable a/b is missing, has no value, or is not visible to host/apps/web";
    assert_eq!(*error, Error::NotFound { target: "variable a/b".into(), message: message.into() });
    assert!(!format!("{answers:?}").contains(VALUE));
    assert_eq!(count(&server, "/secrets").await, 2);
    assert!(fetch(&client, &ids[1..2]).await[&ids[1]].is_err());
    assert_eq!(count(&server, "/secrets").await, 2, "remembered");
}

#[tokio::test]
async fn a_comma_and_a_pinned_version_go_alone() {
    let server = server().await;
    mount(&server, "GET", "^/secrets/demo/variable/", |request: &Request| {
        let sent = format!("{}?{}", request.url.path(), request.url.query().unwrap_or("-"));
        ResponseTemplate::new(200).insert_header("etag", "x").set_body_bytes(sent)
    })
    .await;
    let client = client(config(&server.uri()));
    let pinned = Wanted { version: Some(3), ..wanted("a/b") };
    let answers = fetch(&client, &[wanted("a,b/c"), pinned.clone()]).await;
    let text =
        |wanted: &Wanted| String::from_utf8(answers[wanted].as_ref().unwrap().expose().clone()).unwrap();
    assert_eq!(text(&wanted("a,b/c")), "/secrets/demo/variable/a%2Cb%2Fc?-");
    assert_eq!(text(&pinned), "/secrets/demo/variable/a%2Fb?version=3");
}

#[tokio::test]
async fn a_login_page_is_not_a_value() {
    let server = server().await;
    mount(&server, "GET", "^/secrets", |_: &Request| {
        ResponseTemplate::new(200).set_body_raw("<html>please log in", "text/html")
    })
    .await;
    let client = client(config(&server.uri()));
    let pinned = Wanted { version: Some(1), ..wanted("b") };
    for (wanted, answer) in fetch(&client, &[wanted("a"), pinned]).await {
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::Unexpected { .. }), "{wanted:?}: {error:?}");
        assert!(error.to_string().contains("HTML"), "{error}");
    }
}

#[tokio::test]
async fn plain_values_are_taken_where_base64_was_not_announced() {
    let server = server().await;
    mount(&server, "GET", "^/secrets$", |_: &Request| {
        ResponseTemplate::new(200).set_body_raw(r#"{"demo:variable:a":"YQ==\n"}"#, "application/json")
    })
    .await;
    let answers = fetch(&client(config(&server.uri())), &[wanted("a"), wanted("b")]).await;
    assert_eq!(answers[&wanted("a")].as_ref().unwrap().expose(), b"YQ==\n");
    let error = answers[&wanted("b")].as_ref().unwrap_err();
    assert!(error.to_string().contains("left variable b out"), "{error}");
}

#[tokio::test]
async fn no_error_quotes_an_answer_that_holds_values() {
    for body in [
        format!(r#"{{"demo:variable:a":"{VALUE}"}}"#),
        format!(r#"{{"demo:variable:a":["{VALUE}"]}}"#),
        format!(r#"["{VALUE}"]"#),
        format!(r#""{VALUE}""#),
        format!(r#"{{"demo:variable:a":"{VALUE}""#),
        VALUE.to_owned(),
    ] {
        let server = server().await;
        mount(&server, "GET", "^/secrets$", move |_: &Request| {
            ResponseTemplate::new(200)
                .insert_header("content-encoding", "base64")
                .set_body_raw(body.clone(), "application/json")
        })
        .await;
        let answers = fetch(&client(config(&server.uri())), &[wanted("a")]).await;
        let error = answers[&wanted("a")].as_ref().unwrap_err();
        assert!(matches!(error, Error::Unexpected { .. }), "{error:?}");
        assert!(!format!("{error:?} {error}").contains(VALUE), "{error:?}");
    }
}

#[tokio::test]
async fn what_the_server_says_of_a_secret_route_is_not_repeated() {
    let server = server().await;
    mount(&server, "GET", "^/secrets/", |_: &Request| {
        let body = format!(r#"{{"error":{{"code":"argument_error","message":"{VALUE}"}}}}"#);
        ResponseTemplate::new(422).set_body_raw(body, "application/json")
    })
    .await;
    let pinned = Wanted { version: Some(1), ..wanted("b") };
    let answers = fetch(&client(config(&server.uri())), std::slice::from_ref(&pinned)).await;
    let error = answers[&pinned].as_ref().unwrap_err();
    assert!(matches!(error, Error::Invalid { code, .. } if code == "argument_error"), "{error:?}");
    assert!(!format!("{error:?}").contains(VALUE), "{error:?}");
}

#[tokio::test]
async fn forbidden_alone_is_told_from_missing() {
    let server = server().await;
    mount(&server, "GET", "^/secrets$", |_: &Request| ResponseTemplate::new(403)).await;
    mount(&server, "GET", "^/secrets/demo/variable/seen$", |_: &Request| ResponseTemplate::new(403)).await;
    mount(&server, "GET", "^/secrets/demo/variable/hidden$", |_: &Request| {
        let body =
            r#"{"error":{"code":"not_found","message":"Variable 'hidden' not found in account 'demo'"}}"#;
        ResponseTemplate::new(404).set_body_raw(body, "application/json")
    })
    .await;
    let answers = fetch(&client(config(&server.uri())), &[wanted("seen"), wanted("hidden")]).await;
    let error = answers[&wanted("seen")].as_ref().unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "host/apps/web may see variable seen but lacks the execute privilege on it"
    );
    assert!(matches!(answers[&wanted("hidden")], Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn the_connections_fault_is_everyones_and_nothing_is_remembered() {
    let server = server().await;
    mount(&server, "GET", "^/secrets$", |_: &Request| ResponseTemplate::new(502)).await;
    let client = client(config(&server.uri()));
    let ids = [wanted("a"), wanted("b")];
    for answer in fetch(&client, &ids).await.into_values() {
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    }
    server.reset().await;
    mount(&server, "POST", "/authenticate$", |_: &Request| token(480)).await;
    mount(&server, "GET", "^/secrets$", |request: &Request| batch(request, &[])).await;
    assert!(fetch(&client, &ids).await.values().all(Result::is_ok));
}

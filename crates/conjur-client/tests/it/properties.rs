//! What holds whatever the ids are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use conjur_client::{Client, Credentials, Error, Freshness, Limits, Priority, VariableId, Wanted};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{Target, key, secret};

const PREFIX: &str = "variable_ids=";

/// What the server was asked: ids in each batch, and the bytes of its query.
type Batches = Arc<Mutex<Vec<(usize, usize)>>>;

/// Reads ids as the server does, and answers with the id itself as the value.
fn echo(request: &Request, batches: &Batches) -> ResponseTemplate {
    let text = |encoded: &str| percent_decode_str(encoded).decode_utf8().unwrap().into_owned();
    let path = request.url.path();
    if path.starts_with("/authn/") {
        let payload = URL_SAFE.encode(r#"{"iat":1000,"exp":1480}"#);
        let token = json!({"protected": "cA==", "payload": payload, "signature": "cw=="});
        return ResponseTemplate::new(200).set_body_json(token);
    }
    if let Some(id) = path.strip_prefix("/secrets/demo/variable/") {
        assert!(!id.contains('/'), "an id is one segment: {id}");
        if request.method.as_str() == "POST" {
            let right = request.body == text(id).as_bytes();
            return ResponseTemplate::new(if right { 201 } else { 422 });
        }
        return ResponseTemplate::new(200).set_body_raw(text(id), "application/octet-stream");
    }
    let query = request.url.query().unwrap();
    let ids: Vec<String> =
        query.strip_prefix(PREFIX).unwrap().split(',').map(|id| text(&id.replace('+', " "))).collect();
    batches.lock().unwrap().push((ids.len(), query.len()));
    if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        return ResponseTemplate::new(500);
    }
    let value = |id: &str| json!(STANDARD.encode(id.strip_prefix("demo:variable:").unwrap()) + "\n");
    let values = ids.iter().map(|id| (id.clone(), value(id))).collect();
    ResponseTemplate::new(200)
        .insert_header("content-encoding", "base64")
        .set_body_raw(Value::Object(values).to_string(), "application/json")
}

/// Any Unicode, and more of what means something in a URL.
fn ids() -> impl Strategy<Value = Vec<VariableId>> {
    let id = prop_oneof!["[^\\p{Cc}]{1,30}", "[a-c%+ ,/:?#&;=\"'<>|\\\\.é✓]{1,12}", "[a-z/]{1,80}"];
    let id = id.prop_filter_map("no id", |id| VariableId::new(&id).ok());
    proptest::collection::vec(id, 1..60)
}

async fn read_all(ids: Vec<VariableId>, batch_size: usize, batch_bytes: usize) -> Result<(), TestCaseError> {
    let batches = Batches::default();
    let (server, seen) = (MockServer::start().await, Arc::clone(&batches));
    Mock::given(any()).respond_with(move |request: &Request| echo(request, &seen)).mount(&server).await;
    let target = Target { url: server.uri(), account: "demo".to_owned(), admin_key: "key".to_owned() };
    let mut config = target.config(key("admin", "key"));
    config.limits = Limits { batch_size, batch_bytes, requests_per_second: 1_000_000, ..Limits::default() };
    let client = Client::new(config).unwrap();
    let wanted: Vec<Wanted> = ids.iter().cloned().map(Wanted::latest).collect();
    let answers = client.fetch_variables(&wanted, Priority::Foreground, Freshness::Remembered).await;
    for wanted in &wanted {
        let value = answers[wanted].clone().map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(value.expose().as_slice(), wanted.id.as_str().as_bytes());
    }
    let one = ids[0].as_str();
    let alone = client.fetch_secret("variable", one, None).await.unwrap();
    prop_assert_eq!(alone.expose().as_slice(), one.as_bytes());
    let set = client.set_secret("variable", one, one.as_bytes()).await;
    prop_assert!(set.is_ok(), "{:?}", set);
    for (count, bytes) in batches.lock().unwrap().iter() {
        prop_assert!(*count <= batch_size, "{count} ids in a batch of {batch_size}");
        prop_assert!(*bytes <= batch_bytes || *count == 1, "{bytes} bytes in a batch of {batch_bytes}");
    }
    Ok(())
}

#[test]
fn every_id_comes_back_as_it_went_in_batches_within_their_limits() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(ids in ids(), batch_size in 1_usize..40, batch_bytes in 50_usize..2000)| {
        runtime.block_on(read_all(ids, batch_size, batch_bytes))?;
    });
}

/// Any Unicode, and more of what means something in a form.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["[^\\p{Cc}]{0,30}", "[a-c%+ ,/:?#&;=\"'<>|\\\\.é✓\\[\\]\n]{0,12}", "[a-z/-]{1,40}"]
}

#[test]
fn every_annotation_of_an_enrolled_host_comes_as_it_was_given_or_is_refused_before() {
    type Pairs = Vec<(String, String)>;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let forms: Arc<Mutex<Vec<Pairs>>> = Arc::default();
    let seen = Arc::clone(&forms);
    let server = runtime.block_on(async {
        let server = MockServer::start().await;
        let answer = move |request: &Request| {
            seen.lock().unwrap().push(url::form_urlencoded::parse(&request.body).into_owned().collect());
            let made = json!({"id": "demo:host:h", "owner": "demo:host_factory:f", "created_at": "", "api_key": "k"});
            ResponseTemplate::new(201).set_body_json(made)
        };
        Mock::given(any()).respond_with(answer).mount(&server).await;
        server
    });
    let target = Target { url: server.uri(), account: "demo".to_owned(), admin_key: "key".to_owned() };
    let mut config = target.config(Credentials::Anonymous);
    config.limits = Limits { requests_per_second: 1_000_000, ..Limits::default() };
    let client = Client::new(config).unwrap();
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let annotations = proptest::collection::btree_map(texts(), texts(), 0..5);
    proptest!(config, |(id in texts(), annotations in annotations)| {
        forms.lock().unwrap().clear();
        let made = runtime.block_on(client.create_host(&secret("t"), &id, &annotations));
        let forms = forms.lock().unwrap();
        if annotations.keys().any(|name| name.is_empty() || name.contains(['[', ']'])) {
            prop_assert!(matches!(made, Err(Error::Config { .. })) && forms.is_empty(), "{:?}", made);
            return Ok(());
        }
        prop_assert!(made.is_ok(), "{:?}", made);
        let named = |(name, value): (&String, &String)| (format!("annotations[{name}]"), value.clone());
        let expected: BTreeMap<String, String> =
            annotations.iter().map(named).chain([("id".to_owned(), id)]).collect();
        prop_assert_eq!(forms.len(), 1);
        prop_assert_eq!(forms[0].len(), expected.len(), "nothing twice");
        prop_assert_eq!(forms[0].iter().cloned().collect::<BTreeMap<_, _>>(), expected);
    });
}

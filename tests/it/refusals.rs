//! What can mend each refusal of a load that a real server gave (recordings of `03-policy` and `14-extra`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use conjur_client::sensitive::Sensitive;
use conjur_client::{Client, Config, Credentials, Error, LoadError, LoadMode, PolicyBranch};
use conjur_operator::api::policy::MendedBy;
use conjur_operator::seams::mended_by;
use serde_json::Value;
use wiremock::matchers::{any, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

const RECORDINGS: [&str; 2] =
    [include_str!("../recordings/03-policy.jsonl"), include_str!("../recordings/14-extra.jsonl")];

/// The answers to loads that were refused, by the number of the recording.
fn refused() -> BTreeMap<u64, (u16, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for line in RECORDINGS.iter().flat_map(|file| file.lines()) {
        let step: Value = serde_json::from_str(line).unwrap();
        let (request, answer) = (&step["request"], &step["response"]);
        let path = request["path"].as_str().unwrap();
        let is_load = path.starts_with("/policies/demo/policy/")
            && !path.contains('?')
            && ["POST", "PATCH", "PUT"].contains(&request["method"].as_str().unwrap());
        let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
        if is_load && [403, 404, 422].contains(&status) {
            let body = match &answer["body_base64"] {
                Value::String(text) => STANDARD.decode(text).unwrap(),
                _ => answer["body"].as_str().unwrap_or_default().as_bytes().to_vec(),
            };
            all.insert(step["seq"].as_u64().unwrap(), (status, body));
        }
    }
    all
}

async fn load(status: u16, body: Vec<u8>) -> Error {
    let server = MockServer::start().await;
    let payload = URL_SAFE.encode(r#"{"iat":1000,"exp":1480}"#);
    let token = format!(r#"{{"protected":"cA==","payload":"{payload}","signature":"cw=="}}"#);
    let token = ResponseTemplate::new(200).set_body_raw(token, "application/json");
    Mock::given(path_regex("/authenticate$")).respond_with(token).mount(&server).await;
    let answer = ResponseTemplate::new(status).set_body_raw(body, "application/json; charset=utf-8");
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let credentials = Credentials::ApiKey { login: "admin".into(), api_key: Sensitive::new("key".into()) };
    let client = Client::new(Config::new(server.uri().parse().unwrap(), "demo", credentials)).unwrap();
    let branch = PolicyBranch::new("app").unwrap();
    match client.load_policy(&branch, LoadMode::Append, b"- !variable x\n").await {
        Err(LoadError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_record_that_is_not_there_is_mended_by_others_of_what_conjur_calls_invalid() {
    let missing: BTreeMap<u64, &str> = BTreeMap::from([
        (70, "demo:group:app/nogroup"),
        (71, "demo:variable:app/novar"),
        (72, "demo:host:app/nohost"),
        (73, "demo:group:app/nogroup"),
    ]);
    let mut invalid = 0;
    for (seq, (status, body)) in refused() {
        match load(status, body).await {
            Error::Invalid { code, line, missing: lacks, .. } => {
                invalid += 1;
                assert_eq!(lacks.as_deref(), missing.get(&seq).copied(), "{seq}");
                let by = mended_by(&code, line.is_some(), lacks.is_some(), false);
                let expected = if missing.contains_key(&seq) { MendedBy::Record } else { MendedBy::Edit };
                assert_eq!(by, expected, "{seq}: {code}");
            }
            // Of the branch: what the identity may do there is asked for.
            Error::Forbidden { .. } => assert_eq!(status, 403, "{seq}"),
            Error::NotFound { .. } => assert_eq!(status, 404, "{seq}"),
            other => panic!("{seq}: {other:?}"),
        }
    }
    assert!(invalid >= 20, "only {invalid} recordings were looked at");
}

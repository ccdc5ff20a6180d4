//! Every recording against the client: the request that it sends, and what it makes of the answer.

mod act;
mod listed;
mod outcome;
mod sent;
mod step;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use conjur_client::sensitive::Sensitive;
use conjur_client::{Client, Config, Credentials, Limits};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use self::act::Act;
use self::step::Step;

/// What the server answers now, and what it was asked.
struct Script {
    answer: ResponseTemplate,
    /// What belongs to the step; the rest is what the client asks on the way there.
    belongs: fn(&str) -> bool,
    /// A batch that fails is followed by others.
    batch: bool,
    requests: Vec<Request>,
}

impl Script {
    fn respond(&mut self, request: &Request) -> ResponseTemplate {
        let path = request.url.path();
        if !(self.belongs)(path) {
            return match path {
                "/" => json(r#"{"version":"1.24.0"}"#),
                "/whoami" => json(r#"{"account":"demo","username":"admin"}"#),
                _ => token(),
            };
        }
        self.requests.push(request.clone());
        if self.batch && self.requests.len() > 1 { rest_of_batch(request) } else { self.answer.clone() }
    }
}

fn json(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(text, "application/json")
}

fn token() -> ResponseTemplate {
    let payload = URL_SAFE.encode(r#"{"iat":1000,"exp":1480}"#);
    json(&format!(r#"{{"protected":"cA==","payload":"{payload}","signature":"cw=="}}"#))
}

/// What follows a batch that failed: smaller ones, which get values, and single ones, which are missing.
fn rest_of_batch(request: &Request) -> ResponseTemplate {
    if request.url.path() != "/secrets" {
        let body = r#"{"error":{"code":"not_found","message":"CONJ00076E"}}"#;
        return ResponseTemplate::new(404).set_body_raw(body, "application/json");
    }
    let (_, ids) = request.url.query_pairs().next().unwrap();
    let values: serde_json::Map<_, _> = ids.split(',').map(|id| (id.to_owned(), "later".into())).collect();
    json(&serde_json::Value::Object(values).to_string())
}

fn answer(step: &Step, act: &Act) -> ResponseTemplate {
    let mut body = step.answer.clone();
    let mut encoding = step.answered.get("content-encoding").cloned();
    if matches!(act, Act::Authenticate(_)) && encoding.as_deref() == Some("base64") {
        // The client doesn't ask for base64 there, and would have got this.
        body = STANDARD.decode(&body).unwrap();
        encoding = None;
    }
    if step.cut && matches!(act, Act::Batch(_)) {
        let Act::Batch(ids) = act else { unreachable!() };
        let values = ids.iter().map(|id| (format!("demo:variable:{id}"), format!("value of {id}").into()));
        body = serde_json::Value::Object(values.collect()).to_string().into_bytes();
    }
    let kind = step.answered.get("content-type").map_or("application/octet-stream", String::as_str);
    let mut answer = ResponseTemplate::new(step.status);
    if !matches!(step.status, 204 | 304) {
        answer = answer.set_body_raw(body, kind);
    }
    for name in ["etag", "retry-after"] {
        if let Some(value) = step.answered.get(name) {
            answer = answer.insert_header(name, value.as_str());
        }
    }
    match encoding {
        Some(encoding) => answer.insert_header("content-encoding", encoding.as_str()),
        None => answer,
    }
}

fn client(url: &str, step: &Step, act: &Act) -> Client {
    let credentials = match act {
        Act::Authenticate(credentials) => credentials.clone(),
        _ => Credentials::ApiKey {
            login: step.role.clone().unwrap_or_else(|| "admin".to_owned()),
            api_key: Sensitive::new("key".to_owned()),
        },
    };
    let mut config = Config::new(url.parse().unwrap(), act::account(step), credentials);
    config.limits =
        Limits { batch_size: 600, batch_bytes: 20_000, requests_per_second: 1_000_000, ..Limits::default() };
    Client::new(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recording_is_sent_understood_or_listed() {
    let script = Arc::new(Mutex::new(Script {
        answer: ResponseTemplate::new(500),
        belongs: |_| true,
        batch: false,
        requests: Vec::new(),
    }));
    let server = MockServer::start().await;
    let responder = Arc::clone(&script);
    let respond = move |request: &Request| responder.lock().unwrap().respond(request);
    Mock::given(any()).respond_with(respond).mount(&server).await;

    let mut wrong = Vec::new();
    let mut sent = 0;
    for step in step::all() {
        let act = match (act::of(&step), listed::reason(step.seq)) {
            (Some(act), None) => act,
            (None, Some(_)) => continue,
            (Some(_), Some(reason)) => {
                wrong.push(format!("{step} is listed ({reason}), and sent"));
                continue;
            }
            (None, None) => {
                wrong.push(format!("{step} is neither sent nor listed"));
                continue;
            }
        };
        *script.lock().unwrap() = Script {
            answer: answer(&step, &act),
            belongs: match act {
                Act::Authenticate(_) => |path| path.ends_with("/authenticate"),
                Act::Version => |path| path == "/",
                Act::WhoAmI => |path| path == "/whoami",
                _ => |path| path != "/" && !path.ends_with("/authenticate"),
            },
            batch: matches!(act, Act::Batch(_)) && step.status != 401,
            requests: Vec::new(),
        };
        let result = outcome::run(&client(&server.uri(), &step, &act), &act, &step).await;
        let requests = std::mem::take(&mut script.lock().unwrap().requests);
        sent += requests.len();
        match requests.first() {
            None => wrong.push(format!("{step}: nothing was sent")),
            Some(request) => wrong.extend(sent::differences(&step, &act, request)),
        }
        wrong.extend(outcome::differences(&step, &act, &result, &requests));
    }
    assert!(wrong.is_empty(), "{} of the steps go wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(sent > 620, "only {sent} requests were sent");
}

//! The controls over HTTP, for a server that runs as a process of its own: `/_dev/…`, JSON in and out.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Server;
use crate::control::{Fault, Hold};

type Answer = Result<Json<Value>, (StatusCode, String)>;

pub(crate) fn router(server: Server) -> Router {
    Router::new()
        .route("/faults", post(add_fault).delete(clear_faults))
        .route("/hold", post(hold))
        .route("/release", post(release))
        .route("/held", get(held))
        .route("/requests", get(requests).delete(clear_requests))
        .route("/counts", get(counts))
        .route("/expire-tokens", post(expire_tokens))
        .route("/token-lifetime", put(set_token_lifetime))
        .route("/clock", put(set_clock))
        .route("/version", put(set_version))
        .route("/contract", put(set_contract))
        .route("/outage", post(outage))
        .route("/keys", get(key).put(set_key))
        .route("/variables", get(variable).put(set_variable))
        .route("/fill", post(fill))
        .route("/policies", post(load))
        .route("/records", get(record))
        .route("/loads", get(loads))
        .with_state(server)
}

async fn add_fault(State(server): State<Server>, Json(fault): Json<Fault>) -> Json<Value> {
    server.fault(fault);
    Json(json!({}))
}

async fn clear_faults(State(server): State<Server>) -> Json<Value> {
    server.clear_faults();
    Json(json!({}))
}

async fn hold(State(server): State<Server>, Json(hold): Json<Hold>) -> Json<Value> {
    Json(json!({"id": server.hold(hold)}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    id: Option<u64>,
}

async fn release(State(server): State<Server>, Json(release): Json<Release>) -> Json<Value> {
    match release.id {
        Some(id) => server.release(id),
        None => server.release_all(),
    }
    Json(json!({}))
}

async fn held(State(server): State<Server>) -> Json<Value> {
    Json(json!({"waiting": server.held()}))
}

async fn requests(State(server): State<Server>) -> Json<Value> {
    Json(json!({"requests": server.requests(), "counts": server.counts()}))
}

async fn counts(State(server): State<Server>) -> Json<Value> {
    Json(json!(server.counts()))
}

async fn clear_requests(State(server): State<Server>) -> Json<Value> {
    server.clear_requests();
    Json(json!({}))
}

async fn expire_tokens(State(server): State<Server>) -> Json<Value> {
    server.expire_tokens();
    Json(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seconds {
    seconds: u32,
}

async fn set_token_lifetime(State(server): State<Server>, Json(lifetime): Json<Seconds>) -> Json<Value> {
    server.set_token_lifetime(Duration::from_secs(lifetime.seconds.into()));
    Json(json!({}))
}

/// How far the clock is ahead; behind, where it is negative.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ahead {
    seconds: i64,
}

async fn set_clock(State(server): State<Server>, Json(ahead): Json<Ahead>) -> Json<Value> {
    server.set_clock_offset(ahead.seconds);
    Json(json!({}))
}

/// A version, or none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    version: Option<String>,
}

async fn set_version(State(server): State<Server>, Json(said): Json<Version>) -> Json<Value> {
    server.set_version(said.version.as_deref());
    Json(json!({}))
}

async fn set_contract(State(server): State<Server>, Json(wanted): Json<Version>) -> Json<Value> {
    server.set_contract(wanted.version.as_deref());
    Json(json!({}))
}

/// A record as it is shown, what it is a member of, and how often its value was changed or its key replaced.
async fn record(State(server): State<Server>, Query(query): Query<BTreeMap<String, String>>) -> Answer {
    let (kind, id) = (wanted(&query, "kind")?, wanted(&query, "id")?);
    let shown = server.shown(kind, id).ok_or_else(|| unknown(id))?;
    let login = if kind == "user" { id.to_owned() } else { format!("{kind}/{id}") };
    Ok(Json(json!({
        "shown": shown,
        "memberships": server.memberships(kind, id),
        "versions": server.variable_versions(id).filter(|_| kind == "variable"),
        "keyGeneration": server.key_generation(&login),
    })))
}

/// The loads of a branch, oldest first; without one, how many there were of each.
async fn loads(State(server): State<Server>, Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    let Some(branch) = query.get("branch") else { return Json(json!(server.all_loads())) };
    let versions = server.policy_versions(branch).into_iter().map(
        |load| json!({"version": load.version, "role": load.role, "sha256": load.sha256, "text": load.text}),
    );
    Json(versions.collect())
}

/// Stops listening for a while; the answer still goes out.
async fn outage(State(server): State<Server>, Json(outage): Json<Seconds>) -> Json<Value> {
    tokio::spawn(async move {
        // Long enough for the answer to leave before its connection is cut.
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.stop().await;
        tokio::time::sleep(Duration::from_secs(outage.seconds.into())).await;
        while server.resume().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    Json(json!({}))
}

async fn key(State(server): State<Server>, Query(query): Query<BTreeMap<String, String>>) -> Answer {
    let login = wanted(&query, "login")?;
    let key = server.api_key_of(login).ok_or_else(|| unknown(login))?;
    Ok(Json(json!({"login": login, "apiKey": key, "generation": server.key_generation(login)})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Key {
    login: String,
    api_key: String,
}

async fn set_key(State(server): State<Server>, Json(key): Json<Key>) -> Answer {
    if server.set_api_key(&key.login, &key.api_key) { Ok(Json(json!({}))) } else { Err(unknown(&key.login)) }
}

async fn variable(State(server): State<Server>, Query(query): Query<BTreeMap<String, String>>) -> Answer {
    let id = wanted(&query, "id")?;
    let value = server.variable(id).ok_or_else(|| unknown(id))?;
    Ok(Json(json!({"id": id, "valueBase64": STANDARD.encode(value)})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    id: String,
    value: String,
}

async fn set_variable(State(server): State<Server>, Json(variable): Json<Variable>) -> Answer {
    let done = server.set_variable(&variable.id, variable.value.as_bytes());
    if done { Ok(Json(json!({}))) } else { Err(unknown(&variable.id)) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fill {
    prefix: String,
    text: String,
    bytes: usize,
}

async fn fill(State(server): State<Server>, Json(fill): Json<Fill>) -> Json<Value> {
    Json(json!({"filled": server.fill(&fill.prefix, &fill.text, fill.bytes)}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    branch: Option<String>,
    document: String,
}

async fn load(State(server): State<Server>, Json(load): Json<Document>) -> Answer {
    let branch = load.branch.as_deref().unwrap_or("root");
    match server.load(branch, &load.document).await {
        Ok(keys) => Ok(Json(json!(keys))),
        Err(error) => Err((StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
    }
}

fn wanted<'q>(query: &'q BTreeMap<String, String>, name: &str) -> Result<&'q str, (StatusCode, String)> {
    let value = query.get(name).map(String::as_str);
    value.ok_or_else(|| (StatusCode::BAD_REQUEST, format!("the query needs `{name}`")))
}

fn unknown(what: &str) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("there is no `{what}`"))
}

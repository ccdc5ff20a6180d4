//! The loop against an API server that keeps one Lease and refuses a stale resourceVersion.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const FAST: LeaseTiming = LeaseTiming {
    lease: Duration::from_secs(1),
    renew_every: Duration::from_millis(20),
    renew_deadline: Duration::from_millis(500),
    call: Duration::from_millis(300),
    forbidden_patience: Duration::from_millis(50),
    heartbeat: Duration::from_millis(800),
};

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    writes: u64,
    refusals: u64,
    /// Answered instead, while set.
    fault: Option<u16>,
}

impl State {
    fn store(&mut self, mut lease: Value) -> ResponseTemplate {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        ResponseTemplate::new(200).set_body_json(lease)
    }

    fn spec(&self, field: &str) -> Value {
        self.lease.as_ref().map_or(Value::Null, |lease| lease["spec"][field].clone())
    }
}

#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<State>>);

impl ApiServer {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn hold(&self, holder: &str) {
        let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": 1, "renewTime": "2001-01-01T00:00:00.000000Z"});
        self.with(|state| {
            state.store(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "op"}, "spec": spec}));
        });
    }

    async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let begun = Instant::now();
        while !self.with(|state| condition(state)) {
            assert!(begun.elapsed() < DEADLINE, "not seen: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Respond for ApiServer {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let refused = |code: u16, reason: &str| {
            ResponseTemplate::new(code).set_body_json(json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code
            }))
        };
        self.with(|state| {
            if let Some(code) = state.fault {
                state.refusals += 1;
                return refused(code, if code == 403 { "Forbidden" } else { "InternalError" });
            }
            let sent = || serde_json::from_slice::<Value>(&request.body).unwrap();
            match (request.method.as_str(), &state.lease) {
                ("GET", Some(lease)) => ResponseTemplate::new(200).set_body_json(lease),
                ("GET" | "PUT", None) => refused(404, "NotFound"),
                ("POST", Some(_)) => refused(409, "AlreadyExists"),
                ("PUT", Some(lease))
                    if lease["metadata"]["resourceVersion"] != sent()["metadata"]["resourceVersion"] =>
                {
                    refused(409, "Conflict")
                }
                _ => {
                    state.writes += 1;
                    state.store(sent())
                }
            }
        })
    }
}

async fn start() -> (MockServer, ApiServer, Client) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (server, state) = (MockServer::start().await, ApiServer::default());
    Mock::given(any()).respond_with(state.clone()).mount(&server).await;
    let client = Client::try_from(kube::Config::new(server.uri().parse().unwrap())).unwrap();
    (server, state, client)
}

fn settings(identity: &str) -> Settings {
    let (namespace, name) = ("ns".to_owned(), "op".to_owned());
    Settings { namespace, name, identity: identity.to_owned(), timing: FAST }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.unwrap()
}

#[tokio::test]
async fn a_lease_is_made_renewed_and_released() {
    let (_server, state, client) = start().await;
    let held = in_time(acquire(client, settings("me"), Heartbeats::default(), || {})).await.unwrap();
    assert_eq!(state.with(|state| state.spec("holderIdentity")), "me");
    let drained = CancellationToken::new();
    let running = tokio::spawn(held.run(drained.clone()));
    state.until("renewals", |state| state.writes >= 4).await;
    drained.cancel();
    in_time(running).await.unwrap().unwrap();
    assert_eq!(state.with(|state| state.spec("holderIdentity")), "");
}

#[tokio::test]
async fn another_holder_is_waited_for_and_a_released_lease_taken_at_once() {
    let (_server, state, client) = start().await;
    state.hold("other");
    let (begun, standby) = (Instant::now(), std::sync::atomic::AtomicBool::new(false));
    let stands_by = || standby.store(true, std::sync::atomic::Ordering::Relaxed);
    in_time(acquire(client.clone(), settings("me"), Heartbeats::default(), stands_by)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "it took over before the Lease had run out");
    assert!(standby.into_inner(), "it did not say that it stands by");
    assert_eq!(state.with(|state| state.spec("leaseTransitions")), 1);

    state.hold("");
    let begun = Instant::now();
    let free = || panic!("it stands by, though no one holds the Lease");
    in_time(acquire(client, settings("me"), Heartbeats::default(), free)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_lease_left_by_an_earlier_run_of_us_is_taken_at_once() {
    let (_server, state, client) = start().await;
    state.hold("me");
    let begun = Instant::now();
    in_time(acquire(client, settings("me"), Heartbeats::default(), || {})).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn of_two_only_one_holds_the_lease_until_it_is_released() {
    let (_server, state, client) = start().await;
    let first =
        in_time(acquire(client.clone(), settings("first"), Heartbeats::default(), || {})).await.unwrap();
    let drained = CancellationToken::new();
    let running = tokio::spawn(first.run(drained.clone()));
    let second = tokio::spawn(acquire(client, settings("second"), Heartbeats::default(), || {}));
    let so_far = state.with(|state| state.writes);
    state.until("renewals for longer than the Lease", |state| state.writes > so_far + 60).await;
    assert!(!second.is_finished());
    drained.cancel();
    in_time(running).await.unwrap().unwrap();
    in_time(second).await.unwrap().unwrap();
    assert_eq!(state.with(|state| state.spec("holderIdentity")), "second");
}

#[tokio::test]
async fn a_lease_that_was_taken_over_is_lost() {
    let (_server, state, client) = start().await;
    let held = in_time(acquire(client, settings("me"), Heartbeats::default(), || {})).await.unwrap();
    state.hold("other");
    let lost = in_time(held.run(CancellationToken::new())).await.unwrap_err();
    assert!(matches!(&lost, Lost::TakenOver { holder, .. } if holder == "other"), "{lost}");
    assert_eq!(state.with(|state| state.spec("holderIdentity")), "other", "it wrote over the new holder");
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost_before_others_may_take_it() {
    let (_server, state, client) = start().await;
    let begun = Instant::now();
    let held = in_time(acquire(client, settings("me"), Heartbeats::default(), || {})).await.unwrap();
    state.with(|state| state.fault = Some(500));
    let lost = in_time(held.run(CancellationToken::new())).await.unwrap_err();
    assert!(matches!(lost, Lost::NotRenewed { .. }), "{lost}");
    assert!(begun.elapsed() < FAST.lease, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_hangs_loses_the_lease_too() {
    let (server, _state, client) = start().await;
    let begun = Instant::now();
    let held = in_time(acquire(client, settings("me"), Heartbeats::default(), || {})).await.unwrap();
    server.reset().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_delay(DEADLINE)).mount(&server).await;
    let lost = in_time(held.run(CancellationToken::new())).await.unwrap_err();
    assert!(matches!(lost, Lost::NotRenewed { .. }), "{lost}");
    assert!(begun.elapsed() < FAST.lease, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_changed_label_a_short_fault_and_a_deleted_lease_are_lived_through() {
    let (_server, state, client) = start().await;
    let held = in_time(acquire(client, settings("me"), Heartbeats::default(), || {})).await.unwrap();
    let drained = CancellationToken::new();
    let running = tokio::spawn(held.run(drained.clone()));
    let renewed = |state: &State, before: u64| state.writes > before + 1;

    let before = state.with(|state| {
        let mut lease = state.lease.clone().unwrap();
        lease["metadata"]["labels"] = json!({"team": "pay"});
        state.store(lease);
        state.writes
    });
    state.until("a renewal after a label changed", |state| renewed(state, before)).await;
    assert_eq!(state.with(|state| state.lease.clone().unwrap())["metadata"]["labels"]["team"], "pay");

    state.with(|state| state.fault = Some(500));
    state.until("a refusal", |state| state.refusals >= 2).await;
    let before = state.with(|state| {
        state.fault = None;
        state.writes
    });
    state.until("a renewal after a fault", |state| renewed(state, before)).await;

    let before = state.with(|state| {
        state.lease = None;
        state.writes
    });
    state.until("a renewal after the Lease was deleted", |state| renewed(state, before)).await;
    drained.cancel();
    in_time(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lasting_refusal_is_an_error_that_names_the_lease() {
    let (_server, state, client) = start().await;
    state.with(|state| state.fault = Some(403));
    let error = in_time(acquire(client, settings("me"), Heartbeats::default(), || {})).await.unwrap_err();
    assert!(error.to_string().contains("ns/op"), "{error}");
}

#[tokio::test]
async fn a_wedged_runtime_loses_the_lease_after_its_patience_and_gets_none() {
    let (_server, state, client) = start().await;
    let heartbeats = Heartbeats::default();
    let workers = heartbeats.add("workers");
    let held = in_time(acquire(client.clone(), settings("me"), heartbeats.clone(), || {})).await.unwrap();
    let running = tokio::spawn(held.run(CancellationToken::new()));
    for _ in 0..10 {
        workers.beat(Instant::now());
        sleep(FAST.heartbeat / 4).await;
    }
    assert!(!running.is_finished(), "it beats for longer than the deadline of a renewal");

    let silent_since = Instant::now();
    workers.beat(silent_since);
    let renewals = state.with(|state| state.writes);
    state.until("renewals while its patience lasts", |state| state.writes > renewals + 3).await;
    let lost = in_time(running).await.unwrap().unwrap_err();
    assert!(matches!(&lost, Lost::NotRenewed { last, .. } if last.contains("workers")), "{lost}");
    assert!(silent_since.elapsed() >= FAST.renew_deadline, "{:?}", silent_since.elapsed());

    state.hold("");
    let waiting = tokio::spawn(acquire(client, settings("me"), heartbeats, || {}));
    sleep(FAST.renew_every * 10).await;
    assert!(!waiting.is_finished(), "the Lease was taken, and nobody is there to act");
    workers.beat(Instant::now());
    in_time(waiting).await.unwrap().unwrap();
}

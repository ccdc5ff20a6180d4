//! Health and metrics over HTTP, each on its own address: probes come from the node, metrics from Prometheus, and a
//! network policy tells them apart. Health is served by a thread apart from the work, metrics by the work's own.

mod connections;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::heartbeat::Heartbeats;
use crate::limits::{self, Limit};
use crate::lock::lock;
use crate::metrics::{EncodeError, Metrics};

pub use connections::Bounds;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where to listen: `:8080` is every interface, `127.0.0.1:8080` and `[::1]:8080` are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenAddress {
    AllInterfaces(u16),
    One(SocketAddr),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no address to listen on: write `:8080` for all interfaces, or an IP address and a port as in `127.0.0.1:8080`"
)]
pub struct ListenAddressError;

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        match text.strip_prefix(':') {
            Some(port) => port.parse().map(Self::AllInterfaces).map_err(|_| ListenAddressError),
            None => text.parse().map(Self::One).map_err(|_| ListenAddressError),
        }
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AllInterfaces(port) => write!(f, ":{port}"),
            Self::One(address) => write!(f, "{address}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "can't listen for {purpose} on {address}: {source}; choose another address with --{purpose}-addr"
    )]
    Bind { purpose: &'static str, address: ListenAddress, source: std::io::Error },
}

/// Whether the process is ready; clones share it. It begins as not ready.
#[derive(Debug, Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A listener, bound and not yet served: an address that is taken is known before anything else begins.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
}

impl Listener {
    /// Binds an address, on the runtime that is to serve it; fails with the address that can't be had.
    pub async fn bind(purpose: &'static str, address: ListenAddress) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Bind { purpose, address, source };
        let listener = match address {
            ListenAddress::One(address) => TcpListener::bind(address).await,
            // An IPv6 listener takes IPv4 too; a node without IPv6 has only the other.
            ListenAddress::AllInterfaces(port) => {
                match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                    Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
                    }
                    result => result,
                }
            }
        }
        .map_err(failed)?;
        Ok(Self { listener })
    }

    /// Serves until told to stop, and then for what is being answered, a few seconds at most.
    pub async fn serve(self, routes: Router, bounds: Bounds, shutdown: CancellationToken) {
        connections::serve(self.listener, routes, bounds, shutdown).await;
    }
}

/// `/healthz` and `/readyz`.
pub fn health(ready: Ready, heartbeats: Heartbeats) -> Router {
    health_at(ready, heartbeats, limits::HEARTBEAT_HEALTH)
}

fn health_at(ready: Ready, heartbeats: Heartbeats, patience: Duration) -> Router {
    let alive = get(move || {
        let silent = heartbeats.check(Instant::now(), patience);
        std::future::ready(match silent {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(silent) => (StatusCode::SERVICE_UNAVAILABLE, format!("{silent}\n")),
        })
    });
    Router::new().route("/healthz", alive).route("/readyz", get(readiness)).with_state(ready)
}

/// What a connection for health may take.
pub const HEALTH: Bounds = Bounds {
    connections: limits::HEALTH_CONNECTIONS,
    limit: Limit::HealthConnections,
    header: limits::HTTP_HEADER_DEADLINE,
    whole: limits::HTTP_DEADLINE,
};

/// `/metrics`.
pub fn metrics(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(metrics_page)).with_state(Arc::new(Pages::new(metrics)))
}

/// Builds pages of metrics, and gives one again for as long as its successor may not be built: whoever reaches the address may ask
/// as often as they like, and a page may have a series of each object.
struct Pages {
    metrics: Metrics,
    last: Mutex<Option<Built>>,
}

struct Built {
    page: Bytes,
    /// When the next one may be built.
    next: Instant,
}

impl Pages {
    fn new(metrics: Metrics) -> Self {
        Self { metrics, last: Mutex::new(None) }
    }

    /// The page as it is, or was when it was last built.
    fn page(&self) -> Result<Bytes, EncodeError> {
        // Built under the lock, so that those who ask at the same time share one.
        let mut last = lock(&self.last);
        let began = Instant::now();
        if let Some(built) = last.as_ref().filter(|built| began < built.next) {
            return Ok(built.page.clone());
        }
        let page = Bytes::from(self.metrics.page()?);
        let ended = Instant::now();
        *last = Some(Built { page: page.clone(), next: ended + (ended - began) * limits::METRICS_REST });
        Ok(page)
    }
}

/// What a connection for metrics may take.
pub const METRICS: Bounds =
    Bounds { connections: limits::METRICS_CONNECTIONS, limit: Limit::MetricsConnections, ..HEALTH };

async fn readiness(State(ready): State<Ready>) -> Response {
    if ready.get() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn metrics_page(State(pages): State<Arc<Pages>>) -> Response {
    match pages.page() {
        Ok(page) => ([(header::CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::metrics::{Kind, SecretWrite};

    const DEADLINE: Duration = Duration::from_secs(20);

    fn loopback() -> ListenAddress {
        "127.0.0.1:0".parse().unwrap()
    }

    fn address_of(listener: &Listener) -> SocketAddr {
        listener.listener.local_addr().unwrap()
    }

    async fn request(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn health_and_metrics_are_served_until_shutdown() {
        let at_health = Listener::bind("health", loopback()).await.unwrap();
        let at_metrics = Listener::bind("metrics", loopback()).await.unwrap();
        let (health_at, metrics_at) = (address_of(&at_health), address_of(&at_metrics));
        let (ready, counted, shutdown) = (Ready::default(), Metrics::new(false), CancellationToken::new());
        let routes = health(ready.clone(), Heartbeats::default());
        let running = [
            tokio::spawn(at_health.serve(routes, HEALTH, shutdown.clone())),
            tokio::spawn(at_metrics.serve(metrics(counted.clone()), METRICS, shutdown.clone())),
        ];

        assert!(request(health_at, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(request(health_at, "/readyz").await.starts_with("HTTP/1.1 503"));
        ready.set(true);
        assert!(request(health_at, "/readyz").await.starts_with("HTTP/1.1 200"));
        ready.set(false);
        assert!(request(health_at, "/readyz").await.starts_with("HTTP/1.1 503"));

        counted.secret_written(SecretWrite::Create);
        counted.failed(Kind::Secret, "ForeignSecret");
        let page = request(metrics_at, "/metrics").await;
        assert!(page.starts_with("HTTP/1.1 200") && page.contains(OPENMETRICS), "{page}");
        assert!(page.contains(r#"conjur_operator_secret_writes_total{action="create"} 1"#), "{page}");
        // Neither address serves the other's paths.
        assert!(request(metrics_at, "/healthz").await.starts_with("HTTP/1.1 404"));
        assert!(request(health_at, "/metrics").await.starts_with("HTTP/1.1 404"));

        shutdown.cancel();
        for running in running {
            timeout(DEADLINE, running).await.unwrap().unwrap();
        }
        assert!(TcpStream::connect(health_at).await.is_err());
    }

    #[test]
    fn pages_are_built_a_small_part_of_the_time_however_often_they_are_asked_for() {
        let metrics = Metrics::new(false);
        let pages = Pages::new(metrics.clone());
        let first = pages.page().unwrap();
        metrics.secret_written(SecretWrite::Create);
        // As if it had taken long.
        lock(&pages.last).as_mut().unwrap().next = Instant::now() + DEADLINE;
        assert_eq!(pages.page().unwrap(), first);
        let before = Instant::now();
        lock(&pages.last).as_mut().unwrap().next = before;
        assert_ne!(pages.page().unwrap(), first);
        assert!(lock(&pages.last).as_ref().unwrap().next > before, "it rests again");
    }

    #[tokio::test]
    async fn a_runtime_that_is_silent_for_too_long_is_told_by_healthz_alone() {
        let (heartbeats, ready) = (Heartbeats::default(), Ready::default());
        ready.set(true);
        let listener = Listener::bind("health", loopback()).await.unwrap();
        let (address, shutdown) = (address_of(&listener), CancellationToken::new());
        let routes = health_at(ready, heartbeats.clone(), Duration::from_millis(300));
        let running = tokio::spawn(listener.serve(routes, HEALTH, shutdown.clone()));
        let workers = heartbeats.add("workers");
        assert!(request(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_millis(400)).await;
        let answer = request(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the workers did nothing"), "{answer}");
        assert!(request(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        workers.beat(Instant::now());
        assert!(request(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        shutdown.cancel();
        timeout(DEADLINE, running).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = ListenAddress::One(taken.local_addr().unwrap());
        let error = Listener::bind("metrics", address).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--metrics-addr"), "{error}");
    }

    #[test]
    fn an_address_is_a_port_on_all_interfaces_or_one_ip() {
        assert_eq!(":8080".parse(), Ok(ListenAddress::AllInterfaces(8080)));
        for text in ["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:0", ":0"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in ["", "8080", ":", ":65536", "localhost:8080", "::1:8080x", "1.2.3.4"] {
            assert_eq!(text.parse::<ListenAddress>(), Err(ListenAddressError), "{text}");
        }
    }
}

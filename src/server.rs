//! Health and metrics over HTTP, each on its own address: probes come from the node, metrics from Prometheus, and a
//! network policy tells them apart.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How long open connections may hold up the end of the process.
const DRAIN: Duration = Duration::from_secs(5);
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
    #[error("the {purpose} server on {address} ended: {source}")]
    Serve { purpose: &'static str, address: SocketAddr, source: std::io::Error },
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

/// Both listeners, bound and not yet served: an address that is taken is known before anything else begins.
#[derive(Debug)]
pub struct Server {
    health: Bound,
    metrics: Bound,
}

#[derive(Debug)]
struct Bound {
    purpose: &'static str,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds both addresses; fails with the address that can't be had.
    pub async fn bind(health: ListenAddress, metrics: ListenAddress) -> Result<Self, ServerError> {
        Ok(Self {
            health: Bound::new("health", health).await?,
            metrics: Bound::new("metrics", metrics).await?,
        })
    }

    /// Where `/healthz` and `/readyz` are.
    pub fn health_address(&self) -> SocketAddr {
        self.health.address
    }

    /// Where `/metrics` is.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics.address
    }

    /// Serves until told to stop, and then for what is being answered, a few seconds at most.
    pub async fn run(
        self,
        ready: Ready,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Result<(), ServerError> {
        let health = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readiness))
            .with_state(ready);
        let page = Router::new().route("/metrics", get(metrics_page)).with_state(metrics);
        tokio::try_join!(self.health.serve(health, shutdown.clone()), self.metrics.serve(page, shutdown))?;
        Ok(())
    }
}

impl Bound {
    async fn new(purpose: &'static str, address: ListenAddress) -> Result<Self, ServerError> {
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
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { purpose, listener, address })
    }

    async fn serve(self, routes: Router, shutdown: CancellationToken) -> Result<(), ServerError> {
        let Self { purpose, listener, address } = self;
        let drained = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let serving =
            axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        tokio::select! {
            result = serving => result.map_err(|source| ServerError::Serve { purpose, address, source }),
            () = drained => Ok(()),
        }
    }
}

async fn readiness(State(ready): State<Ready>) -> Response {
    if ready.get() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn metrics_page(State(metrics): State<Metrics>) -> Response {
    match metrics.page() {
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
        let server = Server::bind(loopback(), loopback()).await.unwrap();
        let (health, metrics_at) = (server.health_address(), server.metrics_address());
        let (ready, metrics, shutdown) = (Ready::default(), Metrics::new(), CancellationToken::new());
        let running = tokio::spawn(server.run(ready.clone(), metrics.clone(), shutdown.clone()));

        assert!(request(health, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(request(health, "/readyz").await.starts_with("HTTP/1.1 503"));
        ready.set(true);
        assert!(request(health, "/readyz").await.starts_with("HTTP/1.1 200"));
        ready.set(false);
        assert!(request(health, "/readyz").await.starts_with("HTTP/1.1 503"));

        metrics.secret_written(SecretWrite::Create);
        metrics.failed(Kind::Secret, "ForeignSecret");
        let page = request(metrics_at, "/metrics").await;
        assert!(page.starts_with("HTTP/1.1 200") && page.contains(OPENMETRICS), "{page}");
        assert!(page.contains(r#"conjur_operator_secret_writes_total{action="create"} 1"#), "{page}");
        // Neither address serves the other's paths.
        assert!(request(metrics_at, "/healthz").await.starts_with("HTTP/1.1 404"));
        assert!(request(health, "/metrics").await.starts_with("HTTP/1.1 404"));

        shutdown.cancel();
        timeout(DEADLINE, running).await.unwrap().unwrap().unwrap();
        assert!(TcpStream::connect(health).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_left_open_does_not_hold_up_the_end() {
        let server = Server::bind(loopback(), loopback()).await.unwrap();
        let address = server.health_address();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.run(Ready::default(), Metrics::new(), shutdown.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        shutdown.cancel();
        timeout(DEADLINE, running).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = ListenAddress::One(taken.local_addr().unwrap());
        let error = Server::bind(loopback(), address).await.unwrap_err().to_string();
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

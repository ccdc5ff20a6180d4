//! How a connection to a server comes about: straight to it or through a proxy, with TLS or without.
//!
//! The proxies are those of the program's own environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, USER_AGENT};
use http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use rustls::ClientConfig;
use tower_service::Service;

use crate::limits;
use crate::reach::{BoxError, Names};

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// A peer that is gone without a word is noticed after this long, and a few probes.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;
/// So long may what was sent stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

static PROXIES: LazyLock<Matcher> = LazyLock::new(Matcher::from_system);

/// No connection came about in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s", limits::CONNECT_DEADLINE.as_secs())]
struct SlowConnect;

/// Makes connections to one server.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector<Names>,
    tls: Arc<ClientConfig>,
    user_agent: HeaderValue,
}

impl Connector {
    pub(crate) fn new(names: Names, tls: ClientConfig, user_agent: HeaderValue) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(names);
        // Which of the two it is, is decided above it.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self { tcp, tls: Arc::new(tls), user_agent }
    }

    async fn connect(self, server: Uri) -> Result<Stream, BoxError> {
        let Some(proxy) = PROXIES.intercept(&server) else {
            let io = HttpsConnector::from((self.tcp, self.tls)).call(server).await?;
            return Ok(Stream { io: Box::new(io), proxied: false });
        };
        // A proxy is spoken to in HTTP/1.1.
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols.clear();
        let mut to_proxy = HttpsConnector::from((self.tcp, tls));
        if server.scheme() == Some(&Scheme::HTTP) {
            let io = to_proxy.call(proxy.uri().clone()).await?;
            return Ok(Stream { io: Box::new(io), proxied: true });
        }
        let name = HeaderMap::from_iter([(USER_AGENT, self.user_agent)]);
        let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy).with_headers(name);
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        let io = HttpsConnector::from((tunnel, self.tls)).call(server).await?;
        Ok(Stream { io: Box::new(io), proxied: false })
    }
}

/// What a proxy wants to see in each request to `server`: without TLS there is no tunnel that it was told for.
pub(crate) fn credentials_of_proxy(server: &Uri) -> Option<HeaderValue> {
    if server.scheme() != Some(&Scheme::HTTP) {
        return None;
    }
    PROXIES.intercept(server)?.basic_auth().cloned()
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<Stream>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let connected = self.clone().connect(server);
        Box::pin(async move {
            tokio::time::timeout(limits::CONNECT_DEADLINE, connected)
                .await
                .unwrap_or_else(|_| Err(SlowConnect.into()))
        })
    }
}

trait Io: Read + Write + Connection + Send + Unpin {}
impl<T: Read + Write + Connection + Send + Unpin> Io for T {}

/// A connection.
pub(crate) struct Stream {
    io: Box<dyn Io>,
    /// Whether a proxy takes the requests themselves, and not only the bytes.
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(context, parts)
    }
}

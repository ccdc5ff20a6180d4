//! Listening, with and without TLS, and connections that can be reset.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::Router;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::engine::lock;
use crate::serve::{Cut, Peer};

/// The largest header list over HTTP/2: a token and a long query exceed what hyper takes by itself.
const HEADER_LIST_LIMIT: u32 = 256 * 1024;

/// What connections are accepted with: the acceptor can be exchanged, and none is plain HTTP.
pub(crate) type Tls = Option<Arc<Mutex<TlsAcceptor>>>;

/// Accepts until it is aborted; its connections end with it.
pub(crate) fn accept(
    listener: TcpListener,
    tls: Tls,
    router: Router,
    count: Arc<AtomicU64>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, address)) = accepted else { continue };
                    let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                    let peer = Peer { address, connection: number, certificates: Arc::default() };
                    let acceptor = tls.as_ref().map(|tls| lock(tls).clone());
                    connections.spawn(connection(stream, peer, acceptor, router.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    })
}

async fn connection(stream: TcpStream, mut peer: Peer, tls: Option<TlsAcceptor>, router: Router) {
    let reset = Arc::new(AtomicBool::new(false));
    let _without_it_answers_only_wait_longer = stream.set_nodelay(true);
    let stream = Resettable { stream, reset: Arc::clone(&reset) };
    match tls {
        None => serve(stream, peer, router, reset, false).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                let (_, session) = stream.get_ref();
                let http2 = session.alpn_protocol() == Some(b"h2");
                let certificates = session.peer_certificates().unwrap_or_default();
                peer.certificates =
                    certificates.iter().map(|certificate| certificate.clone().into_owned()).collect();
                serve(stream, peer, router, reset, http2).await;
            }
        }
    }
}

async fn serve<S>(stream: S, peer: Peer, router: Router, reset: Arc<AtomicBool>, http2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut = Arc::new(Notify::new());
    let cutting = Arc::clone(&cut);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (response, reset, cut) = (router.call(request), Arc::clone(&reset), Arc::clone(&cutting));
        async move {
            let response: Result<Response, Infallible> = response.await;
            match response {
                Ok(response) if response.extensions().get::<Cut>().is_some() => {
                    reset.store(true, Ordering::Relaxed);
                    cut.notify_one();
                    Err(io::Error::from(io::ErrorKind::ConnectionReset))
                }
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        }
    });
    let stream = TokioIo::new(stream);
    let connection = async {
        // How a connection ends is its caller's business.
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).max_header_list_size(HEADER_LIST_LIMIT);
            let _ended = builder.serve_connection(stream, service).await;
        } else {
            let _ended =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(stream, service).await;
        }
    };
    // Over HTTP/2 an error would end only its own stream.
    tokio::select! {
        () = connection => {}
        () = cut.notified() => {}
    }
}

/// A stream that ends with RST instead of FIN when it was told so.
struct Resettable {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            let _without_it_the_end_is_only_gentler = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

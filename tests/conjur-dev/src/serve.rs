//! From the wire to an answer and back, with the faults in between.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::Version;
use axum::http::header::{DATE, HeaderValue};
use axum::response::Response;
use futures::{StreamExt as _, stream};
use rustls::pki_types::CertificateDer;

use crate::Server;
use crate::control::{Effect, Kind, Seen, When};
use crate::engine::Engine;
use crate::http::reply::Reply;
use crate::http::request::Request;

/// On a response: cut the connection instead of sending it.
#[derive(Clone, Copy)]
pub(crate) struct Cut;

/// On a request: who is at the other end.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Counted from 1.
    pub(crate) connection: u64,
    /// What TLS got: the caller's certificate, then those between it and its root.
    pub(crate) certificates: Arc<[CertificateDer<'static>]>,
}

/// The Conjur server and, under `/_dev`, its controls.
pub(crate) fn router(server: Server) -> Router {
    let conjur = Router::new().fallback(conjur).with_state(Arc::clone(&server.engine));
    Router::new().nest("/_dev", crate::dev::router(server)).fallback_service(conjur)
}

/// An answer with the time of the server's own clock, which a test may have put wrong.
async fn conjur(State(engine): State<Arc<Engine>>, request: HttpRequest) -> Response {
    let mut response = answer(&engine, request).await;
    let date = engine.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::try_from(date) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

async fn answer(engine: &Arc<Engine>, request: HttpRequest) -> Response {
    // An error here is a caller that went away within its own request.
    let Ok(request) = read(request).await else { return cut() };
    let id = note(engine, &request);
    let before = engine.control.strike(&request.method, &request.path, When::Before).await;
    if let Some(effect) = before {
        return spoil(engine, id, Reply::bare(500), effect).await;
    }
    // The real server goes on when its caller is gone, above all with a policy load.
    let (worker, method, path) = (Arc::clone(engine), request.method.clone(), request.path.clone());
    let work = tokio::spawn(async move {
        let reply = crate::http::answer(&worker, &request).await;
        worker.control.note_reply(id, reply.status, reply.login.as_deref());
        reply
    });
    let reply = work.await.unwrap_or_else(|_| Reply::html(500));
    match engine.control.strike(&method, &path, When::After).await {
        None => reply.into_response(),
        Some(effect) => spoil(engine, id, reply, effect).await,
    }
}

/// What becomes of a reply under an effect.
async fn spoil(engine: &Engine, id: u64, reply: Reply, effect: Effect) -> Response {
    match effect {
        Effect::Latency { .. } => reply.into_response(),
        Effect::Status { status, retry_after } => {
            engine.control.note_reply(id, status, None);
            let mut reply = match status {
                401 => Reply::plain(401, "Unauthorized: Invalid token"),
                status => Reply::html(status),
            };
            if let Some(seconds) = retry_after {
                reply = reply.with("retry-after", seconds.to_string());
            }
            reply.into_response()
        }
        Effect::Reset => cut(),
        Effect::Truncate => truncated(&reply),
        Effect::Stall => std::future::pending().await,
    }
}

fn cut() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Cut);
    response
}

/// All the headers, with the right length, and half of the body.
fn truncated(reply: &Reply) -> Response {
    let half = reply.body.slice(..reply.body.len() / 2);
    let length = reply.body.len().to_string();
    let mut response = reply.clone().with("content-length", length).into_response();
    let broken = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    // What is sent at once leaves only when the body makes the connection wait.
    let end = stream::once(async move {
        tokio::task::yield_now().await;
        Err(broken())
    });
    *response.body_mut() = Body::from_stream(stream::iter([Ok(half)]).chain(end));
    response
}

async fn read(request: HttpRequest) -> Result<Request, axum::Error> {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>();
    let forwarded = parts.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    // The real server trusts its proxies, and here everybody is one (recording 529).
    let forwarded = forwarded.and_then(|value| value.split(',').next()?.trim().parse::<IpAddr>().ok());
    Ok(Request {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        raw_query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: to_bytes(body, usize::MAX).await?,
        client_ip: forwarded
            .or_else(|| peer.map(|peer| peer.address.ip()))
            .unwrap_or(IpAddr::from([127, 0, 0, 1])),
        http2: parts.version == Version::HTTP_2,
        connection: peer.map(|peer| peer.connection).unwrap_or_default(),
        certificates: peer.map(|peer| Arc::clone(&peer.certificates)).unwrap_or_default(),
    })
}

fn note(engine: &Engine, request: &Request) -> u64 {
    let segments = request.segments().unwrap_or_default();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let by_token = request.token().and_then(|token| engine.verify(token).ok()).map(|claims| claims.login);
    let by_basic = || request.basic().map(|(login, _)| login);
    let login = match &*segments {
        ["authn", _, login, "authenticate"] | ["authn-jwt" | "authn-cert", _, _, login, "authenticate"] => {
            Some((*login).to_owned())
        }
        _ => by_token.or_else(by_basic),
    };
    let kind = Kind::of(request.method(), &segments, &request.raw_query);
    let path = match request.raw_query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    };
    engine.control.note(Seen {
        id: 0,
        method: request.method.clone(),
        path,
        login,
        status: None,
        kind,
        http2: request.http2,
        connection: request.connection,
        client_certificate: !request.certificates.is_empty(),
        request_id: request.header("x-request-id").map(str::to_owned),
    })
}

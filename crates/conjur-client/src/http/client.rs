//! The HTTP client: hyper's, with a bound for what it reads ahead on each connection, and one deadline for a request and
//! its answer. It follows no redirects and repeats nothing.

use bytes::Bytes;
use http::header::{ACCEPT, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::connector::{Connector, credentials_of_proxy};
use crate::limits;
use crate::reach::BoxError;

/// A client of one server, with a pool of connections.
pub(crate) struct HttpClient {
    inner: legacy::Client<Connector, Full<Bytes>>,
    user_agent: HeaderValue,
}

/// Why there is no answer, or not the whole of it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection came about: nothing was sent.
    Connect(BoxError),
    /// The deadline passed.
    Late,
    /// The connection broke, or brought what is not HTTP.
    Broken(BoxError),
}

/// An answer whose body is still to come.
pub(crate) struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    deadline: Instant,
}

impl HttpClient {
    /// Keeps at most `idle` connections that nothing uses.
    pub(crate) fn new(connector: Connector, idle: usize, user_agent: HeaderValue) -> Self {
        let inner = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            // A busy keep-alive connection holds a thread of the server; idle ones are let go before it does it.
            .pool_idle_timeout(limits::SOCKET_IDLE)
            .pool_max_idle_per_host(idle)
            .http1_max_buf_size(limits::HTTP1_BUFFER)
            .http1_max_headers(limits::HTTP1_HEADERS)
            .http2_max_header_list_size(limits::HTTP2_HEADERS)
            .http2_initial_connection_window_size(limits::HTTP2_WINDOW)
            .http2_initial_stream_window_size(limits::HTTP2_WINDOW / 2)
            .build(connector);
        Self { inner, user_agent }
    }

    /// Sends one request. `deadline` is that of the whole answer, not only of its head.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Uri,
        headers: HeaderMap,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Response, Failure> {
        let mut request = Request::new(Full::new(body));
        let of_proxy = credentials_of_proxy(&url);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, url, headers);
        let headers = request.headers_mut();
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(credentials) = of_proxy {
            headers.insert(PROXY_AUTHORIZATION, credentials);
        }
        match timeout_at(deadline, self.inner.request(request)).await {
            Err(_) => Err(Failure::Late),
            Ok(Err(error)) if error.is_connect() => Err(Failure::Connect(error.into())),
            Ok(Err(error)) => Err(Failure::Broken(error.into())),
            Ok(Ok(response)) => {
                let (head, body) = response.into_parts();
                Ok(Response { status: head.status, headers: head.headers, body, deadline })
            }
        }
    }
}

impl Response {
    /// How many bytes the body has, where that was said.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Whether the deadline has passed. A body whose parts are always there already never waits for it.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// The next part of the body; none at its end. Nothing is lost where it is dropped before it is ready.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match timeout_at(self.deadline, self.body.frame()).await {
                Err(_) => return Err(Failure::Late),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Failure::Broken(error.into())),
                // What follows a body is not read.
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::client::legacy::connect::dns::GaiResolver;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::reach::Names;
    use crate::tls::{self, Roots};

    fn name() -> HeaderValue {
        HeaderValue::from_static("test")
    }

    /// Answers one request with `bytes`.
    async fn ask(bytes: Vec<u8>) -> Result<Response, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                assert!(socket.read_buf(&mut head).await.unwrap() > 0);
            }
            socket.write_all(&bytes).await.ok();
        });
        let connector = Connector::new(
            Names::Any(GaiResolver::new()),
            tls::settings(Roots::Nobody, None).unwrap(),
            name(),
        );
        let deadline = Instant::now() + std::time::Duration::from_secs(30);
        HttpClient::new(connector, 1, name())
            .send(Method::GET, url, HeaderMap::new(), Bytes::new(), deadline)
            .await
    }

    #[tokio::test]
    async fn a_large_answer_is_read_in_parts_that_no_server_can_enlarge() {
        let length = 8 << 20;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let mut response = ask([head.into_bytes(), vec![b'x'; length]].concat()).await.unwrap();
        assert_eq!(response.content_length(), Some(length as u64));
        let mut read = 0;
        while let Some(chunk) = response.chunk().await.unwrap() {
            // What is left of the part before comes on top.
            assert!(chunk.len() <= 2 * limits::HTTP1_BUFFER, "{} bytes at once", chunk.len());
            read += chunk.len();
        }
        assert_eq!(read, length);
    }

    #[tokio::test]
    async fn a_head_that_has_no_end_is_given_up() {
        let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(2 * limits::HTTP1_BUFFER));
        assert!(matches!(ask(head.into_bytes()).await, Err(Failure::Broken(_))));
    }
}

//! One request on one connection, byte for byte as the test says.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Sends it, and expects an answer.
pub async fn send(address: SocketAddr, request: &Request) -> Response {
    let path: String = request.path.chars().take(80).collect();
    let answer = try_send(address, request).await;
    answer.unwrap_or_else(|error| panic!("{} {path}: {error}", request.method))
}

pub async fn try_send(address: SocketAddr, request: &Request) -> io::Result<Response> {
    exchange(TcpStream::connect(address).await?, request).await
}

/// One request and its answer on a stream; an error where the stream ends without a whole head.
pub async fn exchange<S>(mut stream: S, request: &Request) -> io::Result<Response>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head =
        format!("{} {} HTTP/1.1\r\nHost: conjur\r\nConnection: close\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    let chunked = request.headers.iter().any(|(name, _)| name == "transfer-encoding");
    if !chunked && (!request.body.is_empty() || request.method != "GET") {
        write!(head, "Content-Length: {}\r\n", request.body.len()).unwrap();
    }
    stream.write_all(&[head.as_bytes(), b"\r\n", &request.body].concat()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    loop {
        let response = parse(&answer).ok_or(io::ErrorKind::UnexpectedEof)?;
        // `100 Continue` comes before the answer.
        if response.status >= 200 {
            return Ok(response);
        }
        answer = response.body;
    }
}

fn parse(answer: &[u8]) -> Option<Response> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_lowercase(), value.trim().to_owned())
    });
    Some(Response { status, headers: headers.collect(), body: answer[end + 4..].to_vec() })
}

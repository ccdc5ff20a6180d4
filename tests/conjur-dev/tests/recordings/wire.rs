//! One request on one connection, byte for byte as the test says.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

pub async fn send(address: SocketAddr, request: &Request) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head =
        format!("{} {} HTTP/1.1\r\nHost: conjur\r\nConnection: close\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let chunked = request.headers.iter().any(|(name, _)| name == "transfer-encoding");
    if !chunked && (!request.body.is_empty() || request.method != "GET") {
        head.push_str(&format!("Content-Length: {}\r\n", request.body.len()));
    }
    let message = [head.as_bytes(), b"\r\n", &request.body].concat();
    stream.write_all(&message).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    let path: String = request.path.chars().take(80).collect();
    assert!(read.is_ok(), "{} {path}: {read:?} after {} bytes", request.method, answer.len());
    loop {
        let response = parse(&answer);
        // `100 Continue` comes before the answer.
        if response.status >= 200 {
            return response;
        }
        answer = response.body;
    }
}

fn parse(answer: &[u8]) -> Response {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer with a head");
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_lowercase(), value.trim().to_owned())
    });
    Response { status, headers: headers.collect(), body: answer[end + 4..].to_vec() }
}

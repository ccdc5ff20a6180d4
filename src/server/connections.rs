//! One HTTP server, whose connections are bounded in number, bytes and time: whoever gets as far as its address may
//! cost it little, and keeps no one else out.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::limits::{self, InUse, Limit};

/// How long open connections may hold up the end of the process.
const DRAIN: Duration = Duration::from_secs(5);
/// No connection can be taken, most likely for want of a file descriptor: looked at again after this.
const PAUSE: Duration = Duration::from_millis(50);

/// What the connections of one server may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many there are at once. One more ends the oldest of the address that has most.
    pub connections: usize,
    /// What counts them.
    pub limit: Limit,
    /// From the beginning to the end of the request's headers.
    pub header: Duration,
    /// From the beginning to the end of the answer.
    pub whole: Duration,
}

struct OpenConnection {
    peer: IpAddr,
    task: AbortHandle,
}

/// Serves one request a connection until told to stop, and then what is being answered, a few seconds at most.
pub async fn serve(listener: TcpListener, routes: Router, bounds: Bounds, shutdown: CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut open: Vec<OpenConnection> = Vec::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            _ = tasks.join_next(), if !tasks.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        open.retain(|one| !one.task.is_finished());
        if open.len() >= bounds.connections {
            limits::hit(bounds.limit);
            let peers: Vec<IpAddr> = open.iter().map(|one| one.peer).collect();
            open.remove(victim(&peers)).task.abort();
        }
        let task = tasks.spawn(one(stream, routes.clone(), bounds));
        open.push(OpenConnection { peer: peer.ip(), task });
        // Else a burst of connections would push out what came in it first, before its request was looked at.
        tokio::task::yield_now().await;
    }
    drop(listener);
    let drained = async { while tasks.join_next().await.is_some() {} };
    // What is still open then is dropped with the set.
    let _ = timeout(DRAIN, drained).await;
}

/// Which connection has to go: the oldest of the peer that has most.
fn victim(oldest_first: &[IpAddr]) -> usize {
    let count = |peer: &IpAddr| oldest_first.iter().filter(|other| *other == peer).count();
    let most = oldest_first.iter().map(count).max();
    oldest_first.iter().position(|peer| Some(count(peer)) == most).unwrap_or(0)
}

async fn one(stream: TcpStream, routes: Router, bounds: Bounds) {
    let _in_use = InUse::of(bounds.limit, 1);
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_buf_size(limits::HTTP_HEADER_BYTES)
        .keep_alive(false);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // Neither how a client failed nor that it was too slow is of interest to anybody but it.
    let _ = timeout(bounds.whole, connection).await;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);
    const BOUNDS: Bounds = Bounds {
        connections: 64,
        limit: Limit::HealthConnections,
        header: Duration::from_millis(300),
        whole: Duration::from_millis(600),
    };

    /// A server with a small page and one that is larger than what the kernel takes at once.
    async fn start() -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let routes = Router::new()
            .route("/", get(|| async { "ok\n" }))
            .route("/large", get(|| async { "x".repeat(64 << 20) }));
        (address, shutdown.clone(), tokio::spawn(serve(listener, routes, BOUNDS, shutdown)))
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server that has enough closes while this goes on.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn is_served(address: SocketAddr) {
        let begun = Instant::now();
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn five_hundred_connections_that_say_nothing_keep_nobody_out() {
        let (address, ..) = start().await;
        let mut idle = Vec::new();
        for _ in 0..500 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        is_served(address).await;
        // Those that were pushed out are closed, the rest runs into its deadline.
        for mut stream in idle {
            let read = timeout(DEADLINE, stream.read(&mut [0; 16])).await.unwrap();
            assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        }
        is_served(address).await;
    }

    #[tokio::test]
    async fn a_request_that_drips_and_one_that_is_too_large_end() {
        let (address, ..) = start().await;
        let mut dripping = TcpStream::connect(address).await.unwrap();
        let begun = Instant::now();
        while dripping.write_all(b"G").await.is_ok() {
            assert!(begun.elapsed() < DEADLINE, "it goes on");
            sleep(Duration::from_millis(20)).await;
        }
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
        assert!(!ask(address, &large).await.contains("200"));
        is_served(address).await;
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_ends() {
        let (address, shutdown, running) = start().await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        sleep(BOUNDS.whole * 2).await;
        let mut read = Vec::new();
        let _ = timeout(DEADLINE, slow.read_to_end(&mut read)).await.unwrap();
        assert!(read.len() < 64 << 20, "it was held open until it was read");
        shutdown.cancel();
        timeout(DEADLINE, running).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_connection_left_open_does_not_hold_up_the_end() {
        let (address, shutdown, running) = start().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        shutdown.cancel();
        timeout(DEADLINE, running).await.unwrap().unwrap();
    }

    #[test]
    fn who_has_most_connections_loses_the_oldest_of_them() {
        let (a, b, c): (IpAddr, IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), "fd00::1".parse().unwrap());
        for (open, expected) in
            [(vec![a, b, b, c], 1), (vec![a, b, c], 0), (vec![c, a, b, a], 1), (vec![], 0)]
        {
            assert_eq!(victim(&open), expected, "{open:?}");
        }
    }
}

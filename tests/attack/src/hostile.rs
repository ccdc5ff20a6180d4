//! A server that lets everybody in and then does what no Conjur does. The first segment of a path says what.

mod answers;
mod lies;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

pub use answers::Mode;
pub use lies::LIED;

/// A running one; it ends when this is dropped.
pub struct Hostile {
    address: SocketAddr,
    /// Its own, so that what it does delays nobody who measures.
    runtime: Option<Runtime>,
}

/// What was asked, as far as it matters.
pub struct Request {
    /// What the connection is there for.
    pub mode: Mode,
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query after the mode.
    pub path: String,
}

impl Hostile {
    /// Starts one, on a free port of the loopback interface.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").context("a hostile server")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(socket) else { return };
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        // Whoever is answered like this hangs up sooner or later.
                        serve(stream).await.ok();
                    });
                }
            }
        });
        Ok(Self { address, runtime: Some(runtime) })
    }

    /// Its address for a mode.
    pub fn url(&self, mode: Mode) -> String {
        format!("http://{}/{}", self.address, mode.name())
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(request) = next(&mut read).await? {
        if !answers::answer(&request, &mut write).await? {
            return write.shutdown().await;
        }
    }
    Ok(())
}

/// The next request of a connection, its body read and dropped.
async fn next(read: &mut BufReader<tokio::net::tcp::OwnedReadHalf>) -> std::io::Result<Option<Request>> {
    let mut first = String::new();
    if read.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).await? == 0 || line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or_default();
        }
    }
    tokio::io::copy(&mut read.take(length), &mut tokio::io::sink()).await?;
    let mut words = first.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default().trim_start_matches('/');
    let (mode, path) = path.split_once('/').unwrap_or((path, ""));
    Ok(Mode::named(mode).map(|mode| Request { mode, method, path: path.to_owned() }))
}

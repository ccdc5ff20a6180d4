//! JSON read while it comes in: the texts of twenty policy versions pass by without being held.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf, Bytes};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::error::{About, Error};
use super::http::{Call, Opened, Transport};

/// Twenty versions of 10 MiB, and what JSON's escapes add.
const STREAM_LIMIT: usize = 512 * 1024 * 1024;
const CHUNKS_AHEAD: usize = 4;

/// Reads the body of `response` as `T` on a blocking thread, fed as the chunks come in.
pub(crate) async fn read_json<T>(
    transport: &Transport,
    call: &Call,
    opened: Opened,
    about: About<'_>,
) -> Result<T, Error>
where
    T: DeserializeOwned + Send + 'static,
{
    let Opened { mut response, start } = opened;
    let status = response.status().as_u16();
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let parsing = tokio::task::spawn_blocking(move || {
        let mut reader = io::BufReader::with_capacity(64 * 1024, Chunks { chunks, rest: Bytes::new() });
        let value = serde_json::from_reader::<_, T>(&mut reader);
        if value.is_ok() {
            // What follows the value is read too, so that the connection can be used again.
            io::copy(&mut reader, &mut io::sink()).ok();
        }
        value
    });
    let mut read = 0;
    let fed = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                read += chunk.len();
                if read > STREAM_LIMIT {
                    let message = format!("the answer of {} is over {STREAM_LIMIT} bytes", about.url);
                    break Err(Error::TooLarge { limit: STREAM_LIMIT, message });
                }
                if sender.send(chunk).await.is_err() {
                    // What can't be read is not read to its end.
                    transport.done(call, status, start);
                    break Ok(());
                }
            }
            Ok(None) => {
                transport.done(call, status, start);
                break Ok(());
            }
            Err(error) => break Err(transport.fault(call, error, start).error),
        }
    };
    drop(sender);
    let value = parsing.await;
    fed?;
    match value {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::Unexpected {
            status: Some(status),
            message: format!(
                "{} answered with something that could not be read as {} (line {}, column {}): is it the URL of a \
                 Conjur API?",
                about.url,
                about.target,
                error.line(),
                error.column()
            ),
        }),
        Err(_) => {
            let message = format!("reading the answer of {} was stopped", about.url);
            Err(Error::Unavailable { message })
        }
    }
}

struct Chunks {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Streams take as long as a load may.
pub(crate) fn deadline(call: Call, timeout: Duration) -> Call {
    Call { timeout, ..call }
}

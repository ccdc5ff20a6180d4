//! JSON read while it comes in: the texts of twenty policy versions pass by without being held.
//!
//! No thread waits for a server: what is kept is gathered as the chunks come, and read at the end.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::Error;
use super::http::{Call, Opened, Transport};
use super::memory_budget::Reading;
use super::response::About;
use super::scan::Scan;
use crate::budget::Taken;
use crate::limits::{ANSWERS_PATIENCE, Limit, STREAM_BYTES, STREAM_SMALL, hit};

/// Reads the body of `response` as `T`, keeping little of it.
pub(crate) async fn read_json<T>(
    transport: &Transport,
    call: &Call,
    opened: Opened,
    about: About<'_>,
) -> Result<T, Error>
where
    T: DeserializeOwned + Send + 'static,
{
    let Opened { mut response, start, socket: _socket } = opened;
    let status = response.status.as_u16();
    let (mut read, mut scan) = (0, Scan::keeping());
    let payer = transport.payer(&call.parties);
    let mut reading = Reading::new(transport.memory(), &payer, ANSWERS_PATIENCE);
    let (mut place, mut in_line) = (None::<Taken>, Duration::ZERO);
    let too_large = |limit: usize| {
        hit(Limit::AnswerBytes);
        let message = format!("the answer of {} is over {limit} bytes, which is all that is read", about.url);
        Error::TooLarge { limit, message }
    };
    loop {
        let wanted = || reading.is_wanted() || place.as_ref().is_some_and(Taken::is_wanted);
        let chunk = transport.chunk(call, &mut response, start, wanted).await;
        let held_up = reading.has_waited() || in_line >= ANSWERS_PATIENCE / 10;
        let chunk = chunk.map_err(|fault| if held_up { transport.no_room(call) } else { fault });
        let Some(chunk) = chunk.map_err(|fault| fault.error)? else { break };
        read += chunk.len();
        if read > STREAM_BYTES {
            return Err(too_large(STREAM_BYTES));
        }
        if read > STREAM_SMALL && place.is_none() {
            let since = Instant::now();
            place = transport.memory().streams().take(&payer, 1, ANSWERS_PATIENCE).await;
            in_line = since.elapsed();
            if place.is_none() {
                return Err(transport.crowded(call, start).error);
            }
        }
        scan.push(&chunk);
        if scan.is_hopeless() {
            break;
        }
        if scan.weight() > call.limit {
            return Err(too_large(call.limit));
        }
        // What is read as a stream takes long, and leaves permits to others already.
        if reading.up_to(scan.weight(), call.limit, || true).await.is_err() {
            return Err(transport.crowded(call, start).error);
        }
    }
    transport.done(call, status, start);
    let kept = scan.into_kept();
    let value = if kept.len() <= STREAM_SMALL {
        serde_json::from_slice(&kept).ok()
    } else {
        // It takes milliseconds, waits for no one, and is one of few.
        let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&kept).ok()).await;
        let stopped = |error| {
            Error::unavailable(format!("reading the answer of {} was stopped", about.url)).because(error)
        };
        parsed.map_err(stopped)?
    };
    value.ok_or_else(|| Error::Unexpected {
        status: Some(status),
        message: format!(
            "{} answered with something that could not be read as {}: is it the URL of a Conjur API?",
            about.url, about.target
        ),
    })
}

/// Streams take as long as a load may.
pub(crate) fn deadline(call: Call, timeout: Duration) -> Call {
    Call { timeout, ..call }
}

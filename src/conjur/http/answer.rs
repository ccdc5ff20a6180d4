//! An answer that was read, and what its headers say.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};

use crate::conjur::error;
use crate::conjur::observe::Endpoint;
use crate::conjur::share::Share;
use crate::limits;
use crate::sensitive::Sensitive;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub endpoint: Endpoint,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Sensitive<Vec<u8>>,
    /// Of the budget of bytes in flight, where it is large.
    pub share: Option<Share>,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn is_html(&self) -> bool {
        self.header(&CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"))
    }

    pub(crate) fn encoding(&self) -> Option<&str> {
        self.header(&CONTENT_ENCODING).filter(|encoding| *encoding != "identity")
    }

    /// A 404 of Conjur has a JSON body; one without is a route, or a server, that isn't Conjur's.
    pub(crate) fn is_conjur_404(&self) -> bool {
        error::message_of(self).is_some()
    }

    /// `Retry-After`, in seconds or as a date, which is compared with the server's own clock; never longer than
    /// [`RETRY_AFTER`](limits::RETRY_AFTER).
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = self.header(&RETRY_AFTER)?.trim();
        retry_after(text, self.header(&DATE))
    }
}

/// What a `Retry-After` asks for, given the answer's `Date`.
pub(crate) fn retry_after(text: &str, now: Option<&str>) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        // More digits than a number has room for are only a longer pause.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(limits::RETRY_AFTER));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
    let pause = date(text)?.duration_since(now.and_then(date)?);
    Duration::try_from(pause).ok().map(|pause| pause.min(limits::RETRY_AFTER))
}

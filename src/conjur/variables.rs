//! Variables: what concurrent callers ask for is gathered into batches, and each caller gets its own answers.
//!
//! ```text
//! fetch_variables ─► collector (one task a client)
//!                      remembered as bad? ─► its error, no request
//!                      in flight?         ─► wait for that
//!                      waiting            ─► cut (by count and bytes, the foreground first) ─► a job
//!                    job: isolate ─► wire     a bad id costs O(log n) requests, the others get their values
//!                    re-look: bad ids together, one request a second; what is there now is announced
//! ```
//!
//! Several parties share a collector. A batch is filled from all of them by turns; whoever's ids are bad pays for finding
//! out which: by requests of their own, of which others wait for one at most before each of theirs.

mod bad;
mod collector;
mod cut;
mod isolate;
mod waiting;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub(super) use self::collector::{Collector, Timing};
use super::error::Error;
use super::id::VariableId;
use super::share::Share;
use super::{Client, Lane};
use crate::sensitive::Sensitive;

/// What is asked for: a variable, its newest version or a pinned one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wanted {
    /// The variable.
    pub id: VariableId,
    /// `None`: the newest. The server keeps 20.
    pub version: Option<u32>,
}

impl Wanted {
    /// The newest version of `id`.
    pub fn latest(id: VariableId) -> Self {
        Self { id, version: None }
    }

    /// Whether it can travel with others.
    fn fits_a_batch(&self) -> bool {
        self.version.is_none() && self.id.fits_a_batch()
    }

    /// How messages name it.
    fn target(&self) -> String {
        match self.version {
            Some(version) => format!("version {version} of variable {}", self.id),
            None => format!("variable {}", self.id),
        }
    }
}

/// A value; wiped when the last holder drops it.
pub type Value = Arc<Fetched>;

/// A value as it was fetched, with what it takes of the budget of bytes in flight.
#[derive(Debug)]
pub struct Fetched {
    value: Sensitive<Vec<u8>>,
    share: Option<Arc<Share>>,
}

impl Fetched {
    pub(super) fn new(value: Sensitive<Vec<u8>>, share: Option<Share>) -> Self {
        Self { value, share: share.map(Arc::new) }
    }

    /// The bytes.
    pub fn expose(&self) -> &Vec<u8> {
        self.value.expose()
    }
}

/// The answer for one id.
pub type Answer = Result<Value, Error>;

/// How old what is known of a bad id, or the catalogue, may be. Values are never kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// A remembered `NotFound` or `Forbidden` will do: the client looks again by itself. So will any catalogue that is
    /// still kept.
    Remembered,
    /// Only if it was seen, or its walk begun, within this time; zero asks the server.
    NoOlderThan(Duration),
    /// What is remembered of a bad id will do, but a value must be asked for, and a walk begun, after this: who knows a
    /// newer version's number must not get the value before it.
    Since(Instant),
}

impl Freshness {
    /// The same, with values that are asked for after `at`.
    #[must_use]
    pub fn and_since(self, at: Instant) -> Self {
        match self {
            Self::Remembered => Self::Since(at),
            Self::NoOlderThan(age) => Self::NoOlderThan(age.min(at.elapsed())),
            Self::Since(earlier) => Self::Since(earlier.max(at)),
        }
    }
}

impl Client {
    /// Fetches variables, together with what others ask for at the same time. Each id has its own answer: the
    /// value, [`Error::NotFound`], [`Error::Forbidden`], or an error of the [connection](Error::is_connection).
    /// Dropping the future disturbs nobody else.
    pub async fn fetch_variables(
        &self,
        wanted: &[Wanted],
        lane: Lane,
        freshness: Freshness,
    ) -> HashMap<Wanted, Answer> {
        let party = self.session.parties.first();
        self.inner.collector.fetch(&self.session, party, wanted, lane, freshness).await
    }

    /// A queue of ids that were bad (remembered) and can be read now. Ends with the client. An id that nobody has
    /// asked for in an hour is forgotten and never announced.
    pub fn bad_ids_found(&self) -> mpsc::UnboundedReceiver<Vec<Wanted>> {
        self.inner.collector.subscribe()
    }
}

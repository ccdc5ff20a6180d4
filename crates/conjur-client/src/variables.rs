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

mod batch_limits;
mod batcher;
mod bisect;
mod fetched;
mod negative_cache;
mod queue;
mod requests;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use tokio::sync::mpsc;

pub(super) use self::batcher::{Collector, Timing};
pub use self::fetched::{Answer, Fetched, Freshness, Value, Wanted};
use super::client::Client;
use crate::gate::Lane;

impl Client {
    /// Fetches variables, together with what others ask for at the same time. Each id has its own answer: the
    /// value, [`Error::NotFound`], [`Error::Forbidden`], or an error of the [connection](Error::is_connection).
    /// Dropping the future disturbs no one else.
    pub async fn fetch_variables(
        &self,
        wanted: &[Wanted],
        lane: Lane,
        freshness: Freshness,
    ) -> HashMap<Wanted, Answer> {
        let party = self.session.parties.first();
        self.inner.collector.fetch(&self.session, party, wanted, lane, freshness).await
    }

    /// A queue of ids that were bad (remembered) and can be read now. Ends with the client. An id that no one has
    /// asked for in an hour is forgotten and never announced.
    pub fn bad_ids_found(&self) -> mpsc::UnboundedReceiver<Vec<Wanted>> {
        self.inner.collector.subscribe()
    }
}

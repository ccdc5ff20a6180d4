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
//!
//! ```
//! # async fn example(client: conjur_client::Client) -> Result<(), conjur_client::InvalidId> {
//! use conjur_client::{Error, Freshness, Priority, VariableId, Wanted};
//!
//! let wanted = [Wanted::latest(VariableId::new("apps/db/user")?), Wanted::latest(VariableId::new("apps/db/password")?)];
//! // Several callers at once make one batch; who is on a schedule lets others go first.
//! let answers = client.fetch_variables(&wanted, Priority::Refresh, Freshness::Remembered).await;
//! for (wanted, answer) in answers {
//!     match answer {
//!         Ok(value) => println!("{}: {} bytes", wanted.id, value.expose().len()),
//!         Err(Error::NotFound { .. }) => println!("{} is not there", wanted.id),
//!         Err(error) => println!("{error}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

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
use crate::gate::Priority;

impl Client {
    /// Fetches variables, together with what others ask for at the same time. Each id has its own answer: the value,
    /// [`Error::NotFound`](crate::Error::NotFound), [`Error::Forbidden`](crate::Error::Forbidden), or an error of the
    /// [connection](crate::Error::is_connection).
    /// Dropping the future disturbs no one else.
    pub async fn fetch_variables(
        &self,
        wanted: &[Wanted],
        priority: Priority,
        freshness: Freshness,
    ) -> HashMap<Wanted, Answer> {
        let party = self.session.parties.first();
        self.inner.collector.fetch(&self.session, party, wanted, priority, freshness).await
    }

    /// What was bad (remembered) and can be read now, from here on. Ends with the client. An id that no one has asked for in
    /// an hour is forgotten and never announced.
    pub fn bad_ids_found(&self) -> BadIdsFound {
        BadIdsFound(self.inner.collector.subscribe())
    }
}

/// Announces ids that were missing or forbidden and can be read now.
#[derive(Debug)]
pub struct BadIdsFound(mpsc::UnboundedReceiver<Vec<Wanted>>);

impl BadIdsFound {
    /// The next ones, when there are some; none after the client has ended. Nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> Option<Vec<Wanted>> {
        self.0.recv().await
    }
}

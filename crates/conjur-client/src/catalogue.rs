//! The catalogue: which variables there are, their annotations, and the numbers of their newest versions. No value.
//!
//! All callers of a client share the walks through the list's pages (API: List Resources; recordings 408 to 441): one at
//! a time for each search term. Walking leaves no fetch in the server's audit log.
//!
//! ```
//! # async fn example(client: conjur_client::Client) -> Result<(), conjur_client::Error> {
//! use conjur_client::{Freshness, Priority};
//!
//! let catalogue = client.list_variables(None, Priority::Refresh, Freshness::Remembered).await?;
//! for variable in catalogue.below("apps/db/") {
//!     println!("{} has version {:?}", variable.id(), variable.mark().version);
//! }
//!
//! // What is there after a change of one's own: a walk that began later.
//! client.set_secret("variable", "apps/db/password", b"new").await?;
//! let now = std::time::Instant::now();
//! let catalogue = client.list_variables(None, Priority::Foreground, Freshness::Since(now)).await?;
//! if let Some(variable) = catalogue.get("apps/db/password") {
//!     assert!(variable.has_value());
//!     println!("of {:?}, made at {:?}", variable.annotation("team"), variable.made_at());
//! }
//! # Ok(())
//! # }
//! ```

mod kept;
mod list;
mod walk;
mod walks;

use std::sync::Arc;

pub(super) use self::kept::KeptLists;
pub use self::list::{Catalogue, Listed, Mark};
pub(super) use self::walks::Catalogues;
use super::client::Client;
use super::error::Error;
use super::variables::Freshness;
use crate::gate::Priority;

impl Client {
    /// The variables that the client sees, or of those the ones with the whole words of `search` in their id or
    /// annotations (see [`Listing::search`](super::Listing)). Callers share a walk through the pages: the one that
    /// runs, or one that ended a few seconds ago. [`Freshness::NoOlderThan`] is how long ago it may have begun; zero
    /// waits for one that begins after the call, [`Freshness::Since`] for one that begins after that moment. A variable that is there for as long as the walk takes is in it,
    /// whatever is made or removed meanwhile.
    ///
    /// # Errors
    /// Of the [connection](Error::is_connection), or of the list: [`Error::Invalid`] for a search that the server
    /// refuses, [`Error::TooLarge`] for annotations of megabytes, [`Error::Unexpected`] where the list changes faster
    /// than it can be read. What is not the connection's is remembered as long as a catalogue is.
    pub async fn list_variables(
        &self,
        search: Option<&str>,
        priority: Priority,
        freshness: Freshness,
    ) -> Result<Arc<Catalogue>, Error> {
        self.inner.catalogues.get(&self.session, search, priority, freshness).await
    }
}

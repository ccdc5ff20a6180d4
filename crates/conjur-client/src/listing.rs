//! Lists of resources: counted, by page, or as a stream of pages.
//!
//! ```
//! # async fn example(client: conjur_client::Client) -> Result<(), conjur_client::Error> {
//! use conjur_client::Listing;
//! use futures::TryStreamExt as _;
//!
//! let hosts = Listing::of_kind("host");
//! let mut pages = std::pin::pin!(client.list_pages(&hosts, 1_000));
//! while let Some(page) = pages.try_next().await? {
//!     println!("{} more", page.len());
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::sync::Arc;

use futures::Stream;
use futures::stream;
use serde::Deserialize;

use super::client::Client;
use super::error::Error;
use super::id::{self, RoleId};
use super::memory_budget::keep_memory;
use super::observe::Endpoint;
use super::pages::{Page, Pages, Turn, asks_for_less, lost, no_room};
use super::resources::Resource;
use super::session::{json, longer};
use super::stream as body;
use crate::limits::{ANSWERS_PATIENCE, ID_BYTES, LIST_BYTES, Limit, hit};

/// Which resources. All that the caller sees, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Only this kind.
    pub kind: Option<String>,
    /// Only those with these whole words in their id or annotations: `pass` does not find `password`, and English
    /// stop words such as `own` find nothing (recordings 425 to 429, 713). Nor is a word found in an annotation that
    /// has slashes: it is a path to the server (776).
    pub search: Option<String>,
    /// Only what this role owns, itself or through what it owns (recording 431).
    pub owner: Option<RoleId>,
    /// What this role sees, rather than the caller.
    pub acting_as: Option<RoleId>,
}

impl Listing {
    /// All resources of a kind.
    pub fn of_kind(kind: impl Into<String>) -> Self {
        Self { kind: Some(kind.into()), ..Self::default() }
    }

    fn target(&self) -> String {
        match &self.kind {
            Some(kind) => format!("the list of resources of kind {kind}"),
            None => "the list of resources".to_owned(),
        }
    }
}

impl Client {
    /// One page of what `listing` names: `GET resources/{account}[/{kind}]?limit=&offset=…` (API: List Resources;
    /// recordings 408 to 441). An unknown account is an empty page.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit of 0 or above 1,000, [`Error::NotFound`] for an owner that is missing (432),
    /// [`Error::Forbidden`] for a role to act as that isn't the caller's (435, 436).
    pub async fn list(&self, listing: &Listing, page: Page) -> Result<Vec<Resource>, Error> {
        let session = self.session();
        let path = self.listing_path(listing, &format!("limit={}&offset={}", page.limit, page.offset));
        let call = body::deadline(session.get(Endpoint::ListResources, path), longer(&session.limits));
        let target = listing.target();
        let about = session.about(&target, "the right to act as that role");
        session.stream(&call, about).await?.ok_or_else(|| about.missing())
    }

    /// One page of the visible resources of a kind: `GET resources/{account}/{kind}?limit=&offset=`. An unknown
    /// account is an empty page; listing variables reads all their versions (though no value is fetched).
    pub async fn list_resources(&self, kind: &str, page: Page) -> Result<Vec<Resource>, Error> {
        self.list(&Listing::of_kind(kind), page).await
    }

    /// All of what `listing` names, by pages of `limit` resources (2 to 1,000; fewer where the server takes no larger
    /// ones), each resource once. What is there for as long as this takes is among them, whatever is made or removed
    /// meanwhile. Ends after an error.
    ///
    /// # Errors
    /// As for [`list`](Client::list); [`Error::Unexpected`] where the list changes faster than it can be read.
    pub fn list_pages<'a>(
        &'a self,
        listing: &'a Listing,
        limit: u32,
    ) -> impl Stream<Item = Result<Vec<Resource>, Error>> + 'a {
        // Hashes, with a key of their own: a hundred bytes of id are eight.
        let (walk, hasher) = ((Pages::of(limit), HashSet::new(), 0), Arc::new(RandomState::new()));
        let hash = move |resource: &Resource| hasher.hash_one(&resource.id);
        stream::try_unfold((Some(walk), hash), move |(walk, hash)| async move {
            let Some((mut pages, mut seen, mut bytes)) = walk else { return Ok(None) };
            loop {
                let mut page = match self.list(listing, pages.page()).await {
                    Ok(page) => page,
                    Err(error) if pages.may_halve() && asks_for_less(&error) => {
                        pages.halve();
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let known = page.first().is_some_and(|first| seen.contains(&hash(first)));
                let new = page.iter().filter(|resource| !seen.contains(&hash(resource))).count();
                let turn = pages.turn(page.len(), new, known);
                match turn {
                    Turn::Back => {}
                    Turn::Lost(why) => return Err(lost(&listing.target(), why, self.session())),
                    Turn::More | Turn::Last => {
                        // One that is too long to be asked for costs only itself.
                        page.retain(|one| one.id.len() <= ID_BYTES && seen.insert(hash(one)));
                        let more = page.iter().map(Resource::bytes).sum::<usize>();
                        bytes += more;
                        if bytes > LIST_BYTES {
                            return Err(self.too_large(listing));
                        }
                        // Who asks may keep the pages until its work is done.
                        let payer = self.session().payer();
                        let lists = self.session().transport.memory().lists();
                        let memory = lists.take(&payer, more, ANSWERS_PATIENCE).await;
                        keep_memory(memory.ok_or_else(|| no_room(&listing.target(), self.session()))?);
                        return Ok(Some((
                            page,
                            ((turn == Turn::More).then_some((pages, seen, bytes)), hash),
                        )));
                    }
                }
            }
        })
    }

    fn too_large(&self, listing: &Listing) -> Error {
        hit(Limit::ListBytes);
        let (url, most) = (self.session().transport.url(), LIST_BYTES >> 20);
        let message =
            format!("{} at {url} takes over {most} MiB, which is all that is read of one", listing.target());
        Error::TooLarge { limit: LIST_BYTES, message }
    }

    /// How many resources `listing` names: the same with `count=true` (recordings 413 and 414), which is far cheaper.
    ///
    /// # Errors
    /// As for [`list`](Client::list).
    pub async fn count_resources(&self, listing: &Listing) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct Count {
            count: u64,
        }
        let session = self.session();
        let call = session.get(Endpoint::ListResources, self.listing_path(listing, "count=true"));
        let answer = session.call(&call).await.map_err(|fault| fault.error)?;
        let target = listing.target();
        let about = session.about(&target, "the right to act as that role");
        json::<Count>(&answer, about).map(|count| count.count)
    }

    fn listing_path(&self, listing: &Listing, first: &str) -> String {
        let mut path = format!("resources/{}", id::segment(&self.session().account));
        // Writing to a String can't fail.
        if let Some(kind) = &listing.kind {
            write!(path, "/{}", id::segment(kind)).ok();
        }
        write!(path, "?{first}").ok();
        if let Some(search) = &listing.search {
            write!(path, "&search={}", id::query(search)).ok();
        }
        for (name, role) in [("owner", &listing.owner), ("acting_as", &listing.acting_as)] {
            if let Some(role) = role {
                write!(path, "&{name}={}", id::query(&role.to_string())).ok();
            }
        }
        path
    }
}

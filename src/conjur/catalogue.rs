//! The catalogue: which variables there are, their annotations, and the numbers of their newest versions. No value.
//!
//! All callers of a client share the walks through the list's pages (API: List Resources; recordings 408 to 441): one at
//! a time for each search term. Walking leaves no fetch in the server's audit log.

mod kept;
mod walk;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::time::Instant;

pub(super) use self::kept::IN_MEMORY;
use self::kept::Shelf;
use super::error::Error;
use super::session::Session;
use super::variables::Freshness;
use super::{Client, catalogue};
use crate::budget::Taken;
use crate::gate::{Lane, Parties};
use crate::lock::lock;

/// What the list says of the variables that a client sees, in the order of their ids.
#[derive(Debug)]
pub struct Catalogue {
    entries: Box<[Listed]>,
    began: Instant,
    read_at: Instant,
    /// What it takes of the memory for lists.
    bytes: Option<Taken>,
}

/// One variable, as the list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    id: Box<str>,
    annotations: Box<[(Box<str>, Box<str>)]>,
    mark: Mark,
}

/// Which value a variable has, without the value: another one has another mark, one that is set back to an older value
/// too. A variable that was removed and made again counts its versions from 1 anew, and has another mark all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The number of its newest version; none where it was never set.
    pub version: Option<u32>,
    /// A hash of when the variable was made, as the server writes it.
    pub made: u64,
}

impl Listed {
    /// How much memory it takes, with what the allocator adds.
    fn bytes(&self) -> usize {
        let notes = self.annotations.iter().map(|(name, value)| name.len() + value.len() + 64);
        std::mem::size_of::<Self>() + 48 + self.id.len() + notes.sum::<usize>()
    }

    /// Its id, below the account.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its annotations, name and value.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.annotations.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Which value it has.
    pub fn mark(&self) -> Mark {
        self.mark
    }
}

impl Catalogue {
    /// Of what was listed, in any order. Of one id that comes twice the later one counts.
    fn of(mut entries: Vec<Listed>) -> Self {
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        entries.dedup_by(|later, kept| {
            let twice = later.id == kept.id;
            if twice {
                std::mem::swap(later, kept);
            }
            twice
        });
        let now = Instant::now();
        Self { entries: entries.into(), began: now, read_at: now, bytes: None }
    }

    /// How much memory it takes.
    fn bytes(&self) -> usize {
        self.bytes.as_ref().map_or(0, Taken::amount)
    }

    /// When its walk began: what was made later may not be in it.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// When its walk had ended.
    pub fn read_at(&self) -> Instant {
        self.read_at
    }

    /// The variable with this id below the account, if the client sees it.
    pub fn get(&self, id: &str) -> Option<&Listed> {
        self.entries.binary_search_by(|entry| (*entry.id).cmp(id)).ok().map(|at| &self.entries[at])
    }

    /// The variables whose ids begin with `prefix`, in the order of their ids; all for an empty one.
    pub fn below(&self, prefix: &str) -> &[Listed] {
        let start = self.entries.partition_point(|entry| *entry.id < *prefix);
        let rest = &self.entries[start..];
        &rest[..rest.partition_point(|entry| entry.id.starts_with(prefix))]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Client {
    /// The variables that the client sees, or of those the ones with the whole words of `search` in their id or
    /// annotations (see [`Listing::search`](super::Listing)). Callers share a walk through the pages: the one that
    /// runs, or one that ended a few seconds ago. [`Freshness::NoOlderThan`] is how long ago it may have begun; zero
    /// waits for one that begins after the call. A variable that is there for as long as the walk takes is in it,
    /// whatever is made or removed meanwhile.
    ///
    /// # Errors
    /// Of the [connection](Error::is_connection), or of the list: [`Error::Invalid`] for a search that the server
    /// refuses, [`Error::TooLarge`] for annotations of megabytes, [`Error::Unexpected`] where the list changes faster
    /// than it can be read. What is not the connection's is remembered as long as a catalogue is.
    pub async fn list_variables(
        &self,
        search: Option<&str>,
        lane: Lane,
        freshness: Freshness,
    ) -> Result<Arc<Catalogue>, Error> {
        self.inner.catalogues.get(&self.session, search, lane, freshness).await
    }
}

type Outcome = Result<Arc<Catalogue>, Error>;
type Walk = Shared<BoxFuture<'static, Outcome>>;
type Known = Mutex<HashMap<Option<Box<str>>, Term>>;

/// What is known of one search term.
#[derive(Default)]
struct Term {
    /// Ends when nobody waits for it any more.
    running: Option<(Instant, WeakShared<BoxFuture<'static, Outcome>>, Parties)>,
}

/// The walks of a client.
pub(super) struct Catalogues {
    known: Arc<Known>,
    lists: Arc<Shelf>,
    /// How long a catalogue is kept after its walk ended: long enough for all objects of one slot of a refresh grid,
    /// and no longer, for it may hold fifty thousand ids.
    keep: Duration,
}

impl Catalogues {
    /// The time to keep a catalogue where nothing else is asked for.
    pub(super) const KEEP: Duration = Duration::from_secs(5);

    pub(super) fn new(keep: Duration) -> Self {
        Self { known: Arc::default(), lists: Arc::new(Shelf::new()), keep }
    }

    async fn get(
        &self,
        session: &Arc<Session>,
        search: Option<&str>,
        lane: Lane,
        freshness: Freshness,
    ) -> Outcome {
        let oldest = match freshness {
            Freshness::Remembered => None,
            Freshness::NoOlderThan(age) => Instant::now().checked_sub(age),
            Freshness::Since(at) => Some(at),
        };
        let will_do = |began: Instant| oldest.is_none_or(|oldest| began >= oldest);
        loop {
            let (began, walk) = {
                let mut known = lock(&self.known);
                if let Some(outcome) = self.lists.get(search, will_do) {
                    return outcome;
                }
                known.retain(|_, term| {
                    term.running.as_ref().is_some_and(|(_, walk, _)| walk.upgrade().is_some())
                });
                let term = known.entry(search.map(Into::into)).or_default();
                let running =
                    term.running.as_ref().and_then(|(at, walk, for_)| Some((*at, walk.upgrade()?, for_)));
                if let Some((began, walk, parties)) = running {
                    // Its next page has the turn of whichever of them comes first.
                    parties.join(&session.parties.first());
                    (began, walk)
                } else {
                    let (began, parties) = (Instant::now(), Parties::of([session.parties.first()]));
                    let walk = self.walk(session.on_behalf_of(parties.clone()), search, lane, began);
                    term.running = walk.downgrade().map(|weak| (began, weak, parties));
                    (began, walk)
                }
            };
            // One that is too old is waited for as well: there is one walk at a time, and the next begins after it.
            let outcome = walk.await;
            if will_do(began) {
                return outcome;
            }
        }
    }

    fn walk(&self, session: Session, search: Option<&str>, lane: Lane, began: Instant) -> Walk {
        let search = search.map(str::to_owned);
        let (known, lists, keep) = (Arc::downgrade(&self.known), Arc::downgrade(&self.lists), self.keep);
        let walk = async move {
            let outcome = catalogue::walk::walk(&session, search.as_deref(), lane).await;
            let outcome = outcome.map(|(entries, bytes)| {
                Arc::new(Catalogue { began, bytes: Some(bytes), ..Catalogue::of(entries) })
            });
            ended(&known, &lists, search.as_deref(), began, &outcome, keep);
            outcome
        };
        walk.boxed().shared()
    }
}

/// Keeps what a walk brought for a while. Not a failure of the connection, nor that there was no room: its next try may
/// work.
fn ended(
    known: &Weak<Known>,
    lists: &Weak<Shelf>,
    search: Option<&str>,
    began: Instant,
    outcome: &Outcome,
    keep: Duration,
) {
    let (Some(known), Some(kept_lists)) = (known.upgrade(), lists.upgrade()) else { return };
    let kept = !outcome.as_ref().is_err_and(Error::tells_nothing);
    {
        // Who asks holds the lock from when it finds nothing kept until it has found, or begun, a walk.
        let mut known = lock(&known);
        known.remove(&search.map(Into::into));
        if kept {
            kept_lists.put(search, began, outcome.clone());
        } else {
            kept_lists.forget(search, |_| true);
        }
    }
    if kept {
        let (lists, search) = (Weak::clone(lists), search.map(str::to_owned));
        tokio::spawn(async move {
            tokio::time::sleep(keep).await;
            if let Some(lists) = lists.upgrade() {
                lists.forget(search.as_deref(), |of| of == began);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(id: &str, version: u32) -> Listed {
        Listed { id: id.into(), annotations: Box::default(), mark: Mark { version: Some(version), made: 0 } }
    }

    #[test]
    fn variables_are_found_by_id_and_by_prefix_and_of_two_the_later_counts() {
        let catalogue = Catalogue::of(["b/x", "a", "b-x", "b/y", "c", "b/x"].map(|id| listed(id, 1)).into());
        assert_eq!(catalogue.len(), 5);
        let below = |prefix| catalogue.below(prefix).iter().map(Listed::id).collect::<Vec<_>>();
        assert_eq!(below("b/"), ["b/x", "b/y"]);
        assert_eq!(below(""), ["a", "b-x", "b/x", "b/y", "c"]);
        assert_eq!(below("d"), [""; 0]);
        assert!(catalogue.get("b/y").is_some() && catalogue.get("b/").is_none());
        let twice = Catalogue::of(vec![listed("a", 1), listed("b", 1), listed("a", 2)]);
        assert_eq!(twice.get("a").and_then(|a| a.mark().version), Some(2));
    }
}

//! The walks of a client: one at a time for each search term, for all who wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::time::Instant;

use super::kept::{KeptLists, Shelf};
use super::list::{Catalogue, WalkOutcome};
use super::walk::walk;
use crate::error::Error;
use crate::gate::{Parties, Priority};
use crate::lock::lock;
use crate::session::Session;
use crate::variables::Freshness;

type Walk = Shared<BoxFuture<'static, WalkOutcome>>;
type KnownTerms = Mutex<HashMap<Option<Box<str>>, TermState>>;

/// What is known of one search term.
#[derive(Default)]
struct TermState {
    /// Ends when no one waits for it any more.
    running: Option<(Instant, WeakShared<BoxFuture<'static, WalkOutcome>>, Parties)>,
}

/// The walks of a client.
pub(crate) struct Catalogues {
    known: Arc<KnownTerms>,
    lists: Arc<Shelf>,
    /// How long a catalogue is kept after its walk ended: long enough for all objects of one slot of a refresh grid,
    /// and no longer, for it may hold fifty thousand ids.
    keep: Duration,
}

impl Catalogues {
    pub(crate) fn new(keep: Duration, lists: &Arc<KeptLists>) -> Self {
        Self { known: Arc::default(), lists: Arc::new(Shelf::of(lists)), keep }
    }

    pub(crate) async fn get(
        &self,
        session: &Arc<Session>,
        search: Option<&str>,
        priority: Priority,
        freshness: Freshness,
    ) -> WalkOutcome {
        let oldest = match freshness {
            Freshness::Remembered => None,
            Freshness::NoOlderThan(age) => Instant::now().checked_sub(age),
            Freshness::Since(at) => Some(Instant::from_std(at)),
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
                    let walk = self.walk(session.on_behalf_of(parties.clone()), search, priority, began);
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

    fn walk(&self, session: Session, search: Option<&str>, priority: Priority, began: Instant) -> Walk {
        let search = search.map(str::to_owned);
        let (known, lists, keep) = (Arc::downgrade(&self.known), Arc::downgrade(&self.lists), self.keep);
        let walking = async move {
            let outcome = walk(&session, search.as_deref(), priority).await;
            let outcome = outcome.map(|(entries, bytes)| {
                Arc::new(Catalogue { began, bytes: Some(bytes), ..Catalogue::of(entries) })
            });
            ended(&known, &lists, search.as_deref(), began, &outcome, keep);
            outcome
        };
        walking.boxed().shared()
    }
}

/// Keeps what a walk brought for a while. Not a failure of the connection, nor that there was no room: its next try may
/// work.
fn ended(
    known: &Weak<KnownTerms>,
    lists: &Weak<Shelf>,
    search: Option<&str>,
    began: Instant,
    outcome: &WalkOutcome,
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

//! What is kept of lists: of all clients that share a memory budget, in one place, so that together they have a bound.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::list::WalkOutcome;
use crate::limits::{self, Limit};
use crate::lock::lock;

/// What is kept of the lists of all clients that share a memory budget.
pub(crate) struct KeptLists(Mutex<Kept<WalkOutcome>>);

impl KeptLists {
    /// At most so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self(Mutex::new(Kept::new(most)))
    }
}

/// A client, and a search term of it.
type Term = (u64, Option<Box<str>>);

/// What one client has in it.
pub(super) struct Shelf {
    client: u64,
    all: Arc<KeptLists>,
}

impl Shelf {
    pub(super) fn of(all: &Arc<KeptLists>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { client: NEXT.fetch_add(1, Ordering::Relaxed), all: Arc::clone(all) }
    }

    /// What the last walk for a term brought, if `will_do`, by when it began.
    pub(super) fn get(&self, search: Option<&str>, will_do: impl Fn(Instant) -> bool) -> Option<WalkOutcome> {
        lock(&self.all.0).get(&(self.client, search.map(Into::into)), will_do)
    }

    /// Keeps what a walk brought.
    pub(super) fn put(&self, search: Option<&str>, began: Instant, outcome: WalkOutcome) {
        let bytes = outcome.as_ref().map_or(1024, |list| list.bytes());
        let gone = lock(&self.all.0).put((self.client, search.map(Into::into)), began, bytes, outcome);
        // Large ones are dropped outside of the lock.
        drop(gone);
    }

    /// Lets go of what was kept for a term, if `is_it`, by when it began.
    pub(super) fn forget(&self, search: Option<&str>, is_it: impl Fn(Instant) -> bool) {
        let gone = lock(&self.all.0).forget(&(self.client, search.map(Into::into)), is_it);
        drop(gone);
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let gone = lock(&self.all.0).forget_all(self.client);
        drop(gone);
    }
}

struct Kept<T> {
    most: usize,
    bytes: usize,
    uses: u64,
    lists: HashMap<Term, One<T>>,
}

struct One<T> {
    began: Instant,
    bytes: usize,
    used: u64,
    list: T,
}

impl<T: Clone> Kept<T> {
    fn new(most: usize) -> Self {
        Self { most, bytes: 0, uses: 0, lists: HashMap::new() }
    }

    fn get(&mut self, term: &Term, will_do: impl Fn(Instant) -> bool) -> Option<T> {
        self.uses += 1;
        let one = self.lists.get_mut(term).filter(|one| will_do(one.began))?;
        one.used = self.uses;
        Some(one.list.clone())
    }

    /// Gives back what had to go for it: the least recently used ones.
    fn put(&mut self, term: Term, began: Instant, bytes: usize, list: T) -> Vec<T> {
        self.uses += 1;
        let before = self.bytes;
        let mut gone: Vec<T> = self.take(&term).into_iter().collect();
        if bytes > self.most {
            limits::hit(Limit::ListsKeptBytes);
            gone.push(list);
            self.tell(before);
            return gone;
        }
        while self.bytes + bytes > self.most {
            let Some(oldest) =
                self.lists.iter().min_by_key(|(_, one)| one.used).map(|(term, _)| term.clone())
            else {
                break;
            };
            limits::hit(Limit::ListsKeptBytes);
            gone.extend(self.take(&oldest));
        }
        self.bytes += bytes;
        self.lists.insert(term, One { began, bytes, used: self.uses, list });
        self.tell(before);
        gone
    }

    fn tell(&self, before: usize) {
        let count = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        limits::used(Limit::ListsKeptBytes, count(self.bytes) - count(before));
    }

    fn forget(&mut self, term: &Term, is_it: impl Fn(Instant) -> bool) -> Option<T> {
        let before = self.bytes;
        let is_it = self.lists.get(term).is_some_and(|one| is_it(one.began));
        let gone = if is_it { self.take(term) } else { None };
        self.tell(before);
        gone
    }

    fn forget_all(&mut self, client: u64) -> Vec<T> {
        let terms: Vec<Term> = self.lists.keys().filter(|(of, _)| *of == client).cloned().collect();
        let before = self.bytes;
        let gone = terms.iter().filter_map(|term| self.take(term)).collect();
        self.tell(before);
        gone
    }

    fn take(&mut self, term: &Term) -> Option<T> {
        let one = self.lists.remove(term)?;
        self.bytes -= one.bytes;
        Some(one.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_list_goes_and_all_together_have_a_bound() {
        let (mut kept, now) = (Kept::new(100), Instant::now());
        let term = |client: u64, search: &str| (client, Some(search.into()));
        let any = |_| true;
        assert!(kept.put(term(1, "a"), now, 40, "a").is_empty());
        assert!(kept.put(term(2, "a"), now, 40, "b").is_empty());
        assert_eq!(kept.get(&term(1, "a"), any), Some("a"));
        assert_eq!(kept.put(term(3, "a"), now, 40, "c"), ["b"], "the other one was used later");
        assert_eq!(kept.put(term(1, "a"), now, 50, "d"), ["a"], "a newer one takes the place of its own");
        assert_eq!(kept.put(term(4, "a"), now, 101, "e"), ["e"], "what has no room alone is not kept");
        assert_eq!((kept.bytes, kept.lists.len()), (90, 2));
        assert_eq!(kept.put(term(5, "a"), now, 100, "f").len(), 2);
        assert_eq!(kept.get(&term(5, "a"), |_| false), None);
    }

    #[test]
    fn what_is_forgotten_is_what_was_meant() {
        let (mut kept, now) = (Kept::new(100), Instant::now());
        let later = now + std::time::Duration::from_secs(1);
        kept.put((1, None), later, 10, "new");
        kept.put((1, Some("x".into())), now, 10, "other");
        kept.put((2, None), now, 10, "another's");
        assert_eq!(kept.forget(&(1, None), |began| began == now), None);
        assert_eq!(kept.forget(&(1, None), |began| began == later), Some("new"));
        assert_eq!(kept.forget_all(1), ["other"]);
        assert_eq!((kept.bytes, kept.lists.len()), (10, 1));
    }
}

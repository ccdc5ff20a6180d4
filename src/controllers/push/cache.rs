//! What the operator remembers of ConjurPushes; lost with the process. Nothing of their values but HMACs under a key of the process.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    effect::variables::Statement,
    plan::{Failure, push::claims::PushClaims},
    runtime::Key,
};

/// HMAC of a value, half of it: enough to tell two values of one variable apart.
pub type ValueMark = [u8; 16];

/// By object.
#[derive(Default)]
pub struct PushNotes {
    objects: Mutex<HashMap<Key, NotedPush>>,
    claims: Mutex<PushClaims<Key>>,
}

/// What is remembered of one object.
#[derive(Default)]
struct NotedPush {
    /// Its uid: what was noted of an earlier one of its name is not its own.
    uid: String,
    /// The slot of its grid that was last handled.
    slot: Option<i128>,
    /// When it last wrote a value.
    wrote: Option<Instant>,
    /// The values that this process pushed last, by variable.
    pushed: HashMap<String, ValueMark>,
    /// What was last told of Secrets that are left out.
    skipped: Vec<String>,
    /// Why statements of it were refused, when, and what was asked for then.
    refused: HashMap<Statement, (String, Failure, Instant)>,
}

impl PushNotes {
    fn objects(&self) -> MutexGuard<'_, HashMap<Key, NotedPush>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, key: &Key, uid: &str, change: impl FnOnce(&mut NotedPush) -> T) -> T {
        let mut all = self.objects();
        let noted = all.entry(key.clone()).or_default();
        if noted.uid != uid {
            *noted = NotedPush { uid: uid.to_owned(), ..NotedPush::default() };
        }
        change(noted)
    }

    /// Who has which variable.
    pub fn claims<T>(&self, look: impl FnOnce(&mut PushClaims<Key>) -> T) -> T {
        look(&mut self.claims.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The slot that was last handled.
    pub fn slot(&self, key: &Key, uid: &str) -> Option<i128> {
        self.change(key, uid, |noted| noted.slot)
    }

    /// A slot was handled.
    pub fn handled(&self, key: &Key, uid: &str, slot: Option<i128>) {
        self.change(key, uid, |noted| noted.slot = slot.or(noted.slot));
    }

    /// When an object last wrote a value.
    pub fn wrote(&self, key: &Key) -> Option<Instant> {
        self.objects().get(key).and_then(|noted| noted.wrote)
    }

    /// Whether a value is the one that this process pushed last; none where it pushed none.
    pub fn is_as_pushed(&self, key: &Key, uid: &str, id: &str, mark: &ValueMark) -> Option<bool> {
        self.change(key, uid, |noted| noted.pushed.get(id).map(|pushed| pushed == mark))
    }

    /// A value is about to be pushed: until its answer comes it is not known which one Conjur holds.
    pub fn unsure(&self, key: &Key, uid: &str, id: &str) {
        self.change(key, uid, |noted| noted.pushed.remove(id));
    }

    /// A value was pushed.
    pub fn pushed(&self, key: &Key, uid: &str, id: &str, mark: ValueMark) {
        self.change(key, uid, |noted| {
            noted.wrote = Some(Instant::now());
            noted.pushed.insert(id.to_owned(), mark);
        });
    }

    /// Forgets the values of variables that are no more an object's.
    pub fn retain(&self, key: &Key, uid: &str, keep: impl Fn(&str) -> bool) {
        self.change(key, uid, |noted| noted.pushed.retain(|id, _| keep(id)));
    }

    /// Takes note of Secrets that are left out. Those of which that is news.
    pub fn skipped(&self, key: &Key, uid: &str, told: Vec<String>) -> Vec<String> {
        self.change(key, uid, |noted| {
            let news = told.iter().filter(|told| !noted.skipped.contains(told)).cloned().collect();
            noted.skipped = told;
            news
        })
    }

    /// Why statements of an object were refused when it asked for the same, and how long ago.
    pub fn refused(
        &self,
        key: &Key,
        uid: &str,
        what: Statement,
        asked_for: &str,
    ) -> Option<(Failure, Duration)> {
        self.change(key, uid, |noted| {
            let (of, failure, at) = noted.refused.get(&what)?;
            (of == asked_for).then(|| (failure.clone(), at.elapsed()))
        })
    }

    /// Statements of an object were refused, or not any more.
    pub fn note_refused(&self, key: &Key, uid: &str, what: Statement, refused: Option<(String, Failure)>) {
        self.change(key, uid, |noted| match refused {
            Some((of, failure)) => _ = noted.refused.insert(what, (of, failure, Instant::now())),
            None => _ = noted.refused.remove(&what),
        });
    }

    /// An object is gone.
    pub fn forget(&self, key: &Key) {
        self.objects().remove(key);
    }
}

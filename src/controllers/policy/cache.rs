//! What the operator remembers of the policies; lost with the process, after which each is looked at once more at its next slot.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{claimed::Claims, documents::Documents};
use crate::{
    limits::SYNC_NOW_PAUSE,
    plan::{policy::change_set::ChangeSet, schedule::Slots},
    runtime::Key,
};

/// By object.
#[derive(Default)]
pub struct Notes {
    /// The documents that lie elsewhere.
    pub documents: Documents,
    /// Whose the branches are.
    pub claims: Claims,
    looks: Mutex<HashMap<Key, Comparison>>,
    refused: Mutex<HashMap<Key, RefusedPolicy>>,
    /// The servers whose dry runs were seen to name what would change.
    telling: Mutex<HashSet<String>>,
    /// Those that announced a load whose outcome is not known.
    announced: Mutex<HashSet<Key>>,
}

/// When a policy was last compared with Conjur, and what came of it.
#[derive(Default)]
struct Comparison {
    slots: Option<Slots>,
    handled: i128,
    /// The inputs of the last dry run.
    planned: Option<String>,
    /// What still differed after it was loaded.
    unmendable: Option<ChangeSet>,
    /// This process loaded it, and no look since has found anything else.
    as_loaded: bool,
}

/// Of a policy that Conjur refused.
#[derive(Default)]
struct RefusedPolicy {
    /// When it was last sent or looked at, and how long before that it counts as looked at.
    looked: Option<(Instant, Duration)>,
    /// When another try was last asked for.
    asked: Option<Instant>,
    /// The document at which the server failed at the last try.
    failed_at: Option<String>,
}

impl Notes {
    fn refused(&self) -> MutexGuard<'_, HashMap<Key, RefusedPolicy>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a load that a policy announced may still happen, or have happened.
    pub fn is_announced(&self, key: &Key) -> bool {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Takes note of that.
    pub fn note_announced(&self, key: &Key, announced: bool) {
        let mut all = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        if announced {
            all.insert(key.clone());
        } else {
            all.remove(key);
        }
    }

    /// Another try of a refused document is asked for, which counts once in a few seconds: how long it has to wait.
    pub fn asked(&self, key: &Key) -> Option<Duration> {
        let mut refused = self.refused();
        let noted = refused.entry(key.clone()).or_default();
        let rest =
            noted.asked.and_then(|at| SYNC_NOW_PAUSE.checked_sub(at.elapsed())).filter(|r| !r.is_zero());
        if rest.is_none() {
            noted.asked = Some(Instant::now());
        }
        rest
    }

    /// How long ago a refused document was last sent or looked at; `before` says it of one that this process did not.
    pub fn refused_since(&self, key: &Key, before: impl FnOnce() -> Duration) -> Duration {
        let mut refused = self.refused();
        let noted = refused.entry(key.clone()).or_default();
        let (at, more) = noted.looked.get_or_insert_with(|| (Instant::now(), before()));
        at.elapsed().saturating_add(*more)
    }

    /// A document was refused just now, or looked at in vain.
    pub fn refused_now(&self, key: &Key) {
        self.refused().entry(key.clone()).or_default().looked = Some((Instant::now(), Duration::ZERO));
    }

    /// The server failed at a document. Says whether it did so before.
    pub fn server_failed(&self, key: &Key, document: &str) -> bool {
        let mut refused = self.refused();
        let noted = refused.entry(key.clone()).or_default();
        noted.failed_at.replace(document.to_owned()).as_deref() == Some(document)
    }

    /// A policy is not refused any more.
    pub fn forget_refusal(&self, key: &Key) {
        self.refused().remove(key);
    }

    fn with<T>(&self, key: &Key, change: impl FnOnce(&mut Comparison) -> T) -> T {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        change(looks.entry(key.clone()).or_default())
    }

    /// Whether a slot came since the last one that was handled; after a start the present one counts as that.
    pub fn slot_is_due(&self, key: &Key, slots: Slots) -> bool {
        let now = slots.current(Timestamp::now());
        self.with(key, |look| {
            if look.slots != Some(slots) {
                (look.slots, look.handled) = (Some(slots), now);
            }
            now > look.handled
        })
    }

    /// The present slot is handled. How long until the next.
    pub fn handled(&self, key: &Key, slots: Slots) -> Duration {
        let now = Timestamp::now();
        self.with(key, |look| (look.slots, look.handled) = (Some(slots), slots.current(now)));
        slots.next_in(now)
    }

    /// A dry run was made for these inputs.
    pub fn planned(&self, key: &Key, inputs: &str) {
        self.with(key, |look| look.planned = Some(inputs.to_owned()));
    }

    /// Whether the last dry run was for these inputs; after a start it is taken to be.
    pub fn was_planned_for(&self, key: &Key, inputs: &str) -> bool {
        self.with(key, |look| look.planned.as_deref().is_none_or(|planned| planned == inputs))
    }

    /// What still differed after drift was loaded again.
    pub fn mended(&self, key: &Key, left: Option<ChangeSet>) {
        self.with(key, |look| look.unmendable = left);
    }

    /// Whether loading again left just this as it was.
    pub fn is_unmendable(&self, key: &Key, difference: &ChangeSet) -> bool {
        self.with(key, |look| look.unmendable.as_ref() == Some(difference))
    }

    /// Whether what was said of a load still stands: it was just made, or a look found something else, or could not tell.
    pub fn stands_as_loaded(&self, key: &Key, stands: bool) {
        self.with(key, |look| look.as_loaded = stands);
    }

    /// Whether it does; after a start no one knows what the status says of it.
    pub fn is_as_loaded(&self, key: &Key) -> bool {
        self.with(key, |look| look.as_loaded)
    }

    /// A dry run of this server named what would change.
    pub fn dry_runs_tell(&self, server: &str) {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned());
    }

    /// Whether one ever did.
    pub fn do_dry_runs_tell(&self, server: &str) -> bool {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner).contains(server)
    }

    /// Forgets an object.
    pub fn forget(&self, key: &Key) {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.note_announced(key, false);
        self.forget_refusal(key);
    }
}

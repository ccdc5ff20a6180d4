//! The operator's own writes of Secrets that keep keys or an inventory, told from those of others in the watch: an announcement that is made and
//! taken back must not wake the policy that made it, or a document that Conjur refuses would be loaded for ever.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::runtime::Key;

/// What is known of the versions of each such Secret.
#[derive(Default)]
pub struct KeyWrites(Mutex<HashMap<Key, Versions>>);

#[derive(Default)]
struct Versions {
    /// The newest that the operator wrote.
    ours: u64,
    /// The newest that the watch showed.
    shown: u64,
    /// A write of the operator's is under way, whose version is not known yet.
    writing: bool,
}

impl KeyWrites {
    fn with<T>(&self, secret: &Key, change: impl FnOnce(&mut Versions) -> T) -> T {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(map.entry(secret.clone()).or_default())
    }

    /// A write begins; it is over when what this gives is.
    pub fn begin(&self, secret: &Key) -> Writing<'_> {
        self.with(secret, |versions| versions.writing = true);
        Writing { writes: self, secret: secret.clone() }
    }

    /// The Secret is gone. Of one that is being written more is to come.
    pub fn forget(&self, secret: &Key) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.get(secret).is_some_and(|versions| !versions.writing) {
            map.remove(secret);
        }
    }

    /// The watch shows a version. Says whether it is another's; while a write is under way, its end says so.
    pub fn shown(&self, secret: &Key, version: Option<&str>) -> bool {
        self.with(secret, |versions| {
            versions.shown = versions.shown.max(number(version));
            !versions.writing && versions.shown > versions.ours
        })
    }
}

/// A write under way. A reconcile that is cut off drops it, and with it the claim to what the watch shows.
pub struct Writing<'a> {
    writes: &'a KeyWrites,
    secret: Key,
}

impl Writing<'_> {
    /// It ended, with this version if it succeeded. Says whether another's was shown meanwhile.
    pub fn end(self, version: Option<&str>) -> bool {
        self.writes.with(&self.secret, |versions| {
            versions.ours = versions.ours.max(number(version));
            versions.shown > versions.ours
        })
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.writes.with(&self.secret, |versions| versions.writing = false);
    }
}

/// Resource versions of one object are ordered as numbers.
fn number(version: Option<&str>) -> u64 {
    version.and_then(|v| v.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Key {
        Key { namespace: "n".into(), name: "s".into() }
    }

    #[test]
    fn our_own_writes_are_not_news_and_others_are() {
        let writes = KeyWrites::default();
        assert!(writes.shown(&secret(), Some("4")), "somebody made it");
        let writing = writes.begin(&secret());
        assert!(!writes.shown(&secret(), Some("5")));
        assert!(!writing.end(Some("5")), "it was ours");
        assert!(!writes.shown(&secret(), Some("5")));
        assert!(writes.shown(&secret(), Some("6")));
    }

    #[test]
    fn what_others_wrote_during_a_write_is_told_at_its_end() {
        let writes = KeyWrites::default();
        let writing = writes.begin(&secret());
        assert!(!writes.shown(&secret(), Some("7")));
        assert!(writing.end(Some("6")));
        let writing = writes.begin(&secret());
        assert!(!writes.shown(&secret(), Some("8")));
        assert!(writing.end(None), "it failed, and may have been done");
    }

    #[test]
    fn a_write_that_is_cut_off_hides_nothing_later() {
        let writes = KeyWrites::default();
        drop(writes.begin(&secret()));
        assert!(writes.shown(&secret(), Some("5")));
    }
}

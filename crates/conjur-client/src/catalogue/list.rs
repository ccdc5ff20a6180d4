//! What a walk through the list brings.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::budget::Taken;
use crate::error::Error;

/// What came of a walk.
pub(super) type WalkOutcome = Result<Arc<Catalogue>, Error>;

/// What the list says of the variables that a client sees, in the order of their ids.
#[derive(Debug)]
pub struct Catalogue {
    pub(super) entries: Box<[Listed]>,
    pub(super) began: Instant,
    pub(super) read_at: Instant,
    /// What it takes of the memory for lists.
    pub(super) bytes: Option<Taken>,
}

/// One variable, as the list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub(super) id: Box<str>,
    pub(super) annotations: Box<[(Box<str>, Box<str>)]>,
    pub(super) mark: Mark,
    pub(super) made_at: Option<Timestamp>,
}

/// Which value a variable has, without the value: another one has another mark, one that is set back to an older value
/// too. A variable that was removed and made again counts its versions from 1 anew, and has another mark all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The number of its newest version; none where it was never set.
    pub version: Option<u32>,
    /// A hash of when the variable was made, as the server writes it. For comparing within one process: another build
    /// may hash otherwise. [`Listed::made_at`] is what can be kept.
    pub made: u64,
}

impl Mark {
    /// Of a variable that was made at `created_at`, as the server writes it.
    pub(crate) fn of(version: Option<u32>, created_at: &str) -> Self {
        let mut made = DefaultHasher::new();
        created_at.hash(&mut made);
        Self { version, made: made.finish() }
    }
}

impl Listed {
    /// How much memory it takes, with what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
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

    /// Whether it was ever given a value.
    pub fn has_value(&self) -> bool {
        self.mark.version.is_some()
    }

    /// When it was made. `None` where the server writes times in another way than RFC 3339.
    pub fn made_at(&self) -> Option<Timestamp> {
        self.made_at
    }
}

impl Catalogue {
    /// Of what was listed, in any order. Of one id that comes twice the later one counts.
    pub(super) fn of(mut entries: Vec<Listed>) -> Self {
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
    pub(super) fn bytes(&self) -> usize {
        self.bytes.as_ref().map_or(0, Taken::amount)
    }

    /// When its walk began: what was made later may not be in it.
    pub fn began(&self) -> std::time::Instant {
        self.began.into_std()
    }

    /// When its walk had ended.
    pub fn read_at(&self) -> std::time::Instant {
        self.read_at.into_std()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(id: &str, version: u32) -> Listed {
        let mark = Mark { version: Some(version), made: 0 };
        Listed { id: id.into(), annotations: Box::default(), mark, made_at: None }
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

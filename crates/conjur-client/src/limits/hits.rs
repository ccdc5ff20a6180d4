//! How often each bound was met, and how much of it is in use: counters of the process, for a page of metrics.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::budget::Meter;

macro_rules! limits {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// A bound that can be met, under the name of its constant in small letters. A closed list, for it is a label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Limit { $(
            #[doc = concat!("`", $text, "`")]
            $variant
        ),+ }

        impl Limit {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it may stand on a page of metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

limits! {
    AnswersBytes = "answers_bytes",
    ValuesBytes = "values_bytes",
    AnswerBytes = "answer_bytes",
    Streams = "streams",
    ListRecords = "list_records",
    ListBytes = "list_bytes",
    ListsKeptBytes = "lists_kept_bytes",
    WordsBytes = "words_bytes",
    Lookups = "lookups",
    LookupsPerNamespace = "lookups_per_namespace",
    CaBundleBytes = "ca_bundle_bytes",
    CaBundleBlocks = "ca_bundle_blocks",
    Sockets = "sockets",
}

impl Limit {
    /// Whether it is a share that is taken and given back, so that [`in_use`] tells how much of it is in use.
    pub const fn is_metered(self) -> bool {
        matches!(
            self,
            Self::AnswersBytes | Self::Streams | Self::ListBytes | Self::ListsKeptBytes | Self::Sockets
        )
    }
}

#[derive(Debug)]
struct Tally {
    hits: AtomicU64,
    in_use: AtomicI64,
}

/// A closed list of `N` bounds: how often each was met, and how much of it is in use. Of a bound that is not on the list nothing
/// is counted.
#[derive(Debug)]
pub struct Tallies<const N: usize>([Tally; N]);

impl<const N: usize> Tallies<N> {
    /// Nothing was met yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is for a static, which Default can't make")]
    pub const fn new() -> Self {
        Self([const { Tally { hits: AtomicU64::new(0), in_use: AtomicI64::new(0) } }; N])
    }

    /// The bound was met once more.
    pub fn hit(&self, bound: usize) {
        if let Some(tally) = self.0.get(bound) {
            tally.hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the bound was met.
    pub fn hits(&self, bound: usize) -> u64 {
        self.0.get(bound).map_or(0, |tally| tally.hits.load(Ordering::Relaxed))
    }

    /// So much more of it is in use; less, where it is negative.
    pub fn used(&self, bound: usize, change: i64) {
        if let Some(tally) = self.0.get(bound) {
            tally.in_use.fetch_add(change, Ordering::Relaxed);
        }
    }

    /// How much of it is in use.
    pub fn in_use(&self, bound: usize) -> i64 {
        self.0.get(bound).map_or(0, |tally| tally.in_use.load(Ordering::Relaxed))
    }
}

static TALLIES: Tallies<{ Limit::ALL.len() }> = Tallies::new();

/// Something was refused, put off, dropped or cut because of a budget.
pub(crate) fn hit(limit: Limit) {
    TALLIES.hit(limit as usize);
}

/// How often a budget was met since the start.
pub fn hits(limit: Limit) -> u64 {
    TALLIES.hits(limit as usize)
}

/// How much of a budget is in use.
pub fn in_use(limit: Limit) -> i64 {
    TALLIES.in_use(limit as usize)
}

/// More, or less, of a budget is in use, by who counts it anyhow.
pub(crate) fn used(limit: Limit, change: i64) {
    TALLIES.used(limit as usize, change);
}

impl Meter for Limit {
    fn hit(&self) {
        hit(*self);
    }

    fn used(&self, change: i64) {
        used(*self, change);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_limit_has_a_counter_and_a_name_of_its_own() {
        let names: HashSet<_> = Limit::ALL.iter().map(|limit| limit.as_str()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
        for limit in Limit::ALL {
            let before = hits(*limit);
            hit(*limit);
            assert!(hits(*limit) > before, "{limit:?}");
        }
    }
}

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

struct Tally {
    hits: AtomicU64,
    in_use: AtomicI64,
}

static TALLIES: [Tally; Limit::ALL.len()] =
    [const { Tally { hits: AtomicU64::new(0), in_use: AtomicI64::new(0) } }; Limit::ALL.len()];

fn tally(limit: Limit) -> Option<&'static Tally> {
    TALLIES.get(limit as usize)
}

/// Something was refused, put off, dropped or cut because of a budget.
pub(crate) fn hit(limit: Limit) {
    if let Some(tally) = tally(limit) {
        tally.hits.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often a budget was met since the start.
pub fn hits(limit: Limit) -> u64 {
    tally(limit).map_or(0, |tally| tally.hits.load(Ordering::Relaxed))
}

/// How much of a budget is in use.
pub fn in_use(limit: Limit) -> i64 {
    tally(limit).map_or(0, |tally| tally.in_use.load(Ordering::Relaxed))
}

/// More, or less, of a budget is in use, by who counts it anyhow.
pub(crate) fn used(limit: Limit, change: i64) {
    if let Some(tally) = tally(limit) {
        tally.in_use.fetch_add(change, Ordering::Relaxed);
    }
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

//! ConjurSecrets whose templates lie in Secrets that other ConjurSecrets write: where they lead back to the first, each
//! write would be a reason for the next, for ever.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::limits::TEMPLATE_CHAIN;

/// The ConjurSecrets of one namespace that read templates from Secrets. Those that don't can't be part of a circle.
#[derive(Debug, Default)]
pub struct Readers {
    /// By object: the Secret that it writes, and those that it reads.
    objects: BTreeMap<String, Reader>,
    /// By Secret: the objects that write it.
    writers: HashMap<String, BTreeSet<String>>,
}

/// What one of them writes and reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Name of the Secret that it writes.
    pub writes: String,
    /// Names of the Secrets that it reads.
    pub reads: Vec<String>,
}

/// Why templates can't be read from where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Circle {
    /// They lead back: the objects on the way, from the one that asks to the one that it reads from last.
    Back(Vec<String>),
    /// More objects than are followed write one for the other.
    TooLong,
}

impl Readers {
    /// An object writes and reads this from now on; nothing where it is none. Whether that is news.
    pub fn set(&mut self, object: &str, reader: Option<Reader>) -> bool {
        let reader = reader.filter(|reader| !reader.reads.is_empty());
        if self.objects.get(object) == reader.as_ref() {
            return false;
        }
        if let Some(former) = self.objects.remove(object)
            && let Some(writers) = self.writers.get_mut(&former.writes)
        {
            writers.remove(object);
            if writers.is_empty() {
                self.writers.remove(&former.writes);
            }
        }
        if let Some(reader) = reader {
            self.writers.entry(reader.writes.clone()).or_default().insert(object.to_owned());
            self.objects.insert(object.to_owned(), reader);
        }
        true
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The circle that an object is part of; none where it is in none.
    pub fn circle(&self, object: &str) -> Option<Circle> {
        // Each object that was reached, and from which: the shortest way is the one that is told.
        let mut from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next = VecDeque::from([object]);
        while let Some(at) = next.pop_front() {
            let reads = self.objects.get(at).into_iter().flat_map(|reader| &reader.reads);
            for writer in reads.filter_map(|secret| self.writers.get(secret)).flatten() {
                if writer == object {
                    return Some(Circle::Back(way(&from, object, at)));
                }
                if !from.contains_key(writer.as_str()) {
                    if from.len() >= TEMPLATE_CHAIN {
                        return Some(Circle::TooLong);
                    }
                    from.insert(writer, at);
                    next.push_back(writer);
                }
            }
        }
        None
    }
}

fn way<'a>(from: &BTreeMap<&'a str, &'a str>, object: &str, mut at: &'a str) -> Vec<String> {
    let mut way = vec![at.to_owned()];
    while at != object
        && let Some(before) = from.get(at)
    {
        at = before;
        way.push(at.to_owned());
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn readers(all: &[(&str, &str, &[&str])]) -> Readers {
        let mut readers = Readers::default();
        for (object, writes, reads) in all {
            let reads = reads.iter().map(|secret| (*secret).to_owned()).collect();
            assert!(readers.set(object, Some(Reader { writes: (*writes).to_owned(), reads })));
        }
        readers
    }

    fn back(readers: &Readers, object: &str) -> Option<String> {
        readers.circle(object).map(|circle| match circle {
            Circle::Back(way) => way.join(" "),
            Circle::TooLong => "too long".into(),
        })
    }

    #[test]
    fn objects_that_read_what_they_lead_to_are_in_a_circle() {
        for (all, expected) in [
            // Two, three, one alone by another name of its target, two that merge into one Secret.
            (
                &[("a", "a", &["b"][..]), ("b", "b", &["a"])][..],
                &[("a", Some("a b")), ("b", Some("b a"))][..],
            ),
            (
                &[("a", "x", &["y"]), ("b", "y", &["z", "other"]), ("c", "z", &["x"])],
                &[("a", Some("a b c")), ("b", Some("b c a")), ("c", Some("c a b"))],
            ),
            (&[("a", "x", &["x"])], &[("a", Some("a"))]),
            (
                &[("a", "x", &["y"]), ("b", "y", &["x"]), ("c", "y", &["none"])],
                &[("a", Some("a b")), ("c", None)],
            ),
            // Beside a circle, and a chain without one.
            (&[("a", "a", &["b"]), ("b", "b", &["a"]), ("c", "c", &["a"])], &[("c", None)]),
            (&[("a", "a", &["b"]), ("b", "b", &["c"]), ("c", "c", &["d"])], &[("a", None), ("b", None)]),
        ] {
            let readers = readers(all);
            for (object, circle) in expected {
                assert_eq!(back(&readers, object).as_deref(), *circle, "{all:?} {object}");
            }
        }
    }

    #[test]
    fn a_circle_that_is_broken_is_none_and_leaves_nothing_behind() {
        let mut readers = readers(&[("a", "a", &["b"]), ("b", "b", &["a"])]);
        assert!(!readers.set("c", None));
        assert!(readers.set("b", Some(Reader { writes: "b".into(), reads: vec!["text".into()] })));
        assert_eq!(back(&readers, "a"), None);
        assert!(
            readers.set("a", None) && readers.set("b", Some(Reader { writes: "b".into(), reads: vec![] }))
        );
        assert!(readers.is_empty() && readers.writers.is_empty());
    }

    #[test]
    fn a_chain_is_followed_so_far_and_no_further() {
        let mut all = Readers::default();
        for n in 0..10_000 {
            // Each reads all the others' Secrets behind it.
            let reads = (n + 1..n + 60).map(|n: u32| format!("s{n}")).collect();
            all.set(&format!("o{n}"), Some(Reader { writes: format!("s{n}"), reads }));
        }
        assert_eq!(all.circle("o0"), Some(Circle::TooLong));
        assert_eq!(all.circle("o9990"), None);
    }

    proptest! {
        /// By walking every way, without the shortcuts.
        #[test]
        fn who_reads_from_itself_over_any_way_is_found(
            all in prop::collection::vec((0_u8..6, prop::collection::vec(0_u8..6, 0..4)), 1..8)
        ) {
            let mut readers = Readers::default();
            for (n, (writes, reads)) in all.iter().enumerate() {
                let reads = reads.iter().map(u8::to_string).collect();
                readers.set(&n.to_string(), Some(Reader { writes: writes.to_string(), reads }));
            }
            for start in 0..all.len() {
                let mut reached = vec![false; all.len()];
                for _ in 0..=all.len() {
                    for (n, (writes, _)) in all.iter().enumerate() {
                        let read = |by: usize| all[by].1.contains(writes);
                        let live = !all[n].1.is_empty();
                        reached[n] |= live && (read(start) || (0..all.len()).any(|by| reached[by] && read(by)));
                    }
                }
                let expected = reached[start];
                let found = readers.circle(&start.to_string());
                prop_assert_eq!(found.is_some(), expected, "{:?} {}", all, start);
            }
        }
    }
}

//! Which texts are kept, by their size: within a budget for each namespace and one for the process.

use std::collections::{BTreeMap, HashMap};

use super::input::Dependency;
use crate::limits::{TEXTS_KEPT_BYTES, TEXTS_KEPT_PER_NAMESPACE};

/// Sizes of what is kept, and in which order it was used.
#[derive(Default)]
pub struct KeptSizes {
    namespaces: HashMap<String, NamespaceSizes>,
    bytes: usize,
    clock: u64,
}

#[derive(Default)]
struct NamespaceSizes {
    bytes: usize,
    sizes: HashMap<Dependency, (u64, usize)>,
    /// The one that was used longest ago first.
    order: BTreeMap<u64, Dependency>,
}

impl NamespaceSizes {
    fn take(&mut self, input: &Dependency) -> usize {
        let Some((used, bytes)) = self.sizes.remove(input) else { return 0 };
        self.order.remove(&used);
        self.bytes -= bytes;
        bytes
    }
}

impl KeptSizes {
    /// A text is used, and has this size. Those that are to be dropped for it: its own namespace's where that has too
    /// much, else those of the namespace that has most.
    pub fn used(&mut self, input: &Dependency, bytes: usize) -> Vec<Dependency> {
        self.drop(input);
        self.clock += 1;
        let namespace = self.namespaces.entry(input.namespace.clone()).or_default();
        namespace.sizes.insert(input.clone(), (self.clock, bytes));
        namespace.order.insert(self.clock, input.clone());
        namespace.bytes += bytes;
        self.bytes += bytes;
        let mut dropped = Vec::new();
        while self.namespaces.get(&input.namespace).is_some_and(|n| n.bytes > TEXTS_KEPT_PER_NAMESPACE) {
            let Some(oldest) = self.oldest_of(&input.namespace.clone()) else { break };
            self.drop(&oldest);
            dropped.push(oldest);
        }
        while self.bytes > TEXTS_KEPT_BYTES {
            let most = self.namespaces.iter().max_by_key(|(_, n)| n.bytes).map(|(name, _)| name.clone());
            let Some(oldest) = most.and_then(|name| self.oldest_of(&name)) else { break };
            self.drop(&oldest);
            dropped.push(oldest);
        }
        dropped
    }

    fn oldest_of(&self, namespace: &str) -> Option<Dependency> {
        self.namespaces.get(namespace)?.order.values().next().cloned()
    }

    /// A text is kept no longer.
    pub fn drop(&mut self, input: &Dependency) {
        let Some(namespace) = self.namespaces.get_mut(&input.namespace) else { return };
        self.bytes -= namespace.take(input);
        if namespace.sizes.is_empty() {
            self.namespaces.remove(&input.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(namespace: usize, name: usize) -> Dependency {
        Dependency::secret(&namespace.to_string(), &name.to_string())
    }

    #[test]
    fn a_namespace_keeps_what_it_used_last_and_takes_no_others_room() {
        let mut kept = KeptSizes::default();
        let half = TEXTS_KEPT_PER_NAMESPACE / 2;
        assert_eq!(kept.used(&input(0, 0), half), []);
        assert_eq!(kept.used(&input(0, 1), half), []);
        assert_eq!(kept.used(&input(0, 0), half), [], "used again");
        assert_eq!(kept.used(&input(0, 2), half), [input(0, 1)]);
        assert_eq!(kept.used(&input(1, 0), 1), []);
        // One that no namespace may keep is not kept.
        assert_eq!(
            kept.used(&input(0, 3), TEXTS_KEPT_PER_NAMESPACE + 1),
            [input(0, 0), input(0, 2), input(0, 3)]
        );
        assert_eq!((kept.bytes, kept.namespaces.len()), (1, 1));
    }

    #[test]
    fn many_namespaces_together_stay_within_the_budget_and_the_small_ones_keep_theirs() {
        let mut kept = KeptSizes::default();
        kept.used(&input(1_000, 0), 10);
        let quarter = TEXTS_KEPT_PER_NAMESPACE / 4;
        for namespace in 0..2 * TEXTS_KEPT_BYTES / TEXTS_KEPT_PER_NAMESPACE {
            for name in 0..4 {
                let dropped = kept.used(&input(namespace, name), quarter);
                assert!(!dropped.contains(&input(1_000, 0)));
                assert!(kept.bytes <= TEXTS_KEPT_BYTES);
            }
        }
        kept.drop(&input(1_000, 0));
        kept.drop(&input(1_000, 0));
        let sum: usize = kept.namespaces.values().map(|n| n.bytes).sum();
        assert_eq!(kept.bytes, sum);
    }
}

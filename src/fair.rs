//! [`FairQueue`]: whoever waits, each party has its turn.
//!
//! Pure and without a clock. Every queue of the operator that more than one namespace can fill is one of these: one
//! party with a thousand items delays another by one item, not by a thousand. A party that waits alone gets everything.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Items that wait, in the order in which they came for each party, and round robin among parties.
#[derive(Debug)]
pub struct FairQueue<P, T> {
    waiting: HashMap<P, VecDeque<T>>,
    /// Each party that has something waiting, once, the next first.
    turns: VecDeque<P>,
    len: usize,
}

impl<P, T> Default for FairQueue<P, T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), turns: VecDeque::new(), len: 0 }
    }
}

impl<P: Clone + Eq + Hash, T> FairQueue<P, T> {
    /// How many items wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many items of one party wait.
    pub fn len_of(&self, party: &P) -> usize {
        self.waiting.get(party).map_or(0, VecDeque::len)
    }

    /// Puts an item behind the others of its party. A party that had none waits behind all other parties.
    pub fn push(&mut self, party: P, item: T) {
        let items = self.waiting.entry(party.clone()).or_default();
        if items.is_empty() {
            self.turns.push_back(party);
        }
        items.push_back(item);
        self.len += 1;
    }

    /// Takes the next item: the oldest of the party whose turn it is, which then goes to the end of the line.
    pub fn pop(&mut self) -> Option<(P, T)> {
        self.pop_if(|_, _| true)
    }

    /// Takes the oldest item of the first party that `may` have its turn now. Parties that may not keep their place.
    pub fn pop_if(&mut self, mut may: impl FnMut(&P, &T) -> bool) -> Option<(P, T)> {
        let at = self.turns.iter().position(|party| {
            self.waiting.get(party).and_then(VecDeque::front).is_some_and(|item| may(party, item))
        })?;
        let party = self.turns.remove(at)?;
        let items = self.waiting.get_mut(&party)?;
        let item = items.pop_front()?;
        self.len -= 1;
        if items.is_empty() {
            self.waiting.remove(&party);
        } else {
            self.turns.push_back(party.clone());
        }
        Some((party, item))
    }

    /// Drops every item that `keep` does not want; the turns stay as they are.
    pub fn retain(&mut self, mut keep: impl FnMut(&P, &T) -> bool) {
        self.waiting.retain(|party, items| {
            items.retain(|item| keep(party, item));
            !items.is_empty()
        });
        self.turns.retain(|party| self.waiting.contains_key(party));
        self.len = self.waiting.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(queue: &mut FairQueue<&'static str, u32>) -> Vec<(&'static str, u32)> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn each_party_has_its_turn_however_much_another_waits_for() {
        let mut queue = FairQueue::default();
        (0..1000).for_each(|n| queue.push("a", n));
        queue.push("b", 1);
        queue.push("b", 2);
        queue.push("c", 1);
        let order: Vec<_> = (0..6).filter_map(|_| queue.pop()).collect();
        assert_eq!(order, [("a", 0), ("b", 1), ("c", 1), ("a", 1), ("b", 2), ("a", 2)]);
        assert_eq!((queue.len(), queue.len_of(&"a"), queue.len_of(&"b")), (997, 997, 0));
    }

    #[test]
    fn who_may_not_go_keeps_the_place() {
        let mut queue = FairQueue::default();
        for party in ["a", "b", "a"] {
            queue.push(party, 1);
        }
        assert_eq!(queue.pop_if(|party, _| *party != "a"), Some(("b", 1)));
        assert_eq!(queue.pop_if(|_, _| false), None);
        assert_eq!(drain(&mut queue), [("a", 1), ("a", 1)]);
    }

    #[test]
    fn what_is_not_kept_leaves_no_turn_behind() {
        let mut queue = FairQueue::default();
        for (party, item) in [("a", 1), ("b", 2), ("a", 3)] {
            queue.push(party, item);
        }
        queue.retain(|_, item| *item == 3);
        assert_eq!(drain(&mut queue), [("a", 3)]);
        assert!(queue.is_empty() && queue.turns.is_empty() && queue.waiting.is_empty());
    }

    proptest! {
        /// Between two turns of a party that waits, no other party has two.
        #[test]
        fn nobody_has_two_turns_while_another_waits(parties in prop::collection::vec(0_u8..5, 1..60)) {
            let mut queue = FairQueue::default();
            for (n, party) in parties.iter().enumerate() {
                queue.push(*party, n);
            }
            let order: Vec<(u8, usize)> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(order.len(), parties.len());
            for waits in 0..5 {
                let last = order.iter().rposition(|(party, _)| *party == waits).unwrap_or(0);
                let mut since = [0; 5];
                for (party, _) in &order[..last] {
                    since[usize::from(*party)] += 1;
                    prop_assert!(*party == waits || since[usize::from(*party)] <= 1);
                    if *party == waits {
                        since = [0; 5];
                    }
                }
            }
        }
    }
}

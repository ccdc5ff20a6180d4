//! [`FairQueue`]: whoever waits, each party has its turn.
//!
//! Pure and without a clock. One
//! party with a thousand items delays another by one item, not by a thousand. A party that waits alone gets everything.
//!
//! ```
//! use conjur_client::fair::FairQueue;
//!
//! let mut queue = FairQueue::default();
//! (0..1_000).for_each(|item| queue.push("a", item));
//! queue.push("b", 1);
//! assert_eq!([queue.pop(), queue.pop()], [Some(("a", 0)), Some(("b", 1))]);
//! ```

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::limits::URGENT_IN_A_ROW;

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

    /// Puts an item before the others of its party. The turns stay as they are.
    pub fn push_front(&mut self, party: P, item: T) {
        let items = self.waiting.entry(party.clone()).or_default();
        if items.is_empty() {
            self.turns.push_back(party);
        }
        items.push_front(item);
        self.len += 1;
    }

    /// Takes the oldest item of one party out of its turn; the turns of the others stay as they are.
    pub fn pop_of(&mut self, party: &P) -> Option<T> {
        let items = self.waiting.get_mut(party)?;
        let item = items.pop_front()?;
        self.len -= 1;
        if items.is_empty() {
            self.forget(party);
        }
        Some(item)
    }

    /// Drops the items of one party that `unwanted` says.
    pub fn discard(&mut self, party: &P, mut unwanted: impl FnMut(&T) -> bool) {
        let Some(items) = self.waiting.get_mut(party) else { return };
        let before = items.len();
        items.retain(|item| !unwanted(item));
        self.len -= before - items.len();
        if items.is_empty() {
            self.forget(party);
        }
    }

    /// Takes all items of one party.
    pub fn take_all_of(&mut self, party: &P) -> VecDeque<T> {
        let items = self.waiting.get_mut(party).map(std::mem::take).unwrap_or_default();
        self.len -= items.len();
        self.forget(party);
        items
    }

    fn forget(&mut self, party: &P) {
        self.waiting.remove(party);
        self.turns.retain(|other| other != party);
    }

    /// The next item of one party.
    pub fn peek_of(&self, party: &P) -> Option<&T> {
        self.waiting.get(party)?.front()
    }

    /// The parties that have something waiting, in the order of their turns.
    pub fn parties(&self) -> impl Iterator<Item = &P> {
        self.turns.iter()
    }

    /// Takes the next item: the oldest of the party whose turn it is, which then goes to the end of the line.
    pub fn pop(&mut self) -> Option<(P, T)> {
        self.pop_if(|_, _| true)
    }

    /// Takes the oldest item of the first party that `may` have its turn now. Parties that may not keep their place.
    pub fn pop_if(&mut self, may: impl FnMut(&P, &T) -> bool) -> Option<(P, T)> {
        self.pop_live(|_| false, may)
    }

    /// The same where items may be dead: whoever put them in went away. A dead item that is next of its party is dropped,
    /// and costs the party nothing of its turn. Each is looked at once, however many wait.
    pub fn pop_live(
        &mut self,
        is_dead: impl Fn(&T) -> bool,
        mut may: impl FnMut(&P, &T) -> bool,
    ) -> Option<(P, T)> {
        let mut at = 0;
        while let Some(party) = self.turns.get(at) {
            let Some(items) = self.waiting.get_mut(party) else {
                self.turns.remove(at);
                continue;
            };
            while items.front().is_some_and(&is_dead) {
                items.pop_front();
                self.len -= 1;
            }
            let Some(next) = items.front() else {
                self.waiting.remove(party);
                self.turns.remove(at);
                continue;
            };
            if !may(party, next) {
                at += 1;
                continue;
            }
            let (party, item) = (self.turns.remove(at)?, items.pop_front()?);
            self.len -= 1;
            if items.is_empty() {
                self.waiting.remove(&party);
            } else {
                self.turns.push_back(party.clone());
            }
            return Some((party, item));
        }
        None
    }

    /// Whether an item of one party waits that is not dead.
    pub fn any_of(&self, party: &P, is_dead: impl Fn(&T) -> bool) -> bool {
        self.waiting.get(party).is_some_and(|items| items.iter().any(|item| !is_dead(item)))
    }

    /// Whether an item of another party than `party` waits that is not dead.
    pub fn any_of_others(&self, party: &P, is_dead: impl Fn(&T) -> bool) -> bool {
        let others = self.waiting.iter().filter(|(other, _)| *other != party);
        others.flat_map(|(_, items)| items).any(|item| !is_dead(item))
    }

    /// The party that most items wait for.
    pub fn longest(&self) -> Option<&P> {
        self.turns.iter().max_by_key(|party| self.len_of(party))
    }

    /// Takes the newest item of one party back.
    pub fn take_back(&mut self, party: &P) -> Option<T> {
        let items = self.waiting.get_mut(party)?;
        let item = items.pop_back()?;
        self.len -= 1;
        if items.is_empty() {
            self.waiting.remove(party);
            self.turns.retain(|other| other != party);
        }
        Some(item)
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

/// Two such queues: what is urgent goes first, but for one turn in a few, so that whoever has something urgent all the
/// time does not stop what others repeat on a schedule.
#[derive(Debug)]
pub struct Lanes<P, T> {
    urgent: FairQueue<P, T>,
    other: FairQueue<P, T>,
    in_a_row: u32,
}

impl<P, T> Default for Lanes<P, T> {
    fn default() -> Self {
        Self { urgent: FairQueue::default(), other: FairQueue::default(), in_a_row: 0 }
    }
}

impl<P: Clone + Eq + Hash, T> Lanes<P, T> {
    /// The queue of one lane.
    pub fn lane(&self, urgent: bool) -> &FairQueue<P, T> {
        if urgent { &self.urgent } else { &self.other }
    }

    /// The queue of one lane, to change it.
    pub fn lane_mut(&mut self, urgent: bool) -> &mut FairQueue<P, T> {
        if urgent { &mut self.urgent } else { &mut self.other }
    }

    /// Whether what is urgent has the next turn, where both wait.
    pub fn urgent_is_next(&self) -> bool {
        self.other.is_empty() || self.in_a_row < URGENT_IN_A_ROW
    }

    /// A turn of one lane was taken.
    pub fn took(&mut self, urgent: bool) {
        self.in_a_row = if urgent && !self.other.is_empty() { self.in_a_row.saturating_add(1) } else { 0 };
    }

    /// Takes the next item that `may` have its turn now, and whether it is urgent.
    pub fn pop_if(&mut self, may: impl FnMut(bool, &P, &T) -> bool) -> Option<(bool, P, T)> {
        self.pop_live(|_| false, may)
    }

    /// The same where items may be dead, as with [`FairQueue::pop_live`].
    pub fn pop_live(
        &mut self,
        is_dead: impl Fn(&T) -> bool,
        mut may: impl FnMut(bool, &P, &T) -> bool,
    ) -> Option<(bool, P, T)> {
        let first = self.urgent_is_next();
        for urgent in [first, !first] {
            let lane = self.lane_mut(urgent);
            if let Some((party, item)) = lane.pop_live(&is_dead, |party, item| may(urgent, party, item)) {
                self.took(urgent);
                return Some((urgent, party, item));
            }
        }
        None
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.urgent.len() + self.other.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether a party that holds `held` of something may take one more where `free` are left: four times what is left at
/// most. Alone it gets four fifths of all, and the last fifth is there at once for whoever comes, however long what is
/// held lasts; the more parties hold much, the less each of them gets.
pub fn may_take(held: usize, free: usize) -> bool {
    free > 0 && held <= free.saturating_mul(4)
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
    fn who_went_away_costs_its_party_no_turn_and_is_looked_at_once() {
        let mut queue = FairQueue::default();
        for (party, item) in [("a", 1), ("a", 2), ("b", 1), ("c", 3), ("a", 1), ("c", 1)] {
            queue.push(party, item);
        }
        let looked = std::cell::Cell::new(0);
        let is_dead = |item: &u32| {
            looked.set(looked.get() + 1);
            *item == 1
        };
        assert!(queue.any_of_others(&"a", |item| *item == 1));
        assert_eq!(queue.pop_live(is_dead, |party, _| *party != "a"), Some(("c", 3)));
        assert_eq!(queue.pop_live(is_dead, |_, _| true), Some(("a", 2)));
        assert!(!queue.any_of_others(&"b", |item| *item == 1));
        assert_eq!(queue.pop_live(is_dead, |_, _| true), None);
        assert!(queue.is_empty() && queue.turns.is_empty() && queue.waiting.is_empty());
        assert!(looked.get() <= 8, "{}", looked.get());
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

    #[test]
    fn what_is_taken_back_is_the_newest_of_its_party() {
        let mut queue = FairQueue::default();
        for (party, item) in [("a", 1), ("b", 2), ("b", 3), ("c", 4)] {
            queue.push(party, item);
        }
        assert_eq!(queue.longest(), Some(&"b"));
        assert_eq!(
            (queue.take_back(&"b"), queue.take_back(&"c"), queue.take_back(&"c")),
            (Some(3), Some(4), None)
        );
        assert_eq!((queue.len(), drain(&mut queue)), (2, vec![("a", 1), ("b", 2)]));
        assert_eq!((queue.longest(), queue.turns.len()), (None, 0));
    }

    #[test]
    fn what_is_put_in_front_goes_first_of_its_party_and_moves_no_turn() {
        let mut queue = FairQueue::default();
        for (party, item) in [("a", 1), ("b", 2)] {
            queue.push(party, item);
        }
        queue.push_front("b", 3);
        assert_eq!((queue.peek_of(&"b"), queue.parties().count()), (Some(&3), 2));
        assert_eq!(drain(&mut queue), [("a", 1), ("b", 3), ("b", 2)]);
    }

    #[test]
    fn what_is_urgent_goes_first_and_what_is_repeated_has_one_turn_in_four() {
        let mut lanes = Lanes::default();
        (0..100).for_each(|n| lanes.lane_mut(true).push("hostile", n));
        lanes.lane_mut(false).push("victim", 1);
        let order: Vec<_> = (0..4).filter_map(|_| lanes.pop_if(|_, _, _| true)).collect();
        assert_eq!(order.iter().map(|(_, party, _)| *party).collect::<Vec<_>>()[2..], ["hostile", "victim"]);
        assert_eq!(lanes.pop_if(|urgent, _, _| !urgent), None);
        assert_eq!(lanes.pop_if(|_, _, _| true), Some((true, "hostile", 3)), "alone it gets every turn");
        assert_eq!((lanes.len(), lanes.is_empty()), (96, false));
        let next = lanes.pop_live(|item| *item < 50, |_, _, _| true);
        assert_eq!((next, lanes.len()), (Some((true, "hostile", 50)), 49));
    }

    #[test]
    fn who_is_alone_gets_nearly_all_and_leaves_room_for_whoever_comes() {
        let total = 1_280;
        let take_all = |held: &mut Vec<usize>| {
            while let Some(party) =
                (0..held.len()).find(|p| may_take(held[*p], total - held.iter().sum::<usize>()))
            {
                held[party] += 1;
            }
        };
        let mut held = vec![0];
        take_all(&mut held);
        assert_eq!(held, [1_025]);
        held.push(0);
        take_all(&mut held);
        assert!(held[1] > 200 && held.iter().sum::<usize>() < total, "{held:?}");
    }

    #[test]
    fn one_party_s_items_are_taken_or_dropped_without_a_turn() {
        let mut queue = FairQueue::default();
        for (party, item) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            queue.push(party, item);
        }
        assert_eq!(queue.pop_of(&"a"), Some(1));
        queue.discard(&"a", |item| *item == 2);
        assert_eq!(queue.len(), 2);
        queue.discard(&"b", |_| true);
        assert_eq!((queue.len(), queue.parties().count()), (1, 1));
        assert_eq!(queue.take_all_of(&"a"), [4]);
        assert!(queue.is_empty() && queue.turns.is_empty() && queue.waiting.is_empty());
        assert_eq!(queue.pop_of(&"a"), None);
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

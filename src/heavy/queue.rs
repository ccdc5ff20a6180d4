//! Who may do heavy work now: places, bytes, and turns by namespace. Pure.

use std::collections::HashMap;

use crate::fair::FairQueue;

/// What waits for a place, and what runs.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: FairQueue<String, (usize, T)>,
    running: HashMap<String, usize>,
    places: usize,
    free: usize,
    bytes: usize,
}

impl<T> Queue<T> {
    /// With so many places, and so many bytes for all that runs.
    pub fn new(places: usize, bytes: usize) -> Self {
        Self { waiting: FairQueue::default(), running: HashMap::new(), places, free: bytes, bytes }
    }

    /// Lets something wait. What asks for more bytes than there are gets all of them.
    pub fn push(&mut self, namespace: &str, bytes: usize, item: T) {
        self.waiting.push(namespace.to_owned(), (bytes.min(self.bytes), item));
    }

    /// Takes what may run now: that of the next namespace that runs nothing, or of the next at all where each that waits
    /// runs something. What is next and finds too few bytes is waited for: else small work would pass it for ever.
    pub fn admit(&mut self) -> Option<(String, usize, T)> {
        if self.running.values().sum::<usize>() >= self.places {
            return None;
        }
        let mut is_blocked = false;
        let (free, running) = (self.free, &self.running);
        let mut take = |bytes: usize| {
            is_blocked |= bytes > free;
            !is_blocked
        };
        let others =
            self.waiting.pop_if(|namespace, (bytes, _)| !running.contains_key(namespace) && take(*bytes));
        let taken = match others {
            Some(taken) => Some(taken),
            None if is_blocked => None,
            None => self.waiting.pop_if(|_, (bytes, _)| *bytes <= free),
        };
        let (namespace, (bytes, item)) = taken?;
        self.free -= bytes;
        *self.running.entry(namespace.clone()).or_default() += 1;
        Some((namespace, bytes, item))
    }

    /// Something ended.
    pub fn done(&mut self, namespace: &str, bytes: usize) {
        self.free = (self.free + bytes).min(self.bytes);
        if let Some(count) = self.running.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(queue: &mut Queue<u32>) -> Option<(String, u32)> {
        queue.admit().map(|(namespace, _, item)| (namespace, item))
    }

    #[test]
    fn a_namespace_alone_has_all_places_and_one_among_others_has_one() {
        let mut queue = Queue::new(2, 100);
        (0..4).for_each(|n| queue.push("a", 10, n));
        assert_eq!(next(&mut queue), Some(("a".into(), 0)));
        assert_eq!(next(&mut queue), Some(("a".into(), 1)));
        assert_eq!(next(&mut queue), None, "no place is left");
        queue.push("b", 10, 7);
        queue.done("a", 10);
        assert_eq!(next(&mut queue), Some(("b".into(), 7)), "who runs nothing comes first");
        queue.done("a", 10);
        assert_eq!(next(&mut queue), Some(("a".into(), 2)));
    }

    #[test]
    fn what_needs_all_bytes_is_passed_by_nothing() {
        let mut queue = Queue::new(2, 100);
        queue.push("a", 60, 0);
        assert_eq!(next(&mut queue), Some(("a".into(), 0)));
        queue.push("b", 1_000, 1);
        queue.push("c", 10, 2);
        queue.push("a", 10, 3);
        assert_eq!(next(&mut queue), None, "b is next, and waits for the bytes of a");
        queue.done("a", 60);
        assert_eq!(next(&mut queue), Some(("b".into(), 1)));
        assert_eq!(next(&mut queue), None);
        queue.done("b", 100);
        assert_eq!(next(&mut queue), Some(("c".into(), 2)));
        assert_eq!(next(&mut queue), Some(("a".into(), 3)));
    }

    proptest! {
        /// Whatever comes and ends in whatever order: no more runs than may, and all of it runs in the end.
        #[test]
        fn bounds_hold_and_nothing_is_left(
            work in prop::collection::vec((0_u8..4, 1_usize..150), 1..60),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let mut queue = Queue::new(2, 100);
            for (namespace, bytes) in &work {
                queue.push(&namespace.to_string(), *bytes, ());
            }
            let (mut running, mut done, mut ends) = (Vec::new(), 0, ends.into_iter());
            loop {
                while let Some((namespace, bytes, ())) = queue.admit() {
                    running.push((namespace, bytes));
                }
                prop_assert!(running.len() <= 2);
                prop_assert!(running.iter().map(|(_, bytes)| bytes).sum::<usize>() <= 100);
                if running.is_empty() {
                    break;
                }
                let at = ends.next().map_or(0, |end| end.index(running.len()));
                let (namespace, bytes) = running.remove(at);
                queue.done(&namespace, bytes);
                done += 1;
            }
            prop_assert_eq!(done, work.len());
        }
    }
}

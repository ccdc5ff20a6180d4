//! What goes by the next request.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Apart, Cut, Entry, May, Place, Rest, Waiters, Waiting};
use crate::budget::Party;
use crate::gate::Priority;
use crate::variables::batch_limits::BatchLimits;
use crate::variables::bisect::Member;
use crate::variables::fetched::Wanted;

impl Waiting {
    /// The next request, if there is one that may go now: one id alone, what is left of a batch, or a batch that is full
    /// or has waited, of what `may` go. Looks at little more than what fits into
    /// one batch: tens of thousands may wait.
    pub(in crate::variables) fn cut(&mut self, limits: BatchLimits, may: May, now: Instant) -> Option<Cut> {
        let refresh_too = may.refreshes;
        for apart in [self.apart_is_next, !self.apart_is_next].into_iter().filter(|apart| may.apart || !apart)
        {
            let cut = if apart {
                self.cut_apart(limits, refresh_too, now)
            } else {
                self.cut_trusted(refresh_too, now).or_else(|| self.cut_together(limits, refresh_too, now))
            };
            if cut.is_some() {
                self.apart_is_next = !apart;
                return cut;
            }
        }
        None
    }

    fn cut_trusted(&mut self, refresh_too: bool, now: Instant) -> Option<Cut> {
        loop {
            let rests = &self.rests;
            let goes = |number: &u64| rests.get(number).is_none_or(|rest| rest.not_before <= now);
            let (_, _, number) =
                self.trusted.pop_if(|urgent, _, number| (urgent || refresh_too) && goes(number))?;
            if let Some(rest) = self.rests.remove(&number) {
                let Rest { batch, group, priority, .. } = self.unqueue(number, rest);
                return Some(Cut::Rest { batch, group, priority });
            }
        }
    }

    fn cut_apart(&mut self, limits: BatchLimits, refresh_too: bool, now: Instant) -> Option<Cut> {
        let goes = self.due(Place::Own).is_some_and(|due| due <= now) || self.own_pool.weight > limits.bytes;
        let many = [false, true].map(|urgent| {
            let line = self.apart.lane(urgent);
            line.parties().filter(|party| line.len_of(party) >= limits.count).cloned().collect::<HashSet<_>>()
        });
        loop {
            let rests = &self.rests;
            let (urgent, party, item) = self.apart.pop_if(|urgent, party, item| {
                (urgent || refresh_too)
                    && match item {
                        Apart::Rest(number) => rests.get(number).is_none_or(|rest| rest.not_before <= now),
                        Apart::Alone(_) => true,
                        Apart::Own(_) => goes || many[usize::from(urgent)].contains(party),
                    }
            })?;
            let priority = if urgent { Priority::Foreground } else { Priority::Refresh };
            match item {
                Apart::Rest(number) => {
                    if let Some(rest) = self.rests.remove(&number) {
                        let Rest { batch, group, priority, .. } = self.unqueue(number, rest);
                        return Some(Cut::Rest { batch, group, priority });
                    }
                }
                Apart::Alone(wanted) => {
                    if let Some(waiters) = self.take(&wanted) {
                        return Some(Cut::Alone { wanted, party, waiters, priority });
                    }
                }
                Apart::Own(first) => {
                    let ids = self.own(&party, &first, urgent, limits);
                    if !ids.is_empty() {
                        return Some(Cut::Batch { ids, priority });
                    }
                }
            }
        }
    }

    /// The ids of one party that go together, beginning with `first`.
    fn own(
        &mut self,
        party: &Party,
        first: &Wanted,
        urgent: bool,
        limits: BatchLimits,
    ) -> Vec<(Member, Waiters)> {
        let mut batch = Filling::new(limits);
        batch.take(self, party, first);
        while batch.has_room()
            && let Some(Apart::Own(next)) = self.apart.lane(urgent).peek_of(party)
            && batch.fits(self.entries.get(next))
            && let Some(Apart::Own(next)) = self.apart.lane_mut(urgent).pop_of(party)
        {
            batch.take(self, party, &next);
        }
        batch.ids
    }

    fn cut_together(&mut self, limits: BatchLimits, refresh_too: bool, now: Instant) -> Option<Cut> {
        let full = self.together.len() >= limits.count || self.together_pool.weight > limits.bytes;
        if !full && self.due(Place::Together).is_none_or(|due| due > now) {
            return None;
        }
        let first = self.together.urgent_is_next();
        for urgent in [first, !first].into_iter().filter(|urgent| *urgent || refresh_too) {
            let mut batch = Filling::new(limits);
            self.fill(urgent, &mut batch);
            if batch.ids.is_empty() {
                continue;
            }
            self.together.took(urgent);
            if urgent {
                // What is left of the room is for refreshes.
                self.fill(false, &mut batch);
            }
            let priority = if urgent { Priority::Foreground } else { Priority::Refresh };
            return Some(Cut::Batch { ids: batch.ids, priority });
        }
        None
    }

    /// Takes ids of one priority by turns, as far as there is room.
    fn fill(&mut self, urgent: bool, batch: &mut Filling) {
        while batch.has_room() {
            let (line, entries) = (self.together.lane_mut(urgent), &self.entries);
            let next = line.pop_if(|_, wanted| batch.fits(entries.get(wanted)));
            let Some((party, wanted)) = next else { return };
            batch.take(self, &party, &wanted);
        }
    }
}

/// A batch while it is filled.
struct Filling {
    limits: BatchLimits,
    bytes: usize,
    ids: Vec<(Member, Waiters)>,
}

impl Filling {
    fn new(limits: BatchLimits) -> Self {
        Self { limits, bytes: 0, ids: Vec::new() }
    }

    fn has_room(&self) -> bool {
        self.ids.len() < self.limits.count
    }

    /// One alone goes, however heavy. What is stale weighs nothing.
    fn fits(&self, entry: Option<&Entry>) -> bool {
        self.ids.is_empty() || entry.is_none_or(|entry| self.bytes + entry.weight <= self.limits.bytes)
    }

    fn take(&mut self, from: &mut Waiting, party: &Party, wanted: &Wanted) {
        let weight = from.entries.get(wanted).map_or(0, |entry| entry.weight);
        if let Some(waiters) = from.take(wanted) {
            self.bytes += weight;
            self.ids.push((Member { party: Arc::clone(party), id: wanted.id.clone() }, waiters));
        }
    }
}

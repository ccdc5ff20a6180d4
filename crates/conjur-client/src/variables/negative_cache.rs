//! The ids that were missing or forbidden: what is remembered of them, and when they are looked at again.
//! Pure: the clock is passed in.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch_limits::BatchLimits;
use super::bisect::{self, Member, Seen};
use super::fetched::{Freshness, Wanted};
use super::requests::Batch;
use crate::budget::Party;
use crate::error::Error;
use crate::fair::FairQueue;
use crate::id::VariableId;
use crate::limits::BAD_IDS;

/// When bad ids are looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookTiming {
    /// From when an id was found bad to the first look; doubled from look to look.
    pub first: Duration,
    /// The longest between two looks at one id.
    pub longest: Duration,
    /// Between two requests.
    pub spacing: Duration,
    /// After the connection failed.
    pub after_failure: Duration,
    /// Ids that no one asked for this long are forgotten.
    pub forget: Duration,
}

impl Default for LookTiming {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            longest: Duration::from_secs(600),
            spacing: Duration::from_secs(1),
            after_failure: Duration::from_secs(10),
            forget: Duration::from_secs(3600),
        }
    }
}

#[derive(Debug)]
struct Bad {
    error: Error,
    /// Who asked for it.
    by: Party,
    /// When the server said so last.
    seen: Instant,
    /// When someone asked for it last.
    asked: Instant,
    wait: Duration,
    /// `None` while it is in a group that is being looked at.
    due: Option<Instant>,
}

/// One request of the re-look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    Together(Vec<Member>),
    Alone(Wanted),
}

#[derive(Debug)]
pub(super) struct BadIds {
    timing: LookTiming,
    known: HashMap<Wanted, Bad>,
    /// Groups that are still to be looked at in this round: those of several parties, and those of one, by turns.
    mixed: VecDeque<Vec<Member>>,
    own: FairQueue<Party, Vec<Member>>,
    own_is_next: bool,
    not_before: Option<Instant>,
}

impl BadIds {
    pub(super) fn new(timing: LookTiming) -> Self {
        Self {
            timing,
            known: HashMap::new(),
            mixed: VecDeque::new(),
            own: FairQueue::default(),
            own_is_next: false,
            not_before: None,
        }
    }

    /// What is remembered of `wanted`, if it is fresh enough; notes that someone asked.
    pub(super) fn recall(&mut self, wanted: &Wanted, freshness: Freshness, now: Instant) -> Option<Error> {
        let bad = self.known.get_mut(wanted)?;
        bad.asked = now;
        match freshness {
            Freshness::NoOlderThan(age) if now.saturating_duration_since(bad.seen) >= age => None,
            _ => Some(bad.error.clone()),
        }
    }

    /// A caller was told that `wanted` is bad.
    pub(super) fn remember(&mut self, wanted: Wanted, by: &Party, error: Error, now: Instant) {
        if self.known.len() >= BAD_IDS && !self.known.contains_key(&wanted) {
            self.forget_one();
        }
        let first = self.timing.first;
        let bad = self.known.entry(wanted).or_insert_with(|| Bad {
            error: error.clone(),
            by: Arc::clone(by),
            seen: now,
            asked: now,
            wait: first,
            due: Some(now + first),
        });
        (bad.error, bad.seen) = (error, now);
    }

    /// Of those that the party with the most of them asked for, the one that was longest not asked for. Whoever waits for
    /// it looks again by themselves.
    fn forget_one(&mut self) {
        let mut counts: HashMap<&Party, usize> = HashMap::new();
        for bad in self.known.values() {
            *counts.entry(&bad.by).or_default() += 1;
        }
        let Some(most) = counts.into_iter().max_by_key(|(_, count)| *count).map(|(party, _)| party) else {
            return;
        };
        let theirs = self.known.iter().filter(|(_, bad)| bad.by == *most);
        let oldest = theirs.min_by_key(|(_, bad)| bad.asked).map(|(wanted, _)| wanted.clone());
        if let Some(wanted) = oldest {
            self.known.remove(&wanted);
        }
    }

    /// `wanted` was read. Whether it had been bad.
    pub(super) fn forget(&mut self, wanted: &Wanted) -> bool {
        self.known.remove(wanted).is_some()
    }

    /// When there is something to look at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let due = if self.mixed.is_empty() && self.own.is_empty() {
            self.known.values().filter_map(|bad| bad.due).min()?
        } else {
            return Some(self.not_before.unwrap_or_else(Instant::now));
        };
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    /// The next request: what is left of a group, or all that are due as a new one. Groups of one party, and those of
    /// several, have every second request each.
    pub(super) fn look(
        &mut self,
        limits: BatchLimits,
        weight: impl Fn(&VariableId) -> usize,
        now: Instant,
    ) -> Option<Look> {
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return None;
        }
        let timing = self.timing;
        self.known.retain(|_, bad| now.saturating_duration_since(bad.asked) < timing.forget);
        self.not_before = Some(now + timing.spacing);
        for own in [self.own_is_next, !self.own_is_next] {
            let look = if own { self.look_on_own() } else { self.look_mixed(limits, &weight, now) };
            if look.is_some() {
                self.own_is_next = !own;
                return look;
            }
        }
        self.not_before = None;
        None
    }

    fn look_on_own(&mut self) -> Option<Look> {
        while let Some((_, group)) = self.own.pop() {
            if let Some(look) = self.as_look(group) {
                return Some(look);
            }
        }
        None
    }

    fn look_mixed(
        &mut self,
        limits: BatchLimits,
        weight: &impl Fn(&VariableId) -> usize,
        now: Instant,
    ) -> Option<Look> {
        while let Some(group) = self.mixed.pop_front() {
            if let Some(look) = self.as_look(group) {
                return Some(look);
            }
        }
        let mut due: Vec<_> = self
            .known
            .iter()
            .filter_map(|(wanted, bad)| Some((bad.due.filter(|due| *due <= now)?, wanted, &bad.by)))
            .collect();
        due.sort_unstable();
        let oldest_together = due.iter().find(|(_, wanted, _)| wanted.fits_a_batch()).map(|(due, ..)| *due);
        let alone =
            due.iter().find(|(_, wanted, _)| !wanted.fits_a_batch()).map(|(due, wanted, _)| (*due, *wanted));
        let look = match (oldest_together, alone) {
            (None, None) => return None,
            (Some(together), alone) if alone.is_none_or(|(alone, _)| together <= alone) => {
                // By turns, so that each party's are in it.
                let mut turns = FairQueue::default();
                for (_, wanted, by) in due.into_iter().filter(|(_, wanted, _)| wanted.fits_a_batch()) {
                    turns.push(Arc::clone(by), wanted.id.clone());
                }
                let all: Vec<_> = std::iter::from_fn(|| turns.pop())
                    .take(limits.count)
                    .map(|(party, id)| Member { party, id })
                    .collect();
                let count = limits.fitting(all.iter().map(|member| weight(&member.id)));
                as_look(all.into_iter().take(count).collect())
            }
            (_, alone) => alone.map(|(_, wanted)| Look::Alone(wanted.clone())),
        };
        match &look {
            Some(Look::Together(members)) => {
                for member in members {
                    self.take(&bisect::wanted(member));
                }
            }
            Some(Look::Alone(wanted)) => self.take(wanted),
            None => {}
        }
        look
    }

    fn as_look(&self, mut group: Vec<Member>) -> Option<Look> {
        group.retain(|member| self.known.contains_key(&bisect::wanted(member)));
        as_look(group)
    }

    /// What a look came to. Returns those that can be read now; they are forgotten here.
    pub(super) fn settle(&mut self, look: Look, seen: Seen, now: Instant) -> Vec<Wanted> {
        match (look, seen) {
            (Look::Alone(wanted), Seen::Alone(Ok(_))) => self.found(vec![wanted]),
            (Look::Alone(wanted), Seen::Alone(Err(error))) => {
                if error.tells_nothing() {
                    self.connection_failed(vec![wanted], now);
                } else {
                    self.put_back(&wanted, now);
                    if error.is_bad_id() {
                        self.seen(&wanted, Some(error), now);
                    }
                }
                Vec::new()
            }
            (Look::Together(members), Seen::Together(batch)) => self.settle_batch(members, batch, now),
            (Look::Alone(wanted), Seen::Together(_)) => {
                self.put_back(&wanted, now);
                Vec::new()
            }
            (Look::Together(members), Seen::Alone(_)) => self.all_back(&members, now),
        }
    }

    fn settle_batch(&mut self, members: Vec<Member>, batch: Batch, now: Instant) -> Vec<Wanted> {
        match batch {
            Batch::Values(values) => {
                let (found, left_out): (Vec<_>, Vec<_>) =
                    members.into_iter().partition(|member| values.get(&member.id).is_some_and(Result::is_ok));
                self.all_back(&left_out, now);
                self.found(found.iter().map(bisect::wanted).collect())
            }
            Batch::Missing(missing) => {
                let wanted = Wanted::latest(missing.clone());
                self.put_back(&wanted, now);
                self.seen(&wanted, None, now);
                let whose =
                    members.iter().find(|member| member.id == missing).map(|member| member.party.clone());
                let rest = members.into_iter().filter(|member| member.id != missing);
                let (theirs, others) = rest.partition(|member| Some(&member.party) == whose.as_ref());
                self.push(theirs);
                self.push(others);
                Vec::new()
            }
            Batch::OneIsBad | Batch::TooLong | Batch::TooLarge => {
                let mut members = members;
                members.sort_by(|a, b| a.party.cmp(&b.party));
                let (left, right) = bisect::parts(members);
                self.push(right);
                self.push(left);
                Vec::new()
            }
            Batch::Failed(error) if error.tells_nothing() => {
                self.connection_failed(members.iter().map(bisect::wanted).collect(), now);
                Vec::new()
            }
            Batch::Broken | Batch::Failed(_) => self.all_back(&members, now),
        }
    }

    /// Puts a group before the others of its kind.
    fn push(&mut self, group: Vec<Member>) {
        let Some(first) = group.first() else { return };
        if group.iter().all(|member| member.party == first.party) {
            self.own.push_front(Arc::clone(&first.party), group);
        } else {
            self.mixed.push_front(group);
        }
    }

    fn found(&mut self, found: Vec<Wanted>) -> Vec<Wanted> {
        found.into_iter().filter(|wanted| self.forget(wanted)).collect()
    }

    fn all_back(&mut self, members: &[Member], now: Instant) -> Vec<Wanted> {
        for member in members {
            self.put_back(&bisect::wanted(member), now);
        }
        Vec::new()
    }

    /// Still bad: twice as long until the next look.
    fn put_back(&mut self, wanted: &Wanted, now: Instant) {
        let longest = self.timing.longest;
        if let Some(bad) = self.known.get_mut(wanted) {
            bad.wait = (bad.wait * 2).min(longest);
            bad.due = Some(now + bad.wait);
        }
    }

    /// The server said again that it is bad, maybe in another way.
    fn seen(&mut self, wanted: &Wanted, error: Option<Error>, now: Instant) {
        if let Some(bad) = self.known.get_mut(wanted) {
            bad.seen = now;
            bad.error = error.unwrap_or_else(|| bad.error.clone());
        }
    }

    /// Nothing was learnt of any id: all of the round are due again, after a while.
    fn connection_failed(&mut self, ids: Vec<Wanted>, now: Instant) {
        let own = std::iter::from_fn(|| self.own.pop()).map(|(_, group)| group);
        let groups: Vec<_> = own.chain(std::mem::take(&mut self.mixed)).flatten().collect();
        for wanted in groups.iter().map(bisect::wanted).chain(ids) {
            if let Some(bad) = self.known.get_mut(&wanted) {
                bad.due = Some(now);
            }
        }
        self.not_before = Some(now + self.timing.after_failure);
    }

    fn take(&mut self, wanted: &Wanted) {
        if let Some(bad) = self.known.get_mut(wanted) {
            bad.due = None;
        }
    }
}

/// A group of one goes alone, where the server tells missing from forbidden.
fn as_look(mut group: Vec<Member>) -> Option<Look> {
    match group.len() {
        0 => None,
        1 => group.pop().map(|member| Look::Alone(bisect::wanted(&member))),
        _ => Some(Look::Together(group)),
    }
}

#[cfg(test)]
mod tests;

//! The ids that were missing or forbidden: what is remembered of them, and when they are looked at again.
//! Pure: the clock is passed in.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::cut::BatchLimits;
use super::isolate::halves;
use super::wire::Batch;
use super::{Answer, Freshness, Wanted};
use crate::conjur::error::Error;
use crate::conjur::id::VariableId;

/// When bad ids are looked at.
#[derive(Debug, Clone, Copy)]
pub(in crate::conjur) struct LookTiming {
    /// From when an id was found bad to the first look; doubled from look to look.
    pub first: Duration,
    /// The longest between two looks at one id.
    pub longest: Duration,
    /// Between two requests.
    pub spacing: Duration,
    /// After the connection failed.
    pub after_failure: Duration,
    /// Ids that nobody asked for this long are forgotten.
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
    /// When the server said so last.
    seen: Instant,
    /// When somebody asked for it last.
    asked: Instant,
    wait: Duration,
    /// `None` while it is in a group that is being looked at.
    due: Option<Instant>,
}

/// One request of the re-look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    Together(Vec<VariableId>),
    Alone(Wanted),
}

/// What it came to.
#[derive(Debug)]
pub(super) enum Seen {
    Together(Batch),
    Alone(Answer),
}

#[derive(Debug)]
pub(super) struct BadIds {
    timing: LookTiming,
    known: HashMap<Wanted, Bad>,
    /// Groups that are still to be looked at in this round.
    groups: VecDeque<Vec<VariableId>>,
    not_before: Option<Instant>,
}

impl BadIds {
    pub(super) fn new(timing: LookTiming) -> Self {
        Self { timing, known: HashMap::new(), groups: VecDeque::new(), not_before: None }
    }

    /// What is remembered of `wanted`, if it is fresh enough; notes that somebody asked.
    pub(super) fn recall(&mut self, wanted: &Wanted, freshness: Freshness, now: Instant) -> Option<Error> {
        let bad = self.known.get_mut(wanted)?;
        bad.asked = now;
        match freshness {
            Freshness::NoOlderThan(age) if now.saturating_duration_since(bad.seen) >= age => None,
            _ => Some(bad.error.clone()),
        }
    }

    /// A caller was told that `wanted` is bad.
    pub(super) fn remember(&mut self, wanted: Wanted, error: Error, now: Instant) {
        let first = self.timing.first;
        let bad = self.known.entry(wanted).or_insert_with(|| Bad {
            error: error.clone(),
            seen: now,
            asked: now,
            wait: first,
            due: Some(now + first),
        });
        (bad.error, bad.seen) = (error, now);
    }

    /// `wanted` was read. Whether it had been bad.
    pub(super) fn forget(&mut self, wanted: &Wanted) -> bool {
        self.known.remove(wanted).is_some()
    }

    /// When there is something to look at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let due = if self.groups.is_empty() {
            self.known.values().filter_map(|bad| bad.due).min()?
        } else {
            return Some(self.not_before.unwrap_or_else(Instant::now));
        };
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    /// The next request: what is left of a group, or all that are due as a new one.
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
        while let Some(mut group) = self.groups.pop_front() {
            group.retain(|id| self.known.contains_key(&Wanted::latest(id.clone())));
            if let Some(look) = as_look(group) {
                return Some(look);
            }
        }
        let mut due: Vec<_> =
            self.known.iter().filter_map(|(wanted, bad)| Some((bad.due?, wanted.clone()))).collect();
        due.retain(|(due, _)| *due <= now);
        due.sort();
        let (together, alone): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(_, wanted)| wanted.fits_a_batch());
        let oldest_alone = alone.first().map(|(due, _)| *due);
        let look = match together.first() {
            Some((oldest, _)) if oldest_alone.is_none_or(|alone| *oldest <= alone) => {
                let count = limits.fitting(together.iter().map(|(_, wanted)| weight(&wanted.id)));
                as_look(together.into_iter().take(count).map(|(_, wanted)| wanted.id).collect())
            }
            _ => alone.into_iter().next().map(|(_, wanted)| Look::Alone(wanted)),
        };
        match &look {
            Some(Look::Together(ids)) => ids.iter().for_each(|id| self.take(&Wanted::latest(id.clone()))),
            Some(Look::Alone(wanted)) => self.take(wanted),
            None => self.not_before = None,
        }
        look
    }

    /// What a look came to. Returns those that can be read now; they are forgotten here.
    pub(super) fn settle(&mut self, look: Look, seen: Seen, now: Instant) -> Vec<Wanted> {
        match (look, seen) {
            (Look::Alone(wanted), Seen::Alone(Ok(_))) => self.found(vec![wanted]),
            (Look::Alone(wanted), Seen::Alone(Err(error))) => {
                if error.is_connection() {
                    self.connection_failed(vec![wanted], now);
                } else {
                    self.put_back(&wanted, error.is_bad_id().then_some(error), now);
                }
                Vec::new()
            }
            (Look::Together(ids), Seen::Together(batch)) => self.settle_batch(ids, batch, now),
            (Look::Alone(wanted), Seen::Together(_)) => {
                self.put_back(&wanted, None, now);
                Vec::new()
            }
            (Look::Together(ids), Seen::Alone(_)) => self.all_back(ids, now),
        }
    }

    fn settle_batch(&mut self, ids: Vec<VariableId>, batch: Batch, now: Instant) -> Vec<Wanted> {
        match batch {
            Batch::Values(values) => {
                let (found, left_out): (Vec<_>, Vec<_>) =
                    ids.into_iter().partition(|id| values.get(id).is_some_and(Result::is_ok));
                self.all_back(left_out, now);
                self.found(found.into_iter().map(Wanted::latest).collect())
            }
            Batch::Missing(missing) => {
                self.put_back(&Wanted::latest(missing.clone()), None, now);
                self.groups.push_front(ids.into_iter().filter(|id| *id != missing).collect());
                Vec::new()
            }
            Batch::OneIsBad | Batch::TooLong | Batch::TooLarge => {
                let (left, right) = halves(ids);
                self.groups.push_front(right);
                self.groups.push_front(left);
                Vec::new()
            }
            Batch::Broken => self.all_back(ids, now),
            Batch::Failed(error) if error.is_connection() => {
                self.connection_failed(ids.into_iter().map(Wanted::latest).collect(), now);
                Vec::new()
            }
            Batch::Failed(_) => self.all_back(ids, now),
        }
    }

    fn found(&mut self, found: Vec<Wanted>) -> Vec<Wanted> {
        found.into_iter().filter(|wanted| self.forget(wanted)).collect()
    }

    fn all_back(&mut self, ids: Vec<VariableId>, now: Instant) -> Vec<Wanted> {
        for id in ids {
            self.put_back(&Wanted::latest(id), None, now);
        }
        Vec::new()
    }

    /// Still bad: twice as long until the next look.
    fn put_back(&mut self, wanted: &Wanted, error: Option<Error>, now: Instant) {
        let longest = self.timing.longest;
        if let Some(bad) = self.known.get_mut(wanted) {
            bad.wait = (bad.wait * 2).min(longest);
            bad.due = Some(now + bad.wait);
            bad.seen = now;
            if let Some(error) = error {
                bad.error = error;
            }
        }
    }

    /// Nothing was learnt of any id: all of the round are due again, after a while.
    fn connection_failed(&mut self, ids: Vec<Wanted>, now: Instant) {
        let groups = std::mem::take(&mut self.groups).into_iter().flatten().map(Wanted::latest);
        for wanted in groups.chain(ids) {
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
fn as_look(mut group: Vec<VariableId>) -> Option<Look> {
    match group.len() {
        0 => None,
        1 => group.pop().map(|id| Look::Alone(Wanted::latest(id))),
        _ => Some(Look::Together(group)),
    }
}

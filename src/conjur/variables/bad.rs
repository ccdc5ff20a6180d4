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
                    self.put_back(&wanted, now);
                    if error.is_bad_id() {
                        self.seen(&wanted, Some(error), now);
                    }
                }
                Vec::new()
            }
            (Look::Together(ids), Seen::Together(batch)) => self.settle_batch(ids, batch, now),
            (Look::Alone(wanted), Seen::Together(_)) => {
                self.put_back(&wanted, now);
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
                let wanted = Wanted::latest(missing.clone());
                self.put_back(&wanted, now);
                self.seen(&wanted, None, now);
                self.groups.push_front(ids.into_iter().filter(|id| *id != missing).collect());
                Vec::new()
            }
            Batch::OneIsBad | Batch::TooLong | Batch::TooLarge => {
                let (left, right) = halves(ids);
                self.groups.push_front(right);
                self.groups.push_front(left);
                Vec::new()
            }
            Batch::Failed(error) if error.is_connection() => {
                self.connection_failed(ids.into_iter().map(Wanted::latest).collect(), now);
                Vec::new()
            }
            Batch::Broken | Batch::Failed(_) => self.all_back(ids, now),
        }
    }

    fn found(&mut self, found: Vec<Wanted>) -> Vec<Wanted> {
        found.into_iter().filter(|wanted| self.forget(wanted)).collect()
    }

    fn all_back(&mut self, ids: Vec<VariableId>, now: Instant) -> Vec<Wanted> {
        for id in ids {
            self.put_back(&Wanted::latest(id), now);
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::conjur::variables::Fetched;
    use crate::sensitive::Sensitive;

    const LIMITS: BatchLimits = BatchLimits { count: 250, bytes: 7500 };

    fn wanted(n: usize) -> Wanted {
        Wanted::latest(VariableId::new(&format!("v{n}")).unwrap())
    }

    fn missing(text: &str) -> Error {
        Error::NotFound { target: text.to_owned(), message: text.to_owned() }
    }

    fn seen(look: &Look, bad: &HashSet<Wanted>, forbidden: bool) -> Seen {
        let value = || Ok(Arc::new(Fetched::new(Sensitive::new(Vec::new()), None)));
        match look {
            Look::Alone(wanted) if bad.contains(wanted) => Seen::Alone(Err(missing("alone"))),
            Look::Alone(_) => Seen::Alone(value()),
            Look::Together(ids) => {
                let first = ids.iter().find(|id| bad.contains(&Wanted::latest((*id).clone())));
                Seen::Together(match first {
                    Some(_) if forbidden => Batch::OneIsBad,
                    Some(id) => Batch::Missing(id.clone()),
                    None => Batch::Values(ids.iter().map(|id| (id.clone(), value())).collect()),
                })
            }
        }
    }

    /// Runs the re-look for `seconds` and returns what was found and how many requests that took.
    fn run(
        bad_ids: &mut BadIds,
        bad: &HashSet<Wanted>,
        forbidden: bool,
        now: &mut Instant,
        seconds: u64,
    ) -> (HashSet<Wanted>, usize) {
        let (mut found, mut requests) = (HashSet::new(), 0);
        for _ in 0..seconds * 10 {
            *now += Duration::from_millis(100);
            if let Some(look) = bad_ids.look(LIMITS, |_| 10, *now) {
                requests += 1;
                let seen = seen(&look, bad, forbidden);
                found.extend(bad_ids.settle(look, seen, *now));
            }
        }
        (found, requests)
    }

    fn filled(count: usize) -> (BadIds, Instant) {
        let (mut bad_ids, now) = (BadIds::new(LookTiming::default()), Instant::now());
        for n in 0..count {
            bad_ids.remember(wanted(n), missing("bad"), now);
        }
        (bad_ids, now)
    }

    #[test]
    fn all_that_became_readable_are_found_by_one_request() {
        let (mut bad_ids, mut now) = filled(200);
        assert_eq!(bad_ids.next_look(), Some(now + Duration::from_secs(5)));
        let (found, requests) = run(&mut bad_ids, &HashSet::new(), false, &mut now, 6);
        assert_eq!((found.len(), requests), (200, 1));
        assert_eq!(bad_ids.next_look(), None);
    }

    #[test]
    fn the_few_that_stay_bad_hold_the_others_up_for_a_request_each_at_most_one_a_second() {
        let still = HashSet::from([wanted(7), wanted(100)]);
        for (forbidden, most) in [(false, 3), (true, 32)] {
            let (mut bad_ids, mut now) = filled(200);
            let (found, requests) = run(&mut bad_ids, &still, forbidden, &mut now, 5);
            assert!(requests <= 1, "not before five seconds, and then one");
            let (more, requests) = run(&mut bad_ids, &still, forbidden, &mut now, most);
            assert_eq!(found.len() + more.len(), 198, "forbidden {forbidden}");
            assert!(requests <= usize::try_from(most).unwrap() + 1);
        }
    }

    #[test]
    fn one_id_is_looked_at_less_and_less_often_but_every_ten_minutes() {
        let (mut bad_ids, mut now) = filled(1);
        let bad = HashSet::from([wanted(0)]);
        let (_, first_hour) = run(&mut bad_ids, &bad, false, &mut now, 3500);
        assert!((10..=14).contains(&first_hour), "{first_hour}");
        assert_eq!(bad_ids.recall(&wanted(0), Freshness::Remembered, now), Some(missing("alone")));
        let (_, ten_minutes) = run(&mut bad_ids, &bad, false, &mut now, 601);
        assert!((1..=2).contains(&ten_minutes), "{ten_minutes}");
    }

    #[test]
    fn what_nobody_asked_for_in_an_hour_is_forgotten() {
        let (mut bad_ids, mut now) = filled(3);
        let bad: HashSet<_> = (0..3).map(wanted).collect();
        run(&mut bad_ids, &bad, false, &mut now, 3000);
        assert!(bad_ids.recall(&wanted(0), Freshness::Remembered, now).is_some());
        run(&mut bad_ids, &bad, false, &mut now, 1500);
        assert!(bad_ids.recall(&wanted(0), Freshness::Remembered, now).is_some());
        assert!(bad_ids.recall(&wanted(1), Freshness::Remembered, now).is_none());
    }

    #[test]
    fn a_failing_connection_teaches_nothing_and_is_asked_rarely() {
        let (mut bad_ids, mut now) = filled(10);
        let mut requests = 0;
        for _ in 0..600 {
            now += Duration::from_millis(100);
            if let Some(look) = bad_ids.look(LIMITS, |_| 10, now) {
                requests += 1;
                let down = Batch::Failed(Error::Unavailable { message: "down".to_owned() });
                assert!(bad_ids.settle(look, Seen::Together(down), now).is_empty());
            }
        }
        assert!((5..=6).contains(&requests), "{requests}");
        let (found, _) = run(&mut bad_ids, &HashSet::new(), false, &mut now, 11);
        assert_eq!(found.len(), 10);
    }

    #[test]
    fn freshness_decides_whether_what_is_remembered_will_do() {
        let (mut bad_ids, now) = filled(1);
        let later = now + Duration::from_secs(3);
        let mut ask = |freshness| bad_ids.recall(&wanted(0), freshness, later).is_some();
        assert!(ask(Freshness::Remembered));
        assert!(ask(Freshness::NoOlderThan(Duration::from_secs(4))));
        assert!(!ask(Freshness::NoOlderThan(Duration::from_secs(2))));
        assert!(!ask(Freshness::NoOlderThan(Duration::ZERO)));
    }
}

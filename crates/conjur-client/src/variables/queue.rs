//! What is asked for and not yet on its way. Pure: the clock is passed in.
//!
//! Each party has its turn, and a turn is a request. Parties whose ids were good lately travel together, in batches that
//! are filled round robin. Whoever's ids were bad asks apart (its own batches, and what is left of a batch that held a bad
//! id), with every second request at most while others wait.

mod next;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::bisect::{Group, Member};
use super::fetched::{Answer, Wanted};
use crate::budget::Party;
use crate::fair::Lanes;
use crate::gate::Priority;

/// Where a caller waits for its answers.
pub(super) type Waiter = mpsc::UnboundedSender<(Wanted, Answer)>;

/// Who waits for an id: on whose behalf, and where.
pub(super) type Waiters = Vec<(Party, Waiter)>;

#[derive(Debug)]
struct Entry {
    waiters: Waiters,
    priority: Priority,
    since: Instant,
    age: u64,
    weight: usize,
    place: Place,
}

/// How an id travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// With those of all parties.
    Together,
    /// With those of its party.
    Own,
    Alone,
}

/// What there is of one place.
#[derive(Debug, Default)]
struct Pool {
    weight: usize,
    /// By age; those that are gone meanwhile, or in another place, are stale.
    ages: VecDeque<(Instant, u64, Wanted)>,
    newest: Option<Instant>,
}

/// What goes out by one request.
#[derive(Debug)]
pub(super) enum Cut {
    /// Ids that were not asked for yet.
    Batch { ids: Vec<(Member, Waiters)>, priority: Priority },
    /// One that can't travel with others.
    Alone { wanted: Wanted, party: Party, waiters: Waiters, priority: Priority },
    /// What is left of an earlier batch.
    Rest { batch: u64, group: Group, priority: Priority },
}

/// What may be asked for now, besides what is new and its parties' together.
#[derive(Debug, Clone, Copy)]
pub(super) struct May {
    /// What has no foreground in it.
    pub refreshes: bool,
    /// What is of those who ask apart: it is bad or large, and takes long.
    pub apart: bool,
}

/// What does not travel with others.
#[derive(Debug)]
enum Apart {
    /// Of parties whose ids were bad lately, all of them.
    Rest(u64),
    Alone(Wanted),
    /// Of a party whose ids were bad lately.
    Own(Wanted),
}

#[derive(Debug)]
struct Rest {
    batch: u64,
    group: Group,
    priority: Priority,
    not_before: Instant,
    /// Whether others than those with bad ids wait for it.
    trusted: bool,
}

/// The ids that wait. Their places in the queues may be stale: an entry that is gone went with another's turn.
#[derive(Debug)]
pub(super) struct Waiting {
    entries: HashMap<Wanted, Entry>,
    together: Lanes<Party, Wanted>,
    /// What is left of batches that others than those with bad ids wait for.
    trusted: Lanes<Party, u64>,
    apart: Lanes<Party, Apart>,
    apart_is_next: bool,
    rests: HashMap<u64, Rest>,
    suspects: HashMap<Party, Instant>,
    together_pool: Pool,
    own_pool: Pool,
    counter: u64,
    quiet: Duration,
    longest: Duration,
}

impl Waiting {
    /// A batch that is not full goes `quiet` after the newest id came, or `longest` after the oldest.
    pub(super) fn new(quiet: Duration, longest: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            together: Lanes::default(),
            trusted: Lanes::default(),
            apart: Lanes::default(),
            apart_is_next: false,
            rests: HashMap::new(),
            suspects: HashMap::new(),
            together_pool: Pool::default(),
            own_pool: Pool::default(),
            counter: 0,
            quiet,
            longest,
        }
    }

    /// Adds a waiter to those of `wanted`. The foreground pulls an id of the refreshes forward, and each party an id of
    /// another's line into its own.
    pub(super) fn add(
        &mut self,
        wanted: &Wanted,
        priority: Priority,
        (party, waiter): (Party, Waiter),
        now: Instant,
        weight: impl FnOnce() -> usize,
    ) {
        let place = if !wanted.fits_a_batch() {
            Place::Alone
        } else if self.is_suspect(&party, now) {
            Place::Own
        } else {
            Place::Together
        };
        let mut priority = priority;
        if let Some(entry) = self.entries.get_mut(wanted) {
            let stands = entry.waiters.iter().any(|(of, _)| *of == party) && priority >= entry.priority;
            priority = priority.min(entry.priority);
            entry.priority = priority;
            entry.waiters.push((Arc::clone(&party), waiter));
            if stands {
                return;
            }
            if place == Place::Together {
                self.move_to(wanted, Place::Together);
            }
        } else {
            self.counter += 1;
            let (age, waiters) = (self.counter, vec![(Arc::clone(&party), waiter)]);
            let weight = weight();
            let entry = Entry { waiters, priority, since: now, age, weight, place };
            self.entries.insert(wanted.clone(), entry);
            if let Some(pool) = self.pool(place) {
                pool.weight += weight;
                pool.ages.push_back((now, age, wanted.clone()));
                pool.newest = Some(now);
            }
        }
        let urgent = priority == Priority::Foreground;
        match place {
            Place::Together => self.together.lane_mut(urgent).push(party, wanted.clone()),
            Place::Own => self.apart.lane_mut(urgent).push(party, Apart::Own(wanted.clone())),
            Place::Alone => self.apart.lane_mut(urgent).push(party, Apart::Alone(wanted.clone())),
        }
    }

    fn pool(&mut self, place: Place) -> Option<&mut Pool> {
        match place {
            Place::Together => Some(&mut self.together_pool),
            Place::Own => Some(&mut self.own_pool),
            Place::Alone => None,
        }
    }

    fn move_to(&mut self, wanted: &Wanted, place: Place) {
        let Some(entry) = self.entries.get_mut(wanted).filter(|entry| entry.place != place) else { return };
        let former = std::mem::replace(&mut entry.place, place);
        let (weight, since, age) = (entry.weight, entry.since, entry.age);
        if let Some(pool) = self.pool(former) {
            pool.weight -= weight;
        }
        if let Some(pool) = self.pool(place) {
            pool.weight += weight;
            pool.ages.push_back((since, age, wanted.clone()));
            pool.newest = pool.newest.max(Some(since));
        }
    }

    /// Takes an id out; none where it went with another's turn, or no one waits for it any more.
    fn take(&mut self, wanted: &Wanted) -> Option<Waiters> {
        let entry = self.entries.remove(wanted)?;
        if let Some(pool) = self.pool(entry.place) {
            pool.weight -= entry.weight;
        }
        entry.waiters.iter().any(|(_, waiter)| !waiter.is_closed()).then_some(entry.waiters)
    }

    /// Whether something of a party waits.
    pub(super) fn has(&self, party: &Party) -> bool {
        [true, false].into_iter().any(|urgent| {
            self.together.lane(urgent).len_of(party)
                + self.trusted.lane(urgent).len_of(party)
                + self.apart.lane(urgent).len_of(party)
                > 0
        })
    }

    /// Those of whom something waits.
    pub(super) fn parties(&self) -> impl Iterator<Item = &Party> {
        [true, false].into_iter().flat_map(|urgent| {
            let together = self.together.lane(urgent).parties().chain(self.trusted.lane(urgent).parties());
            together.chain(self.apart.lane(urgent).parties())
        })
    }

    /// Ids of that party were bad: it asks apart for a while.
    pub(super) fn suspect(&mut self, party: &Party, until: Instant, now: Instant) {
        self.suspects.retain(|_, until| *until > now);
        if self.suspects.insert(Arc::clone(party), until).is_some() {
            return;
        }
        for urgent in [true, false] {
            for wanted in self.together.lane_mut(urgent).take_all_of(party) {
                let waiters = self.entries.get(&wanted).into_iter().flat_map(|entry| &entry.waiters);
                if waiters.map(|(of, _)| of).all(|of| self.is_suspect(of, now)) {
                    self.move_to(&wanted, Place::Own);
                }
                self.apart.lane_mut(urgent).push(Arc::clone(party), Apart::Own(wanted));
            }
        }
    }

    /// What is left of a batch, in the order in which it is to be asked, before all else of its parties.
    pub(super) fn rest(
        &mut self,
        batch: u64,
        groups: Vec<Group>,
        priority: Priority,
        pause: Duration,
        now: Instant,
    ) {
        let urgent = priority == Priority::Foreground;
        for group in groups.into_iter().rev() {
            self.counter += 1;
            let parties = parties(&group);
            let trusted = parties.iter().any(|party| !self.is_suspect(party, now));
            for party in parties {
                if trusted {
                    self.trusted.lane_mut(urgent).push_front(party, self.counter);
                } else {
                    self.apart.lane_mut(urgent).push_front(party, Apart::Rest(self.counter));
                }
            }
            self.rests
                .insert(self.counter, Rest { batch, group, priority, not_before: now + pause, trusted });
        }
    }

    /// All that is left of a batch.
    pub(super) fn take_rests(&mut self, batch: u64) -> Vec<Group> {
        let taken: Vec<_> = self.rests.extract_if(|_, rest| rest.batch == batch).collect();
        taken.into_iter().map(|(number, rest)| self.unqueue(number, rest).group).collect()
    }

    /// A rest is taken: it stands in the lines of its other parties no more.
    fn unqueue(&mut self, number: u64, rest: Rest) -> Rest {
        let urgent = rest.priority == Priority::Foreground;
        for party in parties(&rest.group) {
            if rest.trusted {
                self.trusted.lane_mut(urgent).discard(&party, |other| *other == number);
            } else {
                let line = self.apart.lane_mut(urgent);
                line.discard(&party, |item| matches!(item, Apart::Rest(other) if *other == number));
            }
        }
        rest
    }

    fn due(&mut self, place: Place) -> Option<Instant> {
        let pool = if place == Place::Own { &mut self.own_pool } else { &mut self.together_pool };
        while let Some((_, age, wanted)) = pool.ages.front()
            && self.entries.get(wanted).is_none_or(|entry| entry.age != *age || entry.place != place)
        {
            pool.ages.pop_front();
        }
        let (oldest, ..) = pool.ages.front()?;
        Some((*oldest + self.longest).min(pool.newest? + self.quiet))
    }

    /// When something goes that does not go now.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Instant> {
        let batches = [self.due(Place::Together), self.due(Place::Own)];
        let rests = self.rests.values().map(|rest| rest.not_before);
        batches.into_iter().flatten().chain(rests).filter(|at| *at > now).min()
    }

    /// Whether ids of that party were bad lately.
    pub(super) fn is_suspect(&self, party: &Party, now: Instant) -> bool {
        self.suspects.get(party).is_some_and(|until| *until > now)
    }
}

/// The parties of a group, each once.
fn parties(group: &Group) -> HashSet<Party> {
    group.all().map(|member| Arc::clone(&member.party)).collect()
}

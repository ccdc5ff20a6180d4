//! The task itself: it lives as long as its client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use crate::budget::Party;
use crate::error::Error;
use crate::gate::{Gate, Parties, Priority};
use crate::limits::BAD_IDS_APART;
use crate::lock::lock;
use crate::variables::batch_limits::Adaptive;
use crate::variables::bisect::{self, Group, Seen};
use crate::variables::fetched::{Answer, Freshness, Wanted};
use crate::variables::negative_cache::{BadIds, Look, LookTiming};
use crate::variables::queue::{Cut, May, Waiter, Waiters, Waiting};
use crate::variables::requests::Source;

/// The collector's clockwork.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// A batch that isn't full goes when no new id came for this long …
    pub quiet: Duration,
    /// … or this long after its oldest id.
    pub longest: Duration,
    /// How long a batch that was too long keeps the limits down.
    pub lowered: Duration,
    /// Before a 500 is tried again.
    pub broken_pause: Duration,
    /// The re-look at bad ids.
    pub look: LookTiming,
    /// How long a catalogue is kept.
    pub catalogue: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(100),
            longest: Duration::from_secs(1),
            lowered: Duration::from_secs(600),
            broken_pause: Duration::from_millis(300),
            look: LookTiming::default(),
            catalogue: Duration::from_secs(5),
        }
    }
}

/// What a caller asks for.
pub(super) struct Ask {
    pub party: Party,
    pub wanted: Vec<Wanted>,
    pub priority: Priority,
    pub freshness: Freshness,
    pub waiter: Waiter,
}

pub(super) type Subscribers = Arc<Mutex<Vec<mpsc::UnboundedSender<Vec<Wanted>>>>>;

/// A request under way.
struct Running {
    batch: u64,
    priority: Priority,
    /// Its permit comes with the first turn of any of them: all who wait gain by its end.
    parties: Parties,
    /// What it asks for; none where that is one that can't travel with others.
    group: Option<Group>,
    /// No one has a part in it but those who ask apart.
    is_apart: bool,
}

/// Ids that went out together, until each has its answer.
struct Flight {
    priority: Priority,
    started: Instant,
    ids: HashMap<Wanted, Waiters>,
    /// Requests under way, and those that are still to be made.
    open: usize,
    /// There is something wrong with one of them: who comes now asks anew, and waits for no one's bad ids.
    isolating: bool,
}

pub(super) struct Actor<S> {
    source: Arc<S>,
    timing: Timing,
    limits: Adaptive,
    slots: usize,
    waiting: Waiting,
    jobs: JoinSet<Seen>,
    running: HashMap<task::Id, Running>,
    batches: HashMap<u64, Flight>,
    counter: u64,
    /// The batch that an id went out with last.
    in_flight: HashMap<Wanted, u64>,
    bad: BadIds,
    looking: Option<(task::Id, Look)>,
    subscribers: Subscribers,
}

impl<S: Source> Actor<S> {
    pub(super) fn new(
        source: Arc<S>,
        timing: Timing,
        limits: Adaptive,
        slots: usize,
        subscribers: Subscribers,
    ) -> Self {
        Self {
            source,
            timing,
            limits,
            slots,
            waiting: Waiting::new(timing.quiet, timing.longest),
            jobs: JoinSet::new(),
            running: HashMap::new(),
            batches: HashMap::new(),
            counter: 0,
            in_flight: HashMap::new(),
            bad: BadIds::new(timing.look),
            looking: None,
            subscribers,
        }
    }

    pub(super) async fn run(mut self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        loop {
            // All that came meanwhile belongs into the same batches, and waits for no request to end.
            while let Ok(ask) = asks.try_recv() {
                self.add(&ask);
            }
            // One reading of the clock: what is due between two would be neither started nor waited for.
            let now = Instant::now();
            self.start_jobs(now);
            self.start_look(now);
            let wake = self.wake(now);
            tokio::select! {
                biased;
                Some(ended) = self.jobs.join_next_with_id() => match ended {
                    Ok((id, seen)) => self.ended(id, Some(seen)),
                    Err(error) => self.ended(error.id(), None),
                },
                ask = asks.recv() => match ask {
                    Some(ask) => self.add(&ask),
                    None => return,
                },
                () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    fn add(&mut self, ask: &Ask) {
        let now = Instant::now();
        if !self.waiting.has(&ask.party) {
            self.running.values().for_each(|running| running.parties.join(&ask.party));
        }
        for wanted in &ask.wanted {
            let waiter = ask.waiter.clone();
            if let Some(error) = self.bad.recall(wanted, ask.freshness, now) {
                waiter.send((wanted.clone(), Err(error))).ok();
            } else if let Some(waiters) = self.waiters_in_flight(wanted, ask, now) {
                waiters.push((Arc::clone(&ask.party), waiter));
            } else {
                let source = &self.source;
                let waiter = (Arc::clone(&ask.party), waiter);
                self.waiting.add(wanted, ask.priority, waiter, now, || source.weight(&wanted.id));
            }
        }
    }

    /// Who waits for `wanted` already, if it was sent recently enough: what was read before a person asked again
    /// is not what they ask for.
    fn waiters_in_flight(&mut self, wanted: &Wanted, ask: &Ask, now: Instant) -> Option<&mut Waiters> {
        let flight = self.batches.get_mut(self.in_flight.get(wanted)?)?;
        match ask.freshness {
            Freshness::NoOlderThan(age) if now.saturating_duration_since(flight.started) > age => {
                return None;
            }
            Freshness::Since(at) if flight.started < Instant::from_std(at) => return None,
            _ => {}
        }
        let isolating = flight.isolating;
        let waiters = flight.ids.get_mut(wanted)?;
        (!isolating || waiters.iter().any(|(party, _)| *party == ask.party)).then_some(waiters)
    }

    fn start_jobs(&mut self, now: Instant) {
        while self.running.len() < self.slots {
            let limits = self.limits.now(now);
            match self.waiting.cut(limits, self.may_start(), now) {
                None => return,
                Some(Cut::Batch { ids, priority }) => {
                    let group = Group::new(ids.iter().map(|(member, _)| member.clone()).collect());
                    let ids = ids.into_iter().map(|(member, waiters)| (bisect::wanted(&member), waiters));
                    let batch = self.fly(ids.collect(), priority, now);
                    self.request(batch, priority, Some(group), None);
                }
                Some(Cut::Alone { wanted, party, waiters, priority }) => {
                    let batch = self.fly(HashMap::from([(wanted.clone(), waiters)]), priority, now);
                    self.request(batch, priority, None, Some((wanted, party)));
                }
                Some(Cut::Rest { batch, group, priority }) => {
                    let mut groups = group.split(|party| self.waiting.is_suspect(party, now));
                    let flight = self.batches.get_mut(&batch);
                    if groups.len() > 1 {
                        if let Some(flight) = flight {
                            flight.open += groups.len() - 1;
                        }
                        self.waiting.rest(batch, groups, priority, Duration::ZERO, now);
                        continue;
                    }
                    let Some(mut group) = groups.pop() else { continue };
                    group.keep(|id| {
                        let waiters =
                            flight.as_ref().and_then(|flight| flight.ids.get(&Wanted::latest(id.clone())));
                        waiters.is_some_and(|waiters| waiters.iter().any(|(_, waiter)| !waiter.is_closed()))
                    });
                    if group.members.is_empty() {
                        self.close(batch);
                    } else {
                        self.request(batch, priority, Some(group), None);
                    }
                }
            }
        }
    }

    /// One place is out of the reach of refreshes, and one of those who ask apart (unless there is only one).
    fn may_start(&self) -> May {
        let have_room = |are: fn(&Running) -> bool| {
            self.running.values().filter(|running| are(running)).count() < Gate::all_but_one(self.slots)
        };
        May {
            refreshes: have_room(|running| running.priority == Priority::Refresh),
            apart: have_room(|running| running.is_apart),
        }
    }

    fn fly(&mut self, ids: HashMap<Wanted, Waiters>, priority: Priority, now: Instant) -> u64 {
        self.counter += 1;
        self.in_flight.extend(ids.keys().map(|wanted| (wanted.clone(), self.counter)));
        self.batches.insert(self.counter, Flight { priority, started: now, ids, open: 1, isolating: false });
        self.counter
    }

    fn request(
        &mut self,
        batch: u64,
        priority: Priority,
        group: Option<Group>,
        alone: Option<(Wanted, Party)>,
    ) {
        let single = match (&group, &alone) {
            (Some(group), _) => group.is_alone().cloned().map(Wanted::latest),
            (None, alone) => alone.as_ref().map(|(wanted, _)| wanted.clone()),
        };
        let ids = group.as_ref().map(Group::ids).unwrap_or_default();
        let members = group.iter().flat_map(Group::all).map(|member| Arc::clone(&member.party));
        let parties = members.chain(alone.map(|(_, party)| party)).chain(self.waiting.parties().cloned());
        let mut parties = Parties::of(parties);
        let now = Instant::now();
        let is_apart = group
            .as_ref()
            .is_none_or(|group| group.all().all(|member| self.waiting.is_suspect(&member.party, now)));
        // Who became a suspect while it waited among the others has their place, and no more than they may do there.
        let is_apart = is_apart && self.may_start().apart;
        // No one waits for room where others' small answers would wait behind it.
        if group.as_ref().is_some_and(|group| !is_apart || !group.is_of_one()) {
            parties = parties.in_haste();
        }
        let (source, theirs) = (Arc::clone(&self.source), parties.clone());
        let job = async move {
            match single {
                Some(wanted) => Seen::Alone(source.single(&wanted, priority, &theirs).await),
                None => Seen::Together(source.batch(&ids, priority, &theirs).await),
            }
        };
        let id = self.jobs.spawn(job).id();
        self.running.insert(id, Running { batch, priority, parties, group, is_apart });
    }

    fn start_look(&mut self, now: Instant) {
        if self.looking.is_some() {
            return;
        }
        let limits = self.limits.now(now);
        let source = Arc::clone(&self.source);
        let Some(look) = self.bad.look(limits, |id| source.weight(id), now) else { return };
        let asked = look.clone();
        let job = async move {
            // No one waits for it: it has a line of its own.
            let parties = Parties::everybody();
            match &asked {
                Look::Together(members) => {
                    let ids: Vec<_> = members.iter().map(|member| member.id.clone()).collect();
                    Seen::Together(source.batch(&ids, Priority::Refresh, &parties).await)
                }
                Look::Alone(wanted) => Seen::Alone(source.single(wanted, Priority::Refresh, &parties).await),
            }
        };
        self.looking = Some((self.jobs.spawn(job).id(), look));
    }

    /// A request ended; without an answer where its task died.
    fn ended(&mut self, id: task::Id, seen: Option<Seen>) {
        let now = Instant::now();
        if let Some((_, look)) = self.looking.take_if(|(looking, _)| *looking == id) {
            if let Some(seen) = seen {
                let found = self.bad.settle(look, seen, now);
                self.announce(&found);
            }
            return;
        }
        let Some(Running { batch, group, parties, .. }) = self.running.remove(&id) else { return };
        match (group, seen) {
            (Some(group), Some(seen)) => self.settle(batch, group, seen, parties.is_hasty(), now),
            (None, Some(Seen::Alone(answer))) => {
                let ids =
                    self.batches.get(&batch).map(|flight| flight.ids.keys().cloned().collect::<Vec<_>>());
                for wanted in ids.into_iter().flatten() {
                    self.answered(batch, &wanted, &answer, now);
                }
            }
            // What it leaves unanswered, it died of.
            _ => {}
        }
        self.close(batch);
    }

    fn settle(&mut self, batch: u64, mut group: Group, seen: Seen, hasty: bool, now: Instant) {
        if let Some(flight) = self.batches.get(&batch) {
            // Others may have joined: an id that two wait for waits for no bad id of one of them.
            for member in &mut group.members {
                let waiters = flight.ids.get(&bisect::wanted(member)).into_iter().flatten();
                let trusted =
                    waiters.map(|(party, _)| party).find(|party| !self.waiting.is_suspect(party, now));
                if let Some(party) = trusted {
                    member.party = Arc::clone(party);
                }
            }
        }
        let settled = bisect::settle(group, seen, hasty, &*self.source, &mut self.limits, now);
        for (id, answer) in settled.answers {
            self.answered(batch, &Wanted::latest(id), &answer, now);
        }
        for party in settled.suspects {
            self.waiting.suspect(&party, now + BAD_IDS_APART, now);
        }
        if let Some(error) = settled.failed {
            for group in self.waiting.take_rests(batch) {
                for member in group.all() {
                    self.answered(batch, &bisect::wanted(member), &Err(error.clone()), now);
                }
                self.close(batch);
            }
        }
        if let Some(flight) = self.batches.get_mut(&batch) {
            flight.open += settled.groups.len();
            flight.isolating |= !settled.groups.is_empty();
            let pause = if settled.pause { self.timing.broken_pause } else { Duration::ZERO };
            self.waiting.rest(batch, settled.groups, flight.priority, pause, now);
        }
    }

    fn answered(&mut self, batch: u64, wanted: &Wanted, answer: &Answer, now: Instant) {
        let waiters =
            self.batches.get_mut(&batch).and_then(|flight| flight.ids.remove(wanted)).unwrap_or_default();
        if self.in_flight.get(wanted) == Some(&batch) {
            self.in_flight.remove(wanted);
        }
        match answer {
            Ok(_) if self.bad.forget(wanted) => self.announce(std::slice::from_ref(wanted)),
            Err(error) if error.is_bad_id() => {
                if let Some((party, _)) = waiters.first() {
                    self.bad.remember(wanted.clone(), party, error.clone(), now);
                }
            }
            _ => {}
        }
        for (_, waiter) in waiters {
            waiter.send((wanted.clone(), answer.clone())).ok();
        }
    }

    /// One request less of a batch. After the last, each id has its answer, but where a task died.
    fn close(&mut self, batch: u64) {
        let Some(flight) = self.batches.get_mut(&batch) else { return };
        flight.open -= 1;
        if flight.open > 0 {
            return;
        }
        let left = self.batches.remove(&batch).map(|flight| flight.ids).unwrap_or_default();
        for (wanted, waiters) in left {
            if self.in_flight.get(&wanted) == Some(&batch) {
                self.in_flight.remove(&wanted);
            }
            let message = format!("fetching {} ended without an answer", wanted.target());
            let answer = Err(Error::Unexpected { status: None, message });
            for (_, waiter) in waiters {
                waiter.send((wanted.clone(), answer.clone())).ok();
            }
        }
    }

    fn announce(&self, found: &[Wanted]) {
        if !found.is_empty() {
            lock(&self.subscribers).retain(|subscriber| subscriber.send(found.to_vec()).is_ok());
        }
    }

    /// When there will be something to do without anybody's asking. What is due already waits for a job to end.
    fn wake(&mut self, now: Instant) -> Option<Instant> {
        let batch = self.waiting.next_due(now).filter(|_| self.running.len() < self.slots);
        let look = self.bad.next_look().filter(|_| self.looking.is_none());
        [batch, look].into_iter().flatten().filter(|at| *at > now).min()
    }
}

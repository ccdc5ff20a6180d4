//! The task that gathers what is asked for, starts jobs, and hands out their answers. It lives as long as its client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use super::bad::{BadIds, Look, LookTiming, Seen};
use super::cut::{Adaptive, BatchLimits};
use super::isolate::isolate;
use super::waiting::{Cut, Waiter, Waiting};
use super::wire::Source;
use super::{Answer, Freshness, Wanted};
use crate::conjur::Limits;
use crate::conjur::catalogue::Catalogues;
use crate::conjur::error::Error;
use crate::conjur::pace::{Gate, Lane, lock};
use crate::conjur::share;

/// The collector's clockwork.
#[derive(Debug, Clone, Copy)]
pub(in crate::conjur) struct Timing {
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
            catalogue: Catalogues::KEEP,
        }
    }
}

struct Ask {
    wanted: Vec<Wanted>,
    lane: Lane,
    freshness: Freshness,
    waiter: Waiter,
}

type Subscribers = Arc<Mutex<Vec<mpsc::UnboundedSender<Vec<Wanted>>>>>;

/// The client's end. The task starts with the first call, and ends when the client is dropped.
pub(in crate::conjur) struct Collector {
    limits: BatchLimits,
    slots: usize,
    timing: Timing,
    subscribers: Subscribers,
    asks: OnceLock<mpsc::UnboundedSender<Ask>>,
}

impl Collector {
    pub(in crate::conjur) fn new(limits: &Limits, timing: Timing) -> Self {
        Self {
            limits: BatchLimits {
                count: limits.batch_size.max(1),
                bytes: limits.batch_bytes.saturating_sub("variable_ids=".len()).max(1),
            },
            slots: limits.max_connections.max(1),
            timing,
            subscribers: Subscribers::default(),
            asks: OnceLock::new(),
        }
    }

    pub(super) fn subscribe(&self) -> mpsc::UnboundedReceiver<Vec<Wanted>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.subscribers).push(sender);
        receiver
    }

    pub(super) async fn fetch<S: Source>(
        &self,
        source: &Arc<S>,
        wanted: &[Wanted],
        lane: Lane,
        freshness: Freshness,
    ) -> HashMap<Wanted, Answer> {
        let mut answers = HashMap::with_capacity(wanted.len());
        if wanted.is_empty() {
            return answers;
        }
        let (waiter, mut receiver) = mpsc::unbounded_channel();
        let asks = self.asks.get_or_init(|| self.start(Arc::clone(source)));
        asks.send(Ask { wanted: wanted.to_vec(), lane, freshness, waiter }).ok();
        while let Some((wanted, answer)) = receiver.recv().await {
            if let Some(share) = answer.as_ref().ok().and_then(|value| value.share.as_ref()) {
                share::keep(share);
            }
            answers.insert(wanted, answer);
        }
        for wanted in wanted {
            // Only where the task was stopped from outside, as when the runtime ends.
            answers.entry(wanted.clone()).or_insert_with(|| {
                let message = format!("fetching {} was stopped", wanted.target());
                Err(Error::Unavailable { message })
            });
        }
        answers
    }

    fn start<S: Source>(&self, source: Arc<S>) -> mpsc::UnboundedSender<Ask> {
        let (sender, asks) = mpsc::unbounded_channel();
        let (reports, reported) = mpsc::unbounded_channel();
        let actor = Actor {
            source,
            timing: self.timing,
            limits: Arc::new(Mutex::new(Adaptive::new(self.limits, self.timing.lowered))),
            slots: self.slots,
            waiting: Waiting::new(self.timing.quiet, self.timing.longest),
            jobs: JoinSet::new(),
            running: HashMap::new(),
            in_flight: HashMap::new(),
            reports,
            bad: BadIds::new(self.timing.look),
            looking: None,
            subscribers: Arc::clone(&self.subscribers),
        };
        tokio::spawn(actor.run(asks, reported));
        sender
    }
}

enum Report {
    Answer(task::Id, Wanted, Answer),
    Looked(Look, Seen),
}

struct Job {
    lane: Lane,
    started: Instant,
    ids: HashMap<Wanted, Vec<Waiter>>,
}

struct Actor<S> {
    source: Arc<S>,
    timing: Timing,
    limits: Arc<Mutex<Adaptive>>,
    slots: usize,
    waiting: Waiting,
    jobs: JoinSet<()>,
    running: HashMap<task::Id, Job>,
    /// The job that asked for an id last.
    in_flight: HashMap<Wanted, task::Id>,
    reports: mpsc::UnboundedSender<Report>,
    bad: BadIds,
    looking: Option<task::Id>,
    subscribers: Subscribers,
}

impl<S: Source> Actor<S> {
    async fn run(
        mut self,
        mut asks: mpsc::UnboundedReceiver<Ask>,
        mut reported: mpsc::UnboundedReceiver<Report>,
    ) {
        loop {
            // One reading of the clock: what is due between two would be neither started nor waited for.
            let now = Instant::now();
            self.start_jobs(now);
            self.start_look(now);
            let wake = self.wake(now);
            tokio::select! {
                biased;
                Some(report) = reported.recv() => self.take(report),
                ask = asks.recv() => match ask {
                    Some(ask) => {
                        self.add(&ask);
                        // All that came meanwhile belongs into the same batches.
                        while let Ok(ask) = asks.try_recv() {
                            self.add(&ask);
                        }
                    }
                    None => return,
                },
                Some(ended) = self.jobs.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    // Its reports came first: they are in the queue before it ends.
                    while let Ok(report) = reported.try_recv() {
                        self.take(report);
                    }
                    self.ended(id);
                }
                () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    fn add(&mut self, ask: &Ask) {
        let now = Instant::now();
        for wanted in &ask.wanted {
            let waiter = ask.waiter.clone();
            if let Some(error) = self.bad.recall(wanted, ask.freshness, now) {
                waiter.send((wanted.clone(), Err(error))).ok();
            } else if let Some(waiters) = self.waiters_in_flight(wanted, ask.freshness, now) {
                waiters.push(waiter);
            } else {
                let source = &self.source;
                self.waiting.add(wanted, ask.lane, waiter, now, || source.weight(&wanted.id));
            }
        }
    }

    /// Who waits for `wanted` already, if it was sent recently enough: what was read before a person asked again
    /// is not what they ask for.
    fn waiters_in_flight(
        &mut self,
        wanted: &Wanted,
        freshness: Freshness,
        now: Instant,
    ) -> Option<&mut Vec<Waiter>> {
        let job = self.running.get_mut(self.in_flight.get(wanted)?)?;
        match freshness {
            Freshness::NoOlderThan(age) if now.saturating_duration_since(job.started) > age => None,
            Freshness::Since(at) if job.started < at => None,
            _ => job.ids.get_mut(wanted),
        }
    }

    fn start_jobs(&mut self, now: Instant) {
        while self.running.len() < self.slots {
            let limits = lock(&self.limits).now(now);
            let Some(Cut { ids, lane }) = self.waiting.cut(limits, self.refresh_may_start(), now) else {
                return;
            };
            let wanted: Vec<Wanted> = ids.iter().map(|(wanted, _)| wanted.clone()).collect();
            let job = self.job(wanted.clone(), lane);
            for wanted in wanted {
                self.in_flight.insert(wanted, job);
            }
            self.running.insert(job, Job { lane, started: now, ids: ids.into_iter().collect() });
        }
    }

    fn refresh_may_start(&self) -> bool {
        let refreshing = self.running.values().filter(|job| job.lane == Lane::Refresh).count();
        refreshing < Gate::refresh_share(self.slots)
    }

    fn job(&mut self, wanted: Vec<Wanted>, lane: Lane) -> task::Id {
        let (source, limits, reports) =
            (Arc::clone(&self.source), Arc::clone(&self.limits), self.reports.clone());
        let pause = self.timing.broken_pause;
        let job = async move {
            let id = task::id();
            let report = |wanted: Wanted, answer: Answer| {
                reports.send(Report::Answer(id, wanted, answer)).ok();
            };
            match wanted.as_slice() {
                [single] if !single.fits_a_batch() => {
                    report(single.clone(), source.single(single, lane).await);
                }
                _ => {
                    let ids = wanted.into_iter().map(|wanted| wanted.id).collect();
                    let report = |id, answer| report(Wanted::latest(id), answer);
                    isolate(&*source, &limits, ids, lane, pause, report).await;
                }
            }
        };
        self.jobs.spawn(job).id()
    }

    fn start_look(&mut self, now: Instant) {
        if self.looking.is_some() {
            return;
        }
        let limits = lock(&self.limits).now(now);
        let source = Arc::clone(&self.source);
        let Some(look) = self.bad.look(limits, |id| source.weight(id), now) else { return };
        let reports = self.reports.clone();
        let job = async move {
            let seen = match &look {
                Look::Together(ids) => Seen::Together(source.batch(ids, Lane::Refresh).await),
                Look::Alone(wanted) => Seen::Alone(source.single(wanted, Lane::Refresh).await),
            };
            reports.send(Report::Looked(look, seen)).ok();
        };
        self.looking = Some(self.jobs.spawn(job).id());
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Answer(job, wanted, answer) => self.answered(job, &wanted, &answer),
            Report::Looked(look, seen) => {
                let found = self.bad.settle(look, seen, Instant::now());
                self.announce(&found);
            }
        }
    }

    fn answered(&mut self, job: task::Id, wanted: &Wanted, answer: &Answer) {
        let waiters = self.running.get_mut(&job).and_then(|job| job.ids.remove(wanted)).unwrap_or_default();
        if self.in_flight.get(wanted) == Some(&job) {
            self.in_flight.remove(wanted);
        }
        match answer {
            Ok(_) if self.bad.forget(wanted) => self.announce(std::slice::from_ref(wanted)),
            Err(error) if error.is_bad_id() => {
                self.bad.remember(wanted.clone(), error.clone(), Instant::now());
            }
            _ => {}
        }
        for waiter in waiters {
            waiter.send((wanted.clone(), answer.clone())).ok();
        }
    }

    /// A task ended. What it left unanswered, it died of.
    fn ended(&mut self, id: task::Id) {
        if self.looking == Some(id) {
            self.looking = None;
        }
        let left = self.running.get_mut(&id).map(|job| std::mem::take(&mut job.ids)).unwrap_or_default();
        for (wanted, waiters) in left {
            if self.in_flight.get(&wanted) == Some(&id) {
                self.in_flight.remove(&wanted);
            }
            let message = format!("fetching {} ended without an answer", wanted.target());
            let answer = Err(Error::Unexpected { status: None, message });
            for waiter in waiters {
                waiter.send((wanted.clone(), answer.clone())).ok();
            }
        }
        self.running.remove(&id);
    }

    fn announce(&self, found: &[Wanted]) {
        if !found.is_empty() {
            lock(&self.subscribers).retain(|subscriber| subscriber.send(found.to_vec()).is_ok());
        }
    }

    /// When there will be something to do without anybody's asking. What is due already waits for a job to end.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let batch = self.waiting.due().filter(|_| self.running.len() < self.slots);
        let look = self.bad.next_look().filter(|_| self.looking.is_none());
        [batch, look].into_iter().flatten().filter(|at| *at > now).min()
    }
}

//! Which Event is sent next, and which is not: budgets, turns and counts. No IO, the clock passed in.
//!
//! An Event takes a share of its namespace's budget when it comes, waits for its namespace's turn, and for the process's
//! budget. One that says what another said a while ago is counted there: the API server keeps a number with it.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ObjectReference;

use crate::{
    fair::FairQueue,
    limits::{self, Bucket, Limit, Rate},
};

/// So long after the last like it an Event counts as one more of the same.
const SAME: Duration = Duration::from_secs(360);
/// So long after it was written an Event's count is not written again.
const RECOUNT: Duration = Duration::from_secs(30);
const OF_NAMESPACE: Rate = Rate { burst: limits::EVENTS_BURST, per_second: limits::EVENTS_PER_NAMESPACE };
const OF_PROCESS: Rate = Rate { burst: limits::EVENTS_PER_PROCESS, per_second: limits::EVENTS_PER_PROCESS };

/// What an Event says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Note {
    pub about: ObjectReference,
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    pub reason: &'static str,
    pub action: &'static str,
    pub text: String,
}

impl Note {
    fn namespace(&self) -> Arc<str> {
        self.about.namespace.as_deref().unwrap_or_default().into()
    }

    fn id(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let about = &self.about;
        (&about.uid, &about.kind, &about.namespace, &about.name).hash(&mut hasher);
        (self.type_, self.reason, self.action, &self.text).hash(&mut hasher);
        hasher.finish()
    }
}

/// An Event that is to be written now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DueEvent {
    pub id: u64,
    pub note: Note,
    /// How often it was said.
    pub count: u32,
    /// What it is called where it was written before.
    pub name: Option<String>,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(super) enum NextEvent {
    Write(Box<DueEvent>),
    /// Nothing before that.
    Wait(Instant),
    /// Nothing, until an Event comes.
    Rest,
}

/// All that was said once and is said again.
struct Series {
    note: Note,
    count: u32,
    /// The count as it was written last.
    written: u32,
    /// When it was said last.
    said: Instant,
    name: Option<String>,
    state: SeriesState,
}

#[derive(PartialEq, Eq)]
enum SeriesState {
    /// In the queue.
    Waiting,
    /// On its way to the API server.
    Sent,
    /// In `later`, at this time, for its count.
    Counting(Instant),
    /// Written, and not said again since.
    Told(Instant),
}

pub(super) struct EventQueue {
    series: HashMap<u64, Series>,
    waiting: FairQueue<Arc<str>, u64>,
    later: BTreeSet<(Instant, u64)>,
    namespaces: HashMap<Arc<str>, Bucket>,
    process: Bucket,
}

impl EventQueue {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            series: HashMap::new(),
            waiting: FairQueue::default(),
            later: BTreeSet::new(),
            namespaces: HashMap::new(),
            process: Bucket::new(OF_PROCESS, now),
        }
    }

    /// Takes an Event, or drops it: whether it will be told.
    pub(super) fn offer(&mut self, note: Note, now: Instant) -> bool {
        let id = note.id();
        if let Some(series) = self.series.get_mut(&id) {
            series.count = series.count.saturating_add(1);
            let fresh = now.saturating_duration_since(series.said) < SAME;
            series.said = now;
            match series.state {
                SeriesState::Told(at) if fresh => {
                    let again = now.max(at + RECOUNT);
                    series.state = SeriesState::Counting(again);
                    self.later.insert((again, id));
                    return true;
                }
                SeriesState::Told(_) => drop(self.series.remove(&id)),
                SeriesState::Waiting | SeriesState::Sent | SeriesState::Counting(_) => return true,
            }
        }
        let namespace = note.namespace();
        if !self.may(&namespace, now) {
            limits::hit(Limit::EventsPerNamespace);
            return false;
        }
        if self.waiting.len() >= limits::EVENTS_QUEUE && !self.make_room(&namespace) {
            return false;
        }
        self.tidy(now);
        let state = SeriesState::Waiting;
        self.series.insert(id, Series { note, count: 1, written: 0, said: now, name: None, state });
        self.waiting.push(namespace, id);
        true
    }

    /// What to do now; what it gives to write is to be followed by [`EventQueue::written`].
    pub(super) fn next(&mut self, now: Instant) -> NextEvent {
        while let Some((at, id)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.pop_first();
            // It may have been forgotten, and said anew.
            let counting = self.series.get(&id).filter(|series| series.state == SeriesState::Counting(at));
            let Some(namespace) = counting.map(|series| series.note.namespace()) else { continue };
            let may = self.may(&namespace, now);
            let Some(series) = self.series.get_mut(&id) else { continue };
            if may {
                series.state = SeriesState::Waiting;
                self.waiting.push(namespace, id);
            } else {
                series.state = SeriesState::Counting(now + RECOUNT);
                self.later.insert((now + RECOUNT, id));
            }
        }
        if self.waiting.is_empty() {
            return self.later.first().map_or(NextEvent::Rest, |(at, _)| NextEvent::Wait(*at));
        }
        if !self.process.take(now) {
            limits::hit(Limit::EventsPerProcess);
            return NextEvent::Wait(now + self.process.wait(now));
        }
        let Some((_, id)) = self.waiting.pop() else { return NextEvent::Rest };
        let Some(series) = self.series.get_mut(&id) else { return NextEvent::Wait(now) };
        series.state = SeriesState::Sent;
        series.written = series.count;
        let due = DueEvent { id, note: series.note.clone(), count: series.count, name: series.name.clone() };
        NextEvent::Write(Box::new(due))
    }

    /// An Event was written under this name; none: it was not taken, which is the end of it.
    pub(super) fn written(&mut self, id: u64, name: Option<String>, now: Instant) {
        let Some(series) = self.series.get_mut(&id) else { return };
        if name.is_none() {
            self.series.remove(&id);
            return;
        }
        series.name = name;
        if series.count > series.written {
            series.state = SeriesState::Counting(now + RECOUNT);
            self.later.insert((now + RECOUNT, id));
        } else {
            series.state = SeriesState::Told(now);
        }
    }

    fn may(&mut self, namespace: &Arc<str>, now: Instant) -> bool {
        let bucket = self.namespaces.entry(namespace.clone());
        bucket.or_insert_with(|| Bucket::new(OF_NAMESPACE, now)).take(now)
    }

    /// Drops the newest Event of the namespace that has most waiting, unless that is the one that wants the room.
    fn make_room(&mut self, namespace: &Arc<str>) -> bool {
        limits::hit(Limit::EventsQueue);
        let Some(longest) = self.waiting.longest().cloned() else { return true };
        if longest == *namespace {
            return false;
        }
        if let Some(id) = self.waiting.take_back(&longest) {
            self.series.remove(&id);
        }
        true
    }

    /// Forgets what can't be counted any more, and more of what was told where there is too much of it.
    fn tidy(&mut self, now: Instant) {
        if self.series.len() < limits::EVENTS_QUEUE + limits::EVENTS_KEPT {
            return;
        }
        let told = |series: &Series| matches!(series.state, SeriesState::Told(_)).then_some(series.said);
        let mut said: Vec<Instant> = self.series.values().filter_map(told).collect();
        said.sort_unstable();
        // Half of them at once, so that this is rare.
        let half = said.get(said.len() / 2).copied().unwrap_or(now);
        let keep_since = now.checked_sub(SAME).map_or(half, |same| half.max(same));
        self.series.retain(|_, series| told(series).is_none_or(|said| said > keep_since));
        if self.series.len() >= limits::EVENTS_QUEUE + limits::EVENTS_KEPT {
            self.series.retain(|_, series| matches!(series.state, SeriesState::Waiting | SeriesState::Sent));
        }
        self.series.shrink_to(limits::EVENTS_QUEUE);
        self.namespaces.retain(|_, bucket| !bucket.is_full(now));
    }
}

#[cfg(test)]
mod tests;

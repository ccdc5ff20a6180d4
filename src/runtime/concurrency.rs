//! Whose turn it is: which objects run, which wait for their turn, and which for their time. Pure: the clock is passed in.
//!
//! An object that waits is an entry here, and nothing else: a reconcile holds some 37 KB, and ten thousand that wait would
//! be 370 MB. More than fill the batches and the writes under way gain nothing by being begun. Each namespace has its turn;
//! what is new goes before what is repeated. No one is held to a number while others don't need the room: a namespace may
//! have four times of what is left free, so that there is always room for one that comes, however long what runs takes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use super::Key;
use crate::{
    api::ConnectionId,
    conjur::Lane,
    fair::{FairQueue, Lanes, may_take},
    limits::RUNNING_ON_CONNECTION,
};

/// Who waits for one another: one connection's fault holds up none of another's, and a refresh nothing that is new.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// The connection that the objects use.
    pub connection: ConnectionId,
    /// What is new, or what is repeated.
    pub lane: Lane,
}

impl Line {
    fn is_urgent(line: Option<&Self>) -> bool {
        line.is_none_or(|line| line.lane == Lane::Foreground)
    }
}

type Namespace = Arc<str>;
/// Objects by line, each with the number of its place.
type ObjectQueue = FairQueue<Option<Line>, (Arc<Key>, u64)>;

/// Where an object is.
#[derive(Debug)]
enum Phase {
    /// It has its turn at the time.
    Due(Instant),
    /// It waits for its turn; entries in the queue with another number are stale. Whether that has become urgent is looked
    /// at once more at the time, if there is one.
    Waiting { number: u64, urgent: bool, look: Option<Instant>, since: Instant },
    /// It runs, and has its turn again at the time.
    Running { line: Option<Line>, again: Option<Instant> },
}

/// How much of something is taken, and by whom.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Namespace, usize>,
}

impl Taken {
    fn has_room(&self, namespace: &Namespace, of: usize) -> bool {
        may_take(self.by.get(namespace).copied().unwrap_or_default(), of.saturating_sub(self.all))
    }

    fn take(&mut self, namespace: &Namespace) {
        self.all += 1;
        *self.by.entry(Arc::clone(namespace)).or_default() += 1;
    }

    fn give_back(&mut self, namespace: &Namespace) {
        self.all = self.all.saturating_sub(1);
        if let Some(count) = self.by.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.by.remove(namespace);
            }
        }
    }
}

/// An object that runs from now on.
#[derive(Debug)]
pub struct BegunTurn {
    /// Which.
    pub key: Arc<Key>,
    /// Whether it is new, not repeated.
    pub urgent: bool,
    /// Since when it waited.
    pub waited_since: Option<Instant>,
}

/// The objects of one kind.
#[derive(Debug)]
pub struct ObjectTurns {
    at_once: usize,
    objects: HashMap<Arc<Key>, Phase>,
    due: BTreeSet<(Instant, Arc<Key>)>,
    /// The namespaces of which something waits; one turn each.
    namespaces: Lanes<Namespace, ()>,
    /// What of them waits, by line: a line that is full holds up no other of its namespace.
    waiting: HashMap<(bool, Namespace), ObjectQueue>,
    running: Taken,
    on: HashMap<Line, Taken>,
    number: u64,
}

impl ObjectTurns {
    /// With so many running at once at most.
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once,
            objects: HashMap::new(),
            due: BTreeSet::new(),
            namespaces: Lanes::default(),
            waiting: HashMap::new(),
            running: Taken::default(),
            on: HashMap::new(),
            number: 0,
        }
    }

    /// An object is to have its turn at a time; the earliest counts. While it runs, it is after that.
    pub fn wake(&mut self, key: Key, at: Instant) {
        let key =
            self.objects.get_key_value(&key).map_or_else(|| Arc::new(key), |(known, _)| Arc::clone(known));
        match self.objects.get_mut(&key) {
            // It may have become urgent: whose turn it is is looked at anew.
            Some(Phase::Waiting { urgent: false, look, .. }) if look.is_none_or(|other| at < other) => {
                if let Some(later) = look.replace(at) {
                    self.due.remove(&(later, Arc::clone(&key)));
                }
                self.due.insert((at, key));
            }
            Some(Phase::Waiting { .. }) => {}
            Some(Phase::Running { again, .. }) => *again = Some(again.map_or(at, |other| other.min(at))),
            Some(Phase::Due(other)) if *other <= at => {}
            Some(Phase::Due(other)) => {
                self.due.remove(&(*other, Arc::clone(&key)));
                *other = at;
                self.due.insert((at, key));
            }
            None => {
                self.objects.insert(Arc::clone(&key), Phase::Due(at));
                self.due.insert((at, key));
            }
        }
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Those whose time has come are in their lines from now on. `line` says which line an object waits in.
    pub fn line_up(&mut self, now: Instant, line: impl Fn(&Key) -> Option<Line>) {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_first() else { return };
            let line = line(&key);
            let urgent = Line::is_urgent(line.as_ref());
            let since = match self.objects.get_mut(&key) {
                Some(Phase::Due(_)) => now,
                Some(Phase::Waiting { urgent: false, since, .. }) if urgent => *since,
                Some(Phase::Waiting { look, .. }) => {
                    *look = None;
                    continue;
                }
                _ => continue,
            };
            self.number += 1;
            let number = self.number;
            self.objects.insert(Arc::clone(&key), Phase::Waiting { number, urgent, look: None, since });
            let namespace = Namespace::from(key.namespace.as_str());
            let queue = self.waiting.entry((urgent, Arc::clone(&namespace))).or_default();
            if queue.is_empty() {
                self.namespaces.lane_mut(urgent).push(namespace, ());
            }
            queue.push(line, (key, number));
        }
    }

    /// The next that runs from now on; none where none waits that may.
    pub fn begin(&mut self) -> Option<BegunTurn> {
        loop {
            if self.running.all >= self.at_once {
                return None;
            }
            let mut taken = None;
            let (namespaces, waiting, objects) = (&mut self.namespaces, &mut self.waiting, &self.objects);
            let (running, on, at_once) = (&self.running, &self.on, self.at_once);
            let (urgent, namespace, ()) = namespaces.pop_if(|urgent, namespace, ()| {
                let Some(queue) = waiting.get_mut(&(urgent, Arc::clone(namespace))) else { return true };
                let free = running.has_room(namespace, at_once);
                taken = queue.pop_if(|line, (key, number)| {
                    let theirs = line.as_ref().and_then(|line| on.get(line));
                    let free = free && theirs.is_none_or(|on| on.has_room(namespace, RUNNING_ON_CONNECTION));
                    free || !is_current(objects, key, *number)
                });
                taken.is_some()
            })?;
            let queue = (urgent, Arc::clone(&namespace));
            if self.waiting.get(&queue).is_some_and(|queue| !queue.is_empty()) {
                self.namespaces.lane_mut(urgent).push(Arc::clone(&namespace), ());
            } else {
                self.waiting.remove(&queue);
            }
            let Some((line, (key, number))) = taken else { continue };
            if !is_current(&self.objects, &key, number) {
                continue;
            }
            self.running.take(&namespace);
            if let Some(line) = &line {
                self.on.entry(line.clone()).or_default().take(&namespace);
            }
            let phase = self.objects.insert(Arc::clone(&key), Phase::Running { line, again: None });
            let mut waited_since = None;
            if let Some(Phase::Waiting { look, since, .. }) = phase {
                waited_since = Some(since);
                // What it was woken for came before it runs.
                if let Some(look) = look {
                    self.due.remove(&(look, Arc::clone(&key)));
                }
            }
            return Some(BegunTurn { key, urgent, waited_since });
        }
    }

    /// An object's run has ended; it has its turn again at the time, if there is one.
    pub fn ended(&mut self, key: &Key, again: Option<Instant>) {
        let Some((key, phase)) = self.objects.remove_entry(key) else { return };
        let Phase::Running { line, again: woken } = phase else {
            self.objects.insert(key, phase);
            return;
        };
        let namespace = Namespace::from(key.namespace.as_str());
        self.running.give_back(&namespace);
        if let Some(line) = line
            && let Some(on) = self.on.get_mut(&line)
        {
            on.give_back(&namespace);
            if on.all == 0 {
                self.on.remove(&line);
            }
        }
        if let Some(at) = again.into_iter().chain(woken).min() {
            self.objects.insert(Arc::clone(&key), Phase::Due(at));
            self.due.insert((at, key));
        }
    }
}

fn is_current(objects: &HashMap<Arc<Key>, Phase>, key: &Key, number: u64) -> bool {
    matches!(objects.get(key), Some(Phase::Waiting { number: current, .. }) if *current == number)
}

#[cfg(test)]
mod tests;

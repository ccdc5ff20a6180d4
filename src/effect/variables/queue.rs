//! What waits for each branch, and when it may be sent.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    effect::branch_locks::Loader,
    limits::{VARIABLES_BYTES, VARIABLES_NODES, VARIABLES_PAUSE},
    plan::{
        Failure,
        push::{decide::ShownVariable, documents::VariablesWish},
    },
};

/// What is to be done with variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// They are made where they are missing.
    Make,
    /// Their annotations and permits are changed.
    Change,
    /// They are removed.
    Remove,
}

/// Variables, as Conjur shows them; those that are missing are not there.
pub type ShownVariables = HashMap<String, ShownVariable>;

/// What came of it: how Conjur shows the variables afterwards, where they were to be made.
pub type LoadAnswer = Result<ShownVariables, Failure>;

/// A wish that waits.
pub struct WaitingWish {
    pub statement: Statement,
    pub wish: VariablesWish,
    pub alone: bool,
    pub answer: oneshot::Sender<LoadAnswer>,
}

impl WaitingWish {
    pub fn answer(self, answer: LoadAnswer) {
        // Who gave up asks again.
        drop(self.answer.send(answer));
    }
}

/// What waits for each branch.
#[derive(Default)]
pub struct VariableLoads(Mutex<HashMap<Loader, VariableLine>>);

#[derive(Default)]
struct VariableLine {
    waiting: VecDeque<WaitingWish>,
    /// When the last load of variables was sent.
    last: Option<Instant>,
}

impl VariableLoads {
    fn lines(&self) -> MutexGuard<'_, HashMap<Loader, VariableLine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, loader: &Loader, waiting: WaitingWish) {
        self.lines().entry(loader.clone()).or_default().waiting.push_back(waiting);
    }

    /// When the next load may be sent, as far as its pace says.
    pub fn next(&self, loader: &Loader) -> Option<Instant> {
        self.lines().get(loader).and_then(|line| line.last).map(|last| last + VARIABLES_PAUSE)
    }

    /// A load is sent now. Branches whose pace asks for nothing any more are forgotten.
    pub fn sent(&self, loader: &Loader) {
        let mut lines = self.lines();
        lines.entry(loader.clone()).or_default().last = Some(Instant::now());
        lines.retain(|_, line| {
            !line.waiting.is_empty() || line.last.is_some_and(|last| last.elapsed() < VARIABLES_PAUSE)
        });
    }

    /// What goes into one load: of the oldest that waits all others that ask for the same, as much as one document holds.
    pub fn take(&self, loader: &Loader) -> Vec<WaitingWish> {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(loader) else { return Vec::new() };
        line.waiting.retain(|waiting| !waiting.answer.is_closed());
        let Some(first) = line.waiting.pop_front() else { return Vec::new() };
        let (statement, alone) = (first.statement, first.alone);
        let (mut nodes, mut bytes) = (first.wish.nodes(), first.wish.bytes());
        let mut batch = vec![first];
        if alone {
            return batch;
        }
        let mut left = VecDeque::new();
        for waiting in line.waiting.drain(..) {
            let more = (waiting.wish.nodes(), waiting.wish.bytes());
            let fits = nodes + more.0 <= VARIABLES_NODES && bytes + more.1 <= VARIABLES_BYTES;
            if waiting.statement == statement && !waiting.alone && fits {
                (nodes, bytes) = (nodes + more.0, bytes + more.1);
                batch.push(waiting);
            } else {
                left.push_back(waiting);
            }
        }
        line.waiting = left;
        batch
    }
}

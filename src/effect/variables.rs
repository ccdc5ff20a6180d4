//! Variables are made, changed and removed in a branch: what all objects want there at once goes into one load, at most one a
//! second. Nothing is announced before it: sent again, the same statements change nothing, and a variable that was made and
//! whose load's answer is lost carries its owner's annotation and holds no value.
//!
//! There is no task for a branch: whoever wants something waits for its answer and for the branch's turn, and who gets the
//! turn first loads for all that wait by then.

mod batch;
mod look;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::oneshot;

use super::branch_locks::Loader;
use crate::{
    conjur::PolicyBranch,
    controllers::{Context, connection::pool::ReadyConnection},
    limits::{VARIABLES_BYTES, VARIABLES_NODES, VARIABLES_PAUSE},
    plan::{
        Failure,
        push::{decide::ShownVariable, documents::VariablesWish},
    },
};

pub use self::look::{each, shown, shown_in};

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

/// Whether variables may be made and changed in a branch now.
///
/// # Errors
/// Why not.
pub type MayLoad = fn(&Loader, Statement, &Context) -> Result<(), Failure>;

/// What an object asks for.
pub struct VariablesAsked<'a> {
    /// Through which connection.
    pub through: &'a ReadyConnection,
    /// Where.
    pub branch: &'a PolicyBranch,
    /// The same, as the operator loads it.
    pub loader: &'a Loader,
    /// Whose turn it takes.
    pub namespace: &'a str,
    /// What is to be done.
    pub statement: Statement,
    /// With which variables.
    pub wish: VariablesWish,
    /// It is to be loaded with nothing of others: it was refused before.
    pub alone: bool,
    /// Asked before each load.
    pub may: MayLoad,
}

/// Variables, as Conjur shows them; those that are missing are not there.
pub type ShownVariables = HashMap<String, ShownVariable>;

/// What came of it: how Conjur shows the variables afterwards, where they were to be made.
type LoadAnswer = Result<ShownVariables, Failure>;

/// A wish that waits.
struct Waiting {
    statement: Statement,
    wish: VariablesWish,
    alone: bool,
    answer: oneshot::Sender<LoadAnswer>,
}

impl Waiting {
    fn answer(self, answer: LoadAnswer) {
        // Who gave up asks again.
        drop(self.answer.send(answer));
    }
}

/// What waits for each branch.
#[derive(Default)]
pub struct VariableLoads(Mutex<HashMap<Loader, Line>>);

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// When the last load of variables was sent.
    last: Option<Instant>,
}

impl VariableLoads {
    fn lines(&self) -> MutexGuard<'_, HashMap<Loader, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, loader: &Loader, waiting: Waiting) {
        self.lines().entry(loader.clone()).or_default().waiting.push_back(waiting);
    }

    /// When the next load may be sent, as far as its pace says.
    fn next(&self, loader: &Loader) -> Option<Instant> {
        self.lines().get(loader).and_then(|line| line.last).map(|last| last + VARIABLES_PAUSE)
    }

    /// A load is sent now. Branches whose pace asks for nothing any more are forgotten.
    fn sent(&self, loader: &Loader) {
        let mut lines = self.lines();
        lines.entry(loader.clone()).or_default().last = Some(Instant::now());
        lines.retain(|_, line| {
            !line.waiting.is_empty() || line.last.is_some_and(|last| last.elapsed() < VARIABLES_PAUSE)
        });
    }

    /// What goes into one load: of the oldest that waits all others that ask for the same, as much as one document holds.
    fn take(&self, loader: &Loader) -> Vec<Waiting> {
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

/// Has variables made, changed or removed, with what others want in the branch. How Conjur shows them then, where they were to
/// be made: one that another made meanwhile is not this object's.
///
/// # Errors
/// `PolicyInvalid`, `PolicyForbidden`, `BranchNotFound`, `LoadInProgress`; what `may` says; the connection's.
pub async fn load(asked: VariablesAsked<'_>, ctx: &Context) -> LoadAnswer {
    let VariablesAsked { through, branch, loader, namespace, statement, wish, alone, may } = asked;
    let (answer, mut answered) = oneshot::channel();
    ctx.variable_loads.push(loader, Waiting { statement, wish, alone, answer });
    loop {
        let turn = tokio::select! {
            biased;
            // Who was to answer was cut off: it is asked for again, which changes nothing where it was done.
            answer = &mut answered => return answer.unwrap_or_else(|_| Err(cut_off())),
            turn = ctx.branches.turns.take(loader, namespace) => turn,
        };
        if let Ok(answer) = answered.try_recv() {
            return answer;
        }
        if let Some(next) = ctx.variable_loads.next(loader) {
            tokio::time::sleep_until(next.into()).await;
        }
        let batch = ctx.variable_loads.take(loader);
        batch::Batch { through, branch, loader, may, ctx }.run(batch).await;
        drop(turn);
    }
}

fn cut_off() -> Failure {
    Failure::transient(
        crate::api::Reason::LoadInProgress,
        "the load that was to make the variables was cut off; it is tried again",
    )
}

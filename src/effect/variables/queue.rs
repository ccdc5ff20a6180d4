//! What waits for each branch, and when it may be sent.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{
    effect::branch_locks::Loader,
    limits::{REFUSED_AGAIN, VARIABLES_BYTES, VARIABLES_NODES, VARIABLES_PAUSE},
    plan::{
        Failure,
        push::{decide::ShownVariable, documents::VariablesWish},
    },
};

/// What is to be done with variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// What came of it: how Conjur shows variables that were to be made afterwards; of others those that are not touched, for they
/// are no more whose they were.
pub type LoadAnswer = Result<ShownVariables, Failure>;

/// A wish that waits.
pub struct WaitingWish {
    pub namespace: String,
    pub statement: Statement,
    pub wish: VariablesWish,
    pub company: Company,
    pub answer: oneshot::Sender<LoadAnswer>,
}

/// With which others a wish may go into a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// With all that were not refused.
    All,
    /// With these, of which one was refused; which one is found out.
    Bundle(u64),
    /// With none: it was refused.
    Alone,
}

impl WaitingWish {
    pub fn answer(self, answer: LoadAnswer) {
        // Who gave up asks again.
        drop(self.answer.send(answer));
    }
}

/// What waits for each branch.
#[derive(Default)]
pub struct VariableLoads {
    lines: Mutex<HashMap<Loader, VariableLine>>,
    /// The number of the next bundle.
    bundles: AtomicU64,
}

#[derive(Default)]
struct VariableLine {
    waiting: VecDeque<WaitingWish>,
    /// Namespaces of which a wish was refused, until when: theirs go with no others.
    refused: HashMap<String, Instant>,
    /// When the last load of variables was sent.
    last: Option<Instant>,
}

impl VariableLoads {
    fn lines(&self) -> MutexGuard<'_, HashMap<Loader, VariableLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits again, before all others: one of these was refused, and their next turn is to show which.
    pub fn push_back(&self, loader: &Loader, mut bundle: Vec<WaitingWish>) {
        let is_one = bundle.len() == 1;
        let number = self.bundles.fetch_add(1, Ordering::Relaxed);
        let mut lines = self.lines();
        let line = lines.entry(loader.clone()).or_default();
        while let Some(waiting) = bundle.pop() {
            let company = if is_one { Company::Alone } else { Company::Bundle(number) };
            line.waiting.push_front(WaitingWish { company, ..waiting });
        }
    }

    pub fn push(&self, loader: &Loader, waiting: WaitingWish) {
        self.lines().entry(loader.clone()).or_default().waiting.push_back(waiting);
    }

    /// How many wishes wait.
    pub fn waiting(&self, loader: &Loader) -> usize {
        self.lines().get(loader).map_or(0, |line| line.waiting.len())
    }

    /// When the next load may be sent, as far as its pace says.
    pub fn next(&self, loader: &Loader) -> Option<Instant> {
        self.lines().get(loader).and_then(|line| line.last).map(|last| last + VARIABLES_PAUSE)
    }

    /// A load is sent now. What no one waits for any more is forgotten, and branches whose pace asks for nothing.
    pub fn sent(&self, loader: &Loader) {
        let (mut lines, now) = (self.lines(), Instant::now());
        lines.entry(loader.clone()).or_default().last = Some(now);
        lines.retain(|_, line| {
            line.waiting.retain(|waiting| !waiting.answer.is_closed());
            line.refused.retain(|_, until| *until > now);
            let is_paced = line.last.is_some_and(|last| last + VARIABLES_PAUSE > now);
            is_paced || !line.waiting.is_empty() || !line.refused.is_empty()
        });
    }

    /// A wish of a namespace was refused: what that asks for is loaded with no other's for a while.
    pub fn refused(&self, loader: &Loader, namespace: &str) {
        let mut lines = self.lines();
        let line = lines.entry(loader.clone()).or_default();
        line.refused.insert(namespace.to_owned(), Instant::now() + REFUSED_AGAIN);
    }

    /// What goes into one load: the oldest wish of the namespace whose turn it is, and all others that ask for the same, as much
    /// as one document holds. Those of one namespace lie together, the turn's first.
    pub fn take(&self, loader: &Loader, namespace: &str) -> Vec<WaitingWish> {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(loader) else { return Vec::new() };
        line.waiting.retain(|waiting| !waiting.answer.is_closed());
        let first = line.waiting.iter().position(|waiting| waiting.namespace == namespace).unwrap_or(0);
        let Some(first) = line.waiting.remove(first) else { return Vec::new() };
        let (statement, company) = (first.statement, first.company);
        let (mut nodes, mut bytes) = (first.wish.nodes(), first.wish.bytes());
        let now = Instant::now();
        let is_refused = |namespace: &str| line.refused.get(namespace).is_some_and(|until| *until > now);
        let is_among_refused = is_refused(&first.namespace);
        let with = first.namespace.clone();
        let goes_along = |waiting: &WaitingWish| {
            waiting.statement == statement
                && waiting.company == company
                && (waiting.namespace == with || !is_among_refused && !is_refused(&waiting.namespace))
        };
        let mut batch = vec![first];
        if company == Company::Alone {
            return batch;
        }
        let mut left = VecDeque::new();
        for waiting in std::mem::take(&mut line.waiting) {
            let more = (waiting.wish.nodes(), waiting.wish.bytes());
            let fits = nodes + more.0 <= VARIABLES_NODES && bytes + more.1 <= VARIABLES_BYTES;
            if goes_along(&waiting) && fits {
                (nodes, bytes) = (nodes + more.0, bytes + more.1);
                batch.push(waiting);
            } else {
                left.push_back(waiting);
            }
        }
        line.waiting = left;
        let is_other = |waiting: &WaitingWish| waiting.namespace != namespace;
        batch.sort_by(|a, b| (is_other(a), &a.namespace).cmp(&(is_other(b), &b.namespace)));
        batch
    }
}

/// Parts a load that was refused: between two namespaces, as near to its middle as can be; of one namespace in the middle.
pub fn part(mut batch: Vec<WaitingWish>) -> (Vec<WaitingWish>, Vec<WaitingWish>) {
    let middle = batch.len() / 2;
    let borders = (1..batch.len()).filter(|at| batch[at - 1].namespace != batch[*at].namespace);
    let at = borders.min_by_key(|at| at.abs_diff(middle)).unwrap_or(middle);
    let second = batch.split_off(at);
    (batch, second)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::plan::{policy::branch_claims::BranchPlace, record_owner::RecordOwner};

    type Answers = Vec<oneshot::Receiver<LoadAnswer>>;

    fn loader() -> Loader {
        Loader { place: BranchPlace::new("https://c", "a", "b"), identity: "host/x".into() }
    }

    fn waits(loads: &VariableLoads, namespace: &str, id: &str, answers: &mut Answers) {
        let owner = RecordOwner {
            cluster: "c".into(),
            namespace: namespace.into(),
            kind: "ConjurPush".into(),
            name: "p".into(),
        };
        let wish = VariablesWish {
            owner,
            owners: BTreeMap::new(),
            ids: vec![id.into()],
            annotations: BTreeMap::new(),
            permit: vec![],
            deny: vec![],
            adopted: BTreeSet::new(),
            bare: BTreeSet::new(),
        };
        let (answer, answered) = oneshot::channel();
        answers.push(answered);
        let company = Company::All;
        let namespace = namespace.to_owned();
        let waiting = WaitingWish { namespace, statement: Statement::Make, wish, company, answer };
        loads.push(&loader(), waiting);
    }

    fn ids(batch: &[WaitingWish]) -> Vec<&str> {
        batch.iter().map(|waiting| waiting.wish.ids[0].as_str()).collect()
    }

    #[test]
    fn a_turn_begins_with_its_namespace_and_takes_all_others_along() {
        let (loads, mut answers) = (VariableLoads::default(), Vec::new());
        for (namespace, id) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1"), ("b", "b2")] {
            waits(&loads, namespace, id, &mut answers);
        }
        assert_eq!(ids(&loads.take(&loader(), "b")), ["b1", "b2", "a1", "a2", "c1"]);
        assert!(loads.take(&loader(), "b").is_empty());
    }

    #[test]
    fn a_refused_load_is_parted_between_namespaces_and_then_waits_for_the_turns_of_one() {
        let (loads, mut answers) = (VariableLoads::default(), Vec::new());
        for (namespace, id) in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")] {
            waits(&loads, namespace, id, &mut answers);
        }
        let (bad, good) = part(loads.take(&loader(), "a"));
        assert_eq!((ids(&bad), ids(&good)), (vec!["a1", "a2", "a3"], vec!["b1"]));
        let (first, second) = part(bad);
        loads.push_back(&loader(), second);
        loads.push_back(&loader(), first);
        waits(&loads, "b", "b2", &mut answers);
        assert_eq!(ids(&loads.take(&loader(), "b")), ["b2"], "what was refused goes with no other");
        assert_eq!(ids(&loads.take(&loader(), "a")), ["a1"]);
        assert_eq!(ids(&loads.take(&loader(), "a")), ["a2", "a3"]);
        // Who gave up asks again.
        waits(&loads, "a", "a4", &mut answers);
        answers.clear();
        assert!(loads.take(&loader(), "a").is_empty());
    }

    #[test]
    fn who_was_refused_goes_with_no_others_for_a_while() {
        let (loads, mut answers) = (VariableLoads::default(), Vec::new());
        loads.refused(&loader(), "a");
        for (namespace, id) in [("b", "b1"), ("a", "a1"), ("c", "c1"), ("a", "a2")] {
            waits(&loads, namespace, id, &mut answers);
        }
        assert_eq!(ids(&loads.take(&loader(), "c")), ["c1", "b1"]);
        assert_eq!(ids(&loads.take(&loader(), "c")), ["a1", "a2"]);
        waits(&loads, "a", "a3", &mut answers);
        answers.clear();
        loads.sent(&loader());
        assert_eq!(loads.waiting(&loader()), 0, "no one waits for it any more");
    }
}

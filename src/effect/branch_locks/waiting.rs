//! Which refused documents wait for what others load, and whom a load is good news for.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    limits::{LOADS_REMEMBERED, RECORDS_REMEMBERED},
    plan::policy::refusal::{Mark, Wants},
    runtime::Key,
};

/// Who waits, and the loads that those who look right now may have missed.
#[derive(Default)]
pub struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    /// How many loads succeeded, of all servers.
    loads: u64,
    /// The newest of them, the oldest first.
    recent: VecDeque<Recent>,
    /// How many records they made.
    records: usize,
    waiting: HashMap<Key, (String, Wants)>,
    marks: HashMap<Key, Mark>,
    hashes: RandomState,
}

struct Recent {
    at: u64,
    server: String,
    /// Hashes of the full ids of what it made.
    made: HashSet<u64>,
    gives: bool,
}

/// What a load made.
pub struct Made<'a> {
    /// The server (its hash).
    pub server: &'a str,
    /// Full ids of the records that it made, or that were there before.
    pub records: Vec<&'a str>,
    /// Whether it permitted or granted something to someone.
    pub gives: bool,
}

impl Recent {
    fn mark(&self, hashes: &RandomState, wants: &Wants) -> Option<Mark> {
        wants.mark(|id| self.made.contains(&hashes.hash_one(id)), self.gives)
    }
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many loads have succeeded.
    pub fn loads(&self) -> u64 {
        self.state().loads
    }

    /// A policy waits, and last looked when so many loads had succeeded. Says whether it is to look again, for one
    /// meanwhile may have made what it wants.
    pub fn wait(&self, policy: Key, server: &str, looked: u64, wants: Wants) -> bool {
        let mut state = self.state();
        let oldest = state.recent.front().map_or(state.loads, |load| load.at);
        // What was forgotten since may have made it: a look tells.
        let forgotten = (looked < oldest).then_some(Mark::Look);
        let since = state.recent.iter().filter(|load| load.at >= looked && load.server == server);
        let mark = since.filter_map(|load| load.mark(&state.hashes, &wants)).max().max(forgotten);
        match mark {
            Some(mark) => _ = state.marks.insert(policy.clone(), mark),
            None => _ = state.marks.remove(&policy),
        }
        state.waiting.insert(policy, (server.to_owned(), wants));
        mark.is_some()
    }

    /// The same for one that was refused before this process was started, if it is not known to wait.
    pub fn wait_on(&self, policy: &Key, server: &str, wants: Wants) {
        if !self.state().waiting.contains_key(policy) {
            self.wait(policy.clone(), server, 0, wants);
        }
    }

    /// A load succeeded: who is to look again.
    pub fn loaded(&self, load: &Made) -> Vec<Key> {
        let mut state = self.state();
        let made: HashSet<u64> = load.records.iter().map(|id| state.hashes.hash_one(id)).collect();
        let recent = Recent { at: state.loads, server: load.server.to_owned(), made, gives: load.gives };
        state.loads += 1;
        let State { waiting, marks, hashes, .. } = &mut *state;
        let mut wakes = Vec::new();
        for (key, (_, wants)) in waiting.iter().filter(|(_, (server, _))| *server == recent.server) {
            let before = marks.get(key).copied();
            let Some(mark) = recent.mark(hashes, wants).filter(|mark| before < Some(*mark)) else { continue };
            marks.insert(key.clone(), mark);
            wakes.push(key.clone());
        }
        state.records += recent.made.len();
        state.recent.push_back(recent);
        while state.records > RECORDS_REMEMBERED || state.recent.len() > LOADS_REMEMBERED {
            let Some(oldest) = state.recent.pop_front() else { break };
            state.records -= oldest.made.len();
        }
        wakes
    }

    /// What others' loads mean for a policy since it was last refused, or looked.
    pub fn mark(&self, policy: &Key) -> Option<Mark> {
        self.state().marks.get(policy).copied()
    }

    /// It looked, and is still refused.
    pub fn looked(&self, policy: &Key) {
        self.state().marks.remove(policy);
    }

    /// A policy is gone, or waits no more.
    pub fn forget(&self, policy: &Key) {
        let mut state = self.state();
        state.waiting.remove(policy);
        state.marks.remove(policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "n".into(), name: name.into() }
    }

    fn record(id: &str) -> Wants {
        Wants::Record(format!("demo:group:{id}"))
    }

    fn load(waiting: &Waiting, server: &str, made: &[&str]) -> Vec<Key> {
        let made: Vec<String> = made.iter().map(|id| format!("demo:group:{id}")).collect();
        let records = made.iter().map(String::as_str).collect();
        let mut woken = waiting.loaded(&Made { server, records, gives: false });
        woken.sort();
        woken
    }

    #[test]
    fn who_failed_before_or_during_the_load_that_made_it_looks_again() {
        let waiting = Waiting::default();
        let looked = waiting.loads();
        assert!(!waiting.wait(key("before"), "s", looked, record("a")));
        assert!(!waiting.wait(key("elsewhere"), "other", looked, record("a")));
        assert_eq!(load(&waiting, "s", &["b"]), []);
        assert_eq!(load(&waiting, "s", &["a"]), [key("before")]);
        assert_eq!(waiting.mark(&key("before")), Some(Mark::Send));
        assert_eq!(load(&waiting, "s", &["a"]), [], "it is woken once");
        assert!(waiting.wait(key("during"), "s", looked, record("a")), "its failure came after that load");
        assert_eq!(waiting.mark(&key("during")), Some(Mark::Send));
        let looked = waiting.loads();
        assert!(!waiting.wait(key("after"), "s", looked, record("a")), "it was refused after that load");
        assert!(!waiting.wait(key("before"), "s", looked, record("c")));
        assert_eq!(waiting.mark(&key("before")), None);
        waiting.forget(&key("elsewhere"));
        assert_eq!(load(&waiting, "other", &["a"]), []);
    }

    #[test]
    fn many_refused_documents_and_many_loads_do_not_multiply() {
        let waiting = Waiting::default();
        for n in 0..30 {
            assert!(!waiting.wait(key(&format!("p{n}")), "s", 0, record(&format!("missing-{n}"))));
        }
        let woken: Vec<Key> = (0..30).flat_map(|n| load(&waiting, "s", &[&format!("made-{n}")])).collect();
        assert_eq!(woken, []);
        assert_eq!(load(&waiting, "s", &["missing-7"]), [key("p7")]);
    }

    #[test]
    fn what_is_remembered_of_loads_is_bounded_and_what_is_forgotten_is_looked_at() {
        let waiting = Waiting::default();
        let ids: Vec<String> = (0..RECORDS_REMEMBERED / 2).map(|n| format!("i{n}")).collect();
        for _ in 0..4 {
            load(&waiting, "s", &ids.iter().map(String::as_str).collect::<Vec<_>>());
        }
        assert!(waiting.state().records <= RECORDS_REMEMBERED);
        assert!(waiting.wait(key("slow"), "s", 0, record("other")));
        assert_eq!(waiting.mark(&key("slow")), Some(Mark::Look));
        (0..2 * LOADS_REMEMBERED).for_each(|_| drop(load(&waiting, "s", &[])));
        assert_eq!(waiting.state().recent.len(), LOADS_REMEMBERED);
    }
}

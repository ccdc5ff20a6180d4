//! Which objects push to which variable: of several the oldest has it. An index by server and variable, so that whoever asks looks
//! at those who have the same, however many others there are. Between two runs an object claims what its status says that it has,
//! and during one also what it is about to fill: one that can't push a variable keeps no one out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{BuildHasher, Hash, RandomState},
};

/// How old an object is: the one that was made first, of several of one second the one with the smaller uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its uid.
    pub uid: String,
}

/// See the module. `K` names an object.
pub struct PushClaims<K> {
    /// Keyed, so that no one can choose ids that meet.
    hasher: RandomState,
    of: HashMap<K, Claimed>,
    by_variable: HashMap<u64, HashSet<K>>,
    /// Who waits for a variable of another.
    waiting: HashMap<K, BTreeSet<u64>>,
    /// The same, by variable.
    awaited: HashMap<u64, HashSet<K>>,
}

/// A variable that an object claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedVariable<'i> {
    /// Its id.
    pub id: &'i str,
    /// The object has it, or is about to fill it: it keeps younger objects out. One that is merely about to be made keeps no one
    /// out, for whose it is then its annotation tells.
    pub firm: bool,
}

#[derive(Default)]
struct Claimed {
    age: Age,
    /// Whether each is firm.
    variables: BTreeMap<u64, bool>,
}

impl<K> Default for PushClaims<K> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            of: HashMap::new(),
            by_variable: HashMap::new(),
            waiting: HashMap::new(),
            awaited: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> PushClaims<K> {
    fn hash(&self, server: &str, id: &str) -> u64 {
        self.hasher.hash_one((server, id))
    }

    /// From now on an object claims these variables of a server, and no others. Gives those for whom that changes something: who
    /// waited for one that it gave up, and the younger ones that claim one of those that are new to it.
    pub fn set(&mut self, key: &K, age: Age, server: &str, claimed: &[ClaimedVariable<'_>]) -> Vec<K> {
        let mut variables = BTreeMap::new();
        for variable in claimed {
            *variables.entry(self.hash(server, variable.id)).or_default() |= variable.firm;
        }
        let before = self.of.remove(key).unwrap_or_default().variables;
        let is_firm = |all: &BTreeMap<u64, bool>, id: &u64| all.get(id) == Some(&true);
        let given_up = before.keys().filter(|id| is_firm(&before, id) && !is_firm(&variables, id));
        let waiting = given_up.filter_map(|id| self.awaited.get(id)).flatten();
        let mut told: Vec<K> = waiting.cloned().collect();
        for id in before.keys().filter(|id| !variables.contains_key(id)) {
            take_out(&mut self.by_variable, *id, key);
        }
        for id in variables.keys().filter(|id| is_firm(&variables, id) && !is_firm(&before, id)) {
            let all = self.by_variable.get(id).into_iter().flatten();
            let younger = all.filter(|other| self.of.get(*other).is_some_and(|other| age < other.age));
            told.extend(younger.cloned());
        }
        for id in variables.keys().filter(|id| !before.contains_key(id)) {
            self.by_variable.entry(*id).or_default().insert(key.clone());
        }
        // Also one that claims nothing is known.
        self.of.insert(key.clone(), Claimed { age, variables });
        told.retain(|other| other != key);
        told.sort();
        told.dedup();
        told
    }

    /// An object is gone. Gives those who waited for one of its variables.
    pub fn forget(&mut self, key: &K) -> Vec<K> {
        self.wait(key, "", &[]);
        let told = self.set(key, Age::default(), "", &[]);
        self.of.remove(key);
        told
    }

    /// Whether it was said before what an object claims.
    pub fn has(&self, key: &K) -> bool {
        self.of.contains_key(key)
    }

    /// Whether an object claims a variable, firmly or not.
    pub fn claims(&self, key: &K, server: &str, id: &str) -> bool {
        self.of.get(key).is_some_and(|claimed| claimed.variables.contains_key(&self.hash(server, id)))
    }

    /// The objects that claim a variable firmly and are older than this, the oldest first.
    pub fn older(&self, key: &K, age: &Age, server: &str, id: &str) -> Vec<K> {
        let hash = self.hash(server, id);
        let all = self.by_variable.get(&hash).into_iter().flatten();
        let others = all.filter(|other| *other != key);
        let mut older: Vec<(&Age, &K)> = others
            .filter_map(|other| Some((self.of.get(other)?, other)))
            .filter(|(of, _)| of.age < *age && of.variables.get(&hash) == Some(&true))
            .map(|(of, other)| (&of.age, other))
            .collect();
        older.sort();
        older.into_iter().map(|(_, other)| other.clone()).collect()
    }

    /// From now on an object waits for these variables of others, and for no more.
    pub fn wait(&mut self, key: &K, server: &str, ids: &[&str]) {
        let ids: BTreeSet<u64> = ids.iter().map(|id| self.hash(server, id)).collect();
        for id in self.waiting.remove(key).unwrap_or_default() {
            take_out(&mut self.awaited, id, key);
        }
        for id in &ids {
            self.awaited.entry(*id).or_default().insert(key.clone());
        }
        if !ids.is_empty() {
            self.waiting.insert(key.clone(), ids);
        }
    }
}

fn take_out<K: Eq + Hash>(all: &mut HashMap<u64, HashSet<K>>, id: u64, key: &K) {
    if let Some(of_id) = all.get_mut(&id) {
        of_id.remove(key);
        if of_id.is_empty() {
            all.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(created: i64) -> Age {
        Age { created, uid: format!("u{created}") }
    }

    fn firm<'i>(all: &[&'i str]) -> Vec<ClaimedVariable<'i>> {
        all.iter().map(|id| ClaimedVariable { id, firm: true }).collect()
    }

    fn loose<'i>(all: &[&'i str]) -> Vec<ClaimedVariable<'i>> {
        all.iter().map(|id| ClaimedVariable { id, firm: false }).collect()
    }

    #[test]
    fn of_several_the_oldest_has_a_variable() {
        let mut claims = PushClaims::default();
        for (name, created) in [("b", 2), ("a", 1), ("c", 3)] {
            claims.set(&name, age(created), "s", &firm(&["v"]));
        }
        let older = |name: &'static str, created| claims.older(&name, &age(created), "s", "v");
        assert_eq!(older("a", 1), [""; 0]);
        assert_eq!(older("b", 2), ["a"]);
        assert_eq!(older("c", 3), ["a", "b"]);
        assert_eq!(claims.older(&"c", &age(3), "s", "other"), [""; 0]);
        assert_eq!(claims.older(&"c", &age(3), "another", "v"), [""; 0], "that is another variable");
        let same_second = Age { created: 1, uid: "a".into() };
        assert_eq!(claims.older(&"d", &same_second, "s", "v"), [""; 0], "the smaller uid is the older");
    }

    #[test]
    fn what_is_about_to_be_made_keeps_no_one_out_and_is_claimed_all_the_same() {
        let mut claims = PushClaims::default();
        claims.set(&"old", age(1), "s", &loose(&["v"]));
        assert_eq!(claims.older(&"young", &age(2), "s", "v"), [""; 0]);
        assert!(claims.claims(&"old", "s", "v") && !claims.claims(&"old", "t", "v"));
        claims.set(&"young", age(2), "s", &firm(&["v"]));
        claims.wait(&"young", "s", &["v"]);
        assert_eq!(claims.set(&"old", age(1), "s", &firm(&["v"])), ["young"]);
        assert_eq!(claims.older(&"young", &age(2), "s", "v"), ["old"]);
        assert_eq!(claims.set(&"old", age(1), "s", &loose(&["v"])), ["young"], "it was given up");
        assert_eq!(claims.set(&"old", age(1), "s", &loose(&[])), [""; 0]);
    }

    #[test]
    fn a_younger_object_is_told_that_an_older_one_claims_its_variable() {
        let mut claims = PushClaims::default();
        claims.set(&"young", age(2), "s", &firm(&["v", "w"]));
        assert_eq!(claims.set(&"old", age(1), "s", &firm(&["v", "w"])), ["young"]);
        assert_eq!(claims.set(&"old", age(1), "s", &firm(&["v", "w"])), [""; 0], "that is no news");
        assert_eq!(claims.set(&"youngest", age(3), "s", &firm(&["v"])), [""; 0]);
    }

    #[test]
    fn who_waits_is_told_when_a_variable_is_given_up_and_nothing_is_left_behind() {
        let mut claims = PushClaims::default();
        claims.set(&"a", age(1), "s", &firm(&["v", "w"]));
        claims.wait(&"b", "s", &["v"]);
        assert_eq!(claims.set(&"a", age(1), "s", &firm(&["v"])), [""; 0]);
        assert_eq!(claims.set(&"a", age(1), "s", &firm(&["w"])), ["b"]);
        claims.wait(&"b", "s", &["w"]);
        assert_eq!(claims.forget(&"a"), ["b"]);
        claims.forget(&"b");
        assert!(claims.of.is_empty() && claims.by_variable.is_empty());
        assert!(claims.waiting.is_empty() && claims.awaited.is_empty());
    }
}

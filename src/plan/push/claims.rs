//! Which objects push to which variable: of several the oldest has it. An index by variable, so that whoever asks looks at
//! those who name the same, however many others there are.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
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

#[derive(Default)]
struct Claimed {
    age: Age,
    variables: BTreeSet<u64>,
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
    /// From now on an object claims these variables, and no others. Gives those for whom that changes something: who waited for
    /// one that it gave up, and the younger ones that claim one of those that are new to it.
    pub fn set<'i>(&mut self, key: &K, age: Age, ids: impl Iterator<Item = &'i str>) -> Vec<K> {
        let variables: BTreeSet<u64> = ids.map(|id| self.hasher.hash_one(id)).collect();
        let before = self.of.remove(key).unwrap_or_default().variables;
        let gone: Vec<u64> = before.difference(&variables).copied().collect();
        for id in &gone {
            take_out(&mut self.by_variable, *id, key);
        }
        let mut told: Vec<K> = gone.iter().filter_map(|id| self.awaited.get(id)).flatten().cloned().collect();
        for id in variables.difference(&before) {
            let all = self.by_variable.entry(*id).or_default();
            let younger = |other: &&K| self.of.get(*other).is_some_and(|other| age < other.age);
            told.extend(all.iter().filter(younger).cloned());
            all.insert(key.clone());
        }
        if !variables.is_empty() {
            self.of.insert(key.clone(), Claimed { age, variables });
        }
        told.sort();
        told.dedup();
        told
    }

    /// An object is gone. Gives those who waited for one of its variables.
    pub fn forget(&mut self, key: &K) -> Vec<K> {
        self.wait(key, std::iter::empty());
        self.set(key, Age::default(), std::iter::empty())
    }

    /// Whether an object claims anything.
    pub fn has(&self, key: &K) -> bool {
        self.of.contains_key(key)
    }

    /// Whether an object claims a variable.
    pub fn claims(&self, key: &K, id: &str) -> bool {
        self.of.get(key).is_some_and(|claimed| claimed.variables.contains(&self.hasher.hash_one(id)))
    }

    /// The objects that claim a variable and are older than this, the oldest first.
    pub fn older(&self, key: &K, age: &Age, id: &str) -> Vec<K> {
        let all = self.by_variable.get(&self.hasher.hash_one(id)).into_iter().flatten();
        let others = all.filter(|other| *other != key);
        let mut older: Vec<(&Age, &K)> = others
            .filter_map(|other| Some((&self.of.get(other)?.age, other)))
            .filter(|(a, _)| *a < age)
            .collect();
        older.sort();
        older.into_iter().map(|(_, other)| other.clone()).collect()
    }

    /// From now on an object waits for these variables of others, and for no more.
    pub fn wait<'i>(&mut self, key: &K, ids: impl Iterator<Item = &'i str>) {
        let ids: BTreeSet<u64> = ids.map(|id| self.hasher.hash_one(id)).collect();
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

    fn ids<'i>(all: &'i [&'i str]) -> impl Iterator<Item = &'i str> {
        all.iter().copied()
    }

    #[test]
    fn of_several_the_oldest_has_a_variable() {
        let mut claims = PushClaims::default();
        for (name, created) in [("b", 2), ("a", 1), ("c", 3)] {
            claims.set(&name, age(created), ids(&["v"]));
        }
        let older = |name: &'static str, created| claims.older(&name, &age(created), "v");
        assert_eq!(older("a", 1), [""; 0]);
        assert_eq!(older("b", 2), ["a"]);
        assert_eq!(older("c", 3), ["a", "b"]);
        assert_eq!(claims.older(&"c", &age(3), "other"), [""; 0]);
        let same_second = Age { created: 1, uid: "a".into() };
        assert_eq!(claims.older(&"d", &same_second, "v"), [""; 0], "the smaller uid is the older");
    }

    #[test]
    fn a_younger_object_is_told_that_an_older_one_claims_its_variable() {
        let mut claims = PushClaims::default();
        claims.set(&"young", age(2), ids(&["v", "w"]));
        assert_eq!(claims.set(&"old", age(1), ids(&["v", "w"])), ["young"]);
        assert_eq!(claims.set(&"old", age(1), ids(&["v", "w"])), [""; 0], "that is no news");
        assert_eq!(claims.set(&"youngest", age(3), ids(&["v"])), [""; 0]);
    }

    #[test]
    fn who_waits_is_told_when_a_variable_is_given_up_and_nothing_is_left_behind() {
        let mut claims = PushClaims::default();
        claims.set(&"a", age(1), ids(&["v", "w"]));
        claims.wait(&"b", ids(&["v"]));
        assert_eq!(claims.set(&"a", age(1), ids(&["v"])), [""; 0]);
        assert_eq!(claims.set(&"a", age(1), ids(&["w"])), ["b"]);
        claims.wait(&"b", ids(&["w"]));
        assert_eq!(claims.forget(&"a"), ["b"]);
        claims.forget(&"b");
        assert!(
            claims.of.is_empty()
                && claims.by_variable.is_empty()
                && claims.waiting.is_empty()
                && claims.awaited.is_empty()
        );
    }
}

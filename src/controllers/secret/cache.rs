//! What is remembered of the Secrets that were written: nothing of their values.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use jiff::Timestamp;

use super::circles::Circles;
use crate::{
    plan::secret::{
        Fingerprint, change_detection::VersionsHash, repair_budget::RepairBudget, sources::LeftOut,
    },
    runtime::Key,
};

/// A target, as the operator last wrote or saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the Secret.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// HMAC over what of it is the operator's.
    pub fingerprint: Fingerprint,
    /// Generation of the object that it was written for.
    pub generation: Option<i64>,
    /// When a write of the operator's last changed its data; none where none of this process did.
    pub data_at: Option<Timestamp>,
    /// Revision of its data, and HMAC over the data alone; none where no workload is to be restarted.
    pub revision: Option<(String, Fingerprint)>,
    /// When the first certificate of its chain ends, in seconds since 1970.
    pub certificate: Option<i64>,
}

/// What was found with a list from before an object was looked at: what was made in between may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// When it was looked at.
    pub asked: Instant,
    /// When it is to be looked at once more.
    pub again: Timestamp,
    /// A hash of all variables that its Secret was made of.
    pub wanted: u64,
}

/// What is remembered of one ConjurSecret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Uid of the object: what was made for an earlier one of its name is not its own.
    pub uid: String,
    /// Its target.
    pub target: Option<Target>,
    /// The slot of its grid that was last handled.
    pub slot: Option<i128>,
    /// Which versions the target was made of, where that is known and all of the last reconcile was done.
    pub versions: Option<VersionsHash>,
    /// What it found was read from a list that began before it was looked at: to be looked at once more.
    pub unconfirmed: Option<Unconfirmed>,
    /// How often it was repaired, one time after the other.
    pub repairs: RepairBudget,
    /// How often it was written for what it refers to, one time after the other.
    pub rewrites: RepairBudget,
    /// What is left out of what its finds bring, as it is said.
    pub left_out: LeftOut,
    /// All that the last attempt was for is done, but for restarts of workloads.
    pub only_rollout: bool,
}

/// By object; lost with the process.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<Key, Remembered>>, Mutex<Merges>, Circles);

/// Which objects merge into which Secret: such a Secret names none of them as its owner.
#[derive(Default)]
struct Merges {
    into: HashMap<Key, Key>,
    by: HashMap<Key, BTreeSet<Key>>,
}

impl Memory {
    /// What is remembered of an object.
    pub fn of(&self, key: &Key) -> Remembered {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned().unwrap_or_default()
    }

    /// The same, where it is of the object with this uid; from now on that one's.
    pub fn of_object(&self, key: &Key, uid: &str) -> Remembered {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = all.entry(key.clone()).or_default();
        if remembered.uid != uid {
            *remembered = Remembered { uid: uid.into(), ..Remembered::default() };
        }
        remembered.clone()
    }

    /// When the first certificate ends that an object wrote, in seconds since 1970.
    pub fn certificate(&self, key: &Key) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key)?.target.as_ref()?.certificate
    }

    /// Changes what is remembered of an object.
    pub fn change(&self, key: &Key, change: impl FnOnce(&mut Remembered)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
    }

    /// Makes an object's slot one that is still to be handled: something that it left out may be had now.
    pub fn reopen_slot(&self, key: &Key) {
        self.change(key, |m| {
            m.slot = m.slot.map(|slot| slot - 1);
            m.versions = None;
        });
    }

    /// Which objects read their templates from one another's Secrets.
    pub fn circles(&self) -> &Circles {
        &self.2
    }

    /// From now on an object merges into this Secret, or into none.
    pub fn merges(&self, object: &Key, into: Option<Key>) {
        let mut merges = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if merges.into.get(object) == into.as_ref() {
            return;
        }
        if let Some(former) = merges.into.remove(object)
            && let Some(by) = merges.by.get_mut(&former)
        {
            by.remove(object);
            if by.is_empty() {
                merges.by.remove(&former);
            }
        }
        if let Some(into) = into {
            merges.by.entry(into.clone()).or_default().insert(object.clone());
            merges.into.insert(object.clone(), into);
        }
    }

    /// The objects that merge into a Secret.
    pub fn merging_into(&self, secret: &Key) -> Vec<Key> {
        let merges = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        merges.by.get(secret).into_iter().flatten().cloned().collect()
    }

    /// Forgets an object.
    pub fn forget(&self, key: &Key) {
        self.merges(key, None);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_knows_who_merges_into_it() {
        let key = |name: &str| Key { namespace: "n".into(), name: name.into() };
        let memory = Memory::default();
        memory.merges(&key("a"), Some(key("x")));
        memory.merges(&key("b"), Some(key("x")));
        assert_eq!(memory.merging_into(&key("x")), [key("a"), key("b")]);
        memory.merges(&key("a"), Some(key("y")));
        memory.forget(&key("b"));
        assert_eq!(memory.merging_into(&key("x")), []);
        assert_eq!(memory.merging_into(&key("y")), [key("a")]);
        assert_eq!(memory.1.lock().unwrap().by.len(), 1);
    }
}

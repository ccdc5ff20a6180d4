//! What we remember of the Secrets we wrote: nothing of their values.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::Key;
use crate::plan::{secret::Fingerprint, versions::Versions};

/// A target, as we last wrote or saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the Secret.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// HMAC over what of it is ours.
    pub fingerprint: Fingerprint,
    /// Generation of the object that it was written for.
    pub generation: Option<i64>,
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
    pub versions: Option<Versions>,
}

/// By object; lost with the process.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<Key, Remembered>>);

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

    /// Forgets an object.
    pub fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

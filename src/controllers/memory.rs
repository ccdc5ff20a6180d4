//! What we remember of the Secrets we wrote: nothing of their values.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::Key;
use crate::plan::secret::Fingerprint;

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
    /// Its uid: an object of the same name is another one.
    uid: String,
    /// Its target.
    pub target: Option<Target>,
    /// The slot of its grid that was last handled.
    pub slot: Option<i128>,
}

/// By object; lost with the process.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<Key, Remembered>>);

impl Memory {
    /// What is remembered of an object.
    pub fn of(&self, key: &Key, uid: &str) -> Remembered {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(key).filter(|m| m.uid == uid).cloned().unwrap_or_default()
    }

    /// Changes what is remembered of an object.
    pub fn change(&self, key: &Key, uid: &str, change: impl FnOnce(&mut Remembered)) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = map.entry(key.clone()).or_default();
        if remembered.uid != uid {
            *remembered = Remembered { uid: uid.to_owned(), ..Remembered::default() };
        }
        change(remembered);
    }

    /// Forgets an object.
    pub fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

//! What is known of documents that lie elsewhere.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{api::KeySource, runtime::Key};

/// What the documents that lie elsewhere were when they were last read: nothing of their text.
#[derive(Default)]
pub struct Documents(Mutex<HashMap<Key, KnownDocument>>);

/// One document.
#[derive(Clone)]
pub struct KnownDocument {
    /// Where it lies.
    pub sources: Vec<KeySource>,
    /// The version of each source.
    pub versions: Vec<String>,
    /// Hex SHA-256.
    pub hash: String,
}

impl Documents {
    /// Looks at what is known, or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut HashMap<Key, KnownDocument>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets an object.
    pub fn forget(&self, key: &Key) {
        self.with(|known| known.remove(key));
    }
}

//! How often each object failed in a row.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use super::Key;
use crate::{lock::lock, plan::backoff::backoff};

/// Longest pause between two tries of one object.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// Per object, how often it failed in a row, and what of that was logged.
#[derive(Default)]
pub struct Backoffs {
    tries: Mutex<HashMap<Key, u32>>,
    told: Mutex<HashSet<Key>>,
}

impl Backoffs {
    /// It failed once more: how long to wait.
    pub fn failed(&self, key: &Key) -> Duration {
        let mut map = lock(&self.tries);
        let count = map.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        backoff(*count, Duration::from_secs(1), LONGEST_BACKOFF, rand::random())
    }

    /// It works, or is gone.
    pub fn forget(&self, key: &Key) {
        lock(&self.tries).remove(key);
        self.tell_anew(key);
    }

    /// Whether a trouble that the status can't tell of is to be logged: once, until it is over.
    pub fn tell_once(&self, key: &Key) -> bool {
        lock(&self.told).insert(key.clone())
    }

    /// Such a trouble is over.
    pub fn tell_anew(&self, key: &Key) {
        lock(&self.told).remove(key);
    }
}

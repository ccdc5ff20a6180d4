//! How often each object failed in a row.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use super::Key;
use crate::{lock::lock, plan::backoff::backoff};

/// Longest pause between two tries of one object.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// Per object, how often it failed in a row.
#[derive(Default)]
pub struct Backoffs(Mutex<HashMap<Key, u32>>);

impl Backoffs {
    /// It failed once more: how long to wait.
    pub fn failed(&self, key: &Key) -> Duration {
        let mut map = lock(&self.0);
        let count = map.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        backoff(*count, Duration::from_secs(1), LONGEST_BACKOFF, rand::random())
    }

    /// It works, or is gone.
    pub fn forget(&self, key: &Key) {
        lock(&self.0).remove(key);
    }
}

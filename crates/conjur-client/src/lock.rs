//! Locks that are held for a moment.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock whose holder can't have panicked halfway through anything that matters.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What a reconcile comes to.

use std::time::Duration;

use crate::{api::Reason, conjur::Lane, plan::Failure};

/// What came of a reconcile.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing was due, or nothing can be said yet; looked at again after the time, or when something wakes it.
    NotDue(Option<Duration>),
    /// Done.
    Done {
        /// Looked at again after this.
        again: Option<Duration>,
        /// Why Ready is True.
        reason: Reason,
        /// What was done.
        message: String,
        /// Lane of the status write.
        lane: Lane,
    },
    /// The object is suspended.
    Suspended,
}

/// A reconcile that did not get there.
#[derive(Debug)]
pub struct ReconcileError {
    /// Why.
    pub failure: Failure,
    /// Something new was asked (a generation, a `sync-now`), so that the last good state is no answer.
    pub asked: bool,
    /// Looked at again after this at the latest.
    pub again: Option<Duration>,
}

impl<F: Into<Failure>> From<F> for ReconcileError {
    fn from(failure: F) -> Self {
        Self { failure: failure.into(), asked: true, again: None }
    }
}

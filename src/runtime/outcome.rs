//! What a reconcile comes to.

use std::time::Duration;

use serde_json::{Map, Value};

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
        /// Fields of the status.
        fields: Map<String, Value>,
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
    /// Fields of the status.
    pub fields: Map<String, Value>,
    /// Looked at again after this at the latest.
    pub again: Option<Duration>,
}

impl<F: Into<Failure>> From<F> for ReconcileError {
    fn from(failure: F) -> Self {
        Self { failure: failure.into(), asked: true, fields: Map::new(), again: None }
    }
}

//! Decisions as functions of what was observed and the time: no IO, no async, the clock passed in.

pub mod backoff;
pub mod conditions;
pub mod connection;
pub mod effect;
pub mod full_id;
pub mod hash;
pub mod host;
pub mod install;
pub mod poison;
pub mod policy;
pub mod push;
pub mod record_owner;
pub mod references;
pub mod schedule;
pub mod scope;
pub mod secret;

/// How long something that will announce itself, or lies in Conjur's hands, is waited for before it is looked at anyway.
pub const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(600);

/// Why an object is not done, and what is to happen then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The user must act; looked at again hourly, or on a change.
    Stalled,
    /// Something else must come first, and will announce itself; looked at again after the time, to be sure.
    Waiting(std::time::Duration),
    /// A fault that will pass: tried again with backoff.
    Transient,
    /// The connection fails and is tried by itself; the object is woken when it works again.
    Connection,
}

/// Why something could not be done, for the person who reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    /// What is to happen.
    pub class: Class,
    /// The reason, as conditions, events and metrics say it.
    pub reason: crate::api::Reason,
    /// What happened, to what, and what to do next. Never holds a secret.
    pub message: String,
}

impl Failure {
    /// The user must act.
    pub fn stalled(reason: crate::api::Reason, message: impl Into<String>) -> Self {
        Self { class: Class::Stalled, reason, message: message.into() }
    }

    /// Something else must come first; looked at again after `again` at the latest.
    pub fn waiting(
        reason: crate::api::Reason,
        again: std::time::Duration,
        message: impl Into<String>,
    ) -> Self {
        Self { class: Class::Waiting(again), reason, message: message.into() }
    }

    /// Will be tried again with backoff.
    pub fn transient(reason: crate::api::Reason, message: impl Into<String>) -> Self {
        Self { class: Class::Transient, reason, message: message.into() }
    }
}

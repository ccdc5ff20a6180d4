//! conjur-operator: keeps CyberArk Conjur and a Kubernetes cluster in step.
//!
//! `docs/architecture.md` has the whole house on one page.
//!
//! # How one ConjurSecret is reconciled
//! A watch, a timer or a wakeup ([`controllers::watches`]) puts the object into the queue of its kind ([`runtime::concurrency`]).
//! [`runtime::runner`] takes it out, guards it with a deadline and calls [`controllers::secret`], which
//! observes it from the stores without IO, and asks [`plan::schedule`] whether it is due. If it is, its variables
//! are fetched through the connection's shared client ([`controllers::connection::pool`], [`conjur`]), together with those
//! of all other objects that are due; [`plan::secret`] decides what to do about the Secret, [`cluster`] does it,
//! and [`runtime::report`] says so in the status, where anything changed.

pub mod app;
pub mod cli;
pub mod cluster;
pub mod controllers;
pub mod heartbeat;
pub mod heavy;
pub mod leader;
pub mod limits;
mod lock;
mod memory_budget;
pub mod metrics;
pub mod plan;
pub mod runtime;
pub mod server;
pub mod telemetry;

pub use conjur_client::sensitive;
use conjur_client::{budget, fair, gate, segments};
pub use conjur_operator_api as api;

/// The client of Conjur, whose priorities are lanes here: the API server is asked in them, too.
pub mod conjur {
    pub use conjur_client::{Priority as Lane, *};
}

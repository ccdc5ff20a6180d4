//! Runs the objects of any kind: whose turn it is, one reconcile with its deadline and its report, backoff, what stores keep.
//! It knows no kind: what differs is in the traits [`Object`] and [`Reconcile`].

pub mod attempt;
pub mod backoff;
pub mod compact;
pub mod concurrency;
pub mod current;
pub mod failure;
mod key;
mod object;
mod outcome;
mod reconcile;
pub mod report;
pub mod runner;
mod shared;
pub mod specs;
pub mod sync_now;
pub mod wake;

pub use self::{
    key::Key,
    object::{Object, api_of_part},
    outcome::{Outcome, ReconcileError},
    reconcile::Reconcile,
    shared::Shared,
};

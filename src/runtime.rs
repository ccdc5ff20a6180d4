//! Runs the objects of any kind: whose turn it is, one reconcile with its deadline and its report, backoff, what stores keep.
//! It knows no kind: what differs is in the traits [`Object`] and [`Reconcile`].

pub mod attempt;
pub mod backoff;
pub mod failure;
mod key;
mod object;
mod outcome;
pub mod pending;
mod reconcile;
pub mod report;
pub mod runner;
mod shared;
pub mod slim;
pub mod specs;
pub mod sync_now;
pub mod turns;

pub use self::{
    key::Key,
    object::Object,
    outcome::{Outcome, Trouble},
    reconcile::Reconcile,
    shared::Shared,
};

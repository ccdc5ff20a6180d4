//! The kinds, and what their reconcilers share: [`Context`]. The [`runtime`](crate::runtime) runs them, and knows none.
//!
//! Read every controller in one direction: `reconcile` → `observe` → `act`.

pub mod circles;
pub mod clients;
pub mod connection;
mod context;
pub mod facts;
pub mod inputs;
pub mod memory;
pub mod named;
pub mod namespaces;
pub mod policy;
pub mod secret;
pub mod streams;
pub mod wakeups;

pub use self::context::Context;

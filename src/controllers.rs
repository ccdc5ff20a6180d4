//! The kinds, and what their reconcilers share: [`Context`]. The [`runtime`](crate::runtime) runs them, and knows none.
//!
//! Read every controller in one direction: `reconcile` → `observe` → `act`.

mod cluster_uid;
pub mod connection;
mod context;
pub mod dependencies;
pub mod handle;
pub mod host;
pub mod kinds;
pub mod namespaces;
pub mod owned;
pub mod policy;
pub mod push;
pub mod rollout;
pub mod secret;
pub mod states;
pub mod template;
pub mod watches;

pub use self::{cluster_uid::cluster_uid, context::Context};

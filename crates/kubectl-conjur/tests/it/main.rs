//! The plugin on a real control plane, with the operator and a development Conjur, by what it prints alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::format_collect,
    reason = "a test says so by failing"
)]

mod diff;
mod doctor;
mod explain;
mod migrate;
mod objects;
mod page;
mod setup;

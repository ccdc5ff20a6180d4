//! Tests of the whole, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cluster;
mod gitops;
mod heavy;
mod program;
mod refusals;
mod release;
mod shape;

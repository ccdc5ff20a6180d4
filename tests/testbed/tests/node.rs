//! The operator as it is installed: its image in Pods of a real node. Where this machine can't have one, each test says
//! what is missing, and that nothing was seen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod node {
    pub mod install;
    pub mod leader;
    pub mod setup;
    pub mod upgrade;
}

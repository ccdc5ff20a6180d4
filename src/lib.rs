//! conjur-operator: keeps CyberArk Conjur and a Kubernetes cluster in step.
//!
//! `docs/architecture.md` has the whole house on one page.
//!
//! # How one ConjurSecret is reconciled
//! A watch, a timer or a wakeup (`controllers::watches`) puts the object into the queue of its kind (`runtime::concurrency`).
//! `runtime::runner` takes it out, guards it with a deadline and calls `controllers::secret`, which
//! observes it from the stores without IO, and asks `plan::schedule` whether it is due. If it is, its variables
//! are fetched through the connection's shared client (`controllers::connection::pool`, `conjur`), together with those
//! of all other objects that are due; `plan::secret` decides what to do about the Secret, `cluster` does it,
//! and `runtime::report` says so in the status, where anything changed.
//!
//! # How one policy document is loaded
//! `controllers::policy` sees that it may be, and says what is asked for; `effect::load` goes on step by step, and
//! `plan::effect::order` decides each: what an earlier life left is resolved, the load announced, sent, its keys stored, recorded
//! in the status and cleared. `plan::effect::model` dies between any two of them.

mod app;
mod cli;
mod cluster;
mod controllers;
mod effect;
mod heartbeat;
mod heavy;
mod install;
mod leader;
mod limits;
mod lock;
mod memory_budget;
mod metrics;
mod plan;
mod runtime;
mod server;
mod telemetry;

use conjur_client::{budget, fair, gate, segments, sensitive};
pub use conjur_operator_api as api;

/// The client of Conjur, whose priorities are lanes here: the API server is asked in them, too.
mod conjur {
    pub use conjur_client::{Priority as Lane, *};
}

/// What the program is made of: its arguments, and what each of its commands does.
pub mod program {
    pub use crate::{
        app::run,
        cli::{Cli, Command, Hook, RunArgs},
        heavy::serve::run as serve_heavy_work,
        install::run as run_hook,
        telemetry::init as init_logging,
    };
}

/// What the kubectl plugin, fuzzers and tests of the whole reach into. All else is the package's own, so that the compiler
/// sees what is dead.
pub mod seams {
    pub use crate::{
        heavy::{Heavy, Whose, serve},
        leader::{LeaseRecord, Seen, decide},
        limits::Limit,
        plan::{
            Failure,
            connection::{access, audience, check},
            effect::{announcement::Announcement, evidence::BranchVersion, inventory::Inventory},
            hash::{document_hash, hash},
            policy::{
                document,
                document_text::{Part, PolicyText},
                refusal::mended_by,
                secret_keys::role_keys,
            },
            references,
            schedule::Slots,
            secret::{
                sources::{BuiltData, Got, LeftOut, Problem, Sources},
                template::{self, Light, Text},
            },
        },
    };
}

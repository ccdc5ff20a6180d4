//! Effects in Conjur that must neither be lost nor repeated blindly, for whatever kind asks for them: the only place that
//! loads policy and rotates keys. What is to be done next [`crate::plan::effect`] decides, where flow, guarantees, assumptions
//! and caveats stand; here is the IO.
//!
//! - [`run`]: the loop: ask what is next, and do it.
//! - [`load`]: a policy document is loaded into a branch; [`load::Caller`]: what a kind implements for it.
//! - [`host`]: a host is enrolled and its key kept; [`host::HostCaller`]: what a kind implements for it.
//! - [`keys`]: the Secret that keeps API keys and the announcement of a load; [`inventory`]: the one that lists what loads made;
//!   [`own_writes`]: telling the operator's writes of both from others'.
//! - [`evidence`]: what exists in Conjur.
//! - [`perform`]: the calls themselves.
//! - [`in_flight`]: what was begun and is not brought to its end, when the process is told to stop.
//! - [`branch_locks`]: one load at a time in a branch.
//! - [`variables`]: variables are made, changed and removed: of all objects that want some in a branch, in one load.

pub mod branch_locks;
pub mod evidence;
pub mod host;
pub mod in_flight;
pub mod inventory;
pub mod keys;
pub mod load;
pub mod own_writes;
pub mod perform;
pub mod run;
pub mod variables;
pub mod write;

use crate::plan::secret::Owner;

/// The object that an effect is for.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The object.
    pub owner: &'a Owner,
    /// A hash over the address and account of the server.
    pub server: &'a str,
}

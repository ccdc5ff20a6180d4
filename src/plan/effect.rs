//! An effect outside the cluster that must neither be lost nor repeated blindly: announce, perform, store, record, clear;
//! and after a crash, resolve. Pure: [`order::next`] says what to do next for what is known, and all IO is the caller's.
//!
//! # Flow
//! A load of a policy document gives the keys of the hosts and users that it makes once, in its answer. So it is **announced**
//! before it, in the Secret that is to keep the keys, or in the status where no key can come: the branch's version, and the
//! roles that don't exist, which are *owed* a key. Then it is **performed**; the keys in its answer are **stored** with one
//! write that also says what is owed no more; the status **records** that it is loaded; the announcement is **cleared**.
//! [`order::ORDER`] is that order, rule by rule.
//!
//! A run that finds an announcement **resolves** it first: a version of the branch above the announced one, of the document, by
//! the operator's role, means that the load happened ([`resolve`]). An owed role that was made in the same transaction
//! ([`evidence::Origin::is_within`]) is the operator's, and its key is rotated, since no one ever had it. Any other role is left
//! alone. What can still happen stays announced.
//!
//! # Guarantees
//! For a crash before or after any effect, and a load that goes on without its caller, twice in a row (`model` tries all pairs):
//! - the key of each role that a load of the operator made is in the Secret in the end, or the role is named as unclear;
//! - the key of a role that a stranger made, or another object, is never rotated;
//! - a document that is loaded is not loaded again;
//! - what an inventory lists as the operator's was made by the operator.
//!
//! # Assumptions
//! - One process acts (the Lease), one run at a time in a branch as one identity; Conjur takes one load of a branch at a time.
//! - A load has ended in Conjur [`LONGEST_LOAD`](crate::limits::LONGEST_LOAD) after it was announced, with its caller or without.
//! - Versions of a branch, and the records in it, carry the time of the transaction that made them (recordings 701, 702).
//!
//! # Caveats
//! - Conjur lists 20 versions of a branch. What was announced before the oldest of them is `unclear`, and is told, not rotated.
//! - Where the identity may not read versions, a document without hosts is loaded once more after a crash.
//! - The key of a host that is not read out of the document is lost with the answer of its load.
//! - A load that a person makes of the same document with the operator's own identity, after a crash, can't be told from its own.
//!
//! [`announcement`], [`evidence`], [`inventory`]: the words. [`resolve`]: what became of a load. [`view`]: what is known; [`step`]: the
//! steps. [`order`]: which is next. `model`, `faults`: the proof.

pub mod announcement;
pub mod evidence;
mod faults;
pub mod inventory;
#[cfg(test)]
mod model;
pub mod order;
pub mod resolve;
pub mod step;
pub mod view;

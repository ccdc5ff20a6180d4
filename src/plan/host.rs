//! A host and its key: enrolled, kept, rotated, so that no key is lost and no stranger's key dies. Pure: [`order::next`] says
//! what to do next for what is known, and all IO is the caller's.
//!
//! # Flow
//! Whatever changes a key is **announced** before it in `status.pending`, with a number; the key is **stored** in the Secret
//! together with that number, in one write; then the status **records** it and the announcement goes. A run that finds an
//! announcement looks at the Secret: with that number there, its key is stored; without, the key is owed, and another is made by
//! rotation until one is stored. What was sent and not answered may come through late and kill the key that is stored: until it
//! can't any more the announcement stays, and then the stored key is tried.
//!
//! A host is the object's if its owner annotation names the object. By policy a **bare** host is made first: on one that
//! another made in between that changes nothing. The annotation comes with the second load, when it is known that the first one
//! made the host: by its answer, or, where that was lost, by the versions of the branch ([`view::Evidence`]), of which the one
//! with the object's own document says when it ran. A factory gives the annotations at the enrolment.
//!
//! # Guarantees
//! For a crash before or after any effect, and a request that goes on without its caller, twice in a row (`model` tries all pairs):
//! - in the end the stored key works, or the object says that it does not;
//! - a host that another made is not rotated, and carries nothing of the object's, unless the spec adopts it;
//! - what another granted is not revoked;
//! - no token of a factory is left.
//!
//! # Assumptions
//! - One process acts (the Lease), one run of an object at a time.
//! - A request has ended in Conjur [`LANDS_WITHIN`](view::LANDS_WITHIN) after who sent it is gone.
//! - A host carries the time of the load that made it (recordings 701, 702).
//!
//! # Caveats
//! - A host factory gives a host that it made before a new key. The host is looked at right before, but who enrols the same id
//!   through the same factory in the time of that one request loses that key, and is told.
//! - What another grants the host between the look at its memberships and the load that grants the same counts as the object's,
//!   also where a crash comes in between.
//! - Conjur lists 20 versions of a branch. What was announced before the oldest of them is told as unclear, not taken.
//!
//! [`step`]: the words. [`view`]: what is known. [`order`]: which step is next. [`owner`]: whose a host is. [`document`]: the
//! policy documents. `model`, `faults`: the proof.

pub mod document;
pub mod due;
mod faults;
#[cfg(test)]
mod model;
pub mod order;
pub mod owner;
pub mod step;
pub mod tokens;
pub mod view;

//! Pure decisions: no IO, no async, the clock passed in.
pub mod document;
pub mod role_key;

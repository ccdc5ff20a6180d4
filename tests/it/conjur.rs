//! The Conjur client from outside.

mod recordings;

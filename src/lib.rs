//! x
pub mod conjur;
pub mod sensitive;

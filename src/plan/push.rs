//! Decisions about ConjurPushes: which variables a spec names, what may not be pushed, whose a variable is and what is to be
//! done with it, the documents that make and change variables, who of several has one.

pub mod claims;
pub mod decide;
pub mod documents;
pub mod entries;
pub mod outcome;
pub mod source;

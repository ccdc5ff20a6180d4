//! Decisions about ConjurPolicies: what a document makes, whose a branch is, what a load made, what may be removed.

pub mod branch_claims;
pub mod cascade;
pub mod change_set;
pub mod document;
pub mod document_text;
pub mod key_retention;
pub mod refusal;
pub mod removal;
pub mod removed_roles;
pub mod rotate_keys;
pub mod secret_keys;
pub mod statements;

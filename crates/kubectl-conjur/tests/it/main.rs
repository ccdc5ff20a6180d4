//! The plugin on a real control plane, with the operator and a development Conjur, by what it prints alone.

mod diff;
mod doctor;
mod explain;
mod objects;
mod setup;

//! An ExternalSecret, while it is read.

use crate::migrate::{
    inventory::{Inventory, Object},
    note::Notes,
};

/// It, what else there is, and what is noted of it.
pub struct Reading<'i, 'a> {
    /// All objects.
    pub inventory: &'i Inventory<'a>,
    /// It.
    pub object: Object<'a>,
    /// What is noted.
    pub notes: Notes,
}

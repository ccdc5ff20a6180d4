//! Deliberate faults: each breaks one rule, and the model must find it.

#[cfg(test)]
use std::cell::Cell;

/// Whether a deliberate fault is made; never, but in the test of the model.
#[cfg(test)]
macro_rules! fault {
    ($fault:ident) => {
        $crate::plan::effect::faults::is_made($crate::plan::effect::faults::Fault::$fault)
    };
}

/// Whether a deliberate fault is made; never, but in the test of the model.
#[cfg(not(test))]
macro_rules! fault {
    ($fault:ident) => {
        false
    };
}

pub(super) use fault;

/// A rule that is broken.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NoSecondLook,
    EarlierOwedAreForgotten,
    EarlierVersionIsForgotten,
    TimeDoesNotCount,
    LoaderDoesNotCount,
    AnnouncementReplacesTheEarlier,
    ClearedBeforeRecorded,
    StoredAfterRecorded,
    ResumedDoesNotLook,
    LoadedUnannounced,
    UnlistedVersionsMadeNothing,
    VersionsBeforeRoles,
    RefusedStaysAnnounced,
    KeptElsewhereIsRotated,
    OtherBranchIsNotWaitedFor,
    InventoriedAfterTheLoad,
    InventoryIsNotResolved,
}

#[cfg(test)]
impl Fault {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::NoSecondLook,
        Self::EarlierOwedAreForgotten,
        Self::EarlierVersionIsForgotten,
        Self::TimeDoesNotCount,
        Self::LoaderDoesNotCount,
        Self::AnnouncementReplacesTheEarlier,
        Self::ClearedBeforeRecorded,
        Self::StoredAfterRecorded,
        Self::ResumedDoesNotLook,
        Self::LoadedUnannounced,
        Self::UnlistedVersionsMadeNothing,
        Self::VersionsBeforeRoles,
        Self::RefusedStaysAnnounced,
        Self::KeptElsewhereIsRotated,
        Self::OtherBranchIsNotWaitedFor,
        Self::InventoriedAfterTheLoad,
        Self::InventoryIsNotResolved,
    ];
}

#[cfg(test)]
thread_local!(static MADE: Cell<Option<Fault>> = const { Cell::new(None) });

/// Makes a fault, on this thread, or none.
#[cfg(test)]
pub fn make(fault: Option<Fault>) {
    MADE.set(fault);
}

/// Whether it is made.
#[cfg(test)]
pub fn is_made(fault: Fault) -> bool {
    MADE.get() == Some(fault)
}

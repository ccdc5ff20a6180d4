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
    EarlierSinceIsForgotten,
    SinceDoesNotCount,
    TimeDoesNotCount,
    LoaderDoesNotCount,
    AnnouncementReplacesTheEarlier,
    ClearedBeforeRecorded,
    StoredAfterRecorded,
    StoredKeysStayOwed,
    ResumedDoesNotLook,
    LoadedUnannounced,
    UnlistedVersionsMadeNothing,
    VersionsBeforeRoles,
    RefusedStaysAnnounced,
    RefusedForgetsTheEarlier,
    RefusedStaysInventoried,
    KeptElsewhereIsRotated,
    OtherBranchIsNotWaitedFor,
    AnnouncedWithoutTheTime,
    InventoriedAfterTheLoad,
    InventoryIsNotResolved,
    SpentAnnouncementStays,
    OwedAreNotSaid,
    GoneKeysStay,
    SaidInputsDoNotCount,
}

#[cfg(test)]
impl Fault {
    /// All of them, each with what the model must say of it.
    pub const ALL: &[(Self, &str)] = &[
        (Self::NoSecondLook, "is lost"),
        (Self::EarlierOwedAreForgotten, "is lost"),
        (Self::EarlierVersionIsForgotten, "is lost"),
        (Self::EarlierSinceIsForgotten, "was loaded"),
        (Self::SinceDoesNotCount, "does not hold it"),
        (Self::TimeDoesNotCount, "was rotated"),
        (Self::LoaderDoesNotCount, "does not hold it"),
        (Self::AnnouncementReplacesTheEarlier, "is lost"),
        (Self::ClearedBeforeRecorded, "is lost"),
        (Self::StoredAfterRecorded, "does not name"),
        (Self::StoredKeysStayOwed, "was rotated"),
        (Self::ResumedDoesNotLook, "is lost"),
        (Self::LoadedUnannounced, "is lost"),
        (Self::UnlistedVersionsMadeNothing, "is lost"),
        (Self::VersionsBeforeRoles, "is lost"),
        (Self::RefusedStaysAnnounced, "was rotated"),
        (Self::RefusedForgetsTheEarlier, "is lost"),
        (Self::RefusedStaysInventoried, "inventory"),
        (Self::KeptElsewhereIsRotated, "was rotated"),
        (Self::OtherBranchIsNotWaitedFor, "is lost"),
        (Self::AnnouncedWithoutTheTime, "is lost"),
        (Self::InventoriedAfterTheLoad, "inventory"),
        (Self::InventoryIsNotResolved, "inventory"),
        (Self::SpentAnnouncementStays, "was loaded"),
        (Self::OwedAreNotSaid, "the status does not name"),
        (Self::GoneKeysStay, "stays in the Secret"),
        (Self::SaidInputsDoNotCount, "does not hold it"),
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

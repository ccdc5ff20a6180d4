//! Deliberate faults: each breaks one rule, and the model must find it.

#[cfg(test)]
use std::cell::Cell;

/// Whether a deliberate fault is made; never, but in the test of the model.
#[cfg(test)]
macro_rules! fault {
    ($fault:ident) => {
        $crate::plan::host::faults::is_made($crate::plan::host::faults::HostFault::$fault)
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
pub enum HostFault {
    MadeUnannounced,
    RotatedUnannounced,
    EnrolledUnannounced,
    EvidenceIsTheName,
    EvidenceIsForgotten,
    EarlierVersionIsForgotten,
    ForeignIsRotated,
    LostAnswerIsTakenForDone,
    LateOnesAreNotWaitedFor,
    LateOnesAreForgotten,
    OvertakenKeyIsNotTried,
    NumberIsNotCounted,
    RecordedBeforeStored,
    GrantsAreNotAnnounced,
    AnothersGrantIsRevoked,
    TokenIsLeft,
    TokenOfACrashIsLeft,
    NotLookedAtBeforeEnrolment,
    KeyIsKept,
    InvalidIsRotated,
    RefusalForgetsWhatWasDone,
    AnyLoadIsEvidence,
    EvidenceBeatsTheAnnotation,
    AnyFactorysTokenIsRevoked,
    AnyAnnouncementOvertakes,
    PartsAreForgotten,
    OnlyTheOwnBranchIsAsked,
    LoadGoesBeforeTheKey,
    TokenOutlivesItsFactory,
    LostKeyIsNotTold,
    AnyFactoryIsUsed,
    StoredIsEnrolledAgain,
    SlotIsNotTried,
    LateOnesCountFromTheirAnnouncement,
    KeyOfAPartIsForgotten,
    AnyTokenIsRevoked,
    StatusIsWrittenBlindly,
    EarlierKeyIsStored,
}

#[cfg(test)]
impl HostFault {
    /// What all pairs of deaths find, each with what the model must say of it: the first of several scenarios that finds it. The
    /// others are found by `model::mends`.
    pub const ALL: &[(Self, &str)] = &[
        (Self::MadeUnannounced, "foreign|settled|circle"),
        (Self::RotatedUnannounced, "KeyInvalid|settled"),
        (Self::EnrolledUnannounced, "token"),
        (Self::EvidenceIsTheName, "a stranger's"),
        (Self::EvidenceIsForgotten, "foreign"),
        (Self::EarlierVersionIsForgotten, "foreign"),
        (Self::ForeignIsRotated, "a stranger's"),
        (Self::LostAnswerIsTakenForDone, "circle|KeyInvalid|does not work"),
        (Self::LateOnesAreNotWaitedFor, "KeyInvalid"),
        (Self::LateOnesAreForgotten, "KeyInvalid"),
        (Self::OvertakenKeyIsNotTried, "KeyInvalid"),
        (Self::NumberIsNotCounted, "circle|KeyInvalid"),
        (Self::RecordedBeforeStored, "circle|does not work"),
        (Self::GrantsAreNotAnnounced, "not revoked"),
        (Self::AnothersGrantIsRevoked, "another's grant"),
        (Self::TokenIsLeft, "token"),
        (Self::TokenOfACrashIsLeft, "token"),
        (Self::NotLookedAtBeforeEnrolment, "stranger's key died"),
        (Self::KeyIsKept, "is kept"),
        (Self::InvalidIsRotated, "stranger's key died"),
        (Self::RefusalForgetsWhatWasDone, "foreign"),
        (Self::PartsAreForgotten, "not revoked"),
        (Self::SlotIsNotTried, "stranger's key died|settled"),
    ];

    /// What two replicas that act at once find.
    pub const OF_REPLICAS: &[(Self, &str)] =
        &[(Self::StatusIsWrittenBlindly, "KeyInvalid"), (Self::EarlierKeyIsStored, "KeyInvalid")];
}

#[cfg(test)]
thread_local!(static MADE: Cell<Option<HostFault>> = const { Cell::new(None) });

/// Makes a fault, on this thread, or none.
#[cfg(test)]
pub fn make(fault: Option<HostFault>) {
    MADE.set(fault);
}

/// Whether it is made.
#[cfg(test)]
pub fn is_made(fault: HostFault) -> bool {
    MADE.get() == Some(fault)
}

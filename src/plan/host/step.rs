//! The steps of keeping a host: what is asked for, the questions, the effects, and how it ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::host::{AppliedHost, PendingHost},
    plan::effect::evidence::{BranchVersion, Origin},
};

/// How a host is enrolled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EnrolmentWay {
    /// By policy, in this branch.
    Branch(String),
    /// With a token that is made of this host factory.
    Factory(String),
    /// With a token that was given: what it makes can't be seen.
    Token,
    /// It exists.
    #[default]
    Existing,
}

/// What of a host is loaded as policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Its annotations, without the operator's own.
    pub annotations: BTreeMap<String, String>,
    /// The CIDRs that it may come from.
    pub restricted_to: Vec<String>,
    /// What it is a member of: `layer/<id>`, `group/<id>`.
    pub member_of: BTreeSet<String>,
}

/// That a rotation is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationAsked {
    /// A text of `rotate-now` that was not handled.
    pub text: Option<String>,
    /// A slot of the grid has begun at this second, and the key is from before it.
    pub since: Option<i64>,
}

/// What an object asks for.
#[derive(Clone, Debug, Default)]
pub struct HostRequest {
    /// A hash over the address and account of the server.
    pub server: String,
    /// Full id of the role that policy is loaded as.
    pub loader: String,
    /// How it is enrolled.
    pub way: EnrolmentWay,
    /// Its key is kept in a Secret.
    pub keeps_key: bool,
    /// A host that exists and is not the object's is taken over.
    pub adopts: bool,
    /// Hex SHA-256 of the document that makes the host: it names the object.
    pub document: String,
    /// What is loaded as policy.
    pub wanted: Attributes,
    /// A rotation is asked for.
    pub rotation: RotationAsked,
    /// The stored key is to be tried.
    pub tries: bool,
}

/// Whose a host is, by its annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maker {
    /// It names the object.
    Ours {
        /// The object made it, and did not take it over.
        created: bool,
    },
    /// It names none that there is, or lets the object take it over.
    Unmarked,
    /// It names this one.
    Another(String),
}

/// What is seen of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostLook {
    /// It does not exist, or can't be seen.
    Absent,
    /// It is there.
    There {
        /// What tells who made it.
        origin: Origin,
        /// What its annotations say.
        maker: Maker,
    },
}

/// What is seen of the Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetLook {
    /// It holds a key of the host.
    pub key: bool,
    /// The number that was written with it.
    pub number: Option<i64>,
}

/// What is seen of a host factory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactoryLook {
    /// The server's clock, in seconds since 1970.
    pub now: i64,
    /// When its tokens end.
    pub expiries: BTreeSet<i64>,
}

/// What is not known, and has to be looked at. Changes nothing, and may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostQuestion {
    /// What the Secret holds. One that can't be written to is a failure.
    Target,
    /// What is seen of the host.
    Host,
    /// The same once more, right before it is enrolled.
    HostAgain,
    /// Does the identity own the branch, so that it sees the hosts in it and can recover their keys?
    Ownership(String),
    /// Does the identity own the host factory, so that it sees the hosts that it makes and can recover their keys?
    FactoryOwnership(String),
    /// The versions of a branch.
    Versions(String),
    /// What the host is a member of.
    Memberships,
    /// What is seen of a host factory.
    Factory(String),
    /// The same, for a token that was announced: with the factory it is gone, and the answer is no.
    TokensOf(String),
    /// Would the API server take the Secret with another key?
    Room,
    /// Does the stored key work?
    Works,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostFact {
    /// Yes; what says no is a failure, but for [`HostQuestion::Works`] and [`HostQuestion::TokensOf`].
    Yes,
    /// No.
    No,
    /// The Secret.
    Target(TargetLook),
    /// The host.
    Host(HostLook),
    /// The versions of a branch.
    Versions(Vec<BranchVersion>),
    /// Memberships.
    Memberships(BTreeSet<String>),
    /// A factory.
    Factory(FactoryLook),
}

/// A load of what a spec says of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeLoad {
    /// The object made the host: its annotation says that, or that it did not.
    pub created: bool,
    /// Memberships that are granted.
    pub grants: BTreeSet<String>,
    /// Memberships that are revoked.
    pub revokes: BTreeSet<String>,
}

/// What is recorded in the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// What Conjur holds.
    pub applied: AppliedHost,
    /// What is still to be looked at.
    pub pending: Option<PendingHost>,
    /// The object made the host; none where that can't be seen.
    pub created: Option<bool>,
    /// A key was stored: when it was announced, in seconds since 1970, and for which `rotate-now`.
    pub rotated: Option<(i64, Option<String>)>,
}

/// What changes something outside. Each may be the last before a crash, and each may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEffect {
    /// Write the announcement into the status.
    Announce(PendingHost),
    /// Load the document that makes the bare host.
    Make,
    /// Make a token of the host factory that ends then.
    MakeToken(i64),
    /// Enrol the host with the token in hand, or the one that was given.
    Enrol,
    /// Revoke the token that ends then.
    Revoke {
        /// The factory.
        factory: String,
        /// When it ends.
        expires: i64,
    },
    /// Load annotations, restrictions and memberships.
    Load(AttributeLoad),
    /// Rotate the key.
    Rotate,
    /// Put the key in hand into the Secret, with this number.
    Store(i64),
    /// Throw the key in hand away.
    Drop,
    /// Delete the Secret, whose key is dead.
    DeleteSecret,
    /// Write into the status what came of it.
    Record(HostRecord),
    /// Put an earlier announcement into the status, or none.
    Withdraw(Option<PendingHost>),
}

impl HostEffect {
    /// As traces name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Announce(_) => "announce",
            Self::Make => "make",
            Self::MakeToken(_) => "make-token",
            Self::Enrol => "enrol",
            Self::Revoke { .. } => "revoke",
            Self::Load(_) => "load",
            Self::Rotate => "rotate",
            Self::Store(_) => "store",
            Self::Drop => "drop",
            Self::DeleteSecret => "delete-secret",
            Self::Record(_) => "record",
            Self::Withdraw(_) => "withdraw",
        }
    }
}

/// What came of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPerformed {
    /// It is done.
    Done,
    /// The load made the host, and its key is in hand; or it was there already.
    Made(bool),
    /// The host was enrolled, and its key is in hand. Whether it carries the owner annotation, or can't be told.
    Enrolled(bool),
    /// It was certainly not done.
    Refused,
    /// A part of it was done, and the rest was not.
    Partly {
        /// The part made the host, and its key is in hand.
        made: bool,
    },
}

/// What is to be done next.
#[expect(clippy::large_enum_variant, reason = "one of them lives at a time")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostStep {
    /// Find something out.
    Learn(HostQuestion),
    /// Change something.
    Do(HostEffect),
    /// It is over.
    Finish(HostVerdict),
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostVerdict {
    /// All is as the spec says. Where a lost request may still come through, it is looked at again after so many seconds.
    Done {
        /// After so many seconds.
        again: Option<i64>,
    },
    /// The host is another's.
    Foreign {
        /// What its owner annotation says.
        of: Option<String>,
        /// It may be the object's: Conjur no longer lists the versions of the branch that would tell.
        unclear: bool,
        /// This run's enrolment gave it another key, which no one has, and ended the one that its maker had.
        rekeyed: bool,
    },
    /// It does not exist, or can't be seen.
    NotFound,
    /// The stored key is gone from the Secret.
    KeyGone,
    /// Conjur refuses the stored key.
    KeyInvalid,
    /// It was made, and is not to be seen: deleted a moment later, or out of a replica that lags behind.
    Vanished,
    /// An earlier request may still come through for so many seconds.
    Wait(i64),
    /// It was refused, and nothing of it is announced any more.
    Refused,
}

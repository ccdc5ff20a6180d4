//! The steps of a load: what is asked for, the questions, the effects, and how it ends.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    announcement::Announcement,
    evidence::{BranchVersion, Origin},
    inventory::Inventory,
};
use crate::plan::policy::document::Record;

/// What a kind asks to be loaded.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Hex SHA-256 of the document.
    pub document: String,
    /// A hash over server, branch and mode: what a load is good for.
    pub inputs: String,
    /// A hash over the address and account of the server.
    pub server: String,
    /// The account.
    pub account: String,
    /// The branch.
    pub branch: String,
    /// Full id of the role that it is loaded as.
    pub loader: String,
    /// Full ids of the hosts and users that the document makes.
    pub makes: BTreeSet<String>,
    /// Full ids of the hosts and users that earlier loads of the same object made, or were about to make.
    pub known: BTreeSet<String>,
    /// The load may delete what can't be had again, which needs a permission of its own.
    pub needs_permission: bool,
    /// An inventory is kept of what the load makes.
    pub inventoried: bool,
}

/// The announcement of a load that makes no hosts and users: it lies in the object's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Hex SHA-256 of the document.
    pub document: String,
    /// The hash over server, branch and mode.
    pub inputs: String,
    /// Version of the branch before the load; none where the identity may not read it.
    pub version: Option<i64>,
    /// Full id of the role that it was loaded as.
    pub loader: Option<String>,
}

/// What is not known, and has to be looked at. Changes nothing, and may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Does the identity own the branch, so that it sees the roles in it and can recover their keys?
    Ownership,
    /// Would the keys of these roles fit into the Secret, with those that are in it?
    Room(Announcement),
    /// May this be looked at, which an earlier run announced: on this server, in a branch that is granted, and owned?
    MayResolve(Announcement),
    /// Which of the roles exist that are owed a key?
    OwedRoles(BTreeSet<String>),
    /// The versions of the branch that an announced load went into.
    OwedVersions(String),
    /// Which of the owed roles that were absent exist after all? A load that happened may have made them after the look.
    OwedRolesAgain(BTreeSet<String>),
    /// Of which of these roles does another object keep the key, for a load of the very same document?
    KeptElsewhere(BTreeSet<String>, i64),
    /// The versions of the branch; none where the identity may not read them.
    SaidVersions,
    /// May what this load deletes be deleted?
    Deletions,
    /// Which roles may this load take away, whose keys are stored?
    RolesThatMayGo,
    /// The inventory as it stands. Before the load it is refused where the identity does not own the branch.
    Inventory {
        /// Asked before the load.
        before: bool,
    },
    /// Which records of the document do not exist?
    AbsentRecords,
    /// The version of the branch, for the inventory.
    InventoryVersion,
    /// Which of the roles that the document makes exist?
    Roles,
    /// The version of the branch.
    Version,
    /// The same; none where the identity may not read it.
    VersionIfReadable,
    /// May keys of this server be put into the Secret?
    SameServer,
    /// Which of these roles did the load take away?
    RolesGone(BTreeMap<String, Origin>),
    /// When the loads of the branch happened.
    LoadTimes,
}

impl Question {
    /// Whether it may be asked while what an earlier run announced is looked at, whose branch is held as long.
    pub fn keeps_the_earlier_branch(&self) -> bool {
        match self {
            Self::Ownership
            | Self::Room(_)
            | Self::MayResolve(_)
            | Self::OwedRoles(_)
            | Self::OwedVersions(_)
            | Self::OwedRolesAgain(_)
            | Self::KeptElsewhere(..) => true,
            Self::SaidVersions
            | Self::Deletions
            | Self::RolesThatMayGo
            | Self::Inventory { .. }
            | Self::AbsentRecords
            | Self::InventoryVersion
            | Self::Roles
            | Self::Version
            | Self::VersionIfReadable
            | Self::SameServer
            | Self::RolesGone(_)
            | Self::LoadTimes => false,
        }
    }
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub enum Fact {
    /// Yes; what says no is a failure.
    Yes,
    /// These roles exist.
    Roles(BTreeMap<String, Origin>),
    /// These.
    Ids(BTreeSet<String>),
    /// The versions of a branch; none where they can't be read.
    Versions(Option<Vec<BranchVersion>>),
    /// The inventory.
    Inventory(Inventory),
    /// These records.
    Records(Vec<Record>),
}

/// What changes something outside. Each may be the last before a crash, and each may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the inventory, where it differs.
    Inventory(Inventory),
    /// Write the announcement into the Secret.
    Announce(Announcement),
    /// Write the announcement of a load that makes no roles into the status.
    Say(Said),
    /// Write the roles into the status whose keys are to be looked for after a crash.
    SayRoles(BTreeSet<String>),
    /// Send the document.
    Load,
    /// Rotate the key of a role whose key no one ever had.
    Rotate(String),
    /// Put the keys in hand into the Secret, and say what is still owed, in one write.
    Store(Announcement),
    /// Take the keys of roles that are gone out of the Secret.
    DropKeys(BTreeSet<String>),
    /// Write into the status that the document is loaded.
    Record {
        /// The version of the branch that holds it.
        version: i64,
        /// The roles whose keys must be there.
        roles: BTreeSet<String>,
    },
    /// Take the announcement out of the Secret.
    Clear,
    /// The load was refused: take its announcement out of the status.
    Unsay(BTreeSet<String>),
    /// The load was refused: put the earlier announcement into the Secret, or none.
    Withdraw(Option<Announcement>),
}

impl Effect {
    /// As traces name it, after a `begin` for each run; `model/ways.txt` lists which may follow which, and
    /// `tests/it/cluster/policy/ways.rs` compares a log with it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Inventory(_) => "inventory",
            Self::Announce(_) => "announce",
            Self::Say(_) => "say",
            Self::SayRoles(_) => "say-roles",
            Self::Load => "load",
            Self::Rotate(_) => "rotate",
            Self::Store(_) => "store",
            Self::DropKeys(_) => "drop-keys",
            Self::Record { .. } => "record",
            Self::Clear => "clear",
            Self::Unsay(_) => "unsay",
            Self::Withdraw(_) => "withdraw",
        }
    }
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performed {
    /// It is done.
    Done,
    /// The document was loaded, and made these roles, whose keys are in hand.
    Loaded {
        /// The version of the branch that the load made.
        version: i64,
        /// Full ids of the roles.
        roles: BTreeSet<String>,
    },
    /// The document was certainly not loaded.
    Refused {
        /// It is tried again soon, without a person's doing.
        again: bool,
    },
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Find something out.
    Learn(Question),
    /// Change something.
    Do(Effect),
    /// It is over.
    Finish(Verdict),
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The branch holds the document.
    Loaded {
        /// The version that holds it.
        version: i64,
        /// How that is known.
        how: Known,
    },
    /// The load was refused, and nothing of it is announced any more.
    Refused,
    /// An earlier load may still go on in another branch.
    Wait {
        /// That branch.
        branch: String,
        /// After so many seconds it can't.
        seconds: u64,
    },
}

/// How it is known that a document is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was loaded just now.
    Answered,
    /// An earlier load of it happened.
    Found,
    /// It was loaded just now, perhaps once more: what became of an earlier try can't be read.
    Again,
}

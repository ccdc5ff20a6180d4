//! What a decision about a load depends on: what is known of it, and what is no longer.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    announcement::Announcement,
    evidence::{BranchVersion, Origin, newest},
    faults::fault,
    inventory::{InventoriedLoad, Inventory},
    resolve::{Resolution, resolve},
    step::{Effect, Fact, Known, Performed, Question, Request, Said},
};
use crate::plan::policy::document::Record;

/// What was looked at: whoever may load a branch may still not read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable<T> {
    /// It can be read.
    Yes(T),
    /// The identity may not.
    No,
}

impl<T> Readable<T> {
    /// What was read.
    pub fn yes(self) -> Option<T> {
        match self {
            Self::Yes(read) => Some(read),
            Self::No => None,
        }
    }
}

impl<T> From<Option<T>> for Readable<T> {
    fn from(read: Option<T>) -> Self {
        read.map_or(Self::No, Self::Yes)
    }
}

/// What must be so before a document may be loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    /// The identity owns the branch.
    pub owned: bool,
    /// The keys fit into the Secret.
    pub room: bool,
    /// What the load deletes may be deleted.
    pub may_delete: bool,
}

/// What is known of an announced load by looking. Each look is to be older than the next.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// It may be looked at.
    pub may: bool,
    /// Which owed roles exist.
    pub roles: Option<BTreeMap<String, Origin>>,
    /// The versions of its branch; unreadable only where nothing is owed.
    pub versions: Option<Readable<Vec<BranchVersion>>>,
    /// What follows from both.
    pub found: Option<Resolution>,
    /// The absent ones were looked at once more.
    pub again: bool,
    /// Roles whose keys another object keeps.
    pub elsewhere: Option<BTreeSet<String>>,
}

/// What is known before a load, of what it may make. The roles are looked at before the version, or one that a stranger
/// makes in between would be taken for one of the operator's.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The roles that exist already.
    pub roles: Option<BTreeMap<String, Origin>>,
    /// The version of the branch, as far as it can be read.
    pub version: Option<Readable<i64>>,
    /// Keys may be put into the Secret.
    pub same_server: bool,
}

/// What is known of the inventory.
#[derive(Clone, Debug, Default)]
pub struct Inventoried {
    /// As it was before this run.
    pub before: Option<Inventory>,
    /// As it stands after the load, which takes its time: others write to Secrets meanwhile.
    pub after: Option<Inventory>,
    /// Records of the document that don't exist.
    pub absent: Option<Vec<Record>>,
    /// The version of the branch after that look.
    pub version: Option<i64>,
    /// When loads happened.
    pub times: Option<Vec<BranchVersion>>,
    /// The load is announced in it.
    pub announced: bool,
    /// What became of the load is written down, or of the refusal.
    pub resolved: bool,
}

/// This run's announcement.
#[derive(Clone, Debug)]
pub struct Announced {
    /// What was announced; in the Secret or in the status.
    pub announcement: Announcement,
    /// Of an earlier load whose outcome is not known.
    pub carried: Option<Announcement>,
    /// The roles stand in the status, too.
    pub said: bool,
}

/// What came of this run's load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is this version, and made these roles.
    Loaded(i64, BTreeSet<String>),
    /// It was refused.
    Refused {
        /// It is tried again soon.
        again: bool,
        /// The status says nothing of it any more.
        unsaid: bool,
        /// Nor does the Secret.
        withdrawn: bool,
    },
}

/// All that a decision depends on. What is none is not known, or not any more.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What is asked for.
    pub request: Request,
    /// Seconds since 1970, before each step anew.
    pub now: i64,
    /// The announcement in the Secret.
    pub pending: Option<Announcement>,
    /// The announcement in the status.
    pub said: Option<Said>,
    /// Full ids of the roles, of those that are known, made or owed, whose keys are in the Secret.
    pub stored: BTreeSet<String>,
    /// What was asked and answered with yes.
    pub checked: Checked,
    /// Of the announcement that is being resolved.
    pub looked: Looked,
    /// The versions of the branch, for the announcement in the status.
    pub said_versions: Option<Readable<Vec<BranchVersion>>>,
    /// Roles that the load may take away.
    pub may_go: Option<BTreeMap<String, Origin>>,
    /// Before the load.
    pub before: Before,
    /// What is known of the inventory.
    pub inventory: Inventoried,
    /// What this run announced.
    pub announced: Option<Announced>,
    /// What became of an earlier try can't be read.
    pub repeated: bool,
    /// What came of its load.
    pub answer: Option<Answer>,
    /// Roles whose keys are in hand and nowhere else.
    pub in_hand: BTreeSet<String>,
    /// The roles that the load took away.
    pub gone: Option<BTreeSet<String>>,
    /// Their keys are out of the Secret.
    pub dropped: bool,
    /// The status says that it is loaded, as this version.
    pub recorded: Option<(i64, Known)>,
    /// Roles whose keys this run stored.
    pub created: BTreeSet<String>,
    /// Roles that were announced at some time: what of them has no key in the end was not made by the operator.
    pub ever_owed: BTreeSet<String>,
    /// Those that an earlier look found to be perhaps the operator's.
    pub unclear: BTreeSet<String>,
}

impl View {
    /// A run for a request, of which nothing is known but what the Secret and the status say.
    pub fn new(request: Request, mut pending: Option<Announcement>, said: Option<Said>) -> Self {
        // What was announced on another server names roles of another account, and is told with them.
        if let Some(announced) = pending.as_mut().filter(|announced| announced.server == request.server) {
            announced.keep_to_its_branch(&request.account);
        }
        let ever_owed = pending.iter().flat_map(|announced| announced.owed.iter().cloned()).collect();
        Self { request, pending, said, ever_owed, ..Self::default() }
    }

    /// The announcement of this run's load of the document, of roles that don't exist at a version of the branch.
    pub fn announcement(&self, owed: BTreeSet<String>, version: i64) -> Announcement {
        let Request { document, inputs, server, branch, loader, .. } = self.request.clone();
        Announcement {
            documents: BTreeSet::from([document.clone()]),
            loaders: BTreeSet::from([loader]),
            at: if fault!(AnnouncedWithoutTheTime) { 0 } else { self.now },
            since: version,
            document,
            inputs,
            server,
            branch,
            version,
            owed,
        }
    }

    /// The announcement that is to be resolved by looking: an earlier run's, or after the answer what it left owed.
    pub fn to_resolve(&self) -> Option<&Announcement> {
        match (&self.announced, &self.answer) {
            (None, None) => self.pending.as_ref(),
            (Some(announced), Some(Answer::Loaded(..))) => {
                // Without an earlier load of unknown outcome, the answer named every role that was made.
                let resumed = announced.carried.is_some();
                self.pending.as_ref().filter(|pending| resumed && !pending.owed.is_empty())
            }
            _ => None,
        }
    }

    /// What is known of the announcement that is to be resolved; none before all of it was looked at.
    pub fn resolution(&self) -> Option<&Resolution> {
        self.to_resolve()?;
        self.looked.found.as_ref()
    }

    fn resolve(&mut self) {
        let (Some(roles), Some(versions)) = (&self.looked.roles, &self.looked.versions) else { return };
        let found = self.to_resolve().map(|announced| match versions {
            Readable::Yes(versions) => resolve(announced, roles, versions),
            Readable::No => Resolution::default(),
        });
        self.looked.found = found;
    }

    /// Whether another object is known to keep the key of a role.
    pub fn is_elsewhere(&self, role: &String) -> bool {
        self.looked.elsewhere.iter().any(|kept| kept.contains(role))
    }

    /// Roles that are perhaps the operator's: no one can tell any more.
    pub fn all_unclear(&self) -> BTreeSet<String> {
        let found = self.resolution().into_iter().flat_map(|found| &found.unclear);
        self.unclear.iter().chain(found).cloned().collect()
    }

    /// The version that an earlier run's load of the same document made, where it is known to have happened.
    fn happened(&self) -> Option<i64> {
        if let Some(pending) = &self.pending {
            return self.resolution().filter(|_| self.is_asked(pending))?.happened;
        }
        let said = self.said_of_this()?;
        let Some(Readable::Yes(versions)) = &self.said_versions else { return None };
        let mut announced = self.announcement(BTreeSet::new(), said.version?);
        // The connection may have got another login since.
        announced.loaders.extend(said.loader.clone());
        resolve(&announced, &BTreeMap::new(), versions).happened
    }

    /// Whether an earlier run announced the same load, and what became of it can't be read.
    fn is_unreadable(&self) -> bool {
        match &self.pending {
            Some(pending) => self.is_asked(pending) && matches!(self.looked.versions, Some(Readable::No)),
            None => self.said_of_this().is_some_and(|said| {
                said.version.is_none() || !matches!(self.said_versions, Some(Readable::Yes(_)))
            }),
        }
    }

    /// The announcement of an earlier load that may still happen, so that its roles stay owed.
    pub fn carried(&self) -> Option<Announcement> {
        let pending = self.pending.as_ref().filter(|_| self.happened().is_none() && !self.is_unreadable())?;
        let mut left = pending.clone();
        left.owed.retain(|role| !self.is_elsewhere(role));
        // The same load, tried twice, counts from the first, also where it owes nothing.
        (!left.owed.is_empty() || self.is_asked(pending)).then_some(left)
    }

    /// Whether an announcement is of the load that is asked for.
    fn is_asked(&self, pending: &Announcement) -> bool {
        let Request { document, inputs, server, branch, .. } = &self.request;
        (document, inputs, server, branch)
            == (&pending.document, &pending.inputs, &pending.server, &pending.branch)
    }

    /// The announcement in the status, where it is of the same load.
    pub fn said_of_this(&self) -> Option<&Said> {
        let same = |said: &&Said| {
            said.document == self.request.document
                && (said.inputs == self.request.inputs || fault!(SaidInputsDoNotCount))
        };
        self.said.as_ref().filter(same)
    }

    /// The version that holds the document, where it is known to be loaded.
    pub fn loaded(&self) -> Option<(i64, Known)> {
        if self.recorded.is_some() {
            return self.recorded;
        }
        match (&self.announced, &self.answer) {
            (_, Some(Answer::Loaded(version, _))) => {
                Some((*version, if self.repeated { Known::Again } else { Known::Answered }))
            }
            (None, None) => self.happened().map(|version| (version, Known::Found)),
            _ => None,
        }
    }

    /// The entry of the inventory for a load of the document that is made after a version of the branch.
    pub fn entry(&self, since: i64) -> InventoriedLoad {
        let Request { document, server, branch, loader, .. } = self.request.clone();
        InventoriedLoad {
            server,
            branch,
            document,
            loader,
            since,
            times: None,
            unlisted: false,
            absent: BTreeMap::new(),
        }
    }

    /// The known roles that were made by the operator, so that their keys must be there.
    pub fn still_ours(&self) -> BTreeSet<String> {
        let unclear = self.all_unclear();
        let mut known = self.request.known.clone();
        known.retain(|role| {
            !self.gone.iter().any(|gone| gone.contains(role))
                && (self.stored.contains(role) || !self.ever_owed.contains(role) || unclear.contains(role))
        });
        known
    }

    /// Takes the answer to a question.
    pub fn learned(&mut self, question: &Question, fact: Fact) {
        match (question, fact) {
            (Question::Ownership, _) => self.checked.owned = true,
            (Question::Room(_), _) => self.checked.room = true,
            (Question::MayResolve(_), _) => self.looked.may = true,
            (Question::OwedRoles(_), Fact::Roles(roles)) => {
                self.looked.roles = Some(roles);
                self.resolve();
            }
            (Question::OwedVersions(_), Fact::Versions(versions)) => {
                self.looked.versions = Some(versions.into());
                self.resolve();
            }
            (Question::OwedRolesAgain(_), Fact::Roles(roles)) => {
                self.looked.roles.get_or_insert_default().extend(roles);
                self.looked.again = true;
                self.resolve();
            }
            (Question::KeptElsewhere(..), Fact::Ids(roles)) => self.looked.elsewhere = Some(roles),
            (Question::SaidVersions, Fact::Versions(versions)) => self.said_versions = Some(versions.into()),
            (Question::Deletions, _) => self.checked.may_delete = true,
            (Question::RolesThatMayGo, Fact::Roles(roles)) => self.may_go = Some(roles),
            (Question::Inventory { before: true }, Fact::Inventory(inventory)) => {
                self.inventory.before = Some(inventory);
            }
            (Question::Inventory { before: false }, Fact::Inventory(inventory)) => {
                self.inventory.after = Some(inventory);
            }
            (Question::AbsentRecords, Fact::Records(records)) => self.inventory.absent = Some(records),
            (Question::InventoryVersion, Fact::Versions(versions)) => {
                self.inventory.version = versions.map(|versions| newest(&versions));
            }
            (Question::Roles, Fact::Roles(roles)) => self.before.roles = Some(roles),
            (Question::Version | Question::VersionIfReadable, Fact::Versions(versions)) => {
                self.before.version = Some(versions.map(|versions| newest(&versions)).into());
            }
            (Question::SameServer, _) => self.before.same_server = true,
            (Question::RolesGone(_), Fact::Ids(roles)) => self.gone = Some(roles),
            (Question::LoadTimes, Fact::Versions(versions)) => self.inventory.times = versions,
            (question, fact) => debug_assert!(false, "{fact:?} is no answer to {question:?}"),
        }
    }

    /// Takes note of an effect, and forgets what it may have changed.
    pub fn done(&mut self, effect: &Effect, performed: Performed) {
        match effect {
            Effect::Inventory(_) => {
                let is_over = self.answer.is_some() || self.loaded().is_some();
                self.inventory.resolved |= is_over;
                self.inventory.announced |= !is_over;
            }
            Effect::Announce(announcement) => {
                self.ever_owed.extend(announcement.owed.iter().cloned());
                let carried = self.carried();
                let said = announcement.owed.is_empty() && self.request.known.is_empty();
                self.unclear = self.all_unclear();
                self.repeated = self.is_unreadable();
                self.pending = Some(announcement.clone());
                self.announced = Some(Announced { announcement: announcement.clone(), carried, said });
                self.looked = Looked::default();
            }
            Effect::Say(said) => {
                let announcement = self.announcement(BTreeSet::new(), said.version.unwrap_or(0));
                self.repeated = self.is_unreadable();
                self.announced = Some(Announced { announcement, carried: None, said: true });
            }
            Effect::SayRoles(_) => self.announced.iter_mut().for_each(|announced| announced.said = true),
            Effect::Load => match performed {
                Performed::Loaded { version, roles } => {
                    self.in_hand.clone_from(&roles);
                    self.answer = Some(Answer::Loaded(version, roles));
                }
                Performed::Refused { again } => {
                    self.answer = Some(Answer::Refused { again, unsaid: false, withdrawn: false });
                }
                // Nothing is known of it, and what is announced stays.
                Performed::Done => debug_assert!(false, "a load has an answer"),
            },
            Effect::Rotate(role) => _ = self.in_hand.insert(role.clone()),
            Effect::Store(announcement) => {
                let keys = std::mem::take(&mut self.in_hand);
                self.stored.extend(keys.iter().cloned());
                self.created.extend(keys);
                if let Some(found) = &mut self.looked.found {
                    found.rotate.retain(|role| announcement.owed.contains(role));
                }
                self.pending = Some(announcement.clone());
            }
            Effect::DropKeys(roles) => {
                self.stored.retain(|role| !roles.contains(role));
                self.dropped = true;
            }
            Effect::Record { .. } => self.recorded = self.loaded(),
            Effect::Clear => (self.pending, self.looked) = (None, Looked::default()),
            Effect::Unsay(_) => {
                if let Some(Answer::Refused { unsaid, .. }) = &mut self.answer {
                    *unsaid = true;
                }
            }
            Effect::Withdraw(earlier) => {
                self.pending.clone_from(earlier);
                if let Some(Answer::Refused { withdrawn, .. }) = &mut self.answer {
                    *withdrawn = true;
                }
            }
        }
    }
}

//! Conjur and the API server, as far as a load sees them: time passes at each call, others act, and a load goes on in the
//! server when its caller is dead.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::plan::{
    effect::{
        announcement::Announcement,
        evidence::{BranchVersion, Origin},
        inventory::Inventory,
        step::{Effect, Fact, Performed, Question, Request, Said},
        view::View,
    },
    policy::document::{Record, RecordKind},
};

/// The role that the operator loads as.
pub const LOADER: &str = "d:host:ops";
/// Another.
pub const ADMIN: &str = "d:user:admin";

/// A document that is asked to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Document {
    pub sha: &'static str,
    pub branch: &'static str,
    /// Names of the hosts that it makes.
    pub hosts: &'static [&'static str],
    /// Hosts that it makes, and that are not read out of it.
    pub unread: &'static [&'static str],
    /// Names of the variables that it makes.
    pub variables: &'static [&'static str],
    /// What the branch made and the document leaves out is deleted.
    pub replaces: bool,
    /// Conjur refuses it.
    pub invalid: bool,
}

impl Document {
    /// Full ids of the hosts that it makes, and that are not read out of it.
    pub fn unread(&self) -> BTreeSet<String> {
        self.unread.iter().map(|name| format!("d:host:{}/{name}", self.branch)).collect()
    }

    fn records(&self) -> Vec<Record> {
        let of = |kind: &'static str, names: &[&str]| -> Vec<Record> {
            let record = |name: &&str| Record {
                id: format!("d:{kind}:{}/{name}", self.branch),
                kind: RecordKind::from(kind),
                path: (*name).to_owned(),
            };
            names.iter().map(record).collect()
        };
        let mut all = of("host", self.hosts);
        all.extend(of("variable", self.variables));
        all
    }

    fn makes(&self) -> BTreeSet<String> {
        self.hosts.iter().map(|name| format!("d:host:{}/{name}", self.branch)).collect()
    }

    pub fn inputs(&self) -> String {
        format!("{} {}", self.branch, self.replaces)
    }

    /// Whether a load of the other does the same.
    pub fn inputs_are(&self, other: &Self) -> bool {
        self.inputs() == other.inputs()
    }
}

/// Who made a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The object that is looked at.
    Us,
    /// Another object of the same operator.
    Twin,
    /// Another.
    Stranger,
    /// Someone who loads with the operator's identity.
    Namesake,
}

#[derive(Clone, Debug)]
pub struct Made {
    pub origin: Origin,
    /// Its key: another after each rotation.
    pub key: u32,
    /// The key that it was made with.
    pub first: u32,
    pub by: By,
}

/// What another does at some time.
#[derive(Clone, Copy, Debug)]
pub struct Other {
    /// After so many calls.
    pub after: u32,
    /// Another object of the operator, or a stranger.
    pub by: By,
    /// What it loads.
    pub document: Document,
}

/// All that there is outside of the process.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Seconds, and the time of each transaction.
    pub now: i64,
    pub versions: BTreeMap<&'static str, Vec<BranchVersion>>,
    /// What the newest load of the operator did in a branch: the document, and how.
    pub newest: BTreeMap<&'static str, (&'static str, String)>,
    /// Conjur lists so many versions of a branch; the identity may read none where that is 0.
    pub listed: usize,
    pub records: BTreeMap<String, Made>,
    /// A load whose caller is dead, and after how many calls it commits.
    pub flying: Option<(Document, u32)>,
    pub others: Vec<Other>,
    /// A load committed after another one was announced that does something else.
    pub late: bool,
    /// A run is under way.
    pub runs: bool,
    /// The announcement and the keys in the Secret.
    pub pending: Option<Announcement>,
    pub keys: BTreeMap<String, u32>,
    /// The status.
    pub said: Option<Said>,
    pub loaded: Option<(&'static str, String)>,
    pub roles: BTreeSet<String>,
    pub inventory: Inventory,
    pub keeps_inventory: bool,
    /// The Secret of the other object.
    pub twin: BTreeMap<String, u32>,
    /// What went wrong on the way.
    pub wrong: Option<String>,
    /// How often each document was loaded for this object.
    pub loads: BTreeMap<&'static str, u32>,
    pub last_key: u32,
    /// A call takes so many seconds.
    pub seconds: i64,
}

impl World {
    /// A host that was there before.
    pub fn commit_before(&mut self, branch: &'static str) {
        self.commit(&Document { hosts: &["old"], ..unrelated(branch) }, By::Stranger);
    }

    /// A load that has nothing to do with it.
    pub fn commit_unrelated(&mut self, branch: &'static str) {
        self.commit(&unrelated(branch), By::Stranger);
    }

    fn commit(&mut self, document: &Document, by: By) -> BTreeMap<String, u32> {
        self.now += 1;
        let at = format!("t{:06}", self.now);
        let versions = self.versions.entry(document.branch).or_default();
        versions.push(BranchVersion {
            version: i64::try_from(versions.len()).unwrap() + 1,
            sha256: document.sha.into(),
            role: if by == By::Stranger { ADMIN } else { LOADER }.into(),
            created_at: at.clone(),
            finished_at: Some(at.clone()),
        });
        if by != By::Stranger {
            self.newest.insert(document.branch, (document.sha, document.inputs()));
        }
        if by == By::Us {
            *self.loads.entry(document.sha).or_default() += 1;
        }
        let policy = format!("d:policy:{}", document.branch);
        let mut records = document.records();
        records.extend(Document { hosts: document.unread, variables: &[], ..*document }.records());
        if document.replaces {
            self.records.retain(|id, made| {
                made.origin.policy.as_ref() != Some(&policy) || records.iter().any(|record| record.id == *id)
            });
        }
        let origin = Origin { created_at: at, policy: Some(policy) };
        let mut keys = BTreeMap::new();
        for record in records {
            let is_host = record.id.starts_with("d:host:");
            if let Entry::Vacant(new) = self.records.entry(record.id) {
                self.last_key += 1;
                let key = self.last_key;
                keys.extend(is_host.then(|| (new.key().clone(), key)));
                new.insert(Made { origin: origin.clone(), key, first: key, by });
            }
        }
        keys
    }

    /// Time passes: others act.
    pub fn tick(&mut self) {
        self.now += self.seconds;
        if let Some((document, left)) = self.flying {
            self.flying = if left == 0 { None } else { Some((document, left - 1)) };
            if left == 0 {
                let announced = self.pending.iter().map(|pending| &pending.inputs);
                let said = self.said.iter().map(|said| &said.inputs);
                self.late |= announced.chain(said).any(|inputs| *inputs != document.inputs());
                self.commit(&document, By::Us);
            }
        }
        let others = std::mem::take(&mut self.others);
        for mut other in others {
            // Conjur takes one load of a branch at a time; and so does the operator, over all its objects.
            let busy = self.flying.is_some_and(|(document, _)| document.branch == other.document.branch);
            if other.after > 0 || busy || self.runs && other.by != By::Stranger {
                other.after = other.after.saturating_sub(1);
                self.others.push(other);
            } else {
                let keys = self.commit(&other.document, other.by);
                if other.by == By::Twin {
                    self.twin.extend(keys);
                }
            }
        }
    }

    fn there<'r>(&self, roles: impl IntoIterator<Item = &'r String>) -> BTreeMap<String, Origin> {
        let seen = |id: &String| Some((id.clone(), self.records.get(id)?.origin.clone()));
        roles.into_iter().filter_map(seen).collect()
    }

    fn versions_of(&self, branch: &str) -> Option<Vec<BranchVersion>> {
        let all = self.versions.get(branch).map(Vec::as_slice).unwrap_or_default();
        (self.listed > 0).then(|| all[all.len().saturating_sub(self.listed)..].to_vec())
    }

    /// What a run begins with.
    pub fn view(&self, document: &Document) -> View {
        let request = Request {
            document: document.sha.into(),
            inputs: document.inputs(),
            server: "s".into(),
            account: "d".into(),
            branch: document.branch.into(),
            loader: LOADER.into(),
            makes: document.makes(),
            known: self.roles.clone(),
            needs_permission: document.replaces,
            inventoried: self.keeps_inventory,
        };
        let mut view = View::new(request, self.pending.clone(), self.said.clone());
        view.stored = self.keys.keys().cloned().collect();
        view
    }

    pub fn is_settled(&self, document: &Document) -> bool {
        self.loaded == Some((document.sha, document.inputs()))
            && self.pending.is_none()
            && self.said.is_none()
    }

    pub fn learn(&mut self, question: &Question, document: &Document) -> Fact {
        self.tick();
        match question {
            Question::Ownership
            | Question::Room(_)
            | Question::MayResolve(_)
            | Question::Deletions
            | Question::SameServer => Fact::Yes,
            Question::OwedRoles(roles) | Question::OwedRolesAgain(roles) => Fact::Roles(self.there(roles)),
            Question::OwedVersions(branch) => Fact::Versions(self.versions_of(branch)),
            Question::KeptElsewhere(roles, _) => {
                Fact::Ids(roles.iter().filter(|role| self.twin.contains_key(*role)).cloned().collect())
            }
            Question::SaidVersions
            | Question::VersionIfReadable
            | Question::InventoryVersion
            | Question::Version
            | Question::LoadTimes => Fact::Versions(self.versions_of(document.branch)),
            Question::RolesThatMayGo => {
                let makes = document.makes();
                let stored = self.keys.keys().filter(|role| document.replaces && !makes.contains(*role));
                Fact::Roles(self.there(stored))
            }
            Question::Inventory { .. } => Fact::Inventory(self.inventory.clone()),
            Question::AbsentRecords => {
                let records = document.records().into_iter();
                Fact::Records(records.filter(|record| !self.records.contains_key(&record.id)).collect())
            }
            Question::Roles => Fact::Roles(self.there(&document.makes())),
            Question::RolesGone(before) => {
                Fact::Ids(before.keys().filter(|role| !self.records.contains_key(*role)).cloned().collect())
            }
        }
    }

    /// A load that does something else committed after the look at the version, and before this announcement.
    fn note_late(&mut self, document: &Document, since: i64) {
        let newest = self.versions.get(document.branch).and_then(|all| all.last());
        let other = self.newest.get(document.branch).is_some_and(|(_, inputs)| *inputs != document.inputs());
        self.late |= other && newest.is_some_and(|newest| newest.version > since);
    }

    /// `hand`: keys that are nowhere else, in the memory of the process.
    pub fn perform(
        &mut self,
        effect: &Effect,
        document: &Document,
        hand: &mut BTreeMap<String, u32>,
    ) -> Performed {
        self.tick();
        match effect {
            Effect::Inventory(inventory) => self.inventory = inventory.clone(),
            Effect::Announce(announced) => {
                self.note_late(document, announced.since);
                self.pending = Some(announced.clone());
            }
            Effect::Say(said) => {
                self.note_late(document, said.version.unwrap_or_default());
                self.said = Some(said.clone());
            }
            Effect::SayRoles(roles) => self.roles.clone_from(roles),
            Effect::Load => {
                let busy = self.flying.is_some_and(|(flying, _)| flying.branch == document.branch);
                if busy || document.invalid {
                    return Performed::Refused { again: busy };
                }
                *hand = self.commit(document, By::Us);
                let version = self.versions[document.branch].last().unwrap().version;
                return Performed::Loaded { version, roles: hand.keys().cloned().collect() };
            }
            Effect::Rotate(role) => {
                if let Some(made) = self.records.get_mut(role) {
                    if self.keys.get(role) == Some(&made.key) {
                        self.wrong = Some(format!("the key of {role}, which is in the Secret, was rotated"));
                    }
                    self.last_key += 1;
                    made.key = self.last_key;
                    hand.insert(role.clone(), made.key);
                }
            }
            Effect::Store(left) => {
                self.keys.append(hand);
                self.pending = Some(left.clone());
            }
            Effect::DropKeys(roles) => self.keys.retain(|role, _| !roles.contains(role)),
            Effect::Record { roles, .. } => {
                (self.loaded, self.said) = (Some((document.sha, document.inputs())), None);
                self.roles.clone_from(roles);
            }
            Effect::Clear => self.pending = None,
            Effect::Unsay(roles) => {
                self.said = None;
                self.roles.clone_from(roles);
            }
            Effect::Withdraw(earlier) => self.pending.clone_from(earlier),
        }
        Performed::Done
    }
}

fn unrelated(branch: &'static str) -> Document {
    Document {
        sha: "unrelated",
        branch,
        hosts: &[],
        unread: &[],
        variables: &[],
        replaces: false,
        invalid: false,
    }
}

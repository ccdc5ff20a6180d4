//! A policy document is loaded into a branch, for whatever kind asks for it, so that no API key is lost and no stranger's key
//! is rotated ([`crate::plan::effect`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Subject,
    branch_locks::{Loader, Turn},
    evidence,
    in_flight::Begun,
    inventory::Kept,
    keys::{KeySecret, login_of, role_id},
    perform,
    run::{Performer, run},
};
use crate::{
    api::Reason,
    conjur::{Error, LoadError, LoadMode, Loaded, Ownership, PolicyBranch, RoleId},
    controllers::{Context, connection::pool::ReadyConnection},
    plan::{
        Class, Failure,
        effect::{
            announcement::Announcement,
            evidence::{BranchVersion, Origin},
            inventory::Inventory,
            step::{Effect, Fact, Known, Performed, Question, Request, Said, Verdict},
            view::{Answer, View},
        },
        policy::{document::Document, removed_roles::went},
    },
    sensitive::Sensitive,
};

/// The object that a load is made for: what only its kind knows, and may say of it.
pub trait Caller: Send + Sync {
    /// Refuses a branch that the connection does not let the object load.
    ///
    /// # Errors
    /// `AccessDenied`.
    fn check_access_to(&self, branch: &str) -> Result<(), Failure>;

    /// Whether the object may learn if a role (its full id) is there.
    fn may_tell_of(&self, role: &str) -> bool;

    /// Whether the object loaded its branch on this server before.
    fn has_loaded(&self) -> bool;

    /// A branch, as the operator loads it.
    fn loader(&self, branch: &PolicyBranch) -> Loader;

    /// Why it matters that the identity does not own a branch.
    fn not_owned(&self, branch: &PolicyBranch, is: Ownership) -> impl Future<Output = Failure> + Send;

    /// Takes note that the identity is not to the branch what it should be.
    fn lacks(&self, branch: &PolicyBranch) -> impl Future<Output = ()> + Send;

    /// What Conjur's refusal of the document means.
    fn refused(&self, error: Error) -> impl Future<Output = Failure> + Send;

    /// The server failed at the document, and nothing of it is to be seen; `roles` are those whose keys must be there.
    fn failed_at_document(
        &mut self,
        error: Error,
        roles: &BTreeSet<String>,
    ) -> impl Future<Output = Failure> + Send;

    /// Refuses what the load would delete, where that needs a permission.
    ///
    /// # Errors
    /// `DeletionsNotAllowed`.
    fn may_delete(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Of which of the roles another object keeps the key, that made them after a version of the branch: it loaded the very
    /// same document as the same identity, so that its load looks like this one's.
    fn kept_elsewhere(
        &self,
        roles: &BTreeSet<String>,
        after: i64,
    ) -> impl Future<Output = Result<BTreeSet<String>, Failure>> + Send;

    /// Writes into the status what is said of the load.
    ///
    /// # Errors
    /// The API server's.
    fn write(&mut self, entry: Entry<'_>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Waits for the load, and says so where it takes long.
    fn wait<T: Send>(
        &mut self,
        load: impl Future<Output = T> + Send,
        message: &str,
    ) -> impl Future<Output = T> + Send;

    /// Tells, in an Event, that the key of a role was rotated.
    fn tell_rotated(&self, role: &str);
}

/// What is written into the status of the object.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// The announcement of a load that makes no roles.
    Said(&'a Said),
    /// The roles whose keys must be there, or are about to be made.
    Roles(&'a BTreeSet<String>),
    /// The load was refused: no announcement, and these roles.
    Unsaid(&'a BTreeSet<String>),
    /// The document is loaded as this version: no announcement, and these roles.
    Loaded(i64, &'a BTreeSet<String>),
}

/// What is to be loaded, and where.
pub struct Asked<'a> {
    /// For which object, on which server.
    pub subject: Subject<'a>,
    /// The connection.
    pub through: &'a ReadyConnection,
    /// The branch.
    pub branch: &'a PolicyBranch,
    /// How.
    pub mode: LoadMode,
    /// The document's text.
    pub text: &'a [u8],
    /// Hex SHA-256 of it.
    pub hash: &'a str,
    /// What it makes.
    pub document: &'a Document,
    /// A hash over server, branch and mode: what a load is good for.
    pub inputs: &'a str,
    /// Roles (full ids) that earlier loads of the object made, or were about to make.
    pub known: BTreeSet<String>,
    /// The load may take roles away that it does not name.
    pub takes_roles: bool,
    /// It may delete what can't be had again, which needs a permission.
    pub needs_permission: bool,
    /// An inventory is kept of what it makes.
    pub inventoried: bool,
    /// The announcement in the status.
    pub said: Option<Said>,
}

/// Loads a document, or finds out that an announced load of it happened: the version that holds it, and how that is known.
/// `_turn`: the caller has the branch's.
///
/// # Errors
/// Any that keeps the document from being loaded. An announcement stays as long as the outcome is not known.
pub async fn load<C: Caller>(
    asked: Asked<'_>,
    keys: &mut KeySecret,
    caller: &mut C,
    _turn: &Turn,
    ctx: &Context,
) -> Result<(i64, Known), Failure> {
    let our_role = RoleId::from_login(&asked.through.account, &asked.through.identity);
    let request = Request {
        document: asked.hash.to_owned(),
        inputs: asked.inputs.to_owned(),
        server: asked.subject.server.to_owned(),
        account: asked.through.account.to_string(),
        branch: asked.branch.as_str().to_owned(),
        loader: our_role.map(|role| role.to_string()).unwrap_or_default(),
        makes: asked.document.roles.iter().map(|role| role.id.clone()).collect(),
        known: asked.known.clone(),
        needs_permission: asked.needs_permission,
        inventoried: asked.inventoried,
    };
    let mut view = View::new(request, keys.announcement().cloned(), asked.said.clone());
    let roles = view.request.known.iter().chain(&view.request.makes).chain(&view.ever_owed);
    view.stored = roles.filter(|role| keys.has_key(role)).cloned().collect();
    let mut load = Load {
        asked,
        keys,
        caller,
        ctx,
        hand: BTreeMap::new(),
        rotated: BTreeSet::new(),
        refused: None,
        also_there: None,
        inventory: None,
        begun: None,
    };
    match Box::pin(run(view, &mut load)).await? {
        Verdict::Loaded { version, how } => Ok((version, how)),
        Verdict::Refused => {
            let lost =
                || Failure::transient(Reason::ConjurUnavailable, "the load was refused, without a reason");
            Err(load.refused.take().unwrap_or_else(lost))
        }
        Verdict::Wait { branch, seconds } => {
            let message = format!(
                "a load into branch {branch} was announced before spec.branch was changed, and may still be under way in Conjur; \
                 this object continues in {seconds} s"
            );
            Err(Failure::waiting(Reason::LoadInProgress, Duration::from_secs(seconds), message))
        }
    }
}

struct Load<'a, C> {
    asked: Asked<'a>,
    keys: &'a mut KeySecret,
    caller: &'a mut C,
    ctx: &'a Context,
    /// Keys that are nowhere else.
    hand: BTreeMap<String, Sensitive<String>>,
    /// Roles in hand whose keys were rotated.
    rotated: BTreeSet<String>,
    /// Why the document was refused.
    refused: Option<Failure>,
    /// The turn in the branch that an earlier run announced a load into.
    also_there: Option<Turn>,
    inventory: Option<Kept>,
    /// From its first effect on.
    begun: Option<Begun>,
}

impl<C: Caller> Performer for Load<'_, C> {
    fn now(&self) -> i64 {
        Timestamp::now().as_second()
    }

    async fn learn(&mut self, question: &Question, view: &View) -> Result<Fact, Failure> {
        let (through, ctx) = (self.asked.through, self.ctx);
        if !question.keeps_the_earlier_branch() {
            self.also_there = None;
        }
        Ok(match question {
            Question::Ownership => self.require_ownership(self.asked.branch).await.map(|()| Fact::Yes)?,
            Question::Room(all) => {
                self.keys.check_room(self.asked.subject, all.clone()).map(|()| Fact::Yes)?
            }
            Question::MayResolve(announced) => self.may_resolve(announced).await.map(|()| Fact::Yes)?,
            Question::OwedRoles(roles) => Fact::Roles(evidence::existing(roles, through, ctx).await?),
            Question::OwedVersions(branch) => {
                let branch = announced_branch(branch)?;
                // Where keys are owed, the branch is owned, and its versions can be read.
                if is_nothing_owed(view) {
                    return self.versions_if_readable(&branch).await.map(Fact::Versions);
                }
                match evidence::versions(through, &branch).await {
                    Ok(versions) => Fact::Versions(Some(versions)),
                    Err(Error::NotFound { .. }) => {
                        return Err(self.caller.not_owned(&branch, Ownership::NoBranch).await);
                    }
                    Err(Error::Forbidden { .. }) => {
                        return Err(self.caller.not_owned(&branch, Ownership::NotOwner).await);
                    }
                    Err(error) => return Err(self.failed(error)),
                }
            }
            Question::OwedRolesAgain(roles) => Fact::Roles(evidence::each(roles, through, ctx).await?),
            Question::KeptElsewhere(roles, after) => {
                Fact::Ids(self.caller.kept_elsewhere(roles, *after).await?)
            }
            Question::SaidVersions | Question::VersionIfReadable => {
                Fact::Versions(self.versions_if_readable(self.asked.branch).await?)
            }
            Question::Version | Question::LoadTimes => {
                let versions = evidence::versions(through, self.asked.branch).await;
                Fact::Versions(Some(versions.map_err(|e| self.failed(e))?))
            }
            Question::InventoryVersion => match evidence::versions(through, self.asked.branch).await {
                Ok(versions) => Fact::Versions(Some(versions)),
                Err(Error::NotFound { .. }) => {
                    return Err(self.caller.not_owned(self.asked.branch, Ownership::NoBranch).await);
                }
                Err(error) => return Err(self.failed(error)),
            },
            Question::Deletions => self.caller.may_delete().await.map(|()| Fact::Yes)?,
            Question::RolesThatMayGo => Fact::Roles(self.roles_that_may_go(view).await?),
            Question::Inventory { before } => Fact::Inventory(self.read_inventory(*before).await?),
            Question::AbsentRecords => {
                let records = &self.asked.document.records;
                let ids = records.iter().map(|record| record.id.clone()).collect();
                let there = evidence::existing(&ids, through, ctx).await?;
                Fact::Records(records.iter().filter(|r| !there.contains_key(&r.id)).cloned().collect())
            }
            Question::Roles => Fact::Roles(evidence::existing(&view.request.makes, through, ctx).await?),
            Question::SameServer => {
                let (caller, loaded) = (&*self.caller, self.caller.has_loaded());
                let may_tell_of = |role: &str| caller.may_tell_of(role);
                self.keys.refuse_to_mix(self.asked.subject, loaded, may_tell_of, through, ctx).await?;
                Fact::Yes
            }
            Question::RolesGone(before) => Fact::Ids(self.roles_gone(before).await?),
        })
    }

    async fn perform(&mut self, effect: &Effect, view: &View) -> Result<Performed, Failure> {
        let (subject, ctx) = (self.asked.subject, self.ctx);
        if self.begun.is_none() {
            self.begun = Some(ctx.in_flight.begin()?);
        }
        let no_keys = BTreeMap::new();
        if !matches!(effect, Effect::Rotate(_) | Effect::Store(_)) {
            // What was announced elsewhere is resolved.
            self.also_there = None;
        }
        match effect {
            Effect::Inventory(inventory) => {
                if let Some(kept) = &mut self.inventory {
                    kept.write(inventory.clone(), subject.owner, ctx).await?;
                }
            }
            Effect::Announce(announced) => {
                self.keys.write(subject, Some(announced.clone()), &no_keys, ctx).await?;
            }
            Effect::Say(said) => self.caller.write(Entry::Said(said)).await?,
            Effect::SayRoles(roles) => self.caller.write(Entry::Roles(roles)).await?,
            Effect::Load => return self.send(view).await,
            Effect::Rotate(role) => {
                let key = perform::rotate(&role_id(role)?, self.asked.through, ctx).await?;
                self.hand.insert(role.clone(), key);
                self.rotated.insert(role.clone());
            }
            Effect::Store(left) => {
                self.keys.name_if_unnamed(subject);
                self.keys.write(subject, Some(left.clone()), &self.hand, ctx).await?;
                self.hand.clear();
                for role in std::mem::take(&mut self.rotated) {
                    self.caller.tell_rotated(&role);
                }
            }
            Effect::DropKeys(roles) => self.keys.drop_keys(roles, subject, ctx).await?,
            Effect::Record { version, roles } => self.caller.write(Entry::Loaded(*version, roles)).await?,
            Effect::Clear => self.keys.write(subject, None, &no_keys, ctx).await?,
            Effect::Unsay(roles) => self.caller.write(Entry::Unsaid(roles)).await?,
            Effect::Withdraw(earlier) => {
                let again = matches!(view.answer, Some(Answer::Refused { again: true, .. }));
                self.keys.withdraw(subject, earlier.clone(), again, ctx).await?;
            }
        }
        Ok(Performed::Done)
    }
}

impl<C: Caller> Load<'_, C> {
    fn failed(&self, error: Error) -> Failure {
        self.ctx.clients.failure(self.asked.through, error)
    }

    async fn ownership(&self, branch: &PolicyBranch) -> Result<Ownership, Failure> {
        self.asked.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))
    }

    /// The versions of a branch; none where the identity may not read them: who may load a branch may still not.
    async fn versions_if_readable(
        &self,
        branch: &PolicyBranch,
    ) -> Result<Option<Vec<BranchVersion>>, Failure> {
        match evidence::versions(self.asked.through, branch).await {
            Ok(versions) => Ok(Some(versions)),
            Err(Error::NotFound { .. } | Error::Forbidden { .. }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn require_ownership(&self, branch: &PolicyBranch) -> Result<(), Failure> {
        match self.ownership(branch).await? {
            Ownership::Owner => Ok(()),
            is => Err(self.caller.not_owned(branch, is).await),
        }
    }

    /// The announcement lies where everybody can write who may write Secrets of the namespace, so it is believed only where
    /// it grants nothing: its branch has to be granted as that of the spec has to be, and a key is owed only for what lies in
    /// that branch. Who may load a branch may take the keys of its roles anyway, by making them anew.
    async fn may_resolve(&mut self, announced: &Announcement) -> Result<(), Failure> {
        if announced.server != self.asked.subject.server {
            return Err(unresolved(announced, "on another server or account"));
        }
        let branch = announced_branch(&announced.branch)?;
        self.caller.check_access_to(&announced.branch).map_err(|failure| Failure {
            message: format!(
                "pending.json in the createdRoles Secret announces a load into branch {}: {}. To give up \
                 the API keys that it lists as owed, remove that key from the Secret",
                announced.branch, failure.message
            ),
            ..failure
        })?;
        // The branch of this load is already held; a second one is not waited for.
        if branch != *self.asked.branch && self.also_there.is_none() {
            let taken = || {
                let message = format!("another object is being loaded into branch {branch}");
                Failure::waiting(Reason::LoadInProgress, Duration::from_secs(1), message)
            };
            let turn = self.ctx.branches.turns.try_take(&self.caller.loader(&branch));
            self.also_there = Some(turn.ok_or_else(taken)?);
        }
        if announced.owed.is_empty() {
            return Ok(());
        }
        // To others its roles look absent, whether they are or not.
        self.require_ownership(&branch).await.map_err(|failure| match failure.reason {
            Reason::BranchNotFound | Reason::NotBranchOwner if branch != *self.asked.branch => {
                unresolved(announced, "into a branch that the identity does not own now")
            }
            _ => failure,
        })
    }

    /// Before a load that may take roles away: those of the object's whose keys are stored, that the document does not name,
    /// and that the identity sees as an owner of the branch.
    async fn roles_that_may_go(&self, view: &View) -> Result<BTreeMap<String, Origin>, Failure> {
        let Request { known, makes, .. } = &view.request;
        let stored = self.keys.stored_here(self.asked.subject, &known.difference(makes).cloned().collect());
        let branch = self.asked.branch;
        if !self.asked.takes_roles || stored.is_empty() || self.ownership(branch).await? != Ownership::Owner {
            return Ok(BTreeMap::new());
        }
        evidence::existing(&stored, self.asked.through, self.ctx).await
    }

    /// After it: those that went with it. What is merely invisible is not gone, so that only an owner's look counts.
    async fn roles_gone(&self, before: &BTreeMap<String, Origin>) -> Result<BTreeSet<String>, Failure> {
        let (through, branch) = (self.asked.through, self.asked.branch);
        let after = evidence::each(&before.keys().cloned().collect(), through, self.ctx).await?;
        let gone = went(before, &after, &format!("{}:policy:{branch}", through.account));
        let is_seen = gone.is_empty() || self.ownership(branch).await? == Ownership::Owner;
        Ok(if is_seen { gone } else { BTreeSet::new() })
    }

    /// Before the load only where the identity sees what exists: what it does not see would be taken for what the load made.
    async fn read_inventory(&mut self, before: bool) -> Result<Inventory, Failure> {
        let branch = self.asked.branch;
        if before {
            match self.ownership(branch).await? {
                Ownership::Owner => {}
                // Before anything is sent: the branch may be made in between, and nothing would be written down.
                Ownership::NoBranch => return Err(self.caller.not_owned(branch, Ownership::NoBranch).await),
                Ownership::NotOwner => {
                    self.caller.lacks(branch).await;
                    let message = format!(
                        "deletionPolicy: Delete needs an identity that owns branch {branch}, for only its owner sees what \
                         existed before a load, and {} doesn't. Grant it the role that owns the branch, or set \
                         deletionPolicy: Retain",
                        self.asked.through.identity
                    );
                    return Err(Failure::stalled(Reason::NotBranchOwner, message));
                }
            }
        }
        let kept = Kept::read(self.asked.subject.owner, self.ctx).await?;
        Ok(self.inventory.insert(kept).inventory.clone())
    }

    /// Sends the document.
    async fn send(&mut self, view: &View) -> Result<Performed, Failure> {
        let Asked { through, branch, mode, text, .. } = self.asked;
        let message = format!(
            "loading {} bytes with {} records into branch {branch}, since {}",
            text.len(),
            self.asked.document.records.len(),
            Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
        );
        match self.caller.wait(perform::load(through, branch, mode, text, self.ctx), &message).await {
            Ok(Loaded { version, created_roles, .. }) => {
                let keys = created_roles.into_iter().map(|(role, key)| (role.to_string(), key));
                self.hand = keys.collect();
                let roles = self.hand.keys().cloned().collect();
                Ok(Performed::Loaded { version: i64::try_from(version).unwrap_or(i64::MAX), roles })
            }
            Err(LoadError::Refused(error)) => {
                let failure = self.refused.insert(self.caller.refused(error).await);
                // What a person must mend first is not tried again soon.
                Ok(Performed::Refused { again: failure.class != Class::Stalled })
            }
            Err(LoadError::Unknown(error)) => Err(self.unknown(error, view).await),
        }
    }

    /// No one knows what became of the load: the announcement stays, and the next run finds out.
    async fn unknown(&mut self, error: Error, view: &View) -> Failure {
        if matches!(error, Error::Unexpected { status: Some(500..), .. }) {
            let happened = match evidence::versions(self.asked.through, self.asked.branch).await {
                Ok(versions) => {
                    let announced = view.announced.as_ref();
                    announced.is_some_and(|announced| announced.announcement.any_happened(&versions))
                }
                // Who may load a branch may still not read it.
                Err(Error::NotFound { .. } | Error::Forbidden { .. }) => false,
                Err(_) => true,
            };
            if !happened {
                return self.caller.failed_at_document(error, &view.still_ours()).await;
            }
        }
        let mut failure = self.failed(error);
        if failure.class == Class::Stalled {
            // Whatever the answer was: the next look finds out what became of it.
            failure = Failure::transient(Reason::ConjurUnavailable, failure.message);
        } else if matches!(failure.class, Class::Waiting(_)) {
            failure.class = Class::Transient;
        }
        let message = format!(
            "{}. Whether the document was loaded is found out before it is tried again",
            failure.message
        );
        Failure { message, ..failure }
    }
}

fn is_nothing_owed(view: &View) -> bool {
    view.to_resolve().is_none_or(|announced| announced.owed.is_empty())
}

fn announced_branch(branch: &str) -> Result<PolicyBranch, Failure> {
    PolicyBranch::new(branch)
        .map_err(|e| Failure::stalled(Reason::KeyNotStored, format!("pending.json: {e}")))
}

fn unresolved(announced: &Announcement, place: &str) -> Failure {
    let logins: Vec<String> = announced.owed.iter().filter_map(|r| login_of(r)).collect();
    let owed = if logins.is_empty() {
        String::new()
    } else {
        format!(": keys may be owed for {}", logins.join(", "))
    };
    let message = format!(
        "a load into branch {} was announced {place}, and its outcome is not known{owed}. Set spec.connectionRef, spec.branch \
         and the connection back until this is Ready, or remove the key pending.json from the createdRoles Secret to give up \
         what it lists as owed",
        announced.branch,
    );
    Failure::stalled(Reason::KeyNotStored, message)
}

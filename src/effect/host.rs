//! A host is enrolled, and its key is kept and rotated, so that no key is lost and no stranger's key dies
//! ([`crate::plan::host`]). What is to be done next [`crate::plan::host::order`] decides; here is the IO.

mod look;
pub mod tokens;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tokio::time::timeout;

use super::{
    Subject,
    branch_locks::{Loader, Turn},
    in_flight::Begun,
    perform,
};
use crate::{
    api::{Reason, host::PendingHost},
    conjur::{
        Error, HostFactoryToken, LoadError, LoadMode, Loaded, Ownership, PolicyBranch, Resource, RoleId,
    },
    controllers::{Context, connection::pool::ReadyConnection},
    limits::TURN_WAIT,
    plan::{
        Class, Failure,
        hash::document_hash,
        host::{
            document::HostDocument,
            order::next,
            step::{
                AttributeLoad, EnrolmentWay, HostEffect, HostFact, HostPerformed, HostQuestion, HostRecord,
                HostStep, HostVerdict, Maker, TargetLook,
            },
            view::HostView,
        },
    },
    sensitive::Sensitive,
};

/// The object that a host is kept for: what only its kind knows, and may say of it.
pub trait HostCaller: Send + Sync {
    /// Refuses what the connection does not let the object do with its host. Asked anew before each change in Conjur.
    ///
    /// # Errors
    /// `AccessDenied`, `HostTaken`, `InvalidSpec`.
    fn check_access(&self) -> Result<(), Failure>;

    /// Refuses what the rules of the connection do not let the object do, whoever else keeps the host: a token that was announced is
    /// revoked all the same.
    ///
    /// # Errors
    /// `AccessDenied`.
    fn check_rules(&self) -> Result<(), Failure>;

    /// Refuses a branch that the object may not load a host into.
    ///
    /// # Errors
    /// `AccessDenied`, `BranchTaken`.
    fn check_branch(&self, branch: &str) -> Result<(), Failure>;

    /// A branch, as the operator loads it.
    fn loader(&self, branch: &PolicyBranch) -> Loader;

    /// Whose a host is, by its annotations.
    fn maker(&self, resource: &Resource) -> Maker;

    /// The token that was given.
    ///
    /// # Errors
    /// `CredentialsNotFound`.
    fn given_token(&self) -> impl Future<Output = Result<Sensitive<String>, Failure>> + Send;

    /// What the Secret holds.
    ///
    /// # Errors
    /// That it is another's, or of another server or host.
    fn look_at_target(&mut self) -> impl Future<Output = Result<TargetLook, Failure>> + Send;

    /// Whether the API server would take the Secret with another key.
    ///
    /// # Errors
    /// Why it would not.
    fn check_room(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Whether the stored key works.
    ///
    /// # Errors
    /// That it can't be found out.
    fn does_stored_key_work(&mut self) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// Puts a key into the Secret, with its number. It is nowhere else: what fails is tried again for a while.
    ///
    /// # Errors
    /// The API server's.
    fn store(
        &mut self,
        key: &Sensitive<String>,
        number: i64,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Deletes the Secret, whose key is dead; one that was adopted stays.
    ///
    /// # Errors
    /// The API server's.
    fn delete_secret(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes into the status what is said of the host.
    ///
    /// # Errors
    /// The API server's.
    fn write(&mut self, entry: HostEntry<'_>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The documents of a load.
    ///
    /// # Errors
    /// `InvalidSpec`.
    fn documents(&self, change: &AttributeLoad) -> Result<Vec<HostDocument>, Failure>;

    /// How the spec says that it is enrolled.
    fn way(&self) -> EnrolmentWay;

    /// Takes note that what the spec says was loaded.
    fn note_loaded(&mut self);
}

/// What is written into the status of the object.
#[derive(Clone, Copy, Debug)]
pub enum HostEntry<'a> {
    /// What is announced, or that nothing is.
    Pending(Option<&'a PendingHost>),
    /// What came of it.
    Recorded(&'a HostRecord),
}

/// What is asked for.
pub struct AskedHost<'a> {
    /// For which object, on which server.
    pub subject: Subject<'a>,
    /// The connection.
    pub through: &'a ReadyConnection,
    /// The host's id below the account.
    pub id: &'a str,
    /// The document that makes it, where it is made by policy.
    pub bare: Option<&'a HostDocument>,
    /// The annotations that it is enrolled with.
    pub annotations: &'a BTreeMap<String, String>,
}

impl AskedHost<'_> {
    /// Hex SHA-256 of the document that makes the host.
    pub fn document(bare: Option<&HostDocument>) -> String {
        bare.map(|bare| document_hash(bare.text.as_bytes())).unwrap_or_default()
    }
}

/// Goes on until it is over. It may be dropped at any await: the next run finds out what was done.
///
/// # Errors
/// Any that keeps the host from being as the spec says. What is announced stays as long as its outcome is not known.
pub async fn keep<C: HostCaller>(
    mut view: HostView,
    asked: AskedHost<'_>,
    caller: &mut C,
    ctx: &Context,
) -> Result<HostVerdict, Failure> {
    let mut keeper = Keeper { asked, caller, ctx, hand: None, token: None, refused: None, begun: None };
    tracing::trace!(effect = "begin", host = keeper.asked.id, "effect");
    let mut last = None;
    loop {
        view.now = Timestamp::now().as_second();
        let step = next(&view);
        if last.as_ref() == Some(&step) {
            // It would go on for ever, with a request each time.
            let message =
                "internal error: the keeping of a host came to no end; this is a bug in the operator";
            return Err(Failure::transient(Reason::ApiServerError, message));
        }
        match &step {
            HostStep::Learn(question) => {
                let fact = keeper.learn(question).await?;
                view.learned(question, fact);
            }
            HostStep::Do(effect) => {
                tracing::trace!(effect = effect.name(), host = keeper.asked.id, "effect");
                let result = keeper.perform(effect).await?;
                view.done(effect, result);
            }
            HostStep::Finish(HostVerdict::Refused) => {
                let unsaid =
                    || Failure::transient(Reason::ConjurUnavailable, "Conjur refused it, without a reason");
                return Err(keeper.refused.take().unwrap_or_else(unsaid));
            }
            HostStep::Finish(verdict) => return Ok(verdict.clone()),
        }
        last = Some(step);
    }
}

struct Keeper<'a, C> {
    asked: AskedHost<'a>,
    caller: &'a mut C,
    ctx: &'a Context,
    /// A key that is nowhere else.
    hand: Option<Sensitive<String>>,
    /// A token of the factory that is in use.
    token: Option<HostFactoryToken>,
    /// Why something was refused.
    refused: Option<Failure>,
    /// From its first effect on.
    begun: Option<Begun>,
}

impl<C: HostCaller> Keeper<'_, C> {
    fn failed(&self, error: Error) -> Failure {
        self.ctx.clients.failure(self.asked.through, error)
    }

    fn refuse(&mut self, failure: Failure) -> HostPerformed {
        self.refused = Some(failure);
        HostPerformed::Refused
    }

    fn role(&self) -> RoleId {
        RoleId {
            account: self.asked.through.account.to_string(),
            kind: "host".to_owned(),
            id: self.asked.id.to_owned(),
        }
    }

    async fn learn(&mut self, question: &HostQuestion) -> Result<HostFact, Failure> {
        Ok(match question {
            HostQuestion::Target => HostFact::Target(self.caller.look_at_target().await?),
            HostQuestion::Host | HostQuestion::HostAgain => HostFact::Host(self.look_at_host().await?),
            HostQuestion::Ownership(branch) => {
                self.require_ownership(branch).await.map(|()| HostFact::Yes)?
            }
            HostQuestion::FactoryOwnership(factory) => {
                self.require_factory(factory).await.map(|()| HostFact::Yes)?
            }
            HostQuestion::Versions(branch) => HostFact::Versions(self.versions(branch).await?),
            HostQuestion::Memberships => HostFact::Memberships(self.memberships().await?),
            HostQuestion::Factory(factory) => HostFact::Factory(self.look_at_factory(factory).await?),
            HostQuestion::TokensOf(factory) => {
                self.find_factory(factory).await?.map_or(HostFact::No, HostFact::Factory)
            }
            HostQuestion::Room => self.caller.check_room().await.map(|()| HostFact::Yes)?,
            HostQuestion::Works => {
                if self.caller.does_stored_key_work().await? {
                    HostFact::Yes
                } else {
                    HostFact::No
                }
            }
        })
    }

    async fn perform(&mut self, effect: &HostEffect) -> Result<HostPerformed, Failure> {
        if self.begun.is_none() {
            self.begun = Some(self.ctx.in_flight.begin()?);
        }
        match effect {
            HostEffect::Announce(pending) => {
                // What may not be done is not even announced.
                self.caller.check_access()?;
                self.caller.write(HostEntry::Pending(Some(pending))).await?;
            }
            HostEffect::Withdraw(pending) => self.caller.write(HostEntry::Pending(pending.as_ref())).await?,
            HostEffect::Record(record) => self.caller.write(HostEntry::Recorded(record)).await?,
            HostEffect::Make => return self.make().await,
            HostEffect::MakeToken(expires) => return self.make_token(*expires).await,
            HostEffect::Enrol => return self.enrol().await,
            HostEffect::Revoke { factory, expires } => self.revoke(factory, *expires).await?,
            HostEffect::Load(change) => return self.load_attributes(change).await,
            HostEffect::Rotate => return self.rotate().await,
            HostEffect::Store(number) => {
                if let Some(key) = &self.hand {
                    self.caller.store(key, *number).await?;
                }
                self.hand = None;
            }
            HostEffect::Drop => self.hand = None,
            HostEffect::DeleteSecret => self.caller.delete_secret().await?,
        }
        Ok(HostPerformed::Done)
    }

    async fn make(&mut self) -> Result<HostPerformed, Failure> {
        let Some(bare) = self.asked.bare else {
            let message = "internal error: a host is to be made by policy, and there is no document for it; this is a bug in the operator";
            return Err(Failure::transient(Reason::ApiServerError, message));
        };
        let role = self.role();
        match self.load(bare, LoadMode::Append).await? {
            Ok(loaded) => {
                let keys = loaded.created_roles.into_iter();
                self.hand = keys.filter(|(made, _)| *made == role).map(|(_, key)| key).next();
                Ok(HostPerformed::Made(self.hand.is_some()))
            }
            Err(failure) => Ok(self.refuse(failure)),
        }
    }

    async fn load_attributes(&mut self, change: &AttributeLoad) -> Result<HostPerformed, Failure> {
        let role = self.role();
        let mut is_begun = false;
        for document in self.caller.documents(change)? {
            let loaded = match self.load(&document, LoadMode::Update).await {
                // Whether this one was loaded no one knows; the key that came of one before it goes into the Secret first.
                Err(failure) if self.hand.is_some() => Err(failure),
                loaded => loaded?,
            };
            match loaded {
                // One that was deleted a moment before is made by it.
                Ok(loaded) => {
                    let made = loaded.created_roles.into_iter().find(|(made, _)| *made == role);
                    self.hand = made.map(|(_, key)| key).or(self.hand.take());
                    is_begun = true;
                }
                Err(failure) => {
                    let refused = self.refuse(failure);
                    let made = self.hand.is_some();
                    return Ok(if is_begun { HostPerformed::Partly { made } } else { refused });
                }
            }
        }
        self.caller.note_loaded();
        Ok(HostPerformed::Made(self.hand.is_some()))
    }

    /// Loads a document in its turn. The outer error: no one knows whether it was loaded. The inner one: it was not.
    async fn load(
        &mut self,
        document: &HostDocument,
        mode: LoadMode,
    ) -> Result<Result<Loaded, Failure>, Failure> {
        let (branch, turn) = match self.may_load(&document.branch).await {
            Ok(may) => may,
            Err(failure) => return Ok(Err(failure)),
        };
        let loaded =
            perform::load(self.asked.through, &branch, mode, document.text.as_bytes(), self.ctx).await;
        drop(turn);
        match loaded {
            Ok(loaded) => Ok(Ok(loaded)),
            Err(LoadError::Refused(error)) => Ok(Err(self.load_refused(&branch, error))),
            Err(LoadError::Unknown(error)) => Err(unknown(&self.failed(error))),
        }
    }

    /// Waits for the turn in a branch, and sees that it may be loaded then.
    async fn may_load(&self, branch: &str) -> Result<(PolicyBranch, Turn), Failure> {
        let parsed = self.policy_branch(branch)?;
        let turn = self.turn(&parsed).await?;
        self.caller.check_access()?;
        self.caller.check_branch(branch)?;
        Ok((parsed, turn))
    }

    async fn turn(&self, branch: &PolicyBranch) -> Result<Turn, Failure> {
        let loader = self.caller.loader(branch);
        let busy = |rest, message| Failure::waiting(Reason::LoadInProgress, rest, message);
        if let Some((rest, message)) = self.ctx.branches.pause(&loader) {
            return Err(busy(rest, message));
        }
        let take = self.ctx.branches.take(&loader, &self.asked.subject.owner.namespace, &self.ctx.metrics);
        timeout(TURN_WAIT, take).await.map_err(|_| {
            busy(
                Duration::from_secs(1),
                format!("another object is being loaded into branch {branch}; waiting for it"),
            )
        })
    }

    /// What Conjur's refusal of a load means.
    fn load_refused(&self, branch: &PolicyBranch, error: Error) -> Failure {
        let of_policy = |reason, message: String| Failure::stalled(reason, message);
        match error {
            Error::Forbidden { message } => of_policy(
                Reason::PolicyForbidden,
                format!(
                    "{message}. Let the connection's identity own branch {branch}, or correct {}",
                    self.field_of(branch)
                ),
            ),
            Error::NotFound { .. } => self.not_owned(branch, Ownership::NoBranch),
            Error::Invalid { message, missing, .. } => of_policy(
                Reason::PolicyInvalid,
                match missing {
                    Some(missing) => format!(
                        "Conjur refuses what spec.memberOf and the other fields say of the host: {missing} does not exist. Make it, \
                         or take it out of the spec"
                    ),
                    None => {
                        format!("Conjur refuses in branch {branch} what the spec says of the host: {message}")
                    }
                },
            ),
            Error::Conflict { message, retry_after } => {
                let pause = retry_after.unwrap_or(Duration::from_secs(5));
                self.ctx.branches.pause_for(&self.caller.loader(branch), pause, &message);
                Failure::waiting(Reason::LoadInProgress, pause, message)
            }
            error => self.failed(error),
        }
    }

    async fn make_token(&mut self, expires: i64) -> Result<HostPerformed, Failure> {
        if let Err(failure) = self.caller.check_access() {
            return Ok(self.refuse(failure));
        }
        let Some(factory) = self.caller_factory() else { return Ok(HostPerformed::Refused) };
        let expires = Timestamp::from_second(expires).unwrap_or_default();
        match perform::make_factory_token(&factory, expires, self.asked.through).await {
            Ok(token) => {
                self.token = Some(token);
                Ok(HostPerformed::Done)
            }
            Err(error) if is_refusal(&error) => {
                let failure = self.factory_refused(&factory, error);
                Ok(self.refuse(failure))
            }
            Err(error) => Err(unknown(&self.failed(error))),
        }
    }

    async fn enrol(&mut self) -> Result<HostPerformed, Failure> {
        let own = self.token.as_ref().map(|made| made.token.clone());
        let is_given = own.is_none();
        let token = match own {
            Some(token) => Ok(token),
            None => self.caller.given_token().await,
        };
        let token = match self.caller.check_access().and(token) {
            Ok(token) => token,
            Err(failure) => return Ok(self.refuse(failure)),
        };
        match perform::enrol(&token, self.asked.id, self.asked.annotations, self.asked.through, self.ctx)
            .await
        {
            Ok(host) => {
                let resource = Resource {
                    id: host.id.to_string(),
                    owner: host.owner,
                    created_at: host.created_at,
                    policy: None,
                    annotations: host.annotations,
                    permissions: Vec::new(),
                    secrets: Vec::new(),
                    restricted_to: Vec::new(),
                };
                let is_ours = matches!(self.caller.maker(&resource), Maker::Ours { .. });
                self.hand = Some(host.api_key);
                Ok(HostPerformed::Enrolled(is_ours))
            }
            Err(error) if is_refusal(&error) => {
                let failure = self.enrolment_refused(is_given, error);
                Ok(self.refuse(failure))
            }
            Err(error) => Err(unknown(&self.failed(error))),
        }
    }

    async fn rotate(&mut self) -> Result<HostPerformed, Failure> {
        if let Err(failure) = self.caller.check_access() {
            return Ok(self.refuse(failure));
        }
        match perform::rotate_host(&self.role(), self.asked.through, self.ctx).await {
            Ok(key) => {
                self.hand = Some(key);
                Ok(HostPerformed::Done)
            }
            Err(error) if is_refusal(&error) => {
                let failure = self.rotation_refused(error);
                Ok(self.refuse(failure))
            }
            Err(error) => Err(unknown(&self.failed(error))),
        }
    }
}

/// Whether an error says that what was asked was certainly not done.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::Config { .. }
            | Error::HostDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::Forbidden { .. }
            | Error::NotFound { .. }
            | Error::Invalid { .. }
            | Error::Conflict { .. }
    )
}

/// No one knows what became of it: what was announced stays, and the next run finds out.
fn unknown(failure: &Failure) -> Failure {
    let message = format!("{}. Whether it was done is found out before it is tried again", failure.message);
    match failure.class {
        Class::Stalled => Failure::transient(Reason::ConjurUnavailable, message),
        Class::Waiting(_) => Failure::transient(failure.reason, message),
        Class::Transient | Class::Connection => Failure { message, ..failure.clone() },
    }
}

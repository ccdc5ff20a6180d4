//! One load for all objects that want something in a branch.

use std::{collections::HashSet, time::Duration};

use super::{
    MayLoad, look,
    queue::{ShownVariables, Statement, WaitingWish, part},
};
use crate::{
    api::Reason,
    budget::Taken,
    conjur::{Error, LoadError, LoadMode, Ownership, PolicyBranch},
    controllers::{Context, connection::pool::ReadyConnection},
    effect::{branch_locks::Loader, perform},
    limits::{
        BRANCH_AGAIN, HEAVY_BYTES, REFUSED_AGAIN, TEXT_SMALL, VARIABLES_BYTES, VARIABLES_PAUSE,
        VARIABLES_TRIES,
    },
    memory_budget::room_for_variables,
    plan::{
        Failure,
        policy::statements::{NotAsPlanned, RecordName},
        push::{
            decide::ShownVariable,
            documents::{self, MakingPass, VariablesWish},
        },
    },
    runtime::failure::no_room,
};

/// A branch that Conjur says is busy is left alone for this long at most, before it is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// What the tree costs that a document is read back as, by its text.
const TREE_COST: usize = 8;

/// A document, and the room that it takes until it was sent.
struct SentDocument {
    text: String,
    _room: Option<Taken>,
}

/// Where, and through which connection.
pub struct Batch<'a> {
    pub through: &'a ReadyConnection,
    pub branch: &'a PolicyBranch,
    pub loader: &'a Loader,
    /// Whose turn it is.
    pub namespace: &'a str,
    pub may: MayLoad,
    pub ctx: &'a Context,
}

impl Batch<'_> {
    /// Loads for all of them, and answers each. What Conjur refuses is parted, until the guilty one is alone, and its parts wait
    /// for turns of their own: what others want there meanwhile goes on between them.
    pub async fn run(&self, mut group: Vec<WaitingWish>) {
        let Some(statement) = group.first().map(|waiting| waiting.statement) else { return };
        let done = match statement {
            Statement::Make => self.make(&mut group).await,
            Statement::Change | Statement::Remove => self.send(&group, statement).await,
        };
        match done {
            Ok(shown) => group.into_iter().for_each(|waiting| {
                let own = waiting.wish.ids.iter().filter_map(|id| Some((id.clone(), shown.get(id)?.clone())));
                let own = own.collect();
                waiting.answer(Ok(own));
            }),
            Err(failure) if failure.reason == Reason::PolicyInvalid => {
                if group.len() > 1 {
                    let (first, second) = part(group);
                    self.ctx.variable_loads.push_back(self.loader, second);
                    self.ctx.variable_loads.push_back(self.loader, first);
                    return;
                }
                for waiting in group {
                    self.ctx.variable_loads.refused(self.loader, &waiting.namespace);
                    waiting.answer(Err(failure.clone()));
                }
            }
            Err(failure) => group.into_iter().for_each(|waiting| waiting.answer(Err(failure.clone()))),
        }
    }

    /// Makes what is missing. What is there by now is not touched: whose it is is each object's to decide.
    async fn make(&self, group: &mut [WaitingWish]) -> Result<ShownVariables, Failure> {
        let ids: Vec<String> = group.iter().flat_map(|waiting| waiting.wish.ids.iter().cloned()).collect();
        let (mut all, is_fresh) = look::shown_lately(&ids, self.through, self.ctx).await?;
        let wishes = wanted(group, |wish, id| {
            all.get(id).is_none_or(|shown| wish.bare.contains(id) && is_free(shown))
        });
        if wishes.is_empty() {
            return Ok(all);
        }
        let made: Vec<String> = wishes.iter().flat_map(|wish| wish.ids.iter().cloned()).collect();
        let owns = self.through.client.owns_branch(self.branch).await;
        match owns.map_err(|error| self.failed(error))? {
            Ownership::Owner => self.say_whose_they_are(&wishes).await?,
            Ownership::NotOwner => {
                let missing = wanted(group, |_, id| !all.contains_key(id));
                if !missing.is_empty() {
                    self.make_bare(&missing).await?;
                    for waiting in group.iter_mut() {
                        let made = waiting.wish.ids.iter().filter(|id| !all.contains_key(*id)).cloned();
                        waiting.wish.bare.extend(made.collect::<Vec<_>>());
                    }
                    tokio::time::sleep(VARIABLES_PAUSE).await;
                }
                let now = look::shown(&made, self.through, self.ctx).await?;
                let free =
                    wanted(group, |wish, id| wish.bare.contains(id) && now.get(id).is_some_and(is_free));
                if !free.is_empty() {
                    self.say_whose_they_are(&free).await?;
                }
            }
            Ownership::NoBranch => return Err(self.no_branch()),
        }
        let mut now = look::shown(&made, self.through, self.ctx).await?;
        for (id, shown) in &mut now {
            if is_fresh && shown.version.is_some() && !all.contains_key(id) {
                // Another made and filled it at the same time, and this load gave it a name: none of these filled it.
                shown.owner = None;
            }
        }
        all.extend(now);
        Ok(all)
    }

    /// Who merely may load the branch sees nothing of what it makes: first the variables with a permit for itself, then, of those
    /// that have neither an owner nor a value, that they are the objects' (recordings 755 to 762).
    async fn make_bare(&self, wishes: &[VariablesWish]) -> Result<(), Failure> {
        let own = RecordName::of_login(&self.through.identity);
        let wishes: Vec<&VariablesWish> = wishes.iter().collect();
        let document = self
            .document(&wishes, |branch, account| {
                documents::make(branch, account, &wishes, MakingPass::Bare(&own))
            })
            .await?;
        self.load(Statement::Make, LoadMode::Append, &document).await
    }

    async fn say_whose_they_are(&self, wishes: &[VariablesWish]) -> Result<(), Failure> {
        let wishes: Vec<&VariablesWish> = wishes.iter().collect();
        let document = self
            .document(&wishes, |branch, account| documents::make(branch, account, &wishes, MakingPass::Owner))
            .await?;
        self.load(Statement::Make, LoadMode::Append, &document).await
    }

    /// Changes or removes what is still whose it was when that was decided. Gives the rest, as it is now.
    async fn send(&self, group: &[WaitingWish], statement: Statement) -> Result<ShownVariables, Failure> {
        let ids: Vec<String> = group.iter().flat_map(|waiting| waiting.wish.ids.iter().cloned()).collect();
        let mut now = look::shown(&ids, self.through, self.ctx).await?;
        let is_same =
            |wish: &VariablesWish, id: &String| now.get(id).map(|now| &now.owner) == wish.owners.get(id);
        let wishes = wanted(group, is_same);
        let same: HashSet<&String> = wishes.iter().flat_map(|wish| &wish.ids).collect();
        now.retain(|id, _| !same.contains(id));
        if wishes.is_empty() {
            return Ok(now);
        }
        let wishes: Vec<&VariablesWish> = wishes.iter().collect();
        let write = |branch: &str, account: &str| match statement {
            Statement::Make | Statement::Change => documents::change(branch, account, &wishes),
            Statement::Remove => {
                let ids: Vec<String> = wishes.iter().flat_map(|wish| wish.ids.iter().cloned()).collect();
                documents::remove(branch, account, &ids)
            }
        };
        let document = self.document(&wishes, write).await?;
        self.load(statement, LoadMode::Update, &document).await?;
        Ok(now)
    }

    /// Writes a document, off the workers where it is a large one, with room for it and its copy in the request.
    async fn document(
        &self,
        wishes: &[&VariablesWish],
        write: impl FnOnce(&str, &str) -> Result<String, NotAsPlanned> + Send,
    ) -> Result<SentDocument, Failure> {
        let bytes = wishes.iter().map(|wish| wish.bytes()).sum::<usize>();
        let room = if bytes > TEXT_SMALL {
            let room = room_for_variables(self.namespace, bytes.min(VARIABLES_BYTES)).await;
            Some(room.ok_or_else(|| no_room("the policy that makes the variables"))?)
        } else {
            None
        };
        let tree = bytes.saturating_mul(TREE_COST).min(HEAVY_BYTES);
        let written = self
            .ctx
            .heavy
            .run(self.namespace, tree, || write(self.branch.as_str(), &self.through.account))
            .await;
        let text = written.map_err(|error| Failure::stalled(Reason::PolicyInvalid, error.to_string()))?;
        Ok(SentDocument { text, _room: room })
    }

    /// Sends a document; while another load of the branch is under way, again.
    async fn load(
        &self,
        statement: Statement,
        mode: LoadMode,
        document: &SentDocument,
    ) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            (self.may)(self.loader, statement, self.ctx)?;
            let _begun = self.ctx.in_flight.begin()?;
            self.ctx.variable_loads.sent(self.loader);
            match perform::load(self.through, self.branch, mode, document.text.as_bytes(), self.ctx).await {
                Ok(_) => return Ok(()),
                Err(LoadError::Refused(Error::Conflict { retry_after, .. })) if tries < VARIABLES_TRIES => {
                    tries += 1;
                    let pause = retry_after.unwrap_or(VARIABLES_PAUSE).clamp(VARIABLES_PAUSE, LONGEST_PAUSE);
                    tokio::time::sleep(pause).await;
                }
                Err(LoadError::Refused(error)) => return Err(self.refused(error).await),
                Err(LoadError::Unknown(error)) => return Err(self.failed(error)),
            }
        }
    }

    async fn refused(&self, error: Error) -> Failure {
        let branch = self.branch;
        match error {
            Error::Invalid { message, .. } => Failure::stalled(
                Reason::PolicyInvalid,
                format!(
                    "Conjur refuses the policy that makes the variables in branch {branch}: {message}; correct \
                     spec.createVariables"
                ),
            ),
            Error::Forbidden { message } => Failure::stalled(
                Reason::PolicyForbidden,
                format!(
                    "the connection's identity may not make variables in branch {branch} ({message}). Load \
                     `- !permit {{role: {}, privileges: [create, update], resource: !policy {branch}}}` as an identity that may; \
                     note that who may load a branch can permit itself to read all of it",
                    as_policy(&self.through.identity)
                ),
            ),
            Error::NotFound { message, .. } => match self.through.client.owns_branch(self.branch).await {
                Ok(Ownership::NoBranch) => self.no_branch(),
                // The branch is there: what the statements name is not, such as a role of spec.createVariables.permit.
                Ok(_) => Failure::waiting(
                    Reason::PolicyInvalid,
                    REFUSED_AGAIN,
                    format!(
                        "Conjur refuses the policy that makes the variables in branch {branch}: {message}. Make what is \
                         missing, or correct spec.createVariables"
                    ),
                ),
                Err(error) => self.failed(error),
            },
            error => self.failed(error),
        }
    }

    fn no_branch(&self) -> Failure {
        Failure::waiting(
            Reason::BranchNotFound,
            BRANCH_AGAIN,
            format!(
                "policy branch {} does not exist, or is not visible to {}; load the policy that makes it, or correct \
                 spec.createVariables.branch",
                self.branch, self.through.identity
            ),
        )
    }

    fn failed(&self, error: Error) -> Failure {
        self.ctx.clients.failure(self.through, error)
    }
}

/// Of each wish the ids that are meant; wishes of which none is are left out.
fn wanted(group: &[WaitingWish], which: impl Fn(&VariablesWish, &String) -> bool) -> Vec<VariablesWish> {
    let wishes = group.iter().map(|waiting| {
        let wish = &waiting.wish;
        VariablesWish { ids: wish.ids.iter().filter(|id| which(wish, id)).cloned().collect(), ..wish.clone() }
    });
    wishes.filter(|wish| !wish.ids.is_empty()).collect()
}

/// Whether a variable has neither an owner nor a value.
fn is_free(shown: &ShownVariable) -> bool {
    shown.owner.is_none() && shown.version.is_none()
}

/// A login, as the root policy names its role.
fn as_policy(login: &str) -> String {
    let role = RecordName::of_login(login);
    format!("!{} {}", role.kind.as_str(), role.id)
}

//! One load for all objects that want something in a branch.

use std::{collections::VecDeque, time::Duration};

use super::{
    MayLoad, look,
    queue::{ShownVariables, Statement, WaitingWish, is_of_one, part},
};
use crate::{
    api::Reason,
    conjur::{Error, LoadError, LoadMode, Ownership, PolicyBranch},
    controllers::{Context, connection::pool::ReadyConnection},
    effect::{branch_locks::Loader, perform},
    limits::{BRANCH_AGAIN, HEAVY_BYTES, REFUSED_AGAIN, VARIABLES_PAUSE, VARIABLES_TRIES},
    plan::{
        Failure,
        policy::statements::{NotAsPlanned, RecordName},
        push::documents::{self, MakingPass, VariablesWish},
    },
};

/// A branch that Conjur says is busy is left alone for this long at most, before it is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// What the tree costs that a document is read back as, by its text.
const TREE_COST: usize = 8;

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
    /// Loads for all of them, and answers each. One whose statements Conjur refuses is found by parts: first those of other
    /// namespaces are set apart from it, then it is looked for in turns of its own.
    pub async fn run(&self, batch: Vec<WaitingWish>) {
        let mut groups = VecDeque::from([batch]);
        while let Some(group) = groups.pop_front() {
            let Some(statement) = group.first().map(|waiting| waiting.statement) else { continue };
            let done = match statement {
                Statement::Make => self.make(&group).await,
                Statement::Change | Statement::Remove => {
                    self.send(&group, statement).await.map(|()| ShownVariables::new())
                }
            };
            match done {
                Ok(shown) => group.into_iter().for_each(|waiting| {
                    let own =
                        waiting.wish.ids.iter().filter_map(|id| Some((id.clone(), shown.get(id)?.clone())));
                    let own = own.collect();
                    waiting.answer(Ok(own));
                }),
                Err(failure) if failure.reason == Reason::PolicyInvalid && group.len() > 1 => {
                    let is_of_one = is_of_one(&group);
                    let (first, second) = part(group);
                    if is_of_one {
                        self.ctx.variable_loads.push_back(self.loader, second);
                        self.ctx.variable_loads.push_back(self.loader, first);
                    } else {
                        groups.extend([first, second]);
                    }
                }
                Err(failure) => group.into_iter().for_each(|waiting| waiting.answer(Err(failure.clone()))),
            }
            if let Some(next) = self.ctx.variable_loads.next(self.loader).filter(|_| !groups.is_empty()) {
                tokio::time::sleep_until(next.into()).await;
            }
        }
    }

    /// Makes what is missing. What is there by now is not touched: whose it is is each object's to decide.
    async fn make(&self, group: &[WaitingWish]) -> Result<ShownVariables, Failure> {
        (self.may)(self.loader, Statement::Make, self.ctx)?;
        let ids: Vec<String> = group.iter().flat_map(|waiting| waiting.wish.ids.iter().cloned()).collect();
        let before = look::shown(&ids, self.through, self.ctx).await?;
        let missing = |wish: &VariablesWish| VariablesWish {
            ids: wish.ids.iter().filter(|id| !before.contains_key(*id)).cloned().collect(),
            ..wish.clone()
        };
        let wishes: Vec<VariablesWish> = group.iter().map(|waiting| missing(&waiting.wish)).collect();
        let wishes: Vec<&VariablesWish> = wishes.iter().filter(|wish| !wish.ids.is_empty()).collect();
        if wishes.is_empty() {
            return Ok(before);
        }
        let owns = self.through.client.owns_branch(self.branch).await;
        match owns.map_err(|error| self.failed(error))? {
            Ownership::Owner => {
                let document = self
                    .document(&wishes, |branch, account| {
                        documents::make(branch, account, &wishes, MakingPass::Owner)
                    })
                    .await?;
                self.load(LoadMode::Append, &document).await?;
            }
            Ownership::NotOwner => self.make_without_owning(&wishes).await?,
            Ownership::NoBranch => return Err(self.no_branch()),
        }
        let made: Vec<String> = wishes.iter().flat_map(|wish| wish.ids.iter().cloned()).collect();
        let mut shown = look::shown(&made, self.through, self.ctx).await?;
        shown.extend(before);
        Ok(shown)
    }

    /// Who merely may load the branch sees nothing of what it makes: first the variables with a permit for itself, then, of those
    /// that have neither an owner nor a value, that they are the objects' (recordings 755 to 762).
    async fn make_without_owning(&self, wishes: &[&VariablesWish]) -> Result<(), Failure> {
        let own = RecordName::of_login(&self.through.identity);
        let bare = self
            .document(wishes, |branch, account| {
                documents::make(branch, account, wishes, MakingPass::Bare(&own))
            })
            .await?;
        self.load(LoadMode::Append, &bare).await?;
        let made: Vec<String> = wishes.iter().flat_map(|wish| wish.ids.iter().cloned()).collect();
        let shown = look::shown(&made, self.through, self.ctx).await?;
        let is_free = |id: &&String| {
            shown.get(*id).is_some_and(|shown| shown.owner.is_none() && shown.version.is_none())
        };
        let ours: Vec<VariablesWish> = wishes
            .iter()
            .map(|wish| VariablesWish {
                ids: wish.ids.iter().filter(is_free).cloned().collect(),
                ..(*wish).clone()
            })
            .filter(|wish| !wish.ids.is_empty())
            .collect();
        if ours.is_empty() {
            return Ok(());
        }
        let ours: Vec<&VariablesWish> = ours.iter().collect();
        let owned = self
            .document(&ours, |branch, account| documents::make(branch, account, &ours, MakingPass::Owner))
            .await?;
        tokio::time::sleep(VARIABLES_PAUSE).await;
        self.load(LoadMode::Append, &owned).await
    }

    /// Changes or removes what is still whose it was when that was decided.
    async fn send(&self, group: &[WaitingWish], statement: Statement) -> Result<(), Failure> {
        (self.may)(self.loader, statement, self.ctx)?;
        let ids: Vec<String> = group.iter().flat_map(|waiting| waiting.wish.ids.iter().cloned()).collect();
        let now = look::shown(&ids, self.through, self.ctx).await?;
        let wishes: Vec<VariablesWish> = group
            .iter()
            .map(|waiting| {
                let wish = &waiting.wish;
                let is_same = |id: &&String| now.get(*id).map(|now| &now.owner) == wish.owners.get(*id);
                VariablesWish { ids: wish.ids.iter().filter(is_same).cloned().collect(), ..wish.clone() }
            })
            .filter(|wish| !wish.ids.is_empty())
            .collect();
        if wishes.is_empty() {
            return Ok(());
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
        self.load(LoadMode::Update, &document).await
    }

    /// Writes a document, off the workers where it is a large one.
    async fn document(
        &self,
        wishes: &[&VariablesWish],
        write: impl FnOnce(&str, &str) -> Result<String, NotAsPlanned> + Send,
    ) -> Result<String, Failure> {
        let bytes = wishes.iter().map(|wish| wish.bytes()).sum::<usize>().saturating_mul(TREE_COST);
        let written = self.ctx.heavy.run(self.namespace, bytes.min(HEAVY_BYTES), || {
            write(self.branch.as_str(), &self.through.account)
        });
        written.await.map_err(|error| Failure::stalled(Reason::PolicyInvalid, error.to_string()))
    }

    /// Sends a document; while another load of the branch is under way, again.
    async fn load(&self, mode: LoadMode, document: &str) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            self.ctx.variable_loads.sent(self.loader);
            match perform::load(self.through, self.branch, mode, document.as_bytes()).await {
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

/// A login, as the root policy names its role.
fn as_policy(login: &str) -> String {
    let role = RecordName::of_login(login);
    format!("!{} {}", role.kind.as_str(), role.id)
}

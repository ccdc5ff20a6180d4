//! The removal of what one object made, branch by branch.

use std::collections::BTreeSet;

use super::{Done, Kept, RemovalRun, evidence, server};
use crate::{
    api::Reason,
    conjur::{Error, LoadError, LoadMode, Ownership, PolicyBranch},
    effect::{branch_locks::Loader, perform},
    plan::{
        Failure,
        connection::access::Verb,
        full_id::has_key,
        policy::{
            branch_claims::BranchPlace,
            removal::{self, Removal},
        },
    },
    runtime::Key,
};

/// A list of what was left, in an Event.
const NAMED: usize = 10;

impl RemovalRun<'_> {
    pub(super) fn failed(&self, error: Error) -> Failure {
        self.ctx.clients.failure(self.through, error)
    }

    /// Removes what the loads into each branch made; first from those that lie deepest.
    ///
    /// The inventory lies where everybody can write who may write Secrets of the namespace. So it says what this object
    /// made, and never what it may do: the branches that it names have to be granted as that of a spec has to be.
    ///
    /// # Errors
    /// `AccessDenied` before anything is sent; what has to be waited for.
    pub(super) async fn all(&self, kept: &mut Kept, done: &mut Done) -> Result<(), Failure> {
        let settings = &self.named.facts.settings;
        let server = server(&settings.url, &settings.account);
        let user = Key { namespace: self.owner.namespace.clone(), name: self.owner.name.clone() };
        for branch in kept.inventory.branches(&server) {
            self.named.check_access(Verb::Load, &[branch.as_str()], &user, self.ctx)?;
        }
        if kept.inventory.has_others(&server) {
            done.left.push(format!(
                "ConjurPolicy {} was also loaded into another server or account than the one that its connection speaks to now: \
                 what it made there stays",
                self.owner.name
            ));
        }
        let mut branches: Vec<String> = kept.inventory.branches(&server).into_iter().collect();
        branches.sort_by_key(|branch| std::cmp::Reverse(branch.split('/').count()));
        let standing = std::mem::take(&mut done.left);
        loop {
            let sent = done.sent.len();
            (done.left, done.stuck) = (standing.clone(), BTreeSet::new());
            let mut waits = None;
            for branch in &branches {
                let branch = PolicyBranch::new(branch)
                    .map_err(|e| Failure::stalled(Reason::InventoryUnreadable, format!("inventory: {e}")))?;
                let loader = Loader {
                    place: BranchPlace::new(&settings.url, &settings.account, branch.as_str()),
                    identity: self.through.identity.to_string(),
                };
                let _one_at_a_time =
                    self.ctx.branches.take(&loader, &self.owner.namespace, &self.ctx.metrics).await;
                waits = self.branch(&server, &branch, kept, done).await?.or(waits);
            }
            // What was made in one branch may have hung on what was made in another.
            if branches.len() == 1 || done.sent.len() == sent {
                return waits.map_or(Ok(()), Err);
            }
        }
    }

    /// Removes what can go; what the rest has to wait for.
    async fn branch(
        &self,
        server: &str,
        branch: &PolicyBranch,
        kept: &mut Kept,
        done: &mut Done,
    ) -> Result<Option<Failure>, Failure> {
        let identity = &self.through.identity;
        match self.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))? {
            Ownership::Owner => {}
            Ownership::NotOwner => {
                let message =
                    format!("{identity} does not own branch {branch} any more, so can't see what is in it");
                return Err(Failure::stalled(Reason::NotBranchOwner, message));
            }
            Ownership::NoBranch => {
                if !self.made_itself(server, branch, kept) {
                    done.invisible.insert(branch.as_str().to_owned());
                    done.left.push(format!(
                        "branch {branch} is gone, and what was in it with it; or it is no longer visible to {identity}, and \
                         what ConjurPolicy {} made in it stays",
                        self.owner.name
                    ));
                }
                return Ok(None);
            }
        }
        self.resolve(server, branch, kept).await?;
        let mut others = None;
        loop {
            let all = evidence::all(self.through, self.ctx).await?;
            let ours = kept.inventory.ours(server, branch.as_str(), &self.through.account, &all.seen);
            let removal = removal::plan(&ours, &all.hangs);
            if removal.goes.iter().any(|id| !done.sent.contains(id)) {
                let mut inventory = kept.inventory.clone();
                inventory.removes(server, removal.goes.iter().filter(|id| has_key(id)));
                kept.write(inventory, self.owner, self.ctx).await?;
                self.load(branch, &removal.document).await?;
                done.sent.extend(removal.goes);
                others = None;
                continue;
            }
            if !removal.stays.is_empty() {
                let known = others.is_some();
                if let Some(waits) = self.blocked_by(server, &removal, &all, &mut others).await? {
                    return Ok(Some(waits));
                }
                if !known {
                    // One of them may have removed its own and gone since the look.
                    continue;
                }
            }
            self.tell_what_stays(removal, done);
            self.tell_what_is_unclear(server, branch, kept, &all, done);
            return Ok(None);
        }
    }

    fn tell_what_is_unclear(
        &self,
        server: &str,
        branch: &PolicyBranch,
        kept: &Kept,
        all: &evidence::All,
        done: &mut Done,
    ) {
        let unclear = kept.inventory.unclear(server, branch.as_str(), &self.through.account, &all.seen);
        if unclear.is_empty() {
            return;
        }
        let ids: Vec<&str> = unclear.iter().take(NAMED).map(String::as_str).collect();
        done.left.push(format!(
            "{} records stay in Conjur that ConjurPolicy {} may have made: branch {branch} was loaded so often since that \
             Conjur does not tell any more what became of its load: {}",
            unclear.len(),
            self.owner.name,
            ids.join(", ")
        ));
    }

    /// Whether this policy made the branch, too, and so may have removed it.
    fn made_itself(&self, server: &str, branch: &PolicyBranch, kept: &Kept) -> bool {
        let id = format!("{}:policy:{branch}", self.through.account);
        let inventory = &kept.inventory;
        let mut branches = inventory.branches(server).into_iter();
        branches.any(|b| inventory.announced(server, &b, &self.through.account).contains(&id))
    }

    /// Finds out what became of announced loads. Where nothing is to be seen of one, a load that changes nothing shows
    /// that it is not under way: Conjur takes one load of a branch at a time.
    async fn resolve(&self, server: &str, branch: &PolicyBranch, kept: &mut Kept) -> Result<(), Failure> {
        for no_other in [false, true] {
            if !kept.inventory.is_open(server, branch.as_str()) {
                break;
            }
            if no_other {
                self.load(branch, "[]\n").await?;
            }
            let versions = evidence::versions(self.through, branch).await.map_err(|e| self.failed(e))?;
            let mut inventory = kept.inventory.clone();
            inventory.resolve(server, branch.as_str(), &versions, no_other);
            // Not later: Conjur lists 20 versions.
            kept.write(inventory, self.owner, self.ctx).await?;
        }
        Ok(())
    }

    async fn load(&self, branch: &PolicyBranch, document: &str) -> Result<(), Failure> {
        let _begun = self.ctx.in_flight.begin()?;
        let loaded =
            perform::load(self.through, branch, LoadMode::Update, document.as_bytes(), self.ctx).await;
        match loaded {
            Ok(_) => Ok(()),
            Err(LoadError::Refused(Error::Forbidden { message })) => {
                Err(Failure::stalled(Reason::PolicyForbidden, message))
            }
            Err(LoadError::Refused(Error::Invalid { message, .. })) => {
                let message = format!("Conjur refuses the !delete statements: {message}");
                Err(Failure::stalled(Reason::PolicyInvalid, message))
            }
            Err(LoadError::Refused(error) | LoadError::Unknown(error)) => Err(self.failed(error)),
        }
    }

    fn tell_what_stays(&self, removal: Removal, done: &mut Done) {
        let name = &self.owner.name;
        if !removal.stays.is_empty() {
            let stays: Vec<String> =
                removal.stays.iter().take(NAMED).map(|(id, other)| format!("{id} (for {other})")).collect();
            done.left.push(format!(
                "{} records that ConjurPolicy {name} made stay in Conjur, for others' would go with them: {}",
                removal.stays.len(),
                stays.join(", ")
            ));
        }
        if !removal.goes.is_empty() {
            let goes: Vec<&str> = removal.goes.iter().take(NAMED).map(String::as_str).collect();
            done.left.push(format!(
                "{} records that ConjurPolicy {name} made are still in Conjur, though it took their !delete: {}",
                removal.goes.len(),
                goes.join(", ")
            ));
            done.stuck.extend(removal.goes);
        }
    }
}

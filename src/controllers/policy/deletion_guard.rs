//! What a Replace would delete that can't be had again: asked of the server's dry run, which names what the document takes
//! away, and found out by comparing the records with the document where it names nothing.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::{dry_run::Planned, run::Run};
use crate::{
    api::{
        ALLOW_DELETIONS_ANNOTATION, ConjurPolicyStatus, ConnectionRef, OWNER_ANNOTATION, Reason,
        policy::LoadMode,
    },
    conjur::{self, Error, Listing, Ownership, RoleId},
    controllers::connection::access::{self, BoundConnection},
    effect::evidence,
    plan::{
        Failure,
        connection::access::Verb,
        full_id::{has_key, kind_of},
        policy::{
            cascade,
            change_set::{ChangeSet, Deletions, Losses, NamedObject, is_allowed},
            removal::Hangs,
            statements::path_in,
        },
        record_owner::RecordOwner,
    },
    runtime::Key,
};

/// So many variables are looked at one by one; more by the pages of the list.
const ONE_BY_ONE: usize = 20;

impl Run<'_> {
    /// Whether the annotation allows the deletions of this document.
    pub fn deletions_are_allowed(&self) -> bool {
        let allowed = self.seen.object.annotations().get(ALLOW_DELETIONS_ANNOTATION).map(String::as_str);
        is_allowed(allowed, &self.seen.hash)
    }

    /// Refuses a Replace that would delete variables that hold values, or hosts or users, until the user allows just
    /// this document's deletions; and in any case what other objects of the operator keep. What an Update deletes is written in
    /// its document.
    ///
    /// # Errors
    /// `DeletionsNotAllowed`, with what would be deleted in the plan.
    pub async fn check_deletions_allowed(&self, status: &mut ConjurPolicyStatus) -> Result<(), Failure> {
        if self.seen.object.mode() != LoadMode::Replace {
            return Ok(());
        }
        let (difference, deletions) = self.deletions(self.plan().await?).await?;
        if self.deletions_are_allowed() && deletions.may_be_allowed() {
            return if deletions.are_seen() { Ok(()) } else { self.refuse_what_others_push() };
        }
        let Some(refusal) = self.refusal(&deletions) else { return Ok(()) };
        if let Some(difference) = difference {
            status.plan = Some(difference.to_status());
        }
        Err(refusal)
    }

    /// Where no one tells what a Replace would delete, refuses what is known here to be in the branch.
    fn refuse_what_others_push(&self) -> Result<(), Failure> {
        let (branch, server) = (self.seen.branch.as_str(), &self.seen.server);
        let refused = |what: &str| {
            let message = format!(
                "to Replace branch {branch} by this document would delete {what} in it, which nothing permits. Use mode Update, or let \
                 those objects use a branch below {branch}"
            );
            Err(Failure::stalled(Reason::DeletionsNotAllowed, message))
        };
        for push in self.ctx.kinds.pushes.store.state() {
            let Ok(object) = &push.0 else { continue };
            let Some(status) = &object.status else { continue };
            if status.applied.as_ref().is_none_or(|applied| applied.server != *server) {
                continue;
            }
            let made = status.variables.iter().flatten().filter(|variable| variable.created);
            let mut here =
                made.map(|variable| variable.id.as_str()).filter(|id| path_in(id, branch).is_some());
            // Whose connection reaches it no more, or who only says so, keeps nothing.
            if here.any(|id| {
                self.reaches(&object.spec.connection_ref, &Key::of(push.as_ref()), |named, key| {
                    named.may_access(Verb::Push, &[id], key, self.ctx)
                })
            }) {
                return refused("variables that ConjurPushes keep");
            }
        }
        for host in self.ctx.kinds.hosts.store.state() {
            let Ok(object) = &host.0 else { continue };
            let Some(status) = &object.status else { continue };
            let is_here = status.applied.as_ref().is_some_and(|applied| applied.server == *server);
            let id = object.spec.id.as_str();
            let made = is_here && status.created == Some(true) && path_in(id, branch).is_some();
            let ids = [(format!("host/{id}"), id)];
            let may = |named: &BoundConnection, key: &Key| named.judge_hosts(&ids, key, self.ctx).is_ok();
            if made && self.reaches(&object.spec.connection_ref, &Key::of(host.as_ref()), may) {
                return refused("hosts that ConjurHosts keep");
            }
        }
        Ok(())
    }

    /// Whether the connection of an object leads to the same server, is let in, and lets the object do this.
    fn reaches(
        &self,
        connection: &ConnectionRef,
        key: &Key,
        may: impl Fn(&BoundConnection, &Key) -> bool,
    ) -> bool {
        let Ok(named) = access::named(connection, key, self.ctx) else { return false };
        named.server() == self.seen.server && named.is_let_in(self.ctx) && may(&named, key)
    }

    /// Why a Replace with these deletions needs the annotation; none where it doesn't.
    pub fn refusal(&self, deletions: &Deletions) -> Option<Failure> {
        let owner = &self.seen.owner;
        let me = NamedObject { namespace: &owner.namespace, name: &owner.name, hash: &self.seen.hash };
        deletions.refusal(self.seen.branch.as_str(), &self.through.identity, me)
    }

    /// What a Replace would change, where that can be seen, and what of it can't be had again. That a dry run names no
    /// deletion is believed to no one: one that names nothing at all looks the same. Only the records show it.
    pub async fn deletions(&self, planned: Planned) -> Result<(Option<ChangeSet>, Deletions), Failure> {
        let named = match planned {
            Planned::Is(difference) if !difference.deleted.is_empty() => {
                let losses = self.losses(&difference.deleted).await?;
                let hidden = difference.hides_deletions();
                return Ok((Some(difference), Deletions::Seen { losses, hidden }));
            }
            Planned::Is(difference) => Some(difference),
            Planned::Unsupported(_) => None,
            Planned::NotOwner(_) => return Ok((None, self.unseen().await?)),
        };
        match self.compare().await? {
            Some((compared, losses)) => {
                let difference = named.filter(|_| compared.deleted.is_empty()).unwrap_or(compared);
                Ok((Some(difference), Deletions::Seen { losses, hidden: false }))
            }
            None => Ok((named, self.unseen().await?)),
        }
    }

    /// No one tells. Where nothing was ever loaded into the branch, there is nothing of its own to delete; not where the
    /// identity may not read that.
    async fn unseen(&self) -> Result<Deletions, Failure> {
        match evidence::versions(self.through, &self.seen.branch).await {
            Ok(versions) => Ok(Deletions::Unseen { never_loaded: versions.is_empty() }),
            Err(Error::NotFound { .. } | Error::Forbidden { .. }) => {
                Ok(Deletions::Unseen { never_loaded: false })
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// What of the deleted records, and of all that goes with them, can't be had again.
    async fn losses(&self, deleted: &[String]) -> Result<Losses, Failure> {
        let of_kind = |is: fn(&str) -> bool| deleted.iter().filter(move |id| is(kind_of(id)));
        let variables: Vec<&String> = of_kind(|kind| kind == "variable").collect();
        if of_kind(cascade::may_hold).next().is_none() && variables.len() <= ONE_BY_ONE {
            let mut losses = Losses::default();
            for id in variables {
                let Ok(parsed) = id.parse::<RoleId>() else { continue };
                let shown = self.through.client.show_resource(&parsed.kind, &parsed.id).await;
                let shown = shown.map_err(|e| self.failed(e))?;
                if shown.as_ref().is_some_and(is_kept) {
                    losses.kept.insert(id.clone());
                }
                if shown.is_none_or(|variable| !variable.secrets.is_empty()) {
                    losses.variables.insert(id.clone());
                }
            }
            return Ok(losses);
        }
        let all = evidence::list(&Listing::default(), self.through, self.ctx).await?;
        let (_, mut losses) = with_cascade(deleted.iter().cloned().collect(), &all);
        // Also those that the list does not show.
        losses.roles.extend(deleted.iter().filter(|id| has_key(id)).cloned());
        Ok(losses)
    }

    /// What a Replace would make and delete, by comparing the records that this branch made with those of the document;
    /// none for who does not own the branch, and sees nothing of it.
    async fn compare(&self) -> Result<Option<(ChangeSet, Losses)>, Failure> {
        let branch = &self.seen.branch;
        match self.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))? {
            Ownership::Owner => {}
            Ownership::NotOwner => return Ok(None),
            Ownership::NoBranch => {
                return Err(self.no_branch(branch));
            }
        }
        let made_by = format!("{}:policy:{branch}", self.through.account);
        let document: BTreeSet<&str> = self.content.document.records.iter().map(|r| r.id.as_str()).collect();
        let all = evidence::list(&Listing::default(), self.through, self.ctx).await?;
        let is_left_out = |found: &&conjur::Resource| {
            found.policy.as_ref() == Some(&made_by) && !document.contains(found.id.as_str())
        };
        let is_record = |id: &&String| kind_of(id) != "public_key";
        let left_out = all.iter().filter(is_left_out).map(|found| found.id.clone());
        let (deleted, losses) = with_cascade(left_out.filter(|id| is_record(&id)).collect(), &all);
        let there: BTreeSet<&str> = all.iter().map(|found| found.id.as_str()).collect();
        let created = document.into_iter().filter(|id| !there.contains(id) || deleted.contains(*id));
        let created = created.map(str::to_owned).collect();
        let deleted = deleted.iter().filter(is_record).cloned().collect();
        Ok(Some((ChangeSet { created, deleted, ..ChangeSet::default() }, losses)))
    }
}

/// Whether a record says that it was made for an object of the operator.
fn is_kept(found: &conjur::Resource) -> bool {
    let owner = found.annotations.iter().find(|annotation| annotation.name == OWNER_ANNOTATION);
    owner.is_some_and(|owner| RecordOwner::parse(&owner.value).is_some())
}

/// What goes when these records are deleted, and what of it can't be had again. `all` are the records that exist.
fn with_cascade(deleted: BTreeSet<String>, all: &[conjur::Resource]) -> (BTreeSet<String>, Losses) {
    let hangs = |found: &conjur::Resource| Hangs { owner: found.owner.clone(), policy: found.policy.clone() };
    let by_id = all.iter().map(|found| (found.id.clone(), hangs(found))).collect();
    let gone = cascade::goes_with(deleted, &by_id);
    let mut losses = Losses::default();
    for found in all.iter().filter(|found| gone.contains(&found.id)) {
        if is_kept(found) {
            losses.kept.insert(found.id.clone());
        }
        if has_key(&found.id) {
            losses.roles.insert(found.id.clone());
        } else if kind_of(&found.id) == "variable" && !found.secrets.is_empty() {
            losses.variables.insert(found.id.clone());
        }
    }
    (gone, losses)
}

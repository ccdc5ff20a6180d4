//! What a load would change, asked of Conjur by a dry run; and `action: DryRun`, which only says so.

use jiff::Timestamp;
use kube::{Resource, runtime::events::EventType};

use super::{
    claims,
    document::HashedDocument,
    run::{Run, for_client},
    seen::{ObservedPolicy, Say},
};
use crate::{
    api::{
        ConjurPolicyStatus, Reason,
        condition::{READY, find},
        policy::LoadMode,
    },
    conjur::{Capability, Changes, DryRun, Error, Item, Ownership},
    controllers::Context,
    plan::{
        Failure,
        connection::access::Verb,
        policy::change_set::{ChangeSet, Deletions, hidden_note, load_notes},
    },
    runtime::{Key, Object},
};

/// What became known of a load that was not made.
pub enum Planned {
    /// What it would change.
    Is(ChangeSet),
    /// The server has no dry run, or one that says nothing; and why that is thought.
    Unsupported(String),
    /// Conjur says it only to who owns the branch.
    NotOwner(String),
}

/// `action: DryRun`: says what a load would change, and loads nothing.
///
/// # Errors
/// `DryRunUnsupported`; `NotBranchOwner` where Conjur says nothing to this identity; all that a load would be refused for.
pub async fn dry_run(
    seen: &ObservedPolicy<'_>,
    looked: HashedDocument,
    status: &mut ConjurPolicyStatus,
    ctx: &Context,
) -> Result<Say, Failure> {
    let key = Key::of(seen.object);
    let slots = seen.slots();
    if !is_due(seen, &key, ctx) {
        if !seen.is_asked_to_look() {
            return Ok(Say::Nothing(slots.map(|slots| slots.next_in(Timestamp::now()))));
        }
        if let Some(rest) = ctx.policy_notes.asked(&key) {
            return Ok(Say::Nothing(Some(rest)));
        }
    }
    let content = seen.content(looked.text, ctx).await?;
    let Some(through) = seen.through(Verb::Plan, ctx)? else { return Ok(Say::Nothing(None)) };
    let run = Run { seen, content: &content, through: &through, ctx };
    let (difference, deletions) = match run.plan().await? {
        planned @ Planned::Is(_) if seen.object.mode() == LoadMode::Replace => {
            let (difference, deletions) = run.deletions(planned).await?;
            (difference.unwrap_or_default(), Some(deletions))
        }
        Planned::Is(difference) => (difference, None),
        Planned::Unsupported(why) => return Err(Failure::stalled(Reason::DryRunUnsupported, why)),
        Planned::NotOwner(why) => {
            // It is sent again when the identity has something else on the branch, and not before.
            run.lacks(&seen.branch, run.what_it_has(&seen.branch).await);
            return Err(Failure::stalled(Reason::NotBranchOwner, why));
        }
    };
    let allowed = run.deletions_are_allowed() && deletions.as_ref().is_none_or(Deletions::may_be_allowed);
    let message = format!(
        "a load into branch {} in mode {:?} would {}; nothing was loaded{}{}",
        seen.branch,
        seen.object.mode(),
        difference.in_words(),
        run.hidden_note(&difference),
        load_notes(&run.refusals(deletions.as_ref()).await?, allowed)
    );
    status.plan = Some(difference.to_status());
    if find(seen.object.conditions().1, READY).is_none_or(|c| c.message != message) {
        ctx.events.publish(seen.object, EventType::Normal, Reason::Planned, "DryRun", &message);
    }
    ctx.policy_notes.planned(&key, &seen.inputs);
    let again = slots.map(|slots| ctx.policy_notes.handled(&key, slots));
    Ok(Say::Is { reason: Reason::Planned, message, again })
}

/// Whether what the status says is not of this document, or may be out of date.
fn is_due(seen: &ObservedPolicy, key: &Key, ctx: &Context) -> bool {
    let (observed, conditions) = seen.object.conditions();
    let planned =
        find(conditions, READY).is_some_and(|c| c.status == "True" && c.reason == Reason::Planned.as_str());
    let hash = seen.object.status.as_ref().and_then(|s| s.document_hash.as_ref());
    let stands = planned
        && observed == seen.object.meta().generation
        && hash == Some(&seen.hash)
        && ctx.policy_notes.was_planned_for(key, &seen.inputs);
    !stands || seen.slots().is_some_and(|slots| ctx.policy_notes.slot_is_due(key, slots))
}

impl Run<'_> {
    /// Asks what a load would change.
    ///
    /// # Errors
    /// All that a load would be refused for.
    pub async fn plan(&self) -> Result<Planned, Failure> {
        let (branch, document) = (&self.seen.branch, self.content.text.as_str().as_bytes());
        let mode = for_client(self.seen.object.mode());
        match self.through.client.dry_run_policy(branch, mode, document).await {
            Ok(DryRun::Valid(changes)) => {
                let difference = difference(changes);
                if !difference.is_empty() || self.tells_what_changes().await? {
                    self.ctx.policy_notes.dry_runs_tell(&self.seen.server);
                    return Ok(Planned::Is(difference));
                }
                let why = format!(
                    "{} answers dry runs as if no document would change anything, even one that makes a variable which does not \
                     exist: its version may be one of the first that have them",
                    self.seen.named.facts.settings.url
                );
                Ok(Planned::Unsupported(why))
            }
            Ok(DryRun::Invalid(flaws)) => Err(match flaws.first() {
                Some(flaw) => {
                    let line = flaw.line.filter(|line| *line > 0);
                    self.invalid("policy_invalid", (line, flaw.column), flaw.missing(), &flaw.message)
                }
                None => self.invalid("policy_invalid", (None, None), None, "it does not say why"),
            }),
            Err(Error::Unsupported { what: Capability::DryRun, message }) => {
                Ok(Planned::Unsupported(message))
            }
            Err(error @ Error::Unexpected { status: Some(500), .. }) => {
                match self.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))? {
                    Ownership::NotOwner => Ok(Planned::NotOwner(self.not_shown())),
                    Ownership::Owner | Ownership::NoBranch => Err(self.server_failed(error)),
                }
            }
            Err(error) => Err(self.refused(error).await),
        }
    }

    /// Whether this server's dry runs name what a load would change. The first servers that have them may not, so that
    /// "nothing would change" means something only where another dry run has named something: of what is surely new, if
    /// there was none before. It is sent only after the server answered a dry run as one, and not loaded it.
    async fn tells_what_changes(&self) -> Result<bool, Failure> {
        if self.ctx.policy_notes.do_dry_runs_tell(&self.seen.server) {
            return Ok(true);
        }
        // Needs the same privilege as Replace, without going through all that the branch holds.
        let mode = match self.seen.object.mode() {
            LoadMode::Append => LoadMode::Append,
            LoadMode::Update | LoadMode::Replace => LoadMode::Update,
        };
        let new = format!("- !variable conjur-operator-asks-what-dry-runs-tell/{}\n", self.seen.owner.uid);
        match self.through.client.dry_run_policy(&self.seen.branch, for_client(mode), new.as_bytes()).await {
            Ok(DryRun::Valid(changes)) => Ok(!changes.created.is_empty()),
            Ok(DryRun::Invalid(_)) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn not_shown(&self) -> String {
        let (branch, identity) = (&self.seen.branch, &self.through.identity);
        format!(
            "what a load in mode {:?} would change is not shown to {identity}, which does not own branch {branch}: grant it the \
             role that owns the branch, and counts and ids are shown",
            self.seen.object.mode()
        )
    }

    /// Why a load would be refused where a dry run is not.
    async fn refusals(&self, deletions: Option<&Deletions>) -> Result<Vec<Failure>, Failure> {
        let mut refusals = Vec::new();
        refusals.extend(claims::check(self.seen, self.ctx).err());
        refusals.extend(self.content.check_roles(self.seen.object).err());
        if !self.content.document.roles.is_empty() {
            match self.require_ownership(&self.seen.branch).await {
                Err(failure) if failure.reason != Reason::NotBranchOwner => return Err(failure),
                owns => refusals.extend(owns.err()),
            }
        }
        refusals.extend(deletions.and_then(|deletions| self.refusal(deletions)));
        Ok(refusals)
    }

    pub fn hidden_note(&self, difference: &ChangeSet) -> String {
        hidden_note(difference, &self.through.identity, self.seen.branch.as_str())
    }
}

fn difference(changes: Changes) -> ChangeSet {
    let ids = |items: Vec<Item>| items.into_iter().map(|item| item.identifier).collect();
    ChangeSet { created: ids(changes.created), updated: ids(changes.after), deleted: ids(changes.deleted) }
}

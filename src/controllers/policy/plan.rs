//! What a load would change: asked of Conjur by a dry run, or, before a Replace where the server has none, found out by
//! comparing; and whether it would delete what can't be had again.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::{Resource, ResourceExt, runtime::events::EventType};
use serde_json::{Map, Value, json};

use super::{Say, Seen, document::Looked, load::Run, look};
use crate::{
    api::{
        ALLOW_DELETIONS_ANNOTATION, Reason,
        condition::{READY, find},
        policy::LoadMode,
    },
    conjur::{self, DryRun, Error, Item, Listing, Ownership, RoleId},
    controllers::{Context, Key, Reconcile},
    plan::{
        Failure,
        access::Verb,
        cascade,
        policy_plan::{
            Difference, Losses, Named, has_key, hidden_note, is_allowed, kind_of, refusal, refusal_unseen,
        },
        removal::Hangs,
    },
};

/// So many variables are looked at one by one; more by the pages of the list.
const ONE_BY_ONE: usize = 20;

/// What became known of a load that was not made.
pub enum Planned {
    /// What it would change.
    Is(Difference),
    /// The server has no dry run, and why that is thought.
    Unsupported(String),
    /// Conjur says it only to who owns the branch.
    NotOwner(String),
}

/// `action: DryRun`: says what a load would change, and loads nothing.
///
/// # Errors
/// `DryRunUnsupported`; `NotBranchOwner` where Conjur says nothing to this identity; all that a load would be refused for.
pub async fn dry_run(
    seen: &Seen<'_>,
    looked: Looked,
    fields: &mut Map<String, Value>,
    ctx: &Context,
) -> Result<Say, Failure> {
    let key = Key::of(seen.object);
    let slots = seen.slots();
    if !is_due(seen, &key, ctx) {
        return Ok(Say::Nothing(slots.map(|slots| slots.next_in(Timestamp::now()))));
    }
    let content = seen.content(looked.text, ctx).await?;
    let Some(through) = seen.through(Verb::Plan, ctx)? else { return Ok(Say::Nothing(None)) };
    let run = Run { seen, content: &content, through: &through, ctx };
    let difference = match run.plan().await? {
        Planned::Is(difference) => difference,
        Planned::Unsupported(why) => return Err(Failure::stalled(Reason::DryRunUnsupported, why)),
        Planned::NotOwner(why) => return Err(Failure::stalled(Reason::NotBranchOwner, why)),
    };
    let message = format!(
        "a load into branch {} in mode {:?} would {}; nothing was loaded{}",
        seen.branch,
        seen.object.mode(),
        difference.in_words(),
        run.hidden_note(&difference)
    );
    fields.insert("plan".into(), json!(difference.to_status()));
    if find(seen.object.conditions().1, READY).is_none_or(|c| c.message != message) {
        ctx.events.publish(seen.object, EventType::Normal, Reason::Planned, "DryRun", &message);
    }
    ctx.policy_notes.planned(&key, &seen.inputs);
    let again = slots.map(|slots| ctx.policy_notes.handled(&key, slots));
    Ok(Say::Is { reason: Reason::Planned, message, again })
}

/// Whether what the status says is not of this document, or may be out of date.
fn is_due(seen: &Seen, key: &Key, ctx: &Context) -> bool {
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
        match self.through.client.dry_run_policy(branch, self.how(), document).await {
            Ok(DryRun::Valid(changes)) => {
                let ids = |items: Vec<Item>| items.into_iter().map(|item| item.identifier).collect();
                Ok(Planned::Is(Difference {
                    created: ids(changes.created),
                    updated: ids(changes.after),
                    deleted: ids(changes.deleted),
                }))
            }
            Ok(DryRun::Invalid(flaws)) => Err(match flaws.first() {
                Some(flaw) => self.invalid(flaw.line.filter(|line| *line > 0), flaw.column, &flaw.message),
                None => self.invalid(None, None, "it does not say why"),
            }),
            Err(Error::Invalid { code, message, .. }) if code == "no_dry_run" => {
                Ok(Planned::Unsupported(message))
            }
            Err(error @ Error::Unexpected { status: Some(500), .. }) => {
                match self.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))? {
                    Ownership::NotOwner => Ok(Planned::NotOwner(self.not_shown())),
                    Ownership::Owner | Ownership::NoBranch => Err(self.failed(error)),
                }
            }
            Err(error) => Err(self.refused(error).await),
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

    pub fn hidden_note(&self, difference: &Difference) -> String {
        hidden_note(difference, &self.through.identity, self.seen.branch.as_str())
    }

    /// Refuses a Replace that would delete variables that hold values, or hosts or users, until the user allows just
    /// this document's deletions. What an Update deletes is written in its document.
    ///
    /// # Errors
    /// `DeletionsNotAllowed`, with what would be deleted in the plan.
    pub async fn see_that_deletions_are_allowed(
        &self,
        fields: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        let seen = self.seen;
        let allowed = seen.object.annotations().get(ALLOW_DELETIONS_ANNOTATION).map(String::as_str);
        if seen.object.mode() != LoadMode::Replace || is_allowed(allowed, &seen.hash) {
            return Ok(());
        }
        let branch = seen.branch.as_str();
        let me = Named { namespace: &seen.owner.namespace, name: &seen.owner.name, hash: &seen.hash };
        let unseen = || refusal_unseen(branch, &self.through.identity, me);
        let (difference, losses) = match self.plan().await? {
            Planned::NotOwner(_) => {
                return if self.was_never_loaded().await? { Ok(()) } else { Err(unseen()) };
            }
            Planned::Unsupported(_) => match self.compare().await? {
                Some(compared) => compared,
                None if self.was_never_loaded().await? => return Ok(()),
                None => return Err(unseen()),
            },
            // The first servers with a dry run checked the document and told of no change: a Replace of what is not
            // loaded yet that changes nothing is looked at twice.
            Planned::Is(difference) if difference.is_empty() => match self.compare().await? {
                Some((compared, losses)) if !losses.is_empty() => (compared, losses),
                _ => return Ok(()),
            },
            Planned::Is(difference) => {
                let losses = self.losses(&difference.deleted).await?;
                (difference, losses)
            }
        };
        let hidden = Difference { deleted: difference.deleted.clone(), ..Difference::default() }.hidden() > 0;
        if losses.is_empty() && !hidden {
            return Ok(());
        }
        fields.insert("plan".into(), json!(difference.to_status()));
        Err(if losses.is_empty() { unseen() } else { refusal(&losses, branch, me) })
    }

    /// Whether nothing was ever loaded into the branch, so that there is nothing of its own to delete; not where the
    /// identity may not read that.
    async fn was_never_loaded(&self) -> Result<bool, Failure> {
        match self.versions(&self.seen.branch).await {
            Ok(versions) => Ok(versions.is_empty()),
            Err(Error::NotFound { .. } | Error::Forbidden { .. }) => Ok(false),
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
                if shown.map_err(|e| self.failed(e))?.is_none_or(|variable| !variable.secrets.is_empty()) {
                    losses.variables.insert(id.clone());
                }
            }
            return Ok(losses);
        }
        let all = look::list(&Listing::default(), self.through, self.ctx).await?;
        let (_, mut losses) = with_cascade(deleted.iter().cloned().collect(), &all);
        // Also those that the list does not show.
        losses.roles.extend(deleted.iter().filter(|id| has_key(id)).cloned());
        Ok(losses)
    }

    /// What a Replace would make and delete, by comparing the records that this branch made with those of the document;
    /// none for who does not own the branch, and sees nothing of it.
    async fn compare(&self) -> Result<Option<(Difference, Losses)>, Failure> {
        let branch = &self.seen.branch;
        match self.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))? {
            Ownership::Owner => {}
            Ownership::NotOwner => return Ok(None),
            Ownership::NoBranch => {
                return Err(super::refusal::branch_not_found(branch, &self.through.identity));
            }
        }
        let made_by = format!("{}:policy:{branch}", self.through.account);
        let document: BTreeSet<&str> = self.content.document.records.iter().map(|r| r.id.as_str()).collect();
        let all = look::list(&Listing::default(), self.through, self.ctx).await?;
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
        Ok(Some((Difference { created, deleted, ..Difference::default() }, losses)))
    }
}

/// What goes when these records are deleted, and what of it can't be had again. `all` are the records that exist.
fn with_cascade(deleted: BTreeSet<String>, all: &[conjur::Resource]) -> (BTreeSet<String>, Losses) {
    let hangs = |found: &conjur::Resource| Hangs { owner: found.owner.clone(), policy: found.policy.clone() };
    let by_id = all.iter().map(|found| (found.id.clone(), hangs(found))).collect();
    let gone = cascade::goes_with(deleted, &by_id);
    let mut losses = Losses::default();
    for found in all.iter().filter(|found| gone.contains(&found.id)) {
        if has_key(&found.id) {
            losses.roles.insert(found.id.clone());
        } else if kind_of(&found.id) == "variable" && !found.secrets.is_empty() {
            losses.variables.insert(found.id.clone());
        }
    }
    (gone, losses)
}

//! A retry is earned (`plan::policy::refusal` decides): a document that Conjur refused is not sent again before something has
//! changed that could mend it. What is known of that stands in `status.refusal`, so that a restart sends nothing either.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::{
    claims,
    seen::{ObservedPolicy, Refused, Say},
};
use crate::{
    api::{
        ConjurPolicyStatus, Reason, SYNC_NOW_ANNOTATION,
        policy::{MendedBy, PolicyAction, PolicyRefusal},
    },
    conjur::{Check, Ownership, PolicyBranch, RoleId},
    controllers::{Context, connection::pool::ReadyConnection},
    limits::REFUSED_AGAIN,
    plan::{
        Failure,
        connection::access::Verb,
        full_id::lies_in,
        hash,
        policy::refusal::{self, Next, Wants},
        schedule::share_of,
    },
    runtime::Key,
};

/// Whether a document may be sent.
pub enum Earned {
    /// Nothing stands against it.
    Yes,
    /// The connection was not tried yet, whose first try wakes the object.
    NotYet,
    /// It was refused, and nothing has changed since.
    No(Failure, Option<Duration>),
}

impl ObservedPolicy<'_> {
    fn verb(&self) -> Verb {
        match self.object.spec.action.unwrap_or_default() {
            PolicyAction::Load => Verb::Load,
            PolicyAction::DryRun => Verb::Plan,
        }
    }

    /// A hash over what a refusal is of: any other document, spec, place or identity is another matter.
    fn refusable(&self, ctx: &Context) -> String {
        let generation = self.object.meta().generation.unwrap_or_default().to_string();
        let facts = &self.named.facts;
        let identity = match &facts.tenant {
            Some(tenant) => format!("tenant {tenant}"),
            None => ctx.clients.identity(facts).unwrap_or_default(),
        };
        hash::hash([self.hash.as_str(), &generation, &self.inputs, &identity])
    }

    fn annotations(&self) -> String {
        hash::hash(self.object.annotations().iter().flat_map(|(k, v)| [k.as_str(), v.as_str()]))
    }

    fn sync_now(&self) -> Option<&String> {
        self.object.annotations().get(SYNC_NOW_ANNOTATION)
    }

    /// Whether `sync-now` has a text that was not handled yet.
    pub fn is_asked_to_look(&self) -> bool {
        let handled = self.object.status.as_ref().and_then(|s| s.last_handled_sync_now.as_ref());
        self.sync_now().is_some_and(|asked| Some(asked) != handled)
    }

    /// Takes note of what Conjur refused.
    pub fn note_refused(&self, refused: Refused) {
        *self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(refused);
    }

    /// A load of unknown outcome is still announced: only what is looked at again anyway may be waited for.
    pub fn while_announced(&self) {
        let mut refused = self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(refused) = refused.as_mut() {
            refused.mended_by = MendedBy::Time;
        }
    }

    fn full_branch(&self) -> String {
        format!("{}:policy:{}", self.named.facts.settings.account, self.branch)
    }

    fn wants(&self, refused: &Refused, reason: &str) -> Option<Wants> {
        match refused.mended_by {
            MendedBy::Edit | MendedBy::Time => None,
            MendedBy::Privilege => {
                let missing = reason == Reason::BranchNotFound.as_str();
                Some(Wants::Branch { id: self.full_branch(), missing })
            }
            MendedBy::Record => refused.record.clone().map(Wants::Record),
        }
    }
}

/// Whether a document may be sent, though it may have been refused before.
///
/// # Errors
/// `BranchTaken`, `AccessDenied`; the connection's.
pub async fn earned(seen: &ObservedPolicy<'_>, ctx: &Context) -> Result<Earned, Failure> {
    let standing = seen.object.status.as_ref().and_then(|s| s.refusal.as_ref());
    let Some(refusal) = standing.filter(|r| r.of == seen.refusable(ctx) && !seen.says_loaded()) else {
        return Ok(Earned::Yes);
    };
    let key = Key::of(seen.object);
    if seen.verb() == Verb::Load {
        claims::check(seen, ctx)?;
    }
    seen.check_access(seen.verb(), ctx)?;
    let says = Failure {
        class: refusal::class(refusal),
        reason: refusal::reason(refusal),
        message: refusal.message.clone(),
    };
    if refusal.asked != seen.annotations() {
        return Ok(match ctx.policy_notes.asked(&key) {
            Some(rest) => Earned::No(says, Some(rest)),
            None => Earned::Yes,
        });
    }
    let now = Timestamp::now();
    let looked = ctx.policy_notes.refused_since(&key, || {
        refusal::looked_before_start(refusal, now.as_second(), share_of(&seen.owner.uid))
    });
    if let Some(wants) = wants_of(seen, refusal) {
        // After a start no one waits yet.
        ctx.branches.waiting.wait_on(&key, &seen.server, wants);
    }
    match refusal::next(refusal, looked, ctx.branches.waiting.mark(&key)) {
        Next::Nothing => Ok(Earned::No(says, None)),
        Next::In(rest) => Ok(Earned::No(says, Some(rest))),
        Next::Send => Ok(Earned::Yes),
        Next::Look => {
            let Some(through) = seen.through(seen.verb(), ctx)? else { return Ok(Earned::NotYet) };
            let on_time = refusal::next(refusal, looked, None) == Next::Look;
            if is_mended(seen, refusal, &through, on_time, ctx).await? {
                return Ok(Earned::Yes);
            }
            ctx.policy_notes.refused_now(&key);
            ctx.branches.waiting.looked(&key);
            Ok(Earned::No(says, refusal::interval(refusal)))
        }
    }
}

fn wants_of(seen: &ObservedPolicy, refusal: &PolicyRefusal) -> Option<Wants> {
    let refused =
        Refused { mended_by: refusal.mended_by, record: refusal.record.clone(), has: None, secret: false };
    seen.wants(&refused, &refusal.reason)
}

/// Whether what is read says that it may be mended. `on_time`: its time came, and not only another's load.
async fn is_mended(
    seen: &ObservedPolicy<'_>,
    refusal: &PolicyRefusal,
    through: &ReadyConnection,
    on_time: bool,
    ctx: &Context,
) -> Result<bool, Failure> {
    match refusal.mended_by {
        MendedBy::Edit => Ok(false),
        MendedBy::Time => Ok(true),
        MendedBy::Privilege => {
            Ok(refusal.has.as_ref() != Some(&what_it_has(&seen.branch, through, ctx).await?))
        }
        MendedBy::Record => {
            let Some((id, record)) =
                refusal.record.as_ref().and_then(|r| Some((r.parse::<RoleId>().ok()?, r)))
            else {
                return Ok(on_time);
            };
            let shown = through.client.show_resource(&id.kind, &id.id).await;
            if shown.map_err(|e| ctx.clients.failure(through, e))?.is_some() {
                return Ok(true);
            }
            // Its owner sees what lies in the branch: what is not seen there is not there.
            if !on_time || !lies_in(record, &through.account, seen.branch.as_str()) {
                return Ok(on_time);
            }
            let owns = through
                .client
                .owns_branch(&seen.branch)
                .await
                .map_err(|e| ctx.clients.failure(through, e))?;
            Ok(owns != Ownership::Owner)
        }
    }
}

/// What the identity is to a branch: nothing where it does not see it, else `see`, the privileges, and `own`.
///
/// # Errors
/// The connection's.
pub async fn what_it_has(
    branch: &PolicyBranch,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<Vec<String>, Failure> {
    let mut has = vec!["see".to_owned()];
    match through.client.owns_branch(branch).await.map_err(|e| ctx.clients.failure(through, e))? {
        Ownership::NoBranch => return Ok(Vec::new()),
        // Owners pass every check.
        Ownership::Owner => has.extend(["read", "create", "update", "own"].map(str::to_owned)),
        Ownership::NotOwner => {
            for privilege in ["read", "create", "update"] {
                let check = through.client.check_permission("policy", branch.as_str(), privilege, None).await;
                if check.map_err(|e| ctx.clients.failure(through, e))? == Check::Granted {
                    has.push(privilege.to_owned());
                }
            }
        }
    }
    Ok(has)
}

/// Writes down what came of a try. When it is looked at again, where Conjur refused it.
pub fn note(
    seen: &ObservedPolicy,
    said: &Result<Say, Failure>,
    loads: u64,
    status: &mut ConjurPolicyStatus,
    ctx: &Context,
) -> Option<Duration> {
    let key = Key::of(seen.object);
    let refused = seen.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    match said {
        Ok(Say::Nothing(_)) => None,
        Ok(Say::Is { .. }) => {
            status.refusal = None;
            if seen.is_asked_to_look() {
                status.last_handled_sync_now = seen.sync_now().cloned();
            }
            ctx.branches.waiting.forget(&key);
            ctx.policy_notes.forget_refusal(&key);
            None
        }
        // What drifted and can't be loaded again is looked at in its own time.
        Err(_) if seen.says_loaded() => None,
        Err(failure) => {
            let refused = refused?;
            let refusal = PolicyRefusal {
                of: seen.refusable(ctx),
                asked: seen.annotations(),
                mended_by: refused.mended_by,
                reason: failure.reason.as_str().to_owned(),
                message: failure.message.clone(),
                tried: Timestamp::now().as_second(),
                record: refused.record.clone().filter(|_| !refused.secret),
                has: refused.has.clone(),
            };
            if seen.is_asked_to_look() {
                status.last_handled_sync_now = seen.sync_now().cloned();
            }
            ctx.policy_notes.refused_now(&key);
            if let Some(wants) = seen.wants(&refused, failure.reason.as_str()) {
                // A load that was made while this one was refused may have made what it wants.
                if ctx.branches.waiting.wait(key.clone(), &seen.server, loads, wants) {
                    ctx.kinds.policies.wake(key.clone());
                }
            } else {
                ctx.branches.waiting.forget(&key);
            }
            let again = refusal::interval(&refusal);
            status.refusal = Some(refusal);
            again.or((refused.mended_by != MendedBy::Edit).then_some(REFUSED_AGAIN))
        }
    }
}

//! A load's turn: one at a time on a branch, not before Conjur said that it may be tried again, and only of what is still
//! asked for by then.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use tokio::time::timeout;

use super::{claims, document, progress, run::Run, seen::observe};
use crate::{
    api::{ConjurPolicyStatus, Reason},
    effect::branch_locks::Turn,
    limits::TURN_WAIT,
    plan::{Failure, connection::access::Verb},
    runtime::Key,
};

impl Run<'_> {
    /// Waits for its turn; none where something else is asked for by then, which is looked at anew.
    ///
    /// # Errors
    /// `LoadInProgress` where that takes too long, or where Conjur asked for a pause that is not over; all that this
    /// policy is refused for by then.
    pub async fn turn(&self, status: &mut ConjurPolicyStatus) -> Result<Option<Turn>, Failure> {
        let (seen, ctx) = (self.seen, self.ctx);
        self.see_that_the_pause_is_over()?;
        let loader = self.loader(&seen.branch);
        if let Some(ours) = ctx.branches.turns.try_take(&loader) {
            // Another may have had its turn while the document was read.
            claims::check(seen, ctx)?;
            return Ok(Some(ours));
        }
        let since = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let message = format!(
            "another ConjurPolicy is being loaded into branch {}; waiting for it, since {since}",
            seen.branch
        );
        let wait = timeout(TURN_WAIT, ctx.branches.take(&loader, &seen.owner.namespace, &ctx.metrics));
        let Ok(ours) = progress::shown(wait, seen, Reason::LoadInProgress, &message, status, ctx).await
        else {
            return Err(Failure::waiting(Reason::LoadInProgress, Duration::from_secs(1), message));
        };
        if !self.is_still_asked_for().await? {
            progress::take_back(seen, status, ctx).await;
            return Ok(None);
        }
        self.see_that_the_pause_is_over()?;
        Ok(Some(ours))
    }

    /// Conjur's `Retry-After` is for the branch: no change of any object shortens it.
    fn see_that_the_pause_is_over(&self) -> Result<(), Failure> {
        match self.ctx.branches.pause(&self.loader(&self.seen.branch)) {
            Some((rest, message)) => Err(Failure::waiting(Reason::LoadInProgress, rest, message)),
            None => Ok(()),
        }
    }

    /// Whether the object, its document, its connection and its branch are as they were before it waited. Whatever
    /// changed them has woken it.
    async fn is_still_asked_for(&self) -> Result<bool, Failure> {
        let (seen, ctx) = (self.seen, self.ctx);
        let stored = ctx.kinds.policies.store.get(&Key::of(seen.object).reference());
        let Some(mut newest) = stored.and_then(|policy| policy.0.as_ref().ok().cloned()) else {
            return Ok(false);
        };
        let (was, is) = (seen.object.meta(), newest.meta());
        if (&was.uid, was.generation) != (&is.uid, is.generation)
            || is.deletion_timestamp.is_some()
            || seen.object.annotations() != newest.annotations()
        {
            return Ok(false);
        }
        // The same generation has the same spec, of which the store may have only the head.
        newest.spec.clone_from(&seen.object.spec);
        let now = observe(&newest, seen.hash.clone(), ctx)?;
        now.check_access(Verb::Load, ctx)?;
        claims::check(&now, ctx)?;
        Ok(now.inputs == seen.inputs && document::look(&newest, ctx).await?.hash == seen.hash)
    }
}

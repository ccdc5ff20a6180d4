//! Restarts the workloads of an object, once its Secret is written.

use kube::ResourceExt;

use super::seen::ObservedSecret;
use crate::{
    api::{
        ConjurSecret, ConjurSecretStatus, Reason,
        condition::{READY, RECONCILING, is_true},
    },
    conjur::Lane,
    controllers::{
        Context,
        rollout::{SWITCHED_OFF, restart},
    },
    plan::{schedule::TargetSeen, secret::rollout::Lineage},
    runtime::{Key, Outcome, ReconcileError},
};

impl ObservedSecret {
    /// The revision of the Secret's data, by what the operator wrote last or by what the watch shows; none where none is asked for.
    pub fn revision(&self, ctx: &Context) -> Option<String> {
        let key = self.desired.revision_key.as_ref()?;
        let written = self.remembered.target.as_ref().and_then(|target| target.revision.as_ref());
        let stored = || {
            let stored = ctx.owned.get(&self.secret_ref())?;
            stored.metadata.annotations.as_ref()?.get(key).cloned()
        };
        written.map(|(revision, _)| revision.clone()).or_else(stored)
    }

    /// Whether nothing is left to do but restarts: they need no answer of Conjur.
    pub fn is_only_rollout(&self, object: &ConjurSecret, ctx: &Context) -> bool {
        let status = object.status.clone().unwrap_or_default();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let done = is_true(conditions, READY) && !is_true(conditions, RECONCILING);
        let lineage = Lineage::of(&self.owner.uid);
        self.target == TargetSeen::AsLeft
            && (done || self.remembered.only_rollout)
            && lineage.is_pending(self.revision(ctx).as_deref(), status.rolled_out.as_deref())
    }

    /// What there is to say where only restarts were left.
    pub fn written_before(&self, ctx: &Context) -> Outcome {
        Outcome::Done {
            again: self.again(ctx),
            reason: Reason::Synced,
            message: self.synced(),
            lane: Lane::Refresh,
        }
    }
}

/// Restarts what is to be restarted after a reconcile that got to its end, and adds to its status that it was.
/// `revision`: that of the Secret, where this reconcile did not look at it.
///
/// # Errors
/// The API server's. All but the restarts counts as done, and they are tried again without asking Conjur.
pub async fn follow(
    object: &ConjurSecret,
    key: &Key,
    revision: Option<String>,
    outcome: Outcome,
    status: &mut ConjurSecretStatus,
    ctx: &Context,
) -> Result<Outcome, ReconcileError> {
    let written = ctx.memory.of(key).target.and_then(|target| target.revision).map(|(text, _)| text);
    let Some(revision) = written.or(revision).filter(|_| !object.spec.rollouts().is_empty()) else {
        return Ok(outcome);
    };
    let Outcome::Done { again, reason, mut message, lane } = outcome else { return Ok(outcome) };
    status.revision = Some(revision.clone());
    let uid = object.uid().unwrap_or_default();
    let rolled_out = object.status.as_ref().and_then(|s| s.rolled_out.as_deref());
    if !ctx.rollout_restart {
        message.push_str(SWITCHED_OFF);
    } else if Lineage::of(&uid).is_pending(Some(&revision), rolled_out)
        && let Err(failure) = restart(object, object.spec.rollouts(), key, &revision, lane, ctx).await
    {
        ctx.memory.change(key, |m| m.only_rollout = true);
        status.observed_generation = object.metadata.generation;
        return Err(ReconcileError { failure, asked: false, again: None });
    }
    ctx.memory.change(key, |m| m.only_rollout = false);
    // Also where it is switched off: on again, it is to restart nothing for what changed in between.
    status.rolled_out = Some(revision);
    Ok(Outcome::Done { again, reason, message, lane })
}

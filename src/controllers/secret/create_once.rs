//! `refreshPolicy: CreatedOnce`: made where it is not there, and left alone while it is.

use kube::ResourceExt;

use super::{seen::ObservedSecret, target};
use crate::{
    api::{ConjurSecret, ConjurSecretStatus, Reason, SYNC_NOW_ANNOTATION, secret::WrittenTarget},
    conjur::Lane,
    controllers::Context,
    plan::secret::is_written_for,
    runtime::Outcome,
};

impl ObservedSecret {
    /// Whether the Secret is there, as it was made once.
    pub fn is_made_once(&self, object: &ConjurSecret, ctx: &Context) -> bool {
        if !self.desired.once {
            return false;
        }
        let Some(stored) = ctx.owned.get(&self.secret_ref()) else { return false };
        if !target::merges(object) {
            return is_written_for(&stored.metadata, &self.owner);
        }
        // A Secret that is merged into names no owner: it is the one that the operator wrote to, or another of its name.
        let uid = stored.uid();
        let in_status = object.status.as_ref().and_then(|s| s.target.as_ref()).map(|t| (&t.name, &t.uid));
        let remembered = self.remembered.target.as_ref().map(|t| (&t.name, &t.uid));
        let is_it =
            |(name, written): (&String, &String)| *name == self.desired.name && Some(written) == uid.as_ref();
        in_status.is_some_and(is_it) || remembered.is_some_and(is_it)
    }

    /// What there is to say of a Secret that is left alone.
    pub fn left_alone(
        &self,
        object: &ConjurSecret,
        status: &mut ConjurSecretStatus,
        ctx: &Context,
    ) -> Outcome {
        let name = &self.desired.name;
        if let Some(stored) = ctx.owned.get(&self.secret_ref())
            && let (Some(uid), Some(resource_version)) = (stored.uid(), stored.resource_version())
            && status.target.as_ref().is_none_or(|written| written.uid != uid)
        {
            status.target = Some(WrittenTarget { name: name.clone(), uid, resource_version });
        }
        status.last_handled_sync_now = object.annotations().get(SYNC_NOW_ANNOTATION).cloned();
        status.missing = None;
        status.observed_inputs = Some(self.inputs(status.observed_inputs.as_deref(), ctx));
        let message = format!(
            "Secret {name} was made once and is left as it is (refreshPolicy: CreatedOnce); delete it to have it made again"
        );
        Outcome::Done { again: None, reason: Reason::Synced, message, lane: Lane::Foreground }
    }
}

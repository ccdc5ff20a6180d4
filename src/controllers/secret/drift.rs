//! Whether what changed of a Secret is ours to repair.

use k8s_openapi::api::core::v1::Secret;

use super::{Seen, target};
use crate::{
    api::ConjurSecret,
    controllers::Context,
    plan::{
        Failure,
        schedule::{Cause, TargetSeen},
        secret::{Fingerprint, wipe},
    },
};

impl Seen {
    /// Whether the Secret is not as it should be, so that the last good state stands no more while Conjur can't be
    /// asked. What of it is another's does not count.
    pub async fn is_disturbed(
        &mut self,
        object: &ConjurSecret,
        cause: Cause,
        ctx: &Context,
    ) -> Result<bool, Failure> {
        if !matches!(cause, Cause::Drift | Cause::Unfinished) || self.target == TargetSeen::AsLeft {
            return Ok(false);
        }
        let only_anothers = self.only_anothers_label(object, ctx).await?;
        self.remembered = ctx.memory.of(&self.key);
        Ok(!only_anothers)
    }

    /// Whether all that changed of the Secret is what others put there. Needs what we remember: after a restart it
    /// can't tell.
    async fn only_anothers_label(&self, object: &ConjurSecret, ctx: &Context) -> Result<bool, Failure> {
        let Some(target) = self.remembered.target.as_ref().filter(|t| t.name == self.desired.name) else {
            return Ok(false);
        };
        let Some(mut secret) = ctx.cluster.read_secret(&self.key.namespace, &target.name).await? else {
            return Ok(false);
        };
        let same = secret.metadata.uid.as_deref() == Some(&target.uid)
            && self.fingerprint(object, &secret, ctx) == target.fingerprint;
        wipe(&mut secret);
        if same {
            let version = secret.metadata.resource_version.unwrap_or_default();
            ctx.memory.change(&self.key, |m| {
                if let Some(target) = &mut m.target {
                    target.resource_version = version;
                }
            });
        }
        Ok(same)
    }

    fn fingerprint(&self, object: &ConjurSecret, secret: &Secret, ctx: &Context) -> Fingerprint {
        if target::merges(object) {
            ctx.fingerprints.of_merged(secret, &self.owner)
        } else {
            ctx.fingerprints.of_existing(secret, &self.desired, &self.owner)
        }
    }
}

//! Brings the target Secret about: as few calls as what the operator remembers allows.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;

use super::cache::Target;
use super::{
    merge,
    seen::ObservedSecret,
    write::{TRIES, TargetWrite, contested, retry_on_conflict},
};
use crate::{
    api::{
        ConjurSecret, ConjurSecretStatus, REVISION_ANNOTATION, Reason,
        secret::{CreationPolicy, DeletionPolicy, RefreshPolicy},
    },
    cluster::{self, Written},
    conjur::Lane,
    controllers::Context,
    metrics::SecretWrite,
    plan::{
        Failure,
        secret::{
            Action, Desired, Former, OwnKeys, SecretRead, check_type, decide, former, mark, no_longer_asked,
            released, rollout::annotation_key,
        },
    },
    runtime::{compact, current::say, report},
};

/// Whether an object merges its keys into a Secret that is not its own.
pub fn merges(object: &ConjurSecret) -> bool {
    object.spec.target().creation_policy.unwrap_or_default() == CreationPolicy::Merge
}

/// The Secret that a spec asks for, without its data.
pub fn desired(object: &ConjurSecret) -> Desired {
    let target = object.spec.target();
    let revision_key =
        || if merges(object) { annotation_key(&object.name_any()) } else { REVISION_ANNOTATION.to_owned() };
    Desired {
        name: target.name.unwrap_or_else(|| object.name_any()),
        type_: target.type_.unwrap_or_else(|| "Opaque".to_owned()),
        labels: target.labels.unwrap_or_default(),
        annotations: target.annotations.unwrap_or_default(),
        owned: target.deletion_policy.unwrap_or_default() == DeletionPolicy::Delete,
        immutable: target.immutable == Some(true),
        once: object.spec.policy() == RefreshPolicy::CreatedOnce,
        revision_key: (!object.spec.rollouts().is_empty()).then(revision_key),
        ..Desired::default()
    }
}

/// Makes the Secret what it should be.
///
/// # Errors
/// A refusal (foreign, being deleted, data that its type does not take), or the API server's.
pub async fn write_target(
    seen: &ObservedSecret,
    object: &ConjurSecret,
    status: &mut ConjurSecretStatus,
    lane: Lane,
    ctx: &Context,
) -> Result<(Action, Target), Failure> {
    let merges = merges(object);
    let desired = &seen.desired;
    let fingerprint = if merges {
        check_merge(desired)?;
        ctx.fingerprints.of_merge(desired)
    } else {
        check_type(&desired.type_, &desired.data, object.spec.target().template.is_some())?;
        ctx.fingerprints.of_desired(desired, &seen.owner)
    };
    let data = desired.revision_key.is_some().then(|| ctx.fingerprints.of_data(&desired.data));
    let run = TargetWrite { seen, object, lane, ctx, fingerprint, data };
    let stored = ctx.owned.get(&seen.secret_ref());
    let as_left = seen.remembered.target.as_ref().filter(|t| {
        t.name == desired.name
            && t.generation == object.metadata.generation
            && stored.as_ref().is_some_and(|s| {
                s.metadata.uid.as_deref() == Some(&t.uid)
                    && s.metadata.resource_version.as_deref() == Some(&t.resource_version)
            })
    });
    if let (Some(left), Some(_)) = (as_left, &stored)
        && left.fingerprint == fingerprint
    {
        return Ok((Action::Unchanged, left.clone()));
    }
    // The watch has the metadata of what the operator changes, so that nothing needs to be read.
    let known = stored.as_ref().filter(|_| as_left.is_some()).map(|s| &s.metadata);
    // A write keeps what others put there, all of which only a look shows where it is much.
    let known = known.filter(|meta| compact::is_whole(meta));
    let done = match known {
        _ if merges => return Box::pin(merge::merge_keys(&run)).await,
        Some(standing) if !desired.immutable && !desired.once => run.replace(standing).await?,
        None if stored.is_none() => run.create().await?,
        _ => None,
    };
    if let Some(done) = done {
        return Ok(done);
    }
    for _ in 1..TRIES {
        if let Some(done) = retry_on_conflict(Box::pin(run.look_and_write(status)).await?)? {
            return Ok(done);
        }
    }
    Err(run.contested())
}

/// What CEL refuses, for objects that were made before it did.
fn check_merge(desired: &Desired) -> Result<(), Failure> {
    let refuse = |message| Err(Failure::stalled(Reason::InvalidSpec, message));
    if desired.owned {
        return refuse(
            "a Secret that is merged into is not deleted with the object: write deletionPolicy: Retain",
        );
    }
    if desired.immutable {
        return refuse(
            "a Secret that is merged into can't be made immutable; leave spec.target.immutable out",
        );
    }
    Ok(())
}

impl TargetWrite<'_> {
    fn build(&self, standing: Option<&ObjectMeta>, drop: &OwnKeys, revision: Option<&str>) -> SecretRead {
        let desired = &self.seen.desired;
        let mut secret = desired.to_secret(&self.seen.owner, standing, drop);
        mark(&mut secret, desired.revision_key.as_deref(), revision);
        secret
    }

    /// Replaces the Secret that is as the operator left it; none where it turns out that it is not.
    async fn replace(&self, standing: &ObjectMeta) -> Result<Option<(Action, Target)>, Failure> {
        let revision = self.revision(Some(standing), true);
        let secret = self.build(Some(standing), &OwnKeys::default(), revision.as_deref());
        match self.ctx.cluster.replace_secret(secret, self.lane).await {
            // Someone may have made it immutable, which its metadata does not show.
            Err(cluster::Error::Invalid(_)) => Ok(None),
            result => Ok(retry_on_conflict(result)?.map(|written| {
                self.tell(SecretWrite::Update);
                // All else that is the operator's is as the generation says.
                (Action::Replace, self.target(written, revision, true))
            })),
        }
    }

    /// Creates the Secret; none where there is one after all.
    async fn create(&self) -> Result<Option<(Action, Target)>, Failure> {
        retry_on_conflict(self.try_create().await)
    }

    async fn try_create(&self) -> Result<(Action, Target), cluster::Error> {
        // Without memory of it no one knows whether the data was another: no reason to restart anything.
        let is_known = self.seen.remembered.target.as_ref().is_some_and(|target| target.revision.is_some());
        let revision = self.revision(None, is_known);
        let secret = self.build(None, &OwnKeys::default(), revision.as_deref());
        let written = self.ctx.cluster.create_secret(secret, self.lane).await?;
        self.tell(SecretWrite::Create);
        Ok((Action::Create, self.target(written, revision, true)))
    }

    /// Reads what is there, decides, writes. The outer error is a refusal, the inner one the API server's.
    async fn look_and_write(
        &self,
        status: &mut ConjurSecretStatus,
    ) -> Result<Result<(Action, Target), cluster::Error>, Failure> {
        let (seen, ctx) = (self.seen, self.ctx);
        let read = ctx.cluster.read_secret(&seen.key.namespace, &seen.desired.name).await?;
        let Some(mut read) = read else { return Ok(self.try_create().await) };
        let decided = decide(&seen.desired, Some(&read), &seen.owner, &ctx.fingerprints);
        let differs = !seen.desired.is_data_of(&read);
        let revision = self.revision(Some(&read.metadata), differs);
        // The values are not needed any more.
        let existing = Secret { metadata: std::mem::take(&mut read.metadata), ..Secret::default() };
        drop(read);
        let action = match decided? {
            Action::Unchanged if self.lacks_revision(&existing.metadata, revision.as_ref()) => {
                Action::Replace
            }
            action => action,
        };
        if action == Action::Recreate {
            self.announce(revision.as_ref(), status).await?;
        }
        let written = self.write(action, &existing, revision.as_deref()).await;
        let changed = differs && action != Action::Unchanged;
        Ok(written.map(|written| (action, self.target(written, revision, changed))))
    }

    async fn write(
        &self,
        action: Action,
        existing: &Secret,
        revision: Option<&str>,
    ) -> Result<Written, cluster::Error> {
        let cluster = &self.ctx.cluster;
        let drop = no_longer_asked(existing.metadata.managed_fields.as_deref(), &self.seen.desired);
        match action {
            Action::Unchanged => Ok(Written {
                uid: existing.uid().unwrap_or_default(),
                resource_version: existing.resource_version().unwrap_or_default(),
            }),
            Action::Replace | Action::Create => {
                let secret = self.build(Some(&existing.metadata), &drop, revision);
                let written = cluster.replace_secret(secret, self.lane).await?;
                self.tell(SecretWrite::Update);
                Ok(written)
            }
            Action::Recreate => {
                let mut standing = existing.metadata.clone();
                (standing.uid, standing.resource_version) = (None, None);
                // What the API server would refuse to make must not cost the Secret that works.
                cluster.try_create_secret(self.build(Some(&standing), &drop, revision)).await?;
                cluster.delete_secret(existing, self.lane).await?;
                let written =
                    cluster.create_secret(self.build(Some(&standing), &drop, revision), self.lane).await?;
                self.tell(SecretWrite::Recreate);
                Ok(written)
            }
        }
    }

    /// Between the deletion and the creation nothing but the status knows that the data is another.
    async fn announce(
        &self,
        revision: Option<&String>,
        status: &mut ConjurSecretStatus,
    ) -> Result<(), Failure> {
        let Some(revision) = revision else { return Ok(()) };
        let edit = |status: &mut ConjurSecretStatus| status.revision = Some(revision.clone());
        Ok(report::write_edit(self.object, status, edit, self.lane, self.ctx).await?)
    }
}

/// After a changed `target.name`: deletes the Secret of the former name, if it is the operator's and was to go with the object.
/// One that is retained stays, and no longer goes with the object.
///
/// # Errors
/// The API server's; it is tried again, for the status still names the former one.
pub async fn remove_former(
    seen: &ObservedSecret,
    object: &ConjurSecret,
    lane: Lane,
    ctx: &Context,
) -> Result<(), Failure> {
    let in_status = object.status.as_ref().and_then(|s| s.target.as_ref()).map(|t| (&t.name, &t.uid));
    // What was written last may be in no status: its write failed.
    let remembered = seen.remembered.target.as_ref().map(|t| (&t.name, &t.uid));
    let formers: BTreeSet<_> = in_status.into_iter().chain(remembered).collect();
    for (name, uid) in formers.into_iter().filter(|(name, _)| **name != seen.desired.name) {
        release_or_delete(seen, name, uid, lane, ctx).await?;
    }
    Ok(())
}

async fn release_or_delete(
    seen: &ObservedSecret,
    name: &str,
    uid: &str,
    lane: Lane,
    ctx: &Context,
) -> Result<(), Failure> {
    for _ in 0..TRIES {
        if retry_on_conflict(try_to_part_with(seen, name, uid, lane, ctx).await)?.is_some() {
            return Ok(());
        }
    }
    Err(contested(name))
}

async fn try_to_part_with(
    seen: &ObservedSecret,
    name: &str,
    uid: &str,
    lane: Lane,
    ctx: &Context,
) -> Result<(), cluster::Error> {
    let Some(secret) = ctx.cluster.read_secret(&seen.key.namespace, name).await? else { return Ok(()) };
    match former(&secret.metadata, uid, seen.desired.owned, &seen.owner) {
        Former::Leave => {}
        Former::Delete => {
            ctx.cluster.delete_secret(&secret, lane).await?;
            ctx.metrics.secret_written(SecretWrite::Delete);
            say!(INFO, secret = name, "deleted the Secret of the former spec.target.name");
        }
        Former::Release => {
            ctx.cluster.replace_secret(released(secret, &seen.owner), lane).await?;
            ctx.metrics.secret_written(SecretWrite::Update);
            say!(INFO, secret = name, "let go of the Secret of the former spec.target.name");
        }
    }
    Ok(())
}

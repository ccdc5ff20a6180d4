//! Brings about the keys that are merged into a Secret that is another's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::cache::Target;
use super::write::{TRIES, TargetWrite, retry_on_conflict};
use crate::{
    api::MANAGER,
    cluster::{Error, Written},
    metrics::SecretWrite,
    plan::{
        Failure,
        secret::{
            Action, mark,
            merge::{MergeStep, body, decide, given_up, manager},
        },
    },
};

/// Makes the keys what they should be. It looks before each write: a key of another's may be there now.
///
/// # Errors
/// A refusal (no Secret, one that can't be merged into, a key that is another's), or the API server's.
pub async fn merge_keys(run: &TargetWrite<'_>) -> Result<(Action, Target), Failure> {
    for _ in 0..TRIES {
        if let Some(done) = look_and_apply(run).await? {
            return Ok(done);
        }
    }
    Err(run.contested())
}

/// Reads what is there, decides, applies; none where it is to be looked at again.
async fn look_and_apply(run: &TargetWrite<'_>) -> Result<Option<(Action, Target)>, Failure> {
    let (seen, cluster) = (run.seen, &run.ctx.cluster);
    let type_ = run.object.spec.target().type_;
    let existing = cluster.read_secret(&seen.key.namespace, &seen.desired.name).await?;
    let decided = decide(&seen.desired, existing.as_deref(), type_.as_deref(), &seen.owner);
    let former = match (&decided, &existing) {
        (Ok(MergeStep::GiveUp), Some(existing)) => Some(given_up(existing, &seen.owner)),
        _ => None,
    };
    let step = decided?;
    // The values are not needed any more, and it may take long.
    let Some(meta) = existing.map(|mut secret| std::mem::take(&mut secret.metadata)) else { return Ok(None) };
    if let Some(former) = former {
        retry_on_conflict(cluster.replace_secret(former, run.lane).await)?;
        return Ok(None);
    }
    let data_differs = step == MergeStep::Apply { data_differs: true };
    let revision = run.revision(Some(&meta), data_differs);
    if step == MergeStep::Unchanged && !run.lacks_revision(&meta, revision.as_ref()) {
        let written = Written {
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
        };
        return Ok(Some((Action::Unchanged, run.target(written, revision, false))));
    }
    let written = retry_on_conflict(apply(run, &meta, revision.as_deref()).await)?;
    Ok(written.map(|written| (Action::Replace, run.target(written, revision, data_differs))))
}

async fn apply(run: &TargetWrite<'_>, meta: &ObjectMeta, revision: Option<&str>) -> Result<Written, Error> {
    let (desired, owner) = (&run.seen.desired, &run.seen.owner);
    let (uid, version) = (meta.uid.as_deref(), meta.resource_version.as_deref());
    let build = || {
        let mut secret = body(desired, owner, uid.unwrap_or_default(), version.unwrap_or_default());
        mark(&mut secret, desired.revision_key.as_deref(), revision);
        secret
    };
    let manager = manager(owner);
    let answer = run.ctx.cluster.apply_secret(build(), &manager, false, run.lane).await;
    let written = match answer {
        // What the operator wrote when the Secret was the operator's alone.
        Err(Error::FieldConflict { managers, .. }) if managers == [MANAGER] => {
            run.ctx.cluster.apply_secret(build(), &manager, true, run.lane).await
        }
        answer => answer,
    }?;
    run.tell(SecretWrite::Update);
    Ok(written)
}

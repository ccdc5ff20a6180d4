//! Brings the target Secret about: as few calls as what we remember allows.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::Seen;
use crate::{
    api::{ConjurSecret, secret::DeletionPolicy},
    cluster::{self, Written},
    conjur::Lane,
    controllers::{Context, memory::Target},
    metrics::SecretWrite,
    plan::{
        Failure,
        secret::{Action, Desired, OwnKeys, Ownership, decide, no_longer_asked, ownership, wipe},
    },
};

/// A conflict means that somebody was in between: look again, a few times.
const TRIES: usize = 4;

/// The Secret that a spec asks for, without its data.
pub fn desired(object: &ConjurSecret) -> Desired {
    let target = object.spec.target();
    Desired {
        name: target.name.unwrap_or_else(|| object.name_any()),
        type_: target.type_.unwrap_or_else(|| "Opaque".to_owned()),
        labels: target.labels.unwrap_or_default(),
        annotations: target.annotations.unwrap_or_default(),
        owned: target.deletion_policy.unwrap_or_default() == DeletionPolicy::Delete,
        data: BTreeMap::new(),
    }
}

/// Makes the Secret what it should be.
///
/// # Errors
/// A refusal (foreign, being deleted), or the API server's.
pub async fn bring_about(
    seen: &Seen,
    object: &ConjurSecret,
    lane: Lane,
    ctx: &Context,
) -> Result<(Action, Target), Failure> {
    let fingerprint = ctx.fingerprints.of_desired(&seen.desired, &seen.owner);
    let target = |written: Written| Target {
        name: seen.desired.name.clone(),
        uid: written.uid,
        resource_version: written.resource_version,
        fingerprint,
        generation: object.metadata.generation,
    };
    let stored = ctx.owned.get(&ObjectRef::new(&seen.desired.name).within(&seen.key.namespace));
    let as_left = seen.remembered.target.as_ref().filter(|t| {
        t.generation == object.metadata.generation
            && stored.as_ref().is_some_and(|s| {
                s.metadata.uid.as_deref() == Some(&t.uid)
                    && s.metadata.resource_version.as_deref() == Some(&t.resource_version)
            })
    });
    if let (Some(left), Some(stored)) = (as_left, &stored) {
        if left.fingerprint == fingerprint {
            return Ok((Action::Unchanged, left.clone()));
        }
        // The watch has the metadata of what we replace, so that nothing needs to be read.
        let secret = seen.desired.to_secret(&seen.owner, Some(&stored.metadata), &OwnKeys::default());
        match ctx.cluster.replace_secret(secret, lane).await {
            // Somebody may have made it immutable, which its metadata does not show.
            Err(cluster::Error::Invalid(_)) => {}
            result => {
                if let Some(written) = or_look_again(result)? {
                    ctx.metrics.secret_written(SecretWrite::Update);
                    return Ok((Action::Replace, target(written)));
                }
            }
        }
    } else if stored.is_none() {
        let secret = seen.desired.to_secret(&seen.owner, None, &OwnKeys::default());
        if let Some(written) = or_look_again(ctx.cluster.create_secret(secret, lane).await)? {
            ctx.metrics.secret_written(SecretWrite::Create);
            return Ok((Action::Create, target(written)));
        }
    }
    for _ in 1..TRIES {
        if let Some((action, written)) = or_look_again(Box::pin(look_and_write(seen, lane, ctx)).await?)? {
            return Ok((action, target(written)));
        }
    }
    let message = format!("Secret {} is changed by somebody else all the time", seen.desired.name);
    Err(Failure::transient(crate::api::Reason::ApiServerError, message))
}

/// Reads what is there, decides, writes. The outer error is a refusal, the inner one the API server's.
async fn look_and_write(
    seen: &Seen,
    lane: Lane,
    ctx: &Context,
) -> Result<Result<(Action, Written), cluster::Error>, Failure> {
    let mut existing = ctx.cluster.read_secret(&seen.key.namespace, &seen.desired.name).await?;
    let decided = decide(&seen.desired, existing.as_ref(), &seen.owner, &ctx.fingerprints);
    if let Some(secret) = existing.as_mut() {
        wipe(secret);
    }
    let action = decided?;
    Ok(write(action, existing.as_ref(), seen, lane, ctx).await.map(|written| (action, written)))
}

async fn write(
    action: Action,
    existing: Option<&Secret>,
    seen: &Seen,
    lane: Lane,
    ctx: &Context,
) -> Result<Written, cluster::Error> {
    let build = |standing, drop: &OwnKeys| seen.desired.to_secret(&seen.owner, standing, drop);
    match (action, existing) {
        (Action::Unchanged, Some(secret)) => Ok(Written {
            uid: secret.uid().unwrap_or_default(),
            resource_version: secret.resource_version().unwrap_or_default(),
        }),
        (Action::Replace, Some(secret)) => {
            let drop = no_longer_asked(secret.metadata.managed_fields.as_deref(), &seen.desired);
            let written = ctx.cluster.replace_secret(build(Some(&secret.metadata), &drop), lane).await?;
            ctx.metrics.secret_written(SecretWrite::Update);
            Ok(written)
        }
        (Action::Recreate, Some(secret)) => {
            let drop = no_longer_asked(secret.metadata.managed_fields.as_deref(), &seen.desired);
            let mut standing = secret.metadata.clone();
            (standing.uid, standing.resource_version) = (None, None);
            // What the API server would refuse to make must not cost the Secret that works.
            ctx.cluster.try_create_secret(build(Some(&standing), &drop)).await?;
            ctx.cluster.delete_secret(secret, lane).await?;
            let written = ctx.cluster.create_secret(build(Some(&standing), &drop), lane).await?;
            ctx.metrics.secret_written(SecretWrite::Recreate);
            Ok(written)
        }
        (_, _) => {
            let written = ctx.cluster.create_secret(build(None, &OwnKeys::default()), lane).await?;
            ctx.metrics.secret_written(SecretWrite::Create);
            Ok(written)
        }
    }
}

/// Somebody was in between: none, and what is there must be read.
fn or_look_again<T>(result: Result<T, cluster::Error>) -> Result<Option<T>, Failure> {
    match result {
        Ok(written) => Ok(Some(written)),
        Err(cluster::Error::AlreadyExists(_) | cluster::Error::Conflict(_) | cluster::Error::NotFound(_)) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// After a changed `target.name`: deletes the Secret of the former name, if it is ours and was to go with the object.
///
/// # Errors
/// The API server's; it is tried again, for the status still names the former one.
pub async fn remove_former(
    seen: &Seen,
    object: &ConjurSecret,
    lane: Lane,
    ctx: &Context,
) -> Result<(), Failure> {
    let former =
        object.status.as_ref().and_then(|s| s.target.as_ref()).filter(|t| t.name != seen.desired.name);
    let Some(former) = former.filter(|_| seen.desired.owned) else { return Ok(()) };
    let Some(mut secret) = ctx.cluster.read_secret(&seen.key.namespace, &former.name).await? else {
        return Ok(());
    };
    wipe(&mut secret);
    let ours = secret.metadata.uid.as_deref() == Some(&former.uid)
        && ownership(&secret.metadata, &seen.owner) == Ownership::Ours;
    if ours {
        ctx.cluster.delete_secret(&secret, lane).await?;
        ctx.metrics.secret_written(SecretWrite::Delete);
    }
    Ok(())
}

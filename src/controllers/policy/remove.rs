//! `deletionPolicy: Delete`: a finalizer keeps the object until what its document made is removed from Conjur.
//!
//! What goes is read from the inventory and looked up anew at each try, so that a try which was cut off is simply
//! repeated. Where several are deleted together, what one made waits for what of the others hangs on it (`order`). The
//! finalizer goes last.

mod branch;
mod keys;
mod order;

use std::collections::BTreeSet;

use kube::{Resource, ResourceExt, runtime::events::EventType};

use crate::{
    api::{ConjurPolicy, FINALIZER, Reason, secret::DeletionPolicy},
    controllers::{
        Context,
        connection::{
            access::BoundConnection,
            pool::ReadyConnection,
            removal::{NoWay, connect},
        },
    },
    effect::{evidence, inventory::Kept, keys::secrets_of},
    limits::REFUSED_AGAIN,
    plan::{
        Failure, LOOK_AGAIN, effect::inventory::secret_name, policy::branch_claims::server, secret::Owner,
    },
    runtime::{Key, Outcome, ReconcileError},
};

/// What there is to do about the finalizer before anything else. Says whether the reconcile goes on.
///
/// # Errors
/// The API server's.
pub async fn ensure_finalizer(object: &ConjurPolicy, ctx: &Context) -> Result<bool, Failure> {
    let deleting = object.meta().deletion_timestamp.is_some();
    let wanted = object.spec.deletion_policy == Some(DeletionPolicy::Delete);
    let there = object.finalizers().iter().any(|f| f == FINALIZER);
    if there && !wanted {
        // Nothing is to be removed any more: what was written down for that goes, too.
        let kept = Kept::read(&Owner::of(object), ctx).await;
        if let Ok(kept) = kept {
            kept.delete(ctx).await?;
        }
        set_finalizer(object, false, ctx).await?;
    }
    if wanted && !there && !deleting && object.spec.suspend != Some(true) {
        return set_finalizer(object, true, ctx).await;
    }
    Ok(!deleting)
}

async fn set_finalizer(object: &ConjurPolicy, there: bool, ctx: &Context) -> Result<bool, Failure> {
    let key = Key::of(object);
    let api = <ConjurPolicy as crate::runtime::Object>::api(ctx.cluster.client(), &key.namespace);
    let uid = object.uid().unwrap_or_default();
    Ok(ctx.cluster.set_finalizer(&api, &key.name, &uid, FINALIZER, there).await?)
}

async fn still_waits(object: &ConjurPolicy, key: &Key, ctx: &Context) -> Result<bool, Failure> {
    let api = <ConjurPolicy as crate::runtime::Object>::api(ctx.cluster.client(), &key.namespace);
    let uid = object.uid().unwrap_or_default();
    Ok(ctx.cluster.has_finalizer(&api, &key.name, &uid, FINALIZER).await?)
}

/// Whether the object is being deleted and waits for the operator.
pub fn is_due(object: &ConjurPolicy) -> bool {
    object.meta().deletion_timestamp.is_some()
        && object.spec.deletion_policy == Some(DeletionPolicy::Delete)
        && object.finalizers().iter().any(|f| f == FINALIZER)
}

/// Removes what the document made, and lets the object go.
pub async fn reconcile(object: &ConjurPolicy, ctx: &Context) -> Result<Outcome, ReconcileError> {
    if object.spec.suspend == Some(true) {
        let message = "it is being deleted, but suspended: set spec.suspend to false to remove from Conjur what it made, or \
                       deletionPolicy to Retain to leave Conjur as it is";
        return Err(Failure::waiting(Reason::Suspended, LOOK_AGAIN, message).into());
    }
    let mut done = Done::default();
    let result = remove(object, &mut done, ctx).await;
    let removed = done.sent.difference(&done.stuck).count();
    if removed > 0 {
        let note = format!("{removed} records were removed from Conjur");
        ctx.events.publish(object, EventType::Normal, Reason::Removed, "Delete", note);
    }
    match result {
        Ok(Some(mut kept)) => {
            for message in done.left {
                ctx.events.publish(object, EventType::Warning, Reason::LeftInConjur, "Delete", message);
            }
            kept.hand_over(&Owner::of(object), ctx).await?;
            set_finalizer(object, false, ctx).await?;
            if let Err(failure) = kept.delete(ctx).await {
                tracing::debug!(%failure, "an inventory is left to the garbage collection");
            }
            wake_those_who_wait(object, ctx);
            Ok(Outcome::NotDue(None))
        }
        Ok(None) => Ok(Outcome::NotDue(None)),
        Err(failure) => {
            let message = format!(
                "it is being deleted, and what it made is still in Conjur: {}. To leave Conjur as it is, set deletionPolicy to \
                 Retain",
                failure.message
            );
            // What keeps it may be mended in Conjur, which tells no one.
            Err(ReconcileError { again: Some(REFUSED_AGAIN), ..Failure { message, ..failure }.into() })
        }
    }
}

/// What came of a removal.
#[derive(Default)]
struct Done {
    /// Full ids of what Conjur was told to delete.
    sent: BTreeSet<String>,
    /// Those of them that are still there.
    stuck: BTreeSet<String>,
    /// Branches that are gone, or no longer visible: no one can tell which.
    invisible: BTreeSet<String>,
    /// What a person should know of what stayed.
    left: Vec<String>,
}

/// The inventory, of which nothing is left to be removed; none where the connection was not tried yet, whose first try
/// wakes the object.
async fn remove(object: &ConjurPolicy, done: &mut Done, ctx: &Context) -> Result<Option<Kept>, Failure> {
    let owner = Owner::of(object);
    let key = Key::of(object);
    let mut kept = Kept::read(&owner, ctx).await?;
    if !kept.is_there() {
        // Its end may not have been shown yet.
        if object.loaded_hash().is_some() && still_waits(object, &key, ctx).await? {
            done.left.push(format!(
                "there is no inventory of what ConjurPolicy {} made: it was last loaded while deletionPolicy was Retain, or the \
                 inventory was deleted. Nothing more is removed from Conjur",
                key.name
            ));
        }
        return Ok(Some(kept));
    }
    match connect(&object.spec.connection_ref, &[object.spec.branch.as_str()], &key, ctx) {
        Ok(None) => return Ok(None),
        Ok(Some((named, through))) => {
            let removal = RemovalRun { object, owner: &owner, named: &named, through: &through, ctx };
            removal.all(&mut kept, done).await?;
            removal.drop_keys_of_what_is_gone(&kept, done).await?;
        }
        Err(NoWay::Ever(message)) => done.left.push(format!(
            "{message}; what ConjurPolicy {} made stays in Conjur, and the keys of its roles in their Secret",
            key.name
        )),
        Err(NoWay::Now(failure)) => return Err(failure),
    }
    Ok(Some(kept))
}

struct RemovalRun<'a> {
    object: &'a ConjurPolicy,
    owner: &'a Owner,
    named: &'a BoundConnection,
    through: &'a ReadyConnection,
    ctx: &'a Context,
}

/// Those that are being deleted may have waited for this one.
fn wake_those_who_wait(gone: &ConjurPolicy, ctx: &Context) {
    for policy in ctx.kinds.policies.store.state() {
        if let Ok(other) = &policy.0
            && other.meta().deletion_timestamp.is_some()
            && other.uid() != gone.uid()
        {
            ctx.kinds.policies.wake(Key::of(policy.as_ref()));
        }
    }
}

/// Names of the Secrets with keys that were written for a policy.
fn key_secrets(owner: &Owner, object: &ConjurPolicy, ctx: &Context) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = secrets_of(owner, ctx).into_iter().collect();
    names.extend(object.spec.created_roles.as_ref().map(|c| c.secret_name.clone()));
    names.remove(&secret_name(&owner.name));
    names
}

//! ConjurPolicy: policy → Conjur. `reconcile` → `observe` → `act`.
//!
//! # Flow
//! Find out the document's hash (`document`); see that the branch is not another's (`claims`); look at the
//! `createdRoles` Secret; load what is not loaded (`load`): see what would be deleted (`deletion_guard`), announce, load, store
//! the keys, record it, clear the announcement; look for drift in what is loaded (`drift`); then see that every role that this
//! policy made has its key (`lost_keys`). With `action: DryRun` only what a load would change is asked (`dry_run`).
//!
//! # Guarantees
//! - The key of a role that a load made is stored, or can be found out to be owed after a crash at any line.
//! - No key is rotated but of a role that an announced load of this policy made and whose key no one ever had, or that
//!   the user named in `rotate-keys`.
//! - One load at a time per branch.
//!
//! # Assumptions
//! - One replica acts: the Lease, and within it `effect::branch_locks`.
//! - Versions of a branch and roles in it carry the time of the transaction that made them (recordings 701, 702).

mod cache;
mod claimed;
mod claims;
mod compact;
mod deletion_guard;
mod document;
mod documents;
mod drift;
mod dry_run;
mod explain;
mod kept_elsewhere;
mod load;
mod lost_keys;
mod places;
mod progress;
mod remove;
mod retry;
mod run;
mod seen;
mod turn;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher::Event,
};

use self::{
    document::{Content, HashedDocument},
    retry::Earned,
    run::Run,
    seen::{ObservedPolicy, Say, drift_slots, observe},
};
use super::{Context, connection::access, handle::Listed};
use crate::{
    api::{ConjurPolicy, ConjurPolicySpec, ConjurPolicyStatus, ConnectionRef, Reason, policy::PolicyAction},
    conjur::{Lane, PolicyBranch},
    effect::{branch_locks::Made, keys::KeySecret},
    limits::POLICY_DEADLINE,
    metrics::Kind,
    plan::{Failure, connection::access::Verb, policy::refusal::looked_again},
    runtime::{Key, Object, Outcome, Reconcile, ReconcileError, api_of_part},
};

pub use self::{cache::Notes, claims::may_add_to, kept_elsewhere::keeper_of};

impl Object for ConjurPolicy {
    const KIND: Kind = Kind::Policy;
    const CONNECTION: Option<fn(&Self) -> &ConnectionRef> = Some(|policy| &policy.spec.connection_ref);

    fn api(client: kube::Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client, namespace)
    }

    fn watched(client: kube::Client, part: &str) -> Api<DeserializeGuard<Self>> {
        api_of_part(client, part)
    }

    fn compact(&mut self) {
        compact::document(self);
        if let Some(conditions) = self.status.as_mut().and_then(|status| status.conditions.as_mut()) {
            conditions.shrink_to_fit();
        }
    }

    fn shorten(spec: &mut ConjurPolicySpec) {
        spec.document_from = None;
    }

    fn check_references(&self) -> Result<(), Failure> {
        crate::plan::references::of_policy(&self.spec)
    }

    fn compact_metadata(metadata: &mut ObjectMeta) {
        compact::metadata(metadata);
    }
}

impl Reconcile for ConjurPolicy {
    type Context = Context;
    const DEADLINE: Duration = POLICY_DEADLINE;

    async fn reconcile(
        &self,
        status: &mut ConjurPolicyStatus,
        ctx: &Context,
    ) -> Result<Outcome, ReconcileError> {
        if self.meta().deletion_timestamp.is_some() {
            claims::forget(&Key::of(self), ctx);
        }
        if remove::is_due(self) {
            return remove::reconcile(self, ctx).await;
        }
        if !remove::ensure_finalizer(self, ctx).await? {
            return Ok(Outcome::NotDue(None));
        }
        let result = if self.spec.suspend == Some(true) {
            Ok(Outcome::Suspended)
        } else {
            look_and_act(self, status, ctx).await
        };
        claims::note(self, &result, ctx);
        result
    }

    fn shown(event: &Event<DeserializeGuard<Self>>, ctx: &Context) {
        ctx.policy_notes.claims.policies_show(event);
    }

    fn on_deleted(key: &Key, ctx: &Context) {
        ctx.heavy.forget(Self::KIND.as_str(), &key.namespace, &key.name);
        document::forget(key, ctx);
        claims::forget(key, ctx);
        ctx.policy_notes.forget(key);
        ctx.branches.waiting.forget(key);
    }
}

impl Listed for ConjurPolicy {
    const WRITES_SECRETS: bool = true;

    /// What the operator itself announces and clears in it is none.
    fn is_news(secret: &PartialObjectMeta<Secret>, ctx: &Context) -> bool {
        ctx.key_writes.shown(&Key::of(secret), secret.metadata.resource_version.as_deref())
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }
}

async fn look_and_act(
    object: &ConjurPolicy,
    status: &mut ConjurPolicyStatus,
    ctx: &Context,
) -> Result<Outcome, ReconcileError> {
    let unobserved = object.conditions().0 != object.meta().generation;
    may_begin(object, ctx).map_err(|failure| ReconcileError { asked: unobserved, ..failure.into() })?;
    let result = begin(object, unobserved, status, ctx).await;
    document::watch(object, result.as_ref().err().map(|trouble| &trouble.failure), ctx);
    result
}

async fn begin(
    object: &ConjurPolicy,
    unobserved: bool,
    status: &mut ConjurPolicyStatus,
    ctx: &Context,
) -> Result<Outcome, ReconcileError> {
    let looked = document::look(object, ctx).await;
    let looked = looked.map_err(|failure| ReconcileError { asked: unobserved, ..failure.into() })?;
    status.document_hash = Some(looked.hash.clone());
    let asked = unobserved || object.answered_hash() != Some(&looked.hash);
    let hash = looked.hash.clone();
    let mut again = None;
    match observe_and_act(object, looked, status, &mut again, ctx).await {
        Ok(Say::Nothing(again)) => Ok(Outcome::NotDue(again)),
        Ok(Say::Is { reason, message, again }) => {
            Ok(Outcome::Done { again, reason, message, lane: Lane::Foreground })
        }
        Err(failure) => {
            // What is loaded may have drifted, and is looked at in its time though a person must act.
            let slots = object.spec.drift_check().filter(|_| object.loaded_hash() == Some(&hash));
            let slots = slots.map(|interval| drift_slots(interval, &object.uid().unwrap_or_default()));
            let slots = slots.map(|slots| slots.next_in(Timestamp::now()));
            let again = slots.into_iter().chain(again).chain(looked_again(failure.reason)).min();
            Err(ReconcileError { failure, asked, again })
        }
    }
}

/// Nothing is read for a policy that never loaded anything before it is known that it may.
///
/// # Errors
/// `ConnectionNotFound`, `AccessDenied`; `InvalidSpec` for a branch that can't be.
fn may_begin(object: &ConjurPolicy, ctx: &Context) -> Result<(), Failure> {
    if object.loaded_hash().is_some() {
        return Ok(());
    }
    let key = Key::of(object);
    let verb = match object.spec.action.unwrap_or_default() {
        PolicyAction::Load => Verb::Load,
        PolicyAction::DryRun => Verb::Plan,
    };
    let branch = PolicyBranch::new(&object.spec.branch)
        .map_err(|e| Failure::stalled(Reason::InvalidSpec, format!("spec.branch: {e}")))?;
    access::named(&object.spec.connection_ref, &key, ctx)?.check_access(verb, &[branch.as_str()], &key, ctx)
}

async fn observe_and_act(
    object: &ConjurPolicy,
    looked: HashedDocument,
    status: &mut ConjurPolicyStatus,
    again: &mut Option<Duration>,
    ctx: &Context,
) -> Result<Say, Failure> {
    let seen = observe(object, looked.hash.clone(), ctx)?;
    let loads = ctx.branches.waiting.loads();
    match retry::earned(&seen, ctx).await? {
        Earned::Yes => {}
        Earned::NotYet => return Ok(Say::Nothing(None)),
        Earned::No(failure, after) => {
            *again = after;
            return Err(failure);
        }
    }
    let said = match object.spec.action.unwrap_or_default() {
        PolicyAction::DryRun => dry_run::dry_run(&seen, looked, status, ctx).await,
        PolicyAction::Load => act(&seen, looked, status, ctx).await,
    };
    *again = retry::note(&seen, &said, loads, status, ctx);
    said
}

async fn act(
    seen: &ObservedPolicy<'_>,
    mut looked: HashedDocument,
    status: &mut ConjurPolicyStatus,
    ctx: &Context,
) -> Result<Say, Failure> {
    let object = seen.object;
    claims::check(seen, ctx)?;
    // What is loaded and was looked at with this spec needs no document to say so.
    let content = if seen.is_settled() {
        None
    } else {
        let content = seen.content(looked.text.take(), ctx).await?;
        content.check_roles(object)?;
        Some(content)
    };
    let named = object.spec.created_roles.as_ref().map(|created| created.secret_name.as_str());
    let mut kept = KeySecret::read(seen.subject(), named, ctx).await?;
    let say = if seen.says_loaded() && kept.announcement().is_none() {
        looked.text = looked.text.or(content.map(|content| content.text));
        drift::check(seen, looked, &mut kept, status, ctx).await?
    } else {
        let content = match content {
            Some(content) => content,
            None => seen.content(looked.text, ctx).await?,
        };
        let Some(through) = seen.through(Verb::Load, ctx)? else { return Ok(Say::Nothing(None)) };
        let run = Run { seen, content: &content, through: &through, ctx };
        let loaded = load::load(&run, &mut kept, None, status).await;
        let is_open = loaded.is_err() && kept.announcement().is_some();
        ctx.policy_notes.note_announced(&Key::of(object), is_open);
        if is_open {
            seen.while_announced();
        }
        let Some(message) = loaded? else { return Ok(Say::Nothing(None)) };
        wake_those_who_wait(seen, &content, status, ctx);
        let again = seen.slots().map(|slots| ctx.policy_notes.handled(&Key::of(object), slots));
        Say::Is { reason: Reason::Loaded, message, again }
    };
    let all_stored = lost_keys::ensure_keys_stored(seen, &mut kept, status, ctx).await?;
    Ok(if all_stored { say } else { Say::Nothing(None) })
}

/// A load makes branches, and what other documents refer to: those that were refused for want of it are tried again.
fn wake_those_who_wait(
    loaded: &ObservedPolicy,
    content: &Content,
    status: &ConjurPolicyStatus,
    ctx: &Context,
) {
    let document = &content.document;
    let roles = status.created_roles.iter().flatten();
    let records = document.records.iter().map(|record| record.id.as_str());
    let made = Made {
        server: &loaded.server,
        records: records.chain(roles.map(String::as_str)).collect(),
        gives: document.statements > document.records.len() + document.deletions.len(),
    };
    for key in ctx.branches.waiting.loaded(&made) {
        ctx.kinds.policies.wake(key);
    }
}

//! Which object has a branch, over all connections and namespaces (`plan::policy::branch_claims` decides).
//!
//! An object counts that would load the branch: one whose connection does not let it, or that was refused before it
//! ever loaded there, can't keep others out.

use std::{sync::Arc, time::Duration};

use kube::{Resource, ResourceExt, core::DeserializeGuard};

use super::{
    claimed::Noted,
    seen::{ObservedPolicy, load_inputs_by},
};
use crate::{
    api::{
        ConjurPolicy, Reason,
        condition::{READY, find},
        policy::{LoadMode, PolicyAction},
    },
    controllers::{
        Context,
        connection::{access, pool::ConnectionState},
    },
    plan::{
        Failure,
        connection::access::Verb,
        policy::branch_claims::{BranchPlace, Claim, Progress, refusal, server, taken_by},
    },
    runtime::{Key, Object, Outcome, ReconcileError},
};

/// Refuses a branch that another has, to who loads it, or would if it did not merely plan to.
///
/// # Errors
/// `BranchTaken`, naming it.
pub fn check(seen: &ObservedPolicy, ctx: &Context) -> Result<(), Failure> {
    let Some(mine) = claim_of_a_load(seen.object, ctx) else { return Ok(()) };
    let age = |policy: &ConjurPolicy| (created(policy), policy.uid().unwrap_or_default());
    let mut earlier: Vec<_> = named_at(&mine.place, ctx)
        .into_iter()
        .filter_map(|policy| policy.0.as_ref().ok().map(age).map(|age| (age, policy.clone())))
        .filter(|(age, _)| (age.0, age.1.as_str()) < (mine.created, mine.uid.as_str()))
        .collect();
    earlier.sort_by(|(one, _), (other, _)| one.cmp(other));
    // The oldest that counts decides (`taken_by`): what the others claim is not even found out.
    let oldest = earlier.iter().filter_map(|(_, policy)| policy.0.as_ref().ok()).find_map(|other| {
        claim_of(other, ctx).filter(|claim| claim.place == mine.place && !is_void(other, ctx))
    });
    taken_by(&mine, oldest.as_slice()).map_or(Ok(()), |holder| Err(refusal(&mine, holder)))
}

/// Takes note of what an object claims after it was looked at, and wakes those for whom that changes something.
pub fn note(object: &ConjurPolicy, result: &Result<Outcome, ReconcileError>, ctx: &Context) {
    let key = Key::of(object);
    let refused = result.as_ref().err().map(|trouble| trouble.failure.reason);
    let claim = claim_of(object, ctx).filter(|_| keeps_others_out(object, refused, ctx));
    let noted = Noted { claim: claim.clone(), refused };
    let before = ctx.policy_notes.claims.with(|all| all.insert(key, noted)).unwrap_or_default();
    if before.claim != claim {
        before.claim.iter().chain(&claim).for_each(|changed| wake(changed, ctx));
    }
}

/// Gives up the claim of an object that is gone, or that is being deleted and so is loaded no more.
pub fn forget(key: &Key, ctx: &Context) {
    if let Some(Noted { claim: Some(claim), .. }) = ctx.policy_notes.claims.with(|all| all.remove(key)) {
        wake(&claim, ctx);
    }
}

/// Whether others may add records to a branch now. Whose ConjurPolicy it is is not told: it may be of another namespace.
///
/// # Errors
/// `BranchTaken` where a ConjurPolicy Replaces it: its next load would remove them. `LoadInProgress` where one announced a load
/// of it whose outcome is not known: Conjur lists the last 20 versions only, and what becomes of it must be found among them.
pub fn may_add_to(place: &BranchPlace, ctx: &Context) -> Result<(), Failure> {
    for policy in named_at(place, ctx) {
        let Ok(object) = &policy.0 else { continue };
        let Some(claim) = claim_of(object, ctx).filter(|claim| claim.place == *place) else { continue };
        if claim.mode == LoadMode::Replace && !is_void(object, ctx) {
            let message = format!(
                "a ConjurPolicy Replaces policy branch {}, and its next load would remove what others make there; use a branch below \
                 it, or give that ConjurPolicy mode Update",
                place.branch()
            );
            return Err(Failure::stalled(Reason::BranchTaken, message));
        }
        let pending = object.status.as_ref().is_some_and(|status| status.pending.is_some());
        if pending || ctx.policy_notes.is_announced(&Key::of(policy.as_ref())) {
            let message = format!(
                "a load of a ConjurPolicy into branch {} is not resolved yet; this continues when it is",
                place.branch()
            );
            return Err(Failure::waiting(Reason::LoadInProgress, UNRESOLVED_AGAIN, message));
        }
    }
    Ok(())
}

/// Who waits for a load to be resolved looks again after this.
const UNRESOLVED_AGAIN: Duration = Duration::from_secs(5);

fn wake(changed: &Claim, ctx: &Context) {
    for policy in named_at(&changed.place, ctx) {
        let theirs = policy.0.as_ref().ok().and_then(|other| claim_of(other, ctx));
        if theirs.is_some_and(|theirs| theirs.collides_with(changed)) {
            ctx.kinds.policies.wake(Key::of(policy.as_ref()));
        }
    }
}

/// The objects that name a branch of an account of a server, of all that there are.
fn named_at(place: &BranchPlace, ctx: &Context) -> Vec<Arc<DeserializeGuard<ConjurPolicy>>> {
    let keys = ctx.policy_notes.claims.places(|places| places.at(place));
    keys.iter().filter_map(|key| ctx.kinds.policies.store.get(&key.reference())).collect()
}

fn created(object: &ConjurPolicy) -> i64 {
    object.meta().creation_timestamp.as_ref().map_or(i64::MAX, |at| at.0.as_second())
}

/// What an object claims; none where it loads nothing (any more), or its connection does not let it.
fn claim_of(object: &ConjurPolicy, ctx: &Context) -> Option<Claim> {
    let plans_only = object.spec.action.unwrap_or_default() == PolicyAction::DryRun;
    if plans_only || object.meta().deletion_timestamp.is_some() {
        return None;
    }
    claim_of_a_load(object, ctx)
}

fn claim_of_a_load(object: &ConjurPolicy, ctx: &Context) -> Option<Claim> {
    let key = Key::of(object);
    let named = access::named(&object.spec.connection_ref, &key, ctx).ok()?;
    named.check_access(Verb::Load, &[object.spec.branch.as_str()], &key, ctx).ok()?;
    let settings = &named.facts.settings;
    Some(Claim {
        place: BranchPlace::new(&settings.url, &settings.account, &object.spec.branch),
        mode: object.mode(),
        created: created(object),
        uid: object.uid().unwrap_or_default(),
        name: format!("{}/{}", key.namespace, key.name),
    })
}

fn is_void(object: &ConjurPolicy, ctx: &Context) -> bool {
    let noted = ctx.policy_notes.claims.with(|all| all.get(&Key::of(object)).map(|n| n.refused));
    let refused = noted.unwrap_or_else(|| {
        let ready = find(object.conditions().1, READY).filter(|c| c.status != "True")?;
        Reason::ALL.iter().copied().find(|reason| reason.as_str() == ready.reason)
    });
    !keeps_others_out(object, refused, ctx)
}

fn keeps_others_out(object: &ConjurPolicy, refused: Option<Reason>, ctx: &Context) -> bool {
    let named = access::named(&object.spec.connection_ref, &Key::of(object), ctx);
    let progress = Progress {
        loaded: has_loaded(object, ctx),
        suspended: object.spec.suspend == Some(true),
        disconnected: named.is_ok_and(|named| matches!(named.standing, ConnectionState::Failing(_))),
        refused,
    };
    progress.keeps_others_out()
}

/// Whether it loaded this branch before, in whatever mode.
pub fn has_loaded(object: &ConjurPolicy, ctx: &Context) -> bool {
    let loaded = object.status.as_ref().and_then(|s| s.observed_inputs.as_deref());
    let Ok(named) = access::named(&object.spec.connection_ref, &Key::of(object), ctx) else {
        return loaded.is_some();
    };
    let server = server(&named.facts.settings.url, &named.facts.settings.account);
    [LoadMode::Append, LoadMode::Update, LoadMode::Replace]
        .into_iter()
        .any(|mode| loaded == Some(&load_inputs_by(&object.spec.branch, mode, &server)))
}

//! What the status says while a load is under way.

use std::{pin::pin, time::Duration};

use jiff::Timestamp;

use super::seen::ObservedPolicy;
use crate::{
    api::{
        ConjurPolicyStatus, Reason,
        condition::{Conditioned, State, conditions},
    },
    conjur::Lane,
    controllers::Context,
    runtime::{Object, report},
};

/// Loads that take less say nothing: most do.
const SILENT: Duration = Duration::from_secs(2);

/// Waits for a load, or for its turn, and says so in the status where it takes long.
pub async fn shown<T>(
    load: impl Future<Output = T>,
    seen: &ObservedPolicy<'_>,
    reason: Reason,
    message: &str,
    status: &mut ConjurPolicyStatus,
    ctx: &Context,
) -> T {
    let mut load = pin!(load);
    if let Ok(done) = tokio::time::timeout(SILENT, &mut load).await {
        return done;
    }
    let (said, done) = tokio::join!(say(seen, reason, message, status, ctx), load);
    if let Err(error) = said {
        // It is for people to look at only.
        tracing::debug!(name = seen.owner.name, "cannot report that a load is in progress: {error}");
    }
    done
}

async fn say(
    seen: &ObservedPolicy<'_>,
    reason: Reason,
    message: &str,
    status: &mut ConjurPolicyStatus,
    ctx: &Context,
) -> Result<(), crate::cluster::Error> {
    let (_, old) = seen.object.conditions();
    let generation = seen.object.metadata.generation;
    let new = conditions(old, State::Waiting, reason, message, generation, Timestamp::now());
    let edit = |status: &mut ConjurPolicyStatus| status.set_conditions(new.clone());
    report::write_edit(seen.object, status, edit, Lane::Foreground, ctx).await
}

/// Nothing came of it: the conditions are again as they were before.
pub async fn take_back(seen: &ObservedPolicy<'_>, status: &mut ConjurPolicyStatus, ctx: &Context) {
    let (_, old) = seen.object.conditions();
    let edit = |status: &mut ConjurPolicyStatus| {
        status.conditions = (!old.is_empty()).then(|| old.to_vec());
    };
    if let Err(error) = report::write_edit(seen.object, status, edit, Lane::Foreground, ctx).await {
        tracing::debug!(name = seen.owner.name, "cannot withdraw the report of a load: {error}");
    }
}

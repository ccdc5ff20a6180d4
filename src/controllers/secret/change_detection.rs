//! `changeDetection: Version`: a look at the versions instead of a fetch.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{
    fetch::{self, Gathered},
    seen::ObservedSecret,
};
use crate::{
    api::{ConjurSecret, secret::ChangeDetection},
    conjur::{Catalogue, Freshness, Lane, VariableId, Wanted},
    controllers::{Context, connection::pool::ReadyConnection},
    plan::{
        schedule::{Cause, OFFSETS, TargetSeen, VERSION_OFFSETS},
        secret::change_detection::{Look, Shown, VersionsHash},
    },
    runtime::ReconcileError,
};

/// How long a fetch that someone waits for is held up by the list. Where the list takes longer, the first refresh
/// fetches once more.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a refresh waits for the list, before it fetches.
const LONGEST_WALK: Duration = Duration::from_secs(60);

/// Whether an object asks for versions first.
pub fn asked(object: &ConjurSecret) -> bool {
    object.spec.change_detection == Some(ChangeDetection::Version)
}

/// How many offsets the objects of its interval share: one walk through the list serves all of one offset.
pub fn offsets(object: &ConjurSecret) -> u32 {
    if asked(object) { VERSION_OFFSETS } else { OFFSETS }
}

/// What came of a look.
pub enum LookOutcome {
    /// The Secret holds what a fetch would bring.
    Unchanged,
    /// The values are needed; what is remembered of the versions after it, where the object asks for that.
    Fetch(Option<PriorLook>),
}

/// A look at the versions before a fetch.
pub struct PriorLook {
    look: Look,
    read_at: Instant,
}

impl PriorLook {
    /// When the list was read: values that were asked for earlier may be older than the versions.
    pub fn read_at(&self) -> Instant {
        self.read_at
    }

    /// What to remember after the fetch, which brought a value or none for each of the variables.
    pub fn after(self, wanted: &[Wanted], brought: &[bool]) -> Option<VersionsHash> {
        let newest = wanted.iter().zip(brought).filter(|(wanted, _)| wanted.version.is_none());
        self.look.after(newest.map(|(_, brought)| *brought))
    }
}

/// The variables whose newest version an object wants. A pinned version is never another.
fn newest(wanted: &[Wanted]) -> impl Iterator<Item = &VariableId> {
    wanted.iter().filter(|w| w.version.is_none()).map(|w| &w.id)
}

/// Looks whether the variables have other versions than when the object was last fetched. Where that is not known, or
/// the values are wanted in any case, it takes the versions for the next time.
///
/// # Errors
/// The connection's failure. Where only the list can't be had, the values are fetched.
pub async fn look(
    seen: &ObservedSecret,
    object: &ConjurSecret,
    gathered: &Gathered<'_>,
    cause: Cause,
    lane: Lane,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<LookOutcome, ReconcileError> {
    // Public keys have no versions, and are no secret: they are fetched.
    if !asked(object) || !gathered.only_variables() {
        return Ok(LookOutcome::Fetch(None));
    }
    let wanted = gathered.wanted();
    let then = then(seen, object, cause);
    let before = if newest(wanted).next().is_none() {
        PriorLook { look: Look::at([]), read_at: Instant::now() }
    } else {
        let freshness = match then {
            // One walk for all objects of a slot, and none from before it.
            Some(_) => Freshness::NoOlderThan(
                seen.slots.map_or(Duration::ZERO, |slots| slots.since(Timestamp::now())),
            ),
            None => Freshness::Remembered,
        };
        let wait = if lane == Lane::Foreground { LONGEST_WAIT } else { LONGEST_WALK };
        let list = through.client.list_variables(None, lane, freshness);
        match tokio::time::timeout(wait, list).await {
            Ok(Ok(catalogue)) => {
                let look = Look::at(newest(wanted).map(|id| (id.as_str(), shown(&catalogue, id))));
                PriorLook { look, read_at: catalogue.read_at() }
            }
            Ok(Err(error)) if error.is_connection() => return Err(fetch::failed(&error, through, ctx)),
            Ok(Err(error)) => return Ok(without_list(seen, &error.to_string())),
            Err(_) => return Ok(without_list(seen, &format!("it took longer than {wait:?}"))),
        }
    };
    Ok(if then.is_some_and(|then| before.look.is_as(then)) {
        LookOutcome::Unchanged
    } else {
        LookOutcome::Fetch(Some(before))
    })
}

/// What the Secret was made of, where it may still be right: nothing else asks for the values, and it is as the operator left it.
fn then(seen: &ObservedSecret, object: &ConjurSecret, cause: Cause) -> Option<VersionsHash> {
    let waits = matches!(cause, Cause::Slot | Cause::Unfinished) && seen.target == TargetSeen::AsLeft;
    let target = seen.remembered.target.as_ref().filter(|_| waits)?;
    seen.remembered.versions.filter(|_| target.generation == object.metadata.generation)
}

fn shown(catalogue: &Catalogue, id: &VariableId) -> Option<Shown> {
    let mark = catalogue.get(id.as_str())?.mark();
    Some(Shown { version: mark.version, made: mark.made })
}

fn without_list(seen: &ObservedSecret, why: &str) -> LookOutcome {
    // Each refresh would say so; metrics count the requests.
    tracing::debug!(
        namespace = seen.key.namespace,
        name = seen.key.name,
        "the list of variables could not be had, so their values are fetched: {why}"
    );
    LookOutcome::Fetch(None)
}

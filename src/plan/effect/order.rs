//! The order of a load, on one screen: what must be done before what, so that after a crash between any two steps it is
//! known what was done.
//!
//! The rules stand by priority, not in time. A smooth run is: inventory, announce, roles into the status, load, store the keys,
//! drop those of roles that are gone, resolve the inventory, record, clear.

use std::collections::BTreeSet;

use super::{
    announcement::Announcement,
    faults::fault,
    step::{Effect, Question, Said, Step, Verdict},
    view::{Answer, Readable, View},
};

/// [`crate::limits::LONGEST_LOAD`] in seconds.
const LONGEST_LOAD: i64 = crate::limits::LONGEST_LOAD.as_secs().cast_signed();

/// Looks at what it needs: it passes, asks for what is not known, or says what is to be done.
type Rule = fn(&View) -> Option<Step>;

/// The order. The first rule that does not pass decides.
pub const ORDER: &[Rule] = &[
    // What can be lost goes before all else.
    keys_in_hand_are_stored,
    what_was_refused_is_withdrawn,
    what_is_recorded_is_cleared,
    // What an earlier run left.
    roles_can_be_seen_and_their_keys_fit,
    the_announced_load_is_looked_at,
    the_load_in_the_status_is_looked_at,
    owed_keys_are_rotated,
    a_load_elsewhere_is_waited_for,
    // May it be loaded?
    deletions_are_allowed,
    roles_that_may_go_are_known,
    // The load: announced before it, and what it tells stored after it.
    what_does_not_exist_is_inventoried,
    it_is_announced,
    owed_roles_are_in_the_status,
    it_is_loaded,
    keys_of_what_is_gone_are_dropped,
    the_inventory_is_resolved,
    it_is_recorded,
];

/// What is to be done next.
pub fn next(view: &View) -> Step {
    // A rule always decides: what is not loaded is to load, what is loaded to record, and what is recorded or refused ends.
    let step = ORDER.iter().find_map(|rule| rule(view));
    debug_assert!(step.is_some(), "no rule decides");
    step.unwrap_or(Step::Finish(Verdict::Refused))
}

/// A key that is nowhere else goes into the Secret, which says with the same write that it is owed no more.
fn keys_in_hand_are_stored(view: &View) -> Option<Step> {
    if view.in_hand.is_empty() || fault!(StoredAfterRecorded) && view.recorded.is_none() {
        return None;
    }
    let announced = view.announced.as_ref().map(|announced| &announced.announcement);
    let standing = view.pending.as_ref().or(announced).cloned();
    let mut left = standing.unwrap_or_else(|| view.announcement(BTreeSet::new(), 0));
    left.owed.retain(|role| !view.is_elsewhere(role));
    if !fault!(StoredKeysStayOwed) {
        left.owed.retain(|role| !view.in_hand.contains(role));
    }
    Some(Step::Do(Effect::Store(left)))
}

/// What was announced for a load that was refused is taken back, or another's load that does the same would be taken for it.
fn what_was_refused_is_withdrawn(view: &View) -> Option<Step> {
    let Some(Answer::Refused { again, unsaid, withdrawn }) = view.answer else { return None };
    let carried = view.announced.as_ref().and_then(|announced| announced.carried.clone());
    // One that owes nothing matters only to who tries the same again soon; it would keep others looking for ever.
    let carried = carried.filter(|earlier| again || !earlier.owed.is_empty());
    let carried = carried.filter(|_| !fault!(RefusedForgetsTheEarlier));
    if !unsaid {
        // As long as an earlier load may still make them, none is forgotten.
        let known = if carried.is_some() { view.request.known.clone() } else { view.still_ours() };
        return Some(Step::Do(Effect::Unsay(known)));
    }
    if !withdrawn && view.pending.is_some() && view.pending != carried && !fault!(RefusedStaysAnnounced) {
        return Some(Step::Do(Effect::Withdraw(carried)));
    }
    let inventory = &view.inventory;
    let has_absent = inventory.absent.as_ref().is_some_and(|absent| !absent.is_empty());
    let is_announced = inventory.announced && !inventory.resolved && has_absent;
    if is_announced && !fault!(RefusedStaysInventoried) {
        return inventory.before.clone().map(|before| Step::Do(Effect::Inventory(before)));
    }
    Some(Step::Finish(Verdict::Refused))
}

/// First the status says that it is loaded, and then the announcement goes: a crash in between must not load it again.
fn what_is_recorded_is_cleared(view: &View) -> Option<Step> {
    if fault!(ClearedBeforeRecorded)
        && view.recorded.is_none()
        && view.pending.is_some()
        && view.loaded().is_some()
    {
        return Some(Step::Do(Effect::Clear));
    }
    let (version, how) = view.recorded?;
    let cleared = view.pending.is_none();
    Some(if cleared { Step::Finish(Verdict::Loaded { version, how }) } else { Step::Do(Effect::Clear) })
}

/// Who does not own a branch sees none of its roles, and can't recover their keys.
fn roles_can_be_seen_and_their_keys_fit(view: &View) -> Option<Step> {
    if view.request.makes.is_empty() {
        return None;
    }
    if !view.checked.owned {
        return Some(Step::Learn(Question::Ownership));
    }
    let all = || {
        let announced = view.announcement(view.request.makes.clone(), 0);
        view.pending.iter().cloned().fold(announced, Announcement::after)
    };
    (!view.checked.room).then(|| Step::Learn(Question::Room(all())))
}

/// What became of an earlier load: its roles, then the versions of its branch, then those roles again that were absent. In
/// another order what is made in between would be taken for a stranger's, or for never made.
fn the_announced_load_is_looked_at(view: &View) -> Option<Step> {
    let announced = view.to_resolve().filter(|_| !fault!(ResumedDoesNotLook))?;
    let looked = &view.looked;
    if !looked.may {
        return Some(Step::Learn(Question::MayResolve(announced.clone())));
    }
    let versions_first = fault!(VersionsBeforeRoles) && looked.versions.is_none();
    let Some(roles) = looked.roles.as_ref().filter(|_| !versions_first) else {
        if versions_first {
            return Some(Step::Learn(Question::OwedVersions(announced.branch.clone())));
        }
        return Some(Step::Learn(Question::OwedRoles(announced.owed.clone())));
    };
    let Some(versions) = &looked.versions else {
        return Some(Step::Learn(Question::OwedVersions(announced.branch.clone())));
    };
    let absent: BTreeSet<String> =
        announced.owed.iter().filter(|role| !roles.contains_key(*role)).cloned().collect();
    let happened = matches!(versions, Readable::Yes(versions) if announced.any_happened(versions));
    if happened && !looked.again && !absent.is_empty() && !fault!(NoSecondLook) {
        return Some(Step::Learn(Question::OwedRolesAgain(absent)));
    }
    None
}

/// The same for what the status announces, where the Secret announces nothing.
fn the_load_in_the_status_is_looked_at(view: &View) -> Option<Step> {
    let is_first = view.pending.is_none() && view.announced.is_none() && is_to_load(view);
    let is_known = view.said_of_this().is_some_and(|said| said.version.is_some());
    (is_first && is_known && view.said_versions.is_none()).then_some(Step::Learn(Question::SaidVersions))
}

/// A role that an announced load made, and whose key was never stored, has a key that no one ever had.
fn owed_keys_are_rotated(view: &View) -> Option<Step> {
    let rotate = &view.resolution()?.rotate;
    if rotate.is_empty() {
        return None;
    }
    let announced = view.to_resolve()?;
    if view.looked.elsewhere.is_none() && !fault!(KeptElsewhereIsRotated) {
        return Some(Step::Learn(Question::KeptElsewhere(rotate.clone(), announced.version)));
    }
    let mut due = rotate.iter().filter(|role| !view.is_elsewhere(role));
    due.next().map(|role| Step::Do(Effect::Rotate(role.clone())))
}

/// A load of the same branch that succeeds shows that no other is under way; one of another branch does not.
fn a_load_elsewhere_is_waited_for(view: &View) -> Option<Step> {
    if view.announced.is_some() || view.recorded.is_some() || fault!(OtherBranchIsNotWaitedFor) {
        return None;
    }
    let found = view.resolution()?;
    let left = view.carried()?;
    let may_come = left.branch != view.request.branch && found.happened.is_none() && !found.absent.is_empty();
    // Who may write the Secret may have written any time.
    let rest = left.at.saturating_add(LONGEST_LOAD).saturating_sub(view.now).min(LONGEST_LOAD);
    let seconds = u64::try_from(rest).ok().filter(|rest| *rest > 0)?;
    may_come.then_some(Step::Finish(Verdict::Wait { branch: left.branch, seconds }))
}

/// Whether the load is still to be sent.
fn is_to_load(view: &View) -> bool {
    view.answer.is_none() && view.loaded().is_none()
}

fn deletions_are_allowed(view: &View) -> Option<Step> {
    (is_to_load(view) && view.request.needs_permission && !view.checked.may_delete)
        .then_some(Step::Learn(Question::Deletions))
}

fn roles_that_may_go_are_known(view: &View) -> Option<Step> {
    (is_to_load(view) && view.may_go.is_none()).then_some(Step::Learn(Question::RolesThatMayGo))
}

/// What exists before a load was never made by it, so that `deletionPolicy: Delete` never removes it.
fn what_does_not_exist_is_inventoried(view: &View) -> Option<Step> {
    let inventory = &view.inventory;
    if !is_to_load(view)
        || !view.request.inventoried
        || inventory.announced
        || fault!(InventoriedAfterTheLoad)
    {
        return None;
    }
    let Some(before) = &inventory.before else {
        return Some(Step::Learn(Question::Inventory { before: true }));
    };
    let Some(absent) = &inventory.absent else { return Some(Step::Learn(Question::AbsentRecords)) };
    let mut announced = before.clone();
    if !absent.is_empty() {
        let Some(version) = inventory.version else { return Some(Step::Learn(Question::InventoryVersion)) };
        announced.announce(view.entry(version), &absent.iter().collect::<Vec<_>>());
    }
    Some(Step::Do(Effect::Inventory(announced)))
}

/// What is about to happen is said durably before it does: in the Secret where a key may be owed, else in the status.
fn it_is_announced(view: &View) -> Option<Step> {
    if !is_to_load(view) || view.announced.is_some() || fault!(LoadedUnannounced) {
        return None;
    }
    let carried = view.carried();
    let in_secret = !view.request.makes.is_empty() || carried.is_some();
    let before = &view.before;
    if !in_secret && view.pending.is_some() && !fault!(SpentAnnouncementStays) {
        // Spent: nothing is owed for it. It would be looked at in the place of the one in the status.
        return Some(Step::Do(Effect::Clear));
    }
    if in_secret && before.roles.is_none() && !(fault!(VersionsBeforeRoles) && before.version.is_none()) {
        return Some(Step::Learn(Question::Roles));
    }
    let Some(version) = before.version else {
        let question = if in_secret { Question::Version } else { Question::VersionIfReadable };
        return Some(Step::Learn(question));
    };
    let version = version.yes();
    if !in_secret {
        // The same load, tried twice, counts from the first.
        let first = view.said_of_this().and_then(|said| said.version);
        let version = version.map(|version| first.map_or(version, |first| first.min(version)));
        return Some(Step::Do(Effect::Say(Said {
            document: view.request.document.clone(),
            inputs: view.request.inputs.clone(),
            loader: Some(view.request.loader.clone()),
            version,
        })));
    }
    let exists = |role: &&String| before.roles.iter().any(|roles| roles.contains_key(*role));
    let absent: BTreeSet<String> = view.request.makes.iter().filter(|role| !exists(role)).cloned().collect();
    if !absent.is_empty() && !before.same_server {
        return Some(Step::Learn(Question::SameServer));
    }
    let mut announced = view.announcement(absent, version.unwrap_or(0));
    let carried = carried.filter(|earlier| earlier.branch == announced.branch);
    if let Some(earlier) = carried.filter(|_| !fault!(AnnouncementReplacesTheEarlier)) {
        announced = announced.after(earlier);
    }
    Some(Step::Do(Effect::Announce(announced)))
}

fn owed_roles_are_in_the_status(view: &View) -> Option<Step> {
    let announced = view.announced.as_ref().filter(|announced| !announced.said && !fault!(OwedAreNotSaid))?;
    let owed = announced.announcement.owed.iter();
    Some(Step::Do(Effect::SayRoles(view.request.known.iter().chain(owed).cloned().collect())))
}

fn it_is_loaded(view: &View) -> Option<Step> {
    is_to_load(view).then_some(Step::Do(Effect::Load))
}

/// The key of a role that the load took away is good for nothing.
fn keys_of_what_is_gone_are_dropped(view: &View) -> Option<Step> {
    let may_go = view.may_go.as_ref().filter(|roles| view.answer.is_some() && !roles.is_empty())?;
    let Some(gone) = &view.gone else { return Some(Step::Learn(Question::RolesGone(may_go.clone()))) };
    (!gone.is_empty() && !view.dropped && !fault!(GoneKeysStay))
        .then(|| Step::Do(Effect::DropKeys(gone.clone())))
}

/// When the load happened goes into the inventory while Conjur still lists its version.
fn the_inventory_is_resolved(view: &View) -> Option<Step> {
    let inventory = &view.inventory;
    if !view.request.inventoried || inventory.resolved || fault!(InventoryIsNotResolved) {
        return None;
    }
    let (version, _) = view.loaded()?;
    let Some(stands) = &inventory.after else {
        return Some(Step::Learn(Question::Inventory { before: false }));
    };
    let mut known = stands.clone();
    let answered = match &view.answer {
        Some(Answer::Loaded(_, roles)) => roles.clone(),
        _ => BTreeSet::new(),
    };
    known.made(view.entry(version - 1), &view.request.account, &answered);
    if !known.is_open(&view.request.server, &view.request.branch) {
        return None;
    }
    let Some(times) = &inventory.times else { return Some(Step::Learn(Question::LoadTimes)) };
    known.resolve(&view.request.server, &view.request.branch, times, true);
    Some(Step::Do(Effect::Inventory(known)))
}

fn it_is_recorded(view: &View) -> Option<Step> {
    let (version, _) = view.loaded()?;
    let mut roles = view.still_ours();
    roles.extend(view.request.makes.iter().filter(|role| view.stored.contains(*role)).cloned());
    roles.extend(view.created.iter().cloned());
    roles.extend(view.all_unclear());
    Some(Step::Do(Effect::Record { version, roles }))
}

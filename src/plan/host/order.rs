//! The order of keeping a host, on one screen: what must be done before what, so that after a crash between any two steps it
//! is known what was done.
//!
//! The rules stand by priority, not in time. A smooth enrolment by policy is: look, announce, make the bare host, store its
//! key, announce, load what the spec says of it, record.

use std::collections::BTreeSet;

use super::{
    document::branch_of_grant,
    faults::fault,
    step::{
        AttributeLoad, EnrolmentWay, HostEffect, HostLook, HostQuestion, HostRecord, HostStep, HostVerdict,
        Maker,
    },
    tokens::{TOKEN_LIFE, a_token_that_may_come_is_waited_for, a_token_that_was_announced_is_revoked},
    view::{Evidence, HostView},
};
use crate::{
    api::host::{AppliedHost, PendingEnrolment, PendingHost, PendingLoadOfHost, PendingStep},
    plan::effect::evidence::newest,
};

/// Looks at what it needs: it passes, asks for what is not known, or says what is to be done.
type HostRule = fn(&HostView) -> Option<HostStep>;

/// The order. The first rule that does not pass decides.
pub const ORDER: &[HostRule] = &[
    // What can be lost goes before all else.
    a_key_in_hand_is_stored,
    a_token_in_hand_is_revoked,
    what_was_refused_is_withdrawn,
    // What an earlier run left, and what there is.
    a_token_that_was_announced_is_revoked,
    the_secret_is_looked_at,
    a_token_that_may_come_is_waited_for,
    the_host_is_looked_at,
    who_made_it_is_found_out,
    a_host_of_another_is_left_alone,
    // Enrolment.
    it_is_made,
    it_is_enrolled_by_a_factory,
    it_is_enrolled_by_a_given_token,
    // What the spec says of it, and its key.
    the_key_is_thrown_away,
    an_owed_key_is_made_before_the_load,
    what_the_spec_says_is_loaded,
    the_stored_key_is_tried,
    the_key_is_rotated,
    // The end.
    it_is_recorded,
    what_is_wrong_with_the_key_is_told,
];

/// What is to be done next.
pub fn next(view: &HostView) -> HostStep {
    let step = ORDER.iter().find_map(|rule| rule(view));
    step.unwrap_or_else(|| HostStep::Finish(HostVerdict::Done { again: rest(view) }))
}

/// For how long something that was lost may still come through, where that matters to a stored key.
fn rest(view: &HostView) -> Option<i64> {
    let until = view.pending.as_ref()?.until?;
    view.request.keeps_key.then(|| until.saturating_sub(view.now).max(1))
}

/// A key that is nowhere else goes into the Secret; where none is kept, it is wiped.
fn a_key_in_hand_is_stored(view: &HostView) -> Option<HostStep> {
    if !view.in_hand || fault!(RecordedBeforeStored) && view.recorded.is_none() {
        return None;
    }
    // A factory's host that another enrolled in between: its key is gone, and this one is not the object's.
    let is_anothers = view.enrolled == Some(false) && !view.request.adopts;
    if is_anothers || !view.request.keeps_key && !fault!(KeyIsKept) {
        return Some(HostStep::Do(HostEffect::Drop));
    }
    let announced = view.pending.as_ref().filter(|pending| pending.step != PendingStep::Load);
    // A load of what the spec says makes a host that was deleted a moment before.
    let number = announced.map_or_else(|| view.next_number(), |pending| pending.number);
    Some(HostStep::Do(HostEffect::Store(number)))
}

/// A factory's token is used once, and then revoked; also where it turned out not to be needed.
fn a_token_in_hand_is_revoked(view: &HostView) -> Option<HostStep> {
    let is_used = view.enrolled.is_some() || view.refused || view.looked_again && !is_absent(view);
    if !view.token || !is_used || fault!(TokenIsLeft) {
        return None;
    }
    let token = view.pending.as_ref()?.token.clone()?;
    Some(HostStep::Do(HostEffect::Revoke { factory: token.factory, expires: token.expires }))
}

/// What was announced and certainly not done is taken back; what this run did before it stays announced.
fn what_was_refused_is_withdrawn(view: &HostView) -> Option<HostStep> {
    if !view.refused {
        return None;
    }
    let step = if view.withdrawn || view.pending == view.standing {
        HostStep::Finish(HostVerdict::Refused)
    } else {
        HostStep::Do(HostEffect::Withdraw(view.standing.clone()))
    };
    Some(step)
}

/// Whose the Secret is, and what it holds, decides what is owed.
fn the_secret_is_looked_at(view: &HostView) -> Option<HostStep> {
    let is_needed = view.request.keeps_key
        || view.pending.is_some()
        || view.applied.as_ref().is_some_and(|applied| applied.key.is_some());
    (is_needed && view.target.is_none()).then_some(HostStep::Learn(HostQuestion::Target))
}

fn is_absent(view: &HostView) -> bool {
    view.host == Some(HostLook::Absent)
}

/// What a given token makes may be invisible to the identity, and needs no look before there is a key.
fn is_enrolled_unseen(view: &HostView) -> bool {
    let has_key = view.target.is_some_and(|target| target.key);
    let is_known = view.applied.is_some() || view.is_announced_key_stored() || view.has_kept_key();
    let is_stored = has_key && is_known;
    let is_owed = match view.pending.as_ref().map(|pending| pending.step) {
        Some(PendingStep::Rotate | PendingStep::Discard) => false,
        Some(PendingStep::Enrol) => view.is_key_owed(),
        Some(PendingStep::Make | PendingStep::Load) | None => !is_stored,
    };
    view.request.way == EnrolmentWay::Token && is_owed && !view.stored
}

fn the_host_is_looked_at(view: &HostView) -> Option<HostStep> {
    // Of a host that was enrolled with a given token nothing is asked but what a rotation needs.
    let is_unseen =
        view.request.way == EnrolmentWay::Token && (is_enrolled_unseen(view) || !is_rotation_due(view));
    (view.host.is_none() && !is_unseen).then_some(HostStep::Learn(HostQuestion::Host))
}

/// A host that does not name the object may be the one that its load made.
fn who_made_it_is_found_out(view: &HostView) -> Option<HostStep> {
    let Some(HostLook::There { .. }) = view.host else { return None };
    if view.is_marked() || view.is_anothers() || view.made == Some(true) || view.versions.is_some() {
        return None;
    }
    let load = view.pending.as_ref()?.load.as_ref()?;
    Some(HostStep::Learn(HostQuestion::Versions(load.branch.clone())))
}

/// The key of a host that the object did not make is never touched, unless the spec permits it.
fn a_host_of_another_is_left_alone(view: &HostView) -> Option<HostStep> {
    let Some(HostLook::There { maker, .. }) = &view.host else { return None };
    if view.is_ours() || fault!(ForeignIsRotated) {
        return None;
    }
    let of = match maker {
        Maker::Another(of) => Some(of.clone()),
        Maker::Ours { .. } | Maker::Unmarked => None,
    };
    if view.request.adopts && of.is_none() {
        return None;
    }
    let unclear = view.evidence() == Some(Evidence::Unclear);
    if view.pending.is_some() && !view.withdrawn && !unclear {
        return Some(HostStep::Do(HostEffect::Withdraw(None)));
    }
    let rekeyed = view.enrolled == Some(false) && !fault!(LostKeyIsNotTold);
    Some(HostStep::Finish(HostVerdict::Foreign { of, unclear, rekeyed }))
}

/// First a bare host, which changes nothing of one that is there: what the spec says is loaded when it is known whose it is.
fn it_is_made(view: &HostView) -> Option<HostStep> {
    let EnrolmentWay::Branch(branch) = &view.request.way else { return None };
    if !is_absent(view) {
        return None;
    }
    match view.made {
        // It is there, and not visible: another's.
        Some(false) if view.pending.is_some() && !view.withdrawn => {
            return Some(HostStep::Do(HostEffect::Withdraw(None)));
        }
        Some(false) => {
            return Some(HostStep::Finish(HostVerdict::Foreign { of: None, unclear: false, rekeyed: false }));
        }
        // It was made, and is gone again.
        Some(true) => return Some(HostStep::Finish(HostVerdict::Vanished)),
        None => {}
    }
    if let Some(step) = is_prepared(view, Some(branch)) {
        return Some(step);
    }
    let Some(versions) = &view.versions else {
        return Some(HostStep::Learn(HostQuestion::Versions(branch.clone())));
    };
    let has_evidence = view.pending.as_ref().is_some_and(|pending| pending.load.is_some());
    let is_announced = is_announced(view, PendingStep::Make) && has_evidence || fault!(MadeUnannounced);
    if !is_announced {
        let mut pending = view.announcement(PendingStep::Make);
        let earlier = pending.load.take();
        let mut version = newest(versions);
        let mut loaders = BTreeSet::from([view.request.loader.clone()]);
        if let Some(earlier) = earlier.filter(|_| !fault!(EarlierVersionIsForgotten)) {
            version = version.min(earlier.version);
            loaders.extend(earlier.loaders);
        }
        pending.load = Some(PendingLoadOfHost {
            branch: branch.clone(),
            version,
            document: view.request.document.clone(),
            loaders: loaders.into_iter().collect(),
        });
        return Some(HostStep::Do(HostEffect::Announce(pending)));
    }
    Some(HostStep::Do(HostEffect::Make))
}

/// Whether this run announced it last.
fn is_announced(view: &HostView, step: PendingStep) -> bool {
    view.announced && view.pending.as_ref().is_some_and(|pending| pending.step == step)
}

/// The branch is owned, so that the host can be seen and its key recovered; and the Secret can be written.
fn is_prepared(view: &HostView, branch: Option<&String>) -> Option<HostStep> {
    if let Some(branch) = branch
        && !view.owned.contains(branch)
    {
        return Some(HostStep::Learn(HostQuestion::Ownership(branch.clone())));
    }
    (view.request.keeps_key && !view.room).then_some(HostStep::Learn(HostQuestion::Room))
}

fn it_is_enrolled_by_a_factory(view: &HostView) -> Option<HostStep> {
    let EnrolmentWay::Factory(factory) = &view.request.way else { return None };
    if !is_absent(view) {
        return None;
    }
    if view.enrolled.is_some() {
        return Some(HostStep::Finish(HostVerdict::Vanished));
    }
    // Its key is stored, and the host is not to be seen: to enrol it again would end that key, unless a person asks for it.
    let is_stored = view.is_announced_key_stored() && view.request.rotation.text.is_none();
    if is_stored && !fault!(StoredIsEnrolledAgain) {
        return Some(HostStep::Finish(HostVerdict::NotFound));
    }
    // To others the hosts that it made look absent, and a factory gives them a new key.
    if !view.owns_factory && !fault!(AnyFactoryIsUsed) {
        return Some(HostStep::Learn(HostQuestion::FactoryOwnership(factory.clone())));
    }
    if let Some(step) = is_prepared(view, None) {
        return Some(step);
    }
    let Some(seen) = &view.factory else {
        return Some(HostStep::Learn(HostQuestion::Factory(factory.clone())));
    };
    if !is_announced(view, PendingStep::Enrol) {
        let mut pending = view.announcement(PendingStep::Enrol);
        // No other token of the factory ends in that second: of as many seconds as there are tokens, and one, one is free.
        let soonest = seen.now.saturating_add(TOKEN_LIFE);
        let latest = soonest.saturating_add(i64::try_from(seen.expiries.len()).unwrap_or(i64::MAX));
        let expires = (soonest..=latest).find(|at| !seen.expiries.contains(at))?;
        if !fault!(EnrolledUnannounced) {
            pending.token = Some(PendingEnrolment { factory: factory.clone(), expires });
        }
        return Some(HostStep::Do(HostEffect::Announce(pending)));
    }
    let announced = view.pending.as_ref().and_then(|pending| pending.token.as_ref());
    if !view.token {
        let expires = announced.map_or(seen.now + TOKEN_LIFE, |token| token.expires);
        return Some(HostStep::Do(HostEffect::MakeToken(expires)));
    }
    // A factory gives a host that it made a new key, whoever asked for the first one.
    if !view.looked_again && !fault!(NotLookedAtBeforeEnrolment) {
        return Some(HostStep::Learn(HostQuestion::HostAgain));
    }
    Some(HostStep::Do(HostEffect::Enrol))
}

fn it_is_enrolled_by_a_given_token(view: &HostView) -> Option<HostStep> {
    if !is_enrolled_unseen(view) || view.enrolled.is_some() {
        return None;
    }
    if view.applied.is_some() && view.earlier().is_none() && !view.announced {
        // It was stored, and is gone.
        let asked = view.request.rotation.text.is_some();
        return (!asked).then_some(HostStep::Finish(HostVerdict::KeyGone));
    }
    if let Some(step) = is_prepared(view, None) {
        return Some(step);
    }
    if !is_announced(view, PendingStep::Enrol) {
        return Some(HostStep::Do(HostEffect::Announce(view.announcement(PendingStep::Enrol))));
    }
    Some(HostStep::Do(HostEffect::Enrol))
}

/// A key that is not kept any more is rotated into nothing, and then the Secret goes.
fn the_key_is_thrown_away(view: &HostView) -> Option<HostStep> {
    if view.request.keeps_key {
        return None;
    }
    let was_kept = view.applied.as_ref().is_some_and(|applied| applied.key.is_some());
    let is_taken_over = view.applied.is_none() && !view.is_ours();
    let is_underway = view.pending.as_ref().is_some_and(|pending| {
        matches!(pending.step, PendingStep::Rotate | PendingStep::Discard | PendingStep::Enrol)
    });
    if (was_kept || is_taken_over || is_underway) && !view.dropped {
        if !is_announced(view, PendingStep::Discard) {
            return Some(HostStep::Do(HostEffect::Announce(view.announcement(PendingStep::Discard))));
        }
        return Some(HostStep::Do(HostEffect::Rotate));
    }
    let has_secret = view.target.is_some_and(|target| target.key);
    (has_secret && !fault!(KeyIsKept)).then_some(HostStep::Do(HostEffect::DeleteSecret))
}

/// Of a host that names the object, what can't be loaded keeps no key from being stored: the one in the Secret may be dead. Where
/// none is kept in the Secret, the load may first have to let the host have a key.
fn an_owed_key_is_made_before_the_load(view: &HostView) -> Option<HostStep> {
    let is_loaded_later = matches!(view.request.way, EnrolmentWay::Branch(_)) && !view.loaded;
    let may_have_a_key = view.applied.as_ref().is_none_or(|applied| applied.api_key != Some(false));
    let is_asked = view.is_key_owed() || is_asked_by_a_person(view) || is_slot_due(view);
    let is_first = is_loaded_later && view.is_marked() && view.has_kept_key() && may_have_a_key && is_asked;
    if !is_first || fault!(LoadGoesBeforeTheKey) {
        return None;
    }
    the_stored_key_is_tried(view).or_else(|| the_key_is_rotated(view))
}

/// Annotations, restrictions and memberships, in one load, when it is known whose the host is.
fn what_the_spec_says_is_loaded(view: &HostView) -> Option<HostStep> {
    let EnrolmentWay::Branch(branch) = &view.request.way else { return None };
    if view.loaded || !is_different(view) {
        return None;
    }
    if !view.owned.contains(branch) {
        return Some(HostStep::Learn(HostQuestion::Ownership(branch.clone())));
    }
    let wanted = &view.request.wanted.member_of;
    if wanted.is_empty() {
        return Some(load(view, branch, BTreeSet::new()));
    }
    let Some(memberships) = &view.memberships else {
        return Some(HostStep::Learn(HostQuestion::Memberships));
    };
    let ours = granted(view);
    let is_to_grant = |role: &&String| {
        !memberships.contains(*role) || ours.contains(*role) || fault!(AnothersGrantIsRevoked)
    };
    Some(load(view, branch, wanted.iter().filter(is_to_grant).cloned().collect()))
}

/// What the object granted, by what is recorded and what was announced.
fn granted(view: &HostView) -> BTreeSet<String> {
    let recorded = view.applied.as_ref().and_then(|applied| applied.granted.clone());
    let announced = view.pending.as_ref().and_then(|pending| pending.grants.clone());
    recorded.into_iter().chain(announced).flatten().collect()
}

/// The load. It is announced first, with what it grants: whose a grant is must be known after a crash, and that what is
/// recorded may not be so any more. What lies in other branches is loaded there, one document after the other: of all of them it
/// is known before the first one that they can be.
fn load(view: &HostView, branch: &str, grants: BTreeSet<String>) -> HostStep {
    let ours = granted(view);
    let revokes: BTreeSet<String> = ours.difference(&view.request.wanted.member_of).cloned().collect();
    let mut branches = grants.union(&revokes).filter_map(|role| branch_of_grant(role, branch));
    if let Some(other) = branches.find(|other| !view.owned.contains(*other))
        && !fault!(OnlyTheOwnBranchIsAsked)
    {
        return HostStep::Learn(HostQuestion::Ownership(other.to_owned()));
    }
    let is_announced =
        view.announced && view.pending.as_ref().is_some_and(|pending| pending.grants.is_some());
    if (!is_announced || !grants.is_subset(&ours)) && !fault!(GrantsAreNotAnnounced) {
        let mut pending = view.announcement(PendingStep::Load);
        let recorded: BTreeSet<String> =
            view.applied.iter().filter_map(|applied| applied.granted.clone()).flatten().collect();
        pending.grants =
            Some(grants.union(&ours).filter(|role| !recorded.contains(*role)).cloned().collect());
        return HostStep::Do(HostEffect::Announce(pending));
    }
    HostStep::Do(HostEffect::Load(AttributeLoad {
        created: view.is_created() == Some(true),
        grants,
        revokes,
    }))
}

/// Whether the host in Conjur is not what the spec says, as far as the status tells.
fn is_different(view: &HostView) -> bool {
    let Some(applied) = &view.applied else { return true };
    let may_have_been_loaded = view.pending.as_ref().is_some_and(|pending| pending.grants.is_some());
    may_have_been_loaded || !view.is_marked() || wanted(view, applied.clone()) != *applied
}

/// What Conjur holds when the spec is loaded.
fn wanted(view: &HostView, before: AppliedHost) -> AppliedHost {
    if !matches!(view.request.way, EnrolmentWay::Branch(_)) {
        return AppliedHost { server: view.request.server.clone(), ..before };
    }
    let wanted = &view.request.wanted;
    let some = |set: &BTreeSet<String>| (!set.is_empty()).then(|| set.iter().cloned().collect::<Vec<_>>());
    let granted = granted(view).intersection(&wanted.member_of).cloned().collect();
    AppliedHost {
        server: view.request.server.clone(),
        annotations: (!wanted.annotations.is_empty()).then(|| wanted.annotations.clone()),
        restricted_to: (!wanted.restricted_to.is_empty()).then(|| wanted.restricted_to.clone()),
        member_of: some(&wanted.member_of),
        granted: some(&granted),
        api_key: Some(view.request.keeps_key),
        key: before.key,
    }
}

/// A stored key is tried when nothing of it is under way any more: once after a start, at each check and before a slot has it
/// rotated, and where what was lost may have come through late.
fn the_stored_key_is_tried(view: &HostView) -> Option<HostStep> {
    if !view.request.keeps_key || view.works.is_some() || view.is_key_owed() || is_asked_by_a_person(view) {
        return None;
    }
    if !view.target.is_some_and(|target| target.key) {
        return None;
    }
    let due = match view.pending.as_ref().and_then(|pending| pending.until) {
        Some(until) => until <= view.now,
        None => (view.request.tries || view.before.is_some() || is_slot_due(view)) && !view.stored,
    };
    let is_overtaken = fault!(OvertakenKeyIsNotTried) && view.before.is_some();
    let is_for_a_slot = fault!(SlotIsNotTried) && is_slot_due(view);
    (due && !is_overtaken && !is_for_a_slot).then_some(HostStep::Learn(HostQuestion::Works))
}

/// Whether a person asks for another key, and none was stored since: also in place of one that is gone, or that another rotated.
fn is_asked_by_a_person(view: &HostView) -> bool {
    let asked = &view.request.rotation.text;
    let stored = view.pending.as_ref().filter(|_| view.is_announced_key_stored());
    !view.stored && asked.is_some() && stored.is_none_or(|pending| pending.asked != *asked)
}

/// Whether a slot began, and the stored key is from before it.
fn is_slot_due(view: &HostView) -> bool {
    let stored = view.pending.as_ref().filter(|_| view.is_announced_key_stored());
    let since = view.request.rotation.since;
    !view.stored && since.is_some_and(|since| stored.is_none_or(|pending| pending.at < since))
}

/// Whether the spec or a person asks for another key. A slot rotates only a key that works: who has the present one else, because it
/// was rotated by another or taken out of the Secret, would lose it.
fn is_rotation_asked(view: &HostView) -> bool {
    let is_kept = view.target.is_some_and(|target| target.key) && view.works == Some(true);
    is_asked_by_a_person(view) || is_slot_due(view) && (is_kept || fault!(SlotIsNotTried))
}

/// Whether a key is to be made by rotation.
fn is_rotation_due(view: &HostView) -> bool {
    let has_key = view.target.is_some_and(|target| target.key);
    // An object of the same name finds the Secret again, and its key.
    let is_found_again = view.has_kept_key() && !view.taken_over;
    let is_new = view.applied.is_none() && !view.is_announced_key_stored() && !is_found_again;
    // What an earlier run did, and did not get to write down, may have made another key.
    let is_overtaken =
        view.works == Some(false) && view.before.as_ref().is_some_and(|p| may_overtake(p, view.now));
    let never_stored = !has_key && view.applied.as_ref().is_some_and(|applied| applied.key.is_none());
    !view.stored && (view.is_key_owed() || is_new || is_overtaken || never_stored || is_rotation_asked(view))
}

/// Whether what an earlier run announced may have killed the key that is stored, so that no other lost one by it: something of
/// before it came through late, or a load on top of it made a host anew that was deleted. A load alone changes no key.
fn may_overtake(pending: &PendingHost, now: i64) -> bool {
    let may_have_made = pending.step != PendingStep::Load && pending.grants.is_some();
    pending.until.map_or(may_have_made || fault!(AnyAnnouncementOvertakes), |until| until <= now)
}

fn the_key_is_rotated(view: &HostView) -> Option<HostStep> {
    if !view.request.keeps_key || view.stored {
        return None;
    }
    let is_due = is_rotation_due(view) || fault!(InvalidIsRotated) && view.works == Some(false);
    if !is_due {
        return None;
    }
    if is_absent(view) {
        return Some(HostStep::Finish(HostVerdict::NotFound));
    }
    if let Some(step) = is_prepared(view, None) {
        return Some(step);
    }
    let is_announced = is_announced(view, PendingStep::Rotate) && view.is_key_owed();
    if !is_announced && !fault!(RotatedUnannounced) {
        return Some(HostStep::Do(HostEffect::Announce(view.announcement(PendingStep::Rotate))));
    }
    Some(HostStep::Do(HostEffect::Rotate))
}

/// What came of it is written into the status, and what is not to be looked at any more goes out of it, in one write.
fn it_is_recorded(view: &HostView) -> Option<HostStep> {
    if is_absent(view) && view.request.way == EnrolmentWay::Existing {
        return Some(HostStep::Finish(HostVerdict::NotFound));
    }
    let before = view.applied.clone().unwrap_or_default();
    let mut applied = wanted(view, before);
    let number = view.target.filter(|target| target.key).and_then(|target| target.number);
    applied.key = if view.request.keeps_key { number.or(applied.key).or(Some(0)) } else { None };
    // What was lost may come through late, and kill the key that is stored.
    let is_settled = view.works == Some(true) || fault!(OvertakenKeyIsNotTried);
    let waits = |until: &i64| view.request.keeps_key && !(is_settled && *until <= view.now);
    let pending = view.pending.clone().filter(|pending| pending.until.as_ref().is_some_and(waits));
    let pending = pending.map(|mut pending| {
        (pending.load, pending.token, pending.grants) = (None, None, None);
        pending
    });
    let stored = view.pending.as_ref().filter(|_| view.stored || view.is_announced_key_stored());
    let stored = stored.filter(|pending| !matches!(pending.step, PendingStep::Load | PendingStep::Discard));
    let record = HostRecord {
        rotated: stored.map(|pending| (pending.at, pending.asked.clone())),
        created: view.is_created(),
        applied,
        pending,
    };
    let is_recorded = view.recorded.is_some()
        || view.applied.as_ref() == Some(&record.applied)
            && view.pending == record.pending
            && (record.created.is_none() || view.created == record.created);
    (!is_recorded).then_some(HostStep::Do(HostEffect::Record(record)))
}

/// A key that another took out of the Secret, or rotated, is made anew only where a person asks for it: who has the present one
/// would lose it.
fn what_is_wrong_with_the_key_is_told(view: &HostView) -> Option<HostStep> {
    if !view.request.keeps_key {
        return None;
    }
    if !view.target.is_some_and(|target| target.key) {
        return Some(HostStep::Finish(HostVerdict::KeyGone));
    }
    (view.works == Some(false)).then_some(HostStep::Finish(HostVerdict::KeyInvalid))
}

//! What a decision about a host depends on: what is known of it, and what is no longer.

use std::collections::BTreeSet;

use super::{
    faults::fault,
    step::{
        EnrolmentWay, FactoryLook, HostEffect, HostFact, HostLook, HostPerformed, HostQuestion, HostRecord,
        HostRequest, Maker, TargetLook,
    },
};
use crate::{
    api::host::{AppliedHost, PendingHost, PendingLoadOfHost, PendingStep},
    plan::effect::evidence::{BranchVersion, lists_all_after},
};

/// A request whose answer was lost has ended in Conjur so long after who sent it was gone, in seconds: twice the longest timeout
/// of a call.
pub const LANDS_WITHIN: i64 = crate::limits::LOST_REQUEST.as_secs().cast_signed();

/// Who made a host that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The announced load did.
    Ours,
    /// Another.
    Strangers,
    /// Conjur no longer lists the versions that would tell.
    Unclear,
}

/// All that a decision depends on. What is none is not known, or not any more.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Clone, Debug, Default)]
pub struct HostView {
    /// What is asked for.
    pub request: HostRequest,
    /// Seconds since 1970, before each step anew.
    pub now: i64,
    /// What is announced in the status, on this server.
    pub pending: Option<PendingHost>,
    /// The same as this run found it.
    pub before: Option<PendingHost>,
    /// What still holds when what is announced now is refused: the announcement of what was done last, or what this run found.
    pub standing: Option<PendingHost>,
    /// What the status says that Conjur holds, on this server.
    pub applied: Option<AppliedHost>,
    /// What the status says of who made the host.
    pub created: Option<bool>,
    /// The Secret.
    pub target: Option<TargetLook>,
    /// The host.
    pub host: Option<HostLook>,
    /// It was another's, or no one's, when this run saw it first.
    pub taken_over: bool,
    /// It was looked at right before it is enrolled.
    pub looked_again: bool,
    /// Branches that the identity owns.
    pub owned: BTreeSet<String>,
    /// The identity owns the factory.
    pub owns_factory: bool,
    /// The versions of the branch.
    pub versions: Option<Vec<BranchVersion>>,
    /// What the host is a member of.
    pub memberships: Option<BTreeSet<String>>,
    /// The factory.
    pub factory: Option<FactoryLook>,
    /// The API server would take the Secret.
    pub room: bool,
    /// The stored key works, or does not.
    pub works: Option<bool>,
    /// What stands in `pending` was announced by this run, and is what it does.
    pub announced: bool,
    /// This run's load made the host, or the host was there.
    pub made: Option<bool>,
    /// This run enrolled the host: it carries the owner annotation, or not.
    pub enrolled: Option<bool>,
    /// A key is in hand and nowhere else.
    pub in_hand: bool,
    /// This run threw a key away.
    pub dropped: bool,
    /// This run stored a key.
    pub stored: bool,
    /// A token of the factory is in hand.
    pub token: bool,
    /// The token that an earlier run announced is gone.
    pub token_gone: bool,
    /// This run loaded what the spec says.
    pub loaded: bool,
    /// It was refused.
    pub refused: bool,
    /// The announcement of what was refused is taken back.
    pub withdrawn: bool,
    /// What this run wrote into the status last.
    pub recorded: Option<HostRecord>,
}

impl HostView {
    /// A run for a request, of which nothing is known but what the status says.
    pub fn new(
        request: HostRequest,
        pending: Option<PendingHost>,
        applied: Option<AppliedHost>,
        created: Option<bool>,
    ) -> Self {
        // What was done on another server says nothing of this one.
        let pending = pending.filter(|pending| pending.server == request.server);
        let pending = pending.map(|pending| of_request(pending, &request));
        let applied = applied.filter(|applied| applied.server == request.server);
        let created = created.filter(|_| applied.is_some());
        let (before, standing) = (pending.clone(), pending.clone());
        Self { request, pending, before, standing, applied, created, ..Self::default() }
    }

    /// What an earlier run announced, and this one has not announced anew.
    pub fn earlier(&self) -> Option<&PendingHost> {
        self.pending.as_ref().filter(|_| !self.announced)
    }

    /// Whether the Secret holds the key that was announced last.
    pub fn is_announced_key_stored(&self) -> bool {
        let number = self.pending.as_ref().map(|pending| pending.number);
        number.is_some() && self.target.is_some_and(|target| target.key && target.number == number)
    }

    /// Whether the Secret holds a key that the operator stored there for the host.
    pub fn has_kept_key(&self) -> bool {
        self.target.is_some_and(|target| target.key && target.number.is_some())
    }

    /// Whether a key is on its way into the Secret and not known to be there.
    pub fn is_key_owed(&self) -> bool {
        let Some(pending) = &self.pending else { return false };
        let of_keys = matches!(
            pending.step,
            PendingStep::Make | PendingStep::Enrol | PendingStep::Rotate | PendingStep::Discard
        );
        of_keys && !self.is_announced_key_stored() && !fault!(LostAnswerIsTakenForDone)
    }

    /// A number that no key of the host had.
    pub fn next_number(&self) -> i64 {
        let known = [
            self.pending.as_ref().map(|pending| pending.number),
            self.applied.as_ref().and_then(|applied| applied.key),
            self.target.and_then(|target| target.number),
        ];
        let last = known.into_iter().flatten().max().unwrap_or(0);
        if fault!(NumberIsNotCounted) { last.max(1) } else { last.saturating_add(1) }
    }

    /// Until when something whose answer was lost may still happen: of an earlier announcement that changes a key. It counts from
    /// now, for who announced it may have waited for its turn before it was sent.
    pub fn may_land_until(&self) -> Option<i64> {
        let pending = self.pending.as_ref()?;
        let carried = pending.until.filter(|_| !fault!(LateOnesAreForgotten));
        let lost = self.is_key_owed()
            && !self.announced
            && matches!(pending.step, PendingStep::Enrol | PendingStep::Rotate | PendingStep::Discard);
        // Who may write the status may have written any time.
        let latest = self.now.saturating_add(LANDS_WITHIN);
        let since = if fault!(LateOnesCountFromTheirAnnouncement) { pending.at } else { self.now };
        let lost = lost.then(|| since.saturating_add(LANDS_WITHIN).min(latest));
        let lost = lost.filter(|_| !fault!(LateOnesAreNotWaitedFor));
        carried.map(|until| until.min(latest)).max(lost)
    }

    /// What was announced of the load that makes the host, as long as its own annotation does not tell whose it is.
    pub fn load_that_makes(&self) -> Option<&PendingLoadOfHost> {
        let load = self.pending.as_ref()?.load.as_ref()?;
        (!self.is_marked()).then_some(load)
    }

    /// An announcement of what is done next.
    pub fn announcement(&self, step: PendingStep) -> PendingHost {
        let of_key = !matches!(step, PendingStep::Load);
        let standing = self.pending.as_ref();
        let number = match standing {
            // A key that was announced and is owed is still owed.
            Some(pending) if !of_key => pending.number,
            None if !of_key => self.applied.as_ref().and_then(|applied| applied.key).unwrap_or(0),
            _ => self.next_number(),
        };
        // A load takes nothing from what is announced of a key.
        let kept = standing.filter(|pending| !of_key && pending.step != PendingStep::Load);
        PendingHost {
            step: kept.map_or(step, |pending| pending.step),
            at: kept.map_or(self.now, |pending| pending.at),
            number,
            server: self.request.server.clone(),
            // A new key is made after what has come through by now.
            until: self.may_land_until().filter(|until| *until > self.now || !of_key),
            asked: kept.map_or_else(|| self.request.rotation.text.clone(), |pending| pending.asked.clone()),
            load: self.load_that_makes().filter(|_| !fault!(EvidenceIsForgotten)).cloned(),
            token: standing.and_then(|pending| pending.token.clone()).filter(|_| !self.token_gone),
            grants: standing.and_then(|pending| pending.grants.clone()),
        }
    }

    /// Whether the host's own annotation names the object.
    pub fn is_marked(&self) -> bool {
        self.loaded
            || matches!(self.host, Some(HostLook::There { maker: Maker::Ours { .. }, .. }))
            || self.enrolled == Some(true)
    }

    /// Who made the host, by what was announced of the load that makes it.
    pub fn evidence(&self) -> Option<Evidence> {
        let load = self.pending.as_ref()?.load.as_ref()?;
        let Some(HostLook::There { origin, .. }) = &self.host else { return None };
        if fault!(EvidenceIsTheName) {
            return Some(Evidence::Ours);
        }
        let versions = self.versions.as_ref()?;
        let made_it = |v: &&BranchVersion| {
            v.version > load.version
                && v.sha256 == load.document
                && load.loaders.contains(&v.role)
                && origin.is_within(&load.branch, v.span())
        };
        Some(if versions.iter().any(|v| made_it(&v)) {
            Evidence::Ours
        } else if !lists_all_after(load.version, versions)
            && versions.iter().all(|v| !origin.is_within(&load.branch, v.span()))
        {
            Evidence::Unclear
        } else {
            Evidence::Strangers
        })
    }

    /// Whether the host's own annotation names another object: that goes before all evidence.
    pub fn is_anothers(&self) -> bool {
        matches!(self.host, Some(HostLook::There { maker: Maker::Another(_), .. }))
            && !fault!(EvidenceBeatsTheAnnotation)
    }

    /// Whether the host is the object's: it says so, or the load that was announced made it.
    pub fn is_ours(&self) -> bool {
        !self.is_anothers() && self.is_ours_unless_it_names_another()
    }

    fn is_ours_unless_it_names_another(&self) -> bool {
        self.is_marked() || self.made == Some(true) || self.evidence() == Some(Evidence::Ours)
    }

    /// Whether the object made the host, where that can be seen.
    pub fn is_created(&self) -> Option<bool> {
        match &self.host {
            Some(HostLook::There { maker: Maker::Ours { created }, .. }) => Some(*created),
            _ if self.is_anothers() => Some(false),
            _ if self.made == Some(true) || self.evidence() == Some(Evidence::Ours) => Some(true),
            Some(HostLook::There { .. }) => Some(self.enrolled == Some(true)),
            _ => self.enrolled.or(self.created),
        }
    }

    /// Takes the answer to a question.
    pub fn learned(&mut self, question: &HostQuestion, fact: HostFact) {
        match (question, fact) {
            (HostQuestion::Target, HostFact::Target(target)) => self.target = Some(target),
            (HostQuestion::Host | HostQuestion::HostAgain, HostFact::Host(host)) => {
                // What was loaded went with it.
                self.loaded &= host != HostLook::Absent;
                self.looked_again |= *question == HostQuestion::HostAgain;
                self.taken_over |=
                    matches!(&host, HostLook::There { maker, .. } if !matches!(maker, Maker::Ours { .. }));
                self.host = Some(host);
            }
            (HostQuestion::Ownership(branch), _) => _ = self.owned.insert(branch.clone()),
            (HostQuestion::FactoryOwnership(_), _) => self.owns_factory = true,
            (HostQuestion::Versions(_), HostFact::Versions(versions)) => self.versions = Some(versions),
            (HostQuestion::Memberships, HostFact::Memberships(all)) => self.memberships = Some(all),
            (HostQuestion::Factory(_) | HostQuestion::TokensOf(_), HostFact::Factory(factory)) => {
                self.factory = Some(factory);
            }
            (HostQuestion::TokensOf(_), HostFact::No) => {
                self.token_gone = !fault!(TokenOutlivesItsFactory);
            }
            (HostQuestion::Room, _) => self.room = true,
            (HostQuestion::Works, fact) => self.works = Some(fact == HostFact::Yes),
            // A question has one kind of answer.
            _ => {}
        }
    }

    /// Takes what came of an effect.
    pub fn done(&mut self, effect: &HostEffect, result: HostPerformed) {
        if result == HostPerformed::Refused {
            self.refused = true;
            return;
        }
        if let HostPerformed::Partly { made } = result {
            // What it granted must be known, so that it is revoked; and a key is stored before the refusal is told.
            (self.refused, self.host) = (true, None);
            self.in_hand |= made && !fault!(KeyOfAPartIsForgotten);
            if !fault!(PartsAreForgotten) {
                self.standing.clone_from(&self.pending);
            }
            return;
        }
        if is_to_be_remembered(effect, result) {
            self.standing.clone_from(&self.pending);
        }
        match effect {
            HostEffect::Announce(pending) => {
                (self.pending, self.announced) = (Some(pending.clone()), true);
            }
            HostEffect::Make => {
                let made = result == HostPerformed::Made(true);
                (self.made, self.in_hand) = (Some(made), made);
                // It is there, and who made it is to be looked at.
                (self.host, self.versions) = (None, None);
            }
            HostEffect::MakeToken(_) => self.token = true,
            HostEffect::Enrol => {
                self.enrolled = Some(result == HostPerformed::Enrolled(true));
                (self.in_hand, self.host) = (true, None);
            }
            HostEffect::Revoke { expires, .. } => {
                (self.token, self.token_gone) = (false, true);
                if let Some(standing) = &mut self.standing {
                    standing.token = standing.token.take().filter(|token| token.expires != *expires);
                }
            }
            HostEffect::Load(_) => {
                (self.loaded, self.host) = (true, None);
                self.in_hand |= result == HostPerformed::Made(true);
            }
            HostEffect::Rotate => self.in_hand = true,
            HostEffect::Store(number) => {
                (self.in_hand, self.stored, self.works, self.recorded) = (false, true, None, None);
                self.target = Some(TargetLook { key: true, number: Some(*number) });
            }
            HostEffect::Drop => (self.in_hand, self.dropped) = (false, true),
            HostEffect::DeleteSecret => self.target = Some(TargetLook::default()),
            HostEffect::Record(record) => {
                self.applied = Some(record.applied.clone());
                self.pending.clone_from(&record.pending);
                self.recorded = Some(record.clone());
            }
            HostEffect::Withdraw(earlier) => {
                self.pending.clone_from(earlier);
                self.withdrawn = true;
            }
        }
    }
}

/// What of an announcement can be the object's. Who may write the status may have written any document or branch there: a
/// load is known by the one document that makes this object's host. `spec.via` never changes, so that no other factory had to do
/// with it.
fn of_request(mut pending: PendingHost, request: &HostRequest) -> PendingHost {
    let is_own = |load: &PendingLoadOfHost| {
        request.way == EnrolmentWay::Branch(load.branch.clone()) && load.document == request.document
    };
    pending.load = pending.load.filter(|load| is_own(load) || fault!(AnyLoadIsEvidence));
    let is_specs = |factory: &str| request.way == EnrolmentWay::Factory(factory.to_owned());
    pending.token =
        pending.token.filter(|token| is_specs(&token.factory) || fault!(AnyFactorysTokenIsRevoked));
    pending
}

/// Whether something was done that only its announcement tells of, until it is recorded.
fn is_to_be_remembered(effect: &HostEffect, result: HostPerformed) -> bool {
    let is_done = match effect {
        HostEffect::Make => result == HostPerformed::Made(true),
        HostEffect::Enrol | HostEffect::Load(_) | HostEffect::Rotate | HostEffect::Store(_) => true,
        HostEffect::Announce(_)
        | HostEffect::MakeToken(_)
        | HostEffect::Revoke { .. }
        | HostEffect::Drop
        | HostEffect::DeleteSecret
        | HostEffect::Record(_)
        | HostEffect::Withdraw(_) => false,
    };
    is_done && !fault!(RefusalForgetsWhatWasDone)
}

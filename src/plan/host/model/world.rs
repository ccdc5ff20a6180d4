//! Conjur and the API server, as far as the keeping of a host sees them: time passes at each call, others act, and a request
//! goes on in the server when its caller is dead.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::host::{AppliedHost, PendingHost},
    plan::{
        effect::evidence::{BranchVersion, Origin},
        host::{
            step::{
                AttributeLoad, Attributes, EnrolmentWay, FactoryLook, HostEffect, HostFact, HostLook,
                HostPerformed, HostQuestion, HostRequest, Maker, RotationAsked, TargetLook,
            },
            view::HostView,
        },
    },
};

const LOADER: &str = "d:host:ops";
/// The document of the bare host, which names the object.
const BARE: &str = "bare";

/// What an object asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub way: EnrolmentWay,
    pub keeps_key: bool,
    pub adopts: bool,
    pub member_of: &'static [&'static str],
    pub rotate: Option<&'static str>,
    /// A slot of the grid began at this second.
    pub slot: Option<i64>,
}

impl Ask {
    /// A host that is made in a branch and keeps its key, and nothing more.
    pub fn by_branch() -> Self {
        let way = EnrolmentWay::Branch("app".into());
        Self { way, keeps_key: true, adopts: false, member_of: &[], rotate: None, slot: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Us,
    Stranger,
}

/// What another does at some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deed {
    /// Makes the host, by policy or by the factory.
    Makes,
    /// Rotates its key.
    Rotates,
    /// Grants it a role.
    Grants(&'static str),
    /// Deletes it.
    Deletes,
}

#[derive(Clone, Debug)]
pub struct Host {
    pub by: By,
    pub key: u32,
    /// The key that a stranger has of it.
    pub strangers: Option<u32>,
    /// It carries the owner annotation; and that the object made it.
    pub marked: bool,
    pub created: bool,
    /// It has what the spec says.
    pub loaded: bool,
    origin: Origin,
}

/// A request whose caller is dead.
#[derive(Clone, Debug)]
pub struct Flying {
    effect: HostEffect,
    ask: Ask,
    lands: i64,
    /// The key that is stored by it.
    hand: Option<u32>,
    /// The Secret, and how often the status was written, when it was sent: the API server takes no write over another one.
    over: (Option<(u32, Option<i64>)>, u64),
}

/// All that there is outside of the process.
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
#[derive(Clone, Debug, Default)]
pub struct World {
    pub now: i64,
    pub host: Option<Host>,
    pub versions: Vec<BranchVersion>,
    pub listed: usize,
    pub memberships: BTreeMap<&'static str, By>,
    /// Those that a stranger granted since the last look at them, or since a load was announced: who asks for the same then can't tell.
    pub unlooked: BTreeSet<&'static str>,
    /// Tokens of the factory by expiry, and whether one was made late.
    pub tokens: BTreeMap<i64, bool>,
    /// The factory is gone.
    pub no_factory: bool,
    pub flying: Vec<Flying>,
    pub others: Vec<(i64, Deed)>,
    /// A stranger acts between the last look and the enrolment, which no one can see.
    pub unseen: bool,
    /// So many loads of what the spec says are refused.
    pub refusals: usize,
    /// Of each of them the first grant goes through.
    pub partly: bool,
    pub secret: Option<(u32, Option<i64>)>,
    pub pending: Option<PendingHost>,
    pub applied: Option<AppliedHost>,
    pub created: Option<bool>,
    pub handled: Option<String>,
    /// When the stored key was announced, by the status.
    pub rotated: Option<i64>,
    /// The present life of the process tried the stored key.
    pub tried: bool,
    /// A stranger rotated the key after that, which no try can tell.
    pub raced: bool,
    pub last_key: u32,
    pub looked_at: i64,
    /// How often the status was written.
    pub written: u64,
    /// Another replica leads now, beside the one that still acts: what tokens they make, a look at the status does not tell.
    pub is_replaced: bool,
    pub wrong: Option<String>,
}

impl World {
    fn key(&mut self) -> u32 {
        self.last_key += 1;
        self.last_key
    }

    /// Time passes: others act, and what flies lands.
    pub fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now += 1;
            let due: Vec<Flying> = {
                let now = self.now;
                let (due, rest) = std::mem::take(&mut self.flying).into_iter().partition(|f| f.lands <= now);
                self.flying = rest;
                due
            };
            for Flying { effect, ask, mut hand, over, .. } in due {
                if let Some(is_status) = is_written(&effect) {
                    let stands = if is_status { self.written == over.1 } else { self.secret == over.0 };
                    if stands {
                        self.write(&effect, &mut hand);
                    }
                    continue;
                }
                // One after the other.
                // No look can prevent what is made while an enrolment is on its way.
                self.unseen |= effect == HostEffect::Enrol;
                let late = matches!(effect, HostEffect::MakeToken(_));
                self.conjur(&effect, &ask, &mut None);
                if let (true, HostEffect::MakeToken(expires)) = (late, &effect) {
                    self.tokens.insert(*expires, true);
                }
            }
            let now = self.now;
            let (due, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.others).into_iter().partition(|(at, _)| *at <= now);
            self.others = rest;
            for (_, deed) in due {
                self.act(deed);
            }
            let ended: Vec<(i64, bool)> =
                self.tokens.iter().filter(|(at, _)| **at < now).map(|(at, late)| (*at, *late)).collect();
            for (at, late) in ended {
                self.tokens.remove(&at);
                if !late {
                    self.wrong.get_or_insert("a token of the factory was left until it ended".into());
                }
            }
        }
    }

    fn act(&mut self, deed: Deed) {
        let key = self.key();
        match (deed, &mut self.host) {
            (Deed::Makes, None) => {
                let origin = self.commit("foreign", "d:user:admin");
                self.host = Some(Host {
                    by: By::Stranger,
                    key,
                    strangers: Some(key),
                    marked: false,
                    // As the host of an object that is gone.
                    created: true,
                    loaded: false,
                    origin,
                });
            }
            (Deed::Rotates, Some(host)) => {
                (host.key, host.strangers) = (key, Some(key));
                self.raced |= self.tried;
            }
            (Deed::Grants(role), Some(_)) => {
                self.memberships.entry(role).or_insert(By::Stranger);
                self.unlooked.insert(role);
            }
            (Deed::Deletes, Some(_)) => (self.host, self.memberships) = (None, BTreeMap::new()),
            _ => {}
        }
    }

    /// A load commits: the origin of what it makes.
    fn commit(&mut self, document: &str, role: &str) -> Origin {
        // No two loads of a branch have one time: they come one after the other.
        let at = format!("t{:06}.{:04}", self.now, self.versions.len());
        let version = self.versions.last().map_or(0, |last| last.version) + 1;
        self.versions.push(BranchVersion {
            version,
            sha256: document.into(),
            role: role.into(),
            created_at: at.clone(),
            finished_at: Some(at.clone()),
        });
        Origin { created_at: at, policy: Some("d:policy:app".into()) }
    }

    pub fn view(&self, ask: &Ask) -> HostView {
        let request = HostRequest {
            server: "s".into(),
            loader: LOADER.into(),
            way: ask.way.clone(),
            keeps_key: ask.keeps_key,
            adopts: ask.adopts,
            document: BARE.into(),
            wanted: Attributes {
                member_of: ask.member_of.iter().map(|role| (*role).to_owned()).collect(),
                ..Attributes::default()
            },
            rotation: RotationAsked {
                text: ask.rotate.filter(|text| self.handled.as_deref() != Some(text)).map(str::to_owned),
                since: ask
                    .slot
                    .filter(|slot| *slot <= self.now && self.rotated.is_some_and(|rotated| rotated < *slot)),
            },
            tries: true,
        };
        HostView::new(request, self.pending.clone(), self.applied.clone(), self.created)
    }

    pub fn learn(&mut self, question: &HostQuestion) -> HostFact {
        self.pass(1);
        match question {
            HostQuestion::Target => HostFact::Target(TargetLook {
                key: self.secret.is_some(),
                number: self.secret.and_then(|(_, number)| number),
            }),
            HostQuestion::Host | HostQuestion::HostAgain => {
                self.looked_at = self.now;
                HostFact::Host(self.host.as_ref().map_or(HostLook::Absent, |host| HostLook::There {
                    origin: host.origin.clone(),
                    maker: if host.marked { Maker::Ours { created: host.created } } else { Maker::Unmarked },
                }))
            }
            HostQuestion::Ownership(_) | HostQuestion::FactoryOwnership(_) | HostQuestion::Room => {
                HostFact::Yes
            }
            HostQuestion::Versions(_) => {
                let from = self.versions.len().saturating_sub(self.listed);
                HostFact::Versions(self.versions[from..].to_vec())
            }
            HostQuestion::Memberships => {
                if self.pending.as_ref().is_none_or(|pending| pending.grants.is_none()) {
                    self.unlooked.clear();
                }
                HostFact::Memberships(self.memberships.keys().map(|role| (*role).to_owned()).collect())
            }
            HostQuestion::TokensOf(_) if self.no_factory => HostFact::No,
            HostQuestion::Factory(_) | HostQuestion::TokensOf(_) => {
                let expiries: BTreeSet<i64> = self.tokens.keys().copied().collect();
                HostFact::Factory(FactoryLook { now: self.now, expiries })
            }
            HostQuestion::Works => {
                self.tried = true;
                let works = self
                    .secret
                    .is_some_and(|(key, _)| self.host.as_ref().is_some_and(|host| host.key == key));
                if works { HostFact::Yes } else { HostFact::No }
            }
        }
    }

    /// Leaves a request to the server, whose caller dies now.
    pub fn leave(&mut self, effect: &HostEffect, ask: &Ask, after: i64) {
        self.leave_with(effect, ask, after, None);
    }

    /// The same of one that stores a key.
    pub fn leave_with(&mut self, effect: &HostEffect, ask: &Ask, after: i64, hand: Option<u32>) {
        let (lands, over) = (self.now + after, (self.secret, self.written));
        self.flying.push(Flying { effect: effect.clone(), ask: ask.clone(), lands, hand, over });
    }

    /// Another key of the host, that the object asked for.
    fn another_key(&mut self, ask: &Ask, hand: &mut Option<u32>) {
        let key = self.key();
        let unseen = self.unseen;
        let Some(host) = &mut self.host else { return };
        if host.by == By::Stranger && !ask.adopts && !unseen {
            self.wrong.get_or_insert("a stranger's key died".into());
        }
        host.key = key;
        *hand = Some(key);
    }

    /// What Conjur does, whether its caller lives or not.
    pub fn conjur(&mut self, effect: &HostEffect, ask: &Ask, hand: &mut Option<u32>) -> HostPerformed {
        // Conjur takes one load of a branch at a time.
        let is_load = |effect: &HostEffect| matches!(effect, HostEffect::Make | HostEffect::Load(_));
        if is_load(effect) && self.flying.iter().any(|flying| is_load(&flying.effect)) {
            return HostPerformed::Refused;
        }
        if self.refusals > 0 && matches!(effect, HostEffect::Load(_)) {
            self.refusals -= 1;
            if let (true, HostEffect::Load(change)) = (self.partly, effect) {
                let grants = change.grants.iter().take(1).cloned().collect();
                let part = AttributeLoad { grants, revokes: BTreeSet::new(), ..change.clone() };
                let made = self.load(&part, ask, hand);
                return HostPerformed::Partly { made };
            }
            return HostPerformed::Refused;
        }
        match effect {
            HostEffect::Make => {
                let origin = self.commit(BARE, LOADER);
                if self.host.is_some() {
                    return HostPerformed::Made(false);
                }
                let key = self.key();
                let (by, strangers) = (By::Us, None);
                self.host =
                    Some(Host { by, key, strangers, marked: false, created: false, loaded: false, origin });
                *hand = Some(key);
                return HostPerformed::Made(true);
            }
            HostEffect::MakeToken(expires) => {
                self.tokens.insert(*expires, self.is_replaced);
            }
            HostEffect::Enrol => {
                if matches!(ask.way, EnrolmentWay::Factory(_)) && self.tokens.is_empty() {
                    return HostPerformed::Refused;
                }
                if self.host.is_none() {
                    let key = self.key();
                    let origin = Origin { created_at: format!("t{:06}", self.now), policy: None };
                    let (by, strangers) = (By::Us, None);
                    self.host =
                        Some(Host { by, key, strangers, marked: true, created: true, loaded: true, origin });
                    *hand = Some(key);
                } else {
                    // Within the one call that no look can prevent.
                    self.unseen |= self.looked_at + 1 >= self.now;
                    self.another_key(ask, hand);
                }
                let marked = self.host.as_ref().is_some_and(|host| host.marked);
                return HostPerformed::Enrolled(marked);
            }
            HostEffect::Revoke { expires, .. } => _ = self.tokens.remove(expires),
            HostEffect::Load(change) => return HostPerformed::Made(self.load(change, ask, hand)),
            HostEffect::Rotate => self.another_key(ask, hand),
            HostEffect::Announce(_)
            | HostEffect::Store(_)
            | HostEffect::Drop
            | HostEffect::DeleteSecret
            | HostEffect::Record(_)
            | HostEffect::Withdraw(_) => {}
        }
        HostPerformed::Done
    }

    /// Whether it made the host, which was deleted a moment before.
    fn load(&mut self, change: &AttributeLoad, ask: &Ask, hand: &mut Option<u32>) -> bool {
        let origin = self.commit("attributes", LOADER);
        let makes = self.host.is_none();
        if makes {
            let key = self.key();
            *hand = Some(key);
            let (by, strangers) = (By::Us, None);
            self.host =
                Some(Host { by, key, strangers, marked: false, created: false, loaded: false, origin });
        }
        let Some(host) = &mut self.host else { return false };
        if host.by == By::Stranger && !ask.adopts {
            self.wrong.get_or_insert("a stranger's host carries what the object says".into());
        }
        (host.marked, host.loaded) = (true, true);
        host.created = change.created;
        for role in ask.member_of.iter().filter(|role| change.grants.contains(**role)) {
            let by = self.memberships.entry(role).or_insert(By::Us);
            if self.unlooked.contains(role) {
                *by = By::Us;
            }
        }
        for role in &change.revokes {
            match self.memberships.remove(role.as_str()) {
                Some(By::Stranger) if self.unlooked.contains(role.as_str()) => {}
                Some(By::Stranger) => _ = self.wrong.get_or_insert("another's grant was revoked".into()),
                Some(By::Us) | None => {}
            }
        }
        makes
    }

    /// `hand`: a key that is nowhere else, in the memory of the process.
    pub fn perform(&mut self, effect: &HostEffect, ask: &Ask, hand: &mut Option<u32>) -> HostPerformed {
        self.pass(1);
        match effect {
            HostEffect::Drop => *hand = None,
            effect if is_written(effect).is_some() => self.write(effect, hand),
            effect => return self.conjur(effect, ask, hand),
        }
        HostPerformed::Done
    }

    /// What the API server does.
    fn write(&mut self, effect: &HostEffect, hand: &mut Option<u32>) {
        self.written += u64::from(is_written(effect) == Some(true));
        match effect {
            HostEffect::Announce(pending) => self.pending = Some(pending.clone()),
            HostEffect::Withdraw(pending) => self.pending.clone_from(pending),
            HostEffect::Store(number) => self.secret = hand.take().map(|key| (key, Some(*number))),
            HostEffect::DeleteSecret => self.secret = None,
            HostEffect::Record(record) => {
                (self.applied, self.created) = (Some(record.applied.clone()), record.created);
                self.pending.clone_from(&record.pending);
                if let Some((at, asked)) = &record.rotated {
                    self.rotated = Some(*at);
                    self.handled = asked.clone().or(self.handled.take());
                }
            }
            _ => {}
        }
    }
}

/// Whether it is a write of the status, or else of the Secret; none where it is neither.
pub fn is_written(effect: &HostEffect) -> Option<bool> {
    match effect {
        HostEffect::Announce(_) | HostEffect::Withdraw(_) | HostEffect::Record(_) => Some(true),
        HostEffect::Store(_) | HostEffect::DeleteSecret => Some(false),
        _ => None,
    }
}

//! What no pair of deaths shows: forged announcements, refusals, and what is said. Each holds, and does not where its rule is
//! broken.

use super::{
    Ask, At, Death, finish, live,
    world::{Deed, World},
};
use crate::{
    api::host::{PendingEnrolment, PendingHost, PendingLoadOfHost, PendingStep},
    plan::host::{
        faults::{self, HostFault},
        order::next,
        step::{
            EnrolmentWay, HostEffect, HostFact, HostLook, HostQuestion, HostStep, HostVerdict, Maker,
            TargetLook,
        },
        view::LANDS_WITHIN,
    },
};

/// It holds, and a rule is what makes it hold.
fn by_rule(rule: HostFault, holds: impl Fn() -> bool) {
    faults::make(None);
    assert!(holds(), "it does not hold");
    faults::make(Some(rule));
    let is_without = holds();
    faults::make(None);
    assert!(!is_without, "it holds without the rule, too: {rule:?}");
}

fn ask(way: EnrolmentWay) -> Ask {
    Ask { way, keeps_key: true, adopts: false, member_of: &[], rotate: None, slot: None }
}

fn by_branch() -> Ask {
    ask(EnrolmentWay::Branch("app".into()))
}

fn world(deeds: &[Deed]) -> World {
    let mut world = World { now: 1_000, listed: 20, ..World::default() };
    do_now(&mut world, deeds);
    world
}

fn do_now(world: &mut World, deeds: &[Deed]) {
    world.others = deeds.iter().map(|deed| (world.now, *deed)).collect();
    world.pass(1);
}

fn run(world: &mut World, ask: &Ask, death: At) -> (Option<HostVerdict>, Vec<HostEffect>) {
    let mut effects = Vec::new();
    let verdict = live(world, ask, death, &mut effects);
    (verdict, effects)
}

/// A world in which all is as this asks.
fn settled(ask: &Ask) -> World {
    let mut world = world(&[]);
    assert_eq!(run(&mut world, ask, None).0, Some(HostVerdict::Done { again: None }));
    world
}

fn announced(step: PendingStep) -> PendingHost {
    PendingHost {
        step,
        at: 1_000,
        number: 1,
        server: "s".into(),
        until: None,
        asked: None,
        load: None,
        token: None,
        grants: None,
    }
}

/// The load that made a host, as if it were the object's.
fn evidence(document: &str, loader: &str) -> PendingLoadOfHost {
    let (branch, loaders) = ("app".into(), vec![loader.into()]);
    PendingLoadOfHost { branch, version: 0, document: document.into(), loaders }
}

#[test]
fn a_strangers_load_is_no_evidence_whatever_the_status_says() {
    by_rule(HostFault::AnyLoadIsEvidence, || {
        let mut world = world(&[Deed::Makes]);
        let load = Some(evidence("foreign", "d:user:admin"));
        world.pending = Some(PendingHost { load, ..announced(PendingStep::Make) });
        let (verdict, _) = run(&mut world, &by_branch(), None);
        let host = world.host.unwrap();
        matches!(verdict, Some(HostVerdict::Foreign { .. }))
            && !host.marked
            && host.strangers == Some(host.key)
    });
}

#[test]
fn a_host_that_names_another_object_is_not_the_ones_that_made_it() {
    by_rule(HostFault::EvidenceBeatsTheAnnotation, || {
        let mut world = world(&[]);
        // Made, and then the operator died.
        run(&mut world, &by_branch(), Some((1, Death::After)));
        let mut view = world.view(&by_branch());
        let HostFact::Host(HostLook::There { origin, .. }) = world.learn(&HostQuestion::Host) else {
            return false;
        };
        let maker = Maker::Another("c/ns/ConjurHost/x".into());
        view.learned(&HostQuestion::Target, HostFact::Target(TargetLook::default()));
        view.learned(&HostQuestion::Host, HostFact::Host(HostLook::There { origin, maker }));
        let question = HostQuestion::Versions("app".into());
        view.learned(&question, world.learn(&question));
        !view.is_ours() && next(&view) == HostStep::Do(HostEffect::Withdraw(None))
    });
}

#[test]
fn a_token_of_a_factory_that_the_spec_does_not_name_is_left_alone() {
    by_rule(HostFault::AnyFactorysTokenIsRevoked, || {
        [by_branch(), ask(EnrolmentWay::Factory("app/hf".into()))].iter().all(|ask| {
            let mut world = world(&[]);
            world.tokens.insert(1_100, true);
            let token = Some(PendingEnrolment { factory: "other/hf".into(), expires: 1_100 });
            world.pending = Some(PendingHost { token, ..announced(PendingStep::Enrol) });
            run(&mut world, ask, None);
            world.tokens.contains_key(&1_100)
        })
    });
}

#[test]
fn a_key_that_another_rotated_is_not_ended_for_a_load_that_was_announced() {
    by_rule(HostFault::AnyAnnouncementOvertakes, || {
        let mut world = settled(&by_branch());
        let number = world.secret.unwrap().1.unwrap();
        let grants = Some(Vec::new());
        world.pending = Some(PendingHost { number, grants, ..announced(PendingStep::Load) });
        do_now(&mut world, &[Deed::Rotates]);
        let (verdict, _) = run(&mut world, &by_branch(), None);
        let host = world.host.unwrap();
        verdict == Some(HostVerdict::KeyInvalid) && host.strangers == Some(host.key)
    });
}

#[test]
fn each_branch_of_a_grant_is_asked_for_before_the_first_load() {
    by_rule(HostFault::OnlyTheOwnBranchIsAsked, || {
        let ask = Ask { member_of: &["layer/apps/web", "layer/app/all"], ..by_branch() };
        let mut world = settled(&by_branch());
        let mut view = world.view(&ask);
        let mut asked = Vec::new();
        while let HostStep::Learn(question) = next(&view) {
            view.learned(&question, world.learn(&question));
            asked.push(question);
        }
        let of = |branch: &str| asked.contains(&HostQuestion::Ownership(branch.into()));
        of("app") && of("apps") && matches!(next(&view), HostStep::Do(HostEffect::Announce(_)))
    });
}

#[test]
fn a_load_that_is_refused_keeps_no_key_from_being_stored() {
    by_rule(HostFault::LoadGoesBeforeTheKey, || {
        let asks = Ask { rotate: Some("1"), ..by_branch() };
        let bad = Ask { member_of: &["layer/none"], ..asks.clone() };
        // The operator dies right after the rotation; or nothing was begun.
        [Some(Some((1, Death::After))), None].into_iter().all(|death| {
            let mut world = settled(&by_branch());
            if let Some(death) = death {
                let (_, effects) = run(&mut world, &asks, death);
                assert_eq!(effects.last(), Some(&HostEffect::Rotate));
            }
            let before = world.secret.unwrap().0;
            world.refusals = 2;
            let (verdict, _) = run(&mut world, &bad, None);
            let (key, _) = world.secret.unwrap();
            let is_once = run(&mut world, &bad, None).0 == verdict && world.secret.unwrap().0 == key;
            verdict == Some(HostVerdict::Refused)
                && is_once
                && key != before
                && key == world.host.unwrap().key
        })
    });
}

#[test]
fn a_factory_that_is_gone_keeps_no_host_from_being_recorded() {
    by_rule(HostFault::TokenOutlivesItsFactory, || {
        let ask = ask(EnrolmentWay::Factory("app/hf".into()));
        let mut world = settled(&ask);
        let number = world.secret.unwrap().1.unwrap();
        let token = Some(PendingEnrolment { factory: "app/hf".into(), expires: world.now + 100 });
        world.pending = Some(PendingHost { number, token, ..announced(PendingStep::Enrol) });
        world.no_factory = true;
        run(&mut world, &ask, None).0 == Some(HostVerdict::Done { again: None }) && world.pending.is_none()
    });
}

#[test]
fn an_enrolment_that_ended_the_key_of_another_is_told() {
    by_rule(HostFault::LostKeyIsNotTold, || {
        let ask = ask(EnrolmentWay::Factory("app/hf".into()));
        let verdict_for = |enrolled: Option<bool>| {
            let mut world = world(&[Deed::Makes]);
            let mut view = world.view(&ask);
            view.enrolled = enrolled;
            while let HostStep::Learn(question) = next(&view) {
                view.learned(&question, world.learn(&question));
            }
            next(&view)
        };
        let foreign = |rekeyed| HostStep::Finish(HostVerdict::Foreign { of: None, unclear: false, rekeyed });
        verdict_for(Some(false)) == foreign(true) && verdict_for(None) == foreign(false)
    });
}

#[test]
fn a_factory_that_the_identity_does_not_own_is_not_asked_for_a_key() {
    by_rule(HostFault::AnyFactoryIsUsed, || {
        let ask = ask(EnrolmentWay::Factory("app/hf".into()));
        let mut view = world(&[]).view(&ask);
        view.learned(&HostQuestion::Target, HostFact::Target(TargetLook::default()));
        view.learned(&HostQuestion::Host, HostFact::Host(HostLook::Absent));
        next(&view) == HostStep::Learn(HostQuestion::FactoryOwnership("app/hf".into()))
    });
}

#[test]
fn a_host_whose_key_is_stored_is_not_enrolled_again_where_it_can_not_be_seen() {
    by_rule(HostFault::StoredIsEnrolledAgain, || {
        let ask = ask(EnrolmentWay::Factory("app/hf".into()));
        let mut view = world(&[]).view(&ask);
        view.pending = Some(announced(PendingStep::Enrol));
        let stored = TargetLook { key: true, number: Some(1) };
        view.learned(&HostQuestion::Target, HostFact::Target(stored));
        view.learned(&HostQuestion::Host, HostFact::Host(HostLook::Absent));
        next(&view) == HostStep::Finish(HostVerdict::NotFound)
    });
}

#[test]
fn a_rotation_that_was_sent_long_after_its_announcement_kills_no_stored_key() {
    by_rule(HostFault::LateOnesCountFromTheirAnnouncement, || {
        let ask = by_branch();
        let mut world = settled(&ask);
        let number = world.secret.unwrap().1.unwrap() + 1;
        world.pending = Some(PendingHost { at: world.now, number, ..announced(PendingStep::Rotate) });
        // It had its turn only then; the operator dies, and the next one is there before it has ended.
        world.pass(LANDS_WITHIN + 5);
        world.leave(&HostEffect::Rotate, &ask, 60);
        let verdict = finish(&mut world, &ask);
        verdict == Ok(HostVerdict::Done { again: None })
            && world.secret.map(|(key, _)| key) == world.host.map(|host| host.key)
    });
}

#[test]
fn the_key_of_a_host_that_a_part_of_a_load_made_is_stored_and_the_refusal_told() {
    by_rule(HostFault::KeyOfAPartIsForgotten, || {
        let ask = Ask { member_of: &["layer/a", "layer/b"], ..by_branch() };
        let mut world = settled(&by_branch());
        (world.refusals, world.partly) = (1, true);
        let mut view = world.view(&ask);
        let mut hand = None;
        let verdict = loop {
            view.now = world.now;
            match next(&view) {
                HostStep::Learn(question) => view.learned(&question, world.learn(&question)),
                HostStep::Do(effect) => {
                    if matches!(effect, HostEffect::Load(_)) {
                        do_now(&mut world, &[Deed::Deletes]);
                    }
                    let performed = world.perform(&effect, &ask, &mut hand);
                    view.done(&effect, performed);
                }
                HostStep::Finish(verdict) => break verdict,
            }
        };
        let is_stored = world.secret.map(|(key, _)| key) == world.host.as_ref().map(|host| host.key);
        let is_loaded = |world: &World| world.memberships.len() == 2;
        verdict == HostVerdict::Refused
            && is_stored
            && !is_loaded(&world)
            && finish(&mut world, &ask) == Ok(HostVerdict::Done { again: None })
            && is_loaded(&world)
    });
}

#[test]
fn a_token_that_was_given_to_another_is_left_alone_whatever_the_status_says() {
    by_rule(HostFault::AnyTokenIsRevoked, || {
        let mut world = world(&[]);
        world.tokens.insert(9_000, true);
        let token = Some(PendingEnrolment { factory: "app/hf".into(), expires: 9_000 });
        world.pending = Some(PendingHost { token, ..announced(PendingStep::Enrol) });
        run(&mut world, &ask(EnrolmentWay::Factory("app/hf".into())), None);
        world.tokens.contains_key(&9_000)
    });
}

#[test]
fn a_token_of_a_crash_is_revoked_before_the_secret_is_looked_at() {
    by_rule(HostFault::TokenOfACrashIsLeft, || {
        let ask = ask(EnrolmentWay::Factory("app/hf".into()));
        let mut world = world(&[]);
        world.tokens.insert(1_100, true);
        let token = Some(PendingEnrolment { factory: "app/hf".into(), expires: 1_100 });
        world.pending = Some(PendingHost { token, ..announced(PendingStep::Enrol) });
        let mut view = world.view(&ask);
        while let HostStep::Learn(question) = next(&view)
            && question != HostQuestion::Target
        {
            view.learned(&question, world.learn(&question));
        }
        next(&view) == HostStep::Do(HostEffect::Revoke { factory: "app/hf".into(), expires: 1_100 })
    });
}

//! Every pair of deaths: the operator dies before or after any effect, or while its request goes on without it, starts anew,
//! dies again and starts anew; and in the end the stored key works, and no other's key was touched.

mod mends;
mod replicas;
mod world;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use self::world::{Ask, By, Deed, World};
use super::{
    faults::{self, HostFault},
    order::next,
    step::{EnrolmentWay, HostEffect, HostStep, HostVerdict},
};

/// A run that goes on for longer goes round in a circle.
const MOST_STEPS: usize = 100;
/// After so many seconds what was left in flight lands.
const LATE: [i64; 3] = [1, 12, 100];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    Before,
    After,
    /// While the request goes on in the server, and lands after so many seconds.
    InFlight(i64),
}

type At = Option<(usize, Death)>;

/// What of the effects goes on in Conjur without its caller.
fn flies(effect: &HostEffect) -> bool {
    matches!(
        effect,
        HostEffect::Make
            | HostEffect::MakeToken(_)
            | HostEffect::Enrol
            | HostEffect::Load(_)
            | HostEffect::Rotate
    )
}

/// One life of the process: how it ended, if it got to an end.
fn live(world: &mut World, ask: &Ask, death: At, effects: &mut Vec<HostEffect>) -> Option<HostVerdict> {
    world.tried = false;
    world.pass(1);
    let mut view = world.view(ask);
    let mut hand = None;
    for _ in 0..MOST_STEPS {
        view.now = world.now;
        match next(&view) {
            HostStep::Learn(question) => {
                let fact = world.learn(&question);
                view.learned(&question, fact);
            }
            HostStep::Do(effect) => {
                let dies = death.filter(|(at, _)| *at == effects.len()).map(|(_, how)| how);
                effects.push(effect.clone());
                match dies {
                    Some(Death::Before) => return None,
                    Some(Death::InFlight(late)) => {
                        world.leave(&effect, ask, late);
                        return None;
                    }
                    _ => {}
                }
                let performed = world.perform(&effect, ask, &mut hand);
                if dies.is_some() {
                    return None;
                }
                view.done(&effect, performed);
            }
            HostStep::Finish(verdict) => return Some(verdict),
        }
    }
    world.wrong.get_or_insert(format!(
        "a run goes round in a circle: {:?}",
        &effects[effects.len().saturating_sub(4)..]
    ));
    None
}

/// Each way in which a life from here can end early, and that it does not.
fn deaths(world: &World, ask: &Ask) -> Vec<At> {
    let mut effects = Vec::new();
    live(&mut world.clone(), ask, None, &mut effects);
    let mut all = vec![None];
    for (at, effect) in effects.iter().enumerate() {
        all.extend([Some((at, Death::Before)), Some((at, Death::After))]);
        if flies(effect) {
            all.extend(LATE.map(|late| Some((at, Death::InFlight(late)))));
        }
    }
    all
}

/// Lives until nothing is left to do.
fn finish(world: &mut World, ask: &Ask) -> Result<HostVerdict, String> {
    let mut quiet = 0;
    for _ in 0..20 {
        let mut effects = Vec::new();
        let verdict = live(world, ask, None, &mut effects);
        if let Some(wrong) = world.wrong.take() {
            return Err(wrong);
        }
        let Some(verdict) = verdict else { return Err("no end".into()) };
        match &verdict {
            HostVerdict::Done { again: Some(seconds) } | HostVerdict::Wait(seconds) => {
                quiet = 0;
                world.pass(*seconds);
            }
            HostVerdict::Refused | HostVerdict::Vanished => {
                quiet = 0;
                world.pass(150);
            }
            _ if effects.is_empty() && quiet > 0 => return Ok(verdict),
            _ => {
                quiet = if effects.is_empty() { quiet + 1 } else { 0 };
                // What others do, and what flies, comes in between.
                world.pass(150);
            }
        }
    }
    Err("it is never settled".into())
}

/// Whether the world is as it has to be.
fn judge(world: &World, ask: &Ask, verdict: &HostVerdict, tampered: bool) -> Result<(), String> {
    let Some(host) = &world.host else {
        return match verdict {
            HostVerdict::NotFound => Ok(()),
            other => Err(format!("there is no host, and it says {other:?}")),
        };
    };
    if host.by == By::Stranger && !ask.adopts {
        if host.marked || host.loaded {
            return Err("a stranger's host carries what the object says".into());
        }
        let died = host.strangers != Some(host.key) && !world.unseen;
        return match verdict {
            _ if died => Err("a stranger's key died".into()),
            HostVerdict::Foreign { .. } => Ok(()),
            other => Err(format!("a stranger's host is there, and it says {other:?}")),
        };
    }
    let unclear = matches!(verdict, HostVerdict::Foreign { unclear: true, .. });
    if unclear && world.listed < 20 {
        return Ok(());
    }
    if tampered && *verdict == HostVerdict::KeyInvalid {
        return if host.strangers == Some(host.key) { Ok(()) } else { Err("no one has the key".into()) };
    }
    if !matches!(verdict, HostVerdict::Done { again: None }) {
        return Err(format!("the object's own host is taken for foreign, or lost: {verdict:?}"));
    }
    if world.pending.is_some() {
        return Err("it is done, and still announces".into());
    }
    if ask.keeps_key {
        if world.secret.map(|(key, _)| key) != Some(host.key) {
            return Err(format!("the stored key does not work: {:?} of {host:?}", world.secret));
        }
    } else if world.secret.is_some() {
        return Err("a key is kept".into());
    }
    if host.by == By::Stranger && host.marked && host.created {
        return Err("a host that was taken over counts as made, and goes with the object".into());
    }
    if matches!(ask.way, EnrolmentWay::Branch(_)) && !(host.marked && host.loaded) {
        return Err("the host lacks what the spec says".into());
    }
    for role in ask.member_of {
        if !world.memberships.contains_key(role) {
            return Err(format!("{role} is not granted"));
        }
    }
    let left = world.memberships.iter().find(|(role, by)| **by == By::Us && !ask.member_of.contains(*role));
    left.map_or(Ok(()), |(role, _)| Err(format!("{role} is not revoked")))
}

#[derive(Clone, Debug)]
struct Scenario {
    name: &'static str,
    asks: [Ask; 3],
    others: Vec<(i64, Deed)>,
    before: Vec<Deed>,
    listed: usize,
    refusals: usize,
    partly: bool,
}

/// All histories of a scenario: how many; or what is wrong in one.
fn run(scenario: &Scenario) -> Result<u64, String> {
    let [one, two, three] = &scenario.asks;
    let mut start = World::default();
    (start.listed, start.now, start.refusals) = (scenario.listed, 1_000, scenario.refusals);
    start.partly = scenario.partly;
    start.others = scenario.before.iter().map(|deed| (0, *deed)).collect();
    start.pass(1);
    start.others = scenario.others.iter().map(|(at, deed)| (start.now + at, *deed)).collect();
    let tampered = scenario.others.iter().any(|(_, deed)| *deed == Deed::Rotates);
    let mut histories = 0;
    for first in deaths(&start, one) {
        let mut early = start.clone();
        live(&mut early, one, first, &mut Vec::new());
        for second in deaths(&early, two) {
            let mut world = early.clone();
            live(&mut world, two, second, &mut Vec::new());
            let wrong = |why: String, world: &World| {
                format!(
                    "{}: {why}\ndeaths {first:?} {second:?}, others {:?}\nfrom {early:#?}\nto {world:#?}",
                    scenario.name, scenario.others
                )
            };
            let verdict = finish(&mut world, three).map_err(|why| wrong(why, &world))?;
            let lived = first.is_none() && second.is_none();
            if lived
                && tampered
                && three.rotate.is_none()
                && !world.raced
                && !three.adopts
                && verdict != HostVerdict::KeyInvalid
                && world.host.as_ref().is_some_and(|host| {
                    host.by == By::Us && host.strangers.is_some_and(|key| host.key != key)
                })
            {
                return Err(wrong(
                    "a stranger's key died, of a host whose key nothing asked to rotate".into(),
                    &world,
                ));
            }
            judge(&world, three, &verdict, tampered).map_err(|why| wrong(why, &world))?;
            histories += 1;
        }
    }
    Ok(histories)
}

fn scenarios() -> Vec<Scenario> {
    let branch = Ask::by_branch();
    let factory = Ask { way: EnrolmentWay::Factory("app/hf".into()), ..branch.clone() };
    let token = Ask { way: EnrolmentWay::Token, adopts: true, ..branch.clone() };
    let existing = Ask { way: EnrolmentWay::Existing, adopts: true, ..branch.clone() };
    let no_key = Ask { keeps_key: false, ..branch.clone() };
    let member = Ask { member_of: &["layer/a", "layer/b"], ..branch.clone() };
    let less = Ask { member_of: &["layer/b"], ..branch.clone() };
    let rotated = |ask: &Ask, text| Ask { rotate: Some(text), ..ask.clone() };
    let adopted = Ask { adopts: true, ..branch.clone() };
    let mut all = Vec::new();
    let base = Scenario {
        name: "",
        asks: [branch.clone(), branch.clone(), branch.clone()],
        others: vec![],
        before: vec![],
        listed: 20,
        refusals: 0,
        partly: false,
    };
    let mut add = |name, asks: [&Ask; 3], before: &[Deed]| {
        let scenario =
            Scenario { name, asks: asks.map(Clone::clone), before: before.to_vec(), ..base.clone() };
        all.push(scenario);
    };
    add("by branch", [&branch; 3], &[]);
    add("by branch, rotated", [&branch, &rotated(&branch, "1"), &rotated(&branch, "1")], &[]);
    let slot = Ask { slot: Some(1_030), ..branch.clone() };
    add("by branch, at a slot", [&branch, &slot, &slot], &[]);
    add("rotated twice", [&rotated(&branch, "1"), &rotated(&branch, "2"), &rotated(&branch, "3")], &[]);
    add("by factory", [&factory; 3], &[]);
    add("by factory, rotated", [&factory, &rotated(&factory, "1"), &rotated(&factory, "2")], &[]);
    add("by a given token", [&token; 3], &[]);
    add("by a given token, rotated", [&token, &rotated(&token, "1"), &rotated(&token, "1")], &[]);
    add("existing", [&existing; 3], &[Deed::Makes]);
    add("existing, rotated", [&existing, &rotated(&existing, "1"), &rotated(&existing, "2")], &[Deed::Makes]);
    add("without a key", [&no_key; 3], &[]);
    add("from a key to none", [&branch, &no_key, &no_key], &[]);
    add("from a key to none and back", [&branch, &no_key, &branch], &[]);
    add("from none to a key", [&no_key, &branch, &branch], &[]);
    add("with memberships", [&member, &less, &less], &[]);
    add("with memberships and back", [&member, &less, &member], &[]);
    add("a stranger's, and none given up", [&branch; 3], &[Deed::Makes]);
    add("a stranger's, adopted", [&branch, &adopted, &adopted], &[Deed::Makes]);
    add(
        "a stranger's, without a key",
        [&adopted, &Ask { adopts: true, ..no_key.clone() }, &Ask { adopts: true, ..no_key.clone() }],
        &[Deed::Makes],
    );
    let alone = all.clone();
    for scenario in &alone {
        let moments: Vec<i64> = (0..40).step_by(if cfg!(debug_assertions) { 5 } else { 1 }).collect();
        for at in moments {
            let mut with = |deed: Deed| all.push(Scenario { others: vec![(at, deed)], ..scenario.clone() });
            if scenario.before.is_empty() && scenario.name != "by a given token" {
                with(Deed::Makes);
            }
            if matches!(
                scenario.name,
                "by branch" | "by factory" | "by branch, rotated" | "by branch, at a slot"
            ) {
                with(Deed::Rotates);
                with(Deed::Deletes);
            }
            if scenario.name.starts_with("with memberships") {
                with(Deed::Grants("layer/a"));
                with(Deed::Grants("layer/c"));
            }
        }
        if scenario.name == "by branch" {
            all.push(Scenario { listed: 1, ..scenario.clone() });
        }
        if scenario.name != "by branch, rotated" && scenario.name.contains("branch")
            || scenario.name.starts_with("with")
            || scenario.name == "a stranger's, adopted"
        {
            // What memberOf names is missing, and is made in the end.
            for (refusals, partly) in [(1, false), (3, false), (1, true), (3, true)] {
                all.push(Scenario { refusals, partly, ..scenario.clone() });
            }
        }
    }
    // Those with no one else first, which are few and show most.
    all.sort_by_key(|scenario| !scenario.others.is_empty());
    all
}

/// Runs all scenarios on both processors, with a deliberate fault or none: how many histories, or what was found.
fn run_all(fault: Option<HostFault>) -> Result<u64, String> {
    let scenarios = scenarios();
    let at = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || {
            faults::make(fault);
            let mut histories = 0;
            while let Some(scenario) = scenarios.get(at.fetch_add(1, Ordering::Relaxed)) {
                histories += run(scenario).inspect_err(|_| at.store(scenarios.len(), Ordering::Relaxed))?;
            }
            Ok(histories)
        };
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("it panics".into()))).sum()
    })
}

#[test]
fn no_pair_of_deaths_leaves_a_key_that_does_not_work_or_kills_a_strangers() {
    let histories = run_all(None).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(histories > 20_000, "only {histories} histories");
}

#[test]
fn every_deliberate_fault_is_found() {
    let mut unnoticed = BTreeMap::new();
    for (fault, says) in HostFault::ALL {
        match run_all(Some(*fault)) {
            Err(wrong) if says.split('|').any(|says| wrong.contains(says)) => {}
            Err(wrong) => _ = unnoticed.insert(format!("{fault:?}"), wrong.chars().take(200).collect()),
            Ok(_) => _ = unnoticed.insert(format!("{fault:?}"), "nothing was found".to_owned()),
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

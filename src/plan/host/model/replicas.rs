//! Two replicas at once: a former leader goes on for some steps, or its request does without it, while the new one looks and acts; then
//! one of them dies, or both. In the end the stored key works, and no other's key was touched.

use super::{
    Ask, finish, judge,
    world::{Deed, World, is_written},
};
use crate::plan::host::{
    faults::{self, HostFault, fault},
    order::next,
    step::{EnrolmentWay, HostEffect, HostQuestion, HostStep},
    view::HostView,
};

/// A run that goes on for longer goes round in a circle.
const MOST_STEPS: usize = 60;
/// How the former leader ends: before its next request, or while it is under way and lands after so many seconds.
const ENDS: [Option<i64>; 3] = [None, Some(3), Some(100)];

/// One process that takes itself for the leader, in the middle of a run.
#[derive(Clone)]
struct Replica<'a> {
    ask: &'a Ask,
    view: HostView,
    /// A key that is nowhere else.
    hand: Option<u32>,
    /// How often the status was written, as far as it knows.
    knows: u64,
    /// Its last step was the look right before an enrolment: what others do until that comes, no look can prevent.
    looked: bool,
    over: bool,
}

impl<'a> Replica<'a> {
    fn begin(world: &mut World, ask: &'a Ask) -> Self {
        world.pass(1);
        Self { ask, view: world.view(ask), hand: None, knows: world.written, looked: false, over: false }
    }

    /// One step.
    fn step(&mut self, world: &mut World) {
        self.view.now = world.now;
        let looked = std::mem::take(&mut self.looked);
        match next(&self.view) {
            HostStep::Learn(question) => {
                self.looked = question == HostQuestion::HostAgain;
                let fact = world.learn(&question);
                self.view.learned(&question, fact);
            }
            HostStep::Do(effect) => {
                if self.is_refused(&effect, world) {
                    world.pass(1);
                    self.over = true;
                    return;
                }
                if looked {
                    world.looked_at = world.now;
                }
                let performed = world.perform(&effect, self.ask, &mut self.hand);
                if is_written(&effect) == Some(true) {
                    self.knows = world.written;
                }
                self.view.done(&effect, performed);
            }
            HostStep::Finish(_) => self.over = true,
        }
    }

    /// Whether a write is refused: of a status that another wrote since, or of an earlier key over a later one, which is tried then and
    /// does not work.
    fn is_refused(&self, effect: &HostEffect, world: &World) -> bool {
        if let HostEffect::Store(number) = effect {
            let is_later = world.secret.and_then(|(_, number)| number) > Some(*number);
            let works = world.host.as_ref().is_some_and(|host| Some(host.key) == self.hand);
            return is_later && !works && !fault!(EarlierKeyIsStored);
        }
        let is_anothers = self.knows != world.written && !fault!(StatusIsWrittenBlindly);
        is_written(effect) == Some(true) && is_anothers
    }

    /// It dies; where its next step is a request, that may land after so many seconds. Whether it can end so.
    fn dies(&mut self, world: &mut World, lands: Option<i64>) -> bool {
        let Some(after) = lands else { return true };
        self.view.now = world.now;
        match next(&self.view) {
            HostStep::Do(effect) if !self.over && !self.is_refused(&effect, world) => {
                world.leave_with(&effect, self.ask, after, self.hand);
                super::flies(&effect) || is_written(&effect).is_some()
            }
            _ => false,
        }
    }

    /// Each state of the two after another step of this one, beginning with none.
    fn states(&self, world: &World) -> Result<Vec<(World, Self)>, String> {
        let mut all = vec![(world.clone(), self.clone())];
        let (mut world, mut now) = (world.clone(), self.clone());
        while !now.over {
            now.step(&mut world);
            all.push((world.clone(), now.clone()));
            if all.len() > MOST_STEPS {
                return Err("a run goes round in a circle".into());
            }
        }
        Ok(all)
    }
}

struct Scenario {
    name: &'static str,
    /// What is settled before.
    before: Option<Ask>,
    former: Ask,
    new: Ask,
    makes: Option<i64>,
}

/// All histories of a scenario: how many; or what is wrong in one.
fn run(scenario: &Scenario) -> Result<u64, String> {
    let mut start = World { now: 1_000, listed: 20, ..World::default() };
    if let Some(before) = &scenario.before {
        finish(&mut start, before)?;
    }
    start.others = scenario.makes.iter().map(|at| (start.now + at, Deed::Makes)).collect();
    let former = Replica::begin(&mut start, &scenario.former);
    let mut histories = 0;
    for (at, (mut world, former)) in former.states(&start)?.into_iter().enumerate() {
        // What it makes from now on, no one can know of: it ends by itself.
        world.is_replaced = true;
        let new = Replica::begin(&mut world, &scenario.new);
        for (acted, (world, new)) in new.states(&world)?.into_iter().enumerate() {
            for (more, (world, former)) in former.states(&world)?.into_iter().enumerate() {
                for lands in ENDS {
                    let (mut world, mut former) = (world.clone(), former.clone());
                    if !former.dies(&mut world, lands) {
                        continue;
                    }
                    for goes_on in [true, false] {
                        let (mut world, mut new) = (world.clone(), new.clone());
                        let mut steps = 0;
                        while goes_on && !new.over && steps < MOST_STEPS {
                            new.step(&mut world);
                            steps += 1;
                        }
                        let settled = finish(&mut world, &scenario.new);
                        settled.and_then(|verdict| judge(&world, &scenario.new, &verdict, false)).map_err(|why| {
                            format!(
                                "{}: {why}\nthe former leader {at} steps, the new one {acted}, the former one {more} more and dies \
                                 ({lands:?}), the new one goes on: {goes_on}\nto {world:#?}",
                                scenario.name
                            )
                        })?;
                        histories += 1;
                    }
                }
            }
        }
    }
    Ok(histories)
}

fn scenarios() -> Vec<Scenario> {
    let branch = Ask::by_branch();
    let factory = Ask { way: EnrolmentWay::Factory("app/hf".into()), ..branch.clone() };
    let token = Ask { way: EnrolmentWay::Token, adopts: true, ..branch.clone() };
    let no_key = Ask { keeps_key: false, ..branch.clone() };
    let member = Ask { member_of: &["layer/a", "layer/b"], ..branch.clone() };
    let rotated = |ask: &Ask, text| Ask { rotate: Some(text), ..ask.clone() };
    let of = |name, before: Option<&Ask>, former: &Ask, new: &Ask| Scenario {
        name,
        before: before.cloned(),
        former: former.clone(),
        new: new.clone(),
        makes: None,
    };
    let mut all = vec![
        of("rotated", Some(&branch), &rotated(&branch, "1"), &rotated(&branch, "1")),
        of("rotated once more", Some(&branch), &rotated(&branch, "1"), &rotated(&branch, "2")),
        of("by branch", None, &branch, &branch),
        of("by factory", None, &factory, &factory),
        of("by factory, rotated", Some(&factory), &rotated(&factory, "1"), &rotated(&factory, "1")),
        of("by a given token", None, &token, &token),
        of("from a key to none", Some(&branch), &branch, &no_key),
        of("to none and back", Some(&branch), &no_key, &branch),
        of("with memberships", Some(&branch), &member, &member),
    ];
    for at in [0, 4, 8, 12] {
        for ask in [&branch, &factory] {
            all.push(Scenario { makes: Some(at), ..of("a stranger's", None, ask, ask) });
        }
    }
    all
}

/// All scenarios, with a deliberate fault or none: how many histories, or what was found.
fn run_all(fault: Option<HostFault>) -> Result<u64, String> {
    faults::make(fault);
    let histories = scenarios().iter().map(run).sum();
    faults::make(None);
    histories
}

#[test]
fn a_former_leader_that_goes_on_leaves_every_stored_key_working() {
    let histories = run_all(None).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(histories > 15_000, "only {histories} histories");
}

#[test]
fn what_only_two_replicas_show_is_found() {
    for (fault, says) in HostFault::OF_REPLICAS {
        let wrong = run_all(Some(*fault)).expect_err(&format!("{fault:?}: nothing was found"));
        assert!(says.split('|').any(|says| wrong.contains(says)), "{fault:?}: {wrong}");
    }
}

//! Every pair of deaths: the operator dies before or after any effect, or while its load goes on without it, starts anew, dies
//! again and starts anew; and in the end no key is lost, and no other's key was touched.

mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use self::world::{By, Document, Other, World};
use super::{
    faults::{self, Fault},
    order::next,
    step::{Effect, Known, Step, Verdict},
};

/// Whether each moment is tried at which others may act and a load may commit: a build for debugging is slow, and tries some.
const ALL_MOMENTS: bool = !cfg!(debug_assertions);

/// A run that goes on for longer goes round in a circle.
const MOST_STEPS: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    Before,
    After,
    /// While the load goes on in the server, and commits after so many calls.
    InFlight(u32),
}

type At = Option<(usize, Death)>;

/// One life of the process: how it ended, if it got to an end.
fn live(world: &mut World, document: &Document, death: At, effects: &mut Vec<Effect>) -> Option<Verdict> {
    world.tick();
    world.runs = true;
    let ended = steps(world, document, death, effects);
    world.runs = false;
    ended
}

fn steps(world: &mut World, document: &Document, death: At, effects: &mut Vec<Effect>) -> Option<Verdict> {
    if world.is_settled(document) {
        return Some(Verdict::Loaded { version: 0, how: Known::Found });
    }
    let mut view = world.view(document);
    let mut hand = BTreeMap::new();
    for _ in 0..MOST_STEPS {
        view.now = world.now;
        match next(&view) {
            Step::Learn(question) => {
                let fact = world.learn(&question, document);
                view.learned(&question, fact);
            }
            Step::Do(effect) => {
                let dies = death.filter(|(at, _)| *at == effects.len()).map(|(_, how)| how);
                effects.push(effect.clone());
                match dies {
                    Some(Death::Before) => return None,
                    Some(Death::InFlight(late)) if effect == Effect::Load && world.flying.is_none() => {
                        world.flying = Some((*document, late));
                        return None;
                    }
                    _ => {}
                }
                let performed = world.perform(&effect, document, &mut hand);
                if dies.is_some() {
                    return None;
                }
                view.done(&effect, performed);
            }
            Step::Finish(verdict) => return Some(verdict),
        }
    }
    world.wrong.get_or_insert("a run goes round in a circle".into());
    None
}

/// Each way in which a life from here can end early, and that it does not.
fn deaths(world: &World, document: &Document, late: &[u32]) -> Vec<At> {
    let mut effects = Vec::new();
    live(&mut world.clone(), document, None, &mut effects);
    let mut all = vec![None];
    for (at, effect) in effects.iter().enumerate() {
        all.extend([Some((at, Death::Before)), Some((at, Death::After))]);
        if *effect == Effect::Load {
            all.extend(late.iter().map(|late| Some((at, Death::InFlight(*late)))));
        }
    }
    all
}

/// What happens around the lives.
#[derive(Clone, Debug)]
struct Scenario {
    name: &'static str,
    documents: [Document; 3],
    others: Vec<Other>,
    /// After so many calls a load commits whose caller is dead.
    late: &'static [u32],
    listed: usize,
    /// Another loads so many documents into the branch between the first life and the second.
    busy: u32,
    /// A call takes so many seconds.
    seconds: i64,
    keeps_inventory: bool,
}

/// The third life goes to its end, and is begun anew as often as it has to wait.
fn finish(world: &mut World, document: &Document) -> Result<(), String> {
    for _ in 0..40 {
        match live(world, document, None, &mut Vec::new()) {
            Some(Verdict::Loaded { .. }) if world.flying.is_none() => return Ok(()),
            Some(Verdict::Wait { seconds, .. }) => {
                let until = world.now + i64::try_from(seconds).unwrap_or(i64::MAX);
                while world.now < until {
                    world.tick();
                }
            }
            _ => world.tick(),
        }
        if let Some(wrong) = &world.wrong {
            return Err(wrong.clone());
        }
    }
    Err("it never gets to an end".into())
}

fn judge(world: &World, document: &Document, died: bool, scenario: &Scenario) -> Result<(), String> {
    let unlisted = scenario.busy > 0;
    // Whoever else loads as the operator may load after it.
    let alone = scenario.listed > 0 && scenario.others.iter().all(|other| other.by == By::Stranger);
    if let Some(wrong) = &world.wrong {
        return Err(wrong.clone());
    }
    if !world.is_settled(document) {
        return Err("it does not say that it is loaded, or still announces".into());
    }
    let holds = |newest: &(&'static str, String)| {
        // A version does not tell its mode: of one that came late it is not known.
        newest.0 == document.sha && (newest.1 == document.inputs() || world.late)
    };
    if alone && !world.newest.get(document.branch).is_some_and(holds) {
        return Err("it says that it is loaded, and the branch does not hold it".into());
    }
    for (role, made) in world.records.iter().filter(|(id, _)| id.starts_with("d:host:")) {
        let stored = world.keys.get(role);
        let (is_stored, is_rotated) = (stored == Some(&made.key), made.key != made.first);
        match made.by {
            By::Us if is_stored && world.roles.contains(role) => {}
            By::Us if is_stored && !document.unread().contains(role) => {
                return Err(format!("the status does not name {role}, whose key is stored"));
            }
            // Told as unclear: a person looks after it.
            By::Us if unlisted && stored.is_none() && world.roles.contains(role) && !is_rotated => {}
            // No one knows of it but the answer.
            By::Us if died && document.unread().contains(role) => {}
            By::Us => return Err(format!("the key of {role} is lost")),
            By::Twin if is_rotated || world.twin.get(role) != Some(&made.key) => {
                return Err(format!("the key of {role}, which another object keeps, was rotated"));
            }
            By::Stranger if is_rotated => return Err(format!("a stranger's key was rotated: {role}")),
            // Of who dies between the announcement and the refusal it can't be told apart.
            By::Namesake if is_rotated && !died => {
                return Err(format!(
                    "the key of {role} was rotated, and the load that was announced was refused"
                ));
            }
            By::Twin | By::Stranger | By::Namesake => {}
        }
    }
    let gone = world.keys.keys().find(|role| !world.records.contains_key(*role));
    if let (Some(role), false) = (gone, died) {
        return Err(format!("the key of {role} stays in the Secret, and the role is gone"));
    }
    if world.keeps_inventory {
        let there = world.records.iter().map(|(id, made)| (id.clone(), made.origin.clone())).collect();
        let ours = world.inventory.ours("s", document.branch, "d", &there);
        let unclear = world.inventory.unclear("s", document.branch, "d", &there);
        for (id, made) in world.records.iter().filter(|(id, _)| id.contains(document.branch)) {
            let known = ours.contains_key(id);
            if known && made.by != By::Us && !(died && made.by == By::Namesake) {
                return Err(format!("the inventory lists {id}, which another made"));
            }
            let is_unread = died && document.unread().contains(id);
            let is_known = known || is_unread || unlisted && unclear.contains(id);
            if made.by == By::Us && !is_known {
                return Err(format!("the inventory does not know of {id}"));
            }
        }
    }
    Ok(())
}

/// All histories of a scenario: how many; or what is wrong in one.
fn run(scenario: &Scenario) -> Result<u64, String> {
    let [one, two, three] = &scenario.documents;
    let (listed, seconds) = (scenario.listed, scenario.seconds);
    let mut start = World { listed, seconds, others: scenario.others.clone(), ..World::default() };
    start.keeps_inventory = scenario.keeps_inventory;
    start.commit_before(one.branch);
    let mut histories = 0;
    for first in deaths(&start, one, scenario.late) {
        let mut early = start.clone();
        live(&mut early, one, first, &mut Vec::new());
        for _ in 0..scenario.busy {
            early.commit_unrelated(one.branch);
        }
        for second in deaths(&early, two, scenario.late) {
            let mut world = early.clone();
            let mut effects = Vec::new();
            live(&mut world, two, second, &mut effects);
            let sent = effects.contains(&Effect::Load) || world.flying.is_some();
            let wrong = |why: String| {
                let others = &scenario.others;
                format!(
                    "{}: {why}\ndeaths {first:?} {second:?}, others {others:?}\nfrom {early:#?}",
                    scenario.name
                )
            };
            finish(&mut world, three).map_err(wrong)?;
            let settled = (world.loads.clone(), world.keys.clone());
            finish(&mut world, three).map_err(wrong)?;
            if settled != (world.loads.clone(), world.keys.clone()) {
                return Err(wrong("what is settled is not left alone".into()));
            }
            let died = first.is_some() || second.is_some();
            let flew = |death: At| matches!(death, Some((_, Death::InFlight(_))));
            judge(&world, three, died, scenario).map_err(wrong)?;
            // Where no load went on without its caller, none is repeated; but what was asked for in between is.
            let (last, asked) = (three.sha, (one.sha, two.sha, one.inputs_are(three), two.inputs_are(three)));
            let in_a_row = asked == (last, last, true, true)
                || one.sha != last && two.sha == last && two.inputs_are(three);
            let loads = world.loads.get(last).copied().unwrap_or_default();
            let looks = scenario.listed > 2 && (!flew(first) || !sent) && !flew(second);
            if in_a_row && looks && loads > 1 {
                return Err(wrong(format!("one document was loaded {loads} times")));
            }
            histories += 1;
        }
    }
    Ok(histories)
}

const ONE: Document = Document {
    sha: "one",
    branch: "app",
    hosts: &["old", "a", "b"],
    unread: &[],
    variables: &["v"],
    replaces: false,
    invalid: false,
};
const TWO: Document = Document { sha: "two", hosts: &["old", "b", "c"], variables: &["v", "w"], ..ONE };
const ELSEWHERE: Document = Document { branch: "later", ..ONE };
const REPLACED: Document = Document { sha: "less", hosts: &["old", "b"], replaces: true, ..ONE };
const NO_HOSTS: Document = Document { sha: "vars", hosts: &[], ..ONE };
const MORE_VARIABLES: Document = Document { sha: "more", hosts: &[], variables: &["v", "w"], ..ONE };
const UNREAD: Document = Document { unread: &["x"], ..NO_HOSTS };
const INVALID: Document = Document { invalid: true, ..ONE };
/// What a stranger loads: one of the hosts, and one of the variables.
const FOREIGN: Document = Document { sha: "foreign", hosts: &["b"], variables: &["v"], ..ONE };

fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    let base = Scenario {
        name: "",
        documents: [ONE; 3],
        others: vec![],
        late: &[0, 3, 8],
        listed: 20,
        busy: 0,
        seconds: 1,
        keeps_inventory: false,
    };
    for (name, documents) in [
        ("the same document", [ONE, ONE, ONE]),
        ("edited after the first death", [ONE, TWO, TWO]),
        ("edited after the second death", [ONE, ONE, TWO]),
        ("edited and edited back", [ONE, TWO, ONE]),
        ("the branch is changed", [ONE, ELSEWHERE, ELSEWHERE]),
        ("the branch is changed and changed back", [ONE, ELSEWHERE, ONE]),
        ("replaced by less", [ONE, REPLACED, REPLACED]),
        ("no hosts", [NO_HOSTS, NO_HOSTS, NO_HOSTS]),
        ("no hosts, edited", [NO_HOSTS, MORE_VARIABLES, MORE_VARIABLES]),
        ("hosts, and none any more", [ONE, NO_HOSTS, NO_HOSTS]),
        ("alone: a host that is not read", [UNREAD, UNREAD, UNREAD]),
        ("alone: a host that is not read, after others", [ONE, UNREAD, UNREAD]),
        (
            "alone: the mode is changed",
            [NO_HOSTS, Document { replaces: true, ..NO_HOSTS }, Document { replaces: true, ..NO_HOSTS }],
        ),
        (
            "alone: the mode is changed, with hosts",
            [ONE, Document { replaces: true, ..ONE }, Document { replaces: true, ..ONE }],
        ),
        ("refused with an earlier one open", [ONE, Document { invalid: true, ..TWO }, ONE]),
        ("refused, and mended", [INVALID, INVALID, ONE]),
        ("refused after a load", [ONE, Document { invalid: true, ..TWO }, TWO]),
    ] {
        for keeps_inventory in [false, true] {
            let is_first = ALL_MOMENTS || !keeps_inventory && name == "the same document";
            let every_call = is_first || !keeps_inventory && name == "the branch is changed";
            let late: &[u32] =
                if every_call { &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14] } else { base.late };
            let seconds = if name == "the branch is changed" { 60 } else { 1 };
            let scenario = Scenario { name, documents, late, seconds, keeps_inventory, ..base.clone() };
            all.push(scenario.clone());
            if name.starts_with("alone: ") {
                continue;
            }
            for after in (0..34).step_by(if ALL_MOMENTS {
                1
            } else if is_first {
                2
            } else {
                9
            }) {
                let strangers = [FOREIGN, Document { sha: documents[0].sha, ..FOREIGN }];
                for document in strangers {
                    let others = vec![Other { after, by: By::Stranger, document }];
                    all.push(Scenario { others, ..scenario.clone() });
                }
                if documents[0].invalid {
                    let document = Document { invalid: false, ..documents[0] };
                    let others = vec![Other { after, by: By::Namesake, document }];
                    all.push(Scenario { others, ..scenario.clone() });
                }
                if !keeps_inventory && documents[0].sha == ONE.sha {
                    let others = vec![Other { after, by: By::Twin, document: ONE }];
                    all.push(Scenario { others, ..scenario.clone() });
                }
            }
            if documents[1].branch == ONE.branch {
                // Conjur lists the last versions only.
                all.push(Scenario { listed: 2, busy: 3, ..scenario.clone() });
            }
        }
    }
    for documents in [[NO_HOSTS; 3], [NO_HOSTS, MORE_VARIABLES, NO_HOSTS]] {
        all.push(Scenario { name: "versions can't be read", documents, listed: 0, ..base.clone() });
    }
    // Those with no one else first, which are few and show most.
    all.sort_by_key(|scenario| !scenario.others.is_empty());
    all
}

/// Runs all scenarios on both processors, with a deliberate fault or none: how many histories, or what was found.
fn run_all(fault: Option<Fault>) -> Result<u64, String> {
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
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("it never ends".into()))).sum()
    })
}

#[test]
fn a_refusal_leaves_an_announcement_that_owes_nothing_only_to_who_tries_again_soon() {
    let document = Document { hosts: &["old"], ..ONE };
    let mut world = World { listed: 20, seconds: 1, ..World::default() };
    world.commit_before(document.branch);
    assert_eq!(live(&mut world, &document, Some((1, Death::InFlight(100))), &mut Vec::new()), None);
    assert!(world.pending.as_ref().is_some_and(|announced| announced.owed.is_empty()));
    // Conjur is busy with it.
    assert_eq!(live(&mut world, &document, None, &mut Vec::new()), Some(Verdict::Refused));
    assert!(world.pending.is_some(), "that load may still happen, and is looked for");
    world.flying = None;
    let invalid = Document { invalid: true, ..document };
    assert_eq!(live(&mut world, &invalid, None, &mut Vec::new()), Some(Verdict::Refused));
    assert_eq!(world.pending, None);
}

/// What lives did from their begin to their end, each once: the names of the effects, and keys that are rotated one after the
/// other as one.
fn ways() -> BTreeSet<String> {
    let mut ways = BTreeSet::new();
    for scenario in scenarios().into_iter().filter(|scenario| scenario.others.is_empty()) {
        let [one, two, three] = &scenario.documents;
        let mut start = World { listed: scenario.listed, seconds: scenario.seconds, ..World::default() };
        start.keeps_inventory = scenario.keeps_inventory;
        start.commit_before(one.branch);
        for first in deaths(&start, one, scenario.late) {
            let mut early = start.clone();
            live(&mut early, one, first, &mut Vec::new());
            for second in deaths(&early, two, scenario.late) {
                let mut world = early.clone();
                live(&mut world, two, second, &mut Vec::new());
                let mut effects = Vec::new();
                live(&mut world, three, None, &mut effects);
                let names: Vec<&str> = effects.iter().map(Effect::name).collect();
                let mut way = format!(" {} ", names.join(" "));
                while way.contains(" rotate store rotate store ") {
                    way = way.replace(" rotate store rotate store ", " rotate store ");
                }
                ways.insert(way.trim().to_owned());
            }
        }
    }
    ways
}

/// `tests/it/cluster/policy/kills.rs` compares what the operator did with this list.
#[test]
fn the_ways_that_the_cluster_is_compared_with_are_the_models() {
    let listed: BTreeSet<&str> = include_str!("model/ways.txt").lines().collect();
    let ways = ways();
    let ways: BTreeSet<&str> = ways.iter().map(String::as_str).filter(|way| !way.is_empty()).collect();
    let text: Vec<&str> = ways.iter().copied().collect();
    assert!(
        listed == ways,
        "src/plan/effect/model/ways.txt is not current, and should be:\n{}",
        text.join("\n")
    );
}

#[test]
fn no_pair_of_deaths_loses_a_key_or_rotates_a_strangers() {
    let histories = run_all(None).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(histories > 50_000, "only {histories} histories");
}

#[test]
fn every_deliberate_fault_is_found() {
    let mut unnoticed = BTreeMap::new();
    for (fault, says) in Fault::ALL {
        match run_all(Some(*fault)) {
            Err(wrong) if wrong.contains(says) => {}
            Err(wrong) => _ = unnoticed.insert(format!("{fault:?}"), wrong.chars().take(200).collect()),
            Ok(_) => _ = unnoticed.insert(format!("{fault:?}"), "nothing was found".to_owned()),
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

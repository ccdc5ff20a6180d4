//! Who runs when.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::api::ConnectionKind;

fn line(name: &str, lane: Lane) -> Line {
    let connection = ConnectionId {
        kind: ConnectionKind::ClusterConjurConnection,
        namespace: String::new(),
        name: name.into(),
    };
    Line { connection, lane }
}

fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.into(), name: name.into() }
}

/// The line that a name says: its connection before the hyphen, refreshes with a capital letter.
fn by_name(key: &Key) -> Option<Line> {
    let (connection, _) = key.name.split_once('-')?;
    let refresh = connection.starts_with(char::is_uppercase);
    Some(line(&connection.to_lowercase(), if refresh { Lane::Refresh } else { Lane::Foreground }))
}

fn woken(turns: &mut ObjectTurns, namespace: &str, names: impl IntoIterator<Item = String>) {
    let now = Instant::now();
    for name in names {
        turns.wake(key(namespace, &name), now);
    }
    turns.line_up(now, by_name);
}

fn many(connection: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |n| format!("{connection}-{n}"))
}

fn run_all(turns: &mut ObjectTurns) -> Vec<Arc<Key>> {
    std::iter::from_fn(|| begin(turns)).collect()
}

fn begin(turns: &mut ObjectTurns) -> Option<Arc<Key>> {
    turns.begin().map(|begun| begun.key)
}

#[test]
fn a_namespace_with_thousands_delays_another_by_one() {
    let mut turns = ObjectTurns::new(1);
    woken(&mut turns, "hostile", many("a", 5_000));
    woken(&mut turns, "victim", many("a", 2));
    let mut order = Vec::new();
    for _ in 0..4 {
        let next = begin(&mut turns).unwrap();
        assert!(begin(&mut turns).is_none(), "one at a time");
        order.push(next.namespace.clone());
        turns.ended(&next, None);
    }
    assert_eq!(order, ["hostile", "victim", "hostile", "victim"]);
}

#[test]
fn what_hangs_leaves_room_for_whoever_comes() {
    let mut turns = ObjectTurns::new(100);
    woken(&mut turns, "hostile", many("a", 5_000));
    let hanging = run_all(&mut turns);
    assert_eq!(hanging.len(), 81, "alone it has nearly all");
    for namespace in ["b", "c", "d"] {
        woken(&mut turns, namespace, many("a", 2));
        assert_eq!(run_all(&mut turns).len(), 2, "{namespace}");
    }
}

#[test]
fn a_line_that_is_full_holds_up_only_itself() {
    let mut turns = ObjectTurns::new(10_000);
    woken(&mut turns, "n", many("a", 2_000));
    assert_eq!(run_all(&mut turns).len(), RUNNING_ON_CONNECTION * 4 / 5 + 1);
    woken(&mut turns, "n", many("b", 3).chain(many("A", 2)));
    let others = run_all(&mut turns);
    assert_eq!(others.len(), 5, "another connection's, and the refreshes of the same");
    woken(&mut turns, "other", many("a", 1));
    assert_eq!(run_all(&mut turns).len(), 1, "there is room for another namespace on the same connection");
}

#[test]
fn what_is_new_goes_first_also_where_it_waited_as_a_refresh() {
    let mut turns = ObjectTurns::new(1);
    woken(&mut turns, "n", ["A-1", "A-2", "A-3", "a-4"].map(str::to_owned));
    let first = begin(&mut turns).unwrap();
    assert_eq!(first.name, "a-4");
    // A person asks for it while it waits.
    turns.wake(key("n", "A-3"), Instant::now());
    turns.line_up(Instant::now(), |_| Some(line("a", Lane::Foreground)));
    turns.ended(&first, None);
    let second = begin(&mut turns).unwrap();
    assert_eq!(second.name, "A-3");
    turns.ended(&second, None);
    let mut left = Vec::new();
    while let Some(next) = begin(&mut turns) {
        left.push(next.name.clone());
        turns.ended(&next, None);
    }
    assert_eq!(left, ["A-1", "A-2"], "once each");
    assert!(turns.objects.is_empty() && turns.waiting.is_empty() && turns.namespaces.is_empty());
    assert!(turns.on.is_empty() && turns.running.by.is_empty() && turns.due.is_empty());
}

#[test]
fn an_object_runs_once_at_a_time_and_again_after_what_came_meanwhile() {
    let (mut turns, now) = (ObjectTurns::new(9), Instant::now());
    let at = |seconds| now + Duration::from_secs(seconds);
    turns.wake(key("n", "x"), at(9));
    turns.wake(key("n", "x"), at(1));
    turns.wake(key("n", "x"), at(5));
    assert_eq!(turns.next_due(), Some(at(1)), "the earliest counts");
    turns.line_up(now, by_name);
    assert!(begin(&mut turns).is_none());
    turns.line_up(at(1), by_name);
    let running = begin(&mut turns).unwrap();
    turns.wake(key("n", "x"), at(2));
    turns.wake(key("n", "x"), at(3));
    turns.line_up(at(8), by_name);
    assert!(begin(&mut turns).is_none() && turns.next_due().is_none());
    turns.ended(&running, Some(at(60)));
    assert_eq!((turns.running.all, turns.next_due()), (0, Some(at(2))));
    turns.line_up(at(2), by_name);
    let running = begin(&mut turns).unwrap();
    turns.ended(&running, Some(at(60)));
    assert_eq!(turns.next_due(), Some(at(60)));
    turns.line_up(at(60), by_name);
    let running = begin(&mut turns).unwrap();
    turns.ended(&running, None);
    assert!(turns.objects.is_empty() && turns.due.is_empty(), "what is not to run again is forgotten");
}

#[test]
fn three_thousand_of_one_namespace_run_as_side_by_side_as_of_five_hundred() {
    let at_once = |namespaces: usize| {
        let mut turns = ObjectTurns::new(crate::limits::RUNNING_SECRETS);
        for n in 0..3_000 {
            woken(&mut turns, &format!("n{}", n % namespaces), [format!("a-{n}")]);
        }
        run_all(&mut turns).len()
    };
    // As many as fill all batches of a connection either way.
    assert!(at_once(1) >= 1_024 && at_once(500) >= 1_024);
}

proptest! {
    /// Whatever is woken, runs and ends: each object that was woken runs after that, and never twice at once.
    #[test]
    fn no_wake_is_lost(steps in prop::collection::vec((0_u8..4, 0_u8..6, 0_u64..3), 1..120), at_once in 1_usize..5) {
        let (mut turns, mut now) = (ObjectTurns::new(at_once), Instant::now());
        let mut running: Vec<Arc<Key>> = Vec::new();
        let mut owed = std::collections::HashSet::new();
        let name = |which: u8| key(if which.is_multiple_of(2) { "n" } else { "m" }, &format!("{}-{which}", if which > 3 { "A" } else { "a" }));
        for (step, which, after) in steps {
            match step {
                0 | 1 => {
                    turns.wake(name(which), now + Duration::from_secs(after));
                    owed.insert(name(which));
                }
                2 => now += Duration::from_secs(after),
                _ if !running.is_empty() => {
                    let ended = running.remove(usize::from(which) % running.len());
                    turns.ended(&ended, None);
                }
                _ => {}
            }
            turns.line_up(now, by_name);
            while let Some(next) = begin(&mut turns) {
                prop_assert!(!running.contains(&next));
                owed.remove(&*next);
                running.push(next);
            }
            prop_assert!(running.len() <= at_once && turns.running.all == running.len());
        }
        now += Duration::from_secs(9);
        for _ in 0..40 {
            turns.line_up(now, by_name);
            while let Some(next) = begin(&mut turns) {
                owed.remove(&*next);
                running.push(next);
            }
            for ended in running.drain(..) {
                turns.ended(&ended, None);
            }
        }
        prop_assert!(owed.is_empty(), "{owed:?}");
        prop_assert!(turns.objects.is_empty() && turns.waiting.is_empty() && turns.namespaces.is_empty());
    }
}

#[test]
fn one_that_waits_is_looked_at_once_more_however_often_it_is_woken() {
    let mut turns = ObjectTurns::new(1);
    woken(&mut turns, "n", many("a", 1).chain(many("A", 1)));
    let first = begin(&mut turns).unwrap();
    let now = Instant::now();
    for seconds in (1..100).rev() {
        turns.wake(key("n", "A-0"), now + Duration::from_secs(seconds));
    }
    assert_eq!((turns.due.len(), turns.next_due()), (1, Some(now + Duration::from_secs(1))));
    turns.ended(&first, None);
    let next = begin(&mut turns).unwrap();
    assert_eq!((next.name.as_str(), turns.next_due()), ("A-0", None), "what it was woken for, it sees");
    turns.ended(&next, None);
    assert!(turns.objects.is_empty());
}

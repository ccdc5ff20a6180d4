//! What is remembered of bad ids, and how often they are looked at.

use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::sensitive::Sensitive;
use crate::variables::Fetched;

const LIMITS: BatchLimits = BatchLimits { count: 250, bytes: 7500 };

fn wanted(n: usize) -> Wanted {
    Wanted::latest(VariableId::new(&format!("v{n}")).unwrap())
}

fn missing(text: &str) -> Error {
    Error::NotFound { target: text.to_owned(), message: text.to_owned() }
}

fn seen(look: &Look, bad: &HashSet<Wanted>, forbidden: bool) -> Seen {
    let value = || Ok(Arc::new(Fetched::new(Sensitive::new(Vec::new()), None)));
    match look {
        Look::Alone(wanted) if bad.contains(wanted) => Seen::Alone(Err(missing("alone"))),
        Look::Alone(_) => Seen::Alone(value()),
        Look::Together(members) => {
            let ids: Vec<_> = members.iter().map(|member| &member.id).collect();
            let first = ids.iter().find(|id| bad.contains(&Wanted::latest((**id).clone())));
            Seen::Together(match first {
                Some(_) if forbidden => Batch::OneIsBad,
                Some(id) => Batch::Missing((*id).clone()),
                None => Batch::Values(ids.into_iter().map(|id| (id.clone(), value())).collect()),
            })
        }
    }
}

/// Runs the re-look for `seconds` and returns what was found and how many requests that took.
fn run(
    bad_ids: &mut BadIds,
    bad: &HashSet<Wanted>,
    forbidden: bool,
    now: &mut Instant,
    seconds: u64,
) -> (HashSet<Wanted>, usize) {
    let (mut found, mut requests) = (HashSet::new(), 0);
    for _ in 0..seconds * 10 {
        *now += Duration::from_millis(100);
        if let Some(look) = bad_ids.look(LIMITS, |_| 10, *now) {
            requests += 1;
            let seen = seen(&look, bad, forbidden);
            found.extend(bad_ids.settle(look, seen, *now));
        }
    }
    (found, requests)
}

fn filled(count: usize) -> (BadIds, Instant) {
    let (mut bad_ids, now) = (BadIds::new(LookTiming::default()), Instant::now());
    for n in 0..count {
        bad_ids.remember(wanted(n), &"a".into(), missing("bad"), now);
    }
    (bad_ids, now)
}

#[test]
fn all_that_became_readable_are_found_by_one_request() {
    let (mut bad_ids, mut now) = filled(200);
    assert_eq!(bad_ids.next_look(), Some(now + Duration::from_secs(5)));
    let (found, requests) = run(&mut bad_ids, &HashSet::new(), false, &mut now, 6);
    assert_eq!((found.len(), requests), (200, 1));
    assert_eq!(bad_ids.next_look(), None);
}

#[test]
fn the_few_that_stay_bad_hold_the_others_up_for_a_request_each_at_most_one_a_second() {
    let still = HashSet::from([wanted(7), wanted(100)]);
    for (forbidden, most) in [(false, 3), (true, 32)] {
        let (mut bad_ids, mut now) = filled(200);
        let (found, requests) = run(&mut bad_ids, &still, forbidden, &mut now, 5);
        assert!(requests <= 1, "not before five seconds, and then one");
        let (more, requests) = run(&mut bad_ids, &still, forbidden, &mut now, most);
        assert_eq!(found.len() + more.len(), 198, "forbidden {forbidden}");
        assert!(requests <= usize::try_from(most).unwrap() + 1);
    }
}

#[test]
fn one_id_is_looked_at_less_and_less_often_but_every_ten_minutes() {
    let (mut bad_ids, mut now) = filled(1);
    let bad = HashSet::from([wanted(0)]);
    let (_, first_hour) = run(&mut bad_ids, &bad, false, &mut now, 3500);
    assert!((10..=14).contains(&first_hour), "{first_hour}");
    assert_eq!(bad_ids.recall(&wanted(0), Freshness::Remembered, now), Some(missing("alone")));
    let (_, ten_minutes) = run(&mut bad_ids, &bad, false, &mut now, 601);
    assert!((1..=2).contains(&ten_minutes), "{ten_minutes}");
}

#[test]
fn what_nobody_asked_for_in_an_hour_is_forgotten() {
    let (mut bad_ids, mut now) = filled(3);
    let bad: HashSet<_> = (0..3).map(wanted).collect();
    run(&mut bad_ids, &bad, false, &mut now, 3000);
    assert!(bad_ids.recall(&wanted(0), Freshness::Remembered, now).is_some());
    run(&mut bad_ids, &bad, false, &mut now, 1500);
    assert!(bad_ids.recall(&wanted(0), Freshness::Remembered, now).is_some());
    assert!(bad_ids.recall(&wanted(1), Freshness::Remembered, now).is_none());
}

#[test]
fn a_failing_connection_teaches_nothing_and_is_asked_rarely() {
    let (mut bad_ids, mut now) = filled(10);
    let mut requests = 0;
    for _ in 0..600 {
        now += Duration::from_millis(100);
        if let Some(look) = bad_ids.look(LIMITS, |_| 10, now) {
            requests += 1;
            let down = Batch::Failed(Error::unavailable("down"));
            assert!(bad_ids.settle(look, Seen::Together(down), now).is_empty());
        }
    }
    assert!((5..=6).contains(&requests), "{requests}");
    let (found, _) = run(&mut bad_ids, &HashSet::new(), false, &mut now, 11);
    assert_eq!(found.len(), 10);
}

#[test]
fn freshness_decides_whether_what_is_remembered_will_do() {
    let (mut bad_ids, now) = filled(1);
    let later = now + Duration::from_secs(3);
    let mut ask = |freshness| bad_ids.recall(&wanted(0), freshness, later).is_some();
    assert!(ask(Freshness::Remembered));
    assert!(ask(Freshness::NoOlderThan(Duration::from_secs(4))));
    assert!(!ask(Freshness::NoOlderThan(Duration::from_secs(2))));
    assert!(!ask(Freshness::NoOlderThan(Duration::ZERO)));
}

#[test]
fn ids_of_one_party_that_stay_bad_hold_up_those_of_another_by_a_request() {
    let hostile: HashSet<_> = (0..2_000).map(wanted).collect();
    for forbidden in [false, true] {
        let (mut bad_ids, mut now) = filled(2_000);
        // The hostile ones are isolated already when those of the victim are found bad.
        let (found, _) = run(&mut bad_ids, &hostile, forbidden, &mut now, 60);
        assert!(found.is_empty());
        for n in 2_000..2_005 {
            bad_ids.remember(wanted(n), &"victim".into(), missing("bad"), now);
        }
        let (found, requests) = run(&mut bad_ids, &hostile, forbidden, &mut now, 40);
        assert_eq!(found.len(), 5, "forbidden {forbidden}");
        assert!(requests <= 41);
    }
}

#[test]
fn what_is_remembered_is_bounded_at_the_cost_of_who_has_the_most() {
    let (mut bad_ids, now) = filled(BAD_IDS);
    bad_ids.remember(wanted(BAD_IDS), &"victim".into(), missing("bad"), now);
    bad_ids.remember(wanted(BAD_IDS + 1), &"a".into(), missing("bad"), now);
    assert_eq!(bad_ids.known.len(), BAD_IDS);
    assert!(bad_ids.recall(&wanted(BAD_IDS), Freshness::Remembered, now).is_some());
}

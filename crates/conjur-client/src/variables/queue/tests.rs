//! What goes out together, and when.

use super::*;
use crate::VariableId;
use crate::variables::batch_limits::BatchLimits;

const LIMITS: BatchLimits = BatchLimits { count: 3, bytes: 1000 };
const ALL: May = May { refreshes: true, apart: true };
const NO_REFRESHES: May = May { refreshes: false, apart: true };

fn wanted(id: &str) -> Wanted {
    Wanted::latest(VariableId::new(id).unwrap())
}

fn waiting() -> Waiting {
    Waiting::new(Duration::from_millis(100), Duration::from_secs(1))
}

fn names(cut: Option<Cut>) -> String {
    match cut {
        None => "-".to_owned(),
        Some(Cut::Batch { ids, .. }) => {
            ids.iter().map(|(member, _)| member.id.as_str()).collect::<Vec<_>>().join(" ")
        }
        Some(Cut::Alone { wanted, .. }) => wanted.id.to_string(),
        Some(Cut::Rest { group, .. }) => {
            let ids = group.ids();
            format!("rest {}", ids.iter().map(VariableId::as_str).collect::<Vec<_>>().join(" "))
        }
    }
}

fn at(party: &str, waiter: &Waiter) -> (Party, Waiter) {
    (party.into(), waiter.clone())
}

#[test]
fn a_full_batch_goes_at_once_and_the_rest_when_nothing_new_came() {
    let (sender, _keep) = mpsc::unbounded_channel();
    let (mut waiting, start) = (waiting(), Instant::now());
    let ms = |ms| start + Duration::from_millis(ms);
    for id in ["a", "b", "c", "d", "a"] {
        waiting.add(&wanted(id), Priority::Refresh, at("a", &sender), start, || 10);
    }
    assert_eq!(names(waiting.cut(LIMITS, ALL, start)), "a b c");
    assert_eq!(names(waiting.cut(LIMITS, ALL, ms(50))), "-");
    waiting.add(&wanted("e"), Priority::Refresh, at("a", &sender), ms(90), || 10);
    assert_eq!(names(waiting.cut(LIMITS, ALL, ms(150))), "-", "100 ms after the newest");
    assert_eq!(names(waiting.cut(LIMITS, ALL, ms(190))), "d e");
}

#[test]
fn the_oldest_waits_a_second_at_most() {
    let (sender, _keep) = mpsc::unbounded_channel();
    let (mut waiting, start) = (waiting(), Instant::now());
    waiting.add(&wanted("a"), Priority::Refresh, at("a", &sender), start, || 10);
    waiting.add(&wanted("b"), Priority::Refresh, at("a", &sender), start + Duration::from_millis(950), || 10);
    assert_eq!(waiting.next_due(start), Some(start + Duration::from_secs(1)));
}

#[test]
fn the_foreground_goes_first_and_fills_up_with_refreshes() {
    let (sender, _keep) = mpsc::unbounded_channel();
    let (mut waiting, now) = (waiting(), Instant::now());
    for (id, priority) in [
        ("r1", Priority::Refresh),
        ("r2", Priority::Refresh),
        ("f1", Priority::Foreground),
        ("r3", Priority::Refresh),
        ("r2", Priority::Foreground),
    ] {
        waiting.add(&wanted(id), priority, at("a", &sender), now, || 10);
    }
    assert_eq!(names(waiting.cut(LIMITS, NO_REFRESHES, now)), "f1 r2 r1");
    let later = now + Duration::from_secs(2);
    assert_eq!(names(waiting.cut(LIMITS, NO_REFRESHES, later)), "-", "only refreshes are left");
    assert_eq!(names(waiting.cut(LIMITS, ALL, later)), "r3");
}

#[test]
fn commas_and_pinned_versions_go_alone_and_bytes_cut_too() {
    let (sender, _keep) = mpsc::unbounded_channel();
    let (mut waiting, now) = (waiting(), Instant::now());
    let pinned = Wanted { version: Some(3), ..wanted("p") };
    for wanted in [wanted("a"), wanted("x,y"), pinned, wanted("b")] {
        waiting.add(&wanted, Priority::Refresh, at("a", &sender), now, || 600);
    }
    let cuts: Vec<_> = (0..5).map(|_| names(waiting.cut(LIMITS, ALL, now))).collect();
    assert_eq!(cuts, ["a", "x,y", "p", "-", "-"]);
    assert_eq!(names(waiting.cut(LIMITS, ALL, now + Duration::from_secs(1))), "b");
}

#[test]
fn ids_whose_callers_have_gone_are_not_sent() {
    let (gone, receiver) = mpsc::unbounded_channel();
    let (sender, _keep) = mpsc::unbounded_channel();
    drop(receiver);
    let (mut waiting, now) = (waiting(), Instant::now());
    waiting.add(&wanted("a"), Priority::Refresh, at("a", &gone), now, || 1);
    waiting.add(&wanted("b"), Priority::Refresh, at("a", &gone), now, || 1);
    waiting.add(&wanted("b"), Priority::Refresh, at("a", &sender), now, || 1);
    drop(gone);
    assert_eq!(names(waiting.cut(LIMITS, ALL, now + Duration::from_secs(1))), "b");
    assert_eq!(waiting.next_due(now), None);
}

#[test]
fn a_batch_is_filled_by_turns_whatever_one_party_asks_for() {
    let (sender, _keep) = mpsc::unbounded_channel();
    let (mut waiting, now) = (waiting(), Instant::now());
    for n in 0..2_000 {
        waiting.add(&wanted(&format!("h{n}")), Priority::Foreground, at("hostile", &sender), now, || 1);
    }
    for id in ["v0", "v1"] {
        waiting.add(&wanted(id), Priority::Foreground, at("victim", &sender), now, || 1);
    }
    assert_eq!(names(waiting.cut(LIMITS, ALL, now)), "h0 v0 h1");
    assert_eq!(names(waiting.cut(LIMITS, ALL, now)), "v1 h2 h3");
    assert_eq!(names(waiting.cut(LIMITS, ALL, now)), "h4 h5 h6", "alone it has all of the room");
}

#[test]
fn an_id_that_two_wait_for_goes_once_with_the_first_turn_of_either() {
    let (sender, _keep) = mpsc::unbounded_channel();
    let (mut waiting, now) = (waiting(), Instant::now());
    for n in 0..9 {
        waiting.add(&wanted(&format!("h{n}")), Priority::Foreground, at("hostile", &sender), now, || 1);
    }
    waiting.add(&wanted("h8"), Priority::Foreground, at("victim", &sender), now, || 1);
    let cuts: Vec<_> = (0..3).map(|_| names(waiting.cut(LIMITS, ALL, now))).collect();
    assert_eq!(cuts, ["h0 h8 h1", "h2 h3 h4", "h5 h6 h7"]);
    let later = now + Duration::from_secs(2);
    assert_eq!((names(waiting.cut(LIMITS, ALL, later)), waiting.next_due(now)), ("-".to_owned(), None));
    assert_eq!((waiting.together_pool.weight, waiting.entries.len()), (0, 0));
}

#[test]
fn whoever_had_bad_ids_asks_apart_and_has_every_second_request_at_most_while_others_wait() {
    let (sender, _keep) = mpsc::unbounded_channel();
    let (mut waiting, now) = (waiting(), Instant::now());
    let minute = now + Duration::from_secs(60);
    for n in 0..4 {
        waiting.add(&wanted(&format!("h{n}")), Priority::Foreground, at("hostile", &sender), now, || 1);
    }
    waiting.suspect(&"hostile".into(), minute, now);
    for n in 4..7 {
        waiting.add(&wanted(&format!("h{n}")), Priority::Foreground, at("hostile", &sender), now, || 1);
    }
    let member = |id: &str| Member { party: "hostile".into(), id: VariableId::new(id).unwrap() };
    waiting.rest(1, vec![Group::new(vec![member("x")])], Priority::Foreground, Duration::ZERO, now);
    let none_apart = May { apart: false, ..ALL };
    assert_eq!(names(waiting.cut(LIMITS, none_apart, now)), "-", "what takes long leaves a place to others");
    for n in 0..6 {
        waiting.add(&wanted(&format!("v{n}")), Priority::Refresh, at("victim", &sender), now, || 1);
    }
    let cuts: Vec<_> = (0..5).map(|_| names(waiting.cut(LIMITS, ALL, now))).collect();
    assert_eq!(cuts, ["v0 v1 v2", "rest x", "v3 v4 v5", "h0 h1 h2", "h3 h4 h5"]);
    waiting.add(&wanted("h7"), Priority::Foreground, at("hostile", &sender), minute, || 1);
    assert_eq!(waiting.together.len(), 1, "it is trusted again");
    let cuts: Vec<_> =
        (0..2).map(|_| names(waiting.cut(LIMITS, ALL, minute + Duration::from_secs(1)))).collect();
    assert_eq!(cuts, ["h7", "h6"]);
}

#[test]
fn what_hostile_ids_wait_for_makes_no_small_batches_of_the_others() {
    let (sender, _keep) = mpsc::unbounded_channel();
    let (mut waiting, now) = (waiting(), Instant::now());
    waiting.suspect(&"hostile".into(), now + Duration::from_secs(60), now);
    for n in 0..10 {
        waiting.add(&wanted(&format!("h{n}")), Priority::Foreground, at("hostile", &sender), now, || 900);
    }
    let later = now + Duration::from_millis(990);
    waiting.add(&wanted("v0"), Priority::Foreground, at("victim", &sender), later, || 1);
    for n in 0..10 {
        assert_eq!(names(waiting.cut(LIMITS, ALL, later)), format!("h{n}"));
    }
    assert_eq!(names(waiting.cut(LIMITS, ALL, later)), "-", "more of it may come");
    assert_eq!(names(waiting.cut(LIMITS, ALL, later + Duration::from_millis(100))), "v0");
}

#[test]
fn what_is_left_of_a_batch_goes_once_with_a_turn_of_any_of_its_parties_and_not_before_its_time() {
    let (mut waiting, now) = (waiting(), Instant::now());
    let member = |party: &str| Member { party: party.into(), id: VariableId::new(party).unwrap() };
    let group = || Group::new(vec![member("a"), member("b")]);
    let later = now + Duration::from_secs(1);
    waiting.rest(1, vec![group()], Priority::Refresh, Duration::from_secs(1), now);
    assert_eq!((names(waiting.cut(LIMITS, ALL, now)), waiting.next_due(now)), ("-".to_owned(), Some(later)));
    assert_eq!(names(waiting.cut(LIMITS, NO_REFRESHES, later)), "-");
    assert_eq!(names(waiting.cut(LIMITS, ALL, later)), "rest a b");
    assert_eq!((waiting.parties().count(), waiting.next_due(now)), (0, None));
    waiting.rest(1, vec![group()], Priority::Refresh, Duration::ZERO, now);
    waiting.rest(2, vec![group()], Priority::Refresh, Duration::ZERO, now);
    assert_eq!((waiting.take_rests(1).len(), waiting.rests.len()), (1, 1));
    assert_eq!(names(waiting.cut(LIMITS, ALL, now)), "rest a b");
}

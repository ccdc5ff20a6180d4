//! The collector against a server that is a struct.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::batch_limits::{Adaptive, BatchLimits};
use super::batcher::{Collector, Timing, gather};
use super::bisect::{Group, Member, Seen, settle};
use super::negative_cache::LookTiming;
use super::requests::{Batch, Source};
use super::{Answer, Fetched, Freshness, Value, Wanted};
use crate::Limits;
use crate::budget::{Budget, Party};
use crate::error::Error;
use crate::gate::{Parties, Priority};
use crate::id::VariableId;
use crate::limits::{ANSWERS_BYTES, Limit};
use crate::lock::lock;
use crate::memory_budget::{self, MemoryBudget, Refused, Sum};
use crate::sensitive::Sensitive;

/// Answers as the recordings do: all or nothing.
struct Server {
    missing: Mutex<HashSet<&'static str>>,
    missing_below: &'static str,
    forbidden: Mutex<HashSet<&'static str>>,
    forbidden_below: &'static str,
    broken: HashSet<&'static str>,
    all_broken: bool,
    /// The connection fails from this request on.
    fails_from: usize,
    longest: usize,
    largest: usize,
    /// There is no room for an answer with one of these, and never for one of more than so many.
    no_room: (HashSet<&'static str>, usize),
    calls: Mutex<Vec<Vec<String>>>,
    /// Requests that may be answered.
    open: Semaphore,
    /// How long each answer takes.
    takes: Duration,
    /// How many bytes more each value has.
    padding: usize,
    memory: MemoryBudget,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            missing: Mutex::default(),
            missing_below: "none",
            forbidden: Mutex::default(),
            forbidden_below: "none",
            broken: HashSet::new(),
            all_broken: false,
            fails_from: usize::MAX,
            longest: usize::MAX,
            largest: usize::MAX,
            no_room: (HashSet::new(), usize::MAX),
            calls: Mutex::default(),
            open: Semaphore::new(Semaphore::MAX_PERMITS),
            takes: Duration::ZERO,
            padding: 0,
            memory: MemoryBudget::default(),
        }
    }
}

impl Server {
    fn calls(&self) -> usize {
        lock(&self.calls).len()
    }

    async fn note(&self, ids: Vec<String>) {
        lock(&self.calls).push(ids);
        self.open.acquire().await.unwrap().forget();
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
    }
}

fn value(id: &VariableId) -> Value {
    padded(id, 0)
}

fn padded(id: &VariableId, padding: usize) -> Value {
    let mut value = format!("value of {id}").into_bytes();
    value.resize(value.len() + padding, b'x');
    Arc::new(Fetched::new(Sensitive::new(value), None))
}

impl Source for Server {
    async fn batch(&self, ids: &[VariableId], _: Priority, _: &Parties) -> Batch {
        assert!(!ids.is_empty() && ids.iter().collect::<HashSet<_>>().len() == ids.len());
        self.note(ids.iter().map(ToString::to_string).collect()).await;
        let has = |set: &HashSet<&'static str>| ids.iter().find(|id| set.contains(id.as_str()));
        let below = |prefix: &str| ids.iter().find(|id| id.as_str().starts_with(prefix));
        if self.calls() > self.fails_from {
            Batch::Failed(Error::unavailable("down"))
        } else if ids.len() > self.no_room.1 || has(&self.no_room.0).is_some() {
            Batch::Failed(Error::NoRoom { message: "full".to_owned() })
        } else if self.all_broken || has(&self.broken).is_some() {
            Batch::Broken
        } else if ids.len() > self.longest {
            Batch::TooLong
        } else if let Some(id) = has(&lock(&self.missing)).or(below(self.missing_below)) {
            Batch::Missing(id.clone())
        } else if has(&lock(&self.forbidden)).or(below(self.forbidden_below)).is_some() {
            Batch::OneIsBad
        } else if ids.len() > self.largest {
            Batch::TooLarge
        } else {
            Batch::Values(ids.iter().map(|id| (id.clone(), Ok(padded(id, self.padding)))).collect())
        }
    }

    async fn single(&self, wanted: &Wanted, _: Priority, _: &Parties) -> Answer {
        self.note(vec![format!("alone {}", wanted.id)]).await;
        let (id, missing, forbidden) = (wanted.id.as_str(), lock(&self.missing), lock(&self.forbidden));
        if missing.contains(id) || id.starts_with(self.missing_below) {
            Err(self.not_found(&wanted.id))
        } else if forbidden.contains(id) || id.starts_with(self.forbidden_below) {
            Err(Error::Forbidden { message: wanted.id.to_string() })
        } else {
            Ok(value(&wanted.id))
        }
    }

    fn weight(&self, id: &VariableId) -> usize {
        id.as_str().len()
    }

    fn not_found(&self, id: &VariableId) -> Error {
        Error::NotFound { target: id.to_string(), message: id.to_string() }
    }

    fn url(&self) -> &'static str {
        "http://fake"
    }

    fn sum(&self, party: &Party) -> Sum {
        Sum::from(self.memory.answers(), Arc::clone(party))
    }
}

fn ids(count: usize) -> Vec<VariableId> {
    (0..count).map(|n| VariableId::new(&format!("v{n}")).unwrap()).collect()
}

fn adaptive() -> Adaptive {
    Adaptive::new(BatchLimits { count: 1000, bytes: 100_000 }, Duration::from_secs(600))
}

fn member(party: &str, id: VariableId) -> Member {
    Member { party: party.into(), id }
}

/// One batch to its end, one request after the other.
async fn isolate(server: &Server, limits: &mut Adaptive, members: Vec<Member>) -> HashMap<String, Answer> {
    let (mut answers, mut groups) = (HashMap::new(), VecDeque::from([Group::new(members)]));
    let parties = Parties::everybody();
    while let Some(group) = groups.pop_front() {
        let seen = match group.is_alone() {
            Some(id) => {
                Seen::Alone(server.single(&Wanted::latest(id.clone()), Priority::Refresh, &parties).await)
            }
            None => Seen::Together(server.batch(&group.ids(), Priority::Refresh, &parties).await),
        };
        let mut settled = settle(group, seen, false, server, limits, Instant::now());
        if let Some(error) = settled.failed {
            let left = std::mem::take(&mut groups).into_iter();
            let ids: Vec<_> = left.flat_map(|group| group.all().cloned().collect::<Vec<_>>()).collect();
            settled.answers.extend(ids.into_iter().map(|member| (member.id, Err(error.clone()))));
        }
        for (id, answer) in settled.answers {
            assert!(answers.insert(id.to_string(), answer).is_none(), "{id} was answered twice");
        }
        for group in settled.groups.into_iter().rev() {
            groups.push_front(group);
        }
    }
    answers
}

async fn run(server: &Server, count: usize) -> HashMap<String, Answer> {
    let members = ids(count).into_iter().map(|id| member("a", id)).collect();
    let answers = isolate(server, &mut adaptive(), members).await;
    assert_eq!(answers.len(), count);
    answers
}

fn failures(answers: &HashMap<String, Answer>) -> Vec<&str> {
    let mut failed: Vec<_> =
        answers.iter().filter(|(_, answer)| answer.is_err()).map(|(id, _)| id.as_str()).collect();
    failed.sort_unstable();
    failed
}

mod turns;

#[tokio::test]
async fn one_forbidden_id_of_256_is_found_in_o_log_n_requests() {
    for (bad, most) in [("v0", 18), ("v100", 18), ("v255", 10)] {
        let server = Server { forbidden: Mutex::new(HashSet::from([bad])), ..Server::default() };
        let answers = run(&server, 256).await;
        assert_eq!(failures(&answers), [bad]);
        assert!(matches!(answers[bad], Err(Error::Forbidden { .. })));
        assert!(server.calls() <= most, "{bad}: {} requests", server.calls());
    }
}

#[tokio::test]
async fn missing_and_forbidden_ids_among_250_each_get_their_own_answer() {
    let server = Server {
        forbidden: Mutex::new(HashSet::from(["v3", "v4", "v200"])),
        missing: Mutex::new(HashSet::from(["v5", "v249"])),
        ..Server::default()
    };
    let answers = run(&server, 250).await;
    assert_eq!(failures(&answers), ["v200", "v249", "v3", "v4", "v5"]);
    assert!(matches!(answers["v249"], Err(Error::NotFound { .. })));
    assert!(server.calls() <= 2 + 3 * 18, "{} requests", server.calls());
}

#[tokio::test]
async fn a_dead_server_gets_four_requests() {
    let server = Server { all_broken: true, ..Server::default() };
    let answers = run(&server, 250).await;
    assert!(answers.values().all(|answer| matches!(answer, Err(Error::Unavailable { .. }))));
    assert_eq!(server.calls(), 4);
}

#[tokio::test]
async fn a_connection_that_fails_halfway_ends_it_and_what_was_read_is_kept() {
    let forbidden = Mutex::new(HashSet::from(["v255"]));
    let server = Server { forbidden, fails_from: 2, ..Server::default() };
    let answers = run(&server, 256).await;
    assert_eq!(answers.values().filter(|answer| answer.is_ok()).count(), 128);
    assert!(answers.values().filter_map(|answer| answer.as_ref().err()).all(Error::is_connection));
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn what_finds_no_room_is_asked_for_in_parts_and_only_what_still_finds_none_fails() {
    let server = Server { no_room: (HashSet::from(["v7"]), 200), ..Server::default() };
    let answers = run(&server, 240).await;
    let failed = failures(&answers);
    assert!(failed.len() <= 30 && failed.contains(&"v7"), "{failed:?}");
    assert!(failed.iter().all(|id| matches!(answers[*id], Err(Error::NoRoom { .. }))));
    assert_eq!(server.calls(), 9);
}

#[test]
fn who_would_wait_for_room_in_the_place_of_others_is_asked_for_again_apart() {
    let member = |id: &str| Member { id: VariableId::new(id).unwrap(), party: "a".into() };
    let (server, now) = (Server::default(), Instant::now());
    let mut limits = Adaptive::new(BatchLimits { count: 250, bytes: 7_500 }, Duration::from_secs(600));
    let full = || Error::NoRoom { message: "full".to_owned() };
    for ids in [vec!["v1"], vec!["v1", "v2"]] {
        let group = || Group::new(ids.iter().copied().map(member).collect());
        let given_up = Seen::Together(Batch::Failed(full()));
        let settled = settle(group(), given_up, true, &server, &mut limits, now);
        assert_eq!(
            (settled.suspects.as_slice(), settled.answers.len()),
            (&[Party::from("a")][..], 0),
            "{ids:?}"
        );
        let again: Vec<_> = settled.groups.iter().flat_map(Group::ids).collect();
        assert_eq!(again.len(), ids.len());
        // Apart it may wait, and what finds none then has its answer.
        let waited = Seen::Together(Batch::Failed(full()));
        let settled = settle(group(), waited, false, &server, &mut limits, now);
        assert_eq!(settled.answers.len() + settled.groups.len(), ids.len(), "{ids:?}");
    }
    let alone = Seen::Alone(Err(full()));
    let settled = settle(Group::new(vec![member("v1")]), alone, true, &server, &mut limits, now);
    assert_eq!((settled.groups.len(), settled.answers.len(), settled.suspects.len()), (1, 0, 1));
}

#[test]
fn where_there_is_no_room_for_a_batch_of_several_parties_each_ones_part_is_asked_again() {
    let member = |party: &str, id: VariableId| Member { party: party.into(), id };
    let members: Vec<_> =
        ids(9).into_iter().enumerate().map(|(n, id)| member(["a", "b", "c"][n % 3], id)).collect();
    let (server, now) = (Server::default(), Instant::now());
    let mut limits = Adaptive::new(BatchLimits { count: 250, bytes: 7_500 }, Duration::from_secs(60));
    let full = || Seen::Together(Batch::Failed(Error::NoRoom { message: "full".to_owned() }));
    let settled = settle(Group::new(members), full(), false, &server, &mut limits, now);
    assert!(settled.answers.is_empty() && settled.failed.is_none() && settled.suspects.is_empty());
    let parties: Vec<_> = settled.groups.iter().map(|group| group.members[0].party.to_string()).collect();
    assert_eq!(parties, ["a", "b", "c"]);
    assert!(settled.groups.iter().all(|group| group.members.len() == 3));
    let first = settled.groups.into_iter().next().unwrap();
    let settled = settle(first, full(), false, &server, &mut limits, now);
    assert_eq!((settled.answers.len(), settled.groups.len(), settled.failed), (0, 3, None));
    let last = settled.groups.into_iter().next().unwrap();
    let settled = settle(last, full(), false, &server, &mut limits, now);
    assert!(matches!(settled.answers[..], [(_, Err(Error::NoRoom { .. }))]) && settled.failed.is_none());
}

#[tokio::test]
async fn an_id_that_breaks_the_server_fails_alone() {
    let server = Server { broken: HashSet::from(["v77"]), ..Server::default() };
    let answers = run(&server, 128).await;
    assert_eq!(failures(&answers), ["v77"]);
    assert!(matches!(answers["v77"], Err(Error::Unexpected { status: Some(500), .. })));
    assert!(server.calls() <= 17, "{} requests", server.calls());
}

#[tokio::test]
async fn a_batch_too_long_lowers_the_limits_and_one_too_large_is_halved() {
    let server = Server { longest: 300, ..Server::default() };
    let mut limits = adaptive();
    let members = ids(1000).into_iter().map(|id| member("a", id)).collect();
    assert!(isolate(&server, &mut limits, members).await.values().all(Result::is_ok));
    assert_eq!(limits.now(Instant::now()).count, 250);
    assert!(server.calls() <= 8, "{} requests", server.calls());

    let server = Server { largest: 300, ..Server::default() };
    assert!(run(&server, 1000).await.values().all(Result::is_ok));
    assert_eq!(server.calls(), 1 + 2 + 4);
}

#[tokio::test]
async fn an_id_too_long_or_too_large_even_alone_is_read_alone() {
    let server = Server { longest: 0, ..Server::default() };
    assert!(run(&server, 1).await["v0"].is_ok());
    assert_eq!(lock(&server.calls).last().unwrap()[0], "alone v0");
}

fn timing() -> Timing {
    Timing {
        quiet: Duration::from_millis(20),
        look: LookTiming {
            first: Duration::from_millis(30),
            spacing: Duration::from_millis(10),
            ..LookTiming::default()
        },
        ..Timing::default()
    }
}

fn collector(limits: &Limits, server: Server) -> (Arc<Collector>, Arc<Server>) {
    (Arc::new(Collector::new(limits, timing())), Arc::new(server))
}

fn party() -> Party {
    "a".into()
}

fn wanted(names: &[&str]) -> Vec<Wanted> {
    names.iter().map(|name| Wanted::latest(VariableId::new(name).unwrap())).collect()
}

async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn the_same_ids_of_many_callers_are_asked_for_once() {
    let (collector, server) = collector(&Limits::default(), Server::default());
    let names = wanted(&["a", "b", "c"]);
    let asks =
        (0..50).map(|_| collector.fetch(&server, party(), &names, Priority::Refresh, Freshness::Remembered));
    for answers in join_all(asks).await {
        assert_eq!(answers.len(), 3);
        assert!(answers.values().all(Result::is_ok));
    }
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn an_id_in_flight_is_joined_unless_it_must_be_fresh() {
    let (collector, server) =
        collector(&Limits::default(), Server { open: Semaphore::new(0), ..Server::default() });
    let names = wanted(&["a"]);
    let first = collector.fetch(&server, party(), &names, Priority::Refresh, Freshness::Remembered);
    let joined = collector.fetch(&server, party(), &names, Priority::Foreground, Freshness::Remembered);
    let fresh = collector.fetch(
        &server,
        party(),
        &names,
        Priority::Foreground,
        Freshness::NoOlderThan(Duration::ZERO),
    );
    let in_flight = async {
        until("the first request", || server.calls() == 1).await;
        let later = async {
            until("the second request", || server.calls() == 2).await;
            server.open.add_permits(2);
        };
        tokio::join!(joined, fresh, later)
    };
    let (first, (joined, fresh, ())) = tokio::join!(first, in_flight);
    for answers in [first, joined, fresh] {
        assert!(answers[&names[0]].is_ok());
    }
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_disturbs_nobody() {
    let (collector, server) =
        collector(&Limits::default(), Server { open: Semaphore::new(0), ..Server::default() });
    let (mine, both) = (wanted(&["a"]), wanted(&["a", "b"]));
    let mut gone =
        Box::pin(collector.fetch(&server, party(), &both, Priority::Refresh, Freshness::Remembered));
    let stays = collector.fetch(&server, party(), &mine, Priority::Refresh, Freshness::Remembered);
    assert!((&mut gone).now_or_never().is_none());
    let rest = async {
        until("the request", || server.calls() == 1).await;
        drop(gone);
        server.open.add_permits(1);
    };
    let (answers, ()) = tokio::join!(stays, rest);
    assert!(answers[&mine[0]].is_ok());
}

#[tokio::test]
async fn refreshes_leave_a_slot_to_the_foreground_which_goes_first() {
    let limits = Limits { max_connections: 2, batch_size: 2, ..Limits::default() };
    let (collector, server) = collector(&limits, Server { open: Semaphore::new(0), ..Server::default() });
    let names = ids(6).into_iter().map(Wanted::latest).collect::<Vec<_>>();
    let refresh = collector.fetch(&server, party(), &names, Priority::Refresh, Freshness::Remembered);
    let new = wanted(&["new"]);
    let rest = async {
        until("the first refresh", || server.calls() == 1).await;
        let foreground = collector.fetch(&server, party(), &new, Priority::Foreground, Freshness::Remembered);
        let release = async {
            until("the foreground", || server.calls() == 2).await;
            assert_eq!(lock(&server.calls)[1], ["new", "v2"], "one slot was free, and is filled up");
            server.open.add_permits(100);
        };
        tokio::join!(foreground, release).0
    };
    let (refreshed, new_answers) = tokio::join!(refresh, rest);
    assert!(refreshed.len() == 6 && new_answers[&new[0]].is_ok());
}

#[tokio::test]
async fn a_bad_id_is_remembered_looked_at_again_and_announced_when_it_is_there() {
    let server = Server {
        missing: Mutex::new(HashSet::from(["m"])),
        forbidden: Mutex::new(HashSet::from(["f", "x,y"])),
        ..Server::default()
    };
    let (collector, server) = collector(&Limits::default(), server);
    let mut found = collector.subscribe();
    let names = wanted(&["m", "f", "x,y", "good"]);
    let answers =
        collector.fetch(&server, party(), &names, Priority::Foreground, Freshness::Remembered).await;
    assert_eq!(answers.values().filter(|answer| answer.is_err()).count(), 3);

    let good_calls = || lock(&server.calls).iter().filter(|call| call.contains(&"good".to_owned())).count();
    let before = good_calls();
    let again =
        collector.fetch(&server, party(), &names[..3], Priority::Foreground, Freshness::Remembered).await;
    assert!(again.values().all(Result::is_err));
    assert_eq!(good_calls(), before);

    lock(&server.missing).clear();
    lock(&server.forbidden).clear();
    let mut announced = HashSet::new();
    while announced.len() < 3 {
        let next = tokio::time::timeout(Duration::from_secs(10), found.recv()).await;
        announced.extend(next.expect("announced in time").unwrap());
    }
    assert_eq!(announced, names[..3].iter().cloned().collect());
    let answers =
        collector.fetch(&server, party(), &names, Priority::Foreground, Freshness::Remembered).await;
    assert!(answers.values().all(Result::is_ok));
}

#[tokio::test]
async fn who_asks_for_fresh_news_of_a_bad_id_gets_it_and_the_others_hear_of_it() {
    let mut timing = timing();
    timing.look.first = Duration::from_secs(3600);
    let collector = Collector::new(&Limits::default(), timing);
    let server = Arc::new(Server { missing: Mutex::new(HashSet::from(["m"])), ..Server::default() });
    let mut found = collector.subscribe();
    let names = wanted(&["m"]);
    let ask = |freshness| collector.fetch(&server, party(), &names, Priority::Foreground, freshness);
    assert!(ask(Freshness::Remembered).await[&names[0]].is_err());
    lock(&server.missing).clear();
    assert!(ask(Freshness::NoOlderThan(Duration::from_secs(60))).await[&names[0]].is_err());
    assert!(ask(Freshness::NoOlderThan(Duration::ZERO)).await[&names[0]].is_ok());
    assert_eq!(found.recv().now_or_never().flatten(), Some(names.clone()));
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn the_task_ends_with_its_client() {
    let (collector, server) = collector(&Limits::default(), Server::default());
    let mut found = collector.subscribe();
    collector.fetch(&server, party(), &wanted(&["a"]), Priority::Refresh, Freshness::Remembered).await;
    drop(collector);
    let ended = tokio::time::timeout(Duration::from_secs(10), found.recv()).await;
    assert_eq!(ended.expect("the queue ends"), None);
    until("the source is let go", || Arc::strong_count(&server) == 1).await;
}

/// Values that come by answers of their own, each too small for its answer to count.
fn many(count: usize) -> mpsc::UnboundedReceiver<(Wanted, Answer)> {
    of_size(count, 65_000)
}

fn of_size(count: usize, bytes: usize) -> mpsc::UnboundedReceiver<(Wanted, Answer)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for id in ids(count) {
        let value = padded(&id, bytes);
        sender.send((Wanted::latest(id), Ok(value))).unwrap();
    }
    receiver
}

#[tokio::test]
async fn thousands_of_values_that_each_cost_nothing_are_counted_together() {
    let server = Server { padding: 65_000, ..Server::default() };
    let (collector, server) = collector(&Limits { batch_size: 1, ..Limits::default() }, server);
    let names: Vec<_> = ids(1_000).into_iter().map(Wanted::latest).collect();
    let answers = memory_budget::until_done(collector.fetch(
        &server,
        "many-values".into(),
        &names,
        Priority::Foreground,
        Freshness::Remembered,
    ))
    .await;
    assert_eq!(answers.len(), names.len());
    // Which of the two depends on what other tests hold.
    let refused = |answer: &Answer| matches!(answer, Err(Error::TooLarge { .. } | Error::NoRoom { .. }));
    assert!(answers.values().all(refused));
    assert!(server.calls() < 1_000, "what is too much is not asked for");
    let few =
        collector.fetch(&server, party(), &names[..2], Priority::Foreground, Freshness::Remembered).await;
    assert!(few.values().all(Result::is_ok), "the next one is served");
}

#[tokio::test]
async fn values_are_paid_for_as_they_come_up_to_what_one_object_may_have() {
    const LONG: Duration = Duration::from_secs(60);
    let budget = Budget::new(Limit::AnswersBytes, ANSWERS_BYTES);
    let gathered = async |party: &str, values: &mut mpsc::UnboundedReceiver<_>, patience| {
        let gathered = gather(values, Sum::from(&budget, party.into()), 0, patience).await;
        gathered.map(|answers| answers.len())
    };
    memory_budget::until_done(async {
        assert_eq!(gathered("a", &mut of_size(1, 4_000), LONG).await, Ok(1));
        assert_eq!(budget.held_by("a"), 0, "one that is small is free");
        assert_eq!(gathered("a", &mut many(10), LONG).await, Ok(10));
        assert!(budget.held_by("a") >= 10 * 65_000, "{}", budget.held_by("a"));
    })
    .await;
    assert_eq!(budget.held_by("a"), 0);
    assert_eq!(gathered("a", &mut many(300), LONG).await, Err(Refused::TooLarge));
    assert_eq!(budget.held_by("a"), 0, "it lets go");
    let all = budget.try_take(&"a".into(), ANSWERS_BYTES).unwrap();
    assert_eq!(gathered("a", &mut many(2), Duration::from_millis(20)).await, Err(Refused::NoRoom));
    let mut rest = many(10);
    assert_eq!(gathered("a", &mut rest, LONG).await, Err(Refused::NoRoom));
    assert!(!rest.is_empty(), "it does not go on taking while it waits");
    let freed = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(all);
    };
    let mut two = many(2);
    let (waited, ()) = futures::join!(gathered("a", &mut two, LONG), freed);
    assert_eq!(waited, Ok(2), "it waits for its turn");
}

//! What one party asks for, and what it costs another: counted in requests that pass before its own are done.

use super::*;

const TAKES: Duration = Duration::from_millis(2);

fn quick() -> Timing {
    Timing { quiet: Duration::from_millis(5), longest: Duration::from_millis(50), ..Timing::default() }
}

fn of(prefix: &str, count: usize) -> Vec<Wanted> {
    (0..count).map(|n| Wanted::latest(VariableId::new(&format!("{prefix}{n}")).unwrap())).collect()
}

/// How many requests pass until the first fetch of a few ids is done.
async fn first_sync(collector: &Collector, server: &Arc<Server>, prefix: &str) -> usize {
    let before = server.calls();
    let answers = collector
        .fetch(server, "victim".into(), &of(prefix, 5), Priority::Foreground, Freshness::Remembered)
        .await;
    assert!(answers.values().all(Result::is_ok) && answers.len() == 5);
    server.calls() - before
}

/// Objects of one party that ask for 250 bad ids each, again and again.
fn attack(collector: &Arc<Collector>, server: &Arc<Server>, party: &str, objects: usize, again: Duration) {
    for object in 0..objects {
        let (collector, server) = (Arc::clone(collector), Arc::clone(server));
        let (party, names) = (Party::from(party), of(&format!("bad/{party}/{object}/"), 250));
        tokio::spawn(async move {
            loop {
                let fresh = Freshness::NoOlderThan(Duration::ZERO);
                let fetch = collector.fetch(&server, party.clone(), &names, Priority::Foreground, fresh);
                // Whoever asks again does not wait for the answer.
                tokio::time::timeout(again, fetch).await.ok();
            }
        });
    }
}

async fn measured(server: Server, parties: usize, objects: usize, slots: usize) -> Vec<usize> {
    let limits = Limits { max_connections: slots, ..Limits::default() };
    let collector = Arc::new(Collector::new(&limits, quick()));
    let server = Arc::new(Server { takes: TAKES, ..server });
    for party in 0..parties {
        attack(&collector, &server, &format!("hostile-{party}"), objects, Duration::from_millis(500));
    }
    let mut all = Vec::new();
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        all.push(first_sync(&collector, &server, &format!("good/{round}/")).await);
    }
    all
}

#[tokio::test]
async fn two_thousand_bad_ids_of_another_delay_a_first_sync_by_a_few_requests() {
    for (missing_below, forbidden_below) in [("bad/", "none"), ("none", "bad/")] {
        for (parties, slots) in [(1, 4), (1, 1), (20, 4)] {
            let server = Server { missing_below, forbidden_below, ..Server::default() };
            let mut all = measured(server, parties, 8, slots).await;
            // How long a batch is filled is a matter of time, and of who else is on the machine: half of them say it.
            all.sort_unstable();
            // While a batch is filled, requests of others pass; then each of them has one turn before its own.
            let most = slots * 12 + parties;
            assert!(all[all.len() / 2] <= most, "{missing_below} {parties} {slots}: {all:?}");
        }
    }
}

#[tokio::test]
async fn refreshes_of_one_party_go_on_while_another_has_new_ones_all_the_time() {
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let collector = Arc::new(Collector::new(&limits, quick()));
    let server = Arc::new(Server { takes: TAKES, ..Server::default() });
    for object in 0..2_000 {
        let (collector, server) = (Arc::clone(&collector), Arc::clone(&server));
        tokio::spawn(async move {
            let names = of(&format!("new/{object}/"), 50);
            loop {
                let fetch = collector.fetch(
                    &server,
                    "hostile".into(),
                    &names,
                    Priority::Foreground,
                    Freshness::Remembered,
                );
                assert_eq!(fetch.await.len(), 50);
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for round in 0..5 {
        let (before, names) = (server.calls(), of(&format!("refresh/{round}/"), 5));
        let fetch =
            collector.fetch(&server, "victim".into(), &names, Priority::Refresh, Freshness::Remembered);
        assert_eq!(fetch.await.len(), 5);
        let passed = server.calls() - before;
        assert!(passed <= 60, "{passed} requests");
    }
}

/// How many requests three thousand objects cost that are asked for at once by so many parties.
async fn all_at_once(parties: usize, bad: bool) -> usize {
    let collector = Arc::new(Collector::new(&Limits::default(), quick()));
    let server = Arc::new(Server { takes: TAKES, missing_below: "bad/", ..Server::default() });
    let asks =
        (0..3_000).map(|object| {
            let party = Party::from(format!("n{}", object % parties));
            let mut names = of(&format!("good/{object}/"), 4);
            if bad && object % 300 == 0 {
                names.extend(of(&format!("bad/{object}/"), 1));
            }
            let (collector, server) = (&collector, &server);
            async move {
                collector.fetch(server, party, &names, Priority::Foreground, Freshness::Remembered).await
            }
        });
    join_all(asks).await;
    server.calls()
}

#[tokio::test]
async fn three_thousand_objects_of_one_party_cost_what_they_cost_of_five_hundred() {
    let (one, many) = (all_at_once(1, false).await, all_at_once(500, false).await);
    assert!(one * 10 <= many * 11, "{one} {many}");
    let (one, many) = (all_at_once(1, true).await, all_at_once(500, true).await);
    assert!(one * 10 <= many * 11, "{one} {many}");
}

#[tokio::test]
async fn an_id_that_a_party_with_bad_ids_waits_for_too_is_not_waited_for_behind_them() {
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let collector = Arc::new(Collector::new(&limits, quick()));
    let server = Arc::new(Server { takes: TAKES, missing_below: "bad/", ..Server::default() });
    let mut names = of("bad/", 240);
    names.extend(of("shared/", 1));
    let hostile = {
        let (collector, server) = (Arc::clone(&collector), Arc::clone(&server));
        tokio::spawn(async move {
            collector
                .fetch(&server, "hostile".into(), &names, Priority::Foreground, Freshness::Remembered)
                .await
        })
    };
    for wait in [1, 60] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let (before, shared) = (server.calls(), of("shared/", 1));
        let fetch =
            collector.fetch(&server, "victim".into(), &shared, Priority::Foreground, Freshness::Remembered);
        assert!(fetch.await.values().all(Result::is_ok));
        let passed = server.calls() - before;
        assert!(passed <= 20, "{passed} requests");
        assert!(!hostile.is_finished());
    }
}

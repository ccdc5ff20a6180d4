//! What batches are worth, and what the collector costs: `cargo bench`. The development server answers from memory,
//! so a real one makes the ratio of batches to single calls larger, not smaller.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program that measures prints, and fails by panicking"
)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conjur_client::sensitive::Sensitive;
use conjur_client::{Client, Config, Credentials, Freshness, Limits, Priority, VariableId, Wanted};
use conjur_dev::{Kind, Options, Server};
use futures::StreamExt as _;
use futures::future::join_all;

const VARIABLES: usize = 5000;

struct Bench {
    server: Server,
    wanted: Arc<Vec<Wanted>>,
}

struct Run {
    name: String,
    took: Duration,
    requests: usize,
}

impl Bench {
    async fn start() -> Self {
        let server = Server::start(Options::default()).await.unwrap();
        let mut policy = String::new();
        for number in 0..VARIABLES {
            writeln!(policy, "- !variable apps/m/{number:05}").unwrap();
        }
        server.load_root(&policy).await.unwrap();
        let mut wanted = Vec::with_capacity(VARIABLES);
        for number in 0..VARIABLES {
            let id = format!("apps/m/{number:05}");
            assert!(server.set_variable(&id, format!("value {number}").as_bytes()));
            wanted.push(Wanted::latest(VariableId::new(&id).unwrap()));
        }
        Self { server, wanted: Arc::new(wanted) }
    }

    /// A client that only its connections hold back, with its token.
    async fn client(&self) -> Client {
        let credentials = Credentials::ApiKey {
            login: "admin".to_owned(),
            api_key: Sensitive::new(self.server.admin_key()),
        };
        let mut config = Config::new(self.server.url().parse().unwrap(), self.server.account(), credentials);
        config.limits = Limits { max_connections: 8, requests_per_second: 1_000_000, ..Limits::default() };
        let client = Client::new(config).unwrap();
        client.whoami().await.unwrap();
        self.server.clear_requests();
        client
    }

    fn finish(&self, name: String, start: Instant) -> Run {
        let took = start.elapsed();
        let counts = self.server.counts();
        let requests = [Kind::Single, Kind::Batch].iter().filter_map(|kind| counts.get(kind)).sum();
        Run { name, took, requests }
    }

    async fn batches(&self, callers: usize) -> Run {
        let client = self.client().await;
        let start = Instant::now();
        let parts = self.wanted.chunks(VARIABLES.div_ceil(callers));
        let fetched = join_all(
            parts.map(|part| client.fetch_variables(part, Priority::Foreground, Freshness::Remembered)),
        )
        .await;
        let values: usize = fetched.iter().flatten().filter(|(_, answer)| answer.is_ok()).count();
        assert_eq!(values, VARIABLES);
        self.finish(format!("batches, {callers} callers"), start)
    }

    async fn one_at_a_time(&self, callers: usize) -> Run {
        let client = self.client().await;
        let start = Instant::now();
        let fetches = futures::stream::iter(self.wanted.iter()).map(|wanted| {
            let client = client.clone();
            async move { client.fetch_secret("variable", wanted.id.as_str(), None).await }
        });
        let values = fetches.buffer_unordered(callers).filter(|answer| std::future::ready(answer.is_ok()));
        assert_eq!(values.count().await, VARIABLES);
        self.finish(format!("one at a time, {callers} callers"), start)
    }

    /// What the collector adds: ids that it knows to be bad are answered without a request.
    async fn overhead(&self, callers: usize) -> (f64, usize) {
        let client = self.client().await;
        let missing: Vec<Wanted> = (0..200)
            .map(|number| Wanted::latest(VariableId::new(&format!("missing/{number}")).unwrap()))
            .collect();
        client.fetch_variables(&missing, Priority::Foreground, Freshness::Remembered).await;
        self.server.clear_requests();
        let rounds = 500;
        let start = Instant::now();
        join_all((0..callers).map(|_| async {
            for _ in 0..rounds / callers {
                let answers =
                    client.fetch_variables(&missing, Priority::Foreground, Freshness::Remembered).await;
                assert!(answers.values().all(Result::is_err));
            }
        }))
        .await;
        let ids = rounds / callers * callers * missing.len();
        let run = self.finish(String::new(), start);
        (run.took.as_secs_f64() * 1e9 / f64::from(u32::try_from(ids).unwrap()), run.requests)
    }
}

#[tokio::main]
async fn main() {
    let bench = Bench::start().await;
    let mut runs = Vec::new();
    for callers in [1, 8] {
        runs.push(bench.batches(callers).await);
        runs.push(bench.one_at_a_time(callers).await);
    }
    println!("{VARIABLES} variables            time    requests   variables a second");
    for Run { name, took, requests } in &runs {
        let rate = f64::from(u32::try_from(VARIABLES).unwrap()) / took.as_secs_f64();
        println!("{name:<26} {:>7.3} s {requests:>8} {rate:>14.0}", took.as_secs_f64());
    }
    for (pair, callers) in runs.chunks(2).zip([1, 8]) {
        let ratio = pair[1].took.as_secs_f64() / pair[0].took.as_secs_f64();
        println!("batches are {ratio:.1} times as fast with {callers} callers");
    }
    for callers in [1, 8] {
        let (nanoseconds, looks) = bench.overhead(callers).await;
        println!(
            "the collector costs {nanoseconds:.0} ns an id with {callers} callers ({looks} requests to look again)"
        );
    }
}

//! The thread that keeps the process alive, or ends it: signals, the Lease and probes, apart from the work.
//!
//! Two runtimes. All work is on the workers' one; this one has the main thread for itself, a client of the API server
//! and threads for names of its own. However busy the workers are, probes are answered and the Lease is renewed; when
//! they stand still (their heartbeat says so), `/healthz` fails and the Lease is lost, which ends the process.

use std::time::Duration;

use futures::TryFutureExt as _;
use kube::{Client, Config};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    signal::unix::{SignalKind, signal},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;

use super::{Error, act};
use crate::{
    cli::RunArgs,
    heartbeat::Heartbeats,
    leader::{self, LeaseTiming, Settings},
    limits,
    metrics::Metrics,
    plan::scope::WatchScope,
    server::{self, Listener, Ready},
    telemetry::Logging,
};

/// What the workers may take beyond what is under way before they are taken for wedged.
const MARGIN: Duration = Duration::from_secs(5);
/// Threads of this runtime for calls that block: it looks up one name.
const BLOCKING: usize = 2;

/// Runs until SIGTERM or SIGINT; an error means that the process must end with a failure.
///
/// # Errors
/// What ended it, in a sentence.
pub fn run(args: RunArgs, logging: Logging) -> Result<(), Error> {
    let workers = workers().map_err(Error::Runtime)?;
    let lifeline = Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING).build();
    let lifeline = lifeline.map_err(Error::Runtime)?;
    let closing = logging.clone();
    let telling = lifeline.spawn(logging.keep(args.log_level_file.clone()));
    let result = lifeline.block_on(live(args, workers.handle()));
    telling.abort();
    // Who lost the Lease must not finish anything.
    workers.shutdown_timeout(Duration::ZERO);
    lifeline.shutdown_timeout(Duration::ZERO);
    closing.close();
    result
}

/// A soft limit of 1,024 is for programs that use `select`; this one may have as many descriptors as it is given.
fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        tracing::info!(limit = current, "file descriptors");
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => {
            tracing::info!(limit = maximum, before = current, "file descriptors: raised the soft limit");
        }
        Err(error) => {
            tracing::warn!(limit = current, %error, "file descriptors: the soft limit can't be raised");
        }
    }
}

fn workers() -> std::io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .enable_all()
        // One alone would stand still whenever a task does not give way.
        .worker_threads(processors.clamp(2, limits::WORKERS))
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .thread_name("worker")
        .build()
}

async fn live(args: RunArgs, workers: &Handle) -> Result<(), Error> {
    let (scope, timing) = (args.scope()?, args.lease_timing()?);
    let shutdown = on_signal()?;
    let health = Listener::bind("health", args.health_addr).await?;
    let metrics_listener =
        workers.spawn(Listener::bind("metrics", args.metrics_addr)).await.map_err(|e| died(&e))??;
    let no_client = |error| Error::Client(Box::new(error));
    let config = Config::infer().await.map_err(|error| no_client(kube::Error::InferConfig(error)))?;
    raise_descriptors();
    let own = Client::try_from(config.clone()).map_err(no_client)?;
    // A client's tasks run where it is made.
    let client = {
        let _on = workers.enter();
        Client::try_from(config).map_err(no_client)?
    };

    let (heartbeats, ready, stop_serving) =
        (Heartbeats::default(), Ready::default(), CancellationToken::new());
    let beating = workers.spawn(heartbeats.add("workers").keep());
    let metrics = Metrics::new(args.metrics_objects);
    let routes = server::health(ready.clone(), heartbeats.clone());
    let health = health.serve(routes, server::HEALTH, stop_serving.clone());
    let page = server::metrics(metrics.clone());
    let page = workers.spawn(metrics_listener.serve(page, server::METRICS, stop_serving.clone()));
    let acting = async {
        let work = Work { workers, client, metrics, args, scope, timing, ready, shutdown };
        let result = work.lead(own, heartbeats).await;
        stop_serving.cancel();
        result
    };
    let serving = async {
        health.await;
        page.await.map_err(|error| died(&error))
    };
    let result = tokio::try_join!(serving, acting);
    beating.abort();
    result.map(|_| ())
}

/// The work, and all it needs.
struct Work<'a> {
    workers: &'a Handle,
    client: Client,
    metrics: Metrics,
    args: RunArgs,
    scope: WatchScope,
    timing: LeaseTiming,
    /// Set while it stands by, and when all is listed.
    ready: Ready,
    shutdown: CancellationToken,
}

impl Work<'_> {
    /// Does it, while holding the Lease where asked to, until told to stop. The Lease is asked for by a client of its own.
    async fn lead(self, own: Client, heartbeats: Heartbeats) -> Result<(), Error> {
        if !self.args.leader_elect {
            return self.run().await;
        }
        let settings = Settings {
            namespace: self.args.lease_namespace(own.default_namespace()),
            name: self.args.lease_name.clone(),
            identity: Settings::own_identity(),
            timing: self.timing,
        };
        let standby = {
            let ready = self.ready.clone();
            // It watches nothing, and can take over at any time.
            move || ready.set(true)
        };
        let held = tokio::select! {
            () = self.shutdown.cancelled() => return Ok(()),
            held = leader::acquire(own, settings, heartbeats, standby) => held?,
        };
        self.ready.set(false);
        let drained = CancellationToken::new();
        let acting = async {
            // An error leaves the Lease unreleased: what the workers began may still go on until the process ends.
            self.run().await?;
            drained.cancel();
            Ok(())
        };
        tokio::try_join!(held.run(drained.clone()).map_err(Error::from), acting).map(|_| ())
    }

    /// On the workers, until told to stop and what is under way has ended.
    async fn run(self) -> Result<(), Error> {
        let Self { workers, client, metrics, args, scope, ready, shutdown, .. } = self;
        metrics.leads(true);
        let (stopped, longest) = (shutdown.clone(), args.longest_end());
        let acting = workers.spawn(async move { act(client, &args, scope, metrics, ready, shutdown).await });
        let overdue = async {
            stopped.cancelled().await;
            tokio::time::sleep(longest + MARGIN).await;
        };
        tokio::select! {
            result = acting => result.map_err(|error| died(&error))?,
            () = overdue => Err(Error::Wedged),
        }
    }
}

/// What a panic says could hold a value; the log says where it happened.
fn died(_: &JoinError) -> Error {
    Error::Died
}

fn on_signal() -> Result<CancellationToken, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let token = CancellationToken::new();
    let stopped = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("received a signal to stop, shutting down");
        stopped.cancel();
    });
    Ok(token)
}

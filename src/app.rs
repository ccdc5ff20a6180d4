//! `run`: the whole program, in order.

mod lifeline;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kube::{Client, runtime::reflector};
use tokio::sync::OnceCell;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    cli::RunArgs,
    cluster::{Cluster, api_server},
    conjur::reach::Reach,
    controllers::{
        Context,
        connection::{Audiences, pool::Clients},
        dependencies::Dependencies,
        host::HostNotes,
        kinds::Kinds,
        namespaces, owned,
        policy::Notes,
        push::PushNotes,
        states::AllStates,
    },
    effect::{
        branch_locks::Branches, in_flight::InFlight, own_writes::KeyWrites, variables::queue::VariableLoads,
    },
    heavy::Heavy,
    leader::{AcquireError, Lost, TimingError},
    limits::{DRAIN, LAST_WORDS},
    metrics::Metrics,
    plan::{
        scope::{WatchScope, WatchScopeError},
        secret::FingerprintKey,
    },
    runtime::{
        Shared,
        report::{Events, Statuses},
        sync_now::SyncNows,
    },
    server::{Ready, ServerError},
};

pub use lifeline::run;

/// Why the program ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster.
    #[error("cannot connect to the Kubernetes API: {0}; run in a cluster, or set KUBECONFIG")]
    Client(#[source] Box<kube::Error>),
    /// Flags that name no scope.
    #[error(transparent)]
    Scope(#[from] WatchScopeError),
    /// Flags of the Lease that do not go together.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// No threads.
    #[error("the runtime could not be started: {0}")]
    Runtime(#[source] std::io::Error),
    /// No signals.
    #[error("signals can't be waited for: {0}")]
    Signals(#[source] std::io::Error),
    /// No program to start workers with.
    #[error("the operator's own program can't be found, which its workers run: {0}")]
    Program(#[source] std::io::Error),
    /// No randomness.
    #[error("{0}")]
    Randomness(String),
    /// No listener.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No Lease to be had.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The Lease is lost: someone else acts now.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// A fault of the operator.
    #[error(
        "the reconcilers stopped because of a bug in the operator; the log shows where. Please report it"
    )]
    Died,
    /// The workers stand still.
    #[error("the reconcilers did not stop in time; the next start resolves what was in flight")]
    Wedged,
}

/// What users read where a connection of theirs leads where it may not.
fn host_denied(base: &str) -> String {
    format!(
        "connections of a namespace may not lead to {base}. The operator's administrator decides where they may, by \
         --allow-hosts and --deny-hosts (network.allowHosts and network.denyHosts in the chart's values), or can make a \
         ClusterConjurConnection"
    )
}

/// Stores, then controllers, until told to stop; then what is under way, for a while. It is `ready` when all is listed.
async fn act(
    client: Client,
    args: &RunArgs,
    scope: WatchScope,
    metrics: Metrics,
    ready: Ready,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let reach = Reach::saying(args.allow_hosts.clone(), args.deny_hosts.clone(), host_denied);
    let mut api_server = BTreeSet::new();
    api_server::learn(&client, &mut api_server, &reach).await;
    let _api_server =
        AbortOnDropHandle::new(tokio::spawn(api_server::keep_up(client.clone(), api_server, reach.clone())));
    let (kinds, ends) = Kinds::new();
    let (namespaces, namespaces_writer) = reflector::store();
    let watch =
        namespaces::watch(client.clone(), scope.has_cluster_connections(), namespaces_writer, kinds.clone());
    let _namespaces = AbortOnDropHandle::new(tokio::spawn(watch));
    let (owned, owned_writer) = reflector::store();
    let (events, send_events) = Events::new(client.clone());
    let _events = AbortOnDropHandle::new(tokio::spawn(send_events));
    let heavy = Heavy::new(std::env::current_exe().map_err(Error::Program)?);
    let _tidy = AbortOnDropHandle::new(tokio::spawn(heavy.clone().tidy()));
    let ctx = Arc::new(Context {
        shared: Shared {
            cluster: Cluster::new(client.clone(), args.max_concurrent.get(), metrics.clone()),
            statuses: Statuses::of(scope.clone()),
            events,
            specs: Arc::default(),
            sync_nows: SyncNows::default(),
            metrics,
            stop: shutdown.clone(),
        },
        clients: Clients::new(kinds.clone()),
        scope: scope.clone(),
        cluster_uid: OnceCell::new(),
        namespaces: namespaces.clone(),
        audiences: Audiences::new(args.allowed_audiences.clone()),
        reach,
        owned: owned.clone(),
        inputs: Dependencies::new(client.clone(), scope, kinds.clone()),
        kinds,
        memory: Arc::default(),
        fingerprints: FingerprintKey::random().map_err(Error::Randomness)?,
        in_flight: InFlight::new(shutdown.clone()),
        branches: Branches::default(),
        policy_notes: Notes::default(),
        push_notes: PushNotes::default(),
        variable_loads: VariableLoads::default(),
        host_notes: HostNotes::default(),
        key_writes: KeyWrites::default(),
        heavy,
        rollout_restart: args.rollout_restart,
    });
    ctx.metrics.observe(AllStates::of(&ctx));
    let _owned =
        AbortOnDropHandle::new(tokio::spawn(owned::watch(client.clone(), owned_writer, ctx.clone())));
    // What is looked up beside the connections.
    let others = async move {
        let (a, b) = tokio::join!(namespaces.wait_until_ready(), owned.wait_until_ready());
        a.is_ok() && b.is_ok()
    };
    let listed = move || {
        tracing::info!("all watches are up");
        ready.set(true);
    };
    let all = ends.run(client, ctx.clone(), others, listed, shutdown.clone());
    tracing::info!("started");
    tokio::select! {
        () = all => {}
        left = left_over(&ctx.in_flight, &shutdown, DRAIN, args.load_grace) => match left {
            LeftOver::Work => {
                tracing::warn!("work was still in flight after {DRAIN:?}; the next start resolves it");
            }
            LeftOver::Loads(loads) => {
                let grace = args.load_grace;
                tracing::warn!(loads, "loads were still in flight after {grace:?}; the next leader resolves them");
            }
        },
    }
    Ok(())
}

/// What is left when the program ends.
#[derive(Debug, PartialEq, Eq)]
enum LeftOver {
    /// Work that can be begun again.
    Work,
    /// Something that was begun in Conjur.
    Loads(usize),
}

/// Ends when what is still under way, after the program was told to stop, is to be left: after `drain`, or, while something that was
/// begun in Conjur is under way, after `grace`.
async fn left_over(
    in_flight: &InFlight,
    shutdown: &CancellationToken,
    drain: Duration,
    grace: Duration,
) -> LeftOver {
    shutdown.cancelled().await;
    let drained = async {
        tokio::time::sleep(drain).await;
        if in_flight.count() > 0 {
            in_flight.none().await;
            tokio::time::sleep(LAST_WORDS).await;
        }
    };
    let graced = async {
        tokio::time::sleep(grace).await;
        match in_flight.count() {
            // Nothing is begun any more, so that there is none as soon as there was none once.
            0 => std::future::pending().await,
            count => count,
        }
    };
    tokio::select! {
        () = drained => LeftOver::Work,
        count = graced => LeftOver::Loads(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_connect_somewhere_reads_who_can_change_that() {
        let message = host_denied("http://127.0.0.1:1");
        for word in ["http://127.0.0.1:1", "network.allowHosts", "ClusterConjurConnection"] {
            assert!(message.contains(word), "{message}");
        }
    }

    #[tokio::test]
    async fn what_was_begun_in_conjur_is_waited_for_longer_than_other_work_and_no_longer_than_said() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(3600));
        let shutdown = CancellationToken::new();
        let in_flight = InFlight::new(shutdown.clone());
        let load = in_flight.begin().unwrap();
        shutdown.cancel();
        assert_eq!(left_over(&in_flight, &shutdown, long, short).await, LeftOver::Loads(1));
        let mut ends = std::pin::pin!(left_over(&in_flight, &shutdown, short, long));
        let waits = tokio::time::timeout(short * 10, &mut ends).await;
        assert!(waits.is_err(), "it was left after the time for other work: {waits:?}");
        drop(load);
        assert_eq!(ends.await, LeftOver::Work);
        // Without any, its grace ends nothing.
        assert_eq!(left_over(&in_flight, &shutdown, short * 10, short).await, LeftOver::Work);
    }
}

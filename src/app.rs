//! `run`: the whole program, in order.

mod lifeline;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kube::{Client, runtime::reflector};
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
    },
    effect::{branch_locks::Branches, own_writes::KeyWrites, variables::queue::VariableLoads},
    heavy::Heavy,
    leader::{AcquireError, Lost},
    metrics::Metrics,
    plan::secret::FingerprintKey,
    runtime::{
        Shared,
        report::{Events, Statuses},
        sync_now::SyncNows,
    },
    server::ServerError,
};

pub use lifeline::run;

/// What is under way when the program is told to stop may take this long to end.
const DRAIN: Duration = Duration::from_secs(20);

/// Why the program ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster.
    #[error("cannot connect to the Kubernetes API: {0}; run in a cluster, or set KUBECONFIG")]
    Client(#[source] Box<kube::Error>),
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

/// Stores, then controllers, until told to stop; then what is under way, for a while.
async fn act(
    client: Client,
    args: &RunArgs,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let reach = Reach::saying(args.allow_hosts.clone(), args.deny_hosts.clone(), host_denied);
    let mut api_server = BTreeSet::new();
    api_server::learn(&client, &mut api_server, &reach).await;
    let _api_server =
        AbortOnDropHandle::new(tokio::spawn(api_server::keep_up(client.clone(), api_server, reach.clone())));
    let (kinds, ends) = Kinds::new();
    let (namespaces, namespaces_writer) = reflector::store();
    let watch = namespaces::watch(client.clone(), namespaces_writer, kinds.clone());
    let _namespaces = AbortOnDropHandle::new(tokio::spawn(watch));
    let (owned, owned_writer) = reflector::store();
    let (events, send_events) = Events::new(client.clone());
    let _events = AbortOnDropHandle::new(tokio::spawn(send_events));
    let heavy = Heavy::new(std::env::current_exe().map_err(Error::Program)?);
    let _tidy = AbortOnDropHandle::new(tokio::spawn(heavy.clone().tidy()));
    let ctx = Arc::new(Context {
        shared: Shared {
            cluster: Cluster::new(client.clone(), args.max_concurrent.get()),
            statuses: Statuses::default(),
            events,
            specs: Arc::default(),
            sync_nows: SyncNows::default(),
            metrics,
        },
        clients: Clients::new(kinds.clone()),
        namespaces: namespaces.clone(),
        audiences: Audiences::new(args.allowed_audiences.clone()),
        reach,
        owned: owned.clone(),
        inputs: Dependencies::new(client.clone(), kinds.clone()),
        kinds,
        memory: Arc::default(),
        fingerprints: FingerprintKey::random().map_err(Error::Randomness)?,
        branches: Branches::default(),
        policy_notes: Notes::default(),
        push_notes: PushNotes::default(),
        variable_loads: VariableLoads::default(),
        host_notes: HostNotes::default(),
        key_writes: KeyWrites::default(),
        heavy,
        rollout_restart: args.rollout_restart,
    });
    let _owned =
        AbortOnDropHandle::new(tokio::spawn(owned::watch(client.clone(), owned_writer, ctx.clone())));
    // What is looked up beside the connections.
    let ready = async move {
        let (a, b) = tokio::join!(namespaces.wait_until_ready(), owned.wait_until_ready());
        a.is_ok() && b.is_ok()
    };
    let all = ends.run(client, ctx, ready, shutdown.clone());
    tracing::info!("started");
    tokio::select! {
        () = all => {}
        () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!("work was still in flight after {DRAIN:?}; the next start resolves it");
        }
    }
    Ok(())
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
}

//! `run`: the whole program, in order.

use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::leader::{self, AcquireError, Lost, Settings};
use crate::metrics::Metrics;
use crate::server::{Ready, Server, ServerError};

/// Why the program ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no way to the Kubernetes API: {0}; run in a cluster, or set KUBECONFIG")]
    Client(#[source] Box<kube::Error>),
    #[error("signals can't be waited for: {0}")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Runs until SIGTERM or SIGINT; an error means that the process must end with a failure.
pub async fn run(args: RunArgs) -> Result<(), Error> {
    let shutdown = on_signal()?;
    let server = Server::bind(args.health_addr, args.metrics_addr).await?;
    let client = Client::try_default().await.map_err(|error| Error::Client(Box::new(error)))?;
    let (ready, stop_serving) = (Ready::default(), CancellationToken::new());
    let serving = server.run(ready.clone(), Metrics::new(), stop_serving.clone());
    let acting = async {
        ready.set(true);
        lead(client, &args, shutdown).await?;
        stop_serving.cancel();
        Ok(())
    };
    let serving = async { serving.await.map_err(Error::from) };
    tokio::try_join!(serving, acting).map(|_| ())
}

/// Holds the Lease, where asked to, until told to stop.
async fn lead(client: Client, args: &RunArgs, shutdown: CancellationToken) -> Result<(), Error> {
    if !args.leader_elect {
        shutdown.cancelled().await;
        return Ok(());
    }
    let settings = Settings {
        namespace: args.lease_namespace(client.default_namespace()),
        name: args.lease_name.clone(),
        identity: Settings::own_identity(),
    };
    let held = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        held = leader::acquire(client, settings) => held?,
    };
    Ok(held.run(shutdown).await?)
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
        tracing::info!("told to stop");
        stopped.cancel();
    });
    Ok(token)
}

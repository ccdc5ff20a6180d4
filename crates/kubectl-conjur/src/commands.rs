//! One file a command.

mod complete;
mod diff;
mod doctor;
mod events;
mod explain;
mod generated;
mod get;
mod lint;
mod migrate;
mod rotate;
mod suspend;
mod sync;
mod tree;
mod waiting;

use std::time::Duration;

use anstream::eprintln;

use crate::{
    Ended, Error,
    cli::{Cli, Command},
    cluster::Cluster,
};

/// What takes longer says so.
const SAYS_SO: Duration = Duration::from_secs(1);

/// Runs one.
///
/// # Errors
/// Why it can't be done.
pub async fn run(cli: Cli) -> Result<Ended, Error> {
    let form = cli.look.output;
    let cluster = async || Cluster::of(&cli.cluster).await;
    match cli.command {
        Command::Completion { shell } => Ok(generated::completion(shell)),
        Command::Man { folder } => generated::man(&folder),
        Command::Complete { words } => Ok(complete::run(&words, &cli.cluster).await),
        Command::Get(args) => told("the cluster", get::run(&cluster().await?, &args, form)).await,
        Command::Explain(args) => {
            told("the cluster and Conjur", explain::run(&cluster().await?, &args, form)).await
        }
        Command::Doctor(args) => told("Conjur", doctor::run(&args, cluster, form)).await,
        Command::Diff(args) => told("Conjur", diff::run(&cluster().await?, &args, form)).await,
        Command::Lint(args) => lint::run(&args, form),
        Command::Migrate(args) => migrate::run(&args, cluster, form).await,
        Command::Sync(args) => sync::run(&cluster().await?, &args, form).await,
        Command::Suspend(args) => suspend::run(&cluster().await?, &args.objects, true, form).await,
        Command::Resume(args) => suspend::run(&cluster().await?, &args.objects, false, form).await,
        Command::Rotate(args) => rotate::run(&cluster().await?, &args, form).await,
        Command::Tree(args) => told("the cluster", tree::run(&cluster().await?, &args, form)).await,
        Command::Events(args) => events::run(&cluster().await?, &args, form).await,
    }
}

/// Runs what asks somebody else, and says after a second who is waited for.
async fn told(whom: &str, command: impl Future<Output = Result<Ended, Error>>) -> Result<Ended, Error> {
    tokio::pin!(command);
    if let Ok(ended) = tokio::time::timeout(SAYS_SO, &mut command).await {
        return ended;
    }
    eprintln!("Waiting for {whom} …");
    command.await
}

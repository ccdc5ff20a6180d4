//! The program `kubectl-conjur`, which kubectl finds as `kubectl conjur`.

use std::process::ExitCode;

use clap::Parser as _;
use kubectl_conjur::{cli::Cli, run};

#[tokio::main]
async fn main() -> ExitCode {
    run(Cli::parse()).await
}

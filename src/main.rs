//! Installs the TLS provider, parses, dispatches; nothing else.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use conjur_operator::api;
use conjur_operator::program::{self, Cli, Command, RunArgs};

/// Gives back what a burst of reconciles needed, which the C library's allocator keeps: docs/benchmarks.md. How it does
/// so is set in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Crds => crds(),
        Command::HeavyWorker { bytes } => program::serve_heavy_work(bytes).map_err(one_line),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("conjur-operator: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: RunArgs) -> Result<(), String> {
    // With more than one provider compiled in, rustls would otherwise panic on first use.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return Err("another TLS provider is already installed".to_owned());
    }
    let failures = program::init_logging(args.log_format, args.log_level).map_err(one_line)?;
    program::run(args, failures).map_err(one_line)
}

fn crds() -> Result<(), String> {
    let yaml = api::crds_yaml().map_err(one_line)?;
    match std::io::stdout().write_all(yaml.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("the CRDs could not be written: {error}"))
        }
        _ => Ok(()),
    }
}

fn one_line(error: impl Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

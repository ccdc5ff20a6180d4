//! Installs the TLS provider, parses, dispatches; nothing else.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use conjur_operator::api;
use conjur_operator::program::{self, Cli, Command, Hook, RunArgs};

/// Gives back what a burst of reconciles needed, which the C library's allocator keeps: docs/benchmarks.md. How it does
/// so is set in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Crds => crds(),
        Command::Apply(args) => hook(Hook::Apply(args)),
        Command::UninstallCheck(args) => hook(Hook::UninstallCheck(args)),
        Command::InstallCheck(args) => hook(Hook::InstallCheck(args)),
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
    install_tls()?;
    let logging = program::init_logging(args.log_format, args.log_level).map_err(one_line)?;
    program::run(args, logging).map_err(one_line)
}

fn crds() -> Result<(), String> {
    print(&api::crds_yaml().map_err(one_line)?)
}

/// What a hook says has a line for each object.
fn hook(hook: Hook) -> Result<(), String> {
    install_tls()?;
    let told = program::run_hook(hook).map_err(|error| error.to_string())?;
    print(&(told + "\n"))
}

/// With more than one provider compiled in, rustls would otherwise panic on first use.
fn install_tls() -> Result<(), String> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    if cfg!(feature = "fips") && !provider.fips() {
        return Err("this build is to use the FIPS module of aws-lc, and does not".to_owned());
    }
    provider.install_default().map_err(|_| "another TLS provider is already installed".to_owned())
}

fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("the output could not be written: {error}"))
        }
        _ => Ok(()),
    }
}

fn one_line(error: impl Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

//! Hostile tenants beside honest ones: `make attack`. Brings up a control plane, a development Conjur, a hostile one and
//! the operator with the memory and file descriptors that the chart's Pod has; lets honest tenants work alone, then
//! beside attackers, and compares. Prints a table, and JSON with `--json`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to a person")]

mod apply;
mod churn;
mod hostile;
mod kinds;
mod loosen;
mod memory;
mod report;
mod victims;
mod watch;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum as _};

use kinds::Kind;
use report::Report;
use victims::Times;
use world::World;

/// Attacks the operator on a real control plane.
#[derive(Debug, Parser)]
pub struct Options {
    /// What the attackers do [default: everything at once]
    #[arg(value_enum)]
    kinds: Vec<Kind>,

    /// How long the attack lasts, in seconds
    #[arg(long = "for", env = "ATTACK_SECONDS", default_value = "600", value_name = "SECONDS")]
    seconds: u64,

    /// How long the honest tenants are alone before, in seconds
    #[arg(long, default_value = "45", value_name = "SECONDS")]
    quiet: u64,

    /// Hostile objects of each kind
    #[arg(long, default_value = "200")]
    objects: usize,

    /// MiB that the operator may take; a control group kills it above, where one can be made
    #[arg(long, default_value = "256")]
    memory: usize,

    /// File descriptors that the operator may have
    #[arg(long, default_value = "1024")]
    descriptors: usize,

    /// The operator's binary [default: beside this one]
    #[arg(long)]
    operator: Option<PathBuf>,

    /// The development Conjur's binary [default: beside this one]
    #[arg(long)]
    conjur: Option<PathBuf>,

    /// Where the result is written as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Where the operator's log is copied to at the end
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = run(Options::parse()) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("ended by Ctrl-C")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything held.
async fn run(mut options: Options) -> Result<bool> {
    if options.kinds.is_empty() {
        options.kinds = Kind::value_variants().to_vec();
    }
    let world = World::start(&options).await?;
    let outcome = attack(&world, &options).await;
    if let Some(to) = &options.log {
        std::fs::copy(world.operator.log_file(), to)?;
    }
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            eprintln!("the operator logged last:\n{}", world.operator.log_tail(15));
            return Err(error);
        }
    };
    world.stop().await?;
    report.print();
    if let Some(to) = &options.json {
        report.write_json(to)?;
    }
    Ok(report.held())
}

async fn attack(world: &World, options: &Options) -> Result<Report> {
    let mut report = Report::begin(options);
    say("honest tenants: 100 objects on a shared connection, 100 on connections of their own");
    let victims = victims::prepare(world).await?;
    say(format!("alone for {} s", options.quiet));
    let watched = watch::begin(world);
    let quiet = victims.measure(world, Duration::from_secs(options.quiet)).await?;
    say(format!("  {}", quiet.told()));
    let seen = watched.end().await?;
    report.quiet(&quiet, &seen);

    let watched = watch::begin(world);
    let seconds = Duration::from_secs(options.seconds);
    say(format!("attacked for {} s, {} kinds at once", options.seconds, options.kinds.len()));
    let (busy, told) = tokio::select! {
        measured = both(world, options, &victims, seconds) => measured?,
        end = watched.died() => {
            say(format!("  {end}"));
            (Times::default(), Vec::new())
        }
    };
    let mut seen = watched.end().await?;
    if seen.ended.is_some() {
        seen.ended = Some(how_it_ended(world).await?);
    }
    seen.killed = world.memory.as_ref().map(memory::MemoryGroup::killed).transpose()?.unwrap_or_default();
    report.attacked(&busy, &seen, told, options);
    Ok(report)
}

/// The attackers and the honest tenants at once; what was measured, and what the attackers did.
async fn both(
    world: &World,
    options: &Options,
    victims: &victims::Victims,
    time: Duration,
) -> Result<(Times, Vec<String>)> {
    let until = Instant::now() + time;
    let attackers = async {
        let attacks = kinds::prepare(world, &options.kinds, options.objects).await?;
        say("  what the attackers refer to is there; now their objects");
        anyhow::Ok(churn::until(world, &attacks, until).await)
    };
    let (times, told) = tokio::join!(victims.measure(world, time), attackers);
    Ok((times?, told?))
}

async fn how_it_ended(world: &World) -> Result<String> {
    let status =
        testbed::wait_for("how the operator ended", Duration::from_secs(10), async || world.operator.ended())
            .await?;
    let how = match status.code() {
        Some(code) if code > 128 => format!("signal {}", code - 128),
        Some(code) => format!("code {code}"),
        None => status.to_string(),
    };
    let memory = world.memory.as_ref().map(memory::MemoryGroup::killed).transpose()?.unwrap_or_default();
    let why = if memory > 0 { ", killed for its memory" } else { "" };
    Ok(format!("ended with {how}{why}"))
}

/// Says on standard error what goes on: it takes minutes.
pub fn say(what: impl AsRef<str>) {
    let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
    eprintln!("{now}  {}", what.as_ref());
}

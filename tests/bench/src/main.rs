//! What the operator costs: `make bench`. Brings up a control plane and a development Conjur, runs each case with the
//! operator as a process of its own, and compares it with a bare writer in the same run. Prints a table, writes JSON,
//! and with `--docs` puts the figures into the documentation.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to a person")]

mod cases;
mod load;
mod report;
mod world;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use cases::Case;
use report::Report;
use world::World;

/// Measures the operator on a real control plane.
#[derive(Debug, Parser)]
pub struct Options {
    /// Which cases to run [default: all]
    #[arg(value_enum)]
    cases: Vec<Case>,

    /// Tiny counts, to see that the benchmark itself works; its figures say nothing
    #[arg(long, env = "SMALL", value_parser = clap::builder::BoolishValueParser::new())]
    small: bool,

    /// How often the cases of 1,000 objects are run; of their ratios the median counts
    #[arg(long, env = "RUNS", default_value = "3")]
    runs: usize,

    /// The operator's binary [default: beside this one]
    #[arg(long)]
    operator: Option<PathBuf>,

    /// The development Conjur's binary [default: beside this one]
    #[arg(long)]
    conjur: Option<PathBuf>,

    /// Where the figures are written as JSON
    #[arg(long, default_value = "target/bench/benchmarks.json")]
    json: PathBuf,

    /// A Markdown file with the lines `<!-- figures -->` and `<!-- end of figures -->`, between which the figures are
    /// written
    #[arg(long)]
    docs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = run(Options::parse()) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("ended by Ctrl-C")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut options: Options) -> Result<()> {
    if options.docs.is_some() && (options.small || !options.cases.is_empty()) {
        bail!("--docs needs all cases, at their full size");
    }
    if options.cases.is_empty() {
        options.cases = <Case as clap::ValueEnum>::value_variants().to_vec();
    }
    let mut report = Report::begin(&options);
    let world = World::start(&options).await?;
    let outcome = cases::run(&world, &options, &mut report).await;
    world.stop().await?;
    outcome?;
    report.print();
    report.write_json(&options.json)?;
    println!("\nThe same as JSON: {}", options.json.display());
    if let Some(docs) = &options.docs {
        report.write_docs(docs)?;
        println!("And in {}", docs.display());
    }
    Ok(())
}

/// Says on standard error what goes on: it takes minutes.
pub fn say(what: impl AsRef<str>) {
    let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
    eprintln!("{now}  {}", what.as_ref());
}

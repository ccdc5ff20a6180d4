//! `make fuzz`: gives everything that reads what a tenant or a server writes what nobody would write, and sees that it
//! neither panics nor overflows its stack, takes too long or takes too much memory.
//!
//! There is no instrumentation: inputs are the corpus, changed at random, and what gave an answer that was not seen
//! before is changed further. Each target runs in a process of its own, which writes down each input before it reads
//! it: what ends the process is known afterwards. What fails goes into `target/fuzz/<target>/`; put it into
//! `tests/fuzz/corpus/<target>/` with its mend.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to a person")]

mod child;
mod mutate;
mod targets;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use targets::Target;

/// Counts what is allocated, and refuses what is over the limit of an input.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// Fuzzes.
#[derive(Debug, Parser)]
struct Options {
    /// What to fuzz [default: everything]
    targets: Vec<String>,

    /// How long each target is fuzzed, in seconds
    #[arg(long, env = "FUZZ_SECONDS", default_value = "300")]
    seconds: u64,

    /// Only the inputs of the corpus, each once
    #[arg(long)]
    corpus_only: bool,

    /// The number that the changes follow from [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,

    /// Fuzz this one in this process
    #[arg(long, hide = true)]
    child: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let mut chosen = Vec::new();
    for name in &options.targets {
        let target = targets::ALL.iter().find(|target| target.name == name);
        let names = || targets::ALL.map(|target| target.name).join(", ");
        chosen.push(target.with_context(|| format!("there is no target {name}, but {}", names()))?);
    }
    if options.targets.is_empty() {
        chosen.extend(&targets::ALL);
    }
    let seed = options.seed.unwrap_or_else(rand::random);
    let time = Duration::from_secs(if options.corpus_only { 0 } else { options.seconds });
    if let (true, [target]) = (options.child, chosen.as_slice()) {
        return child::run(target, &corpus(target), &failures(target)?, time, seed);
    }
    let (waiting, failed) = (Mutex::new(chosen.into_iter()), Mutex::new(Vec::new()));
    // As many at once as there are cores; what each may take is counted in its own processor time.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = || waiting.lock().ok().and_then(|mut waiting| waiting.next());
    std::thread::scope(|threads| {
        for _ in 0..cores {
            threads.spawn(|| {
                while let Some(target) = next() {
                    if let (Err(error), Ok(mut failed)) = (parent(target, time, seed), failed.lock()) {
                        failed.push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

/// Runs one target in a process of its own.
fn parent(target: &Target, time: Duration, seed: u64) -> Result<()> {
    let folder = failures(target)?;
    let output = Command::new(std::env::current_exe()?)
        .args([target.name, "--child", "--seed", &seed.to_string(), "--seconds", &time.as_secs().to_string()])
        .output()
        .context("starting the process of a target")?;
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{said}");
    if output.status.success() {
        return Ok(());
    }
    let what: Vec<&str> = errors.lines().take(6).collect();
    let mut kept = "see above".to_owned();
    if output.status.code() != Some(1) {
        let ended = folder.join(format!("ended-{seed}"));
        std::fs::rename(folder.join("now"), &ended).context("keeping the input that ended the process")?;
        kept = ended.display().to_string();
    }
    bail!("{} failed ({}), seed {seed}, input {kept}: {}", target.name, output.status, what.join(" | "))
}

fn root() -> &'static Path {
    // tests/fuzz, two below the top.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

fn corpus(target: &Target) -> PathBuf {
    root().join("tests/fuzz/corpus").join(target.name)
}

/// Where inputs that fail go.
fn failures(target: &Target) -> Result<PathBuf> {
    let under = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = under.join("fuzz").join(target.name);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

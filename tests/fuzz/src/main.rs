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

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use conjur_operator::seams::serve;

use targets::Target;

/// Counts what is allocated, and refuses what is over the limit of an input.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// How long one input may take on the clock, before its process is ended: what waits for ever takes no processor time.
const STUCK: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

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
    let mut given = std::env::args().skip(1);
    // The heavy work of a target is done by this program again, as the operator's is by the operator.
    let done = if given.next().as_deref() == Some(serve::COMMAND) {
        let bytes = given.next().and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
        serve::run(bytes).context("a worker")
    } else {
        run(&Options::parse())
    };
    match done {
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
    let mut child = Command::new(std::env::current_exe()?)
        .args([target.name, "--child", "--seed", &seed.to_string(), "--seconds", &time.as_secs().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the process of a target")?;
    // It says less than a pipe holds, at its end.
    let status = wait(&mut child, &folder.join("now"), STUCK)?;
    let (mut said, mut errors) = (String::new(), String::new());
    if let Some(output) = &mut child.stdout {
        output.read_to_string(&mut said).context("what it said")?;
    }
    if let Some(output) = &mut child.stderr {
        output.read_to_string(&mut errors).context("its errors")?;
    }
    print!("{said}");
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let took = format!("one input took longer than {STUCK:?} on the clock");
    let what: Vec<&str> = if status.is_none() { vec![&took] } else { errors.lines().take(6).collect() };
    let mut kept = "see above".to_owned();
    if status.and_then(|status| status.code()) != Some(1) {
        let ended = folder.join(format!("ended-{seed}"));
        std::fs::rename(folder.join("now"), &ended).context("keeping the input that ended the process")?;
        kept = ended.display().to_string();
    }
    let how = status.map_or_else(|| "ended".to_owned(), |status| status.to_string());
    bail!("{} failed ({how}), seed {seed}, input {kept}: {}", target.name, what.join(" | "))
}

/// How a process ended; none where one input took longer than `stuck`, and it was killed. It writes each into `now`.
fn wait(child: &mut Child, now: &Path, stuck: Duration) -> Result<Option<ExitStatus>> {
    let began = SystemTime::now();
    loop {
        if let Some(status) = child.try_wait().context("waiting for a target")? {
            return Ok(Some(status));
        }
        let written = std::fs::metadata(now).and_then(|now| now.modified()).unwrap_or(began);
        if written.max(began).elapsed().is_ok_and(|took| took > stuck) {
            child.kill().context("ending a target")?;
            child.wait().context("the end of a target")?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stuck_is_ended_and_what_goes_on_is_not() -> Result<()> {
        let now = std::env::temp_dir().join(format!("fuzz-now-{}", std::process::id()));
        let mut sleeps = Command::new("sleep").arg("60").spawn()?;
        assert_eq!(wait(&mut sleeps, &now, Duration::from_millis(300))?, None);
        let mut ends = Command::new("sleep").arg("1").spawn()?;
        let ended = wait(&mut ends, &now, Duration::from_secs(30))?;
        assert!(ended.is_some_and(|status| status.success()));
        Ok(())
    }
}

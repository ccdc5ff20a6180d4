//! One target, in the process that may end by it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::targets::Target;
use crate::{ALLOCATOR, mutate};

/// What one input may take of memory, over what was taken before.
const MEMORY: usize = 64 << 20;
/// And of processor time; ten times as much where nothing is optimized.
const TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
/// The stack of a thread of the operator; what is not optimized needs more.
const STACK: usize = if cfg!(debug_assertions) { 8 << 20 } else { 2 << 20 };
/// Where the last panic was.
static PLACE: Mutex<String> = Mutex::new(String::new());
/// Most inputs that are kept for changing, beside the corpus.
const KEPT: usize = 500;

/// Reads the corpus, and then what is made of it until the time is over.
pub fn run(target: &'static Target, corpus: &Path, failures: &Path, time: Duration, seed: u64) -> Result<()> {
    let (corpus, failures) = (seeds(corpus)?, failures.to_owned());
    // A panic is told with its input, and not twice.
    std::panic::set_hook(Box::new(|panic| {
        if let (Some(at), Ok(mut place)) = (panic.location(), PLACE.lock()) {
            *place = at.to_string();
        }
    }));
    let worker = std::thread::Builder::new().stack_size(STACK);
    let worker = worker.spawn(move || fuzz(target, corpus, &failures, time, seed)).context("a thread")?;
    match worker.join() {
        Ok(outcome) => outcome,
        Err(_) => bail!("the fuzzer itself panicked"),
    }
}

fn seeds(corpus: &Path) -> Result<Vec<Vec<u8>>> {
    let mut files: Vec<_> = std::fs::read_dir(corpus)
        .with_context(|| format!("reading {}", corpus.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("{} is empty", corpus.display());
    }
    files
        .iter()
        .map(|file| std::fs::read(file).with_context(|| format!("reading {}", file.display())))
        .collect()
}

fn fuzz(target: &Target, corpus: Vec<Vec<u8>>, failures: &Path, time: Duration, seed: u64) -> Result<()> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut read = (target.prepare)();
    let (began, mut inputs, mut slowest) = (Instant::now(), 0_u64, Duration::ZERO);
    let (mut kept, mut answers) = (corpus, HashSet::new());
    let own = kept.len();
    let mut at = 0;
    loop {
        let input = if at < own { kept[at].clone() } else { mutate::one(&mut random, &kept, target.longest) };
        at += 1;
        std::fs::write(failures.join("now"), &input).context("writing the input down")?;
        let (answer, took) = one(&mut read, &input);
        let what = match answer {
            Err(panic) => format!("panicked: {panic}"),
            Ok(_) if took > TIME => format!("took {:.1} s", took.as_secs_f64()),
            Ok(answer) => {
                if at > own && answers.insert(answer) && kept.len() < own + KEPT {
                    kept.push(input);
                }
                inputs += 1;
                slowest = slowest.max(took);
                if at >= own && began.elapsed() >= time {
                    break;
                }
                continue;
            }
        };
        let file = failures.join(format!("failed-{seed}-{at}"));
        std::fs::write(&file, &input)?;
        bail!("{}: {what}: {}", target.name, file.display());
    }
    println!(
        "{:<12} {inputs:>8} inputs, {} from the corpus, {} kinds of answers, the slowest took {:.2} s",
        target.name,
        own,
        answers.len(),
        slowest.as_secs_f64()
    );
    Ok(())
}

/// What reading an input comes to, in a word, and the processor time that it took.
fn one(read: &mut dyn FnMut(&[u8]) -> String, input: &[u8]) -> (Result<String, String>, Duration) {
    let before = used();
    // An allocation over the limit fails, which ends the process.
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + MEMORY).ok();
    let answer = catch_unwind(AssertUnwindSafe(|| read(input)));
    ALLOCATOR.set_limit(usize::MAX).ok();
    let answer = answer.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
        format!("{text}, at {}", PLACE.lock().map(|place| place.clone()).unwrap_or_default())
    });
    (answer, used().saturating_sub(before))
}

/// Processor time of all threads of this process: what runs elsewhere, and what waits, counts rightly.
fn used() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Whether chance has it, one time in `of`.
pub fn chance(random: &mut SmallRng, of: u32) -> bool {
    random.random_range(0..of) == 0
}

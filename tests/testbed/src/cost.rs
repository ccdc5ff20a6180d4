//! What a process used, from `/proc`.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Ticks of processor time in a second: the same on every Linux that Rust runs on.
const TICKS: u64 = 100;

/// What a process has used up to now.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Resident now, in MiB.
    pub resident: f64,
    /// The most that was ever resident, in MiB.
    pub peak: f64,
}

impl Cost {
    /// Of the process with that number.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = read(pid, "stat")?;
        // The name, in parentheses, may hold blanks; user and system time are the 12th and 13th field after it.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
        let ticks = ticks.with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
        let status = read(pid, "status")?;
        Ok(Self {
            cpu: Duration::from_millis(ticks * 1000 / TICKS),
            resident: mebibytes(&status, "VmRSS:").context("no VmRSS")?,
            peak: mebibytes(&status, "VmHWM:").context("no VmHWM")?,
        })
    }
}

fn read(pid: u32, what: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{what}");
    std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
}

fn mebibytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

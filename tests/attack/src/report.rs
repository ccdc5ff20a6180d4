//! What came of it, as a table and as JSON.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use serde_json::{Value, json};

use crate::Options;
use crate::kinds::Kind;
use crate::victims::{Times, p95};
use crate::watch::Seen;

/// An honest tenant waits at most so many times as long as when alone, …
const TIMES: f64 = 3.0;
/// … and never longer, in seconds.
const LONGEST: f64 = 30.0;
/// Below this many seconds the machine's own noise decides: attackers, servers and the control plane share its cores.
const NOISE: f64 = 2.0;
/// Log lines of a minute of attack, in MiB.
const LOGGED: f64 = 2.0;

/// One thing that has to hold.
#[derive(Debug)]
struct Row {
    what: String,
    bound: String,
    measured: String,
    held: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    kinds: Vec<String>,
    quiet: [f64; 4],
    quiet_floor: f64,
    attackers: Vec<String>,
    figures: Vec<(String, Value)>,
}

impl Report {
    /// An empty one.
    pub fn begin(options: &Options) -> Self {
        let name = |kind: &Kind| kind.to_possible_value().map(|value| value.get_name().to_owned());
        Self { kinds: options.kinds.iter().filter_map(name).collect(), ..Self::default() }
    }

    /// The honest tenants alone.
    pub fn quiet(&mut self, times: &Times, seen: &Seen) {
        self.quiet = times.all().map(|(_, times)| p95(times));
        self.quiet_floor = p95(&times.floor);
        self.row(
            "alone: probes missed",
            "0",
            format!("{} of {}", seen.missed.len(), seen.probes),
            seen.missed.is_empty(),
        );
        self.figures.push(("quiet".to_owned(), figures(times, seen)));
    }

    /// The same beside attackers.
    pub fn attacked(&mut self, times: &Times, seen: &Seen, attackers: Vec<String>, options: &Options) {
        self.attackers = attackers;
        let ended = seen.ended.clone();
        self.row(
            "the operator goes on",
            "no end",
            ended.clone().unwrap_or_else(|| "it did".to_owned()),
            ended.is_none(),
        );
        let mut missed = format!("{} of {}, slowest {:.2} s", seen.missed.len(), seen.probes, seen.slowest);
        if let Some(first) = seen.missed.first() {
            missed = format!("{missed}; {first}");
        }
        self.row("probes missed", "0", missed, seen.missed.is_empty());
        let holders: Vec<&str> = seen.holders.iter().map(String::as_str).collect();
        let lease = format!("{}, at most {:.1} s old", holders.join(", "), seen.lease_age);
        self.row("the Lease", "one holder", lease, seen.held());
        let floor = format!("{:.2} s; alone {:.2} s", p95(&times.floor), self.quiet_floor);
        self.row("the control plane itself, p95", "-", floor, true);
        let bound = u32::try_from(options.memory).map_or(f64::MAX, f64::from);
        self.row(
            "memory at its peak",
            &format!("{bound} MiB"),
            format!("{:.0} MiB; {} workers", seen.peak, seen.workers),
            seen.peak <= bound,
        );
        self.row("killed for their memory", "none", seen.killed.to_string(), seen.killed == 0);
        let descriptors = format!("{}; {} threads", seen.descriptors, seen.threads);
        self.row(
            "file descriptors",
            &format!("< {}", options.descriptors),
            descriptors,
            seen.descriptors < options.descriptors,
        );
        let minutes = f64::from(u32::try_from(options.seconds).unwrap_or(u32::MAX)) / 60.0;
        self.row(
            "log a minute",
            &format!("{LOGGED} MiB"),
            format!("{:.2} MiB", seen.logged / minutes),
            seen.logged / minutes <= LOGGED,
        );
        let slower = (p95(&times.floor) - self.quiet_floor).max(0.0);
        for ((what, times), quiet) in times.all().into_iter().zip(self.quiet) {
            let (bound, now) = (longest(quiet, slower), p95(times));
            let mut measured = format!("{now:.2} s; alone {quiet:.2} s ({} times)", times.len());
            if times.is_empty() {
                "not measured: the operator ended".clone_into(&mut measured);
            }
            self.row(&format!("{what}, p95"), &format!("{bound:.1} s"), measured, now <= bound);
        }
        self.figures.push(("attacked".to_owned(), figures(times, seen)));
    }

    fn row(&mut self, what: &str, bound: &str, measured: String, held: bool) {
        self.rows.push(Row { what: what.to_owned(), bound: bound.to_owned(), measured, held });
    }

    /// Whether everything held.
    pub fn held(&self) -> bool {
        self.rows.iter().all(|row| row.held)
    }

    /// The table, at most 100 columns wide.
    pub fn print(&self) {
        println!("\nattacks: {}", wrapped(&self.kinds.join(" "), 90));
        for told in &self.attackers {
            println!("  {}", wrapped(told, 96));
        }
        println!("\n{:<37} {:>10}   {:<42} verdict", "what has to hold", "bound", "measured");
        for row in &self.rows {
            let verdict = if row.held { "ok" } else { "FAILS" };
            let measured: String = row.measured.chars().take(42).collect();
            println!("{:<37} {:>10}   {measured:<42} {verdict}", row.what, row.bound);
        }
    }

    /// All figures as JSON.
    pub fn write_json(&self, to: &Path) -> Result<()> {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| json!({ "what": row.what, "bound": row.bound, "measured": row.measured, "held": row.held }))
            .collect();
        let figures: serde_json::Map<String, Value> = self.figures.iter().cloned().collect();
        let all = json!({ "held": self.held(), "kinds": self.kinds, "attackers": self.attackers, "rows": rows, "figures": figures });
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(to, format!("{all:#}\n")).with_context(|| format!("writing {}", to.display()))
    }
}

/// What an honest tenant may wait, by what it is when alone, and by how much slower the control plane itself is beside
/// attackers who write to it: an object's way leads through it three times.
fn longest(quiet: f64, slower: f64) -> f64 {
    ((quiet + 3.0 * slower) * TIMES).clamp(NOISE, LONGEST)
}

fn figures(times: &Times, seen: &Seen) -> Value {
    let times: serde_json::Map<String, Value> =
        times.all().into_iter().map(|(what, times)| (what.to_owned(), json!(times))).collect();
    json!({
        "seconds": times, "probes": seen.probes, "missed": seen.missed, "slowestProbe": seen.slowest,
        "holders": seen.holders, "leaseAge": seen.lease_age, "peakMiB": seen.peak, "workers": seen.workers, "killedForMemory": seen.killed, "threads": seen.threads,
        "descriptors": seen.descriptors, "loggedMiB": seen.logged, "cpuSeconds": seen.cpu, "ended": seen.ended,
    })
}

fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if lines.last().is_some_and(|line| !line.is_empty() && line.len() + word.len() >= width) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.join("\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_as_long_but_never_over_half_a_minute() {
        assert!((longest(0.1, 0.0) - NOISE).abs() < 1e-9);
        assert!((longest(4.0, 0.0) - 12.0).abs() < 1e-9);
        assert!((longest(0.4, 0.2) - 3.0).abs() < 1e-9, "a slow control plane counts");
        assert!((longest(12.0, 0.0) - LONGEST).abs() < 1e-9);
        assert!(f64::NAN.partial_cmp(&longest(1.0, 0.0)).is_none(), "what was not measured does not hold");
    }

    #[test]
    fn no_line_is_longer_than_it_may_be() {
        let text = wrapped(&"word ".repeat(60), 90);
        assert!(text.lines().all(|line| line.len() <= 96), "{text}");
    }
}

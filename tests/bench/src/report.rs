//! What came of it: a table, JSON, and the table of the documentation. No figure is written by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::Options;
use crate::cases::median;

const BEGIN: &str = "<!-- figures -->";
const END: &str = "<!-- end of figures -->";

/// What a figure is a figure of.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// So many times the time of something else in the same run.
    TimesOf(&'static str),
    /// Requests.
    Requests,
    /// Seconds of one processor.
    CpuSeconds,
    /// Share of one processor.
    PercentOfACore,
    /// Seconds that 95 of 100 stay below.
    SecondsAt95,
    /// Resident at that time.
    Mebibytes,
    /// The most that was ever resident.
    MebibytesAtMost,
}

impl Unit {
    fn of(self, figure: f64) -> String {
        match self {
            Self::TimesOf(other) => format!("{figure:.2} × {other}"),
            Self::Requests => format!("{figure:.0} requests"),
            Self::CpuSeconds => format!("{figure:.2} CPU s"),
            Self::PercentOfACore => format!("{figure:.2} % of a core"),
            Self::SecondsAt95 => format!("{figure:.2} s at p95"),
            Self::Mebibytes => format!("{figure:.0} MiB"),
            Self::MebibytesAtMost => format!("{figure:.0} MiB at most"),
        }
    }

    /// The largest figure that is reached as well as the limit, as it is shown.
    fn reaches(self, figure: f64, limit: f64) -> bool {
        let slack = match self {
            Self::TimesOf(_) | Self::CpuSeconds | Self::PercentOfACore | Self::SecondsAt95 => 0.005,
            Self::Requests | Self::Mebibytes | Self::MebibytesAtMost => 0.0,
        };
        figure < limit + slack || figure <= limit
    }
}

struct Row {
    case: String,
    target: String,
    measured: String,
    reached: bool,
    all: Vec<f64>,
    limit: f64,
}

/// What was measured so far.
pub struct Report {
    machine: BTreeMap<&'static str, String>,
    small: bool,
    rows: Vec<Row>,
    raw: BTreeMap<String, Vec<f64>>,
    figures: BTreeMap<&'static str, f64>,
}

impl Report {
    /// Nothing yet, on this machine.
    pub fn begin(options: &Options) -> Self {
        let machine = machine();
        Self {
            machine,
            small: options.small,
            rows: Vec::new(),
            raw: BTreeMap::new(),
            figures: BTreeMap::new(),
        }
    }

    /// A line of the table: the median of a figure over all runs must be at most the limit.
    pub fn row(&mut self, case: &str, limit: f64, unit: Unit, all: &[f64]) {
        let figure = median(all.to_vec());
        let target = match unit {
            Unit::Requests => format!("{limit:.0}"),
            Unit::Mebibytes | Unit::MebibytesAtMost => format!("{limit:.0} MiB"),
            Unit::TimesOf(_) => format!("{limit} ×"),
            Unit::CpuSeconds | Unit::SecondsAt95 => format!("{limit} s"),
            Unit::PercentOfACore => format!("{limit} %"),
        };
        self.rows.push(Row {
            case: thousands(case),
            target,
            measured: unit.of(figure),
            reached: unit.reaches(figure, limit),
            all: all.to_vec(),
            limit,
        });
    }

    /// Figures that no target is set for, as they are.
    pub fn raw(&mut self, what: &str, all: &[f64]) {
        self.raw.insert(thousands(what), all.to_vec());
    }

    /// A figure that a later case is compared with.
    pub fn figure(&mut self, name: &'static str, figure: f64) {
        self.figures.insert(name, figure);
    }

    /// One of those, if it was measured.
    pub fn figure_of(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }

    /// The table, on standard output.
    pub fn print(&self) {
        if self.small {
            println!(
                "\nThis was the small run: it shows that the benchmark works, and its figures say nothing."
            );
        }
        println!("\n{:<44} {:>9}   {:<30} verdict", "case", "at most", "measured");
        for row in &self.rows {
            let verdict = if row.reached { "ok" } else { "MISS" };
            println!("{:<44} {:>9}   {:<30} {verdict}", row.case, row.target, row.measured);
        }
    }

    /// All figures as JSON.
    pub fn write_json(&self, to: &Path) -> Result<()> {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "case": row.case, "target": row.target, "measured": row.measured, "limit": row.limit,
                    "reached": row.reached, "runs": row.all,
                })
            })
            .collect();
        let all = json!({ "machine": self.machine, "small": self.small, "rows": rows, "figures": self.raw });
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(to, format!("{all:#}\n")).with_context(|| format!("writing {}", to.display()))
    }

    /// Puts the figures between the two marks of a Markdown file.
    pub fn write_docs(&self, file: &Path) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let text = between_marks(&text, &self.markdown())
            .with_context(|| format!("{} has no lines `{BEGIN}` and `{END}`", file.display()))?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    fn markdown(&self) -> String {
        let mut text = String::from("| case | at most | measured | |\n|---|---|---|---|\n");
        for row in &self.rows {
            let verdict = if row.reached { "ok" } else { "**miss**" };
            // Writing to a String can't fail.
            writeln!(text, "| {} | {} | {} | {verdict} |", row.case, row.target, row.measured).ok();
        }
        text.push_str("\nSeconds and MiB behind them, run by run:\n\n");
        for (what, all) in &self.raw {
            let all: Vec<String> = all.iter().map(|figure| format!("{figure:.2}")).collect();
            let shown = if all.len() > 10 {
                let (least, most) = (all.first().map_or("", |f| f), all.last().map_or("", |f| f));
                format!("{least} to {most}, {} times", all.len())
            } else {
                all.join(" · ")
            };
            writeln!(text, "- {what}: {shown}").ok();
        }
        let machine: Vec<String> = self.machine.iter().map(|(name, is)| format!("{name} {is}")).collect();
        writeln!(text, "\nMeasured on: {}.", machine.join(", ")).ok();
        text
    }
}

fn between_marks(text: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{new}{END}{after}"))
}

/// Kinds and counts, for a person.
pub fn listed(counts: &BTreeMap<String, usize>) -> String {
    let all: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if all.is_empty() { "no request".to_owned() } else { all.join(", ") }
}

/// `10000 objects` as `10,000 objects`.
fn thousands(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        if word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_digit()) {
            let (front, back) = word.split_at(word.len() - 3);
            format!("{front},{back}")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn machine() -> BTreeMap<&'static str, String> {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = field("/proc/meminfo", "MemTotal");
    let gibibytes =
        memory.split(' ').next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1_048_576.0;
    BTreeMap::from([
        ("processor", format!("{} ({cores} cores)", field("/proc/cpuinfo", "model name"))),
        ("memory", format!("{gibibytes:.0} GiB")),
        ("Linux", kernel.trim().to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_replace_the_former_ones_and_nothing_else() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(between_marks(&text, "new\n").unwrap(), format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(between_marks("no marks", "new"), None);
    }

    #[test]
    fn a_figure_that_shows_as_the_limit_reaches_it() {
        assert!(Unit::TimesOf("x").reaches(1.4, 1.4) && Unit::TimesOf("x").reaches(1.404, 1.4));
        assert!(!Unit::TimesOf("x").reaches(1.406, 1.4) && !Unit::TimesOf("x").reaches(f64::NAN, 1.4));
        assert!(Unit::Requests.reaches(0.0, 0.0) && !Unit::Requests.reaches(1.0, 0.0));
        assert!(!Unit::Mebibytes.reaches(32.1, 32.0));
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands("idle, 10000 objects"), "idle, 10,000 objects");
        assert_eq!(thousands("100 of 900 KiB"), "100 of 900 KiB");
    }
}

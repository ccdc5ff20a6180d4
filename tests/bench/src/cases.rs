//! The cases, one group after the other.

mod large;
mod many;
mod namespaces;
mod push;
mod thousand;

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use crate::load::Load;
use crate::report::Report;
use crate::world::{Running, World, is_secret_write, is_status_write};
use crate::{Options, say};

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// 1,000 objects, from the operator's start until all is written
    Cold,
    /// The same, with 5 ms added to each of Conjur's answers
    Latency,
    /// A refresh of the 1,000 in which nothing changed
    Refresh,
    /// A refresh in which every value changed
    Changed,
    /// 10,000 objects: cold, restarted, idle
    Many,
    /// New objects while the 10,000 are refreshed
    Newcomer,
    /// 3,000 objects in one namespace, and the same over 500
    Namespaces,
    /// 100 Secrets of 900 KiB
    Large,
    /// 1,000 pushes: cold, looked at, and values that change meanwhile
    Push,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Objects of the cases that are compared with the bare writer.
    pub objects: usize,
    /// Objects of the large case.
    pub many: usize,
    /// Objects of the case of namespaces.
    pub wide: usize,
    /// And the namespaces.
    pub namespaces: usize,
    /// Variables an object.
    pub each: usize,
    /// Secrets of 900 KiB.
    pub large: usize,
    /// Objects that are made while others are refreshed.
    pub newcomers: usize,
    /// The interval of the refreshes.
    pub interval: Duration,
    /// How long idleness is watched.
    pub idle: Duration,
}

impl Size {
    fn of(options: &Options) -> Self {
        let seconds = Duration::from_secs;
        if options.small {
            let (interval, idle) = (seconds(10), seconds(1));
            return Self {
                objects: 20,
                many: 40,
                wide: 20,
                namespaces: 5,
                each: 5,
                large: 3,
                newcomers: 3,
                interval,
                idle,
            };
        }
        let (interval, idle) = (seconds(30), seconds(30));
        Self {
            objects: 1000,
            many: 10_000,
            wide: 3000,
            namespaces: 500,
            each: 5,
            large: 100,
            newcomers: 60,
            interval,
            idle,
        }
    }
}

/// Runs what was asked for.
pub async fn run(world: &World, options: &Options, report: &mut Report) -> Result<()> {
    let size = Size::of(options);
    let asked = |cases: &[Case]| cases.iter().any(|case| options.cases.contains(case));
    if asked(&[Case::Cold, Case::Latency, Case::Refresh, Case::Changed]) {
        thousand::run(world, options, size, report).await?;
    }
    if asked(&[Case::Many, Case::Newcomer]) {
        many::run(world, options, size, report).await?;
    }
    if asked(&[Case::Namespaces]) {
        namespaces::run(world, size, report).await?;
    }
    if asked(&[Case::Large]) {
        large::run(world, size, report).await?;
    }
    if asked(&[Case::Push]) {
        push::run(world, options, size, report).await?;
    }
    Ok(())
}

/// What a start with everything to do came to.
pub struct Cold<'a> {
    /// The operator, which goes on.
    pub running: Running<'a>,
    /// Until every Secret was there.
    pub secrets: Duration,
    /// Until every status was, too.
    pub all: Duration,
}

/// Starts the operator before objects that it has never seen.
pub async fn cold<'a>(world: &'a World, load: &Load, more: &[&str]) -> Result<Cold<'a>> {
    let mut running = world.operator(more).await?;
    let deadline = Duration::from_secs(600);
    running.reaches("conjur_operator_secret_writes_total", "create", load.objects, deadline).await?;
    let secrets = running.answered(load.objects, is_secret_write).await?;
    let all = running.answered(load.objects, is_status_write).await?.max(secrets);
    let there = load.secrets_there(&world.client).await?;
    anyhow::ensure!(there == load.objects, "{there} Secrets of {}", load.objects);
    let since = |until: Timestamp| Duration::try_from(until.duration_since(running.started));
    let (secrets, all) = (since(secrets)?, since(all)?);
    say(format!("  {} objects: Secrets after {secrets:.2?}, statuses after {all:.2?}", load.objects));
    Ok(Cold { running, secrets, all })
}

/// Waits until the middle between two slots of the refresh grid, so that a window of one interval holds each slot once.
pub async fn between_slots(interval: Duration) {
    let gap = i128::try_from(interval.as_nanos()).unwrap_or(1) / 16;
    let phase = Timestamp::now().as_nanosecond().rem_euclid(gap);
    let wait = (gap * 3 / 4 - phase).rem_euclid(gap);
    tokio::time::sleep(Duration::from_nanos(u64::try_from(wait).unwrap_or_default())).await;
}

/// One figure of several; the median.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

//! 1,000 objects, against the bare writer: cold, with latency, an unchanged refresh, all values changed.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::{Case, Size, between_slots, cold, median};
use crate::load::{Load, NEVER, VALUE};
use crate::report::{Report, Unit, listed};
use crate::world::{Running, World, is_secret_write, is_status_write};
use crate::{Options, say, writer};

/// The figures of one run after the other.
#[derive(Default)]
struct Figures {
    floor: Vec<f64>,
    floor_again: Vec<f64>,
    cold: Vec<f64>,
    cold_secrets: Vec<f64>,
    cold_requests: Vec<f64>,
    authenticates: Vec<f64>,
    slow: Vec<f64>,
    refresh_requests: Vec<f64>,
    refresh_api: Vec<f64>,
    refresh_cpu: Vec<f64>,
    changed: Vec<f64>,
    memory: Vec<f64>,
    peak: Vec<f64>,
}

pub async fn run(world: &World, options: &Options, size: Size, report: &mut Report) -> Result<()> {
    let mut figures = Figures::default();
    let runs = if options.small { 1 } else { options.runs.max(1) };
    for run in 0..runs {
        say(format!("{} objects, run {} of {runs}", size.objects, run + 1));
        floor(world, size, run, options, &mut figures).await?;
        let load = Load { namespace: format!("cold{run}"), objects: size.objects, each: size.each };
        let key = load.variables(&world.conjur, VALUE, 0).await?;
        load.connection(world, &key).await?;
        load.make_objects(&world.client, NEVER).await?;
        let begun = cold(world, &load, &[]).await?;
        figures.cold.push(begun.all.as_secs_f64());
        figures.cold_secrets.push(begun.secrets.as_secs_f64());
        let mut running = begun.running;
        let requests = running.conjur_requests().await?;
        say(format!("  Conjur: {}", listed(&requests)));
        figures.cold_requests.push(total(&requests));
        let authenticates = requests.get("authenticate").copied().unwrap_or_default();
        figures.authenticates.push(as_figure(authenticates));
        let asked = |cases: &[Case]| cases.iter().any(|case| options.cases.contains(case));
        if asked(&[Case::Refresh, Case::Changed]) {
            refresh(world, &load, size, &mut running, &mut figures).await?;
        }
        if asked(&[Case::Changed]) {
            changed(world, &load, size, &mut running, &mut figures).await?;
        }
        let cost = running.cost()?;
        say(format!("  {:.1} MiB resident, {:.1} at most", cost.resident, cost.peak));
        figures.memory.push(cost.resident);
        figures.peak.push(cost.peak);
        running.end().await?;
        load.remove(&world.client).await?;
        if asked(&[Case::Latency]) {
            load.make_objects(&world.client, NEVER).await?;
            world.latency(5).await?;
            let begun = cold(world, &load, &[]).await;
            world.latency(0).await?;
            let begun = begun?;
            figures.slow.push(begun.all.as_secs_f64());
            begun.running.end().await?;
        }
        load.leave(&world.client).await?;
    }
    tell(&figures, size, options, report);
    Ok(())
}

/// The bare writer's times, in a namespace of its own that is gone before the operator starts.
async fn floor(
    world: &World,
    size: Size,
    run: usize,
    options: &Options,
    figures: &mut Figures,
) -> Result<()> {
    let load = Load { namespace: format!("floor{run}"), objects: size.objects, each: size.each };
    load.namespace(&world.client).await?;
    let objects = load.make_objects(&world.client, NEVER).await?;
    let made = writer::write(&world.writer, &load.namespace, &objects, size.each, 0).await?;
    figures.floor.push(made.as_secs_f64());
    say(format!("  the bare writer makes them in {made:.2?}"));
    if options.cases.contains(&Case::Changed) {
        let replaced = writer::write(&world.writer, &load.namespace, &objects, size.each, 1).await?;
        figures.floor_again.push(replaced.as_secs_f64());
        say(format!("  and replaces them in {replaced:.2?}"));
    }
    load.remove(&world.client).await
}

async fn refresh(
    world: &World,
    load: &Load,
    size: Size,
    running: &mut Running<'_>,
    figures: &mut Figures,
) -> Result<()> {
    say("  an unchanged refresh");
    running.count_from_now().await?;
    load.set_interval(&world.client, &format!("{}s", size.interval.as_secs())).await?;
    running.answered(load.objects, is_status_write).await?;
    // The first refresh goes by.
    tokio::time::sleep(size.interval).await;
    between_slots(size.interval).await;
    running.count_from_now().await?;
    let before = running.cost()?;
    tokio::time::sleep(size.interval).await;
    let after = running.cost()?;
    let requests = running.conjur_requests().await?;
    let api = running.api_requests()?;
    let cpu = after.cpu.checked_sub(before.cpu).context("time goes backwards")?;
    say(format!("  Conjur: {}; API server: {}; {cpu:.2?} of a processor", listed(&requests), api.len()));
    figures.refresh_api.push(as_figure(api.len()));
    figures.refresh_requests.push(total(&requests));
    figures.refresh_cpu.push(cpu.as_secs_f64());
    Ok(())
}

/// The operator sleeps while everything falls due, so that all of it is due at once when it wakes.
async fn changed(
    world: &World,
    load: &Load,
    size: Size,
    running: &mut Running<'_>,
    figures: &mut Figures,
) -> Result<()> {
    say("  all values change, and then everything is due at once");
    let (name, labels) = ("conjur_operator_secret_writes_total", "update");
    let before = running.metric(name, labels).await;
    running.signal("STOP")?;
    load.change(&world.conjur, "changed", VALUE).await?;
    tokio::time::sleep(size.interval).await;
    between_slots(size.interval).await;
    running.count_from_now().await?;
    let woken = Timestamp::now();
    running.signal("CONT")?;
    let deadline = Duration::from_secs(300);
    running.reaches(name, labels, before + load.objects, deadline).await?;
    let secrets = running.answered(load.objects, is_secret_write).await?;
    let all = running.answered(load.objects, is_status_write).await?.max(secrets);
    let took = Duration::try_from(all.duration_since(woken))?;
    say(format!("  written again after {took:.2?}; Conjur: {}", listed(&running.conjur_requests().await?)));
    figures.changed.push(took.as_secs_f64());
    Ok(())
}

fn tell(figures: &Figures, size: Size, options: &Options, report: &mut Report) {
    let asked = |case: Case| options.cases.contains(&case);
    let n = size.objects;
    let ratios = |of: &[f64], to: &[f64]| of.iter().zip(to).map(|(a, b)| a / b).collect::<Vec<_>>();
    report.raw("bare writer, seconds", &figures.floor);
    report.raw("cold until every Secret, seconds", &figures.cold_secrets);
    report.raw("cold until every status, seconds", &figures.cold);
    report.figure("object_seconds", median(figures.cold.clone()) / as_figure(n));
    if asked(Case::Cold) {
        let case = format!("{n} objects cold, time");
        let all = ratios(&figures.cold, &figures.floor);
        report.row(&case, 1.4, Unit::TimesOf("bare writer"), &all);
        report.row(&format!("{n} objects cold, at Conjur"), 40.0, Unit::Requests, &figures.cold_requests);
        report.row(&format!("{n} objects cold, logins"), 1.0, Unit::Requests, &figures.authenticates);
    }
    if asked(Case::Latency) {
        report.raw("cold with 5 ms latency, seconds", &figures.slow);
        let case = "the same, Conjur 5 ms slower";
        report.row(case, 1.2, Unit::TimesOf("without"), &ratios(&figures.slow, &figures.cold));
    }
    if asked(Case::Refresh) {
        let case = |what| format!("unchanged refresh of {n}, {what}");
        report.row(&case("at Conjur"), 40.0, Unit::Requests, &figures.refresh_requests);
        report.row(&case("at the API server"), 0.0, Unit::Requests, &figures.refresh_api);
        report.row(&case("processor"), 0.3, Unit::CpuSeconds, &figures.refresh_cpu);
    }
    if asked(Case::Changed) {
        report.raw("bare writer replacing, seconds", &figures.floor_again);
        report.raw("all values changed, seconds", &figures.changed);
        let case = format!("{} values changed, then due", n * size.each);
        let all = ratios(&figures.changed, &figures.floor_again);
        report.row(&case, 1.7, Unit::TimesOf("bare writer"), &all);
        report.row(&format!("memory after it, {n} objects"), 32.0, Unit::Mebibytes, &figures.memory);
        report.raw("the most that was resident, MiB", &figures.peak);
    }
}

fn total(requests: &std::collections::BTreeMap<String, usize>) -> f64 {
    as_figure(requests.values().sum())
}

fn as_figure(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

//! 10,000 objects: cold, idle, restarted, and new ones among them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use conjur_operator::api::{ConjurSecret, condition};
use futures::TryStreamExt as _;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};

use super::{Case, Size, cold};
use crate::load::{Load, NEVER, VALUE};
use crate::report::{Report, Unit, listed};
use crate::world::{World, is_status_write};
use crate::{Options, say, writer};

/// As the chart runs it.
const AS_A_POD: &[&str] = &["--leader-elect"];

pub async fn run(world: &World, options: &Options, size: Size, report: &mut Report) -> Result<()> {
    let load = Load { namespace: "many0".to_owned(), objects: size.many, each: size.each };
    let n = load.objects;
    if options.cases.contains(&Case::Many) {
        say(format!("{n} objects by the bare writer"));
        let floor = Load { namespace: "floorm".to_owned(), ..load.clone() };
        floor.namespace(&world.client).await?;
        let objects = floor.make_objects(&world.client, NEVER).await?;
        let took = writer::write(&world.writer, &floor.namespace, &objects, size.each, 0).await?;
        say(format!("  {took:.2?}"));
        report.raw(&format!("bare writer, {n} objects, seconds"), &[took.as_secs_f64()]);
        floor.remove(&world.client).await?;
    }
    say(format!("{n} objects cold"));
    let key = load.variables(&world.conjur, VALUE, size.newcomers).await?;
    load.connection(world, &key).await?;
    load.make_objects(&world.client, NEVER).await?;
    let begun = cold(world, &load, AS_A_POD).await?;
    let requests = begun.running.conjur_requests().await?;
    say(format!("  Conjur: {}", listed(&requests)));
    report.raw(&format!("cold, {n} objects, seconds"), &[begun.all.as_secs_f64()]);
    let each = begun.all.as_secs_f64() / f64::from(u32::try_from(n)?);
    if let Some(small) = report.figure_of("object_seconds").filter(|_| options.cases.contains(&Case::Many)) {
        let unit = Unit::TimesOf(if options.small { "fewer, per object" } else { "1,000, per object" });
        report.row(&format!("{n} objects cold, time"), 1.1, unit, &[each / small]);
    }
    let mut running = begun.running;
    if options.cases.contains(&Case::Many) {
        say("  idle");
        tokio::time::sleep(Duration::from_secs(5).min(size.idle)).await;
        let before = running.cost()?;
        let started = Instant::now();
        tokio::time::sleep(size.idle).await;
        let used = running.cost()?.cpu.saturating_sub(before.cpu).as_secs_f64();
        let share = 100.0 * used / started.elapsed().as_secs_f64();
        report.row(&format!("idle, {n} objects not due"), 0.5, Unit::PercentOfACore, &[share]);
        say(format!("  {share:.2} % of a core; {:.1} MiB resident", before.resident));
        report.raw("memory after the cold start, MiB", &[before.resident]);
        running.end().await?;
        say("  restarted");
        running = world.operator(AS_A_POD).await?;
        let (metric, kind) = ("conjur_operator_reconciles_total", "ConjurSecret");
        running.reaches(metric, kind, n, Duration::from_secs(120)).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let requests = running.conjur_requests().await?;
        let api = running.api_requests()?;
        let writes = api.iter().filter(|r| r.verb != "get" && r.verb != "list").count();
        say(format!("  Conjur: {}; writes at the API server: {writes}", listed(&requests)));
        let fetches = ["batch", "single"].iter().filter_map(|kind| requests.get(*kind)).sum::<usize>();
        let fetches = f64::from(u32::try_from(fetches)?);
        report.row(&format!("restart with {n} in place, fetches"), 0.0, Unit::Requests, &[fetches]);
        let writes = f64::from(u32::try_from(writes)?);
        report.row(&format!("restart with {n} in place, writes"), 0.0, Unit::Requests, &[writes]);
    }
    if options.cases.contains(&Case::Newcomer) {
        newcomers(world, &load, size, report, &mut running).await?;
    }
    let cost = running.cost()?;
    say(format!("  {:.1} MiB resident, {:.1} at most", cost.resident, cost.peak));
    report.row(&format!("memory after it, {n} objects"), 100.0, Unit::Mebibytes, &[cost.resident]);
    report.raw(&format!("the most that was resident, {n} objects, MiB"), &[cost.peak]);
    running.end().await?;
    load.leave(&world.client).await
}

/// All values change all the time, and every refresh writes; meanwhile objects are made one after the other.
async fn newcomers(
    world: &World,
    load: &Load,
    size: Size,
    report: &mut Report,
    running: &mut crate::world::Running<'_>,
) -> Result<()> {
    // Twice as long as elsewhere: a tenth of this many objects is what is written in the same time there.
    let interval = size.interval * 2;
    say(format!("  new objects while {} are refreshed every {} s", load.objects, interval.as_secs()));
    running.count_from_now().await?;
    load.set_interval(&world.client, &format!("{}s", interval.as_secs())).await?;
    running.answered(load.objects, is_status_write).await?;
    let changing = async {
        for round in 0.. {
            load.change(&world.conjur, &format!("round {round}"), VALUE).await?;
            tokio::time::sleep(interval / 2).await;
        }
        anyhow::Ok(())
    };
    let api: Api<ConjurSecret> = Api::namespaced(world.client.clone(), &load.namespace);
    let making = async {
        tokio::time::sleep(interval / 4).await;
        let mut times = Vec::new();
        for at in 0..size.newcomers {
            let object: ConjurSecret = serde_json::from_value(load.object(load.objects + at, NEVER))?;
            times.push(until_ready(&api, object).await?.as_secs_f64());
            // Spread over one interval, so that each slot is met.
            tokio::time::sleep(interval / u32::try_from(size.newcomers)?).await;
        }
        anyhow::Ok(times)
    };
    let writes = running.metric("conjur_operator_secret_writes_total", "update").await;
    let mut times = tokio::select! {
        ended = changing => anyhow::bail!("the values stopped changing: {ended:?}"),
        times = making => times?,
    };
    let writes = running.metric("conjur_operator_secret_writes_total", "update").await - writes;
    times.sort_by(f64::total_cmp);
    let at = (times.len() * 95).div_ceil(100).saturating_sub(1);
    let slowest = times.get(at).copied().context("no new object")?;
    say(format!(
        "  Ready after {:.2} s, {slowest:.2} s at the 95th percentile; {writes} Secrets written",
        times[times.len() / 2]
    ));
    report.raw("a new object's seconds until Ready", &times);
    let case = format!("a new object while {} refresh", load.objects);
    report.row(&case, 2.0, Unit::SecondsAt95, &[slowest]);
    Ok(())
}

async fn until_ready(api: &Api<ConjurSecret>, object: ConjurSecret) -> Result<Duration> {
    let name = object.name_any();
    let started = Instant::now();
    let made = api.create(&PostParams::default(), &object).await?;
    let version = made.resource_version().unwrap_or_default();
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(api.watch(&params, &version).await?);
    let ready = async {
        while let Some(event) = events.try_next().await? {
            if let WatchEvent::Modified(object) = event
                && let Some(conditions) = object.status.and_then(|status| status.conditions)
                && condition::is_true(&conditions, condition::READY)
            {
                return Ok(());
            }
        }
        anyhow::bail!("the watch of {name} ended")
    };
    tokio::time::timeout(Duration::from_secs(60), ready)
        .await
        .with_context(|| format!("{name} is not Ready"))??;
    Ok(started.elapsed())
}

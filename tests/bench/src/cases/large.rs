//! 100 Secrets of 900 KiB: what is in flight is bounded in bytes, not only in number.

use anyhow::Result;

use super::{Size, cold};
use crate::load::{Load, NEVER};
use crate::report::{Report, Unit, listed};
use crate::say;
use crate::world::World;

const BYTES: usize = 900 * 1024;

pub async fn run(world: &World, size: Size, report: &mut Report) -> Result<()> {
    let load = Load { namespace: "large0".to_owned(), objects: size.large, each: 1 };
    say(format!("{} Secrets of {} KiB", load.objects, BYTES / 1024));
    let key = load.variables(&world.conjur, BYTES, 0).await?;
    load.connection(world, &key).await?;
    load.make_objects(&world.client, NEVER).await?;
    let begun = cold(world, &load, &[]).await?;
    let cost = begun.running.cost()?;
    say(format!("  Conjur: {}", listed(&begun.running.conjur_requests().await?)));
    say(format!("  {:.1} MiB resident, {:.1} at most", cost.resident, cost.peak));
    report.raw("large Secrets cold, seconds", &[begun.all.as_secs_f64()]);
    let case = format!("{} Secrets of 900 KiB, memory", load.objects);
    report.row(&case, 128.0, Unit::MebibytesAtMost, &[cost.peak]);
    begun.running.end().await?;
    load.leave(&world.client).await
}

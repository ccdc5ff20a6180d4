//! What attackers do with their objects: they edit, ask for a sync at once, remove and make anew, all the time.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::Rng as _;
use serde_json::{Value, json};

use crate::apply;
use crate::kinds::Attack;
use crate::victims::hurry;
use crate::world::World;

/// Changes in a second, over all attackers.
const EACH_SECOND: u32 = 40;

/// Goes on until then; says what was done. A refused change is the attackers' own trouble.
pub async fn until(world: &World, attacks: Vec<Attack>, until: Instant) -> Result<Vec<String>> {
    let mut told: Vec<String> = attacks.iter().map(|attack| attack.told.clone()).collect();
    let objects: Vec<&Value> = attacks.iter().flat_map(|attack| &attack.objects).collect();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / EACH_SECOND);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut done, mut refused) = (0_usize, 0_usize);
    while Instant::now() < until && !objects.is_empty() {
        tick.tick().await;
        let (which, what) = {
            let mut random = rand::rng();
            (random.random_range(0..objects.len()), random.random_range(0..20))
        };
        let outcome = act(world, objects[which], what).await;
        done += 1;
        refused += usize::from(outcome.is_err());
    }
    told.push(format!("{done} edits, sync-nows, removals and new objects; {refused} refused"));
    Ok(told)
}

async fn act(world: &World, object: &Value, what: u32) -> Result<()> {
    match what {
        0..12 => hurry(&world.client, object).await,
        12..18 => {
            let seconds = u32::try_from(jiff::Timestamp::now().as_second() % 3000).unwrap_or_default() + 10;
            let field =
                if object["kind"] == "ConjurSecret" { "refreshInterval" } else { "driftCheckInterval" };
            let spec = match object["kind"].as_str() {
                Some("ConjurConnection") => {
                    json!({ "spec": { "tokenRefreshInterval": format!("{seconds}s") } })
                }
                Some("ConjurSecret" | "ConjurPolicy") => json!({ "spec": { field: format!("{seconds}s") } }),
                _ => json!({ "metadata": { "annotations": { "edited": format!("{seconds}") } } }),
            };
            apply::change(&world.client, object, &spec).await
        }
        _ => {
            apply::remove(&world.client, object).await.ok();
            apply::make(&world.client, object).await
        }
    }
}

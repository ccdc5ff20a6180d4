//! What attackers do with their objects: they make them, edit, ask for a sync at once, remove and make anew, and forge
//! statuses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt as _, stream};
use rand::Rng as _;
use serde_json::{Value, json};

use crate::apply;
use crate::kinds::{Kind, forged};
use crate::victims::hurry;
use crate::world::World;

/// New objects in a second, over all attackers: what the control plane takes beside everything else.
const MADE_EACH_SECOND: u32 = 120;
/// Changes in a second, over all attackers.
const CHANGED_EACH_SECOND: u32 = 40;

/// Makes all objects and goes on until then; says what was done. A refused change is the attackers' own trouble.
pub async fn until(world: &World, attacks: &[(Kind, Vec<Value>)], until: Instant) -> Vec<String> {
    let objects = in_turns(attacks);
    let begun = AtomicUsize::new(0);
    let taken: Vec<AtomicUsize> = attacks.iter().map(|_| AtomicUsize::new(0)).collect();
    let making = stream::iter(&objects).map(|(of, object)| {
        let taken = &taken[*of];
        async move {
            if apply::make(&world.client, object).await.is_ok() {
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let making = async {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / MADE_EACH_SECOND);
        let mut making = making.buffered(8);
        while Instant::now() < until && making.next().await.is_some() {
            begun.fetch_add(1, Ordering::Relaxed);
            tick.tick().await;
        }
    };
    let ((), changed) = tokio::join!(making, change(world, &objects, &begun, until));
    let told = attacks.iter().zip(&taken).map(|((kind, all), taken)| {
        format!("{} {}/{}", kind.name(), taken.load(Ordering::Relaxed), all.len())
    });
    vec![format!("objects made: {}", told.collect::<Vec<_>>().join(", ")), changed]
}

/// All objects with the number of their kind: one of each kind, then the next of each.
fn in_turns(attacks: &[(Kind, Vec<Value>)]) -> Vec<(usize, &Value)> {
    let longest = attacks.iter().map(|(_, objects)| objects.len()).max().unwrap_or_default();
    let turn =
        |at: usize| attacks.iter().enumerate().filter_map(move |(of, (_, all))| Some((of, all.get(at)?)));
    (0..longest).flat_map(turn).collect()
}

async fn change(world: &World, objects: &[(usize, &Value)], begun: &AtomicUsize, until: Instant) -> String {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / CHANGED_EACH_SECOND);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut done, mut refused) = (0_usize, 0_usize);
    while Instant::now() < until {
        tick.tick().await;
        let there = begun.load(Ordering::Relaxed).min(objects.len());
        if there == 0 {
            continue;
        }
        let (which, what) = {
            let mut random = rand::rng();
            (random.random_range(0..there), random.random_range(0..21))
        };
        let outcome = act(world, objects[which].1, what).await;
        done += 1;
        refused += usize::from(outcome.is_err());
    }
    format!("{done} edits, sync-nows, removals, new objects and forged statuses; {refused} refused")
}

async fn act(world: &World, object: &Value, what: u32) -> Result<()> {
    match what {
        0..12 => hurry(&world.client, object).await,
        12..18 => apply::change(&world.client, object, &edit(object)).await,
        18..20 => {
            apply::remove(&world.client, object).await.ok();
            apply::make(&world.client, object).await
        }
        _ => forge(world, object).await,
    }
}

/// An edit after which the operator has something to do.
fn edit(object: &Value) -> Value {
    let seconds = u32::try_from(jiff::Timestamp::now().as_second() % 3000).unwrap_or_default() + 10;
    let text = format!("{seconds}s");
    match object["kind"].as_str() {
        Some("ConjurConnection") => json!({ "spec": { "tokenRefreshInterval": text } }),
        Some("ConjurSecret") => json!({ "spec": { "refreshInterval": text } }),
        Some("ConjurPolicy" | "ConjurPush") => json!({ "spec": { "driftCheckInterval": text } }),
        Some("ConjurHost") => {
            json!({ "metadata": { "annotations": { "conjur-operator.io/rotate-now": text } } })
        }
        Some("Secret") => {
            json!({ "metadata": { "annotations": { "edited": text } }, "stringData": { "edited": text } })
        }
        _ => json!({ "metadata": { "annotations": { "edited": text } } }),
    }
}

/// Writes into a status what is not so. The operator's roles let no tenant do that; another role may.
async fn forge(world: &World, object: &Value) -> Result<()> {
    let there = apply::api_of(&world.client, object)?.get(apply::name_of(object)).await?;
    let server = there.data.pointer("/status/applied/server").and_then(Value::as_str).unwrap_or_default();
    match forged(object["kind"].as_str().unwrap_or_default(), server) {
        Some(status) => apply::change_status(&world.client, object, &status).await,
        None => hurry(&world.client, object).await,
    }
}

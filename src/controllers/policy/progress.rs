//! What the status says while a load is under way.

use std::{pin::pin, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, to_value};

use super::{Seen, document::Content};
use crate::{
    api::{
        Reason,
        condition::{State, conditions},
    },
    conjur::Lane,
    controllers::{Context, Reconcile, report},
};

/// Loads that take less say nothing: most do.
const SILENT: Duration = Duration::from_secs(2);

/// Waits for a load, and says so in the status where it takes long.
pub async fn shown<T>(load: impl Future<Output = T>, seen: &Seen<'_>, content: &Content, ctx: &Context) -> T {
    let since = Timestamp::now();
    let mut load = pin!(load);
    if let Ok(done) = tokio::time::timeout(SILENT, &mut load).await {
        return done;
    }
    let (said, done) = tokio::join!(say(seen, content, since, ctx), load);
    if let Err(error) = said {
        // It is for people to look at only.
        tracing::debug!(name = seen.owner.name, "cannot say that a load is under way: {error}");
    }
    done
}

async fn say(
    seen: &Seen<'_>,
    content: &Content,
    since: Timestamp,
    ctx: &Context,
) -> Result<(), crate::cluster::Error> {
    let message = format!(
        "loading {} bytes with {} records into branch {}, since {}",
        content.text.as_str().len(),
        content.document.records.len(),
        seen.branch,
        Timestamp::from_second(since.as_second()).unwrap_or(since)
    );
    let (_, old) = seen.object.conditions();
    let generation = seen.object.metadata.generation;
    let new = conditions(old, State::Waiting, Reason::Loading, &message, generation, Timestamp::now());
    let mut fields = Map::new();
    fields.insert("conditions".into(), to_value(&new).unwrap_or_default());
    report::write_fields(seen.object, fields, Lane::Foreground, ctx).await
}

//! How Conjur shows variables: by the pages of the list, which all objects of an identity share, or one by one where they are few.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::queue::ShownVariables;
use crate::{
    api::{ADOPT_ANNOTATION, CREATED_ANNOTATION, OWNER_ANNOTATION},
    conjur::{Catalogue, Freshness, Lane, Listed, Listing, Page},
    controllers::{Context, connection::pool::ReadyConnection},
    plan::{Failure, push::decide::ShownVariable},
};

/// So many shown one by one take as long as a page of the list (1,000 records).
const AS_LONG_AS_A_PAGE: u64 = 20;
/// How long ago the list may have begun that tells what is missing: as long as for the objects that miss it.
const LATELY: Duration = Duration::from_secs(5);
/// So many are shown at once.
const AT_ONCE: usize = 4;

/// Those of some variables that a list has.
pub fn shown_in<'i>(list: &Catalogue, ids: impl Iterator<Item = &'i String>) -> ShownVariables {
    ids.filter_map(|id| Some((id.clone(), of_listed(list.get(id)?)))).collect()
}

/// Variables, as Conjur shows them from now on.
///
/// # Errors
/// The connection's, or the list's.
pub async fn shown(
    ids: &[String],
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<ShownVariables, Failure> {
    Ok(look(ids, Freshness::Since(Instant::now()), through, ctx).await?.0)
}

/// The same, or as the list showed them that was walked through a moment ago, where they are many. Whether it is as from now on.
///
/// # Errors
/// The connection's, or the list's.
pub async fn shown_lately(
    ids: &[String],
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<(ShownVariables, bool), Failure> {
    look(ids, Freshness::NoOlderThan(LATELY), through, ctx).await
}

async fn look(
    ids: &[String],
    freshness: Freshness,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<(ShownVariables, bool), Failure> {
    let failed = |error| ctx.clients.failure(through, error);
    let asked = u64::try_from(ids.len()).unwrap_or(u64::MAX);
    let few = asked <= AS_LONG_AS_A_PAGE || {
        let count = through.client.count_resources(&Listing::of_kind("variable")).await.map_err(failed)?;
        asked / AS_LONG_AS_A_PAGE <= count / u64::from(Page::FIRST.limit)
    };
    if few {
        return Ok((each(ids, through, ctx).await?, true));
    }
    let list = through.client.list_variables(None, Lane::Foreground, freshness).await.map_err(failed)?;
    Ok((shown_in(&list, ids.iter()), false))
}

/// The same, one by one, which tells in which branch each was made.
///
/// # Errors
/// The connection's.
pub async fn each(
    ids: &[String],
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<ShownVariables, Failure> {
    let shows: Vec<_> = ids.iter().map(|id| show(id, through, ctx)).collect();
    let all: Vec<_> = stream::iter(shows).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(all.into_iter().flatten().collect::<HashMap<_, _>>())
}

async fn show(
    id: &str,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<Option<(String, ShownVariable)>, Failure> {
    let shown = through.client.show_resource("variable", id).await;
    let shown = shown.map_err(|error| ctx.clients.failure(through, error))?;
    Ok(shown.map(|resource| {
        let annotation = |name: &str| {
            let all = resource.annotations.iter();
            all.filter(|a| a.name == name).map(|a| a.value.clone()).next_back()
        };
        let version = resource.secrets.iter().map(|version| version.version).max();
        let branch = resource.policy.as_deref().and_then(|policy| policy.split_once(":policy:"));
        let branch = branch.map(|(_, branch)| branch.to_owned());
        let shown = of(annotation, version, resource.created_at.parse().ok());
        (id.to_owned(), ShownVariable { branch, ..shown })
    }))
}

fn of_listed(listed: &Listed) -> ShownVariable {
    of(|name| listed.annotation(name).map(str::to_owned), listed.mark().version, listed.made_at())
}

fn of(
    annotation: impl Fn(&str) -> Option<String>,
    version: Option<u32>,
    made: Option<Timestamp>,
) -> ShownVariable {
    ShownVariable {
        owner: annotation(OWNER_ANNOTATION),
        created: annotation(CREATED_ANNOTATION).as_deref() == Some("true"),
        adopt: annotation(ADOPT_ANNOTATION),
        version,
        made: made.map(|made| made.as_millisecond().to_string()).unwrap_or_default(),
        branch: None,
    }
}

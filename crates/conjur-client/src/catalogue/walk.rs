//! Through the pages of the list of variables, keeping little of each.

use std::borrow::Cow;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fmt::{self, Write};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use tokio::time::Instant;

use super::list::{Listed, Mark};
use crate::budget::{Budget, Party, Taken};
use crate::error::Error;
use crate::gate::Priority;
use crate::http::Call;
use crate::id;
use crate::limits::{ANSWERS_PATIENCE, ID_BYTES, LIST_BYTES, Limit, PAGE_BYTES, hit};
use crate::observe::Endpoint;
use crate::pages::{Page, Pages, Turn, asks_for_less, lost, no_room};
use crate::response;
use crate::session::{BODY_LIMIT, Session, longer, unreadable};

#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    created_at: Cow<'a, str>,
    #[serde(borrow, default)]
    annotations: Vec<Note<'a>>,
    #[serde(default)]
    secrets: Newest,
}

#[derive(Deserialize)]
struct Note<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

/// The largest number of the versions that are listed.
#[derive(Default)]
struct Newest(Option<u32>);

impl<'de> Deserialize<'de> for Newest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        struct Versions;
        impl<'de> Visitor<'de> for Versions {
            type Value = Newest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of versions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut versions: A) -> Result<Newest, A::Error> {
                let mut newest = None;
                while let Some(Version { version }) = versions.next_element()? {
                    newest = newest.max(Some(version));
                }
                Ok(Newest(newest))
            }
        }
        deserializer.deserialize_seq(Versions)
    }
}

impl Shown<'_> {
    fn keep(self, prefix: &str) -> Listed {
        Listed {
            id: self.id.strip_prefix(prefix).unwrap_or(&self.id).into(),
            annotations: self.annotations.into_iter().map(|n| (n.name.into(), n.value.into())).collect(),
            mark: Mark::of(self.secrets.0, &self.created_at),
            made_at: self.created_at.parse().ok(),
        }
    }
}

/// All pages, one after the other, and what they take of the memory for lists.
pub(super) async fn walk(
    session: &Session,
    search: Option<&str>,
    priority: Priority,
) -> Result<(Vec<Listed>, Taken), Error> {
    let deadline = longer(&session.limits);
    // What it waits for room is not the server's fault.
    let walk = tokio::time::timeout(deadline + ANSWERS_PATIENCE, all_pages(session, search, priority));
    walk.await.unwrap_or_else(|_| {
        let (url, seconds) = (session.transport.url(), deadline.as_secs());
        let message = format!("the list of variables at {url} was not read to its end within {seconds} s");
        Err(Error::unavailable(message))
    })
}

async fn all_pages(
    session: &Session,
    search: Option<&str>,
    priority: Priority,
) -> Result<(Vec<Listed>, Taken), Error> {
    let (mut found, mut pages) = (Vec::<Listed>::new(), Pages::from_the_first());
    // Hashes, with a key of their own: a hundred bytes of id are eight.
    let (mut seen, hasher) = (HashSet::new(), RandomState::new());
    let mut memory =
        Memory::of(session.transport.memory().lists(), session.transport.party(), ANSWERS_PATIENCE);
    loop {
        let page = match page(session, search, priority, &pages).await {
            Ok(page) => page,
            Err(error) if pages.may_halve() && asks_for_less(&error) => {
                pages.halve();
                continue;
            }
            Err(error) => return Err(error),
        };
        let hash = |listed: &Listed| hasher.hash_one(&listed.id);
        let known = page.first().is_some_and(|first| seen.contains(&hash(first)));
        let new = page.iter().filter(|listed| !seen.contains(&hash(listed))).count();
        let turn = match pages.turn(page.len(), new, known) {
            Turn::Back => continue,
            Turn::Lost(why) => return Err(lost("the list of variables", why, session)),
            turn => turn,
        };
        let bytes = page.iter().map(Listed::bytes).sum::<usize>();
        if memory.taken.amount() + bytes > LIST_BYTES {
            return Err(too_large(session));
        }
        if !memory.grow(bytes).await {
            return Err(no_room("the list of variables", session));
        }
        seen.extend(page.iter().map(hash));
        found.extend(page);
        if turn == Turn::Last {
            return Ok((found, memory.taken));
        }
    }
}

fn too_large(session: &Session) -> Error {
    hit(Limit::ListBytes);
    let (url, most) = (session.transport.url(), LIST_BYTES >> 20);
    let message = format!(
        "the list of variables at {url} takes over {most} MiB, which is all that is kept of one: narrow it by a search, or \
         by an identity that sees less"
    );
    Error::TooLarge { limit: LIST_BYTES, message }
}

/// What a walk takes of the memory for lists. It waits for its turn, all in all for as long as its patience; then it lets
/// go, for others may wait for what it holds.
struct Memory {
    taken: Taken,
    patience: Duration,
}

impl Memory {
    fn of(budget: &Arc<Budget>, party: &Party, patience: Duration) -> Self {
        Self { taken: budget.nothing(party), patience }
    }

    /// Whether there was room for so much more.
    async fn grow(&mut self, more: usize) -> bool {
        let start = Instant::now();
        let enough = self.taken.grow(more, self.patience).await;
        self.patience = self.patience.saturating_sub(start.elapsed());
        enough
    }
}

async fn page(
    session: &Session,
    search: Option<&str>,
    priority: Priority,
    pages: &Pages,
) -> Result<Vec<Listed>, Error> {
    let (account, Page { limit, offset }) = (&session.account, pages.page());
    let mut path = format!("resources/{}/variable?limit={limit}&offset={offset}", id::segment(account));
    if let Some(search) = search {
        // Writing to a String can't fail.
        write!(path, "&search={}", id::query(search)).ok();
    }
    let bytes = if pages.may_halve() { PAGE_BYTES } else { BODY_LIMIT };
    let call = Call { priority, limit: bytes, ..session.get(Endpoint::ListResources, path) };
    let answer = session.call(&call).await.map_err(|fault| fault.error)?;
    let about = session.about("the list of variables", "the right to list them");
    if !answer.is_success() {
        return Err(response::from_answer(&answer, about));
    }
    let shown: Vec<Shown<'_>> =
        serde_json::from_slice(answer.body.expose()).map_err(|error| unreadable(&answer, about, &error))?;
    let prefix = format!("{account}:variable:");
    // One that is too long to be asked for costs only itself.
    let usable = shown.into_iter().filter(|shown| shown.id.len() <= ID_BYTES);
    Ok(usable.map(|shown| shown.keep(&prefix)).collect())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_list_waits_for_its_turn_and_not_for_ever() {
        let patience = Duration::from_millis(200);
        let (budget, [a, b]) = (Budget::new(Limit::ListBytes, 90), ["a", "b"].map(Party::from));
        let other = budget.try_take(&a, 80).unwrap();
        let mut memory = Memory::of(&budget, &b, patience);
        assert!(memory.grow(10).await);
        let mut grows = memory.grow(60).boxed();
        assert!((&mut grows).now_or_never().is_none(), "it waits");
        drop(other);
        assert!(grows.await);
        let _other = budget.try_take(&a, 20).unwrap();
        let start = Instant::now();
        assert!(!memory.grow(60).await && !memory.grow(60).await);
        assert!(start.elapsed() < patience * 2, "once for all it waits for: {:?}", start.elapsed());
        assert_eq!(memory.taken.amount(), 70);
    }
}

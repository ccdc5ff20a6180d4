//! Through the pages of the list of variables, keeping little of each.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::{Listed, Mark};
use crate::conjur::error::{self, Error};
use crate::conjur::http::Call;
use crate::conjur::id;
use crate::conjur::observe::Endpoint;
use crate::conjur::pace::Lane;
use crate::conjur::pages::{Pages, Turn, asks_for_less, lost};
use crate::conjur::resources::Page;
use crate::conjur::session::{BODY_LIMIT, Session, unreadable};

/// An answer over this is asked for again by halves: it is held in memory as a whole.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

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
        let mut made = DefaultHasher::new();
        self.created_at.hash(&mut made);
        Listed {
            id: self.id.strip_prefix(prefix).unwrap_or(&self.id).into(),
            annotations: self.annotations.into_iter().map(|n| (n.name.into(), n.value.into())).collect(),
            mark: Mark { version: self.secrets.0, made: made.finish() },
        }
    }
}

/// All pages, one after the other.
pub(super) async fn walk(session: &Session, search: Option<&str>, lane: Lane) -> Result<Vec<Listed>, Error> {
    let (mut found, mut pages) = (Vec::<Listed>::new(), Pages::from_the_first());
    loop {
        let page = match page(session, search, lane, &pages).await {
            Ok(page) => page,
            Err(error) if pages.may_halve() && asks_for_less(&error) => {
                pages.halve();
                continue;
            }
            Err(error) => return Err(error),
        };
        let follows = |first: &Listed| found.iter().rev().any(|known| known.id == first.id);
        match pages.turn(page.len(), page.first().is_some_and(follows)) {
            Turn::More => found.extend(page),
            Turn::Last => {
                found.extend(page);
                return Ok(found);
            }
            Turn::Back => {}
            Turn::Lost => return Err(lost("the list of variables", session)),
        }
    }
}

async fn page(
    session: &Session,
    search: Option<&str>,
    lane: Lane,
    pages: &Pages,
) -> Result<Vec<Listed>, Error> {
    let (account, Page { limit, offset }) = (&session.account, pages.page());
    let mut path = format!("resources/{}/variable?limit={limit}&offset={offset}", id::segment(account));
    if let Some(search) = search {
        // Writing to a String can't fail.
        write!(path, "&search={}", id::query(search)).ok();
    }
    let bytes = if pages.may_halve() { PAGE_BYTES } else { BODY_LIMIT };
    let call = Call { lane, limit: bytes, ..session.get(Endpoint::ListResources, path) };
    let answer = session.call(&call).await.map_err(|fault| fault.error)?;
    let about = session.about("the list of variables", "the right to list them");
    if !answer.is_success() {
        return Err(error::from_answer(&answer, about));
    }
    let shown: Vec<Shown<'_>> =
        serde_json::from_slice(answer.body.expose()).map_err(|error| unreadable(&answer, about, &error))?;
    let prefix = format!("{account}:variable:");
    Ok(shown.into_iter().map(|shown| shown.keep(&prefix)).collect())
}

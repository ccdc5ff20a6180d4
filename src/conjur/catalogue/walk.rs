//! Through the pages of the list, so that nothing is missed.
//!
//! The server counts places, and what is removed meanwhile moves the others forward, over a page's edge. But it sorts by
//! id: while each page begins with a variable that an earlier one showed, no place between them was left out. So each
//! page begins with the last one of the page before, and where it does not, the walk goes back until it does.

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
use crate::conjur::session::{BODY_LIMIT, Session, unreadable};

/// The largest page (recording 419).
const LARGEST: usize = 1000;
/// A page that may be had with the largest answer: it is not halved any more.
const SMALLEST: usize = 16;
/// An answer over this is asked for again by halves: it is held in memory as a whole.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How often a walk goes back before it gives up.
const MOST_STEPS_BACK: u32 = 30;

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
    let (mut found, mut limit, mut offset) = (Vec::<Listed>::new(), LARGEST, 0);
    let (mut steps_back, mut step) = (0, 1);
    loop {
        let page = match page(session, search, lane, limit, offset).await {
            Ok(page) => page,
            // Too much for one answer; or the server's largest page is set below the usual.
            Err(Error::TooLarge { .. } | Error::Invalid { .. }) if limit / 2 >= SMALLEST => {
                limit /= 2;
                continue;
            }
            Err(error) => return Err(error),
        };
        let follows = |first: &Listed| found.iter().rev().any(|known| known.id == first.id);
        if offset > 0 && !page.first().is_some_and(follows) {
            steps_back += 1;
            if steps_back > MOST_STEPS_BACK {
                let url = session.transport.url();
                let message = format!("the list of variables at {url} changes faster than it can be read");
                return Err(Error::Unexpected { status: None, message });
            }
            offset = offset.saturating_sub(step);
            step *= 8;
            continue;
        }
        step = 1;
        let full = page.len() >= limit;
        offset += page.len().saturating_sub(1);
        found.extend(page);
        if !full {
            return Ok(found);
        }
    }
}

async fn page(
    session: &Session,
    search: Option<&str>,
    lane: Lane,
    limit: usize,
    offset: usize,
) -> Result<Vec<Listed>, Error> {
    let account = &session.account;
    let mut path = format!("resources/{}/variable?limit={limit}&offset={offset}", id::segment(account));
    if let Some(search) = search {
        // Writing to a String can't fail.
        write!(path, "&search={}", id::query(search)).ok();
    }
    let bytes = if limit / 2 >= SMALLEST { PAGE_BYTES } else { BODY_LIMIT };
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

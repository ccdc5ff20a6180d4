//! From page to page through a list of the server, so that nothing is missed.
//!
//! The server counts places, and what is removed meanwhile moves the others forward, over a page's edge. But it sorts by
//! id: while each page begins with a record that an earlier one showed, no place between them was left out. So each
//! page begins with the last one of the page before, and where it does not, the way goes back until it does.

use super::error::Error;
use super::session::Session;
use crate::limits::{LIST_RECORDS, Limit, hit};

/// A page that may be had with the largest answer: it is not halved any more.
const SMALLEST: u32 = 16;
/// How often the way goes back before it is given up.
const MOST_STEPS_BACK: u32 = 30;
/// How many pages in a row may show nothing but what is known: a list moves back while it is read only as fast as
/// someone makes records.
const MOST_WITHOUT_NEWS: u32 = 3;

/// One page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many at most, 1 to 1,000: more is a 422 (`07-resources`).
    pub limit: u32,
    /// How many to leave out before.
    pub offset: u32,
}

impl Page {
    /// The first page, of the largest size.
    pub const FIRST: Self = Self { limit: 1000, offset: 0 };
}

/// Where to read next.
#[derive(Debug)]
pub(super) struct Pages {
    page: Page,
    steps_back: u32,
    /// How far the next step back goes.
    step: u32,
    /// All records that came, the known ones too.
    walked: usize,
    without_news: u32,
}

/// Whether a smaller page may be had: this one was too much for one answer, or is over the server's largest.
pub(super) const fn asks_for_less(error: &Error) -> bool {
    matches!(error, Error::TooLarge { .. } | Error::Invalid { .. })
}

/// The error of a [`Turn`] that ends a walk, for a list.
pub(super) fn lost(list: &str, why: Lost, session: &Session) -> Error {
    let url = session.transport.url();
    if why == Lost::TooLong {
        hit(Limit::ListRecords);
    }
    match why {
        Lost::Changes => Error::Unexpected {
            status: None,
            message: format!("{list} at {url} changes faster than it can be read"),
        },
        Lost::Repeats => Error::Unexpected {
            status: None,
            message: format!("{list} at {url} does not end: its pages repeat what came before"),
        },
        Lost::TooMany => Error::Unexpected {
            status: None,
            message: format!(
                "{list} at {url} has a page of more records than were asked for: is it the URL of a Conjur API?"
            ),
        },
        Lost::TooLong => Error::TooLarge {
            limit: LIST_RECORDS,
            message: format!(
                "{list} at {url} has over {LIST_RECORDS} records, which is all that is read: narrow it (a search, or an \
                 identity that sees less)"
            ),
        },
    }
}

/// The error of a walk that finds no room in the memory for lists.
pub(super) fn no_room(list: &str, session: &Session) -> Error {
    let url = session.transport.url();
    let message = format!("{list} at {url} was given up: other lists fill the memory for them");
    Error::NoRoom { message }
}

/// Why a walk is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// The list changes faster than it can be read.
    Changes,
    /// Its pages are full of what is known.
    Repeats,
    /// A page is larger than what was asked for.
    TooMany,
    /// It has more than [`LIST_RECORDS`].
    TooLong,
}

/// What to do with a page that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It adds to what is known, and [`Pages::page`] is the next.
    More,
    /// It adds to what is known, and is the last one.
    Last,
    /// Something before it was removed, and may have taken others out of sight: leave it, and read [`Pages::page`].
    Back,
    /// The list can't be read to its end.
    Lost(Lost),
}

impl Pages {
    /// From the first page, of the largest size.
    pub(super) const fn from_the_first() -> Self {
        Self::of(Page::FIRST.limit)
    }

    /// From the first page, of `limit` records; at least 2, for each page begins with one of the page before.
    pub(super) const fn of(limit: u32) -> Self {
        let limit = if limit < 2 { 2 } else { limit };
        Self { page: Page { limit, offset: 0 }, steps_back: 0, step: 1, walked: 0, without_news: 0 }
    }

    /// The page to read.
    pub(super) const fn page(&self) -> Page {
        self.page
    }

    /// Whether a smaller page than this one is worth asking for.
    pub(super) const fn may_halve(&self) -> bool {
        self.page.limit / 2 >= SMALLEST
    }

    /// Smaller pages from now on, where [`Self::may_halve`].
    pub(super) const fn halve(&mut self) {
        self.page.limit /= 2;
    }

    /// After [`Self::page`] was read: it had `len` records, of which `new` were not known from a page before, and
    /// whether its first one (if it has one) was `known`.
    pub(super) const fn turn(&mut self, len: usize, new: usize, known: bool) -> Turn {
        if len > self.page.limit as usize {
            return Turn::Lost(Lost::TooMany);
        }
        self.walked = self.walked.saturating_add(len);
        if self.walked > LIST_RECORDS {
            return Turn::Lost(Lost::TooLong);
        }
        if self.page.offset > 0 && !known {
            self.steps_back += 1;
            if self.steps_back > MOST_STEPS_BACK {
                return Turn::Lost(Lost::Changes);
            }
            self.page.offset = self.page.offset.saturating_sub(self.step);
            self.step = self.step.saturating_mul(8);
            return Turn::Back;
        }
        self.step = 1;
        if len < self.page.limit as usize {
            return Turn::Last;
        }
        self.without_news = if new == 0 { self.without_news + 1 } else { 0 };
        if self.without_news > MOST_WITHOUT_NEWS {
            return Turn::Lost(Lost::Repeats);
        }
        self.page.offset = self.page.offset.saturating_add(self.page.limit - 1);
        Turn::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `list` by pages of 32; before each page, `meanwhile` may change it. What was seen, or none where it is lost.
    fn read(mut list: Vec<u32>, mut meanwhile: impl FnMut(u32, &mut Vec<u32>)) -> Option<Vec<u32>> {
        const SIZE: usize = 32;
        let (mut pages, mut seen, mut asked) = (Pages::of(32), Vec::new(), 0);
        loop {
            meanwhile(asked, &mut list);
            asked += 1;
            assert!(asked < 1_000, "it ends");
            let page: Vec<u32> = list.iter().skip(pages.page().offset as usize).take(SIZE).copied().collect();
            let new = page.iter().filter(|id| !seen.contains(*id)).count();
            match pages.turn(page.len(), new, page.first().is_some_and(|first| seen.contains(first))) {
                Turn::Back => {}
                Turn::Lost(_) => return None,
                turn => {
                    seen.extend(page);
                    if turn == Turn::Last {
                        seen.sort_unstable();
                        seen.dedup();
                        return Some(seen);
                    }
                }
            }
        }
    }

    #[test]
    fn a_list_that_stands_still_is_read_whole() {
        for len in [0, 1, 30, 31, 32, 33, 61, 62, 63, 1_000] {
            let list: Vec<u32> = (0..len).collect();
            assert_eq!(read(list.clone(), |_, _| {}), Some(list), "{len}");
        }
    }

    #[test]
    fn what_stays_is_seen_whatever_is_removed_before_it() {
        for gone in [1, 5, 40, 300] {
            let seen = read((0..1_000).collect(), |asked, list| {
                if asked == 12 {
                    list.drain(..gone);
                }
            });
            let seen = seen.unwrap();
            let stays = u32::try_from(gone).unwrap()..1_000;
            assert!(stays.clone().all(|id| seen.binary_search(&id).is_ok()), "{gone} removed: {stays:?}");
        }
    }

    #[test]
    fn what_stays_is_seen_when_everything_after_it_goes() {
        let seen = read((0..1_000).collect(), |asked, list| {
            if asked == 5 {
                list.truncate(40);
            }
        });
        assert!((0..40).all(|id| seen.as_ref().unwrap().contains(&id)));
    }

    #[test]
    fn a_list_that_never_stands_still_is_given_up() {
        let mut next = 1_000_000;
        let seen = read((0..1_000).collect(), |_, list| {
            // Always new ones: no page begins with one that is known.
            for id in list.iter_mut().skip(1) {
                next += 1;
                *id = next;
            }
            list[0] = 0;
        });
        assert_eq!(seen, None);
    }

    /// What a hostile list answers, page by page: how many records, how many of them new, whether the first is known.
    fn walk(mut answer: impl FnMut(Page) -> (usize, usize, bool)) -> (Turn, u32) {
        let mut pages = Pages::from_the_first();
        for asked in 1.. {
            let (len, new, known) = answer(pages.page());
            let turn = pages.turn(len, new, known);
            if !matches!(turn, Turn::More | Turn::Back) {
                return (turn, asked);
            }
        }
        unreachable!("a walk ends")
    }

    #[test]
    fn a_list_ends_whatever_its_server_says() {
        let full = |page: Page| page.limit as usize;
        for (name, (turn, pages), expected, most) in [
            ("known and full", walk(|page| (full(page), 0, true)), Lost::Repeats, 5),
            ("one new record a page", walk(|page| (full(page), 1, true)), Lost::TooLong, 1_001),
            ("new records for ever", walk(|page| (full(page), full(page) - 1, true)), Lost::TooLong, 1_001),
            ("never a known one", walk(|page| (full(page), full(page), false)), Lost::Changes, 50),
            ("back and forth", walk(|page| (full(page), 1, page.offset % 2 == 0)), Lost::Changes, 1_001),
            ("more than was asked for", walk(|_| (5_000_000, 5_000_000, true)), Lost::TooMany, 1),
        ] {
            assert_eq!(turn, Turn::Lost(expected), "{name}");
            assert!(pages <= most, "{name}: {pages} pages");
        }
        assert_eq!(walk(|_| (0, 0, false)).0, Turn::Last);
    }
}

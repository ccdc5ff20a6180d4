//! From page to page through a list of the server, so that nothing is missed.
//!
//! The server counts places, and what is removed meanwhile moves the others forward, over a page's edge. But it sorts by
//! id: while each page begins with a record that an earlier one showed, no place between them was left out. So each
//! page begins with the last one of the page before, and where it does not, the way goes back until it does.

use super::error::Error;
use super::resources::Page;
use super::session::Session;

/// A page that may be had with the largest answer: it is not halved any more.
const SMALLEST: u32 = 16;
/// How often the way goes back before it is given up.
const MOST_STEPS_BACK: u32 = 30;

/// Where to read next.
#[derive(Debug)]
pub(super) struct Pages {
    page: Page,
    steps_back: u32,
    /// How far the next step back goes.
    step: u32,
}

/// Whether a smaller page may be had: this one was too much for one answer, or is over the server's largest.
pub(super) const fn asks_for_less(error: &Error) -> bool {
    matches!(error, Error::TooLarge { .. } | Error::Invalid { .. })
}

/// The error of [`Turn::Lost`], for a list.
pub(super) fn lost(list: &str, session: &Session) -> Error {
    let url = session.transport.url();
    let message = format!("{list} at {url} changes faster than it can be read");
    Error::Unexpected { status: None, message }
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
    /// The list changes faster than it can be read.
    Lost,
}

impl Pages {
    /// From the first page, of the largest size.
    pub(super) const fn from_the_first() -> Self {
        Self::of(Page::FIRST.limit)
    }

    /// From the first page, of `limit` records; at least 2, for each page begins with one of the page before.
    pub(super) const fn of(limit: u32) -> Self {
        let limit = if limit < 2 { 2 } else { limit };
        Self { page: Page { limit, offset: 0 }, steps_back: 0, step: 1 }
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

    /// After [`Self::page`] was read: it had `len` records, and whether its first one (if it has one) is `known` from
    /// a page before.
    pub(super) const fn turn(&mut self, len: usize, known: bool) -> Turn {
        if self.page.offset > 0 && !known {
            self.steps_back += 1;
            if self.steps_back > MOST_STEPS_BACK {
                return Turn::Lost;
            }
            self.page.offset = self.page.offset.saturating_sub(self.step);
            self.step = self.step.saturating_mul(8);
            return Turn::Back;
        }
        self.step = 1;
        if len < self.page.limit as usize {
            return Turn::Last;
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
            match pages.turn(page.len(), page.first().is_some_and(|first| seen.contains(first))) {
                Turn::Back => {}
                Turn::Lost => return None,
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
}

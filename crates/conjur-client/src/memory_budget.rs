//! What clients may take together: bytes of large answers, from the moment one is read until what came of it is done with;
//! lists; places for streams; connections. Small answers, which are nearly all, don't count.
//!
//! An answer takes its share before it is held in memory, whether the server says its length or not: at once where it does,
//! and as it grows where it doesn't. Who gets none for long gives the answer up, for it may itself
//! hold what others wait for (work with values in two batches), and comes again later.
//!
//! A value counts until it is dropped. Who makes copies of values runs its work in [`until_done`]: what that fetched, loaded or
//! listed counts until it ends.
//!
//! ```
//! # async fn example(client: conjur_client::Client, wanted: &[conjur_client::Wanted]) -> Result<(), conjur_client::Error> {
//! use conjur_client::memory_budget::until_done;
//! use conjur_client::{Freshness, Priority};
//!
//! // Copies of values are made: what was fetched counts until all of it is done with.
//! until_done(async {
//!     let answers = client.fetch_variables(wanted, Priority::Foreground, Freshness::Remembered).await;
//!     let copies: Vec<Vec<u8>> = answers.values().flatten().map(|value| value.expose().clone()).collect();
//!     println!("{} values", copies.len());
//! })
//! .await;
//! # Ok(())
//! # }
//! ```

mod sum;

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::sum::{Refused, Sum};
use crate::budget::{Budget, Party, Taken};
use crate::catalogue::KeptLists;
use crate::limits::{
    ANSWER_SMALL, ANSWERS_BYTES, LIST_BYTES, LISTS_KEPT_BYTES, Limit, SOCKETS, STREAMS, hit,
};
use crate::sockets::Connections;

/// What clients may take together. Those that are made without one have each their own.
///
/// Cheap to clone; all clones are one budget.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Parts>);

struct Parts {
    /// Bytes of large answers and of the values in them.
    answers: Arc<Budget>,
    /// Places for answers that are read as a stream.
    streams: Arc<Budget>,
    /// Bytes of lists that are being walked, or used by someone, those that are kept among them: of variables, and of other
    /// records.
    lists: Arc<Budget>,
    kept: Arc<KeptLists>,
    /// Connections: each has what is read ahead on it.
    connections: Arc<Connections>,
}

/// How much a [`MemoryBudget`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySizes {
    /// Bytes of large answers that are read or worked on at once, and of the values in them until they are dropped.
    pub answers: usize,
    /// Answers that are read as a stream at once.
    pub streams: usize,
    /// Bytes of lists that are kept between two uses; while they are walked or used, lists take
    /// [`LIST_BYTES`] more.
    pub lists: usize,
    /// Connections to servers; each client that has something to do has at least one beyond it.
    pub connections: usize,
}

impl Default for MemorySizes {
    /// [`ANSWERS_BYTES`], [`STREAMS`], [`LISTS_KEPT_BYTES`], [`SOCKETS`].
    fn default() -> Self {
        Self { answers: ANSWERS_BYTES, streams: STREAMS, lists: LISTS_KEPT_BYTES, connections: SOCKETS }
    }
}

impl Default for MemoryBudget {
    fn default() -> Self {
        Self::new(MemorySizes::default())
    }
}

impl MemoryBudget {
    /// All of it free.
    pub fn new(sizes: MemorySizes) -> Self {
        Self(Arc::new(Parts {
            answers: Budget::new(Limit::AnswersBytes, sizes.answers),
            streams: Budget::new(Limit::Streams, sizes.streams),
            lists: Budget::new(Limit::ListBytes, sizes.lists.saturating_add(LIST_BYTES)),
            kept: Arc::new(KeptLists::new(sizes.lists)),
            connections: Arc::new(Connections::new(sizes.connections)),
        }))
    }

    pub(crate) fn answers(&self) -> &Arc<Budget> {
        &self.0.answers
    }

    pub(crate) fn streams(&self) -> &Arc<Budget> {
        &self.0.streams
    }

    pub(crate) fn lists(&self) -> &Arc<Budget> {
        &self.0.lists
    }

    pub(crate) fn kept(&self) -> &Arc<KeptLists> {
        &self.0.kept
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.0.connections
    }
}

impl std::fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBudget").field("answers", &self.0.answers).finish_non_exhaustive()
    }
}

/// Who waited longer than this for room was held up by it.
const LONG: Duration = Duration::from_secs(1);

tokio::task_local! {
    static HELD: RefCell<Held>;
}

/// A part of the budget; given back on drop.
#[derive(Debug)]
pub(crate) struct Share(Taken);

/// A value takes so much until it is written: its copies in a Secret and in a request.
const COPIES: usize = 4;

/// What counts until the work that runs is done.
#[derive(Default)]
struct Held {
    kept: Vec<KeptAlive>,
    gathered: sum::Gathered,
}

#[expect(dead_code, reason = "what is in it is only kept, and dropped")]
enum KeptAlive {
    Value(Arc<Share>),
    Memory(Taken),
}

/// What an answer that is being read takes of the budget.
pub(crate) struct Reading {
    share: Taken,
    patience: Duration,
    /// Up to which length it is paid for.
    paid: usize,
    /// How long it waited for it.
    waited: Duration,
}

/// There is no room for an answer now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// While an answer is read, its text, its decoded form and what is decoded so far exist beside each other.
const fn cost(length: usize) -> usize {
    length.saturating_mul(5) / 2
}

impl Reading {
    /// `patience` is how long it may wait for its share.
    pub(crate) fn new(memory: &MemoryBudget, party: &Party, patience: Duration) -> Self {
        Self::from(memory.answers(), party, patience)
    }

    fn from(budget: &Arc<Budget>, party: &Party, patience: Duration) -> Self {
        Self { share: budget.nothing(party), patience, paid: ANSWER_SMALL, waited: Duration::ZERO }
    }

    /// Before the answer is held up to `length`. Waits for its turn where it `may_wait`; an answer grows by doubling, so
    /// this is seldom asked.
    pub(crate) async fn up_to(
        &mut self,
        length: usize,
        most: usize,
        may_wait: impl FnOnce() -> bool,
    ) -> Result<(), Full> {
        if length <= self.paid {
            return Ok(());
        }
        let length = length.max(self.paid.saturating_mul(2)).min(most).max(length);
        let more = cost(length).min(self.share.of_all()).saturating_sub(self.share.amount());
        if self.share.try_grow(more) {
            self.paid = length;
            return Ok(());
        }
        if !may_wait() {
            hit(Limit::AnswersBytes);
            return Err(Full);
        }
        let start = Instant::now();
        let enough = self.share.grow(more, self.patience).await;
        self.waited += start.elapsed();
        if !enough {
            return Err(Full);
        }
        self.paid = length;
        Ok(())
    }

    /// Whether it waited so long that the server may have given it up meanwhile, or its time be over: not the server's fault.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited >= LONG
    }

    /// Whether others wait for the share of this answer.
    pub(crate) fn is_wanted(&self) -> bool {
        self.share.amount() > 0 && self.share.is_wanted()
    }

    /// It was read.
    pub(crate) fn done(self) -> Option<Share> {
        (self.share.amount() > 0).then_some(Share(self.share))
    }
}

impl Share {
    /// The part that stands for one value of the answer until it is written.
    pub(crate) fn for_value(&mut self, length: usize) -> Option<Self> {
        let part = self.0.split(length.saturating_mul(COPIES));
        (part.amount() > 0).then_some(Self(part))
    }

    /// How many bytes of values it stands for.
    fn stands_for(&self) -> usize {
        self.0.amount() / COPIES
    }
}

/// Runs `work`; what it fetches counts against the budget until it ends. Gives what `work` gives.
pub async fn until_done<F: Future>(work: F) -> F::Output {
    HELD.scope(RefCell::default(), work).await
}

/// Keeps a share for the work that runs now, if there is one that says when it is done.
pub(super) fn keep(share: &Arc<Share>) {
    // Outside of any such work nothing is kept beyond the value itself.
    HELD.try_with(|held| held.borrow_mut().kept.push(KeptAlive::Value(Arc::clone(share)))).ok();
}

/// Keeps a part of any budget until the work that runs now is done; where none runs in [`until_done`], it is given back at
/// once.
pub fn keep_memory(memory: Taken) {
    HELD.try_with(|held| held.borrow_mut().kept.push(KeptAlive::Memory(memory))).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const PATIENCE: Duration = Duration::from_millis(20);

    async fn read(budget: &Arc<Budget>, party: &str, length: usize) -> Option<Share> {
        let mut reading = Reading::from(budget, &party.into(), PATIENCE);
        reading.up_to(length, usize::MAX, || true).await.unwrap();
        reading.done()
    }

    #[tokio::test]
    async fn large_answers_wait_for_each_other_but_not_for_ever_and_small_ones_never() {
        let budget = Budget::new(Limit::AnswersBytes, ANSWERS_BYTES);
        let all = read(&budget, "a", ANSWERS_BYTES).await.unwrap();
        assert!(read(&budget, "a", ANSWER_SMALL).await.is_none(), "it takes nothing");
        let mut next = Reading::from(&budget, &"a".into(), PATIENCE);
        assert_eq!(
            next.up_to(MIB, MIB, || true).await,
            Err(Full),
            "it is given up rather than held without a share"
        );
        let at_once = futures::FutureExt::now_or_never(next.up_to(MIB, MIB, || false));
        assert_eq!(at_once, Some(Err(Full)), "and at once where too many wait already");
        assert!(read(&budget, "b", MIB).await.is_some(), "another's is read all the same");
        drop(all);
        assert_eq!(next.up_to(MIB, MIB, || true).await, Ok(()));
    }

    #[tokio::test]
    async fn an_answer_of_unknown_length_pays_as_it_grows() {
        let budget = Budget::new(Limit::AnswersBytes, ANSWERS_BYTES);
        let mut reading = Reading::from(&budget, &"a".into(), PATIENCE);
        let paid = |reading: &Reading| reading.share.amount();
        for length in (0..8 * MIB).step_by(16 * 1024) {
            reading.up_to(length, 8 * MIB, || true).await.unwrap();
            assert!(length <= ANSWER_SMALL || paid(&reading) >= cost(length), "{length}");
            assert!(paid(&reading) <= cost(8 * MIB), "{length}");
        }
    }

    #[tokio::test]
    async fn a_value_counts_until_the_work_that_fetched_it_is_done() {
        let budget = Budget::new(Limit::AnswersBytes, ANSWERS_BYTES);
        let mut answer = read(&budget, "a", MIB).await.unwrap();
        let value = Arc::new(answer.for_value(MIB / 2).unwrap());
        drop(answer);
        let rest = || budget.try_take(&"b".into(), ANSWERS_BYTES - 2 * MIB + 1).is_none();
        assert!(rest());
        until_done(async {
            keep(&value);
            drop(value);
            assert!(rest());
        })
        .await;
        assert!(!rest());
    }
}

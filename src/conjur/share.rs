//! Large answers in flight: one budget of bytes for the whole process, from the moment an answer is read until what
//! came of it is done with. Small answers, which are nearly all, don't count.

use std::cell::RefCell;
use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All shares together.
const BUDGET: usize = 48 * 1024 * 1024;
/// An answer up to this size doesn't count: all connections together hold few of them.
const SMALL: usize = 256 * 1024;
/// Whoever holds the budget may wait for this very answer (an object with values in two batches), so after this long it
/// is read all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// The smallest part of the budget.
const UNIT: usize = 1024;

static ALL: LazyLock<Budget> = LazyLock::new(|| Budget::new(PATIENCE));

struct Budget {
    free: Arc<Semaphore>,
    patience: Duration,
}

impl Budget {
    fn new(patience: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(BUDGET / UNIT)), patience }
    }

    async fn take(&self, length: usize) -> Option<Share> {
        if length <= SMALL {
            return None;
        }
        let wanted = self.free.clone().acquire_many_owned(units(length.saturating_mul(5) / 2));
        tokio::time::timeout(self.patience, wanted).await.ok()?.ok().map(Share)
    }
}

tokio::task_local! {
    static HELD: RefCell<Vec<Arc<Share>>>;
}

/// A part of the budget; given back on drop.
#[derive(Debug)]
pub(crate) struct Share(OwnedSemaphorePermit);

impl Share {
    /// Waits until an answer of that length may be read. While it is, its text, its decoded form and what is decoded so
    /// far exist beside each other.
    pub(crate) async fn of_answer(length: usize) -> Option<Self> {
        ALL.take(length).await
    }

    /// The part that stands for one value of the answer until it is written: its copies in a Secret and in a request.
    pub(crate) fn for_value(&mut self, length: usize) -> Option<Self> {
        let wanted = usize::try_from(units(length.saturating_mul(4))).unwrap_or(usize::MAX);
        self.0.split(wanted.min(self.0.num_permits())).map(Self)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.min(BUDGET).div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Runs `work`; what it fetches counts against the budget until it ends.
pub async fn until_done<F: Future>(work: F) -> F::Output {
    HELD.scope(RefCell::default(), work).await
}

/// Keeps a share for the work that runs now, if there is one that says when it is done.
pub(super) fn keep(share: &Arc<Share>) {
    // Outside of any such work nothing is kept beyond the value itself.
    HELD.try_with(|held| held.borrow_mut().push(Arc::clone(share))).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_answers_wait_for_each_other_but_not_for_ever_and_small_ones_never() {
        let budget = Budget::new(Duration::from_millis(20));
        let all = budget.take(BUDGET).await.unwrap();
        assert!(budget.take(BUDGET).await.is_none(), "it goes on without a share when it has waited");
        assert!(budget.take(SMALL).await.is_none());
        assert_eq!(budget.free.available_permits(), 0);
        drop(all);
        assert_eq!(budget.free.available_permits(), BUDGET / UNIT);
    }

    #[tokio::test]
    async fn a_value_counts_until_the_work_that_fetched_it_is_done() {
        let budget = Budget::new(Duration::from_millis(20));
        let mut answer = budget.take(1024 * 1024).await.unwrap();
        let value = Arc::new(answer.for_value(512 * 1024).unwrap());
        drop(answer);
        let left = BUDGET / UNIT - 2048;
        assert_eq!(budget.free.available_permits(), left);
        until_done(async {
            keep(&value);
            drop(value);
            assert_eq!(budget.free.available_permits(), left);
        })
        .await;
        assert_eq!(budget.free.available_permits(), BUDGET / UNIT);
    }
}

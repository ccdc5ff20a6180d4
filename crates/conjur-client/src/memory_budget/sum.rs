//! All values of one object together. Each may come by an answer that is too small to count; what stays until the object's
//! work is done is their sum.

use std::sync::Arc;
use std::time::Duration;

use super::{COPIES, HELD, Share};
use crate::budget::{Budget, Party, Taken};
use crate::error::Error;
use crate::limits::{ANSWERS_PATIENCE, Limit, VALUES_BYTES, VALUES_SMALL_BYTES, hit};

/// What came for the work that runs now.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// All bytes.
    bytes: usize,
    /// Those that no answer's share stands for.
    small: usize,
    /// So many of them are paid for, beyond what is free.
    paid: usize,
    taken: Vec<Taken>,
}

/// Counts values as they come, on top of what came before for the same work, until that is done.
pub(crate) struct Sum {
    budget: Arc<Budget>,
    party: Party,
    gathered: Gathered,
}

/// Why no more is taken for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its values are more than one object may have.
    TooLarge,
    /// There is no room for them now.
    NoRoom,
}

/// What a sum owes at a time.
pub(crate) struct Bill {
    budget: Arc<Budget>,
    party: Party,
    amount: usize,
    /// What is paid with it.
    pays: usize,
}

impl Sum {
    /// `party` pays, of the budget for answers.
    pub(crate) fn from(budget: &Arc<Budget>, party: Party) -> Self {
        let gathered = HELD.try_with(|held| std::mem::take(&mut held.borrow_mut().gathered));
        Self { budget: Arc::clone(budget), party, gathered: gathered.unwrap_or_default() }
    }

    /// One more value, and the share of its answer that stands for it.
    pub(crate) fn add(&mut self, length: usize, share: Option<&Share>) -> Result<(), Refused> {
        self.gathered.bytes += length;
        self.gathered.small += length.saturating_sub(share.map_or(0, Share::stands_for));
        if self.gathered.bytes > VALUES_BYTES {
            hit(Limit::ValuesBytes);
            return Err(Refused::TooLarge);
        }
        Ok(())
    }

    /// How much is not paid for, beyond what is free.
    pub(crate) fn owes(&self) -> usize {
        self.gathered.small.saturating_sub(VALUES_SMALL_BYTES + self.gathered.paid)
    }

    /// What is to be paid now; none where there is nothing, as of nearly all objects.
    pub(crate) fn bill(&self) -> Option<Bill> {
        let owes = self.owes();
        if owes == 0 {
            return None;
        }
        let pays = owes.next_multiple_of(VALUES_SMALL_BYTES);
        let already: usize = self.gathered.taken.iter().map(Taken::amount).sum();
        let amount = pays.saturating_mul(COPIES).min(self.budget.all().saturating_sub(already));
        Some(Bill { budget: Arc::clone(&self.budget), party: Arc::clone(&self.party), amount, pays })
    }

    /// Takes note of what was paid, if there was room for it.
    pub(crate) fn settle(&mut self, paid: Option<(usize, Taken)>) -> Result<(), Refused> {
        let (pays, taken) = paid.ok_or(Refused::NoRoom)?;
        self.gathered.paid += pays;
        self.gathered.taken.push(taken);
        Ok(())
    }

    /// Waits for room for all that was added.
    pub(crate) async fn pay(&mut self) -> Result<(), Refused> {
        match self.bill() {
            Some(bill) => {
                let paid = bill.pay(ANSWERS_PATIENCE).await;
                self.settle(paid)
            }
            None => Ok(()),
        }
    }
}

impl Bill {
    /// Waits for its turn.
    pub(crate) async fn pay(self, patience: Duration) -> Option<(usize, Taken)> {
        let taken = self.budget.take(&self.party, self.amount, patience).await?;
        Some((self.pays, taken))
    }
}

impl Drop for Sum {
    fn drop(&mut self) {
        let Gathered { bytes, small, paid, taken } = std::mem::take(&mut self.gathered);
        let kept = HELD.try_with(|held| {
            let gathered = &mut held.borrow_mut().gathered;
            gathered.bytes += bytes;
            gathered.small += small;
            gathered.paid += paid;
            gathered.taken.extend(taken);
        });
        // Outside of any work nothing is kept beyond the values themselves.
        kept.ok();
    }
}

impl Refused {
    /// As it is told; `what` are the values, as in `the variables`.
    pub(crate) fn error(self, what: &str, url: &str) -> Error {
        match self {
            Self::TooLarge => Error::TooLarge {
                limit: VALUES_BYTES,
                message: format!(
                    "{what} that are asked for at {url} have over {} MiB together, which is all that is held for one object: \
                     ask for fewer, or for smaller ones",
                    VALUES_BYTES >> 20
                ),
            },
            Self::NoRoom => Error::NoRoom {
                message: format!(
                    "{what} that are asked for at {url} have over {} KiB together, and the values of other objects fill the \
                     memory for more",
                    VALUES_SMALL_BYTES >> 10
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::until_done;
    use super::*;
    use crate::limits::ANSWERS_BYTES;

    const KIB: usize = 1024;

    fn sum(budget: &Arc<Budget>, party: &str) -> Sum {
        Sum::from(budget, party.into())
    }

    #[tokio::test]
    async fn small_values_cost_nothing_and_many_of_them_cost_what_they_take_until_the_work_is_done() {
        let budget = Budget::new(Limit::AnswersBytes, ANSWERS_BYTES);
        until_done(async {
            let mut first = sum(&budget, "a");
            first.add(VALUES_SMALL_BYTES, None).unwrap();
            assert!(first.bill().is_none());
            drop(first);
            let mut second = sum(&budget, "a");
            second.add(100 * KIB, None).unwrap();
            second.pay().await.unwrap();
            assert_eq!(budget.held_by("a"), 104 * KIB * COPIES, "what came before for the same work counts");
            assert!(second.bill().is_none());
        })
        .await;
        assert_eq!(budget.held_by("a"), 0);
    }

    #[tokio::test]
    async fn what_an_answers_share_stands_for_is_not_paid_twice() {
        let budget = Budget::new(Limit::AnswersBytes, ANSWERS_BYTES);
        let share = Share(budget.try_take(&"a".into(), 1024 * KIB * COPIES).unwrap());
        let mut sum = sum(&budget, "a");
        sum.add(1024 * KIB, Some(&share)).unwrap();
        assert_eq!(sum.owes(), 0);
        sum.add(1024 * KIB, Some(&Share(budget.try_take(&"a".into(), 1).unwrap()))).unwrap();
        assert_eq!(sum.owes(), 1024 * KIB - VALUES_SMALL_BYTES);
    }

    #[tokio::test]
    async fn values_for_which_there_is_no_room_or_that_are_too_many_are_refused() {
        let budget = Budget::new(Limit::AnswersBytes, ANSWERS_BYTES);
        let _all = budget.try_take(&"a".into(), ANSWERS_BYTES).unwrap();
        let mut refused = sum(&budget, "a");
        refused.add(VALUES_SMALL_BYTES + 1, None).unwrap();
        let paid = refused.bill().unwrap().pay(Duration::from_millis(20)).await;
        assert_eq!(refused.settle(paid), Err(Refused::NoRoom));
        let mut other = sum(&budget, "b");
        other.add(VALUES_SMALL_BYTES + 1, None).unwrap();
        assert_eq!(other.pay().await, Ok(()), "another party is sure of a part");
        assert_eq!(other.add(VALUES_BYTES, None), Err(Refused::TooLarge));
    }
}

//! Something that there is a fixed amount of, shared among parties: bytes of answers and lists, places for streams.
//!
//! A party is whoever a call is made for: a tenant, a part of a program. One that is alone may take
//! everything. What others hold never keeps a party from a small part: of `n` parties the last one to come may have
//! `1 / n²` of the whole beyond it, which adds up to two thirds at most. Who needs more waits, in turn.
//!
//! ```
//! use conjur_client::budget::{Budget, Meter, Party};
//!
//! /// Counts nothing.
//! struct Uncounted;
//!
//! impl Meter for Uncounted {
//!     fn hit(&self) {}
//!     fn used(&self, _: i64) {}
//! }
//!
//! let budget = Budget::new(Uncounted, 100);
//! let (one, other) = (Party::from("one"), Party::from("other"));
//! let all = budget.try_take(&one, 100);
//! assert!(all.is_some() && budget.try_take(&one, 1).is_none());
//! // A party that comes later is sure of a part all the same.
//! assert!(budget.try_take(&other, 25).is_some());
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::fair::FairQueue;
use crate::lock::lock;

/// To whom a connection belongs.
pub type Party = Arc<str>;

/// Told how often a budget was met, and how much of it is in use. Must not block.
pub trait Meter: Send + Sync {
    /// Someone waited for a part of it in vain.
    fn hit(&self);

    /// So much more of it is in use; less, where it is negative.
    fn used(&self, change: i64);
}

/// A fixed amount of something, shared among parties.
pub struct Budget {
    meter: Box<dyn Meter>,
    all: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    held: HashMap<Party, usize>,
    waiting: FairQueue<Party, (usize, oneshot::Sender<Taken>)>,
}

/// A part of a budget; given back on drop.
#[must_use = "it is given back when this is dropped"]
pub struct Taken {
    budget: Arc<Budget>,
    party: Party,
    amount: usize,
}

/// Whether `party` may have `amount` now.
fn may(all: usize, taken: usize, held: &HashMap<Party, usize>, party: &Party, amount: usize) -> bool {
    let mine = held.get(party).copied().unwrap_or_default();
    let parties = held.len() + usize::from(mine == 0);
    let (then, mine) = (taken.saturating_add(amount), mine.saturating_add(amount));
    then <= all || (mine <= all / (parties * parties) && then <= all * 2)
}

impl State {
    fn waits(&self, party: &Party) -> bool {
        self.waiting.any_of(party, |(_, sender)| sender.is_closed())
    }

    fn take(&mut self, party: &Party, amount: usize) {
        self.taken += amount;
        if amount > 0 {
            *self.held.entry(Arc::clone(party)).or_default() += amount;
        }
    }

    fn give_back(&mut self, party: &Party, amount: usize) {
        self.taken = self.taken.saturating_sub(amount);
        if let Some(mine) = self.held.get_mut(party) {
            *mine = mine.saturating_sub(amount);
            if *mine == 0 {
                self.held.remove(party);
            }
        }
    }
}

impl Budget {
    /// `all` of it, free.
    pub fn new(meter: impl Meter + 'static, all: usize) -> Arc<Self> {
        Arc::new(Self { meter: Box::new(meter), all, state: Mutex::default() })
    }

    /// How much a party holds.
    pub fn held_by(&self, party: &str) -> usize {
        lock(&self.state).held.get(party).copied().unwrap_or_default()
    }

    fn count(&self, change: usize, taken: bool) {
        let change = i64::try_from(change).unwrap_or(i64::MAX);
        self.meter.used(if taken { change } else { -change });
    }

    /// How much there is of it.
    pub fn all(&self) -> usize {
        self.all
    }

    /// Nothing of it yet, to grow.
    pub fn nothing(self: &Arc<Self>, party: &Party) -> Taken {
        Taken { budget: Arc::clone(self), party: Arc::clone(party), amount: 0 }
    }

    /// Takes `amount` (all there is, where it is more than that) if it is free for `party` now, and no one of it waits.
    pub fn try_take(self: &Arc<Self>, party: &Party, amount: usize) -> Option<Taken> {
        let amount = amount.min(self.all);
        let mut state = lock(&self.state);
        if state.waits(party) || !may(self.all, state.taken, &state.held, party, amount) {
            return None;
        }
        state.take(party, amount);
        self.count(amount, true);
        Some(Taken { budget: Arc::clone(self), party: Arc::clone(party), amount })
    }

    /// The same, after waiting for at most `patience`. Who waits may itself hold what others wait for, so the patience is
    /// not endless, and who gets nothing must let go.
    pub async fn take(self: &Arc<Self>, party: &Party, amount: usize, patience: Duration) -> Option<Taken> {
        if let Some(taken) = self.try_take(party, amount) {
            return Some(taken);
        }
        let (sender, receiver) = oneshot::channel();
        lock(&self.state).waiting.push(Arc::clone(party), (amount.min(self.all), sender));
        self.hand_out();
        let taken = tokio::time::timeout(patience, receiver).await.ok().and_then(Result::ok);
        if taken.is_none() {
            self.meter.hit();
        }
        taken
    }

    /// Whether someone else than `party` waits.
    fn others_wait(&self, party: &Party) -> bool {
        lock(&self.state).waiting.any_of_others(party, |(_, sender)| sender.is_closed())
    }

    fn hand_out(self: &Arc<Self>) {
        while let Some((sender, taken)) = self.next() {
            // Who went away gives it back by dropping it, outside of the lock.
            drop(sender.send(taken));
        }
    }

    fn next(self: &Arc<Self>) -> Option<(oneshot::Sender<Taken>, Taken)> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let State { taken, held, waiting } = state;
        let next = waiting.pop_live(
            |(_, sender)| sender.is_closed(),
            |party, (amount, _)| may(self.all, *taken, held, party, *amount),
        );
        let (party, (amount, sender)) = next?;
        state.take(&party, amount);
        self.count(amount, true);
        Some((sender, Taken { budget: Arc::clone(self), party, amount }))
    }
}

impl Taken {
    /// How much it is.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// How much there is of what it is a part of.
    pub fn of_all(&self) -> usize {
        self.budget.all
    }

    /// Takes more, if it is free now. Who holds nothing yet does not go before those of its party that wait.
    pub fn try_grow(&mut self, more: usize) -> bool {
        let mut state = lock(&self.budget.state);
        let is_first = self.amount == 0 && state.waits(&self.party);
        if is_first || !may(self.budget.all, state.taken, &state.held, &self.party, more) {
            return false;
        }
        state.take(&self.party, more);
        drop(state);
        self.budget.count(more, true);
        self.amount += more;
        true
    }

    /// Takes more, after waiting for at most `patience`.
    pub async fn grow(&mut self, more: usize, patience: Duration) -> bool {
        if self.try_grow(more) {
            return true;
        }
        let budget = Arc::clone(&self.budget);
        match budget.take(&self.party, more, patience).await {
            Some(mut taken) => {
                self.amount += std::mem::take(&mut taken.amount);
                true
            }
            None => false,
        }
    }

    /// Parts with some of it.
    pub fn split(&mut self, amount: usize) -> Self {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Self { budget: Arc::clone(&self.budget), party: Arc::clone(&self.party), amount }
    }

    /// Whether someone else waits for what this holds.
    pub fn is_wanted(&self) -> bool {
        self.budget.others_wait(&self.party)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        lock(&self.budget.state).give_back(&self.party, self.amount);
        self.budget.count(self.amount, false);
        self.budget.hand_out();
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Budget({})", self.all)
    }
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Taken({} of {})", self.amount, self.budget.all)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::limits::Limit;

    const SOON: Duration = Duration::from_millis(20);

    fn taken(budget: &Budget) -> usize {
        lock(&budget.state).taken
    }

    #[tokio::test]
    async fn who_is_alone_gets_all_and_who_comes_later_is_sure_of_a_part() {
        let (budget, [a, b, c]) = (Budget::new(Limit::AnswersBytes, 90), ["a", "b", "c"].map(Party::from));
        let all = budget.try_take(&a, 90).unwrap();
        assert!(budget.take(&a, 1, SOON).await.is_none(), "it must let go first");
        let second = budget.take(&b, 22, SOON).await.unwrap();
        assert!(budget.take(&b, 1, SOON).await.is_none());
        let third = budget.take(&c, 10, SOON).await.unwrap();
        assert!(taken(&budget) < 2 * 90);
        drop((all, second, third));
        assert_eq!(taken(&budget), 0);
        assert!(lock(&budget.state).held.is_empty());
        assert_eq!(budget.try_take(&b, 1_000).unwrap().amount(), 90, "more than there is means all");
    }

    #[tokio::test]
    async fn those_who_wait_have_their_turns() {
        let (budget, [a, b, c]) = (Budget::new(Limit::AnswersBytes, 10), ["a", "b", "c"].map(Party::from));
        let held = budget.try_take(&a, 10).unwrap();
        let mut waits = [&b, &b, &c].map(|party| budget.take(party, 8, Duration::from_secs(60)).boxed());
        assert!(waits.iter_mut().all(|waits| waits.now_or_never().is_none()));
        let [first, second, other] = waits;
        assert!(held.is_wanted());
        drop(held);
        let got = first.now_or_never().unwrap().unwrap();
        drop(got);
        let got = other.now_or_never().unwrap().unwrap();
        assert!(got.is_wanted());
        drop(got);
        assert!(!second.now_or_never().unwrap().unwrap().is_wanted());
    }

    #[tokio::test]
    async fn who_went_away_keeps_nothing() {
        let (budget, [a, b]) = (Budget::new(Limit::AnswersBytes, 10), ["a", "b"].map(Party::from));
        let held = budget.try_take(&a, 10).unwrap();
        let mut gone = budget.take(&b, 10, Duration::from_secs(60)).boxed();
        assert!((&mut gone).now_or_never().is_none());
        drop(held);
        drop(gone);
        assert_eq!(taken(&budget), 0);
        let mut part = budget.try_take(&b, 4).unwrap();
        assert!(part.grow(6, SOON).await && !part.try_grow(1));
        let rest = part.split(9);
        assert_eq!((part.amount(), rest.amount(), taken(&budget)), (1, 9, 10));
    }

    proptest! {
        /// Whatever is taken and given back: less than twice the amount is out, and a small part is always to be had.
        #[test]
        fn nobody_is_kept_from_a_small_part(steps in prop::collection::vec((0_usize..6, 1_usize..120, any::<bool>()), 1..80)) {
            let budget = Budget::new(Limit::AnswersBytes, 120);
            let parties: Vec<Party> = (0..6).map(|n| n.to_string().into()).collect();
            let mut out = Vec::new();
            for (party, amount, back) in steps {
                if back && !out.is_empty() {
                    drop(out.swap_remove(amount % out.len()));
                } else if let Some(part) = budget.try_take(&parties[party], amount) {
                    out.push(part);
                }
                prop_assert!(taken(&budget) <= 240);
                prop_assert_eq!(taken(&budget), out.iter().map(Taken::amount).sum::<usize>());
                let stranger = Party::from("stranger");
                prop_assert!(taken(&budget) > 238 || budget.try_take(&stranger, 120 / 49).is_some());
            }
            out.clear();
            prop_assert!(lock(&budget.state).held.is_empty());
        }
    }
}

//! A find that was made with a list from before its object is looked at once more.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::cache::Unconfirmed;
use super::{
    fetch::{FRESH_LIST, Gathered},
    seen::ObservedSecret,
};
use crate::{controllers::Context, plan::schedule::Cause};

impl ObservedSecret {
    /// When to look again: at the next slot, or before it where a find is to be confirmed.
    pub fn again(&self, ctx: &Context) -> Option<Duration> {
        let now = Timestamp::now();
        let slots = self.slots?;
        let unconfirmed = ctx.memory.of(&self.key).unconfirmed.map(|unconfirmed| unconfirmed.again);
        let sooner = unconfirmed.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        Some(sooner.into_iter().fold(slots.next_in(now), Duration::min))
    }

    /// What is to be confirmed of what was gathered; none where nothing is.
    pub fn unconfirmed(&self, gathered: &Gathered, cause: Cause, asked: Instant) -> Option<Unconfirmed> {
        let due = gathered.from_before && cause != Cause::Slot && self.slots.is_some();
        due.then(|| Unconfirmed {
            asked,
            again: Timestamp::now() + FRESH_LIST,
            wanted: gathered.wanted_hash(),
        })
    }

    /// Whether a look at the list brought what it did before, and nothing else is due.
    pub fn is_confirmed(&self, gathered: &Gathered, cause: Cause, slot: Option<i128>) -> bool {
        let before = self.remembered.unconfirmed.filter(|_| cause == Cause::Slot);
        before.is_some_and(|before| before.wanted == gathered.wanted_hash()) && self.remembered.slot == slot
    }
}

//! How many requests to one server are in flight, and whose turn it is.
//!
//! ```
//! # async fn example() {
//! use conjur_client::gate::{Gate, Parties, Pull};
//! use conjur_client::Priority;
//!
//! let gate = Gate::new(4);
//! let permit = gate.enter(Priority::Foreground, Pull::Quick, &Parties::of(["billing".into()])).await;
//! // One request, and then it is another's turn.
//! drop(permit);
//! # }
//! ```

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, oneshot};

use crate::{fair::Lanes, lock::lock};

/// What goes first where requests wait for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// New and changed things, and a person waiting: before refreshes, but for one turn in a few.
    Foreground,
    /// What is repeated on a schedule. Never takes the last connection.
    Refresh,
}

/// On whose behalf a call is made: one party, or all that wait for what it brings. A call waits in the line of each of
/// them, and goes with the first turn that comes; more may join while it waits.
#[derive(Debug, Clone)]
pub struct Parties {
    group: Arc<PartyGroup>,
    is_hasty: bool,
}

#[derive(Debug)]
struct PartyGroup {
    all: Mutex<Vec<Arc<str>>>,
    grown: Notify,
}

impl Parties {
    /// Of those, each counted once.
    pub fn of(all: impl IntoIterator<Item = Arc<str>>) -> Self {
        let mut distinct = Vec::new();
        let mut known = HashSet::new();
        distinct.extend(all.into_iter().filter(|party| known.insert(Arc::clone(party))));
        let group = Arc::new(PartyGroup { all: Mutex::new(distinct), grown: Notify::new() });
        Self { group, is_hasty: false }
    }

    /// A call that everybody waits for, like a login: nothing else waits in its line.
    pub fn everybody() -> Self {
        Self::of(["".into()])
    }

    /// What one of them asks for must not wait for the room that another's takes: the call is given up before it does.
    #[must_use]
    pub fn in_haste(self) -> Self {
        Self { is_hasty: true, ..self }
    }

    /// Whether the call is in haste.
    pub fn is_hasty(&self) -> bool {
        self.is_hasty
    }

    /// One more waits for the call.
    pub fn join(&self, party: &Arc<str>) {
        let mut all = lock(&self.group.all);
        if !all.contains(party) {
            all.push(Arc::clone(party));
            self.group.grown.notify_waiters();
        }
    }

    /// The first of them, who makes the calls that are no one else's.
    pub fn first(&self) -> Arc<str> {
        lock(&self.group.all).first().cloned().unwrap_or_default()
    }
}

/// How long a call may take, roughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pull {
    /// Nearly all.
    Quick,
    /// Loads and large lists: they leave half of the permits to the others.
    Slow,
}

/// Permits for requests in flight. Each party has its turn; the foreground goes before refreshes, but for one turn in a
/// few, and some permits are out of the refreshes' reach (unless there is only one).
#[derive(Debug)]
pub struct Gate {
    total: usize,
    refreshes: usize,
    state: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    out: usize,
    refresh_out: usize,
    slow_out: usize,
    /// A call's place stands in the line of each of its parties.
    waiting: Lanes<(Arc<str>, Pull), WaitingPlace>,
}

type WaitingPlace = Arc<Mutex<Option<oneshot::Sender<Permit>>>>;

/// The right to have one request in flight; given back on drop.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    priority: Priority,
    pull: Pull,
}

impl Gate {
    /// So many permits (at least one), of which refreshes leave one to the others.
    pub fn new(total: usize) -> Arc<Self> {
        Self::with_refreshes(total, Self::all_but_one(total))
    }

    /// Of `total` permits refreshes hold no more than `refreshes`.
    pub fn with_refreshes(total: usize, refreshes: usize) -> Arc<Self> {
        Arc::new(Self { total: total.max(1), refreshes: refreshes.max(1), state: Mutex::default() })
    }

    /// How many of them leave one to others, where there are several.
    pub fn all_but_one(total: usize) -> usize {
        total.saturating_sub(1).max(1)
    }

    /// How many permits slow calls may hold.
    fn slow_share(total: usize) -> usize {
        (total / 2).max(1)
    }

    /// Waits for a permit.
    pub async fn enter(self: &Arc<Self>, priority: Priority, pull: Pull, parties: &Parties) -> Permit {
        let (sender, mut receiver) = oneshot::channel();
        let place = Arc::new(Mutex::new(Some(sender)));
        let mut known = 0;
        loop {
            // Made before the parties are looked at: none that joins in between is missed.
            let grown = parties.group.grown.notified();
            {
                let all = lock(&parties.group.all);
                let mut queue = lock(&self.state);
                let waiting = queue.waiting.lane_mut(priority == Priority::Foreground);
                for party in &all[known..] {
                    waiting.push((Arc::clone(party), pull), Arc::clone(&place));
                }
                known = all.len();
            }
            self.hand_out();
            tokio::select! {
                biased;
                permit = &mut receiver => match permit {
                    Ok(permit) => return permit,
                    // The sender lives in the queue of a gate that `self` keeps alive: it is never dropped unsent.
                    Err(_) => std::future::pending::<()>().await,
                },
                () = grown => {}
            }
        }
    }

    fn hand_out(self: &Arc<Self>) {
        while let Some((sender, permit)) = self.next() {
            // A waiter that went away hands its permit back by dropping it, outside of the lock.
            drop(sender.send(permit));
        }
    }

    fn next(self: &Arc<Self>) -> Option<(oneshot::Sender<Permit>, Permit)> {
        let mut queue = lock(&self.state);
        if queue.out >= self.total {
            return None;
        }
        let refresh_may = queue.refresh_out < self.refreshes;
        let slow_may = queue.slow_out < Self::slow_share(self.total);
        let (urgent, (_, pull), place) = queue.waiting.pop_live(
            // It has its permit by another party's turn, or whoever waited went away.
            |place| lock(place).as_ref().is_none_or(oneshot::Sender::is_closed),
            |urgent, (_, pull), _| (urgent || refresh_may) && (*pull == Pull::Quick || slow_may),
        )?;
        let sender = lock(&place).take()?;
        let priority = if urgent { Priority::Foreground } else { Priority::Refresh };
        queue.out += 1;
        queue.refresh_out += usize::from(priority == Priority::Refresh);
        queue.slow_out += usize::from(pull == Pull::Slow);
        Some((sender, Permit { gate: Arc::clone(self), priority, pull }))
    }
}

impl Permit {
    /// The call takes long after all. False where it may not: those that do hold their half of the permits already.
    pub fn slow_down(&mut self) -> bool {
        if self.pull == Pull::Quick {
            let mut queue = lock(&self.gate.state);
            if queue.slow_out >= Gate::slow_share(self.gate.total) {
                return false;
            }
            queue.slow_out += 1;
            self.pull = Pull::Slow;
        }
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut queue = lock(&self.gate.state);
            queue.out -= 1;
            queue.refresh_out -= usize::from(self.priority == Priority::Refresh);
            queue.slow_out -= usize::from(self.pull == Pull::Slow);
        }
        self.gate.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    async fn enter(gate: &Arc<Gate>, priority: Priority, party: &str) -> Permit {
        gate.enter(priority, Pull::Quick, &Parties::of([party.into()])).await
    }

    #[tokio::test]
    async fn a_party_with_a_thousand_calls_waiting_delays_another_by_one() {
        let gate = Gate::new(1);
        let held = enter(&gate, Priority::Foreground, "hostile").await;
        let mut many: Vec<_> =
            (0..1000).map(|_| Box::pin(enter(&gate, Priority::Foreground, "hostile"))).collect();
        for call in &mut many {
            assert!(call.now_or_never().is_none());
        }
        let mut victim = Box::pin(enter(&gate, Priority::Foreground, "victim"));
        let mut refresh = Box::pin(enter(&gate, Priority::Refresh, "victim"));
        assert!((&mut victim).now_or_never().is_none() && (&mut refresh).now_or_never().is_none());
        drop(held);
        let mut before = 0;
        let (mut served, mut refreshed) = (None, None);
        while served.is_none() || refreshed.is_none() {
            let next = many.iter_mut().position(|call| call.now_or_never().is_some());
            if let Some(at) = next {
                drop(many.remove(at));
                before += 1;
            }
            served = served.or_else(|| (&mut victim).now_or_never().map(|_| before));
            refreshed = refreshed.or_else(|| (&mut refresh).now_or_never().map(|_| before));
        }
        assert!(served.unwrap() <= 2 && refreshed.unwrap() <= 5, "{served:?} {refreshed:?}");
    }

    #[tokio::test]
    async fn a_call_that_many_wait_for_goes_with_the_first_turn_of_any_also_of_one_that_joins_late() {
        let gate = Gate::new(1);
        let held = enter(&gate, Priority::Foreground, "hostile").await;
        let mut many: Vec<_> =
            (0..10).map(|_| Box::pin(enter(&gate, Priority::Foreground, "hostile"))).collect();
        for call in &mut many {
            assert!(call.now_or_never().is_none());
        }
        let parties = Parties::of(["hostile".into()]);
        let mut walk = Box::pin(gate.enter(Priority::Foreground, Pull::Quick, &parties));
        assert!((&mut walk).now_or_never().is_none());
        parties.join(&"victim".into());
        assert!((&mut walk).now_or_never().is_none());
        drop(held);
        drop((&mut many[0]).now_or_never().expect("hostile has the first turn"));
        assert!((&mut walk).now_or_never().is_some(), "and then the victim");
        drop(many);
        enter(&gate, Priority::Foreground, "a").now_or_never().expect("nothing of it is left");
    }

    #[tokio::test]
    async fn slow_calls_leave_half_of_the_permits_to_the_others() {
        let gate = Gate::new(4);
        let parties = Parties::of(["a".into()]);
        let slow = || Box::pin(gate.enter(Priority::Foreground, Pull::Slow, &parties));
        let mut quick = enter(&gate, Priority::Foreground, "a").await;
        let held = [slow().await, slow().await];
        assert!(!quick.slow_down(), "it would keep the half that is for the others");
        drop(quick);
        let mut third = slow();
        assert!((&mut third).now_or_never().is_none());
        enter(&gate, Priority::Foreground, "a")
            .now_or_never()
            .expect("what is quick does not wait behind it");
        drop(held);
        let mut late = enter(&gate, Priority::Foreground, "a").await;
        assert!(late.slow_down() && late.slow_down());
        third.now_or_never().expect("then the third");
    }

    #[tokio::test]
    async fn the_foreground_goes_first_and_refreshes_never_take_the_last_permit() {
        let gate = Gate::new(2);
        let refresh = enter(&gate, Priority::Refresh, "a").await;
        let mut second_refresh = Box::pin(enter(&gate, Priority::Refresh, "a"));
        assert!((&mut second_refresh).now_or_never().is_none(), "the last permit is the foreground's");
        let foreground = enter(&gate, Priority::Foreground, "a").await;
        let mut waiting = Box::pin(enter(&gate, Priority::Foreground, "a"));
        assert!((&mut waiting).now_or_never().is_none());
        drop(refresh);
        let waiting = waiting.now_or_never().expect("the foreground is served before the older refresh");
        assert!((&mut second_refresh).now_or_never().is_none());
        drop(foreground);
        second_refresh.now_or_never().expect("then the refresh");
        drop(waiting);
    }

    #[tokio::test]
    async fn a_waiter_that_went_away_keeps_no_permit() {
        let gate = Gate::new(1);
        let held = enter(&gate, Priority::Foreground, "a").await;
        let mut gone = Box::pin(enter(&gate, Priority::Foreground, "a"));
        assert!((&mut gone).now_or_never().is_none());
        drop(held);
        drop(gone);
        enter(&gate, Priority::Refresh, "a").now_or_never().expect("free again");
    }
}

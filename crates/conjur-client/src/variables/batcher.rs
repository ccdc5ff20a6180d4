//! The task that gathers what is asked for, starts jobs, and hands out their answers. It lives as long as its client.

mod actor;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;

pub(crate) use self::actor::Timing;
use self::actor::{Actor, Ask, Subscribers};
use super::batch_limits::{Adaptive, BatchLimits};
use super::fetched::{Answer, Freshness, Wanted};
use super::requests::Source;
use crate::budget::Party;
use crate::config::Limits;
use crate::error::Error;
use crate::gate::Priority;
use crate::limits::{ANSWER_SMALL, ANSWERS_PATIENCE};
use crate::lock::lock;
use crate::memory_budget::{self, Refused, Sum};
use crate::request_id;

/// The client's end. The task starts with the first call, and ends when the client is dropped.
pub(crate) struct Collector {
    limits: BatchLimits,
    slots: usize,
    timing: Timing,
    subscribers: Subscribers,
    asks: OnceLock<mpsc::UnboundedSender<Ask>>,
}

impl Collector {
    pub(crate) fn new(limits: &Limits, timing: Timing) -> Self {
        Self {
            limits: BatchLimits {
                count: limits.batch_size.max(1),
                bytes: limits.batch_bytes.saturating_sub("variable_ids=".len()).max(1),
            },
            slots: limits.max_connections.max(1),
            timing,
            subscribers: Subscribers::default(),
            asks: OnceLock::new(),
        }
    }

    pub(super) fn subscribe(&self) -> mpsc::UnboundedReceiver<Vec<Wanted>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.subscribers).push(sender);
        receiver
    }

    pub(super) async fn fetch<S: Source>(
        &self,
        source: &Arc<S>,
        party: Party,
        wanted: &[Wanted],
        priority: Priority,
        freshness: Freshness,
    ) -> HashMap<Wanted, Answer> {
        if wanted.is_empty() {
            return HashMap::new();
        }
        let sum = source.sum(&party);
        let (waiter, mut receiver) = mpsc::unbounded_channel();
        let asks = self.asks.get_or_init(|| self.start(Arc::clone(source)));
        let ask = Ask { party, wanted: wanted.to_vec(), priority, freshness, waiter };
        asks.send(ask).ok();
        let mut answers = match gather(&mut receiver, sum, wanted.len(), ANSWERS_PATIENCE).await {
            Ok(answers) => answers,
            // What is still to come is not asked for any more: no one waits for it.
            Err(refused) => {
                let error = refused.error("the variables", source.url());
                return wanted.iter().map(|wanted| (wanted.clone(), Err(error.clone()))).collect();
            }
        };
        for wanted in wanted {
            // Only where the task was stopped from outside, as when the runtime ends.
            answers.entry(wanted.clone()).or_insert_with(|| {
                let message = format!("fetching {} was stopped", wanted.target());
                Err(Error::unavailable(message))
            });
        }
        answers
    }

    fn start<S: Source>(&self, source: Arc<S>) -> mpsc::UnboundedSender<Ask> {
        let (sender, asks) = mpsc::unbounded_channel();
        let limits = Adaptive::new(self.limits, self.timing.lowered);
        let actor = Actor::new(source, self.timing, limits, self.slots, Arc::clone(&self.subscribers));
        tokio::spawn(actor.run(asks));
        sender
    }
}

/// Takes answers as they come, and counts their values. What comes while it waits for room is held as well: where that is
/// as much again as is free, it waits no longer.
pub(super) async fn gather(
    receiver: &mut mpsc::UnboundedReceiver<(Wanted, Answer)>,
    mut sum: Sum,
    count: usize,
    patience: Duration,
) -> Result<HashMap<Wanted, Answer>, Refused> {
    let mut answers = HashMap::with_capacity(count);
    let mut take = |(wanted, answer): (Wanted, Answer), sum: &mut Sum| {
        if let Ok(value) = &answer {
            request_id::came_by(value.request);
            sum.add(value.expose().len(), value.share.as_deref())?;
            if let Some(share) = &value.share {
                memory_budget::keep(share);
            }
        }
        answers.insert(wanted, answer);
        Ok(())
    };
    while let Some(next) = receiver.recv().await {
        take(next, &mut sum)?;
        while let Some(bill) = sum.bill() {
            let most = sum.owes() + ANSWER_SMALL;
            let mut paying = std::pin::pin!(bill.pay(patience));
            let paid = loop {
                tokio::select! {
                    biased;
                    paid = &mut paying => break paid,
                    Some(next) = receiver.recv() => take(next, &mut sum)?,
                }
                if sum.owes() > most {
                    return Err(Refused::NoRoom);
                }
            };
            sum.settle(paid)?;
        }
    }
    Ok(answers)
}

//! One batch to its end: every id gets its own answer, and a bad one costs O(log n) requests.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::cut::{Adaptive, batches};
use super::wire::{Batch, Source};
use super::{Answer, Wanted};
use crate::conjur::error::Error;
use crate::conjur::id::VariableId;
use crate::conjur::pace::{Lane, lock};

/// What is known of a group before it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    /// It gave a 500 and is asked once more.
    BrokeOnce,
    /// At least one of them is bad: asking for all of it again would tell nothing.
    OneIsBad,
    /// It gave a 500 twice.
    Broken,
}

struct Group {
    ids: Vec<VariableId>,
    known: Known,
}

struct Isolation<'a, S, R> {
    source: &'a S,
    limits: &'a Mutex<Adaptive>,
    lane: Lane,
    pause: Duration,
    groups: Vec<Group>,
    report: R,
}

/// Asks for `ids` (distinct, without a comma) and reports each one's answer as soon as it is known. `pause` is the
/// wait before a 500 is tried again.
pub(super) async fn isolate<S: Source>(
    source: &S,
    limits: &Mutex<Adaptive>,
    ids: Vec<VariableId>,
    lane: Lane,
    pause: Duration,
    report: impl FnMut(VariableId, Answer) + Send,
) {
    let groups = vec![Group { ids, known: Known::Nothing }];
    let mut isolation = Isolation { source, limits, lane, pause, groups, report };
    while let Some(Group { ids, known }) = isolation.groups.pop() {
        match known {
            Known::Nothing | Known::BrokeOnce => {
                let outcome = source.batch(&ids, lane).await;
                isolation.settle(ids, outcome, known == Known::BrokeOnce).await;
            }
            Known::OneIsBad => isolation.split_bad(ids).await,
            Known::Broken => isolation.split_broken(ids).await,
        }
    }
}

impl<S: Source, R: FnMut(VariableId, Answer) + Send> Isolation<'_, S, R> {
    async fn settle(&mut self, ids: Vec<VariableId>, outcome: Batch, broke_before: bool) {
        match outcome {
            Batch::Values(values) => self.hand_over(ids, values),
            Batch::Missing(missing) => {
                let rest: Vec<_> = ids.into_iter().filter(|id| *id != missing).collect();
                let error = self.source.not_found(&missing);
                (self.report)(missing, Err(error));
                self.push(rest, Known::Nothing);
            }
            Batch::OneIsBad => self.push(ids, Known::OneIsBad),
            Batch::TooLong | Batch::TooLarge if ids.len() == 1 => self.alone(ids).await,
            Batch::TooLong => {
                let weight = |id: &VariableId| self.source.weight(id);
                let bytes = ids.iter().map(weight).sum();
                let limits = lock(self.limits).too_long(ids.len(), bytes, Instant::now());
                for batch in batches(ids, limits, weight) {
                    self.groups.push(Group { ids: batch, known: Known::Nothing });
                }
            }
            Batch::TooLarge => {
                let (left, right) = halves(ids);
                self.push(right, Known::Nothing);
                self.push(left, Known::Nothing);
            }
            Batch::Broken if !broke_before => {
                tokio::time::sleep(self.pause).await;
                self.push(ids, Known::BrokeOnce);
            }
            // Alone, a 500 is this id's own (its value can't be decrypted, say), not the server's as a whole.
            Batch::Broken if ids.len() == 1 => {
                let message = format!("{} answers 500 for variable {}", self.source.url(), ids[0]);
                self.fail(ids, &Error::Unexpected { status: Some(500), message });
            }
            Batch::Broken => self.push(ids, Known::Broken),
            Batch::Failed(error) => self.failed(ids, &error),
        }
    }

    fn hand_over(&mut self, ids: Vec<VariableId>, mut values: HashMap<VariableId, Answer>) {
        for id in ids {
            let answer = values.remove(&id).unwrap_or_else(|| {
                let message = format!("{} left variable {id} out of its answer", self.source.url());
                Err(Error::Unexpected { status: Some(200), message })
            });
            (self.report)(id, answer);
        }
    }

    /// One of `ids` is bad. Where the left half turns out fine, it is in the right half, which need not be asked.
    async fn split_bad(&mut self, ids: Vec<VariableId>) {
        if ids.len() == 1 {
            return self.alone(ids).await;
        }
        let (left, right) = halves(ids);
        let outcome = self.source.batch(&left, self.lane).await;
        let fine = matches!(outcome, Batch::Values(_));
        self.push(right, if fine { Known::OneIsBad } else { Known::Nothing });
        self.settle(left, outcome, false).await;
    }

    /// `ids` gave a 500 twice. Where both halves do too, it is the server, and is left alone.
    async fn split_broken(&mut self, ids: Vec<VariableId>) {
        let (left, right) = halves(ids);
        let first = self.source.batch(&left, self.lane).await;
        let second = self.source.batch(&right, self.lane).await;
        if matches!((&first, &second), (Batch::Broken, Batch::Broken)) {
            let message = format!("{} answers 500 to everything", self.source.url());
            let error = Error::Unavailable { message };
            self.fail(left, &error);
            self.failed(right, &error);
            return;
        }
        self.settle(right, second, true).await;
        self.settle(left, first, true).await;
    }

    /// Alone the server tells missing from forbidden, and sends the bytes as they are.
    async fn alone(&mut self, ids: Vec<VariableId>) {
        for id in ids {
            let answer = self.source.single(&Wanted::latest(id.clone()), self.lane).await;
            match answer {
                Err(error) if error.is_connection() => self.failed(vec![id], &error),
                answer => (self.report)(id, answer),
            }
        }
    }

    /// The same would come of everything else: it ends here.
    fn failed(&mut self, ids: Vec<VariableId>, error: &Error) {
        self.fail(ids, error);
        for group in std::mem::take(&mut self.groups) {
            self.fail(group.ids, error);
        }
    }

    fn fail(&mut self, ids: Vec<VariableId>, error: &Error) {
        for id in ids {
            (self.report)(id, Err(error.clone()));
        }
    }

    fn push(&mut self, ids: Vec<VariableId>, known: Known) {
        if !ids.is_empty() {
            self.groups.push(Group { ids, known });
        }
    }
}

/// Two halves, the left one not the smaller; the right one is empty for a single id.
pub(super) fn halves<T>(mut ids: Vec<T>) -> (Vec<T>, Vec<T>) {
    let right = ids.split_off(ids.len().div_ceil(2));
    (ids, right)
}

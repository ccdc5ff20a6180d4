//! Runs the objects of a kind: what wakes them comes in, each has its [turn](super::concurrency), and a task of its own.
//!
//! - An object never runs twice at once; what wakes it meanwhile runs it again afterwards.
//! - Nothing runs before the store has listed, and what else is looked up is there.
//! - An object that is not in the store any more is gone, and what is remembered of it is forgotten.
//! - Told to stop, nothing new is begun, and what runs is waited for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt};
use kube::{core::DeserializeGuard, runtime::reflector::Store};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Key, Reconcile,
    attempt::{attempt, report_invalid},
    backoff::{Backoffs, LONGEST_BACKOFF},
    concurrency::{BegunTurn, Line, ObjectTurns},
    current::reconciling,
};
use crate::metrics::{LaneLabel, TurnOf};

/// No time lies further ahead.
const LONGEST: Duration = Duration::from_secs(180 * 86_400);
/// So many that are woken at once are taken together.
const TOGETHER: usize = 1_000;

/// What came of a run.
enum Ran {
    /// It is to run again after the time; where there is none, when something wakes it.
    Again(Option<Duration>),
    /// There is no such object.
    Gone,
}

struct Runner<K: Reconcile> {
    store: Store<DeserializeGuard<K>>,
    ctx: Arc<K::Context>,
    backoffs: Arc<Backoffs>,
    turns: ObjectTurns,
    jobs: JoinSet<Ran>,
    running: HashMap<Id, Arc<Key>>,
}

/// Runs the objects of a store that are named by `woken`, until told to stop and what runs has ended. `others`: what they look up
/// beside it is listed; where that comes to false, none begins.
pub async fn run<K: Reconcile>(
    woken: impl Stream<Item = (Key, Instant)> + Send,
    store: Store<DeserializeGuard<K>>,
    others: impl Future<Output = bool> + Send,
    ctx: Arc<K::Context>,
    stop: CancellationToken,
) {
    let mut woken = std::pin::pin!(woken);
    let listed = async { store.wait_until_ready().await.is_ok() && others.await };
    let mut listed = std::pin::pin!(listed);
    let mut runner = Runner::<K> {
        store: store.clone(),
        ctx,
        backoffs: Arc::default(),
        turns: ObjectTurns::new(K::AT_ONCE),
        jobs: JoinSet::new(),
        running: HashMap::new(),
    };
    let (mut ready, mut stopping) = (false, false);
    loop {
        if ready && !stopping {
            runner.begin();
        }
        if stopping && runner.jobs.is_empty() {
            return;
        }
        let next_due = runner.turns.next_due().filter(|_| ready && !stopping);
        tokio::select! {
            Some(ended) = runner.jobs.join_next_with_id() => runner.ended(ended),
            next = woken.next(), if !stopping => match next {
                Some((key, at)) => {
                    runner.turns.wake(key, at);
                    // Whose turn it is is found out once for all that came.
                    for _ in 1..TOGETHER {
                        let Some(Some((key, at))) = woken.next().now_or_never() else { break };
                        runner.turns.wake(key, at);
                    }
                }
                // Its senders are gone: the process ends.
                None => stopping = true,
            },
            () = tokio::time::sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {}
            listed = &mut listed, if !ready => {
                (ready, stopping) = (listed, stopping || !listed);
            }
            () = stop.cancelled(), if !stopping => stopping = true,
        }
    }
}

impl<K: Reconcile> Runner<K> {
    fn begin(&mut self) {
        let store = &self.store;
        self.turns.line_up(Instant::now(), |key| line_of(key, store));
        while let Some(BegunTurn { key, urgent, waited_since }) = self.turns.begin() {
            let lane = if urgent { LaneLabel::Foreground } else { LaneLabel::Refresh };
            let waited = waited_since.map_or(Duration::ZERO, |since| since.elapsed());
            self.ctx.metrics.waited(TurnOf::Reconcile, lane, waited);
            let (theirs, store) = (Arc::clone(&key), self.store.clone());
            let (ctx, backoffs) = (self.ctx.clone(), self.backoffs.clone());
            let of = Arc::clone(&theirs);
            let work = async move { once(&theirs, &store, &ctx, &backoffs).await };
            let id = self.jobs.spawn(reconciling(K::KIND, of, work)).id();
            self.running.insert(id, key);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Ran), JoinError>) {
        let (id, ran) = match ended {
            Ok((id, ran)) => (id, ran),
            Err(error) => (error.id(), aborted(&error)),
        };
        let Some(key) = self.running.remove(&id) else { return };
        let again = match ran {
            Ran::Again(again) => again,
            Ran::Gone => {
                self.backoffs.forget(&key);
                self.ctx.statuses.forget(K::KIND, &key);
                self.ctx.sync_nows.forget(K::KIND, &key);
                self.ctx.specs.forget(K::KIND, &key);
                K::on_deleted(&key, &self.ctx);
                None
            }
        };
        self.turns.ended(&key, again.map(|after| Instant::now() + after.min(LONGEST)));
    }
}

/// What a reconcile's panic says could hold a value: those of its work are caught in it, this is for what is around it.
fn aborted(error: &JoinError) -> Ran {
    tracing::error!(
        panic = error.is_panic(),
        "a task that reconciles an object was ended; it is begun again"
    );
    Ran::Again(Some(LONGEST_BACKOFF))
}

/// The line that an object waits in, as it is now.
fn line_of<K: Reconcile>(key: &Key, store: &Store<DeserializeGuard<K>>) -> Option<Line> {
    store.get(&key.reference())?.0.as_ref().ok()?.line()
}

/// One reconcile of one object, now that its turn has come: as it is now.
async fn once<K: Reconcile>(
    key: &Key,
    store: &Store<DeserializeGuard<K>>,
    ctx: &K::Context,
    backoffs: &Backoffs,
) -> Ran {
    match ctx.statuses.freshest(key, store) {
        Some(Ok(object)) => Ran::Again(attempt(&object, ctx, backoffs).await),
        Some(Err(invalid)) => Ran::Again(report_invalid::<K>(&invalid, ctx, backoffs).await),
        None => Ran::Gone,
    }
}

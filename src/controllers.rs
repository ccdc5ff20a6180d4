//! The reconcilers, and what they share: [`Context`] and [`Reconcile`].
//!
//! Read every controller in one direction: `reconcile` → `observe` → `act`.

pub mod circles;
pub mod clients;
pub mod connection;
pub mod facts;
pub mod failure;
pub mod inputs;
pub mod memory;
pub mod namespaces;
pub mod pending;
pub mod policy;
pub mod report;
pub mod runner;
pub mod secret;
pub mod slim;
pub mod specs;
pub mod streams;
pub mod sync_now;
pub mod turns;

use std::{
    collections::HashMap,
    fmt::Debug,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::FutureExt;
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{
        DeserializeGuard, PartialObjectMeta,
        object::{HasSpec, HasStatus},
    },
    runtime::{
        reflector::{ObjectRef, Store},
        watcher::Event,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use self::{
    clients::Clients,
    connection::Audiences,
    inputs::Inputs,
    memory::Memory,
    policy::{Branches, KeyWrites, Notes},
    report::{Events, Report, Statuses},
    specs::Specs,
    streams::Wakeups,
    sync_now::SyncNows,
    turns::Line,
};
use crate::{
    api::{
        ClusterConjurConnection, ConjurConnection, ConjurPolicy, ConjurSecret, Reason, SYNC_NOW_ANNOTATION,
        condition::{Conditioned, State},
    },
    cluster::Cluster,
    conjur::{Lane, reach::Reach, share},
    heavy::Heavy,
    limits::RUNNING_OTHERS,
    metrics::{Kind, Metrics, ReconcileOutcome},
    plan::{Class, Failure, schedule::SyncNow, secret::FingerprintKey},
};

/// Stalled objects are looked at again after this long, for what was mended may not announce itself.
const STALLED_AGAIN: Duration = Duration::from_secs(3600);
/// Longest pause between two tries of one object.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// What all reconcilers share.
pub struct Context {
    /// Kubernetes IO.
    pub cluster: Cluster,
    /// The clients of Conjur, one per connection.
    pub clients: Clients,
    /// The connections there are.
    pub connections: Store<DeserializeGuard<ConjurConnection>>,
    /// The ClusterConjurConnections there are.
    pub cluster_connections: Store<DeserializeGuard<ClusterConjurConnection>>,
    /// Metadata of the namespaces, for the labels that access rules select by.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Whom tokens of ServiceAccounts may be for.
    pub audiences: Audiences,
    /// Where the connections of namespaces may lead.
    pub reach: Arc<Reach>,
    /// The ConjurSecrets there are.
    pub secrets: Store<DeserializeGuard<ConjurSecret>>,
    /// The ConjurPolicies there are.
    pub policies: Store<DeserializeGuard<ConjurPolicy>>,
    /// Metadata of the Secrets that we write to.
    pub owned: Store<PartialObjectMeta<Secret>>,
    /// Wakes objects of other controllers.
    pub wakeups: Wakeups,
    /// Watches of what connections refer to.
    pub inputs: Arc<Inputs>,
    /// Statuses that the watch has not shown yet.
    pub statuses: Statuses,
    /// Sends Events.
    pub events: Events,
    /// Which specs stay in memory.
    pub specs: Arc<Specs>,
    /// What we remember of the Secrets we wrote.
    pub memory: Arc<Memory>,
    /// Makes fingerprints of Secrets.
    pub fingerprints: FingerprintKey,
    /// One load at a time per branch.
    pub branches: Branches,
    /// What we remember of the policies.
    pub policy_notes: Notes,
    /// Which `sync-now` texts were handled.
    pub sync_nows: SyncNows,
    /// Our own writes of Secrets that keep keys.
    pub key_writes: Arc<KeyWrites>,
    /// Does what is heavy.
    pub heavy: Heavy,
    /// Whether workloads are restarted for objects that ask for it.
    pub rollout_restart: bool,
    /// Counts what happens.
    pub metrics: Metrics,
}

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        Self { namespace: ResourceExt::namespace(object).unwrap_or_default(), name: object.name_any() }
    }

    /// Where the object is found in a store of its kind.
    pub fn reference<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        let at = ObjectRef::new(&self.name);
        if self.namespace.is_empty() { at } else { at.within(&self.namespace) }
    }
}

/// A kind that the operator brings about.
pub trait Reconcile:
    Resource<DynamicType = ()>
    + HasSpec<Spec: Serialize>
    + HasStatus<Status: Conditioned + Serialize + DeserializeOwned>
    + Clone
    + DeserializeOwned
    + Serialize
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Its kind, for logs and metrics.
    const KIND: Kind;
    /// How long one reconcile may take.
    const DEADLINE: Duration;
    /// How many objects of the kind are worked on at once.
    const AT_ONCE: usize = RUNNING_OTHERS;

    /// Looks at the object, and does what is due. Every effect may be repeated.
    fn reconcile(&self, ctx: &Context) -> impl Future<Output = Result<Outcome, Trouble>> + Send;

    /// The API of the kind, in a namespace where it has one.
    fn api(client: Client, namespace: &str) -> Api<Self>;

    /// `status.observedGeneration` and `status.conditions`.
    fn conditions(&self) -> (Option<i64>, &[Condition]) {
        self.status().map_or((None, &[]), |status| (status.observed_generation(), status.conditions()))
    }

    /// The status as JSON; none where there is none.
    fn status_json(&self) -> Option<Value> {
        serde_json::to_value(self.status()?).ok()
    }

    /// Takes a status as JSON.
    fn set_status(&mut self, status: Value) {
        *self.status_mut() = serde_json::from_value(status).ok();
    }

    /// The store of the kind.
    fn store(ctx: &Context) -> &Store<DeserializeGuard<Self>>;

    /// Takes note of what the watch shows, before the store does.
    fn shown(_event: &Event<DeserializeGuard<Self>>, _ctx: &Context) {}

    /// The line that the object waits in for its turn; none where its turn is at once.
    fn line(&self) -> Option<Line> {
        None
    }

    /// Leaves out what the store need not keep, thousands of times, and gives back the room that lists took while they
    /// were decoded.
    fn slim(&mut self) {}

    /// Leaves all out of a long spec but what is looked at while it is another object's turn.
    fn shorten(spec: &mut Self::Spec);

    /// Refuses references to what can't be a name, before anything is asked for by them.
    ///
    /// # Errors
    /// `InvalidSpec`.
    fn check_references(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Forgets what is remembered of an object that is gone.
    fn gone(key: &Key, ctx: &Context);
}

/// What came of a reconcile.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing was due, or nothing can be said yet; looked at again after the time, or when something wakes it.
    Untouched(Option<Duration>),
    /// Done.
    Done {
        /// Looked at again after this.
        again: Option<Duration>,
        /// Why Ready is True.
        reason: Reason,
        /// What was done.
        message: String,
        /// Fields of the status.
        fields: Map<String, Value>,
        /// Lane of the status write.
        lane: Lane,
    },
    /// The object is suspended.
    Suspended,
}

/// A reconcile that did not get there.
#[derive(Debug)]
pub struct Trouble {
    /// Why.
    pub failure: Failure,
    /// Something new was asked (a generation, a `sync-now`), so that the last good state is no answer.
    pub asked: bool,
    /// Fields of the status.
    pub fields: Map<String, Value>,
    /// Looked at again after this at the latest.
    pub again: Option<Duration>,
}

impl<F: Into<Failure>> From<F> for Trouble {
    fn from(failure: F) -> Self {
        Self { failure: failure.into(), asked: true, fields: Map::new(), again: None }
    }
}

/// One reconcile of one object: guard, deadline, report, backoff. When it is to run again, where nothing wakes it before.
async fn attempt<K: Reconcile>(object: &K, ctx: &Context, backoffs: &Backoffs) -> Option<Duration> {
    let started = Instant::now();
    let key = Key::of(object);
    let text = object.annotations().get(SYNC_NOW_ANNOTATION).map(String::as_str);
    // A deletion is an edit, too: it moves the generation.
    let look = ctx.sync_nows.look((K::KIND, &key), text, object.meta().generation, jiff::Timestamp::now());
    if let SyncNow::In(rest) = look {
        // All that is due is done by it then. What would be done now would count as an answer to it.
        return Some(rest);
    }
    // Boxed: thousands may wait at once, and each holds all of its largest state as long as it is not.
    let reconcile = Box::pin(share::until_done(async {
        let whole;
        let object = match slim::shortened(object.meta()) {
            None => object,
            Some(length) => {
                let Some(found) = specs::whole(object, length, ctx).await? else {
                    // What comes in its place wakes it.
                    return Ok(Outcome::Untouched(None));
                };
                whole = Box::new(found);
                &whole
            }
        };
        // What is being deleted refers to nothing any more, and has to go all the same.
        if object.meta().deletion_timestamp.is_none() {
            object.check_references()?;
        }
        object.reconcile(ctx).await
    }));
    let work = AssertUnwindSafe(tokio::time::timeout(K::DEADLINE, reconcile)).catch_unwind();
    let result = match work.await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::transient(
            Reason::ApiServerError,
            format!("this took longer than {:?}; it is tried again", K::DEADLINE),
        )
        .into()),
        // What a panic says could hold a value.
        Err(_) => {
            Err(Failure::transient(Reason::ApiServerError, "a fault of the operator itself; see its log")
                .into())
        }
    };
    let outcome = match &result {
        Ok(_) => ReconcileOutcome::Done,
        Err(trouble) => match trouble.failure.class {
            Class::Stalled => ReconcileOutcome::Stalled,
            Class::Waiting(_) | Class::Connection => ReconcileOutcome::Waiting,
            Class::Transient => ReconcileOutcome::Transient,
        },
    };
    ctx.metrics.reconciled(K::KIND, outcome, started.elapsed());
    tracing::debug!(
        kind = K::KIND.as_str(),
        namespace = key.namespace,
        name = key.name,
        outcome = outcome.as_str(),
        "reconciled"
    );
    let next = Box::pin(finish(object, &key, result, ctx, backoffs)).await;
    ctx.statuses.settle(K::KIND, &key);
    next
}

async fn finish<K: Reconcile>(
    object: &K,
    key: &Key,
    result: Result<Outcome, Trouble>,
    ctx: &Context,
    backoffs: &Backoffs,
) -> Option<Duration> {
    let (to_say, next) = match result {
        Ok(Outcome::Untouched(again)) => {
            return again;
        }
        Ok(Outcome::Suspended) => {
            let message = "suspended: set spec.suspend to false to go on".to_owned();
            let (state, reason) = (State::Suspended, Reason::Suspended);
            (Report { state, reason, message, fields: Map::new(), lane: Lane::Foreground }, None)
        }
        Ok(Outcome::Done { again, reason, message, fields, lane }) => {
            backoffs.forget(key);
            (Report { state: State::Done, reason, message, fields, lane }, again)
        }
        Err(Trouble { failure, asked, fields, again }) => {
            let next = match failure.class {
                Class::Stalled => Some(STALLED_AGAIN),
                Class::Waiting(again) => Some(again),
                Class::Transient => Some(backoffs.failed(key)),
                // Its recovery wakes the object; this is for the case that it does not.
                Class::Connection => Some(failure::LOOK_AGAIN),
            };
            let next = next.into_iter().chain(again).min();
            ctx.metrics.failed(K::KIND, failure.reason.as_str());
            // The connection tells of itself, once: thousands may wait for it.
            if failure.class != Class::Connection {
                tracing::warn!(
                    kind = K::KIND.as_str(),
                    namespace = key.namespace,
                    name = key.name,
                    reason = failure.reason.as_str(),
                    "{}",
                    failure.message
                );
            }
            let lane = if asked { Lane::Foreground } else { Lane::Refresh };
            let (state, reason) = (failure.class.state(asked), failure.reason);
            (Report { state, reason, message: failure.message, fields, lane }, next)
        }
    };
    match report::report(object, to_say, ctx).await {
        Ok(()) => next,
        Err(error) => {
            tracing::warn!(kind = K::KIND.as_str(), namespace = key.namespace, name = key.name, "{error}");
            Some(backoffs.failed(key))
        }
    }
}

/// Per object, how often it failed in a row.
#[derive(Default)]
struct Backoffs(Mutex<HashMap<Key, u32>>);

impl Backoffs {
    fn failed(&self, key: &Key) -> Duration {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = map.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        backoff(*count, Duration::from_secs(1), LONGEST_BACKOFF, rand::random())
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The pause after the `count`-th failure in a row: doubling from `first` up to `longest`, and up to a fifth
/// shorter by `jitter` (0 to 1), so that many do not come back at once.
pub fn backoff(count: u32, first: Duration, longest: Duration, jitter: f64) -> Duration {
    let full = first.saturating_mul(1 << count.saturating_sub(1).min(20)).min(longest);
    full.mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_longest() {
        let s = Duration::from_secs;
        for (count, expected) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            assert_eq!(backoff(count, s(1), s(300), 0.0), s(expected));
        }
        assert_eq!(backoff(1, s(10), s(300), 1.0), s(8));
    }
}

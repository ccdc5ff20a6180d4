//! What the operator counts. Labels come from closed lists, so that no object's name, id or error text can become
//! one: the number of time series is bounded, and nothing secret can reach the page. The one exception are the gauges of
//! single objects, which have to be asked for.
//!
//! `docs/metrics.md` says what each is for; a test compares the two.

mod budgets;
mod labels;
mod process;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use self::labels::{
    FailureLabels, KeyLabels, KindLabels, LoginLabels, OutcomeLabels, ReconcileLabels, RequestLabels,
    RestartLabels, TurnLabels, WriteLabels,
};
use crate::conjur;

pub use self::{
    labels::{
        ChangeOutcome, KeyChange, Kind, LaneLabel, ReconcileOutcome, RestartOutcome, SecretWrite, TurnOf,
    },
    state::{ObjectState, ShowsStates},
};

/// From what costs nothing (not due) to the longest load.
const RECONCILE_BUCKETS: [f64; 13] =
    [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 180.0, 600.0];
/// From a server next door to the deadline of a load.
const REQUEST_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];
/// From no wait at all to one that a person would ask about.
const WAIT_BUCKETS: [f64; 9] = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];
/// Variables in one request.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0];

/// The page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the metrics could not be encoded: {0}")]
pub struct EncodeError(#[from] std::fmt::Error);

/// The counters of the process; clones count together.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

struct Inner {
    registry: Registry,
    /// Of the process, under names that are not the operator's.
    process: Registry,
    states: state::States,
    reconciles: Family<ReconcileLabels, Counter>,
    durations: Histograms<KindLabels>,
    requests: Family<RequestLabels, Counter>,
    request_durations: Histograms<RequestLabels>,
    logins: Family<LoginLabels, Counter>,
    batches: Histogram,
    waits: Histograms<TurnLabels>,
    writes: Family<WriteLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    loads: Family<OutcomeLabels, Counter>,
    pushed: Family<OutcomeLabels, Counter>,
    keys: Family<KeyLabels, Counter>,
    restarts: Family<RestartLabels, Counter>,
    leader: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(false)
    }
}

/// Registers what is made with its name.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn reconcile_histogram() -> Histogram {
    Histogram::new(RECONCILE_BUCKETS)
}

fn request_histogram() -> Histogram {
    Histogram::new(REQUEST_BUCKETS)
}

fn wait_histogram() -> Histogram {
    Histogram::new(WAIT_BUCKETS)
}

impl Metrics {
    /// Counters at zero. `each`: single objects have series of their own, too.
    pub fn new(each: bool) -> Self {
        let mut registry = Registry::with_prefix("conjur_operator");
        let r = &mut registry;
        // The encoder appends `_total` to a counter's name, and `_info` to that of an Info.
        r.register("build", "What runs", Info::new(build()));
        let states = state::States { each, ..state::States::default() };
        r.register_collector(Box::new(states.clone()));
        r.register_collector(Box::new(budgets::Budgets));
        let mut process = Registry::with_prefix("process");
        process.register_collector(Box::new(process::Process));
        let inner = Inner {
            reconciles: add(r, "reconciles", "Reconciles that ended, by outcome", Family::default()),
            durations: add(
                r,
                "reconcile_duration_seconds",
                "How long reconciles took",
                Family::new_with_constructor(reconcile_histogram as fn() -> Histogram),
            ),
            requests: add(r, "conjur_requests", "Requests to Conjur, by what it answered", Family::default()),
            request_durations: add(
                r,
                "conjur_request_duration_seconds",
                "How long requests to Conjur took, by what it answered",
                Family::new_with_constructor(request_histogram as fn() -> Histogram),
            ),
            logins: add(r, "logins", "Logins to Conjur, by what it answered", Family::default()),
            batches: add(
                r,
                "batch_variables",
                "Variables that one request asked for",
                Histogram::new(BATCH_BUCKETS),
            ),
            waits: add(
                r,
                "turn_wait_seconds",
                "How long a turn was waited for, by what it is for and the lane",
                Family::new_with_constructor(wait_histogram as fn() -> Histogram),
            ),
            writes: add(r, "secret_writes", "Writes of Secrets", Family::default()),
            failures: add(
                r,
                "failures",
                "Failed reconciles, by the reason in the condition",
                Family::default(),
            ),
            loads: add(r, "policy_loads", "Policy loads that were sent, by outcome", Family::default()),
            pushed: add(
                r,
                "values_pushed",
                "Values that were sent to variables of Conjur, by outcome",
                Family::default(),
            ),
            keys: add(
                r,
                "key_changes",
                "API keys that were asked of Conjur by enrolments and rotations, by outcome",
                Family::default(),
            ),
            restarts: add(
                r,
                "workload_restarts",
                "Restarts of workloads, since their Secret changed, by outcome",
                Family::default(),
            ),
            leader: add(r, "leader", "Whether this replica acts", Gauge::default()),
            registry,
            process,
            states,
        };
        inner.begin();
        Self { inner: Arc::new(inner) }
    }

    /// A reconcile ended, and took this long.
    pub fn reconciled(&self, kind: Kind, outcome: ReconcileOutcome, took: Duration) {
        self.inner.reconciles.get_or_create(&ReconcileLabels { kind, outcome }).inc();
        self.inner.durations.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
    }

    /// A Secret was written.
    pub fn secret_written(&self, action: SecretWrite) {
        self.inner.writes.get_or_create(&WriteLabels { action }).inc();
    }

    /// A reconcile failed. The reason is one of the closed list that conditions use, never a message.
    pub fn failed(&self, kind: Kind, reason: &'static str) {
        self.inner.failures.get_or_create(&FailureLabels { kind, reason }).inc();
    }

    /// A policy load was sent.
    pub fn loaded(&self, outcome: ChangeOutcome) {
        self.inner.loads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A value was sent to a variable.
    pub fn pushed(&self, outcome: ChangeOutcome) {
        self.inner.pushed.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A key was asked for.
    pub fn key_changed(&self, change: KeyChange, outcome: ChangeOutcome) {
        self.inner.keys.get_or_create(&KeyLabels { change, outcome }).inc();
    }

    /// A workload was to be restarted.
    pub fn restarted(&self, outcome: RestartOutcome) {
        self.inner.restarts.get_or_create(&RestartLabels { outcome }).inc();
    }

    /// A turn came after this long.
    pub fn waited(&self, turn: TurnOf, lane: LaneLabel, wait: Duration) {
        self.inner.waits.get_or_create(&TurnLabels { turn, lane }).observe(wait.as_secs_f64());
    }

    /// Whether this replica acts from here on.
    pub fn leads(&self, leads: bool) {
        self.inner.leader.set(i64::from(leads));
    }

    /// Shows what there is from here on; only the first call counts.
    pub fn observe(&self, observed: Arc<dyn ShowsStates>) {
        // There is one set of stores in a process.
        drop(self.inner.states.observed.set(observed));
    }

    /// The page, as OpenMetrics text.
    pub fn page(&self) -> Result<String, EncodeError> {
        let mut page = String::new();
        text::encode_registry(&mut page, &self.inner.registry)?;
        text::encode_registry(&mut page, &self.inner.process)?;
        text::encode_eof(&mut page)?;
        Ok(page)
    }
}

impl Inner {
    /// What is rare stands at zero from the start: an increase from nothing is none to Prometheus.
    fn begin(&self) {
        for action in SecretWrite::ALL {
            drop(self.writes.get_or_create(&WriteLabels { action: *action }));
        }
        for outcome in ChangeOutcome::ALL {
            drop(self.loads.get_or_create(&OutcomeLabels { outcome: *outcome }));
            drop(self.pushed.get_or_create(&OutcomeLabels { outcome: *outcome }));
            for change in KeyChange::ALL {
                drop(self.keys.get_or_create(&KeyLabels { change: *change, outcome: *outcome }));
            }
        }
        for outcome in RestartOutcome::ALL {
            drop(self.restarts.get_or_create(&RestartLabels { outcome: *outcome }));
        }
        for outcome in [conjur::Outcome::Ok, conjur::Outcome::Unauthenticated] {
            drop(self.logins.get_or_create(&LoginLabels { outcome: outcome.as_str() }));
        }
    }
}

/// The version, and the commit where the build was told it.
fn build() -> Vec<(&'static str, &'static str)> {
    vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("commit", option_env!("CONJUR_OPERATOR_COMMIT").unwrap_or("unknown")),
    ]
}

impl conjur::Observer for Metrics {
    fn request(&self, endpoint: conjur::Endpoint, outcome: conjur::Outcome, took: Duration) {
        let labels = RequestLabels { endpoint: endpoint.as_str(), outcome: outcome.as_str() };
        self.inner.requests.get_or_create(&labels).inc();
        self.inner.request_durations.get_or_create(&labels).observe(took.as_secs_f64());
        if endpoint == conjur::Endpoint::Authenticate {
            self.inner.logins.get_or_create(&LoginLabels { outcome: outcome.as_str() }).inc();
        }
    }

    fn batch(&self, variables: usize) {
        #[allow(clippy::cast_precision_loss, reason = "a batch has hundreds of variables at most")]
        self.inner.batches.observe(variables as f64);
    }

    fn waited(&self, priority: conjur::Lane, wait: Duration) {
        Metrics::waited(self, TurnOf::ConjurRequest, priority.into(), wait);
    }
}

//! What the operator counts. Labels come from closed lists, so that no object's name, id or error text can become
//! one: the number of time series is bounded, and nothing secret can reach the page.

mod process;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _, LabelValueEncoder, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::conjur;
use crate::limits::{self, Limit};

/// A list of label values, each written once.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($variant),+ }

        impl $name {
            /// As it stands on the page.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

label! {
    /// The kinds that are reconciled.
    Kind {
        Connection = "ConjurConnection",
        ClusterConnection = "ClusterConjurConnection",
        Secret = "ConjurSecret",
        Policy = "ConjurPolicy",
        Push = "ConjurPush",
        Host = "ConjurHost",
    }
}

label! {
    /// How a reconcile ended.
    ReconcileOutcome {
        Done = "done",
        Waiting = "waiting",
        Transient = "transient",
        Stalled = "stalled",
    }
}

label! {
    /// What was done to a Secret.
    SecretWrite {
        Create = "create",
        Update = "update",
        Recreate = "recreate",
        Delete = "delete",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: Kind,
    outcome: ReconcileOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    action: SecretWrite,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    kind: Kind,
    reason: &'static str,
}

/// From what costs nothing (not due) to the deadline of a reconcile.
const BUCKETS: [f64; 11] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0];

/// The page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the metrics could not be encoded: {0}")]
pub struct EncodeError(#[from] std::fmt::Error);

/// The counters of the process; clones count together.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    /// Of the process, under names that are not the operator's.
    process: Registry,
    reconciles: Family<ReconcileLabels, Counter>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    requests: Family<RequestLabels, Counter>,
    writes: Family<WriteLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("conjur_operator");
        let reconciles = Family::default();
        let durations = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let requests = Family::default();
        let writes = Family::default();
        let failures = Family::default();
        // The encoder appends `_total` to a counter's name.
        registry.register("reconciles", "Reconciles that ended, by outcome", reconciles.clone());
        registry.register("reconcile_duration_seconds", "How long reconciles took", durations.clone());
        registry.register("conjur_requests", "Requests to Conjur, by what it answered", requests.clone());
        registry.register("secret_writes", "Writes of Secrets", writes.clone());
        registry.register("failures", "Failed reconciles, by the reason in the condition", failures.clone());
        registry.register_collector(Box::new(Limits));
        let mut process = Registry::with_prefix("process");
        process.register_collector(Box::new(process::Process));
        Self {
            inner: Arc::new(Inner { registry, process, reconciles, durations, requests, writes, failures }),
        }
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

    /// The page, as OpenMetrics text.
    pub fn page(&self) -> Result<String, EncodeError> {
        let mut page = String::new();
        text::encode_registry(&mut page, &self.inner.registry)?;
        text::encode_registry(&mut page, &self.inner.process)?;
        text::encode_eof(&mut page)?;
        Ok(page)
    }
}

/// The budgets: how often each was met, and how much of it is in use.
#[derive(Debug)]
struct Limits;

impl Collector for Limits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "What was refused, put off, dropped or cut by a budget of docs/limits.md";
        let mut hits = encoder.encode_descriptor("limit_hits", help, None, MetricType::Counter)?;
        for limit in Limit::ALL {
            let count = ConstCounter::new(limits::hits(*limit));
            count.encode(hits.encode_family(&[("limit", limit.as_str())])?)?;
        }
        let help = "How much of a budget of docs/limits.md is in use";
        let mut used = encoder.encode_descriptor("limit_in_use", help, None, MetricType::Gauge)?;
        for limit in Limit::ALL.iter().filter(|limit| limit.is_metered()) {
            let amount = ConstGauge::new(limits::in_use(*limit));
            amount.encode(used.encode_family(&[("limit", limit.as_str())])?)?;
        }
        Ok(())
    }
}

impl conjur::Observer for Metrics {
    fn request(&self, endpoint: conjur::Endpoint, outcome: conjur::Outcome, _: Duration) {
        let labels = RequestLabels { endpoint: endpoint.as_str(), outcome: outcome.as_str() };
        self.inner.requests.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_on_the_page_under_its_name() {
        let metrics = Metrics::new();
        let clone = metrics.clone();
        clone.reconciled(Kind::Secret, ReconcileOutcome::Done, Duration::from_millis(30));
        metrics.reconciled(Kind::Secret, ReconcileOutcome::Done, Duration::from_secs(90));
        conjur::Observer::request(
            &metrics,
            conjur::Endpoint::SecretBatch,
            conjur::Outcome::RateLimited,
            Duration::ZERO,
        );
        metrics.secret_written(SecretWrite::Recreate);
        metrics.failed(Kind::Policy, "NotBranchOwner");
        let page = metrics.page().unwrap();
        for line in [
            r#"conjur_operator_reconciles_total{kind="ConjurSecret",outcome="done"} 2"#,
            r#"conjur_operator_reconcile_duration_seconds_count{kind="ConjurSecret"} 2"#,
            r#"conjur_operator_reconcile_duration_seconds_bucket{le="0.1",kind="ConjurSecret"} 1"#,
            r#"conjur_operator_reconcile_duration_seconds_bucket{le="+Inf",kind="ConjurSecret"} 2"#,
            r#"conjur_operator_conjur_requests_total{endpoint="secret_batch",outcome="rate_limited"} 1"#,
            r#"conjur_operator_secret_writes_total{action="recreate"} 1"#,
            r#"conjur_operator_failures_total{kind="ConjurPolicy",reason="NotBranchOwner"} 1"#,
            "# TYPE conjur_operator_reconciles counter",
            "# TYPE conjur_operator_reconcile_duration_seconds histogram",
            "# TYPE conjur_operator_conjur_requests counter",
            "# TYPE conjur_operator_secret_writes counter",
            "# TYPE conjur_operator_failures counter",
            "# TYPE conjur_operator_limit_hits counter",
            r#"conjur_operator_limit_in_use{limit="metrics_connections"} 0"#,
            "# TYPE process_cpu_seconds counter",
            "# TYPE process_open_fds gauge",
            "# EOF",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
        }
        for name in
            ["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_threads"]
        {
            let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            assert!(value.is_some_and(|value| value > 0), "{name} is not in\n{page}");
        }
    }
}

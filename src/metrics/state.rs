//! How things stand: gauges that are worked out when the page is asked for, from what is in memory. No request is made for
//! them, and no reconcile keeps them.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{Debug, Error, Formatter};
use std::sync::{Arc, LazyLock, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::labels::{Kind, ReadyLabel};
use crate::api::Reason;
use crate::limits::{self, Limit};

/// What one object is to the gauges. Times are seconds, spans may be negative.
#[derive(Debug, Clone, Copy)]
pub struct ObjectState<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Empty where the kind has none.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The status of Ready, and its reason as the status writes it; none before the first report.
    pub ready: Option<(&'a str, &'a str)>,
    /// The reason of a fault that is tried again, as the status writes it.
    pub reconciling: Option<&'a str>,
    /// For how long Ready has been as it is, or the object has been there.
    pub since: Option<f64>,
    /// Nothing is to be done for it.
    pub suspended: bool,
    /// How long ago a connection last worked.
    pub worked: Option<f64>,
    /// In how long its key is rotated.
    pub rotation: Option<f64>,
    /// In how long the first certificate ends that it wrote.
    pub certificate: Option<f64>,
}

/// Shows all objects that there are.
pub trait ShowsStates: Send + Sync {
    /// Calls this for each of them.
    fn objects(&self, see: &mut dyn FnMut(&ObjectState<'_>));
}

/// What is shown, and how; clones share it.
#[derive(Clone, Default)]
pub(super) struct States {
    pub(super) observed: Arc<OnceLock<Arc<dyn ShowsStates>>>,
    /// Whether each object has series of its own.
    pub(super) each: bool,
}

impl Debug for States {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result<(), Error> {
        f.debug_struct("States").field("each", &self.each).finish_non_exhaustive()
    }
}

/// The reason as the closed list writes it: a status can be written by others, too.
fn closed(reason: &str) -> &'static str {
    static ALL: LazyLock<HashSet<&'static str>> =
        LazyLock::new(|| Reason::ALL.iter().map(|reason| reason.as_str()).collect());
    ALL.get(reason).copied().unwrap_or("Other")
}

/// What stands for the reason of an object of which nothing is reported yet.
const NOT_REPORTED: &str = "NotReported";

/// A sum over all objects of a kind.
#[derive(Debug, Default, PartialEq)]
struct OfKind {
    ready: BTreeMap<(ReadyLabel, &'static str), i64>,
    reconciling: BTreeMap<&'static str, i64>,
    oldest_not_ready: f64,
    longest_without_work: Option<f64>,
}

#[derive(Debug, Default)]
struct Sums {
    kinds: BTreeMap<Kind, OfKind>,
    next_rotation: Option<f64>,
    first_certificate: Option<f64>,
    each: Vec<Row>,
}

/// One object's own series.
#[derive(Debug)]
struct Row {
    labels: ObjectLabels,
    ready: bool,
    worked: Option<f64>,
    rotation: Option<f64>,
    certificate: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectLabels {
    kind: Kind,
    namespace: String,
    name: String,
}

fn sooner(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::min)
}

fn later(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

impl Sums {
    fn of(observed: &dyn ShowsStates, each: bool) -> Self {
        let mut sums = Self::default();
        // A kind of which there is nothing is shown as that.
        for kind in Kind::ALL {
            sums.kinds.entry(*kind).or_default();
        }
        observed.objects(&mut |object| sums.add(object, each));
        sums
    }

    fn add(&mut self, object: &ObjectState<'_>, each: bool) {
        let of_kind = self.kinds.entry(object.kind).or_default();
        let (status, reason) = match object.ready {
            Some(("True", reason)) => (ReadyLabel::True, closed(reason)),
            Some(("False", reason)) => (ReadyLabel::False, closed(reason)),
            Some((_, reason)) => (ReadyLabel::Unknown, closed(reason)),
            None => (ReadyLabel::Unknown, NOT_REPORTED),
        };
        *of_kind.ready.entry((status, reason)).or_default() += 1;
        if let Some(reason) = object.reconciling {
            *of_kind.reconciling.entry(closed(reason)).or_default() += 1;
        }
        if status != ReadyLabel::True && !object.suspended {
            of_kind.oldest_not_ready = of_kind.oldest_not_ready.max(object.since.unwrap_or_default());
        }
        of_kind.longest_without_work = later(of_kind.longest_without_work, object.worked);
        self.next_rotation = sooner(self.next_rotation, object.rotation);
        self.first_certificate = sooner(self.first_certificate, object.certificate);
        if !each {
            return;
        }
        if self.each.len() >= limits::METRICS_OBJECTS {
            limits::hit(Limit::MetricsObjects);
            return;
        }
        self.each.push(Row {
            labels: ObjectLabels {
                kind: object.kind,
                namespace: object.namespace.to_owned(),
                name: object.name.to_owned(),
            },
            ready: status == ReadyLabel::True,
            worked: object.worked,
            rotation: object.rotation,
            certificate: object.certificate,
        });
    }
}

impl Collector for States {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(observed) = self.observed.get() else { return Ok(()) };
        let sums = Sums::of(observed.as_ref(), self.each);
        encode_objects(&sums, &mut encoder)?;
        encode_worst(&sums, &mut encoder)?;
        if self.each { encode_each(&sums.each, &mut encoder) } else { Ok(()) }
    }
}

fn encode_objects(sums: &Sums, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let help = "Objects by kind, status of Ready and its reason";
    let mut objects = encoder.encode_descriptor("objects", help, None, MetricType::Gauge)?;
    for (kind, of_kind) in &sums.kinds {
        for ((ready, reason), count) in &of_kind.ready {
            let labels = [("kind", kind.as_str()), ("ready", ready.as_str()), ("reason", *reason)];
            ConstGauge::new(*count).encode(objects.encode_family(&labels)?)?;
        }
        if of_kind.ready.is_empty() {
            let labels =
                [("kind", kind.as_str()), ("ready", ReadyLabel::Unknown.as_str()), ("reason", NOT_REPORTED)];
            ConstGauge::new(0_i64).encode(objects.encode_family(&labels)?)?;
        }
    }
    let help = "Objects with something that is awaited or tried again, by the reason of Reconciling";
    let mut reconciling = encoder.encode_descriptor("objects_reconciling", help, None, MetricType::Gauge)?;
    for (kind, of_kind) in &sums.kinds {
        for (reason, count) in &of_kind.reconciling {
            let labels = [("kind", kind.as_str()), ("reason", *reason)];
            ConstGauge::new(*count).encode(reconciling.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_worst(sums: &Sums, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let gauge = MetricType::Gauge;
    let help =
        "For how long the object of a kind has not been Ready that has not for longest; 0 where all are";
    let mut oldest = encoder.encode_descriptor("oldest_not_ready_seconds", help, None, gauge)?;
    for (kind, of_kind) in &sums.kinds {
        let age = ConstGauge::new(of_kind.oldest_not_ready);
        age.encode(oldest.encode_family(&[("kind", kind.as_str())])?)?;
    }
    let help = "How long ago the connection of a kind last worked that has not for longest";
    let mut worked = encoder.encode_descriptor("connection_last_worked_seconds", help, None, gauge)?;
    for (kind, of_kind) in &sums.kinds {
        if let Some(ago) = of_kind.longest_without_work {
            ConstGauge::new(ago).encode(worked.encode_family(&[("kind", kind.as_str())])?)?;
        }
    }
    let help = "In how long the next API key is rotated; negative where that is overdue";
    let next = encoder.encode_descriptor("next_rotation_seconds", help, None, gauge)?;
    if let Some(rotation) = sums.next_rotation {
        ConstGauge::new(rotation).encode(next)?;
    }
    let help = "In how long the first TLS certificate ends that was written; negative where it has ended";
    let first = encoder.encode_descriptor("tls_certificate_expiry_seconds", help, None, gauge)?;
    if let Some(certificate) = sums.first_certificate {
        ConstGauge::new(certificate).encode(first)?;
    }
    Ok(())
}

fn encode_each(rows: &[Row], encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    type Value = fn(&Row) -> Option<f64>;
    let metrics: [(&str, &str, Value); 4] = [
        ("object_ready", "Whether an object is Ready (--metrics-objects)", |row| {
            Some(if row.ready { 1.0 } else { 0.0 })
        }),
        (
            "object_connection_last_worked_seconds",
            "How long ago a connection last worked (--metrics-objects)",
            |row| row.worked,
        ),
        (
            "object_next_rotation_seconds",
            "In how long the key of an object is rotated (--metrics-objects)",
            |row| row.rotation,
        ),
        (
            "object_tls_certificate_expiry_seconds",
            "In how long the TLS certificate ends that an object wrote (--metrics-objects)",
            |row| row.certificate,
        ),
    ];
    for (name, help, value) in metrics {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for row in rows {
            if let Some(value) = value(row) {
                ConstGauge::new(value).encode(metric.encode_family(&row.labels)?)?;
            }
        }
    }
    Ok(())
}

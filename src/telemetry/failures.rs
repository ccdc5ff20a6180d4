//! How many lines of failures are logged: a budget for each namespace, and one for all. Lines of what was done are never
//! dropped. What is left out is counted, and told in a line of its own.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Filter};

use crate::limits::{self, Bucket, Limit, Rate};

const OF_NAMESPACE: Rate = Rate { burst: limits::LOG_FAILURES_BURST, per_second: limits::LOG_FAILURES };
const OF_PROCESS: Rate =
    Rate { burst: limits::LOG_FAILURES_PROCESS * 10, per_second: limits::LOG_FAILURES_PROCESS };
/// How often it is told what was left out.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Namespaces that are named then; the others are told together.
const NAMED: usize = 20;
/// The field of those lines, which are no failures themselves.
const SUPPRESSED: &str = "suppressed";

/// Drops the lines at warn and error that are beyond a budget; clones share it.
#[derive(Clone)]
pub struct Failures(Arc<Mutex<LogBudget>>);

impl Failures {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(LogBudget::new(Instant::now()))))
    }

    /// Tells every few seconds what was left out, for ever.
    pub async fn tell(self) {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            self.tell_now(Instant::now());
        }
    }

    pub(super) fn tell_now(&self, now: Instant) {
        let left_out = self.budget().left_out(now);
        for (namespace, lines) in left_out.iter().take(NAMED) {
            tracing::warn!(
                namespace,
                suppressed = lines,
                "{lines} more lines of failures here are suppressed; conditions and metrics tell of all"
            );
        }
        let others = left_out.get(NAMED..).unwrap_or_default();
        if !others.is_empty() {
            let lines: u64 = others.iter().map(|(_, lines)| lines).sum();
            let namespaces = others.len();
            tracing::warn!(
                suppressed = lines,
                "{lines} more lines of failures in {namespaces} further namespaces are suppressed"
            );
        }
    }

    fn budget(&self) -> MutexGuard<'_, LogBudget> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Filter<S> for Failures {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.fields().field(SUPPRESSED).is_some() {
            return true;
        }
        let mut namespace = NamespaceField::default();
        event.record(&mut namespace);
        let may = self.budget().may(&namespace.0, Instant::now());
        if !may {
            limits::hit(Limit::LogFailures);
        }
        may
    }
}

/// The namespace that a line names; empty where it names none.
#[derive(Default)]
struct NamespaceField(String);

impl Visit for NamespaceField {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "namespace" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "namespace" {
            self.0 = format!("{value:?}");
        }
    }
}

/// The budgets, with the clock passed in.
struct LogBudget {
    process: Bucket,
    namespaces: HashMap<String, Share>,
}

struct Share {
    bucket: Bucket,
    left_out: u64,
}

impl LogBudget {
    fn new(now: Instant) -> Self {
        Self { process: Bucket::new(OF_PROCESS, now), namespaces: HashMap::new() }
    }

    /// Whether one more line of a namespace is logged.
    fn may(&mut self, namespace: &str, now: Instant) -> bool {
        if !self.namespaces.contains_key(namespace) {
            let share = Share { bucket: Bucket::new(OF_NAMESPACE, now), left_out: 0 };
            self.namespaces.insert(namespace.to_owned(), share);
        }
        let Some(share) = self.namespaces.get_mut(namespace) else { return true };
        // Its own first: what that refuses takes nothing from the others.
        let may = share.bucket.take(now) && self.process.take(now);
        share.left_out += u64::from(!may);
        may
    }

    /// What was left out since this was asked last, the most first; forgets who is quiet.
    fn left_out(&mut self, now: Instant) -> Vec<(String, u64)> {
        let mut told: Vec<(String, u64)> = Vec::new();
        self.namespaces.retain(|namespace, share| {
            let left_out = std::mem::take(&mut share.left_out);
            if left_out > 0 {
                told.push((namespace.clone(), left_out));
            }
            left_out > 0 || !share.bucket.is_full(now)
        });
        told.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_budget_and_takes_nothing_from_the_others() {
        let start = Instant::now();
        let mut budget = LogBudget::new(start);
        let logged = |budget: &mut LogBudget, namespace: &str, lines: usize, now| {
            (0..lines).filter(|_| budget.may(namespace, now)).count()
        };
        assert_eq!(logged(&mut budget, "loud", 5000, start), 100);
        assert_eq!(logged(&mut budget, "quiet", 50, start), 50);
        assert_eq!(budget.left_out(start), [("loud".to_owned(), 4900)]);
        let later = start + Duration::from_secs(10);
        assert_eq!(logged(&mut budget, "loud", 30, later), 10);
        assert_eq!(budget.left_out(later), [("loud".to_owned(), 20)]);
        let rested = later + Duration::from_secs(200);
        assert_eq!(budget.left_out(rested), []);
        assert!(budget.namespaces.is_empty(), "who is quiet is forgotten");
    }

    #[test]
    fn many_namespaces_together_have_the_budget_of_the_process() {
        let start = Instant::now();
        let mut budget = LogBudget::new(start);
        let lines = |budget: &mut LogBudget, now| -> usize {
            (0..500).map(|n| (0..50).filter(|_| budget.may(&format!("ns-{n}"), now)).count()).sum()
        };
        assert_eq!(lines(&mut budget, start), 500);
        assert_eq!(lines(&mut budget, start + Duration::from_secs(1)), 50);
    }
}

//! The budgets: how often each was met, and how much of it is in use.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::limits::{self, Limit};

/// Reads the counters of `limits`.
#[derive(Debug)]
pub(super) struct Budgets;

impl Collector for Budgets {
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

//! What the runtime itself works with, whatever the kind.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    report::{Events, Statuses},
    specs::Specs,
    sync_now::SyncNows,
};
use crate::{cluster::Cluster, metrics::Metrics};

/// What all reconcilers share, whatever their kind.
pub struct Shared {
    /// Kubernetes IO.
    pub cluster: Cluster,
    /// Statuses that the watch has not shown yet.
    pub statuses: Statuses,
    /// Sends Events.
    pub events: Events,
    /// Which specs stay in memory.
    pub specs: Arc<Specs>,
    /// Which `sync-now` texts were handled.
    pub sync_nows: SyncNows,
    /// Counts what happens.
    pub metrics: Metrics,
    /// The process is told to stop.
    pub stop: CancellationToken,
}

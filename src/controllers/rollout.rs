//! Restarts of the workloads of an object, for whatever kind asks for them.

use kube::runtime::events::EventType;

use super::Context;
use crate::{
    api::{Reason, secret::RolloutTarget},
    cluster,
    conjur::Lane,
    metrics::RestartOutcome,
    plan::{Failure, secret::rollout::annotation_key},
    runtime::{Key, Object, current::say},
};

/// What stands behind the message of an object that asks for restarts where there are none.
pub const SWITCHED_OFF: &str = "; no workload is restarted, since spec.rolloutRestart is switched off for the whole operator: \
     its administrator can allow it (rolloutRestart.enabled of the chart, --rollout-restart)";

/// Restarts each workload; one that fails does not keep the others from it.
///
/// # Errors
/// The API server's.
pub async fn restart<K: Object>(
    object: &K,
    workloads: &[RolloutTarget],
    key: &Key,
    revision: &str,
    lane: Lane,
    ctx: &Context,
) -> Result<(), Failure> {
    let annotation = annotation_key(&key.name);
    let mut failed = Vec::new();
    for workload in workloads {
        let patch = (annotation.as_str(), revision);
        let answer =
            ctx.cluster.restart_workload(workload.kind, &key.namespace, &workload.name, patch, lane).await;
        let which = format!("{:?} {}", workload.kind, workload.name);
        match answer {
            Ok(()) => {
                ctx.metrics.restarted(RestartOutcome::Restarted);
                say!(INFO, workload = which, "restarted a workload, since the data of its Secret changed");
                let note = format!("{which} was restarted: the data of its Secret changed");
                ctx.events.publish(object, EventType::Normal, Reason::RolloutRestarted, "Restart", note);
            }
            // One that is made later has the new data from its start.
            Err(cluster::Error::NotFound(_)) => {
                ctx.metrics.restarted(RestartOutcome::NotFound);
                let note = format!(
                    "{which} does not exist, so that nothing of it is to be restarted; correct spec.rolloutRestart where the \
                     name is wrong"
                );
                let reason = Reason::RolloutTargetNotFound;
                ctx.events.publish(object, EventType::Warning, reason, "Restart", note);
            }
            Err(error) => {
                ctx.metrics.restarted(RestartOutcome::Failed);
                failed.push(error.to_string());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the Secret is written, but not all workloads could be restarted for it; it is tried again: {}",
        failed.join("; ")
    );
    Err(Failure::transient(Reason::ApiServerError, message))
}

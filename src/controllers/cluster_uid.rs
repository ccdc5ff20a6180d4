//! What tells this cluster from others, in what the operator writes into Conjur: the uid of the Namespace kube-system.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};

use super::Context;
use crate::{api::Reason, plan::Failure};

const NAMESPACE: &str = "kube-system";

/// The uid of the Namespace kube-system: as the watch of namespaces shows it, else read once, by its name, so that a right to
/// this one is enough. It is the same whatever is watched.
///
/// # Errors
/// The API server's; there is none.
pub async fn cluster_uid(ctx: &Context) -> Result<String, Failure> {
    if let Some(uid) = ctx.namespaces.get(&ObjectRef::new(NAMESPACE)).and_then(|found| found.uid()) {
        return Ok(uid);
    }
    let read = async {
        let found = ctx.cluster.read(&Api::<Namespace>::all(ctx.cluster.client()), NAMESPACE).await?;
        found.and_then(|found| found.uid()).ok_or_else(|| {
            let message =
                "the Namespace kube-system can't be found, whose uid tells this cluster from others in Conjur";
            Failure::transient(Reason::ApiServerError, message)
        })
    };
    ctx.cluster_uid.get_or_try_init(|| read).await.cloned()
}

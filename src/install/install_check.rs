//! Looks whether what the operator needs is served, and whether the release's connections are Ready.

use kube::{
    Client,
    api::{DynamicObject, ListParams},
};

use super::{HookError, all, cluster_connections, connections, patiently};
use crate::{api::APPLIED_BY_LABEL, cli::InstallCheckArgs, plan::install::HookScope};

pub async fn run(client: &Client, args: InstallCheckArgs) -> Result<String, HookError> {
    let scope = HookScope::from(args.scope);
    for kind in all(&scope) {
        kind.metadata_when_served(client, &scope).await?;
    }
    let mut last = Vec::new();
    let ready = patiently(async || {
        last = not_ready(client, &scope, &args.owner).await?;
        Ok(last.is_empty().then_some(()))
    })
    .await?;
    match ready {
        Some(()) => Ok("all kinds are served, and the connections of this release are Ready".to_owned()),
        None => Err(HookError::Refused(format!("these connections are not Ready:\n{}", last.join("\n")))),
    }
}

/// A line for each connection of the release that is not Ready.
async fn not_ready(client: &Client, scope: &HookScope, owner: &str) -> Result<Vec<String>, HookError> {
    let mut kinds = vec![connections()];
    kinds.extend(scope.cluster_connections.then(cluster_connections));
    let own = ListParams::default().labels(&format!("{APPLIED_BY_LABEL}={owner}"));
    let mut lines = Vec::new();
    for kind in kinds {
        for api in kind.apis(client, scope) {
            let list = api.list(&own).await.map_err(|error| kind.failed("list", error))?;
            let told = list.iter().filter_map(|one| Some(format!("  {}: {}", kind.name(one), why_not(one)?)));
            lines.extend(told);
        }
    }
    Ok(lines)
}

/// Why it is not Ready; `None` where it is.
fn why_not(object: &DynamicObject) -> Option<String> {
    let status = &object.data["status"];
    if status["observedGeneration"].as_i64() != object.metadata.generation {
        return Some("the operator has not looked at it yet".to_owned());
    }
    let conditions = status["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready")?;
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    (text("status") != "True").then(|| format!("{}: {}", text("reason"), text("message")))
}

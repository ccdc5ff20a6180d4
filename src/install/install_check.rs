//! Looks whether what the operator needs is served, and whether the release's connections are Ready.

use kube::{Client, api::ListParams};

use super::{HookError, HookKind, all, api_of, cluster_connections, connections, patiently, read};
use crate::{
    cli::InstallCheckArgs,
    plan::install::{
        HookScope,
        connections::{WantedConnection, wanted, why_not_ready},
    },
};

pub async fn run(client: &Client, args: InstallCheckArgs) -> Result<String, HookError> {
    let scope = HookScope::from(args.scope);
    // Not those that have the release's label: whoever may edit a namespace can put it on a connection there.
    let wanted = match args.connections {
        Some(file) => wanted(&read(&file)?, &args.owner, &scope).map_err(HookError::Refused)?,
        None => Vec::new(),
    };
    for kind in all(&scope) {
        kind.served(client, &scope).await?;
    }
    let mut kinds = vec![connections()];
    kinds.extend(scope.cluster_connections.then(cluster_connections));
    let mut last = Vec::new();
    let ready = patiently(async || {
        last = not_ready(client, &kinds, &wanted).await?;
        Ok(last.is_empty().then_some(()))
    })
    .await?;
    match ready {
        Some(()) => Ok("all kinds are served, and the connections of this release are Ready".to_owned()),
        None => Err(HookError::Refused(format!("these connections are not Ready:\n{}", last.join("\n")))),
    }
}

/// A line for each connection of the release that is not Ready.
async fn not_ready(
    client: &Client,
    kinds: &[HookKind],
    wanted: &[WantedConnection],
) -> Result<Vec<String>, HookError> {
    let mut lines = Vec::new();
    for WantedConnection { name, .. } in wanted {
        // One at a time, and by a list, which the hook may do anyway.
        let one = ListParams::default().fields(&format!("metadata.name={}", name.name)).limit(1);
        let list = api_of(client, kinds, name)?.list(&one).await;
        let list = list
            .map_err(|error| HookError::Call { what: format!("look at {name}"), error: Box::new(error) })?;
        let why = match list.items.first() {
            Some(object) => why_not_ready(&object.data["status"], object.metadata.generation),
            None => Some("it is not there".to_owned()),
        };
        lines.extend(why.map(|why| format!("  {name}: {why}")));
    }
    Ok(lines)
}

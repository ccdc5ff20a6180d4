//! Applies the connections of a release, and takes away what it applied before and no longer wants.

use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};

use super::{HookError, HookKind, cluster_connections, connections};
use crate::{
    api::APPLIED_BY_LABEL,
    cli::ApplyArgs,
    plan::install::{
        HookScope, ObjectName,
        connections::{StandingConnection, WantedConnection, superfluous, wanted},
    },
};

/// Its own, so that a field that someone else set is left alone.
const FIELD_MANAGER: &str = "conjur-operator-apply";

pub async fn run(client: &Client, args: ApplyArgs) -> Result<String, HookError> {
    let scope = HookScope::from(args.scope);
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| HookError::File { file: args.file.display().to_string(), error })?;
    let wanted = wanted(&text, &args.owner, &scope).map_err(HookError::Refused)?;
    let mut kinds = vec![connections()];
    kinds.extend(scope.cluster_connections.then(cluster_connections));
    let mut standing = Vec::new();
    for kind in &kinds {
        let found = kind.metadata_when_served(client, &scope).await?;
        standing.extend(found.iter().map(|object| StandingConnection {
            name: kind.name(object),
            uid: object.uid().unwrap_or_default(),
            owner: object.labels().get(APPLIED_BY_LABEL).cloned(),
            deleting: object.metadata.deletion_timestamp.is_some(),
        }));
    }
    let superfluous = superfluous(&wanted, &standing, &args.owner)
        .map_err(|others| HookError::Refused(others.join("\n")))?;
    let mut told = Vec::new();
    for one in &wanted {
        apply(&api(client, &kinds, &one.name)?, one, args.dry_run).await?;
        told.push(format!("applied {}", one.name));
    }
    // Only now: while one can't be applied, nothing goes.
    for one in superfluous {
        remove(&api(client, &kinds, &one.name)?, one, args.dry_run).await?;
        told.push(format!("deleted {}", one.name));
    }
    if told.is_empty() {
        told.push("no connection to apply, and none to delete".to_owned());
    }
    if args.dry_run {
        told.push("nothing was changed: --dry-run".to_owned());
    }
    Ok(told.join("\n"))
}

fn api(client: &Client, kinds: &[HookKind], name: &ObjectName) -> Result<Api<DynamicObject>, HookError> {
    let kind = kinds.iter().find(|kind| kind.resource.kind == name.kind);
    let kind = kind.ok_or_else(|| HookError::Refused(format!("{name} is of a kind that is not applied")))?;
    Ok(if kind.namespaced {
        Api::namespaced_with(client.clone(), &name.namespace, &kind.resource)
    } else {
        Api::all_with(client.clone(), &kind.resource)
    })
}

async fn apply(api: &Api<DynamicObject>, one: &WantedConnection, dry_run: bool) -> Result<(), HookError> {
    // What is the release's is so by its label; a field that was edited by hand is set back.
    let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER).force() };
    let applied = api.patch(&one.name.name, &params, &Patch::Apply(&one.manifest)).await;
    applied.map(drop).map_err(|error| failed("apply", &one.name, error))
}

async fn remove(api: &Api<DynamicObject>, one: &StandingConnection, dry_run: bool) -> Result<(), HookError> {
    let preconditions = Some(Preconditions { uid: Some(one.uid.clone()), resource_version: None });
    let params = DeleteParams { dry_run, preconditions, ..DeleteParams::default() };
    match api.delete(&one.name.name, &params).await {
        // Gone already, or another one by the same name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop).map_err(|error| failed("delete", &one.name, error)),
    }
}

fn failed(verb: &str, name: &ObjectName, error: kube::Error) -> HookError {
    HookError::Call { what: format!("{verb} {name}"), error: Box::new(error) }
}

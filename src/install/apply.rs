//! Applies the connections of a release, and takes away what it applied before and no longer wants.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
    core::PartialObjectMeta,
};

use super::{HookError, api_of, cluster_connections, connections, read};
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
    let wanted = wanted(&read(&args.file)?, &args.owner, &scope).map_err(HookError::Refused)?;
    let mut kinds = vec![connections()];
    kinds.extend(scope.cluster_connections.then(cluster_connections));
    let mut standing = Vec::new();
    for kind in &kinds {
        let concerns = |object: PartialObjectMeta<DynamicObject>| {
            let one = StandingConnection {
                name: kind.name(&object),
                uid: object.uid().unwrap_or_default(),
                owner: object.labels().get(APPLIED_BY_LABEL).cloned(),
                applied: is_applied(&object.metadata),
                deleting: object.metadata.deletion_timestamp.is_some(),
            };
            one.concerns(&wanted, &args.owner).then_some(one)
        };
        standing.extend(kind.metadata_when_served(client, &scope, concerns).await?);
    }
    let superfluous = superfluous(&wanted, &standing, &args.owner)
        .map_err(|others| HookError::Refused(others.join("\n")))?;
    let mut told = Vec::new();
    for one in &wanted {
        apply(&api_of(client, &kinds, &one.name)?, one, args.dry_run).await?;
        told.push(format!("applied {}", one.name));
    }
    // Only now: while one can't be applied, nothing goes.
    for one in superfluous {
        remove(&api_of(client, &kinds, &one.name)?, one, args.dry_run).await?;
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

/// Whether it was applied as here: the label alone is one that whoever may edit a namespace can copy.
fn is_applied(metadata: &ObjectMeta) -> bool {
    let mut entries = metadata.managed_fields.iter().flatten();
    entries.any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_hook_itself_applied_counts_as_applied() {
        for (fields, expected) in [
            (json!(null), false),
            (json!([]), false),
            (json!([{ "manager": "kubectl", "operation": "Apply" }]), false),
            (json!([{ "manager": FIELD_MANAGER, "operation": "Update" }]), false),
            (
                json!([
                    { "manager": "kubectl", "operation": "Update" },
                    { "manager": FIELD_MANAGER, "operation": "Apply" },
                ]),
                true,
            ),
        ] {
            let metadata = serde_json::from_value(json!({ "managedFields": fields })).unwrap();
            assert_eq!(is_applied(&metadata), expected, "{fields}");
        }
    }
}

//! `migrate --undo`: gives Secrets back to the ExternalSecrets that wrote them.

use std::time::Duration;

use conjur_operator_api::{
    ADOPT_ANNOTATION, MANAGED_BY_LABEL, MANAGED_LABEL, OWNER_ANNOTATION, REVISION_ANNOTATION,
};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy};
use serde_json::{Value, json};

use super::{
    hand_over::{external_api_of, patch_secret, ready, secret},
    record::{self, HandOver},
};
use crate::{
    Ended, Error,
    cli::{Form, MigrateArgs},
    cluster::{Cluster, Kind, api_error},
    commands::waiting::MANAGER,
    show::{Shown, wrapped},
};

const LOOK: Duration = Duration::from_millis(500);

pub async fn run(cluster: &Cluster, args: &MigrateArgs, form: Option<Form>) -> Result<Ended, Error> {
    let all = record::all(cluster).await?;
    let (mut text, mut well, mut data) = (String::new(), true, Vec::new());
    for one in &all {
        let outcome = give_back(cluster, one, args.timeout).await;
        text += &match &outcome {
            Ok(()) => {
                format!("secret/{} is of ExternalSecret {} again\n", one.secret, one.external_secret_name())
            }
            Err(error) => wrapped(&format!("secret/{} stays as it is: {error}", one.secret), ""),
        };
        well &= outcome.is_ok();
        data.push(json!({ "secret": one.secret, "error": outcome.err().map(|error| error.to_string()) }));
    }
    if all.is_empty() {
        text += "No hand-over is written down in this namespace.\n";
    } else {
        text += "Connections stay: delete those that nothing uses any more.\n";
    }
    let names = all.iter().map(|one| format!("secret/{}", one.secret)).collect();
    Shown { text, data: data.into(), names }.print(form)?;
    Ok(if well { Ended::Well } else { Ended::Differs })
}

/// The ConjurSecret leaves its Secret and goes alone, then the ExternalSecret is made again, as it was.
async fn give_back(cluster: &Cluster, one: &HandOver, timeout: Duration) -> Result<(), Error> {
    let name = one.conjur_secret_name();
    let api = cluster.api(Kind::Secret, Some(&cluster.namespace));
    if let Some(seen) = cluster.get(Kind::Secret, name).await?
        && seen.object.metadata.deletion_timestamp.is_none()
    {
        let retain = json!({ "spec": { "target": { "deletionPolicy": "Retain" } } });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = api.patch(name, &params, &Patch::Merge(&retain)).await;
        patched.map_err(|error| api_error(&format!("change cjs/{name}"), &error))?;
        ready(cluster, Kind::Secret, name, timeout).await?;
        let params =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
        match api.delete(name, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(api_error(&format!("delete cjs/{name}"), &error)),
            Ok(_) => {}
        }
    }
    gone(cluster, name, timeout).await?;
    if secret(cluster, &one.secret).await?.is_none() {
        return Err(Error::new(format!("Secret {} is gone", one.secret)));
    }
    let marks = json!({ "metadata": {
        "labels": { MANAGED_LABEL: Value::Null, MANAGED_BY_LABEL: Value::Null },
        "annotations": { OWNER_ANNOTATION: Value::Null, ADOPT_ANNOTATION: Value::Null, REVISION_ANNOTATION: Value::Null },
    } });
    patch_secret(cluster, &one.secret, &marks).await?;
    let external: DynamicObject =
        serde_json::from_value(one.external_secret.clone()).map_err(|error| Error::new(error.to_string()))?;
    match external_api_of(cluster, one).create(&PostParams::default(), &external).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => {
            return Err(api_error(&format!("make ExternalSecret {}", one.external_secret_name()), &error));
        }
        Ok(_) => {}
    }
    record::remove(cluster, one).await
}

/// Waits until the ConjurSecret is gone.
async fn gone(cluster: &Cluster, name: &str, timeout: Duration) -> Result<(), Error> {
    let is_gone = async {
        while cluster.get(Kind::Secret, name).await?.is_some() {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    let waited = tokio::time::timeout(timeout, is_gone).await;
    waited.unwrap_or_else(|_| Err(Error::new(format!("cjs/{name} is still being deleted after {timeout:?}"))))
}

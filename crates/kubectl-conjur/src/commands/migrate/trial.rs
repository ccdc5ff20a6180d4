//! The trial: the ConjurSecret makes its data in a Secret of another name first, which is compared, and goes.

use std::time::Duration;

use kube::api::PropagationPolicy;
use serde_json::{Value, json};

use super::{
    conjur_secret::{self, Awaited, ready},
    names::bounded,
    record::{HandOver, LABEL},
    target::{check_same, secret},
};
use crate::{
    Error,
    cluster::{Cluster, Kind, Seen},
};

/// What the label says of a trial, by which one that a crash left is known.
const TRIAL: &str = "trial";

fn name_of(one: &HandOver) -> String {
    bounded("", one.conjur_secret_name(), "-migration-trial")
}

/// The trial of a hand-over. Of labels and annotations it has its own alone: other controllers copy, mount or publish Secrets
/// by them.
fn object_of(one: &HandOver) -> Value {
    let name = name_of(one);
    let mut trial = one.conjur_secret.clone();
    trial["metadata"] =
        json!({ "name": name, "namespace": trial["metadata"]["namespace"], "labels": { LABEL: TRIAL } });
    if !trial["spec"]["target"].is_object() {
        trial["spec"]["target"] = json!({});
    }
    if let Some(target) = trial["spec"]["target"].as_object_mut() {
        target.retain(|field, _| field != "labels" && field != "annotations");
        target.insert("name".into(), name.into());
        target.insert("deletionPolicy".into(), "Delete".into());
    }
    if let Some(spec) = trial["spec"].as_object_mut() {
        spec.remove("rolloutRestart");
    }
    trial
}

fn is_trial(seen: &Seen) -> bool {
    seen.object.metadata.labels.as_ref().is_some_and(|labels| labels.get(LABEL).is_some_and(|of| of == TRIAL))
}

/// Refuses a ConjurSecret of the trial's name that is none.
///
/// # Errors
/// That there is one; the API server's.
pub async fn refuse_foreign(cluster: &Cluster, one: &HandOver) -> Result<(), Error> {
    let name = name_of(one);
    match cluster.get(Kind::Secret, &name).await? {
        Some(seen) if !is_trial(&seen) => Err(Error::new(format!(
            "cjs/{name} is there, and no hand-over made it: the trial of the hand-over needs this name; rename it"
        ))),
        _ => Ok(()),
    }
}

/// Deletes a trial that a crash left.
///
/// # Errors
/// The API server's; that it does not go.
pub async fn clear(cluster: &Cluster, one: &HandOver, timeout: Duration) -> Result<(), Error> {
    let name = name_of(one);
    let Some(seen) = cluster.get(Kind::Secret, &name).await?.filter(is_trial) else { return Ok(()) };
    let uid = seen.object.metadata.uid.clone().unwrap_or_default();
    conjur_secret::delete(cluster, &name, &uid, PropagationPolicy::Background).await?;
    conjur_secret::gone(cluster, &name, &uid, timeout).await
}

/// Has the ConjurSecret make its data in another Secret, and compares it, key by key.
///
/// # Errors
/// What would differ; why the trial is not Ready; the API server's.
pub async fn compare(cluster: &Cluster, one: &HandOver, timeout: Duration) -> Result<(), Error> {
    clear(cluster, one, timeout).await?;
    let name = name_of(one);
    let uid = conjur_secret::create(cluster, Kind::Secret, &object_of(one)).await?;
    let made = async {
        let awaited = Awaited { kind: Kind::Secret, name: &name, uid: Some(&uid), is_new: true };
        ready(cluster, awaited, timeout).await?;
        match (secret(cluster, &name).await?, secret(cluster, &one.secret).await?) {
            (Some(made), Some(there)) => check_same(&made, &there),
            _ => Err(Error::new(format!("Secret {} is gone, or another run deleted its trial", one.secret))),
        }
    }
    .await;
    conjur_secret::delete(cluster, &name, &uid, PropagationPolicy::Background).await?;
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_carries_nothing_that_other_controllers_act_on() {
        let one: HandOver = serde_json::from_value(json!({
            "stage": "Announced", "secret": "db", "secretUid": "1", "externalSecret": {}, "conjurSecret": {
                "metadata": { "name": "db", "namespace": "n", "labels": { "team": "a" }, "annotations": { "replicate": "all" } },
                "spec": {
                    "data": [], "rolloutRestart": [{}],
                    "target": { "name": "db-credentials", "type": "kubernetes.io/tls", "labels": { "team": "a" }, "annotations": { "replicate": "all" }, "immutable": true },
                },
            },
        }))
        .unwrap();
        let trial = object_of(&one);
        assert_eq!(
            trial["metadata"],
            json!({ "name": "db-migration-trial", "namespace": "n", "labels": { LABEL: TRIAL } })
        );
        assert_eq!(
            trial["spec"],
            json!({ "data": [], "target": {
                "name": "db-migration-trial", "type": "kubernetes.io/tls", "deletionPolicy": "Delete", "immutable": true,
            } })
        );
        let mut plain = one.clone();
        plain.conjur_secret["spec"].as_object_mut().unwrap().remove("target");
        assert_eq!(object_of(&plain)["spec"]["target"]["name"], "db-migration-trial");
    }
}

//! The ConjurSecret of a hand-over: whose one of its name is, made, waited for, and deleted alone.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::{Value, json};

use super::record::HandOver;
use crate::{
    Error,
    cluster::{Cluster, Kind, Seen, api_error},
    commands::waiting::{LOOK, MANAGER, patch, posting},
};

/// Whose a ConjurSecret of the name of a hand-over's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// There is none.
    Free,
    /// This hand-over made it, or it is what it would make.
    Ours,
    /// Something else made it.
    Foreign,
}

/// Says whose it is: by the uid that was written down, or, after a crash before that, by its spec.
pub fn whose(seen: Option<&Seen>, one: &HandOver) -> Whose {
    let Some(seen) = seen else { return Whose::Free };
    let is_made = seen.object.metadata.uid.is_some() && seen.object.metadata.uid == one.conjur_secret_uid;
    if is_made || *seen.spec() == one.conjur_secret["spec"] { Whose::Ours } else { Whose::Foreign }
}

/// Refuses to touch a ConjurSecret that something else made.
///
/// # Errors
/// That there is one; the API server's.
pub async fn refuse_foreign(cluster: &Cluster, one: &HandOver) -> Result<(), Error> {
    let name = one.conjur_secret_name();
    let seen = cluster.get(Kind::Secret, name).await?;
    if whose(seen.as_ref(), one) == Whose::Foreign { Err(foreign(name)) } else { Ok(()) }
}

fn foreign(name: &str) -> Error {
    Error::new(format!(
        "cjs/{name} is there already with another spec, and is not this hand-over's; rename it, or delete it if nothing needs it"
    ))
}

/// Sees to it that the ConjurSecret is there as it is planned; gives its uid.
///
/// # Errors
/// That there is another one of its name; the API server's.
pub async fn ensure(cluster: &Cluster, one: &HandOver) -> Result<String, Error> {
    let name = one.conjur_secret_name();
    let seen = cluster.get(Kind::Secret, name).await?;
    match (whose(seen.as_ref(), one), seen) {
        (Whose::Foreign, _) => Err(foreign(name)),
        (_, None) => create(cluster, Kind::Secret, &one.conjur_secret).await,
        (_, Some(seen)) => {
            let uid = seen.object.metadata.uid.clone().unwrap_or_default();
            if seen.object.metadata.deletion_timestamp.is_some() {
                return Err(Error::new(format!("cjs/{name} is being deleted")));
            }
            if *seen.spec() != one.conjur_secret["spec"] {
                // The ExternalSecret was changed, and compared anew, after it was made.
                let mut object = one.conjur_secret.clone();
                object["metadata"]["uid"] = uid.clone().into();
                let params = PatchParams::apply(MANAGER);
                let api = cluster.api(Kind::Secret, Some(&cluster.namespace));
                let applied = api.patch(name, &params, &Patch::Apply(&object)).await;
                applied.map_err(|error| api_error(&format!("apply cjs/{name}"), &error))?;
            }
            Ok(uid)
        }
    }
}

/// Makes an object; gives its uid.
///
/// # Errors
/// That there is one; the API server's.
pub async fn create(cluster: &Cluster, kind: Kind, object: &Value) -> Result<String, Error> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let object = serde_json::from_value(object.clone()).map_err(|error| Error::new(error.to_string()))?;
    let made = cluster.api(kind, Some(&cluster.namespace)).create(&posting(), &object).await;
    match made {
        Ok(made) => Ok(made.metadata.uid.unwrap_or_default()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            Err(Error::new(format!("another run or another user made {}/{name} meanwhile", kind.short())))
        }
        Err(error) => Err(api_error(&format!("make {}/{name}", kind.short()), &error)),
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Awaited<'a> {
    pub kind: Kind,
    pub name: &'a str,
    /// The object that is meant, where it is known.
    pub uid: Option<&'a str>,
    /// It was just made: what is Stalled waits for a person, and not for the operator to look again.
    pub is_new: bool,
}

/// Waits until an object's newest spec is Ready.
///
/// # Errors
/// What it says where it is not in time, or waits for a person; that it is another; the API server's.
pub async fn ready(cluster: &Cluster, awaited: Awaited<'_>, timeout: Duration) -> Result<(), Error> {
    let (kind, name) = (awaited.kind, awaited.name);
    let mut last = String::from("the operator has not looked at it");
    let is_ready = async {
        loop {
            let seen = cluster.get(kind, name).await?;
            if let Some(seen) = &seen
                && awaited.uid.is_none_or(|uid| seen.object.metadata.uid.as_deref() == Some(uid))
            {
                if seen.is_ready() {
                    return Ok(());
                }
                if let Some((_, reason, message)) = seen.condition("Ready") {
                    last = format!("{reason}: {message}");
                }
                if awaited.is_new && seen.condition("Stalled").is_some_and(|(status, ..)| status == "True") {
                    return Err(Error::new(format!("{}/{name} is not Ready: {last}", kind.short())));
                }
            } else if awaited.uid.is_some() {
                return Err(Error::new(format!(
                    "{}/{name} is gone: another run or another user deleted it",
                    kind.short()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(timeout, is_ready).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(format!("{}/{name} is not Ready after {timeout:?}: {last}", kind.short()))),
    }
}

/// Has a ConjurSecret leave its Secret.
///
/// # Errors
/// The API server's.
pub async fn retain(cluster: &Cluster, seen: &Seen) -> Result<(), Error> {
    let change = json!({
        "metadata": { "uid": seen.object.metadata.uid }, "spec": { "target": { "deletionPolicy": "Retain" } },
    });
    patch(cluster, seen, change).await
}

/// Deletes the ConjurSecret of this uid; one that was made since stays.
///
/// # Errors
/// The API server's.
pub async fn delete(
    cluster: &Cluster,
    name: &str,
    uid: &str,
    policy: PropagationPolicy,
) -> Result<(), Error> {
    let params = DeleteParams {
        propagation_policy: Some(policy),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match cluster.api(Kind::Secret, Some(&cluster.namespace)).delete(name, &params).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(api_error(&format!("delete cjs/{name}"), &error)),
        Ok(_) => Ok(()),
    }
}

/// Waits until the ConjurSecret of this uid is gone.
///
/// # Errors
/// That it is still there; the API server's.
pub async fn gone(cluster: &Cluster, name: &str, uid: &str, timeout: Duration) -> Result<(), Error> {
    let is_gone = async {
        loop {
            let seen = cluster.get(Kind::Secret, name).await?;
            if seen.is_none_or(|seen| seen.object.metadata.uid.as_deref() != Some(uid)) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(timeout, is_gone).await;
    waited.unwrap_or_else(|_| Err(Error::new(format!("cjs/{name} is still being deleted after {timeout:?}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conjur_secret_is_ours_by_its_uid_or_its_spec_alone() {
        let one = |uid: Option<&str>| -> HandOver {
            serde_json::from_value(json!({
                "stage": "Compared", "secret": "db", "secretUid": "1", "externalSecret": {},
                "conjurSecret": { "spec": { "data": [] } }, "conjurSecretUid": uid,
            }))
            .unwrap()
        };
        let seen = |uid: &str, spec: Value| Seen {
            kind: Kind::Secret,
            object: serde_json::from_value(json!({ "metadata": { "name": "db", "uid": uid }, "spec": spec }))
                .unwrap(),
        };
        let planned = json!({ "data": [] });
        assert_eq!(whose(None, &one(None)), Whose::Free);
        assert_eq!(whose(Some(&seen("7", planned.clone())), &one(None)), Whose::Ours);
        assert_eq!(whose(Some(&seen("7", json!({}))), &one(Some("7"))), Whose::Ours, "edited since");
        assert_eq!(whose(Some(&seen("8", planned)), &one(Some("7"))), Whose::Ours, "deployed anew");
        assert_eq!(whose(Some(&seen("8", json!({}))), &one(Some("7"))), Whose::Foreign);
        assert_eq!(whose(Some(&seen("8", json!({}))), &one(None)), Whose::Foreign);
    }
}

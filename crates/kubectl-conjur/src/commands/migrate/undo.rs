//! `migrate --undo`: gives Secrets back to the ExternalSecrets that wrote them, from wherever a hand-over stopped.

use std::time::Duration;

use conjur_operator_api::{
    ADOPT_ANNOTATION, MANAGED_BY_LABEL, MANAGED_LABEL, OWNER_ANNOTATION, REVISION_ANNOTATION,
};
use kube::api::PropagationPolicy;
use serde_json::{Value, json};

use super::{
    conjur_secret::{self, Whose, whose},
    external::restore,
    record::{self, HandOver, Record, Stage},
    target::{disown, is_owned_by, patch_secret, secret},
    trial,
};
use crate::{
    Ended, Error,
    cli::{Form, MigrateArgs},
    cluster::{Cluster, Kind, Seen},
    commands::waiting::LOOK,
    show::{Shown, wrapped},
};

/// How long the operator has for letting a Secret go by itself.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(cluster: &Cluster, args: &MigrateArgs, form: Option<Form>) -> Result<Ended, Error> {
    let found = record::all(cluster).await?;
    let (mut text, mut well, mut data, mut names) =
        (String::new(), found.unread.is_empty(), Vec::new(), Vec::new());
    for why in &found.unread {
        text += &wrapped(&format!("left out: {why}"), "");
    }
    if found.all.is_empty() {
        text += "No hand-over is written down in this namespace.\n";
    }
    let is_any = !found.all.is_empty();
    for record in found.all {
        let one = record.one.clone();
        let outcome = give_back(cluster, record, args.timeout).await;
        text += &match &outcome {
            Ok(()) => {
                format!("secret/{} is of ExternalSecret {} again\n", one.secret, one.external_secret_name())
            }
            Err(error) => wrapped(
                &format!(
                    "secret/{} is not given back yet: {error}. Run this again to go on with it",
                    one.secret
                ),
                "",
            ),
        };
        well &= outcome.is_ok();
        names.push(format!("secret/{}", one.secret));
        data.push(json!({ "secret": one.secret, "error": outcome.err().map(|error| error.to_string()) }));
    }
    if is_any {
        text += "Connections stay: delete those that nothing uses any more.\n";
    }
    Shown { text, data: data.into(), names }.print(form)?;
    Ok(if well { Ended::Well } else { Ended::Differs })
}

/// The ConjurSecret leaves its Secret and goes alone, then the ExternalSecret is made again, as it was.
async fn give_back(cluster: &Cluster, mut record: Record, timeout: Duration) -> Result<(), Error> {
    record.claim(cluster, true).await?;
    let one = record.one.clone();
    trial::clear(cluster, &one, timeout).await?;
    if one.stage >= Stage::Compared {
        take_away(cluster, &one, timeout).await?;
        // One that is gone is made by the ExternalSecret.
        if let Some(there) = secret(cluster, &one.secret).await? {
            let uid = there.metadata.uid.unwrap_or_default();
            let marks = json!({
                "labels": { MANAGED_LABEL: Value::Null, MANAGED_BY_LABEL: Value::Null },
                "annotations": { OWNER_ANNOTATION: Value::Null, ADOPT_ANNOTATION: Value::Null, REVISION_ANNOTATION: Value::Null },
            });
            patch_secret(cluster, &one.secret, &uid, marks).await?;
        }
        restore(cluster, &one, timeout).await?;
    }
    record.remove(cluster).await
}

/// Deletes the ConjurSecret alone, if it is this hand-over's.
async fn take_away(cluster: &Cluster, one: &HandOver, timeout: Duration) -> Result<(), Error> {
    let name = one.conjur_secret_name();
    let seen = cluster.get(Kind::Secret, name).await?;
    let seen = match (seen_as(seen.as_ref(), one), seen) {
        (Whose::Ours, Some(seen)) => seen,
        (Whose::Foreign, Some(seen)) if writes(cluster, &seen, one).await? => {
            return Err(Error::new(format!(
                "cjs/{name} is not the one that the hand-over made, and writes the Secret: set its spec.target.deletionPolicy to Retain \
                 and delete it first"
            )));
        }
        _ => return Ok(()),
    };
    let uid = seen.object.metadata.uid.clone().unwrap_or_default();
    if seen.object.metadata.deletion_timestamp.is_none() {
        conjur_secret::retain(cluster, &seen).await?;
        release(cluster, one, &uid, timeout).await?;
        conjur_secret::delete(cluster, name, &uid, PropagationPolicy::Orphan).await?;
    }
    conjur_secret::gone(cluster, name, &uid, timeout).await
}

/// Whose the ConjurSecret is, also where `--undo` changed it before a crash.
fn seen_as(seen: Option<&Seen>, one: &HandOver) -> Whose {
    let mut retained = one.clone();
    if !retained.conjur_secret["spec"]["target"].is_object() {
        retained.conjur_secret["spec"]["target"] = json!({});
    }
    retained.conjur_secret["spec"]["target"]["deletionPolicy"] = "Retain".into();
    match whose(seen, one) {
        Whose::Foreign => whose(seen, &retained),
        whose => whose,
    }
}

async fn writes(cluster: &Cluster, seen: &Seen, one: &HandOver) -> Result<bool, Error> {
    let Some(secret) = secret(cluster, &one.secret).await? else { return Ok(false) };
    let annotations = secret.metadata.annotations.clone().unwrap_or_default();
    let is_owner = annotations.get(OWNER_ANNOTATION) == Some(&format!("ConjurSecret/{}", seen.name()));
    Ok(is_owner || seen.object.metadata.uid.as_deref().is_some_and(|uid| is_owned_by(&secret, uid)))
}

/// Waits until the Secret does not go with its ConjurSecret any more. An operator that is down, or leaves the object alone,
/// does not see to that, and then it is done here: the spec says `Retain` by now, so that nothing brings the owner back.
async fn release(cluster: &Cluster, one: &HandOver, uid: &str, timeout: Duration) -> Result<(), Error> {
    let name = one.conjur_secret_name();
    let begun = tokio::time::Instant::now();
    loop {
        let Some(secret) = secret(cluster, &one.secret).await? else { return Ok(()) };
        if !is_owned_by(&secret, uid) {
            return Ok(());
        }
        let seen = cluster.get(Kind::Secret, name).await?;
        let is_left_alone = seen.is_none_or(|seen| seen.is_ready() || seen.spec()["suspend"] == true);
        let is_late = begun.elapsed() >= timeout;
        if is_left_alone || is_late || begun.elapsed() >= PATIENCE {
            let disowned = disown(cluster, &secret, uid).await;
            // It may have been changed since it was read; what is still the owner after that is brought back by something.
            if is_late {
                return disowned;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conjur_secret_that_undo_changed_before_a_crash_is_still_ours() {
        let one: HandOver = serde_json::from_value(json!({
            "stage": "Compared", "secret": "db", "secretUid": "1", "externalSecret": {},
            "conjurSecret": { "spec": { "data": [] } },
        }))
        .unwrap();
        let seen = |spec: Value| Seen {
            kind: Kind::Secret,
            object: serde_json::from_value(json!({ "metadata": { "uid": "7" }, "spec": spec })).unwrap(),
        };
        let retained = json!({ "data": [], "target": { "deletionPolicy": "Retain" } });
        assert_eq!(seen_as(Some(&seen(retained)), &one), Whose::Ours);
        assert_eq!(seen_as(Some(&seen(json!({ "data": [] }))), &one), Whose::Ours);
        assert_eq!(seen_as(Some(&seen(json!({ "data": [1] }))), &one), Whose::Foreign);
        assert_eq!(seen_as(None, &one), Whose::Free);
    }
}

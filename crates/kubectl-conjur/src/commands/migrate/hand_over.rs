//! The hand-over of one Secret from an ExternalSecret to a ConjurSecret. Each step is decided by what is seen and what is written
//! down, so that any may be the last before a crash, and may be repeated:
//!
//! ```text
//! write it down ─► make the same data elsewhere, and compare ─► permit the ConjurSecret to take the Secret over ─►
//! have the ExternalSecret leave the Secret where it is ─► delete the ExternalSecret alone ─► make the ConjurSecret ─► Ready
//! ```
//! The Secret itself is never deleted, and no key of it is touched.

use std::time::Duration;

use anstream::eprintln;
use conjur_operator_api::ADOPT_ANNOTATION;
use serde_json::json;

use super::{
    conjur_secret::{self, Awaited, ready},
    external::{External, LetGo, let_go, look},
    plan::Task,
    record::{HandOver, Record, Stage},
    target::{check_controller, patch_secret, secret, unmark},
    trial,
};
use crate::{
    Error,
    cluster::{Cluster, Kind, connection_of},
    migrate::Migration,
};

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Nothing that writes the Secret was touched.
    Nothing,
    /// The ExternalSecret may have been told to leave its Secret, and still writes it.
    Permitted,
    /// The ExternalSecret is deleted, or about to be.
    LetGo,
}

/// Hands a Secret over; gives who writes it now.
///
/// # Errors
/// How far it came, and why not further.
pub async fn run(
    cluster: &Cluster,
    task: Task,
    migration: &Migration,
    timeout: Duration,
) -> Result<String, String> {
    eprintln!("secret/{}: handing over to cjs/{} …", task.one.secret, task.one.conjur_secret_name());
    let planned = task.one.clone();
    let is_begun = task.record.as_ref().is_some_and(|record| record.one.stage > Stage::Announced);
    let mut reached = if is_begun { Reached::Permitted } else { Reached::Nothing };
    let done = steps(cluster, task, migration, timeout, &mut reached).await;
    done.map(|()| format!("cjs/{}", planned.conjur_secret_name()))
        .map_err(|error| stopped(reached, &planned, &error))
}

/// What a person has to know of a hand-over that stopped.
fn stopped(reached: Reached, one: &HandOver, error: &Error) -> String {
    let (external, conjur) = (one.external_secret_name(), one.conjur_secret_name());
    let on = "Run this again to go on, or with --undo to go back";
    match reached {
        Reached::Nothing => format!("stays as it was: {error}"),
        Reached::Permitted => format!(
            "keeps what it holds, and the hand-over stopped while ExternalSecret {external} still writes it: {error}. {on}"
        ),
        Reached::LetGo => format!(
            "keeps what it holds, and the hand-over stopped after ExternalSecret {external} was deleted and before cjs/{conjur} \
             is seen to write it: {error}. {on}"
        ),
    }
}

async fn steps(
    cluster: &Cluster,
    task: Task,
    migration: &Migration,
    timeout: Duration,
    reached: &mut Reached,
) -> Result<(), Error> {
    let mut record = if task.compare {
        compared(cluster, task, migration, timeout).await?
    } else {
        let mut record = task.record.ok_or_else(|| Error::new("nothing of it is written down"))?;
        record.claim(cluster, false).await?;
        record
    };
    *reached = Reached::Permitted;
    permit(cluster, &record, reached).await?;
    let mut far = LetGo::Not;
    let left = let_go(cluster, &record.one, &mut far, timeout).await;
    if far == LetGo::Begun {
        *reached = Reached::LetGo;
    }
    left?;
    record.is_ours(cluster).await?;
    let uid = conjur_secret::ensure(cluster, &record.one).await?;
    let one = HandOver { conjur_secret_uid: Some(uid), ..record.one.clone() };
    record.write(cluster, one).await?;
    let awaited = Awaited {
        kind: Kind::Secret,
        name: record.one.conjur_secret_name(),
        uid: record.one.conjur_secret_uid.as_deref(),
        is_new: false,
    };
    ready(cluster, awaited, timeout).await?;
    unmark(cluster, &record.one.secret).await?;
    let one = HandOver { stage: Stage::Done, ..record.one.clone() };
    record.write(cluster, one).await
}

/// Writes down what is to be done, and that the ConjurSecret makes the same data.
async fn compared(
    cluster: &Cluster,
    task: Task,
    migration: &Migration,
    timeout: Duration,
) -> Result<Record, Error> {
    let Task { one, record, .. } = task;
    connect(cluster, &one, migration, timeout).await?;
    let is_new = record.is_none();
    let mut record = match record {
        // What is written down stays as it is until the new form is compared: it may be the way back.
        Some(mut record) => {
            record.claim(cluster, false).await?;
            record
        }
        None => Record::create(cluster, one.clone()).await?,
    };
    if let Err(error) = trial::compare(cluster, &one, timeout).await {
        if is_new {
            // Nothing was touched: nothing is left to be taken back. What another run wrote meanwhile stays.
            record.remove(cluster).await.ok();
        }
        return Err(error);
    }
    let one = HandOver { stage: Stage::Compared, run: record.one.run.clone(), ..one };
    record.write(cluster, one).await?;
    Ok(record)
}

/// Permits the ConjurSecret to take the Secret over.
async fn permit(cluster: &Cluster, record: &Record, reached: &mut Reached) -> Result<(), Error> {
    let one = &record.one;
    let is_let_go = matches!(look(cluster, one).await?, External::Gone | External::Going(_));
    if is_let_go {
        *reached = Reached::LetGo;
    }
    let there = secret(cluster, &one.secret).await?;
    let there = there.filter(|there| there.metadata.uid.as_deref() == Some(&one.secret_uid));
    let Some(there) = there else {
        // The ConjurSecret makes one that is gone; there is nothing else left that would.
        if is_let_go {
            return Ok(());
        }
        return Err(Error::new(format!(
            "Secret {} is gone, or another than the one that was compared; --undo forgets its hand-over",
            one.secret
        )));
    };
    if !is_let_go {
        check_controller(&there, one)?;
        conjur_secret::refuse_foreign(cluster, one).await?;
    }
    record.is_ours(cluster).await?;
    let adopt =
        json!({ "annotations": { ADOPT_ANNOTATION: format!("ConjurSecret/{}", one.conjur_secret_name()) } });
    patch_secret(cluster, &one.secret, &one.secret_uid, adopt).await
}

/// Makes the connection that the ConjurSecret needs, and waits for it.
async fn connect(
    cluster: &Cluster,
    one: &HandOver,
    migration: &Migration,
    timeout: Duration,
) -> Result<(), Error> {
    let unnamed = || Error::new("the ConjurSecret names no connection");
    let (kind, name) = connection_of(&one.conjur_secret["spec"]).ok_or_else(unnamed)?;
    // One that is there already may be better than what was translated.
    if cluster.get(kind, name).await?.is_none() {
        let none = || {
            Error::new(format!("there is no {} {name}; make it, or name one with --connection", kind.name()))
        };
        let object = migration.object(&kind.name(), name);
        let mut object = object.ok_or_else(none)?.clone();
        if kind == Kind::Connection {
            object["metadata"]["namespace"] = cluster.namespace.clone().into();
        }
        let made = conjur_secret::create(cluster, kind, &object).await;
        // Another run may have made it meanwhile.
        if let Err(error) = made
            && cluster.get(kind, name).await?.is_none()
        {
            return Err(error);
        }
    }
    ready(cluster, Awaited { kind, name, uid: None, is_new: false }, timeout).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_touched_is_said_to_stay_as_it_was() {
        let one: HandOver = serde_json::from_value(json!({
            "stage": "Compared", "secret": "db", "secretUid": "1", "externalSecret": { "metadata": { "name": "es" } },
            "conjurSecret": { "metadata": { "name": "db" } },
        }))
        .unwrap();
        let told = |reached| stopped(reached, &one, &Error::new("it broke"));
        assert_eq!(told(Reached::Nothing), "stays as it was: it broke");
        for (reached, stage) in [
            (Reached::Permitted, "ExternalSecret es still writes it"),
            (Reached::LetGo, "ExternalSecret es was deleted"),
        ] {
            let told = told(reached);
            assert!(!told.contains("stays as it was"), "{told}");
            for text in [stage, "it broke", "again", "--undo"] {
                assert!(told.contains(text), "{told}");
            }
        }
    }
}

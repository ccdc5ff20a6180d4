//! What is to be handed over: what a crash left, and what the translation found.

use super::{
    conjur_secret,
    external::{self, External, externals},
    record::{HandOver, Record, Stage},
    target::{check_controller, secret},
    trial,
};
use crate::{
    Error,
    cluster::{Cluster, Kind, api_error},
    migrate::{Former, Migration, Mode, Takeover},
};

/// What is to be done about a Secret.
#[derive(Debug)]
pub struct Planned {
    pub secret: String,
    /// What is to be done, or why nothing is.
    pub what: Result<Task, String>,
}

/// A hand-over that can go on.
#[derive(Debug)]
pub struct Task {
    pub one: HandOver,
    /// As it is written down; none where it is not yet.
    pub record: Option<Record>,
    /// Whether the same data has to be made elsewhere first.
    pub compare: bool,
}

/// Whether a hand-over is this program's: of all of a Secret that External Secrets Operator writes.
pub fn is_automatic(takeover: &Takeover) -> bool {
    takeover.mode == Mode::Owner && matches!(takeover.from, Former::ExternalSecret { .. })
}

/// What is to be done about each Secret; what is done already is left out.
///
/// # Errors
/// The API server's.
pub async fn plans(
    cluster: &Cluster,
    migration: &Migration,
    records: Vec<Record>,
) -> Result<Vec<Planned>, Error> {
    let mut takeovers: Vec<&Takeover> = migration.takeovers.iter().filter(|one| is_automatic(one)).collect();
    let mut all = Vec::new();
    for record in records {
        let secret = record.one.secret.clone();
        let found = takeovers.iter().position(|one| one.secret == secret);
        let takeover = found.map(|at| takeovers.remove(at));
        if let Some(what) = again(cluster, migration, takeover, record).await.transpose() {
            all.push(Planned {
                secret,
                what: what.map_err(|error| format!("is not handed over further: {error}")),
            });
        }
    }
    for takeover in takeovers {
        let what = match new(cluster, migration, takeover, None).await {
            Ok(one) => Ok(Task { one, record: None, compare: true }),
            Err(error) => Err(format!("stays as it was: {error}")),
        };
        all.push(Planned { secret: takeover.secret.clone(), what });
    }
    Ok(all)
}

/// Goes on with what is written down; none where there is nothing left to do.
async fn again(
    cluster: &Cluster,
    migration: &Migration,
    takeover: Option<&Takeover>,
    record: Record,
) -> Result<Option<Task>, Error> {
    let one = &record.one;
    if one.giving_back {
        return Err(Error::new(
            "it is on its way back to its ExternalSecret: run this with --undo to the end first",
        ));
    }
    let now = external::look(cluster, one).await?;
    if one.stage == Stage::Done {
        return match &now {
            External::There(now) | External::Another(now) => Err(Error::new(format!(
                "cjs/{} writes it, and {}. Then delete it: kubectl delete externalsecret {} --cascade=orphan",
                one.conjur_secret_name(),
                external::made_again(one, now),
                one.external_secret_name()
            ))),
            External::Gone | External::Going(_) => Ok(None),
        };
    }
    let is_as_compared = match &now {
        External::Gone | External::Going(_) => true,
        External::There(now) => !external::differs(now, &one.external_secret),
        External::Another(_) => false,
    };
    if one.stage == Stage::Compared && is_as_compared {
        return Ok(Some(Task { one: one.clone(), record: Some(record), compare: false }));
    }
    let Some(takeover) = takeover else {
        return Err(Error::new(format!(
            "ExternalSecret {} is gone, or is not translated as it is now; see the notes, or forget its hand-over with --undo",
            one.external_secret_name()
        )));
    };
    let one = new(cluster, migration, takeover, Some(one)).await?;
    Ok(Some(Task { one, record: Some(record), compare: true }))
}

/// A hand-over as the translation has it now, of which nothing is done yet.
async fn new(
    cluster: &Cluster,
    migration: &Migration,
    takeover: &Takeover,
    before: Option<&HandOver>,
) -> Result<HandOver, Error> {
    let missing = || Error::new("its translation is not there");
    let (api_version, name) = takeover.former_external_secret().ok_or_else(missing)?;
    let conjur_secret = migration.object(&Kind::Secret.name(), &takeover.conjur_secret);
    let mut conjur_secret = conjur_secret.ok_or_else(missing)?.clone();
    conjur_secret["metadata"]["namespace"] = cluster.namespace.clone().into();
    let external = externals(cluster, api_version).get_opt(name).await;
    let external = external.map_err(|error| api_error(&format!("read ExternalSecret {name}"), &error))?;
    let external = external.filter(|external| external.metadata.deletion_timestamp.is_none());
    let external = external.ok_or_else(|| Error::new(format!("ExternalSecret {name} is gone")))?;
    let secret = secret(cluster, &takeover.secret).await?.ok_or_else(|| {
        Error::new(format!("there is no such Secret: see why ExternalSecret {name} has not made it"))
    })?;
    let one = HandOver {
        stage: Stage::Announced,
        run: String::new(),
        giving_back: false,
        secret: takeover.secret.clone(),
        secret_uid: secret.metadata.uid.clone().unwrap_or_default(),
        external_secret: external::manifest(
            &external,
            api_version,
            before.map(|before| &before.external_secret),
        ),
        external_secret_uid: external.metadata.uid.clone().unwrap_or_default(),
        conjur_secret,
        conjur_secret_uid: before.and_then(|before| before.conjur_secret_uid.clone()),
    };
    check_controller(&secret, &one)?;
    conjur_secret::refuse_foreign(cluster, &one).await?;
    trial::refuse_foreign(cluster, &one).await?;
    Ok(one)
}

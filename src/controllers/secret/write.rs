//! One write of a target: what its Secret is to be, and what is remembered of it. [`target`](super::target) writes the
//! whole Secret, [`merge`](super::merge) its keys in another's.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::cache::Target;
use super::seen::ObservedSecret;
use crate::{
    api::{ConjurSecret, ConnectionId, Reason},
    cluster::{self, Written},
    conjur::Lane,
    controllers::Context,
    metrics::SecretWrite,
    plan::{
        Failure,
        secret::{Fingerprint, certificate, rollout::Lineage},
    },
    runtime::current::{NamesInLine, say},
};

/// How often a write is tried before another writer is reported.
pub const TRIES: usize = 4;

/// One write of a target.
pub struct TargetWrite<'a> {
    pub seen: &'a ObservedSecret,
    pub object: &'a ConjurSecret,
    pub lane: Lane,
    pub ctx: &'a Context,
    pub fingerprint: Fingerprint,
    /// Of the data alone, where its revision is asked for.
    pub data: Option<Fingerprint>,
}

impl TargetWrite<'_> {
    /// The revision of the data that is to be written, where it is asked for. `standing`: metadata of the Secret
    /// that is there. `differs`: whether its data does.
    pub fn revision(&self, standing: Option<&ObjectMeta>, differs: bool) -> Option<String> {
        let key = self.seen.desired.revision_key.as_ref()?;
        let lineage = Lineage::of(&self.seen.owner.uid);
        let on_secret = standing.and_then(|m| m.annotations.as_ref()).and_then(|a| a.get(key));
        let remembered = self.seen.remembered.target.as_ref().and_then(|t| t.revision.as_ref());
        let in_status = self.object.status.as_ref().and_then(|s| s.revision.as_deref());
        let known = [on_secret.map(String::as_str), remembered.map(|(text, _)| text.as_str()), in_status];
        // What was edited or deleted by hand comes back with the revision that it had.
        let as_remembered = remembered.is_some_and(|(_, data)| Some(*data) == self.data);
        Some(lineage.next(lineage.standing(known), differs && !as_remembered))
    }

    /// Whether a Secret that is as it should be otherwise lacks the revision of its data.
    pub fn lacks_revision(&self, standing: &ObjectMeta, revision: Option<&String>) -> bool {
        let key = self.seen.desired.revision_key.as_ref().filter(|_| !self.seen.desired.once);
        key.is_some_and(|key| standing.annotations.as_ref().and_then(|a| a.get(key)) != revision)
    }

    /// What is to be remembered of a write. `data_changed`: it changed the Secret's data, not only what is around it.
    pub fn target(&self, written: Written, revision: Option<String>, data_changed: bool) -> Target {
        let before = self.seen.remembered.target.as_ref().filter(|t| t.uid == written.uid);
        // The API server keeps whole seconds.
        let now = || Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        Target {
            data_at: if data_changed { Some(now()) } else { before.and_then(|t| t.data_at) },
            name: self.seen.desired.name.clone(),
            uid: written.uid,
            resource_version: written.resource_version,
            fingerprint: self.fingerprint,
            generation: self.object.metadata.generation,
            revision: revision.zip(self.data),
            certificate: certificate::ends(&self.seen.desired.data),
        }
    }

    /// Counts a write, and logs which keys it wrote.
    pub fn tell(&self, action: SecretWrite) {
        self.ctx.metrics.secret_written(action);
        let (secret, keys) = (&self.seen.desired.name, NamesInLine(self.seen.desired.data.keys(), ","));
        let namespace = &self.seen.key.namespace;
        let connection = ConnectionId::of(&self.object.spec.connection_ref, namespace);
        say!(INFO, %connection, secret, %keys, action = action.as_str(), "wrote a Secret");
    }

    pub fn contested(&self) -> Failure {
        contested(&self.seen.desired.name)
    }
}

/// Why a write is given up for now.
pub fn contested(name: &str) -> Failure {
    let message = format!(
        "Secret {name} was changed by another writer during each attempt to write it; it is tried again with backoff"
    );
    Failure::transient(Reason::ApiServerError, message)
}

/// None on a conflict: another write came in between, and what is there now must be read first.
pub fn retry_on_conflict<T>(result: Result<T, cluster::Error>) -> Result<Option<T>, Failure> {
    match result {
        Ok(written) => Ok(Some(written)),
        Err(cluster::Error::AlreadyExists(_) | cluster::Error::Conflict(_) | cluster::Error::NotFound(_)) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

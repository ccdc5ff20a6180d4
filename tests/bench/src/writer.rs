//! The floor: the writes that the operator has to make, by a program that does nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use conjur_operator::api::ConjurSecret;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How many requests are in flight, as the operator's default.
const IN_FLIGHT: usize = 32;
/// As long as the values of the benchmark's variables.
const VALUE: usize = 32;

/// Writes a Secret of `keys` keys and the status for each object, and gives the time it took. A second `round` replaces
/// what the first one made.
pub async fn write(
    client: &Client,
    namespace: &str,
    objects: &[ConjurSecret],
    keys: usize,
    round: usize,
) -> Result<Duration> {
    let work: Arc<[Job]> = objects.iter().map(|object| Job::of(object, namespace, keys, round)).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (work, next) = (work.clone(), next.clone());
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let objects: Api<ConjurSecret> = Api::namespaced(client.clone(), namespace);
        workers.spawn(async move {
            while let Some(job) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                job.write(&secrets, &objects, round).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(started.elapsed())
}

struct Job {
    name: String,
    secret: Secret,
    status: Value,
}

impl Job {
    fn of(object: &ConjurSecret, namespace: &str, keys: usize, round: usize) -> Self {
        let name = object.name_any();
        let owner = OwnerReference {
            api_version: "conjur-operator.io/v1alpha1".to_owned(),
            kind: "ConjurSecret".to_owned(),
            name: name.clone(),
            uid: object.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        let map = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let value = |key: usize| {
            let text = format!("round {round} {name} {key} ");
            ByteString(text.bytes().cycle().take(VALUE).collect())
        };
        let data: BTreeMap<_, _> = (0..keys).map(|key| (format!("v{key}"), value(key))).collect();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.to_owned()),
                labels: map(&[
                    ("app.kubernetes.io/managed-by", "conjur-operator"),
                    ("conjur-operator.io/managed", "true"),
                ]),
                annotations: map(&[("conjur-operator.io/owner", &format!("ConjurSecret/{name}"))]),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(data),
            ..Secret::default()
        };
        Self { status: status(object, keys), name, secret }
    }

    async fn write(&self, secrets: &Api<Secret>, objects: &Api<ConjurSecret>, round: usize) -> Result<()> {
        let post = PostParams { field_manager: Some("conjur-operator".to_owned()), ..PostParams::default() };
        let written = if round == 0 {
            secrets.create(&post, &self.secret).await?
        } else {
            secrets.replace(&self.name, &post, &self.secret).await?
        };
        let mut status = self.status.clone();
        let version = written.resource_version();
        status["target"] = json!({ "name": self.name, "uid": written.uid(), "resourceVersion": version });
        let params =
            PatchParams { field_manager: Some("conjur-operator".to_owned()), ..PatchParams::default() };
        objects.patch_status(&self.name, &params, &Patch::Merge(json!({ "status": status }))).await?;
        Ok(())
    }
}

/// What the operator says of an object that is done.
fn status(object: &ConjurSecret, keys: usize) -> Value {
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default();
    let generation = object.metadata.generation;
    json!({
        "observedGeneration": generation,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "Synced", "observedGeneration": generation,
            "message": format!("Secret {} holds what Conjur holds", object.name_any()),
            "lastTransitionTime": now.to_string(),
        }],
        "keys": keys,
        "lastSyncTime": now.to_string(),
        "observedInputs": "0123456789abcdef0123456789abcdef",
    })
}

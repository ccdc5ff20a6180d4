//! What the operator is given to do: variables in Conjur, objects in the cluster.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use conjur_operator::api::ConjurSecret;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;
use testbed::{DevConjur, wait_for};

use crate::world::World;

/// What is done to the API server in preparation, at once.
const AT_ONCE: usize = 16;
/// How many bytes a variable's value has, where a case does not say it.
pub const VALUE: usize = 32;
/// An interval in which nothing falls due.
pub const NEVER: &str = "1000h";

/// Objects of one namespace, each with variables of its own under `apps/{namespace}/`.
#[derive(Clone, Debug)]
pub struct Load {
    /// The namespace.
    pub namespace: String,
    /// How many objects.
    pub objects: usize,
    /// Variables an object.
    pub each: usize,
}

impl Load {
    /// The full id is about 40 bytes long: `myorg:variable:apps/cold0/s00000/value-v0`.
    fn variable(&self, object: usize, at: usize) -> String {
        format!("apps/{}/s{object:05}/value-v{at}", self.namespace)
    }

    /// Makes the variables, with values, and a host that may read them; with `spare` objects more than there are.
    pub async fn variables(&self, conjur: &DevConjur, bytes: usize, spare: usize) -> Result<String> {
        let mut policy = format!("- !policy\n  id: apps/{0}\n- !host apps/{0}-reader\n", self.namespace);
        for object in 0..self.objects + spare {
            for at in 0..self.each {
                let id = self.variable(object, at);
                let host = format!("!host apps/{}-reader", self.namespace);
                write!(
                    policy,
                    "- !variable {id}\n- !permit {{role: {host}, privileges: [read, execute], resource: !variable {id}}}\n"
                )?;
            }
        }
        let loaded = conjur.load_policy("root", &policy).await?;
        self.change(conjur, "first", bytes).await?;
        let role = format!("{}:host:apps/{}-reader", conjur.account(), self.namespace);
        let key = loaded["created_roles"][&role]["api_key"].as_str();
        key.map(str::to_owned).with_context(|| format!("Conjur made no {role}"))
    }

    /// Gives every variable another value.
    pub async fn change(&self, conjur: &DevConjur, text: &str, bytes: usize) -> Result<()> {
        let fill = json!({ "prefix": format!("apps/{}/", self.namespace), "text": text, "bytes": bytes });
        conjur.control(Method::POST, "fill", Some(&fill)).await.map(drop)
    }

    /// Makes the namespace.
    pub async fn namespace(&self, client: &Client) -> Result<()> {
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.namespace } });
        create::<Namespace>(&Api::all(client.clone()), namespace).await
    }

    /// Makes the namespace and the connection in it.
    pub async fn connection(&self, world: &World, key: &str) -> Result<()> {
        let client = &world.client;
        self.namespace(client).await?;
        let ca =
            json!({ "metadata": { "name": "conjur-ca" }, "data": { "ca.crt": world.conjur.authority() } });
        create::<ConfigMap>(&self.api(client), ca).await?;
        let login = json!({ "metadata": { "name": "conjur-login" }, "stringData": { "api-key": key } });
        create::<Secret>(&self.api(client), login).await?;
        let connection = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurConnection", "metadata": { "name": "conjur" },
            "spec": {
                "url": world.conjur.url(), "account": world.conjur.account(),
                "tls": { "caBundleFrom": { "kind": "ConfigMap", "name": "conjur-ca", "key": "ca.crt" } },
                "auth": { "apiKey": {
                    "login": format!("host/apps/{}-reader", self.namespace),
                    "apiKeySecretRef": { "name": "conjur-login", "key": "api-key" },
                } },
            },
        });
        create::<conjur_operator::api::ConjurConnection>(&self.api(client), connection).await
    }

    /// One object, as it is applied.
    pub fn object(&self, at: usize, interval: &str) -> Value {
        let data: Vec<Value> = (0..self.each)
            .map(|key| json!({ "key": format!("v{key}"), "variable": self.variable(at, key) }))
            .collect();
        json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret",
            "metadata": { "name": name(at), "namespace": self.namespace },
            "spec": { "connectionRef": { "name": "conjur" }, "refreshInterval": interval, "data": data },
        })
    }

    /// Makes the objects, and gives them as they are then.
    pub async fn make_objects(&self, client: &Client, interval: &str) -> Result<Vec<ConjurSecret>> {
        let api: Api<ConjurSecret> = self.api(client);
        stream::iter(0..self.objects)
            .map(|at| {
                let (api, object) = (api.clone(), self.object(at, interval));
                async move {
                    let object: ConjurSecret = serde_json::from_value(object)?;
                    anyhow::Ok(api.create(&PostParams::default(), &object).await?)
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Gives all objects another interval.
    pub async fn set_interval(&self, client: &Client, interval: &str) -> Result<()> {
        let api: Api<ConjurSecret> = self.api(client);
        let patch = Patch::Merge(json!({ "spec": { "refreshInterval": interval } }));
        stream::iter(0..self.objects)
            .map(|at| {
                let (api, patch) = (api.clone(), patch.clone());
                async move {
                    api.patch_metadata(&name(at), &PatchParams::default(), &patch).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// How many Secrets of this load hold `each` keys' worth of data now; what counts in the end.
    pub async fn secrets_there(&self, client: &Client) -> Result<usize> {
        let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), &self.namespace);
        let ours = ListParams::default().labels("conjur-operator.io/managed=true");
        Ok(secrets.list(&ours).await?.items.len())
    }

    /// Removes Secrets and objects and waits until none is left, so that the next case begins with an idle cluster.
    pub async fn remove(&self, client: &Client) -> Result<()> {
        let objects: Api<ConjurSecret> = self.api(client);
        let secrets: Api<Secret> = self.api(client);
        let (delete, all) = (DeleteParams::default(), ListParams::default());
        let managed = all.clone().labels("conjur-operator.io/managed=true");
        wait_for("the benchmark's objects are gone", Duration::from_secs(120), async || {
            // A collection of thousands may end with an error halfway: again, until none is left.
            drop(objects.delete_collection(&delete, &all).await);
            drop(secrets.delete_collection(&delete, &managed).await);
            let left = objects.list_metadata(&ListParams::default().limit(1)).await.ok()?.items.len();
            let secrets_left = secrets.list_metadata(&managed.clone().limit(1)).await.ok()?.items.len();
            (left + secrets_left == 0).then_some(())
        })
        .await
    }

    /// Removes the connection too: a later case must not count what the operator does for it.
    pub async fn leave(&self, client: &Client) -> Result<()> {
        self.remove(client).await?;
        let connections: Api<conjur_operator::api::ConjurConnection> = self.api(client);
        connections.delete("conjur", &DeleteParams::default()).await?;
        Ok(())
    }

    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(client.clone(), &self.namespace)
    }
}

/// The name of an object.
pub fn name(at: usize) -> String {
    format!("s{at:05}")
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

//! The same objects in one namespace and over 500: turns of namespaces cost who has many objects in one nothing.

use std::time::{Duration, Instant};

use anyhow::Result;
use conjur_operator::api::{ClusterConjurConnection, ConjurSecret, SYNC_NOW_ANNOTATION};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use serde_json::json;
use testbed::wait_for;

use super::Size;
use crate::load::{Load, NEVER, VALUE, name};
use crate::report::{Report, Unit};
use crate::say;
use crate::world::{Running, World, is_status_write};

const CONNECTION: &str = "wide";
const AT_ONCE: usize = 16;

/// Where the objects lie.
#[derive(Clone, Copy)]
struct Layout {
    namespaces: usize,
    objects: usize,
}

/// How long each took, in seconds: cold, after a restart, and all synced at once.
struct Times([f64; 3]);

pub async fn run(world: &World, size: Size, report: &mut Report) -> Result<()> {
    let load = Load { namespace: "wide".to_owned(), objects: size.wide, each: 1 };
    let key = load.variables(&world.conjur, VALUE, 0).await?;
    load.connection(world, &key).await?;
    connection(world, &load).await?;
    let of = |namespaces: usize| Layout { namespaces, objects: size.wide };
    let one = of(1).measure(world, &load).await?;
    let many = of(size.namespaces).measure(world, &load).await?;
    let n = size.wide;
    let unit = Unit::TimesOf(if size.namespaces == 500 { "500 namespaces" } else { "several namespaces" });
    for (at, what) in ["cold", "restarted", "all synced at once"].into_iter().enumerate() {
        report.row(&format!("{n} objects in one namespace, {what}"), 1.1, unit, &[one.0[at] / many.0[at]]);
        report.raw(&format!("{n} in one namespace, {what}, seconds"), &[one.0[at]]);
        report.raw(&format!("{n} over {} namespaces, {what}, seconds", size.namespaces), &[many.0[at]]);
    }
    Api::<ClusterConjurConnection>::all(world.client.clone())
        .delete(CONNECTION, &DeleteParams::default())
        .await?;
    load.leave(&world.client).await
}

/// One for all namespaces, with the identity that may read the variables.
async fn connection(world: &World, load: &Load) -> Result<()> {
    let key = |name: &str, key: &str| json!({ "namespace": load.namespace, "name": name, "key": key });
    let bundle =
        json!({ "kind": "ConfigMap", "namespace": load.namespace, "name": "conjur-ca", "key": "ca.crt" });
    let login = format!("host/apps/{}-reader", load.namespace);
    let object: ClusterConjurConnection = serde_json::from_value(json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ClusterConjurConnection", "metadata": { "name": CONNECTION },
        "spec": {
            "url": world.conjur.url(), "account": world.conjur.account(), "tls": { "caBundleFrom": bundle },
            "auth": { "apiKey": { "login": login, "apiKeySecretRef": key("conjur-login", "api-key") } },
            "access": [{ "namespaces": { "selector": {} }, "read": ["apps/**"] }],
        },
    }))?;
    Api::all(world.client.clone()).create(&PostParams::default(), &object).await?;
    Ok(())
}

impl Layout {
    fn namespace(self, at: usize) -> String {
        format!("wide-{}-{}", self.namespaces, at % self.namespaces)
    }

    async fn measure(self, world: &World, load: &Load) -> Result<Times> {
        say(format!("{} objects over {} namespaces", self.objects, self.namespaces));
        self.make(world, load).await?;
        let mut running = world.operator(&[]).await?;
        let made = ("conjur_operator_secret_writes_total", "create");
        running.reaches(made.0, made.1, self.objects, Duration::from_secs(600)).await?;
        let last = running.answered(self.objects, is_status_write).await?;
        let cold = seconds(running.started, last)?;
        running.end().await?;
        let started = Instant::now();
        let mut running = world.operator(&[]).await?;
        let looked = ("conjur_operator_reconciles_total", "ConjurSecret");
        running.reaches(looked.0, looked.1, self.objects, Duration::from_secs(120)).await?;
        let restarted = started.elapsed().as_secs_f64();
        let synced = self.sync(world, &mut running).await?;
        running.end().await?;
        self.remove(world).await?;
        say(format!("  cold {cold:.2} s, restarted {restarted:.2} s, all synced at once {synced:.2} s"));
        Ok(Times([cold, restarted, synced]))
    }

    async fn make(self, world: &World, load: &Load) -> Result<()> {
        let client = &world.client;
        let namespaces = Api::<Namespace>::all(client.clone());
        for at in 0..self.namespaces {
            let object = json!({ "metadata": { "name": self.namespace(at) } });
            namespaces.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        }
        let making = (0..self.objects).map(|at| async move {
            let mut object = load.object(at, NEVER);
            object["metadata"]["namespace"] = self.namespace(at).into();
            object["spec"]["connectionRef"] =
                json!({ "kind": "ClusterConjurConnection", "name": CONNECTION });
            let object: ConjurSecret = serde_json::from_value(object)?;
            let api = Api::<ConjurSecret>::namespaced(client.clone(), &self.namespace(at));
            api.create(&PostParams::default(), &object).await?;
            anyhow::Ok(())
        });
        stream::iter(making).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// All are annotated while the operator sleeps, so that all are due at once when it wakes.
    async fn sync(self, world: &World, running: &mut Running<'_>) -> Result<f64> {
        let client = &world.client;
        running.signal("STOP")?;
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { (SYNC_NOW_ANNOTATION): "all" } } }));
        let patch = &patch;
        let asking = (0..self.objects).map(|at| async move {
            let api = Api::<ConjurSecret>::namespaced(client.clone(), &self.namespace(at));
            api.patch_metadata(&name(at), &PatchParams::default(), patch).await?;
            anyhow::Ok(())
        });
        let asked: Result<()> = stream::iter(asking).buffer_unordered(AT_ONCE).try_collect().await;
        running.count_from_now().await?;
        let woken = Timestamp::now();
        running.signal("CONT")?;
        asked?;
        seconds(woken, running.answered(self.objects, is_status_write).await?)
    }

    async fn remove(self, world: &World) -> Result<()> {
        let ours = ListParams::default().labels("conjur-operator.io/managed=true");
        for at in 0..self.namespaces {
            let namespace = self.namespace(at);
            let objects = Api::<ConjurSecret>::namespaced(world.client.clone(), &namespace);
            let secrets = Api::<Secret>::namespaced(world.client.clone(), &namespace);
            objects.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
            drop(secrets.delete_collection(&DeleteParams::default(), &ours).await);
        }
        let all = Api::<PartialObjectMeta<ConjurSecret>>::all(world.client.clone());
        wait_for("the benchmark's objects are gone", Duration::from_secs(120), async || {
            all.list(&ListParams::default().limit(1)).await.ok()?.items.is_empty().then_some(())
        })
        .await
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> Result<f64> {
    Ok(Duration::try_from(to.duration_since(from))?.as_secs_f64())
}

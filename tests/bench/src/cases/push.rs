//! The way back: 1,000 ConjurPushes of 5 keys cold, against a program that makes the same calls; looks in which nothing changed; and how
//! long a changed value takes while others are looked at.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use conjur_client::sensitive::Sensitive;
use conjur_client::{Client as Conjur, Config, Credentials, Limits, Priority, VariableId};
use conjur_operator::api::{ConjurConnection, ConjurPush};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::wait_for;

use super::{Size, between_slots};
use crate::report::{Report, Unit, listed};
use crate::world::{Running, World};
use crate::{Options, say};

/// What is done in preparation, at once.
const AT_ONCE: usize = 16;
/// Both may ask as often: more than twice as much as a real server answers.
const PER_SECOND: u32 = 200;
/// A look that never falls due.
const NEVER: &str = "1000h";

struct Pushes {
    namespace: String,
    objects: usize,
    each: usize,
}

/// The figures of one run after the other.
#[derive(Default)]
struct Figures {
    floor: Vec<f64>,
    cold: Vec<f64>,
    loads: Vec<f64>,
    a_second: Vec<f64>,
    look_api: Vec<f64>,
    look_sends: Vec<f64>,
    look_pages: Vec<f64>,
    changed: Vec<f64>,
}

pub async fn run(world: &World, options: &Options, size: Size, report: &mut Report) -> Result<()> {
    let mut figures = Figures::default();
    let runs = if options.small { 1 } else { options.runs.max(1) };
    for run in 0..runs {
        say(format!("{} pushes, run {} of {runs}", size.objects, run + 1));
        let load = Pushes { namespace: format!("push{run}"), objects: size.objects, each: size.each };
        let key = load.prepare(world).await?;
        let floor = load.bare(world, &key).await?;
        say(format!("  a bare program makes the calls in {floor:.2?}"));
        figures.floor.push(floor.as_secs_f64());
        load.make_objects(world, &key).await?;
        let (mut running, cold) = load.cold(world).await?;
        figures.cold.push(cold.as_secs_f64());
        let loads = world.conjur.loads(&load.branch()).await?;
        let loads = f64::from(u32::try_from(loads).unwrap_or(u32::MAX));
        say(format!(
            "  pushed after {cold:.2?}, by {loads} loads; Conjur: {}",
            listed(&running.conjur_requests().await?)
        ));
        figures.loads.push(loads);
        figures.a_second.push(loads / (cold.as_secs_f64() + 1.0).floor());
        load.looks(world, size, &mut running, &mut figures).await?;
        figures.changed.push(load.changes(world, size).await?.as_secs_f64());
        running.end().await?;
        load.remove(world).await?;
    }
    tell(&figures, size, report);
    Ok(())
}

fn tell(figures: &Figures, size: Size, report: &mut Report) {
    let n = size.objects;
    let ratios: Vec<f64> = figures.cold.iter().zip(&figures.floor).map(|(a, b)| a / b).collect();
    report.raw("bare program that fills, seconds", &figures.floor);
    report.raw("pushes cold until every status, seconds", &figures.cold);
    report.row(&format!("{n} pushes cold, time"), 1.2, Unit::TimesOf("bare program"), &ratios);
    report.row(
        &format!("{n} pushes cold, loads"),
        f64::from(u32::try_from(n).unwrap_or(u32::MAX)),
        Unit::Requests,
        &figures.loads,
    );
    report.row(
        &format!("{n} pushes cold, loads a second"),
        1.0,
        Unit::TimesOf("one a second"),
        &figures.a_second,
    );
    report.row(
        &format!("unchanged look at {n} pushes, at the API server"),
        0.0,
        Unit::Requests,
        &figures.look_api,
    );
    report.row(
        &format!("unchanged look at {n} pushes, values sent"),
        0.0,
        Unit::Requests,
        &figures.look_sends,
    );
    report.row(
        &format!("unchanged look at {n} pushes, pages of the list"),
        // A quarter of the interval is looked at together.
        4.0 * figure((2 * n * size.each).div_ceil(1000) + 1),
        Unit::Requests,
        &figures.look_pages,
    );
    report.row(&format!("a changed value while {n} are looked at"), 2.0, Unit::SecondsAt95, &figures.changed);
}

impl Pushes {
    fn branch(&self) -> String {
        format!("pushed/{}", self.namespace)
    }

    fn variable(&self, object: usize, key: usize) -> String {
        format!("{}/{}/v{key}", self.branch(), name(object))
    }

    fn host(&self) -> String {
        format!("pushed/{}-writer", self.namespace)
    }

    /// A branch with an owner, and in a branch of its own the variables that the bare program fills. The owner's key.
    async fn prepare(&self, world: &World) -> Result<String> {
        let (host, bare) = (self.host(), self.bare_branch());
        let mut policy = format!(
            "- !policy pushed\n- !host {host}\n- !policy {{id: {}, owner: !host {host}}}\n- !policy\n  id: {bare}\n  owner: !host {host}\n  \
             body:\n",
            self.branch()
        );
        for object in 0..self.objects {
            for key in 0..self.each {
                writeln!(policy, "  - !variable {}/v{key}", name(object))?;
            }
        }
        let loaded = world.conjur.load_policy("root", &policy).await?;
        let role = format!("{}:host:{host}", world.conjur.account());
        let key = loaded["created_roles"][&role]["api_key"].as_str();
        key.map(str::to_owned).with_context(|| format!("Conjur made no {role}"))
    }

    fn bare_branch(&self) -> String {
        format!("pushed/{}-bare", self.namespace)
    }

    /// The same calls, by a program that does nothing else.
    async fn bare(&self, world: &World, key: &str) -> Result<Duration> {
        let login = format!("host/{}", self.host());
        let credentials = Credentials::ApiKey { login, api_key: Sensitive::new(key.to_owned()) };
        let limits = Limits { requests_per_second: PER_SECOND, ..Limits::default() };
        let mut config = Config::new(world.conjur.url().parse()?, world.conjur.account(), credentials);
        config.limits = limits;
        config.ca_bundle = Some(world.conjur.authority().as_bytes().to_vec());
        let client = Conjur::new(config)?;
        client.whoami().await?;
        let all = (0..self.objects).flat_map(|object| (0..self.each).map(move |key| (object, key)));
        let ids: Vec<VariableId> = all
            .map(|(object, key)| VariableId::new(&format!("{}/{}/v{key}", self.bare_branch(), name(object))))
            .collect::<Result<_, _>>()?;
        let started = Instant::now();
        let client = Arc::new(client);
        let sends = ids.into_iter().map(|id| {
            let client = Arc::clone(&client);
            async move { client.set_variable(&id, Sensitive::new(value(0)), Priority::Foreground).await }
        });
        stream::iter(sends).buffer_unordered(32).try_collect::<()>().await?;
        Ok(started.elapsed())
    }

    async fn make_objects(&self, world: &World, key: &str) -> Result<()> {
        let namespace = json!({ "metadata": { "name": self.namespace } });
        create::<Namespace>(&Api::all(world.client.clone()), namespace).await?;
        let ca =
            json!({ "metadata": { "name": "conjur-ca" }, "data": { "ca.crt": world.conjur.authority() } });
        create::<ConfigMap>(&self.api(world), ca).await?;
        let login = json!({ "metadata": { "name": "conjur-login" }, "stringData": { "api-key": key } });
        create::<Secret>(&self.api(world), login).await?;
        let connection = json!({
            "metadata": { "name": "conjur" },
            "spec": {
                "url": world.conjur.url(), "account": world.conjur.account(),
                "limits": { "requestsPerSecond": PER_SECOND },
                "tls": { "caBundleFrom": { "kind": "ConfigMap", "name": "conjur-ca", "key": "ca.crt" } },
                "auth": { "apiKey": {
                    "login": format!("host/{}", self.host()),
                    "apiKeySecretRef": { "name": "conjur-login", "key": "api-key" },
                } },
            },
        });
        create::<ConjurConnection>(&self.api(world), with_type(connection, "ConjurConnection")).await?;
        let making = (0..self.objects).map(|at| async move {
            create::<Secret>(&self.api(world), self.secret(at, 0)).await?;
            create::<ConjurPush>(&self.api(world), self.object(at)).await
        });
        stream::iter(making).buffer_unordered(AT_ONCE).try_collect().await
    }

    fn secret(&self, at: usize, round: usize) -> Value {
        let data: serde_json::Map<String, Value> = (0..self.each)
            .map(|key| (format!("v{key}"), String::from_utf8_lossy(&value(round)).into_owned().into()))
            .collect();
        json!({ "metadata": { "name": name(at), "namespace": self.namespace }, "stringData": data })
    }

    fn object(&self, at: usize) -> Value {
        with_type(
            json!({
                "metadata": { "name": name(at), "namespace": self.namespace },
                "spec": {
                    "connectionRef": { "name": "conjur" }, "source": { "secretRef": { "name": name(at) } },
                    "prefix": format!("{}/{{secret}}/", self.branch()), "driftCheckInterval": NEVER,
                    "createVariables": { "branch": self.branch() },
                },
            }),
            "ConjurPush",
        )
    }

    /// Starts the operator before objects that it has never seen: it, and how long it took until every status said so.
    async fn cold<'w>(&self, world: &'w World) -> Result<(Running<'w>, Duration)> {
        let mut running = world.operator(&[]).await?;
        let done = ("conjur_operator_reconciles_total", "kind=\"ConjurPush\",outcome=\"done\"");
        running.reaches(done.0, done.1, self.objects, Duration::from_secs(600)).await?;
        // A reconcile is counted before its status is written.
        let all_ready = async || (self.ready(world).await.ok()? == self.objects).then_some(());
        wait_for("every push is Ready", Duration::from_secs(60), all_ready).await?;
        let of_push = |r: &testbed::ApiRequest| r.resource == "conjurpushes" && r.subresource == "status";
        let last = running.answered(self.objects, of_push).await?;
        let took = Duration::try_from(last.duration_since(running.started))?;
        Ok((running, took))
    }

    async fn ready(&self, world: &World) -> Result<usize> {
        let all = self.api::<ConjurPush>(world).list(&ListParams::default()).await?;
        let is_ready = |push: &&ConjurPush| {
            let conditions = push.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.filter(|c| c.type_ == "Ready" && c.status == "True").count() == 1
        };
        Ok(all.items.iter().filter(is_ready).count())
    }

    /// All are looked at, and nothing has changed.
    async fn looks(
        &self,
        world: &World,
        size: Size,
        running: &mut Running<'_>,
        figures: &mut Figures,
    ) -> Result<()> {
        say("  looks in which nothing changed");
        let interval = json!({ "spec": { "driftCheckInterval": format!("{}s", size.interval.as_secs()) } });
        let api = self.api::<ConjurPush>(world);
        let (api, patch) = (&api, &Patch::Merge(interval));
        let setting = (0..self.objects).map(|at| async move {
            api.patch_metadata(&name(at), &PatchParams::default(), patch).await?;
            anyhow::Ok(())
        });
        running.count_from_now().await?;
        stream::iter(setting).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        running.answered(self.objects, |r| r.resource == "conjurpushes" && r.subresource == "status").await?;
        // The first look goes by.
        tokio::time::sleep(size.interval).await;
        between_slots(size.interval).await;
        running.count_from_now().await?;
        tokio::time::sleep(size.interval).await;
        let (requests, api) = (running.conjur_requests().await?, running.api_requests()?.len());
        say(format!("  Conjur: {}; API server: {api}", listed(&requests)));
        let of = |kind: &str| figure(requests.get(kind).copied().unwrap_or_default());
        figures.look_api.push(figure(api));
        figures.look_sends.push(of("set"));
        figures.look_pages.push(of("list"));
        Ok(())
    }

    /// How long changed values take, one after the other, while the others are looked at: 95 of 100 take no longer.
    async fn changes(&self, world: &World, size: Size) -> Result<Duration> {
        say("  values change one after the other");
        let mut took = Vec::new();
        for nth in 0..size.newcomers {
            let at = nth % self.objects;
            let versions = |record: Option<Value>| record.and_then(|r| r["versions"].as_u64());
            let id = self.variable(at, 0);
            let before = versions(world.conjur.record("variable", &id).await?).unwrap_or_default();
            let mut secret = self.secret(at, nth + 1);
            secret["apiVersion"] = "v1".into();
            secret["kind"] = "Secret".into();
            let changed = Instant::now();
            let params = PatchParams::apply("bench").force();
            self.api::<Secret>(world).patch(&name(at), &params, &Patch::Apply(secret)).await?;
            wait_for("the changed value is in Conjur", Duration::from_secs(60), async || {
                let now = versions(world.conjur.record("variable", &id).await.ok()?)?;
                (now > before).then_some(())
            })
            .await?;
            took.push(changed.elapsed());
        }
        took.sort();
        let at = took.len().saturating_sub(1) * 95 / 100;
        took.get(at).copied().context("nothing was changed")
    }

    async fn remove(&self, world: &World) -> Result<()> {
        let (delete, all) = (DeleteParams::default(), ListParams::default());
        let pushes = self.api::<ConjurPush>(world);
        wait_for("the benchmark's pushes are gone", Duration::from_secs(120), async || {
            drop(pushes.delete_collection(&delete, &all).await);
            let left = pushes.list_metadata(&ListParams::default().limit(1)).await.ok()?.items.len();
            (left == 0).then_some(())
        })
        .await?;
        self.api::<ConjurConnection>(world).delete("conjur", &delete).await?;
        drop(self.api::<Secret>(world).delete_collection(&delete, &all).await);
        Ok(())
    }

    fn api<K>(&self, world: &World) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(world.client.clone(), &self.namespace)
    }
}

fn name(at: usize) -> String {
    format!("s{at:05}")
}

fn value(round: usize) -> Vec<u8> {
    format!("value of round {round} ").bytes().cycle().take(32).collect()
}

fn figure(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn with_type(mut object: Value, kind: &str) -> Value {
    object["apiVersion"] = "conjur-operator.io/v1alpha1".into();
    object["kind"] = kind.into();
    object
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

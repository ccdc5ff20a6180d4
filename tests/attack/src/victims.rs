//! Honest tenants: 200 objects that are refreshed every ten seconds, and how long new ones and changed values take.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conjur_operator::api::{ConjurSecret, condition};
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{DevConjur, wait_for};
use tokio::sync::Mutex;

use crate::apply::{change, config_map, make, make_all, namespace, ours, remove, secret};
use crate::say;
use crate::world::World;

/// Namespaces of each group, and objects of each.
const NAMESPACES: usize = 10;
const EACH: usize = 10;
/// Variables that new objects use.
const SPARE: usize = 4;
/// How often a value in Conjur is looked at: what decides how soon a change arrives where nothing is in the way.
const INTERVAL: &str = "10s";
/// Of a new object that waited longer, in seconds, what its status said meanwhile is told.
const SLOW: f64 = 5.0;
/// Who waited this long has waited for ever.
const PATIENCE: Duration = Duration::from_secs(90);
/// The connection that attackers use, too.
pub const SHARED: &str = "shared";

/// Whose connection a group uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The attackers', too.
    Shared,
    /// Each namespace one of its own.
    Own,
}

impl Group {
    const BOTH: [Self; 2] = [Self::Shared, Self::Own];

    fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Own => "own",
        }
    }

    fn namespace(self, at: usize) -> String {
        format!("victim-{}-{}", self.name(), at % NAMESPACES)
    }

    fn connection(self) -> Value {
        match self {
            Self::Shared => json!({ "kind": "ClusterConjurConnection", "name": SHARED }),
            Self::Own => json!({ "name": "conjur" }),
        }
    }
}

/// How long things took, in seconds.
#[derive(Debug, Default)]
pub struct Times {
    /// From a new object to its Ready, by group.
    pub new: [Vec<f64>; 2],
    /// From a changed value to its Secret, by group.
    pub changed: [Vec<f64>; 2],
    /// From a new ConfigMap to the watch that tells of it: what the control plane itself takes.
    pub floor: Vec<f64>,
}

/// What 95 of 100 took at most.
pub fn p95(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get((times.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

impl Times {
    /// Each of the four, with what it is.
    pub fn all(&self) -> [(&'static str, &[f64]); 4] {
        [
            ("new object, shared connection", &self.new[0]),
            ("new object, own connection", &self.new[1]),
            ("changed value, shared connection", &self.changed[0]),
            ("changed value, own connection", &self.changed[1]),
        ]
    }

    /// For a person.
    pub fn told(&self) -> String {
        let told = self.all().map(|(what, times)| format!("{what} {:.2} s ({})", p95(times), times.len()));
        format!("{}; the control plane {:.2} s", told.join(", "), p95(&self.floor))
    }
}

/// The honest tenants' objects.
pub struct Victims {
    /// Each object may be waited for once at a time.
    busy: [Vec<Mutex<()>>; 2],
}

/// Makes them, and waits until all are Ready.
pub async fn prepare(world: &World) -> Result<Victims> {
    let mut policy = String::from("- !policy attack\n");
    for group in Group::BOTH {
        for at in 0..NAMESPACES * EACH + SPARE * NAMESPACES {
            writeln!(policy, "- !variable {}", variable(group, at))?;
        }
    }
    world.conjur.load_policy("root", &policy).await?;
    let fill = json!({ "prefix": "victims/", "text": "first", "bytes": 32 });
    world.conjur.control(http::Method::POST, "fill", Some(&fill)).await?;
    make(
        &world.client,
        &secret(&world.release.namespace, "conjur-login", json!({ "key": world.conjur.admin_key() })),
    )
    .await?;
    make(&world.client, &shared_connection(&world.conjur, &world.release.namespace)).await?;
    for group in Group::BOTH {
        let names: Vec<String> = (0..NAMESPACES).map(|at| group.namespace(at)).collect();
        for name in &names {
            make(&world.client, &namespace(name, "victim")).await?;
            if group == Group::Own {
                make(
                    &world.client,
                    &secret(name, "conjur-login", json!({ "key": world.conjur.admin_key() })),
                )
                .await?;
                let spec = settings(&world.conjur, None);
                make(&world.client, &ours("ConjurConnection", name, "conjur", spec)).await?;
            }
        }
        let objects: Vec<Value> =
            (0..NAMESPACES * EACH).map(|at| object(group, &format!("v{at}"), at)).collect();
        let (taken, refused) = make_all(&world.client, &objects).await;
        ensure!(taken == objects.len(), "the API server took {taken} of {}: {refused:?}", objects.len());
    }
    let api: Api<ConjurSecret> = Api::all(world.client.clone());
    let all = 2 * NAMESPACES * EACH;
    wait_for("all honest objects are Ready", Duration::from_secs(120), async || {
        let objects = api.list(&kube::api::ListParams::default()).await.ok()?;
        (objects.iter().filter(|object| is_ready(object)).count() >= all).then_some(())
    })
    .await?;
    Ok(Victims { busy: [(); 2].map(|()| (0..NAMESPACES * EACH).map(|_| Mutex::new(())).collect()) })
}

fn variable(group: Group, at: usize) -> String {
    format!("victims/{}/v{at}", group.namespace(at))
}

fn settings(conjur: &DevConjur, namespace: Option<&str>) -> Value {
    let mut key = json!({ "name": "conjur-login", "key": "key" });
    if let Some(namespace) = namespace {
        key["namespace"] = namespace.into();
    }
    json!({
        "url": conjur.url(), "account": conjur.account(), "tls": { "caBundle": conjur.authority() },
        "auth": { "apiKey": { "login": "admin", "apiKeySecretRef": key } },
    })
}

fn shared_connection(conjur: &DevConjur, namespace: &str) -> Value {
    let mut spec = settings(conjur, Some(namespace));
    let rule = |role: &str, read: &str, branches: &[&str]| json!({ "namespaces": { "selector": { "matchLabels": { "role": role } } }, "read": [read], "branches": branches });
    let mut attacker =
        rule("attacker", "attack/{namespace}/**", &["attack/{namespace}", "attack/{namespace}/**"]);
    attacker["write"] = json!(["attack/{namespace}/**"]);
    attacker["identities"] = true.into();
    spec["access"] = json!([rule("victim", "victims/{namespace}/**", &[]), attacker]);
    json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ClusterConjurConnection", "metadata": { "name": SHARED },
        "spec": spec,
    })
}

fn object(group: Group, name: &str, at: usize) -> Value {
    let spec = json!({
        "connectionRef": group.connection(), "refreshInterval": INTERVAL,
        "data": [{ "key": "value", "variable": variable(group, at) }],
    });
    ours("ConjurSecret", &group.namespace(at), name, spec)
}

fn is_ready(object: &ConjurSecret) -> bool {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    condition::is_true(conditions.unwrap_or_default(), condition::READY)
}

impl Victims {
    /// For that long, two new objects and four changed values a second; and waits for the last.
    pub async fn measure(&self, world: &World, time: Duration) -> Result<Times> {
        let began = Instant::now();
        let mut times = Times::default();
        let (mut running, mut bare) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        let mut turn = 0;
        while began.elapsed() < time || !running.is_empty() || !bare.is_empty() {
            tokio::select! {
                _ = tick.tick(), if began.elapsed() < time => {
                    turn += 1;
                    bare.push(floor(&world.client));
                    for group in Group::BOTH {
                        running.push(self.one(world, group, turn, true));
                        running.push(self.one(world, group, turn, false));
                    }
                }
                Some(took) = bare.next() => times.floor.push(took?),
                Some(done) = running.next() => {
                    let (new, group, seconds) = done?;
                    let of = if new { &mut times.new } else { &mut times.changed };
                    of[group as usize].push(seconds);
                }
            }
        }
        Ok(times)
    }

    async fn one(&self, world: &World, group: Group, turn: usize, new: bool) -> Result<(bool, Group, f64)> {
        if new {
            return Ok((new, group, newcomer(&world.client, group, turn).await?));
        }
        let which = turn * 7 % (NAMESPACES * EACH);
        let _alone = self.busy[group as usize][which].lock().await;
        let value = format!("changed-{}", jiff::Timestamp::now().as_nanosecond());
        world.conjur.set(&variable(group, which), &value).await?;
        Ok((new, group, changed(&world.client, group, which, &value).await?))
    }
}

/// A new object until Ready; then it goes again.
async fn newcomer(client: &Client, group: Group, turn: usize) -> Result<f64> {
    let name = format!("new{}", jiff::Timestamp::now().as_nanosecond());
    let object = object(group, &name, NAMESPACES * EACH + turn % (SPARE * NAMESPACES));
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let api: Api<ConjurSecret> = Api::namespaced(client.clone(), &namespace);
    let began = Instant::now();
    make(client, &object).await?;
    let said = RefCell::new(Vec::new());
    let looked = |object: &ConjurSecret| {
        let now = ready_says(object);
        let mut said = said.borrow_mut();
        if said.last().is_none_or(|(_, last)| *last != now) {
            said.push((began.elapsed().as_secs_f64(), now));
        }
        is_ready(object)
    };
    let took = until(&api, &name, began, looked).await?;
    if took > SLOW {
        let said = said.borrow().iter().map(|(at, what)| format!("{at:.1} s {what}")).collect::<Vec<_>>();
        say(format!("    {namespace}/{name} waited {took:.1} s: {}", said.join("; ")));
    }
    remove(client, &object).await?;
    Ok(took)
}

/// What its Ready condition says.
fn ready_says(object: &ConjurSecret) -> String {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let ready = condition::find(conditions.unwrap_or_default(), condition::READY);
    ready.map_or_else(|| "no status".to_owned(), |ready| format!("{}: {}", ready.reason, ready.message))
}

/// A new ConfigMap until a watch tells of it.
async fn floor(client: &Client) -> Result<f64> {
    let name = format!("floor{}", jiff::Timestamp::now().as_nanosecond());
    let object = config_map("default", &name, "k", "v");
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let began = Instant::now();
    make(client, &object).await?;
    let took = until(&api, &name, began, |_| true).await?;
    remove(client, &object).await?;
    Ok(took)
}

/// Until an object's Secret holds a value.
async fn changed(client: &Client, group: Group, at: usize, value: &str) -> Result<f64> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &group.namespace(at));
    let holds = |secret: &Secret| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get("value"))
            .is_some_and(|bytes| bytes.0 == value.as_bytes())
    };
    until(&api, &format!("v{at}"), Instant::now(), holds).await
}

/// The seconds since `began` until an object is as it should be; a lost watch is begun anew.
async fn until<K>(api: &Api<K>, name: &str, began: Instant, good: impl Fn(&K) -> bool) -> Result<f64>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let waiting = async {
        loop {
            let Ok(events) = api.watch(&params, "0").await else {
                tokio::time::sleep(Duration::from_millis(250)).await;
                continue;
            };
            let mut events = std::pin::pin!(events);
            while let Ok(Some(event)) = events.try_next().await {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                    && good(&object)
                {
                    return;
                }
            }
        }
    };
    // Who is not served in time counts with the whole of it: no measurement is left out.
    tokio::time::timeout(PATIENCE, waiting).await.ok();
    Ok(began.elapsed().as_secs_f64())
}

/// The annotation that asks for a refresh at once.
pub fn sync_now() -> Value {
    let text = jiff::Timestamp::now().to_string();
    json!({ "metadata": { "annotations": { "conjur-operator.io/sync-now": text } } })
}

/// Asks for a refresh of an object at once.
pub async fn hurry(client: &Client, object: &Value) -> Result<()> {
    change(client, object, &sync_now()).await.context("sync-now")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_five_of_a_hundred() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((p95(&times) - 95.0).abs() < 1e-9);
        assert!((p95(&[3.0]) - 3.0).abs() < 1e-9 && p95(&[]).is_nan());
    }
}

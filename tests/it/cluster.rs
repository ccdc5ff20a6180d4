//! Tests on a real control plane: the chart's CRDs and RBAC, the operator as a process under its ServiceAccount,
//! and a development Conjur for each test. They assert what the cluster and Conjur hold.

mod access;
mod api_faults;
mod canary;
mod chart;
mod connection;
mod contest;
mod descriptors;
mod docs;
mod everything;
mod former;
mod host;
mod input;
mod judged;
mod login;
mod many;
mod merge;
mod odd;
mod outage;
mod phases;
mod policy;
mod push;
mod quiet;
mod reach;
mod recovery;
mod refresh;
mod rights;
mod rollout;
mod rollout_kills;
mod scope;
mod secret;
mod served;
mod setup;
mod sources;
mod starved;
mod stopping;
mod target;
mod template;
mod told;
#[cfg(feature = "otel")]
mod traces;
mod tracked;
mod wakes;
mod watched;
mod written;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    path::PathBuf,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conjur_operator::api::{
    ConjurConnection, ConjurHost, ConjurPolicy, ConjurPush, ConjurSecret, condition::find,
};
use k8s_openapi::{
    ByteString, NamespaceResourceScope,
    api::{
        core::v1::{Namespace, Secret},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::de::DeserializeOwned;
use testbed::{Chart, ControlPlane, Operator, OperatorOptions, Release, wait_for};
use tokio::sync::{OnceCell, RwLock};

/// How long a test waits for what should come in a moment; long, for the machine may be busy.
pub const SOON: Duration = Duration::from_secs(60);

/// One for all tests: what is shared must not end with the runtime of the test that made it.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());
static WORLD: OnceCell<World> = OnceCell::const_new();
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// What all cluster tests share.
pub struct World {
    pub plane: &'static ControlPlane,
    pub release: Release,
    pub client: Client,
    /// The operator's log, over all its restarts.
    log: PathBuf,
    /// Where its metrics are, through all its restarts.
    metrics: String,
    /// What GitOps tools say of all objects.
    judged: Arc<judged::Judged>,
    /// Tests that stop or kill it take it for themselves.
    pub operator: RwLock<Operator>,
}

impl World {
    async fn get() -> &'static World {
        WORLD.get_or_init(async || Self::on(ControlPlane::shared().await).await).await
    }

    async fn on(plane: &'static ControlPlane) -> World {
        // The tests log in with tokens of ServiceAccounts of the first name, the examples of pages with those of the second.
        let names = ["app", "conjur"];
        let values = serde_json::json!({ "rbac": { "tokenRequest": { "serviceAccountNames": names } } });
        let release = plane.install_chart(&Chart { values, ..Chart::default() }).await.unwrap();
        Self::of(plane, release, &[]).await
    }

    /// With what is installed there, and further arguments of the operator.
    async fn of(plane: &'static ControlPlane, release: Release, args: &[&str]) -> World {
        let mut options = OperatorOptions::under(&release);
        // All tests run at trace, so that each can look for its secrets in the log.
        options.log_level = "trace".into();
        options.args.extend(["--leader-elect".into(), "--metrics-objects".into()]);
        options.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        let operator = Operator::start(env!("CARGO_BIN_EXE_conjur-operator"), plane, options).await.unwrap();
        let (log, metrics) = (operator.log_file().to_owned(), operator.metrics_addr().to_owned());
        let client = plane.client().await.unwrap();
        let judged = judged::Judged::start(&client);
        World { plane, release, client, log, metrics, judged, operator: RwLock::new(operator) }
    }
}

/// Runs a test beside others, in a namespace and with a Conjur of its own.
pub fn test<T: Future<Output = ()>>(body: impl FnOnce(Bench) -> T) {
    RUNTIME.block_on(async {
        let world = World::get().await;
        let _shared = world.operator.read().await;
        Bench::run(world, body).await;
    });
}

/// Runs a test that has the operator for itself.
pub fn alone<T: Future<Output = ()>>(
    body: impl FnOnce(Bench, tokio::sync::RwLockWriteGuard<'static, Operator>) -> T,
) {
    RUNTIME.block_on(async {
        let world = World::get().await;
        let operator = world.operator.write().await;
        Bench::run(world, |bench| body(bench, operator)).await;
    });
}

/// Runs a test that has a cluster and the operator for itself, beside all others: one that takes minutes, in which it mostly waits.
pub fn apart<T: Future<Output = ()>>(
    body: impl FnOnce(Bench, tokio::sync::RwLockWriteGuard<'static, Operator>) -> T,
) {
    RUNTIME.block_on(async {
        let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await.unwrap()));
        let world: &'static World = Box::leak(Box::new(World::on(plane).await));
        let operator = world.operator.write().await;
        Bench::run(world, |bench| body(bench, operator)).await;
        world.operator.write().await.kill9().await.unwrap();
        plane.stop_api_server().await.unwrap();
    });
}

/// What one test works with.
#[derive(Clone)]
pub struct Bench {
    pub world: &'static World,
    pub client: Client,
    pub namespace: String,
    pub conjur: conjur_dev::Server,
    /// Values and keys that must not be seen anywhere but in Secrets.
    secrets: Arc<Mutex<Vec<String>>>,
    /// Whether the operator may delete a Secret of a ConjurSecret.
    may_delete: Arc<AtomicBool>,
}

impl Bench {
    async fn run<T: Future<Output = ()>>(world: &'static World, body: impl FnOnce(Bench) -> T) {
        let namespace = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let meta = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let made = Namespace { metadata: meta, ..Namespace::default() };
        let namespaces = Api::<Namespace>::all(world.client.clone());
        namespaces.create(&PostParams::default(), &made).await.unwrap();
        let conjur = conjur_dev::Server::start(conjur_dev::Options::default()).await.unwrap();
        let bench = Bench {
            world,
            client: world.client.clone(),
            namespace,
            conjur,
            secrets: Arc::default(),
            may_delete: Arc::default(),
        };
        bench.keep_secret(bench.conjur.admin_key());
        body(bench.clone()).await;
        bench.nothing_leaked().await;
        bench.nothing_was_deleted();
        world.judged.was_right(&bench.namespace);
        namespaces.delete(&bench.namespace, &DeleteParams::default()).await.unwrap();
        bench.conjur.stop().await;
    }

    /// The same in another namespace, which is made.
    pub async fn in_namespace(&self, namespace: &str) -> Bench {
        let meta = ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() };
        let made = Namespace { metadata: meta, ..Namespace::default() };
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.create(&PostParams::default(), &made).await.unwrap();
        Bench { namespace: namespace.to_owned(), ..self.clone() }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A text that must not be seen anywhere but in Secrets and in Conjur.
    pub fn secret_value(&self, what: &str) -> String {
        let value = format!("hunter2-{what}-{}-{}", self.namespace, NEXT.fetch_add(1, Ordering::Relaxed));
        self.keep_secret(value.clone());
        value
    }

    /// Another replica of the operator, which waits for the Lease.
    pub async fn second_operator(&self) -> Operator {
        self.another_operator("conjur-operator-1", "trace", &[]).await
    }

    /// One of this name, with a log of its own under that, at this level, and with further arguments.
    pub async fn another_operator(&self, name: &str, log_level: &str, args: &[&str]) -> Operator {
        let mut options = OperatorOptions::under(&self.world.release);
        name.clone_into(&mut options.name);
        log_level.clone_into(&mut options.log_level);
        options.args.push("--leader-elect".into());
        options.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        Operator::start(env!("CARGO_BIN_EXE_conjur-operator"), self.world.plane, options).await.unwrap()
    }

    /// Looks for the test's secrets in the log of such another one.
    pub fn no_secret_in(&self, log: &str) {
        for value in self.secrets.lock().unwrap().iter() {
            assert!(!log.contains(value), "a secret was seen in the log");
        }
    }

    pub fn keep_secret(&self, value: String) {
        self.secrets.lock().unwrap().push(value);
    }

    /// This test does what a Secret may be deleted for: a changed `target.name`, or one that must be made anew.
    pub fn may_delete(&self) {
        self.may_delete.store(true, Ordering::Relaxed);
    }

    /// Whatever happens: no Secret is deleted by the operator, but for what the test says. A ConjurPolicy removes its own.
    fn nothing_was_deleted(&self) {
        let asked = setup::api_requests(self);
        if self.may_delete.load(Ordering::Relaxed) || asked.iter().any(|r| r.resource == "conjurpolicies") {
            return;
        }
        let deleted: Vec<_> =
            asked.into_iter().filter(|r| r.resource == "secrets" && r.verb.starts_with("delete")).collect();
        assert_eq!(deleted, [], "the operator deleted a Secret");
    }

    /// Loads a policy into Conjur's root as its administrator, and gives the keys of the roles that it made.
    pub async fn root(&self, policy: &str) -> BTreeMap<String, String> {
        let keys = self.conjur.load_root(policy).await.unwrap();
        for key in keys.values() {
            self.keep_secret(key.clone());
        }
        keys
    }

    /// Sets a variable to a value that is new, and gives it.
    pub fn set(&self, variable: &str) -> String {
        let value = self.secret_value(&variable.replace('/', "-"));
        assert!(self.conjur.set_variable(variable, value.as_bytes()), "no variable {variable}");
        value
    }

    /// Makes the ConjurConnection `conjur` with the login and its current key, and waits until it is Ready.
    pub async fn connect(&self, login: &str) {
        let key = self.conjur.api_key_of(login).unwrap_or_else(|| panic!("no role {login}"));
        self.put_secret("conjur-login", &[("api-key", &key)]).await;
        self.apply(&self.connection("conjur", login)).await;
        self.ready::<ConjurConnection>("conjur").await;
    }

    /// The manifest of a connection.
    pub fn connection(&self, name: &str, login: &str) -> String {
        let url = self.conjur.url();
        format!(
            "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurConnection\nmetadata: {{name: {name}}}\nspec:\n  \
             url: {url}\n  account: demo\n  auth: {{apiKey: {{login: {login}, apiKeySecretRef: {{name: conjur-login, key: api-key}}}}}}\n"
        )
    }

    /// Applies a manifest in the test's namespace.
    pub async fn apply(&self, yaml: &str) {
        self.try_apply(yaml).await.unwrap();
    }

    /// The same, for what may be refused; what kubectl said then.
    pub async fn try_apply(&self, yaml: &str) -> Result<String, String> {
        let args = ["apply", "--server-side", "--namespace", &self.namespace, "-f", "-"];
        self.world.plane.kubectl_with(&args, yaml).await.map_err(|e| format!("{e:#}"))
    }

    pub async fn kubectl(&self, args: &[&str]) -> String {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(args);
        self.world.plane.kubectl(&all).await.unwrap()
    }

    /// Makes a Secret, or changes its data.
    pub async fn put_secret(&self, name: &str, data: &[(&str, &str)]) {
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect();
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        let secret = Secret { metadata, data: Some(data), ..Secret::default() };
        let api = self.api::<Secret>();
        if let Some(old) = api.get_opt(name).await.unwrap() {
            let mut secret = secret;
            secret.metadata.resource_version = old.metadata.resource_version;
            api.replace(name, &PostParams::default(), &secret).await.unwrap();
        } else {
            api.create(&PostParams::default(), &secret).await.unwrap();
        }
    }

    /// The data of a Secret, as text; none where there is no Secret.
    pub async fn data(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let secret = self.api::<Secret>().get_opt(name).await.unwrap()?;
        let text = |bytes: ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
        Some(secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, text(v))).collect())
    }

    /// Waits until a Secret holds exactly this.
    pub async fn holds(&self, name: &str, expected: &[(&str, &str)]) {
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let what = format!("Secret {}/{name} with {:?}", self.namespace, expected.keys());
        wait_for(&what, SOON, || async { (self.data(name).await.as_ref() == Some(&expected)).then_some(()) })
            .await
            .unwrap_or_else(|e| panic!("{e:#}\n{}", self.state_now()));
    }

    /// Waits until an object is as `good` says, and gives it.
    pub async fn until<K>(&self, what: &str, name: &str, good: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api = self.api::<K>();
        let what = format!("{} {}/{name}: {what}", K::kind(&()), self.namespace);
        wait_for(&what, SOON, || async { api.get_opt(name).await.ok().flatten().filter(|k| good(k)) })
            .await
            .unwrap_or_else(|e| panic!("{e:#}\n{}", self.state_now()))
    }

    /// Waits until an object is Ready for its generation.
    pub async fn ready<K: Told>(&self, name: &str) -> K {
        self.until("Ready", name, |k: &K| {
            let (generation, conditions) = k.told();
            k.meta().generation == generation
                && find(&conditions, "Ready").is_some_and(|c| c.status == "True")
                && conditions.len() == 1
        })
        .await
    }

    /// Waits until an object's Ready condition has this reason, and gives its message.
    pub async fn says<K: Told>(&self, name: &str, reason: &str) -> String {
        let told = self.until(reason, name, |k: &K| k.told().1.iter().any(|c| c.reason == reason)).await;
        told.told().1.into_iter().find(|c| c.reason == reason).unwrap().message
    }

    /// Waits for an Event with this reason in the test's namespace whose note has this text.
    pub async fn events(&self, reason: &str, note: &str) {
        let is_it = |event: &Event| {
            event.reason.as_deref() == Some(reason) && event.note.as_ref().is_some_and(|n| n.contains(note))
        };
        let what = format!("an Event {reason} in {}: {note}", self.namespace);
        wait_for(&what, SOON, || async {
            let all = self.api::<Event>().list(&ListParams::default()).await.unwrap();
            all.items.iter().any(is_it).then_some(())
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", self.state_now()));
    }

    fn state_now(&self) -> String {
        let args = ["get", "conjur", "-o", "yaml", "--namespace", &self.namespace];
        let told = tokio::task::block_in_place(|| RUNTIME.handle().block_on(self.world.plane.kubectl(&args)));
        told.unwrap_or_else(|e| e.to_string())
    }

    /// No value may stand in the log (at trace), in an event or in a status.
    async fn nothing_leaked(&self) {
        let everything = ListParams::default();
        let mut seen = std::fs::read_to_string(&self.world.log).unwrap();
        for event in self.api::<Event>().list(&everything).await.unwrap() {
            seen += &serde_json::to_string(&event).unwrap();
        }
        for object in self.api::<ConjurSecret>().list(&everything).await.unwrap() {
            seen += &serde_json::to_string(&object.status).unwrap();
        }
        for object in self.api::<ConjurPolicy>().list(&everything).await.unwrap() {
            seen += &serde_json::to_string(&object.status).unwrap();
        }
        for object in self.api::<ConjurPush>().list(&everything).await.unwrap() {
            seen += &serde_json::to_string(&object.status).unwrap();
        }
        for object in self.api::<ConjurConnection>().list(&everything).await.unwrap() {
            seen += &serde_json::to_string(&object.status).unwrap();
        }
        for object in self.api::<ConjurHost>().list(&everything).await.unwrap() {
            seen += &serde_json::to_string(&object.status).unwrap();
        }
        for value in self.secrets.lock().unwrap().iter() {
            let encoded = STANDARD.encode(value);
            assert!(
                !seen.contains(value) && !seen.contains(&encoded),
                "a secret of {} was seen in a log, event or status",
                self.namespace
            );
        }
    }
}

/// An object with conditions.
pub trait Told:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug
{
    /// `observedGeneration` and the conditions.
    fn told(&self) -> (Option<i64>, Vec<Condition>);
}

macro_rules! told {
    ($($kind:ty),+) => {$(
        impl Told for $kind {
            fn told(&self) -> (Option<i64>, Vec<Condition>) {
                let status = self.status.clone().unwrap_or_default();
                (status.observed_generation, status.conditions.unwrap_or_default())
            }
        }
    )+};
}
told!(ConjurConnection, ConjurSecret, ConjurPolicy, ConjurPush, ConjurHost);

/// The resource version of an object.
pub fn version<K: ResourceExt>(object: &K) -> String {
    object.resource_version().unwrap_or_default()
}

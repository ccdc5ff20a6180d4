//! Watches of the Secrets and ConfigMaps that objects refer to, and of foreign Secrets that stand in the way: metadata
//! only, one for each thing, shared. Texts that are read from them are kept, and shared, too.

mod texts;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Resource,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::ObjectRef,
        watcher::{self, watcher},
    },
};
use tokio_util::task::AbortOnDropHandle;

pub use self::texts::{Text, Texts, version};
use super::{facts::ConnectionId, streams::Wakeups};
use crate::{
    api::{ConjurPolicy, ConjurSecret, SourceKind},
    cluster::{self, Cluster},
};

/// Something to watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Input {
    /// Whether it is a ConfigMap; else a Secret.
    pub config_map: bool,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Input {
    /// A Secret.
    pub fn secret(namespace: &str, name: &str) -> Self {
        Self { config_map: false, namespace: namespace.into(), name: name.into() }
    }

    /// A ConfigMap or Secret.
    pub fn bundle(kind: SourceKind, namespace: &str, name: &str) -> Self {
        Self { config_map: kind == SourceKind::ConfigMap, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.config_map { "ConfigMap" } else { "Secret" };
        write!(f, "{kind} {}/{}", self.namespace, self.name)
    }
}

/// Who wants to be woken by a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum User {
    /// A connection, by what it refers to.
    Connection(ConnectionId),
    /// A ConjurSecret, by what it refers to, and by the foreign Secret that has its target's name: it may be adopted,
    /// or go.
    Secret(ObjectRef<DeserializeGuard<ConjurSecret>>),
    /// A ConjurPolicy, by what its document lies in.
    Policy(ObjectRef<DeserializeGuard<ConjurPolicy>>),
}

/// The watches, each with those that want to be woken by it.
pub struct Inputs {
    client: Client,
    wakeups: Wakeups,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: HashMap<Input, Watched>,
    wanted: HashMap<User, Vec<Input>>,
}

#[derive(Default)]
struct Watched {
    /// Each user, and whether there is a change that it has not looked at.
    users: HashMap<User, bool>,
    /// Uid and resource version as the watch last showed them, empty where there is no such thing; none until it has
    /// listed.
    seen: Option<String>,
    texts: Arc<tokio::sync::Mutex<Texts>>,
    task: Option<AbortOnDropHandle<()>>,
}

impl Inputs {
    /// No watch yet.
    pub fn new(client: Client, wakeups: Wakeups) -> Arc<Self> {
        Arc::new(Self { client, wakeups, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a user is woken by a change of exactly these.
    pub fn want(self: &Arc<Self>, user: &User, wanted: &[Input]) {
        let mut state = self.state();
        let State { watched, wanted: by_user } = &mut *state;
        if by_user.get(user).map_or(&[][..], Vec::as_slice) == wanted {
            return;
        }
        let before = if wanted.is_empty() {
            by_user.remove(user)
        } else {
            by_user.insert(user.clone(), wanted.to_vec())
        };
        for input in before.into_iter().flatten().filter(|input| !wanted.contains(input)) {
            if let Some(entry) = watched.get_mut(&input) {
                entry.users.remove(user);
                if entry.users.is_empty() {
                    watched.remove(&input);
                }
            }
        }
        for input in wanted {
            let entry = watched.entry(input.clone()).or_default();
            entry.users.entry(user.clone()).or_insert(true);
            if entry.task.is_none() {
                entry.task = Some(AbortOnDropHandle::new(tokio::spawn(self.clone().watch(input.clone()))));
            }
        }
    }

    /// From now on a user is woken by a change of these, too.
    pub fn want_also(self: &Arc<Self>, user: &User, more: &[Input]) {
        if more.is_empty() {
            return;
        }
        let mut wanted = self.state().wanted.get(user).cloned().unwrap_or_default();
        let before = wanted.len();
        wanted.extend(more.iter().filter(|input| !wanted.contains(input)).cloned().collect::<Vec<_>>());
        if wanted.len() > before {
            self.want(user, &wanted);
        }
    }

    /// Uid and resource version of each, as the watches show them, empty for what is not there; none while one of them
    /// has not listed.
    pub fn versions(&self, inputs: &[Input]) -> Option<Vec<String>> {
        let state = self.state();
        inputs.iter().map(|input| state.watched.get(input)?.seen.clone()).collect()
    }

    /// The texts under some keys of what is watched: kept ones while the watch shows the version that they are of, or
    /// where they were read after `asked`; else read now.
    ///
    /// # Errors
    /// The API server's; that it is not there is none.
    pub async fn texts(
        &self,
        input: &Input,
        keys: &BTreeSet<&str>,
        asked: Instant,
        cluster: &Cluster,
    ) -> Result<Texts, cluster::Error> {
        let kept = self.state().watched.get(input).map(|w| w.texts.clone()).unwrap_or_default();
        // Many may ask at once, when what they share has changed: one reads.
        let mut kept = kept.lock().await;
        let seen = self.state().watched.get(input).and_then(|w| w.seen.clone());
        if !kept.serve(keys, seen.as_deref(), asked) {
            *kept = Texts::read(input, kept.with(keys), cluster).await?;
        }
        Ok(kept.clone())
    }

    /// Whether something of a user's has changed since it last took note.
    pub fn changed(&self, user: &User) -> bool {
        let state = self.state();
        let mut wanted = state.wanted.get(user).into_iter().flatten();
        wanted.any(|input| state.watched.get(input).is_some_and(|w| w.users.get(user) == Some(&true)))
    }

    /// The same, and takes note.
    pub fn take_changed(&self, user: &User) -> bool {
        let mut state = self.state();
        let State { watched, wanted } = &mut *state;
        let mut any = false;
        for input in wanted.get(user).into_iter().flatten() {
            if let Some(flag) = watched.get_mut(input).and_then(|w| w.users.get_mut(user)) {
                any |= std::mem::take(flag);
            }
        }
        any
    }

    async fn watch(self: Arc<Self>, input: Input) {
        if input.config_map {
            self.follow::<ConfigMap>(&input).await;
        } else {
            self.follow::<Secret>(&input).await;
        }
    }

    async fn follow<K>(&self, input: &Input)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + Send + 'static,
    {
        let api = Api::<PartialObjectMeta<K>>::namespaced(self.client.clone(), &input.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", input.name));
        let mut listed = false;
        let mut events = watcher(api, config).default_backoff().boxed();
        loop {
            let version = match events.try_next().await {
                Ok(Some(watcher::Event::Init)) => {
                    listed = false;
                    continue;
                }
                Ok(Some(watcher::Event::InitApply(o))) => {
                    listed = true;
                    texts::version(&o.metadata)
                }
                Ok(Some(watcher::Event::InitDone)) if listed => continue,
                Ok(Some(watcher::Event::Apply(o))) => texts::version(&o.metadata),
                // It went, maybe while the watch was broken.
                Ok(Some(watcher::Event::Delete(_) | watcher::Event::InitDone)) => String::new(),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(
                        namespace = input.namespace,
                        name = input.name,
                        "cannot watch it: {error}"
                    );
                    continue;
                }
            };
            self.show(input, version);
        }
    }

    /// Takes what a watch shows, and wakes the users if it is news.
    fn show(&self, input: &Input, version: String) {
        let mut state = self.state();
        let Some(watched) = state.watched.get_mut(input).filter(|w| w.seen.as_ref() != Some(&version)) else {
            return;
        };
        watched.seen = Some(version);
        let mut secrets = Vec::new();
        for (user, changed) in &mut watched.users {
            *changed = true;
            match user {
                User::Connection(connection) => self.wakeups.connection(connection),
                User::Secret(secret) => secrets.push(secret.clone()),
                User::Policy(policy) => self.wakeups.policy(policy.clone()),
            }
        }
        self.wakeups.secrets(secrets);
    }
}

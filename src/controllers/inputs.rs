//! Watches of the Secrets and ConfigMaps that connections refer to, and of foreign Secrets that stand in the way:
//! metadata only, one for each thing, shared.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::ObjectRef,
        watcher::{self, watcher},
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::{facts::ConnectionId, streams::Wakeups};
use crate::api::{ConjurPolicy, ConjurSecret, SourceKind};

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

/// Who wants to be woken by a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum User {
    /// A connection, by what it refers to.
    Connection(ConnectionId),
    /// A ConjurSecret, by the foreign Secret that has its target's name: it may be adopted, or go.
    Secret(ObjectRef<DeserializeGuard<ConjurSecret>>),
    /// A ConjurPolicy, by what its document lies in.
    Policy(ObjectRef<DeserializeGuard<ConjurPolicy>>),
}

/// The watches, each with those that want to be woken by it.
pub struct Inputs {
    client: Client,
    wakeups: Wakeups,
    watched: Mutex<HashMap<Input, Watched>>,
}

struct Watched {
    /// Each user, and whether there is a change that it has not looked at.
    users: HashMap<User, bool>,
    shown: Shown,
    task: Option<AbortOnDropHandle<()>>,
}

/// What a watch showed last.
enum Shown {
    Nothing,
    Version(String),
    Gone,
}

impl Inputs {
    /// No watch yet.
    pub fn new(client: Client, wakeups: Wakeups) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self { client, wakeups, watched: Mutex::default() })
    }

    /// From now on a user is woken by a change of exactly these.
    pub fn want(self: &std::sync::Arc<Self>, user: &User, wanted: &[Input]) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|input, entry| {
            if !wanted.contains(input) {
                entry.users.remove(user);
            }
            !entry.users.is_empty()
        });
        for input in wanted {
            let entry = watched.entry(input.clone()).or_insert_with(|| Watched {
                users: HashMap::new(),
                shown: Shown::Nothing,
                task: None,
            });
            entry.users.entry(user.clone()).or_insert(true);
            if entry.task.is_none() {
                entry.task = Some(AbortOnDropHandle::new(tokio::spawn(self.clone().watch(input.clone()))));
            }
        }
    }

    /// Whether something of a user's has changed since it last took note.
    pub fn changed(&self, user: &User) -> bool {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.values().any(|w| w.users.get(user) == Some(&true))
    }

    /// The same, and takes note.
    pub fn take_changed(&self, user: &User) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for flag in watched.values_mut().filter_map(|w| w.users.get_mut(user)) {
            any |= std::mem::take(flag);
        }
        any
    }

    /// Whether the watch showed a version of something that is another than the one that was read. What it has not
    /// shown yet, or shows late, wakes its users when it comes.
    pub fn shows_other(&self, input: &Input, read: Option<&str>) -> bool {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        match watched.get(input).map(|w| &w.shown) {
            None | Some(Shown::Nothing) => false,
            Some(Shown::Gone) => read.is_some(),
            Some(Shown::Version(version)) => read != Some(version),
        }
    }

    async fn watch(self: std::sync::Arc<Self>, input: Input) {
        if input.config_map {
            self.follow::<ConfigMap>(&input).await;
        } else {
            self.follow::<Secret>(&input).await;
        }
    }

    async fn follow<K>(&self, input: &Input)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Send
            + 'static,
    {
        let api = Api::<PartialObjectMeta<K>>::namespaced(self.client.clone(), &input.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", input.name));
        let mut seen: Option<String> = None;
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
                    o.resource_version()
                }
                Ok(Some(watcher::Event::InitDone)) if listed => continue,
                Ok(Some(watcher::Event::Apply(o))) => o.resource_version(),
                // It went, maybe while the watch was broken.
                Ok(Some(watcher::Event::Delete(_) | watcher::Event::InitDone)) => None,
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
            if version != seen {
                seen.clone_from(&version);
                self.wake(input, version);
            }
        }
    }

    fn wake(&self, input: &Input, version: Option<String>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = watched.get_mut(input) else { return };
        entry.shown = version.map_or(Shown::Gone, Shown::Version);
        for (user, changed) in &mut entry.users {
            *changed = true;
            match user {
                User::Connection(connection) => self.wakeups.connection(connection),
                User::Secret(secret) => self.wakeups.secret(secret.clone()),
                User::Policy(policy) => self.wakeups.policy(policy.clone()),
            }
        }
    }
}

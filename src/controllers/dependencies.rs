//! What objects refer to: Secrets, ConfigMaps and ServiceAccounts, and foreign Secrets that stand in the way. One watch of
//! metadata for each kind, of the whole cluster, or of a namespace where these are watched one by one, however many are named:
//! of each object only its version is kept, values are read on use. Texts that are read are shared, and kept within a budget.

mod input;
mod kept;
mod selected;
mod shown;
mod texts;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use tokio_util::task::AbortOnDropHandle;

use self::{kept::KeptSizes, selected::Selections, shown::ShownObjects};
use super::kinds::Kinds;
use crate::{
    api::ConnectionId,
    cluster::{self, Cluster},
    limits::{META_PAGE, SELECTED_SECRETS, UNWATCHED_AGAIN},
    memory_budget,
    metrics::Kind,
    plan::scope::WatchScope,
    runtime::{Key, api_of_part},
};

pub use self::{
    input::{Dependency, DependencyKind},
    shown::Version,
    texts::{KeptText, Texts, version},
};

/// Who wants to be woken by a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dependent {
    /// A connection, by what it refers to.
    Connection(ConnectionId),
    /// A namespace that uses a connection with an identity of its own, by what that is made of.
    Tenant(ConnectionId, String),
    /// An object of another kind, by what it refers to, and by a foreign Secret that has the name of its own: it may be
    /// adopted, or go.
    Object(Kind, Key),
}

/// Of a kind, in a namespace, or in the whole cluster where the text is empty.
type WatchKey<'p> = (DependencyKind, &'p str);

/// The watches, and who wants to be woken by what.
pub struct Dependencies {
    client: Client,
    scope: WatchScope,
    kinds: Arc<Kinds>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watches: HashMap<(DependencyKind, String), Watch>,
    watched: HashMap<Arc<Dependency>, Watched>,
    wanted: HashMap<Arc<Dependent>, Vec<Arc<Dependency>>>,
    /// The users that each connection has among these: itself and its tenants.
    of: HashMap<ConnectionId, HashSet<Arc<Dependent>>>,
    kept: KeptSizes,
    /// What objects name by labels.
    selections: Selections,
}

/// The watch of a kind in a part of the cluster; there is none until someone refers to one of them there.
struct Watch {
    shown: ShownObjects,
    /// It failed at least once.
    failed: bool,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Watched {
    /// Each user, and whether there is a change that it has not looked at.
    users: HashMap<Arc<Dependent>, bool>,
    texts: Arc<tokio::sync::Mutex<Texts>>,
}

impl State {
    /// Uid and resource version as the watch last showed them, empty where there is no such thing; none while that is
    /// not known.
    fn seen(&self, input: &Dependency, scope: &WatchScope) -> Option<String> {
        let part = scope.part_of(&input.namespace)?;
        self.watches.get(&(input.kind, part.to_owned()))?.shown.version(&input.namespace, &input.name)
    }

    fn unwant(&mut self, user: &Dependent, input: &Dependency) {
        let Some(entry) = self.watched.get_mut(input) else { return };
        entry.users.remove(user);
        if entry.users.is_empty() {
            self.watched.remove(input);
            self.kept.drop(input);
        }
    }

    /// Something changed: all who want it have not looked at it. Gives them.
    fn mark(&mut self, input: &Dependency) -> Vec<Arc<Dependent>> {
        let Some(watched) = self.watched.get_mut(input) else { return Vec::new() };
        watched.users.values_mut().for_each(|changed| *changed = true);
        watched.users.keys().cloned().collect()
    }

    /// The text of something was used.
    fn note_kept(&mut self, input: &Dependency, bytes: usize) {
        if !self.watched.contains_key(input) {
            return;
        }
        for dropped in self.kept.used(input, bytes) {
            if let Some(watched) = self.watched.get_mut(&dropped) {
                watched.texts = Arc::default();
            }
        }
    }
}

impl Dependencies {
    /// No watch yet.
    pub fn new(client: Client, scope: WatchScope, kinds: Arc<Kinds>) -> Arc<Self> {
        Arc::new(Self { client, scope, kinds, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a user is woken by a change of exactly these. Whether there is one that it did not want before: what
    /// happened to that until now wakes no one.
    pub fn want(self: &Arc<Self>, user: &Dependent, wanted: &[Dependency]) -> bool {
        let mut state = self.state();
        let before = state.wanted.get(user).map_or(&[][..], Vec::as_slice);
        if before.len() == wanted.len() && before.iter().zip(wanted).all(|(a, b)| **a == *b) {
            return false;
        }
        let user =
            state.wanted.get_key_value(user).map_or_else(|| Arc::new(user.clone()), |(u, _)| u.clone());
        let before = state.wanted.remove(&user).unwrap_or_default();
        let mut new = false;
        let mut now = Vec::with_capacity(wanted.len());
        for input in wanted {
            let known = state.watched.get_key_value(input).map(|(known, _)| known.clone());
            let input = known.unwrap_or_else(|| Arc::new(input.clone()));
            let entry = state.watched.entry(input.clone()).or_default();
            entry.users.entry(user.clone()).or_insert_with(|| {
                new = true;
                true
            });
            self.watch(input.kind, &input.namespace, &mut state);
            now.push(input);
        }
        for input in before.iter().filter(|input| !now.contains(input)) {
            state.unwant(&user, input);
        }
        if let Dependent::Connection(connection) | Dependent::Tenant(connection, _) = &*user {
            let own = state.of.entry(connection.clone()).or_default();
            if now.is_empty() {
                own.remove(&user);
            } else {
                own.insert(user.clone());
            }
            if own.is_empty() {
                state.of.remove(connection);
            }
        }
        if !now.is_empty() {
            state.wanted.insert(user, now);
        }
        new
    }

    /// From now on a user is woken by a change of these, too.
    pub fn want_also(self: &Arc<Self>, user: &Dependent, more: &[Dependency]) {
        if more.is_empty() {
            return;
        }
        let mut wanted: Vec<Dependency> = {
            let state = self.state();
            state.wanted.get(user).into_iter().flatten().map(|input| (**input).clone()).collect()
        };
        let before = wanted.len();
        wanted.extend(more.iter().filter(|input| !wanted.contains(input)).cloned().collect::<Vec<_>>());
        if wanted.len() > before {
            self.want(user, &wanted);
        }
    }

    /// Uid and resource version of each, as the watches show them, empty for what is not there; none while one of them
    /// has not listed.
    pub fn versions(&self, inputs: &[Dependency]) -> Option<Vec<String>> {
        let state = self.state();
        inputs.iter().map(|input| state.seen(input, &self.scope)).collect()
    }

    /// The texts under some keys of what is watched: kept ones while the watch shows the version that they are of, or
    /// where they were read after `asked`; else read now.
    ///
    /// # Errors
    /// The API server's; that it is not there is none.
    pub async fn texts(
        &self,
        input: &Dependency,
        keys: &BTreeSet<&str>,
        asked: Instant,
        cluster: &Cluster,
    ) -> Result<Texts, cluster::Error> {
        let kept = self.state().watched.get(input).map(|w| w.texts.clone()).unwrap_or_default();
        // Many may ask at once, when what they share has changed: one reads.
        let mut kept = kept.lock().await;
        let seen = self.state().seen(input, &self.scope);
        if !kept.serve(keys, seen.as_deref(), asked) {
            let Some(_turn) = memory_budget::reader(&input.namespace).await else {
                let message = format!("the texts of others are read before {input}; this is tried again");
                return Err(cluster::Error::Failed(message));
            };
            *kept = Texts::read(input, kept.with(keys), cluster).await?;
        }
        self.state().note_kept(input, kept.bytes());
        Ok(kept.clone())
    }

    /// Whether something of a user's has changed since it last took note.
    pub fn changed(&self, user: &Dependent) -> bool {
        let state = self.state();
        let mut wanted = state.wanted.get(user).into_iter().flatten();
        wanted.any(|input| state.watched.get(input).is_some_and(|w| w.users.get(user) == Some(&true)))
    }

    /// The same, and takes note.
    pub fn take_changed(&self, user: &Dependent) -> bool {
        let mut state = self.state();
        let State { watched, wanted, .. } = &mut *state;
        let mut any = false;
        for input in wanted.get(user).into_iter().flatten() {
            if let Some(flag) = watched.get_mut(input).and_then(|w| w.users.get_mut(user)) {
                any |= std::mem::take(flag);
            }
        }
        any
    }

    /// Forgets a connection that is gone, with its tenants.
    pub fn forget_connection(self: &Arc<Self>, gone: &ConnectionId) {
        let users: Vec<_> = self.state().of.get(gone).into_iter().flatten().cloned().collect();
        for user in users {
            self.want(&user, &[]);
        }
    }

    /// Watches a kind from now on, where it can be of use for what lies in a namespace.
    fn watch(self: &Arc<Self>, kind: DependencyKind, namespace: &str, state: &mut State) {
        let Some(part) = self.scope.part_of(namespace) else { return };
        if state.watches.contains_key(&(kind, part.to_owned())) {
            return;
        }
        let (this, of) = (self.clone(), part.to_owned());
        let task = tokio::spawn(async move {
            let at = (kind, of.as_str());
            match kind {
                DependencyKind::ConfigMap => this.follow::<ConfigMap>(at).await,
                DependencyKind::Secret => this.follow::<Secret>(at).await,
                DependencyKind::ServiceAccount => this.follow::<ServiceAccount>(at).await,
            }
        });
        let watch =
            Watch { shown: ShownObjects::default(), failed: false, _task: AbortOnDropHandle::new(task) };
        state.watches.insert((kind, part.to_owned()), watch);
    }

    async fn follow<K>(&self, at: WatchKey<'_>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + Send + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = api_of_part(self.client.clone(), at.1);
        let config = watcher::Config::default().page_size(META_PAGE);
        let mut events = watcher(api, config).default_backoff().boxed();
        let (mut failing, mut looked) = (false, Instant::now());
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    failing = false;
                    self.take(at, event);
                }
                Ok(None) => return,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(
                            kind = ?at.0,
                            namespace = at.1,
                            "a watch failed and is tried again; until it works, what objects refer to is read when they \
                             are refreshed: {error}"
                        );
                        if let Some(watch) = self.state().watches.get_mut(&owned(at)) {
                            watch.failed = true;
                        }
                    }
                    // It may not be permitted, for ever.
                    if looked.elapsed() >= UNWATCHED_AGAIN && !self.is_watched(at) {
                        looked = Instant::now();
                        self.wake_all(at);
                    }
                }
            }
        }
    }

    /// Whether something has to be read each time to know whether it changed: its watch failed, and never listed.
    pub fn cannot_be_watched(&self, input: &Dependency) -> bool {
        let Some(part) = self.scope.part_of(&input.namespace) else { return true };
        let state = self.state();
        let watch = state.watches.get(&owned((input.kind, part)));
        watch.is_some_and(|watch| watch.failed && !watch.shown.is_listed())
    }

    /// Whether a watch has listed.
    fn is_watched(&self, at: WatchKey<'_>) -> bool {
        self.state().watches.get(&owned(at)).is_some_and(|watch| watch.shown.is_listed())
    }

    /// Takes what a watch shows, and wakes the users of what is news.
    fn take<K>(&self, watch: WatchKey<'_>, event: watcher::Event<PartialObjectMeta<K>>) {
        let (kind, part) = watch;
        let at = |meta: &ObjectMeta| Dependency {
            kind,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        };
        let mut state = self.state();
        let selected = match (kind, &event) {
            (DependencyKind::Secret, event) => of_selections(&mut state.selections, part, event),
            (DependencyKind::ConfigMap | DependencyKind::ServiceAccount, _) => Vec::new(),
        };
        let State { watches, watched, .. } = &mut *state;
        let Some(Watch { shown, .. }) = watches.get_mut(&owned(watch)) else { return };
        let news: Vec<Dependency> = match event {
            watcher::Event::Init => {
                shown.begin();
                return;
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                let (input, version) = (at(&object.metadata), Version::of(&object.metadata));
                let news = shown.put(&input.namespace, &input.name, version, watched.contains_key(&input));
                news.then_some(input).into_iter().collect()
            }
            watcher::Event::Delete(object) => {
                let input = at(&object.metadata);
                shown.remove(&input.namespace, &input.name).then_some(input).into_iter().collect()
            }
            // What is not in the list went while the watch was broken, or was never there.
            watcher::Event::InitDone => {
                let known: Vec<_> = watched.keys().filter(|input| is_of(input, watch)).cloned().collect();
                let before: Vec<_> = known.iter().map(|i| shown.version(&i.namespace, &i.name)).collect();
                shown.end();
                let changed = known
                    .into_iter()
                    .zip(before)
                    .filter(|(input, before)| shown.version(&input.namespace, &input.name) != *before);
                changed.map(|(input, _)| (*input).clone()).collect()
            }
        };
        let users = news.iter().flat_map(|input| state.mark(input)).collect();
        drop(state);
        self.wake(users);
        self.wake(selected.into_iter().map(|key| Arc::new(Dependent::Object(Kind::Push, key))).collect());
    }

    /// An object selects no Secrets any more.
    pub fn unselect(&self, object: &Key) {
        self.state().selections.remove(object);
    }

    /// From now on an object selects Secrets of its namespace by their labels, and is woken by a change of one. `None`: it does
    /// so no more.
    ///
    /// # Errors
    /// The API server's, where it has to be asked what is selected.
    pub async fn select(
        self: &Arc<Self>,
        object: &Key,
        selector: Option<&LabelSelector>,
        cluster: &Cluster,
    ) -> Result<(), cluster::Error> {
        let Some(selector) = selector else {
            self.unselect(object);
            return Ok(());
        };
        {
            let mut state = self.state();
            self.watch(DependencyKind::Secret, &object.namespace, &mut state);
            if !state.selections.put(object, selector) && state.selections.of(object).is_some() {
                return Ok(());
            }
        }
        let found = cluster.list_selected(&object.namespace, selector, SELECTED_SECRETS).await?;
        self.state().selections.listed(object, found.iter().map(|found| &found.metadata));
        Ok(())
    }

    /// The Secrets that an object selects, by name and resource version; none while that is not known.
    pub fn selected(&self, object: &Key) -> Option<Vec<(String, String)>> {
        self.state().selections.of(object)
    }

    fn wake_all(&self, watch: WatchKey<'_>) {
        let users = {
            let mut state = self.state();
            let inputs: Vec<_> = state.watched.keys().filter(|input| is_of(input, watch)).cloned().collect();
            inputs.iter().flat_map(|input| state.mark(input)).collect()
        };
        self.wake(users);
    }

    fn wake(&self, users: Vec<Arc<Dependent>>) {
        let mut objects: HashMap<Kind, Vec<Key>> = HashMap::new();
        for user in users {
            match &*user {
                Dependent::Connection(connection) | Dependent::Tenant(connection, _) => {
                    self.kinds.wake_connection(connection);
                }
                Dependent::Object(kind, key) => objects.entry(*kind).or_default().push(key.clone()),
            }
        }
        for kind in self.kinds.all() {
            kind.wake_spread(objects.remove(&kind.kind()).unwrap_or_default());
        }
    }
}

fn owned((kind, part): WatchKey<'_>) -> (DependencyKind, String) {
    (kind, part.to_owned())
}

/// Whether a watch shows something.
fn is_of(input: &Dependency, (kind, part): WatchKey<'_>) -> bool {
    input.kind == kind && (part.is_empty() || input.namespace == part)
}

/// Whom what the watch of Secrets shows concerns, of those who select by labels. `part`: as of [`WatchKey`].
fn of_selections<K>(
    selections: &mut Selections,
    part: &str,
    event: &watcher::Event<PartialObjectMeta<K>>,
) -> Vec<Key> {
    match event {
        watcher::Event::Init => {
            selections.begin(part);
            Vec::new()
        }
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
            selections.show(&object.metadata)
        }
        watcher::Event::Delete(object) => selections.gone(&object.metadata),
        watcher::Event::InitDone => selections.end(part),
    }
}

#[cfg(test)]
#[path = "dependencies/tests.rs"]
mod tests;

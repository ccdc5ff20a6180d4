//! The watch of a kind in several namespaces, as if it were one: one list at the start, and changes from then on.
//!
//! A watch of the whole cluster, or of one namespace, is handed on as it is. Of several, each is listed before anything of them
//! counts as listed; one that may not be listed is not waited for, and comes when it may. What is listed again later is told
//! as changes, for a list of one namespace says nothing of the others. Failures are logged here, once each, and end nothing.

use std::{
    collections::{HashSet, VecDeque},
    fmt::Debug,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::BoxStream};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::unshown::{Unshown, WhyUnshown};
use crate::limits::WATCH_WORKS;

/// What a watch is to be told of.
pub struct WatchOptions {
    /// The kind, in the log.
    pub kind: &'static str,
    /// What is asked for.
    pub config: watcher::Config,
    /// Takes note of what can't be shown.
    pub unshown: Unshown,
    /// A right to list the whole kind that is missing is waited for.
    pub waits_for_rights: bool,
    /// For how long a missing right is taken for that of an API server that has just started, and is waited for.
    pub patience: Duration,
}

/// Leaves out of an object what need not be kept.
type Compact<K> = Box<dyn FnMut(&mut K) + Send>;
type PartEvents<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// One namespace, or the whole cluster as an empty text.
struct WatchedPart<K> {
    name: String,
    events: PartEvents<K>,
    /// The objects of it that there are; not kept where there is but one part.
    known: HashSet<String>,
    /// Those that the list under way has shown.
    listing: HashSet<String>,
    /// The same, where it is not the first: told when it is whole, the oldest change first, as a watch would.
    relisted: Vec<K>,
    /// It was listed, or is not waited for.
    settled: bool,
    /// It was listed.
    listed: bool,
    /// Since when it may not be listed.
    refused: Option<Instant>,
    failing: Failing,
}

/// Whether a failure is the first one of several.
#[derive(Default)]
struct Failing {
    last: Option<Instant>,
}

impl Failing {
    /// It failed. Whether it worked before.
    fn is_news(&mut self, now: Instant) -> bool {
        let before = self.last.replace(now);
        before.is_none_or(|before| now.duration_since(before) >= WATCH_WORKS)
    }
}

/// See the module.
pub struct PartsWatch<K: Resource<DynamicType = ()> + 'static> {
    parts: Vec<WatchedPart<K>>,
    /// Where the events go, for what goes unseen.
    store: Store<K>,
    /// Leaves out what need not be kept.
    compact: Compact<K>,
    options: WatchOptions,
    told: VecDeque<Event<K>>,
    begun: bool,
    /// All parts are settled, so that what comes now is a change.
    done: bool,
    /// That was told just now.
    is_filled: bool,
}

/// Watches a kind in these parts, of which there may be none. `store`: where the events are kept; `compact` leaves out of an
/// object what need not be.
pub fn watch_parts<K>(
    parts: Vec<(String, Api<K>)>,
    store: Store<K>,
    options: WatchOptions,
    compact: impl FnMut(&mut K) + Send + 'static,
) -> PartsWatch<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let parts = parts.into_iter().map(|(name, api)| {
        let events = watcher(api, options.config.clone()).default_backoff().boxed();
        (name, events)
    });
    PartsWatch::of(parts.collect(), store, options, Box::new(compact))
}

fn revision<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

impl<K: Resource<DynamicType = ()> + Clone> PartsWatch<K> {
    fn of(
        parts: Vec<(String, PartEvents<K>)>,
        store: Store<K>,
        options: WatchOptions,
        compact: Compact<K>,
    ) -> Self {
        let parts: Vec<WatchedPart<K>> = parts
            .into_iter()
            .map(|(name, events)| WatchedPart {
                name,
                events,
                known: HashSet::new(),
                listing: HashSet::new(),
                relisted: Vec::new(),
                settled: false,
                listed: false,
                refused: None,
                failing: Failing::default(),
            })
            .collect();
        // What is not watched is listed: there is nothing.
        let told = if parts.is_empty() { [Event::Init, Event::InitDone].into() } else { VecDeque::new() };
        Self { parts, store, options, compact, told, begun: false, done: false, is_filled: false }
    }

    fn take(&mut self, at: usize, mut event: Event<K>) {
        if let Event::InitApply(object) | Event::Apply(object) | Event::Delete(object) = &mut event {
            (self.compact)(object);
        }
        if matches!(event, Event::InitDone) && self.options.unshown.take(&self.parts[at].name) {
            let namespace = self.parts[at].name.as_str();
            tracing::info!(kind = self.options.kind, namespace, "the watch works now");
        }
        if self.parts.len() == 1 {
            return self.told.push_back(event);
        }
        let (done, part) = (self.done, &mut self.parts[at]);
        match event {
            Event::Init => {
                part.listing.clear();
                part.relisted.clear();
                if !std::mem::replace(&mut self.begun, true) {
                    self.told.push_back(Event::Init);
                }
            }
            Event::InitApply(object) => {
                part.listing.insert(object.name_any());
                part.known.insert(object.name_any());
                if done {
                    part.relisted.push(object);
                } else {
                    self.told.push_back(Event::InitApply(object));
                }
            }
            Event::InitDone => {
                (part.settled, part.listed) = (true, true);
                if done {
                    let mut changed = std::mem::take(&mut part.relisted);
                    changed.sort_by_key(revision);
                    self.told.extend(changed.into_iter().map(Event::Apply));
                    self.tell_gone(at);
                }
            }
            Event::Apply(object) => {
                part.known.insert(object.name_any());
                self.told.push_back(Event::Apply(object));
            }
            Event::Delete(object) => {
                part.known.remove(&object.name_any());
                self.told.push_back(Event::Delete(object));
            }
        }
        self.finish();
    }

    /// What was known of a part and is not in its list went unseen.
    fn tell_gone(&mut self, at: usize) {
        let part = &mut self.parts[at];
        let listing = std::mem::take(&mut part.listing);
        let gone: Vec<String> = part.known.iter().filter(|name| !listing.contains(*name)).cloned().collect();
        for name in gone {
            part.known.remove(&name);
            let object = self.store.get(&ObjectRef::new(&name).within(&part.name));
            self.told.extend(object.map(|object| Event::Delete((*object).clone())));
        }
    }

    fn failed(&mut self, at: usize, error: &watcher::Error) {
        let (kind, single) = (self.options.kind, self.parts.len() == 1);
        let part = &mut self.parts[at];
        let is_news = part.failing.is_news(Instant::now());
        let namespace = part.name.as_str();
        let Some(why) = WhyUnshown::of(error) else {
            if is_news {
                tracing::warn!(kind, namespace, "a watch failed; retrying: {error}");
            }
            return;
        };
        let since = *part.refused.get_or_insert_with(Instant::now);
        let is_lasting = why == WhyUnshown::NoKind || since.elapsed() >= self.options.patience;
        part.settled |= is_lasting;
        let is_first = self.options.unshown.put(namespace, why);
        match why {
            WhyUnshown::NoKind if is_news && is_first => tracing::warn!(
                kind,
                "the CRD of this kind is not installed; the kind is off until it is, and the others go on: {error}"
            ),
            WhyUnshown::Forbidden if is_news => tracing::warn!(
                kind,
                namespace,
                "a watch is forbidden; what it would show is not handled until it is permitted: {error}"
            ),
            WhyUnshown::NoKind | WhyUnshown::Forbidden => {}
        }
        if single && is_lasting && !(self.options.waits_for_rights && why == WhyUnshown::Forbidden) {
            self.options.unshown.give_up();
        }
        self.finish();
    }

    /// Ends the list of all, when each is settled.
    fn finish(&mut self) {
        if self.done || self.parts.len() == 1 || !self.parts.iter().all(|part| part.settled) {
            return;
        }
        self.done = true;
        if !self.begun {
            self.told.push_back(Event::Init);
        }
        self.told.push_back(Event::InitDone);
        self.is_filled = true;
    }
}

// What is polled is boxed.
impl<K: Resource<DynamicType = ()>> Unpin for PartsWatch<K> {}

impl<K: Resource<DynamicType = ()> + Clone> Stream for PartsWatch<K> {
    /// Never fails: it is a `Result` for what fills stores.
    type Item = watcher::Result<Event<K>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.told.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            // The store has what was listed. A list that broke off may have shown what the next one did not; one that
            // never ended says of nothing that it is gone.
            if std::mem::take(&mut this.is_filled) {
                for at in 0..this.parts.len() {
                    if this.parts[at].listed {
                        this.tell_gone(at);
                    }
                }
                continue;
            }
            let mut moved = false;
            for at in 0..this.parts.len() {
                // What comes of it now would be a change, while others are still listed.
                if this.parts[at].settled && !this.done && this.parts.len() > 1 {
                    continue;
                }
                match this.parts[at].events.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(event))) => this.take(at, event),
                    Poll::Ready(Some(Err(error))) => this.failed(at, &error),
                    Poll::Ready(None) | Poll::Pending => continue,
                }
                moved = true;
                // What is listed again from here on is no part of that.
                if this.is_filled {
                    break;
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
    use kube::{
        core::{PartialObjectMeta, PartialObjectMetaExt},
        runtime::reflector::{self, store::Writer},
    };
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;

    type Map = PartialObjectMeta<ConfigMap>;
    type Shown = watcher::Result<Event<Map>>;

    struct World {
        watch: PartsWatch<Map>,
        writer: Writer<Map>,
        unshown: Unshown,
        senders: Vec<UnboundedSender<Shown>>,
    }

    fn world(parts: &[&str], waits_for_rights: bool) -> World {
        let (store, writer) = reflector::store();
        let unshown = Unshown::default();
        let options = WatchOptions {
            kind: "ConfigMap",
            config: watcher::Config::default(),
            unshown: unshown.clone(),
            waits_for_rights,
            patience: Duration::ZERO,
        };
        let mut senders = Vec::new();
        let parts = parts.iter().map(|name| {
            let (sender, mut receiver) = unbounded_channel();
            senders.push(sender);
            let events = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed();
            ((*name).to_owned(), events)
        });
        let parts = parts.collect();
        World { watch: PartsWatch::of(parts, store, options, Box::new(|_| {})), writer, unshown, senders }
    }

    /// The shorter its name, the older it is.
    fn map(namespace: &str, name: &str) -> Map {
        let resource_version = Some(name.len().to_string());
        let (namespace, name) = (Some(namespace.to_owned()), Some(name.to_owned()));
        ObjectMeta { namespace, name, resource_version, ..ObjectMeta::default() }.into_request_partial()
    }

    fn refused(code: u16) -> Shown {
        let status = kube::core::Status::failure("", "").with_code(code);
        Err(watcher::Error::InitialListFailed(kube::Error::Api(status.boxed())))
    }

    impl World {
        fn list(&self, at: usize, namespace: &str, names: &[&str]) {
            let shown = names.iter().map(|name| Event::InitApply(map(namespace, name)));
            for event in [Event::Init].into_iter().chain(shown).chain([Event::InitDone]) {
                self.send(at, Ok(event));
            }
        }

        fn send(&self, at: usize, event: Shown) {
            self.senders[at].send(event).unwrap();
        }

        /// All that is told now, after it went into the store.
        fn told(&mut self) -> Vec<String> {
            let mut told = Vec::new();
            while let Some(Some(event)) = self.watch.next().now_or_never() {
                let event = event.unwrap();
                self.writer.apply_watcher_event(&event);
                told.push(match &event {
                    Event::Init => "init".to_owned(),
                    Event::InitApply(map) => format!("has {}", map.name_any()),
                    Event::InitDone => "listed".to_owned(),
                    Event::Apply(map) => format!("changed {}", map.name_any()),
                    Event::Delete(map) => format!("gone {}", map.name_any()),
                });
            }
            told
        }
    }

    #[test]
    fn several_namespaces_are_listed_when_each_is_and_then_each_tells_its_changes() {
        let mut world = world(&["a", "b"], true);
        world.list(0, "a", &["one"]);
        world.send(0, Ok(Event::Apply(map("a", "later"))));
        assert_eq!(world.told(), ["init", "has one"]);
        world.list(1, "b", &["two"]);
        assert_eq!(world.told(), ["has two", "listed", "changed later"]);
        world.send(1, Ok(Event::Delete(map("b", "two"))));
        assert_eq!(world.told(), ["gone two"]);
    }

    #[test]
    fn a_namespace_that_is_listed_again_takes_nothing_from_the_others() {
        let mut world = world(&["a", "b"], true);
        world.list(0, "a", &["stays", "goes"]);
        world.list(1, "b", &["others"]);
        world.told();
        world.send(0, Ok(Event::Init));
        world.send(0, Ok(Event::InitApply(map("a", "stays"))));
        world.send(0, Ok(Event::InitApply(map("a", "new"))));
        assert_eq!(world.told(), [""; 0], "the list is not whole");
        world.send(0, Ok(Event::InitDone));
        assert_eq!(world.told(), ["changed new", "changed stays", "gone goes"], "not in their order");
        assert_eq!(world.watch.store.len(), 3);
    }

    #[test]
    fn what_a_list_that_broke_off_has_shown_is_gone_where_the_next_one_does_not() {
        let mut world = world(&["a", "b"], true);
        world.send(0, Ok(Event::Init));
        world.send(0, Ok(Event::InitApply(map("a", "goes"))));
        world.list(0, "a", &["stays"]);
        world.list(1, "b", &[]);
        assert_eq!(world.told(), ["init", "has goes", "has stays", "listed", "gone goes"]);
        assert_eq!(world.watch.store.len(), 1);
    }

    #[test]
    fn a_namespace_that_is_forbidden_is_not_waited_for_and_comes_when_it_is_permitted() {
        let mut world = world(&["a", "b"], true);
        world.send(0, refused(403));
        assert_eq!(world.told(), [""; 0]);
        assert!(world.unshown.is_hidden("a") && !world.unshown.is_hidden("b"));
        world.list(1, "b", &["two"]);
        assert_eq!(world.told(), ["init", "has two", "listed"]);
        world.send(0, refused(403));
        assert_eq!(world.told(), [""; 0]);
        world.list(0, "a", &["one"]);
        assert_eq!(world.told(), ["changed one"]);
        assert!(!world.unshown.is_hidden("a"));
        assert!(world.unshown.given_up().now_or_never().is_none(), "the list of the others is waited for");
    }

    #[test]
    fn a_right_that_an_api_server_which_has_just_started_does_not_know_yet_is_waited_for() {
        for parts in [&["a", "b"][..], &["a"]] {
            let mut world = world(parts, false);
            world.watch.options.patience = Duration::from_secs(60);
            if parts.len() > 1 {
                world.list(1, "b", &["two"]);
            }
            world.send(0, refused(403));
            assert!(!world.told().contains(&"listed".to_owned()), "{parts:?}");
            assert!(world.unshown.is_hidden("a"), "nothing of it is gone meanwhile");
            assert!(world.unshown.given_up().now_or_never().is_none(), "{parts:?}");
            world.list(0, "a", &["one"]);
            assert!(world.told().contains(&"listed".to_owned()), "{parts:?}");
        }
    }

    #[test]
    fn other_faults_of_a_namespace_are_waited_for() {
        let mut world = world(&["a", "b"], true);
        world.list(1, "b", &[]);
        world.send(0, refused(500));
        assert_eq!(world.told(), ["init"]);
        world.list(0, "a", &[]);
        assert_eq!(world.told(), ["listed"]);
    }

    #[test]
    fn one_watch_is_handed_on_as_it_is_and_is_given_up_without_a_kind_or_a_right() {
        for (waits_for_rights, code, is_given_up) in [
            (true, 403, false),
            (false, 403, true),
            (true, 404, true),
            (false, 404, true),
            (false, 500, false),
        ] {
            let mut world = world(&[""], waits_for_rights);
            world.send(0, refused(code));
            assert_eq!(world.told(), [""; 0]);
            let given_up = world.unshown.given_up().now_or_never().is_some();
            assert_eq!(given_up, is_given_up, "{waits_for_rights} {code}");
            for _ in 0..2 {
                world.list(0, "a", &["one"]);
                assert_eq!(world.told(), ["init", "has one", "listed"]);
            }
        }
    }

    #[test]
    fn what_is_not_watched_is_listed_and_empty() {
        assert_eq!(world(&[], true).told(), ["init", "listed"]);
    }

    #[test]
    fn of_failures_one_after_the_other_the_first_is_told() {
        let (mut failing, mut now) = (Failing::default(), Instant::now());
        assert!(failing.is_news(now));
        for _ in 0..10 {
            now += WATCH_WORKS / 2;
            assert!(!failing.is_news(now));
        }
        assert!(failing.is_news(now + WATCH_WORKS), "it worked meanwhile");
    }
}

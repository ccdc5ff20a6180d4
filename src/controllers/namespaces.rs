//! The labels of namespaces, which the access rules of ClusterConjurConnections select by: a change of them is looked at by
//! the objects of the namespace that use one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, reflector, watcher},
};
use tokio::time::Instant;

use super::{
    kinds::Kinds,
    watches::{Unshown, WatchOptions, watch_parts},
};
use crate::{
    api::{ConnectionKind, ConnectionRef},
    limits::{LABELS_PAUSE, META_PAGE, RIGHTS_PATIENCE},
    runtime::compact,
};

/// After a change so long is waited for another: tools set labels one by one.
const GATHER: Duration = Duration::from_millis(100);

type Labels = BTreeMap<String, String>;

/// Which namespaces were relabelled, and when their objects are to look at it: soon, and then no more often than each
/// [`LABELS_PAUSE`]. The clock is passed in.
#[derive(Default)]
struct Relabelled {
    labels: HashMap<String, Labels>,
    /// It was listed once: what comes from now on is a change.
    listed: bool,
    /// What the list that is under way has shown.
    listing: BTreeSet<String>,
    due: BTreeMap<String, Instant>,
    told: HashMap<String, Instant>,
}

impl Relabelled {
    /// A list begins.
    fn begin(&mut self) {
        self.listing.clear();
    }

    /// A namespace is there with these labels.
    fn show(&mut self, namespace: &str, labels: &Labels, now: Instant) {
        self.listing.insert(namespace.to_owned());
        if self.labels.get(namespace) == Some(labels) {
            return;
        }
        self.labels.insert(namespace.to_owned(), labels.clone());
        // Before that every object has its turn anyway.
        if self.listed {
            let soon = now + GATHER;
            let at = self.told.get(namespace).map_or(soon, |told| soon.max(*told + LABELS_PAUSE));
            self.due.entry(namespace.to_owned()).or_insert(at);
        }
    }

    /// A namespace is gone: so are its objects.
    fn gone(&mut self, namespace: &str) {
        self.labels.remove(namespace);
        self.due.remove(namespace);
        self.told.remove(namespace);
    }

    /// The list has ended.
    fn end(&mut self) {
        self.listed = true;
        let listing = std::mem::take(&mut self.listing);
        let gone: Vec<_> = self.labels.keys().filter(|name| !listing.contains(*name)).cloned().collect();
        for name in &gone {
            self.gone(name);
        }
    }

    /// When something is due next.
    fn next(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// The namespaces whose objects are to look at their labels now.
    fn take(&mut self, now: Instant) -> BTreeSet<String> {
        let due: BTreeSet<_> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        self.told.retain(|_, told| *told + LABELS_PAUSE > now);
        for name in &due {
            self.due.remove(name);
            self.told.insert(name.clone(), now);
        }
        due
    }
}

/// Fills the store, and wakes the objects of relabelled namespaces. Where it is not wanted, the API server is not asked, and
/// there are none.
pub async fn watch(
    client: Client,
    is_wanted: bool,
    writer: reflector::store::Writer<PartialObjectMeta<Namespace>>,
    kinds: Arc<Kinds>,
) {
    let all = is_wanted.then(|| (String::new(), Api::all(client)));
    let options = WatchOptions {
        kind: "Namespace",
        config: watcher::Config::default().page_size(META_PAGE),
        unshown: Unshown::default(),
        // Without it no one knows what the rules grant.
        waits_for_rights: true,
        patience: RIGHTS_PATIENCE,
    };
    let compact = |namespace: &mut PartialObjectMeta<Namespace>| compact::namespace(&mut namespace.metadata);
    let parts = all.into_iter().collect();
    let mut events = watch_parts(parts, writer.as_reader(), options, compact).reflect(writer).boxed();
    let mut relabelled = Relabelled::default();
    loop {
        let due = relabelled.next();
        let until = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = until => {
                let namespaces = relabelled.take(Instant::now());
                wake(&namespaces, &kinds);
            }
            event = events.next() => match event {
                Some(Ok(watcher::Event::Init)) => relabelled.begin(),
                Some(Ok(watcher::Event::InitApply(o) | watcher::Event::Apply(o))) => {
                    relabelled.show(&o.name_any(), o.labels(), Instant::now());
                }
                Some(Ok(watcher::Event::Delete(o))) => relabelled.gone(&o.name_any()),
                Some(Ok(watcher::Event::InitDone)) => relabelled.end(),
                Some(Err(_)) | None => return,
            },
        }
    }
}

fn wake(namespaces: &BTreeSet<String>, kinds: &Kinds) {
    let depends = |reference: &ConnectionRef, namespace: &str| {
        reference.kind == Some(ConnectionKind::ClusterConjurConnection) && namespaces.contains(namespace)
    };
    for kind in kinds.all() {
        kind.wake_spread(kind.users(&depends).into_iter().map(|user| user.key).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
    }

    fn take(relabelled: &mut Relabelled, now: Instant) -> Vec<String> {
        relabelled.take(now).into_iter().collect()
    }

    #[tokio::test]
    async fn a_change_of_labels_is_told_soon_and_then_after_a_pause() {
        let (mut all, start) = (Relabelled::default(), Instant::now());
        all.begin();
        all.show("a", &labels("team=x"), start);
        all.show("b", &labels(""), start);
        all.end();
        assert_eq!(all.next(), None, "a first list is of a start");
        all.show("a", &labels("team=x"), start);
        assert_eq!(all.next(), None, "nothing changed");
        all.show("a", &labels("team=pay"), start);
        all.show("new", &labels("team=pay"), start);
        assert_eq!(take(&mut all, start), Vec::<String>::new());
        let now = start + GATHER;
        assert_eq!(all.next(), Some(now));
        assert_eq!(take(&mut all, now), ["a", "new"]);
        // Once more at once, and again: one look, after the pause.
        all.show("a", &labels(""), now);
        all.show("a", &labels("team=pay"), now);
        assert_eq!(all.next(), Some(now + LABELS_PAUSE));
        assert_eq!(take(&mut all, now + LABELS_PAUSE), ["a"]);
        assert_eq!(all.next(), None);
    }

    #[tokio::test]
    async fn what_changed_or_went_while_the_watch_was_broken_counts() {
        let (mut all, start) = (Relabelled::default(), Instant::now());
        for (name, first) in [("changed", "a=1"), ("gone", "a=1"), ("same", "a=1")] {
            all.show(name, &labels(first), start);
        }
        all.end();
        all.begin();
        all.show("changed", &labels("a=2"), start);
        all.show("same", &labels("a=1"), start);
        all.end();
        assert_eq!(take(&mut all, start + GATHER), ["changed"]);
        assert_eq!(all.labels.len(), 2);
    }
}

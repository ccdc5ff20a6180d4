//! The Secrets that objects name by their labels: for each object those that its selector names now, by name and version. Fed by
//! the watch of all Secrets, and once by a list of its own, for the watch tells of labels only when something happens.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::{limits::SELECTED_SECRETS, plan::connection::access::selects, runtime::Key};

/// Name → resource version.
type Matches = BTreeMap<String, u64>;

/// What one object selects.
#[derive(Debug, Default)]
struct Selection {
    selector: LabelSelector,
    matches: Matches,
    /// Those that were deleted or lost their labels before its list came, with the version of that.
    gone: Matches,
    /// Its list came, or one of the watch.
    listed: bool,
    /// What the watch is listing anew.
    listing: Option<Matches>,
}

/// See the module.
#[derive(Default)]
pub struct Selections {
    by_object: HashMap<Key, Selection>,
    by_namespace: HashMap<String, HashSet<Key>>,
}

fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

impl Selection {
    /// Whether what it has was changed by this. News that is older than what it has is none: its own list may have been newer
    /// than the watch.
    fn show(&mut self, name: &str, is_match: bool, version: u64) -> bool {
        if let Some(listing) = self.listing.as_mut().filter(|listing| listing.len() <= SELECTED_SECRETS)
            && is_match
        {
            listing.insert(name.to_owned(), version);
        }
        if self.matches.get(name).is_some_and(|standing| *standing > version) {
            return false;
        }
        if is_match {
            if self.matches.len() > SELECTED_SECRETS && !self.matches.contains_key(name) {
                // What has no place here is there all the same: what is selected has to be asked for again.
                self.listed = false;
                return true;
            }
            return self.matches.insert(name.to_owned(), version) != Some(version);
        }
        self.take_out(name, version)
    }

    fn take_out(&mut self, name: &str, version: u64) -> bool {
        if !self.listed && self.gone.len() <= SELECTED_SECRETS {
            self.gone.insert(name.to_owned(), version);
        }
        let is_older = self.matches.get(name).is_some_and(|standing| *standing > version);
        !is_older && self.matches.remove(name).is_some()
    }
}

fn is_of(object: &Key, part: &str) -> bool {
    part.is_empty() || object.namespace == part
}

impl Selections {
    /// From now on an object selects by this. Whether it did not before, so that its list is needed.
    pub fn put(&mut self, object: &Key, selector: &LabelSelector) -> bool {
        if self.by_object.get(object).is_some_and(|standing| standing.selector == *selector) {
            return false;
        }
        let selection = Selection { selector: selector.clone(), ..Selection::default() };
        self.by_object.insert(object.clone(), selection);
        self.by_namespace.entry(object.namespace.clone()).or_default().insert(object.clone());
        true
    }

    /// An object selects nothing any more.
    pub fn remove(&mut self, object: &Key) {
        self.by_object.remove(object);
        if let Some(all) = self.by_namespace.get_mut(&object.namespace) {
            all.remove(object);
            if all.is_empty() {
                self.by_namespace.remove(&object.namespace);
            }
        }
    }

    /// The list of an object came. What the watch has shown since it was asked for counts more.
    pub fn listed<'m>(&mut self, object: &Key, found: impl Iterator<Item = &'m ObjectMeta>) {
        let Some(selection) = self.by_object.get_mut(object) else { return };
        for meta in found {
            let (name, version) = (meta.name.clone().unwrap_or_default(), version(meta));
            let later = |shown: &Matches| shown.get(&name).is_some_and(|shown| *shown >= version);
            if !later(&selection.gone) && !later(&selection.matches) {
                selection.matches.insert(name, version);
            }
        }
        selection.listed = true;
        selection.gone.clear();
    }

    /// The Secrets that an object selects, by name and version; none while that is not known.
    pub fn of(&self, object: &Key) -> Option<Vec<(String, String)>> {
        let selection = self.by_object.get(object).filter(|selection| selection.listed)?;
        Some(selection.matches.iter().map(|(name, version)| (name.clone(), version.to_string())).collect())
    }

    /// The watch shows a Secret. Gives those whom that concerns.
    pub fn show(&mut self, meta: &ObjectMeta) -> Vec<Key> {
        let labels = meta.labels.clone().unwrap_or_default();
        self.each(meta, |selection, name| {
            let is_match = selects(&selection.selector, &labels);
            selection.show(name, is_match, version(meta))
        })
    }

    /// The watch shows that a Secret is gone. Gives those whom that concerns.
    pub fn gone(&mut self, meta: &ObjectMeta) -> Vec<Key> {
        self.each(meta, |selection, name| {
            if let Some(listing) = &mut selection.listing {
                listing.remove(name);
            }
            selection.take_out(name, version(meta))
        })
    }

    /// The watch lists all Secrets anew, of a namespace, or of the whole cluster where the text is empty.
    pub fn begin(&mut self, part: &str) {
        let those = self.by_object.iter_mut().filter(|(object, _)| is_of(object, part));
        those.for_each(|(_, selection)| selection.listing = Some(Matches::new()));
    }

    /// That list has ended: what was not in it is gone. Gives those for whom that changes something.
    pub fn end(&mut self, part: &str) -> Vec<Key> {
        let mut changed = Vec::new();
        for (object, selection) in self.by_object.iter_mut().filter(|(object, _)| is_of(object, part)) {
            let Some(listing) = selection.listing.take() else { continue };
            if selection.matches != listing || !selection.listed {
                changed.push(object.clone());
            }
            let is_whole = listing.len() <= SELECTED_SECRETS;
            (selection.matches, selection.listed) = (listing, is_whole);
            selection.gone.clear();
        }
        changed
    }

    fn each(&mut self, meta: &ObjectMeta, mut look: impl FnMut(&mut Selection, &str) -> bool) -> Vec<Key> {
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref());
        let (Some(all), Some(name)) = (self.by_namespace.get(namespace), name) else { return Vec::new() };
        let mut changed = Vec::new();
        for object in all {
            if let Some(selection) = self.by_object.get_mut(object)
                && look(selection, name)
            {
                changed.push(object.clone());
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "n".into(), name: name.into() }
    }

    fn meta(name: &str, label: Option<&str>, version: u64) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("n".into()),
            name: Some(name.into()),
            labels: label.map(|value| BTreeMap::from([("push".to_owned(), value.to_owned())])),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        }
    }

    fn selector() -> LabelSelector {
        LabelSelector {
            match_labels: Some(BTreeMap::from([("push".to_owned(), "yes".to_owned())])),
            ..LabelSelector::default()
        }
    }

    fn names(all: &Selections) -> Vec<String> {
        all.of(&key("o")).unwrap().into_iter().map(|(name, version)| format!("{name}@{version}")).collect()
    }

    #[test]
    fn what_an_object_selects_follows_labels_and_versions() {
        let mut all = Selections::default();
        assert!(all.put(&key("o"), &selector()));
        assert!(!all.put(&key("o"), &selector()));
        assert_eq!(all.of(&key("o")), None, "its list did not come");
        all.listed(&key("o"), [meta("a", Some("yes"), 1)].iter());
        assert_eq!(names(&all), ["a@1"]);
        assert_eq!(all.show(&meta("b", Some("yes"), 2)), [key("o")]);
        assert_eq!(all.show(&meta("b", Some("yes"), 2)), [], "the same again is no news");
        assert_eq!(all.show(&meta("c", None, 3)), []);
        assert_eq!(all.show(&meta("a", Some("yes"), 4)), [key("o")]);
        assert_eq!(names(&all), ["a@4", "b@2"]);
        assert_eq!(all.show(&meta("a", Some("no"), 3)), [], "it had no label before");
        assert_eq!(all.show(&meta("a", Some("yes"), 3)), []);
        assert_eq!(all.gone(&meta("a", Some("yes"), 3)), [], "another of its name was deleted before");
        assert_eq!(all.show(&meta("a", Some("no"), 5)), [key("o")]);
        assert_eq!(all.gone(&meta("b", Some("yes"), 6)), [key("o")]);
        assert_eq!(names(&all), [""; 0]);
    }

    #[test]
    fn a_list_does_not_bring_back_what_went_meanwhile() {
        let mut all = Selections::default();
        all.put(&key("o"), &selector());
        all.gone(&meta("deleted", Some("yes"), 5));
        all.show(&meta("unlabelled", None, 6));
        all.show(&meta("changed", Some("yes"), 7));
        let found = [("deleted", 2), ("unlabelled", 3), ("changed", 4), ("kept", 1)];
        let found = found.map(|(name, version)| meta(name, Some("yes"), version));
        all.listed(&key("o"), found.iter());
        assert_eq!(names(&all), ["changed@7", "kept@1"]);
    }

    #[test]
    fn a_list_of_the_watch_takes_away_what_went_while_it_was_broken() {
        let mut all = Selections::default();
        all.put(&key("o"), &selector());
        all.listed(&key("o"), [meta("a", Some("yes"), 1), meta("b", Some("yes"), 2)].iter());
        all.begin("another");
        assert_eq!(all.end("another"), [], "the list of another namespace says nothing of this one");
        all.begin("n");
        all.show(&meta("a", Some("yes"), 1));
        assert_eq!(names(&all), ["a@1", "b@2"], "the list has not ended");
        assert_eq!(all.end(""), [key("o")]);
        assert_eq!(names(&all), ["a@1"]);
        all.remove(&key("o"));
        assert!(all.by_object.is_empty() && all.by_namespace.is_empty());
    }
}

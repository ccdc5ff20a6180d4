//! What the operator remembers of the hosts; lost with the process, after which each is looked at once more.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::{core::DeserializeGuard, runtime::watcher::Event};

use crate::{api::ConjurHost, plan::Failure, runtime::Key};

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedRequest {
    /// A policy document.
    Load,
    /// A rotation.
    Rotation,
}

/// What was refused, and what was seen then.
#[derive(Clone, Debug)]
pub struct RefusedHost {
    pub uid: Option<String>,
    pub asked_for: String,
    pub request: RefusedRequest,
    pub seen: String,
    pub failure: Failure,
}

impl RefusedHost {
    /// Whether the same is asked for.
    pub fn is_of(&self, uid: Option<&str>, asked_for: &str, request: RefusedRequest) -> bool {
        self.uid.as_deref() == uid && self.asked_for == asked_for && self.request == request
    }
}

/// A stored key that Conjur refused. Without `Debug`, so that not even the hash of a key is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct RefusedKey {
    pub uid: Option<String>,
    /// A hash over the server.
    pub server: String,
    /// A hash over login and key.
    pub key: String,
    /// The slot of the grid whose check it was; none where no slot asked for one.
    pub slot: Option<i64>,
}

/// By object, and by the id of the host that objects ask for.
#[derive(Default)]
pub struct HostNotes(Mutex<State>);

#[derive(Default)]
struct State {
    looked: HashMap<Key, HostLooked>,
    /// Objects (their uid) that announced that they make or rotate a key, since the process began.
    rotating: HashMap<Key, Option<String>>,
    refused: HashMap<Key, RefusedHost>,
    refused_keys: HashMap<Key, RefusedKey>,
    /// Announcements, by when they were made, that the removal of an object found, and when it did.
    found: HashMap<Key, (i64, i64)>,
    ids: HashMap<Key, String>,
    by_id: HashMap<String, HashSet<Key>>,
    /// The id that an object asked for which the watch showed to be gone: until those who wait for it are woken.
    freed: HashMap<Key, String>,
    /// What a list under way has shown: of what it does not show, the watch tells nothing.
    listed: HashSet<Key>,
}

/// That an object was looked at to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostLooked {
    /// Its uid.
    pub uid: String,
    /// A hash over what it refers to.
    pub inputs: String,
    /// Uid and resource version of its Secret.
    pub target: Option<(String, String)>,
}

impl HostNotes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of an object.
    pub fn of(&self, key: &Key) -> Option<HostLooked> {
        self.lock().looked.get(key).cloned()
    }

    /// It was looked at to the end.
    pub fn looked(&self, key: &Key, looked: HostLooked) {
        self.lock().looked.insert(key.clone(), looked);
    }

    /// It was not: it is looked at anew when it has its turn.
    pub fn fails(&self, key: &Key) {
        self.lock().looked.remove(key);
    }

    /// An object announced that it makes or rotates a key, or that it does not any more.
    pub fn announced(&self, key: &Key, uid: Option<String>, rotates: bool) {
        let mut state = self.lock();
        if rotates {
            state.rotating.insert(key.clone(), uid);
        } else {
            state.rotating.remove(key);
        }
    }

    /// Whether an object announced that in this process.
    pub fn is_rotating(&self, key: &Key, uid: Option<&str>) -> bool {
        self.lock().rotating.get(key).is_some_and(|of| of.as_deref() == uid)
    }

    /// What Conjur refused an object.
    pub fn refused(&self, key: &Key) -> Option<RefusedHost> {
        self.lock().refused.get(key).cloned()
    }

    /// Conjur refused an object something, or nothing any more.
    pub fn note_refused(&self, key: &Key, refused: Option<RefusedHost>) {
        let mut state = self.lock();
        match refused {
            Some(refused) => state.refused.insert(key.clone(), refused),
            None => state.refused.remove(key),
        };
    }

    /// Whether Conjur refused this key of an object, at the same check, since the process began.
    pub fn is_key_refused(&self, key: &Key, tried: &RefusedKey) -> bool {
        self.lock().refused_keys.get(key) == Some(tried)
    }

    /// Conjur refused the stored key of an object, or takes it.
    pub fn note_refused_key(&self, key: &Key, refused: Option<RefusedKey>) {
        let mut state = self.lock();
        match refused {
            Some(refused) => state.refused_keys.insert(key.clone(), refused),
            None => state.refused_keys.remove(key),
        };
    }

    /// Since when the removal of an object knows of what was announced then: now, where it did not before.
    pub fn removal_found(&self, key: &Key, announced: i64, now: i64) -> i64 {
        let mut state = self.lock();
        let found = state.found.entry(key.clone()).or_insert((announced, now));
        if found.0 != announced {
            *found = (announced, now);
        }
        found.1
    }

    /// The objects that ask for a host with this id, on whatever server.
    pub fn asking_for(&self, id: &str) -> Vec<Key> {
        self.lock().by_id.get(id).into_iter().flatten().cloned().collect()
    }

    /// Takes note of what the watch shows, before the store does. Gives those that ask for a host whose object went and came
    /// again meanwhile, so that it is the younger now, or went while the watch was broken; and those that went then.
    pub fn hosts_show(&self, event: &Event<DeserializeGuard<ConjurHost>>) -> Vec<Key> {
        let mut state = self.lock();
        let id =
            |guard: &DeserializeGuard<ConjurHost>| guard.0.as_ref().ok().map(|host| host.spec.id.clone());
        match event {
            Event::Init => state.listed.clear(),
            Event::InitApply(guard) => {
                state.listed.insert(Key::of(guard));
                state.set(&Key::of(guard), id(guard));
                return state.waiting_for_freed(&Key::of(guard));
            }
            Event::Apply(guard) => {
                state.set(&Key::of(guard), id(guard));
                return state.waiting_for_freed(&Key::of(guard));
            }
            Event::Delete(guard) => state.set(&Key::of(guard), None),
            Event::InitDone => {
                let listed = std::mem::take(&mut state.listed);
                let gone: Vec<Key> = state.ids.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                for key in &gone {
                    state.set(key, None);
                }
                let waiting: Vec<Key> = gone.iter().flat_map(|key| state.waiting_for_freed(key)).collect();
                // No watch tells of those that went, which are to be forgotten, too.
                return waiting.into_iter().chain(gone).collect();
            }
        }
        vec![]
    }

    /// Forgets an object that is gone. Gives those that ask for the host that it had.
    pub fn forget(&self, key: &Key) -> Vec<Key> {
        let mut state = self.lock();
        state.looked.remove(key);
        state.rotating.remove(key);
        state.refused.remove(key);
        state.refused_keys.remove(key);
        state.found.remove(key);
        state.waiting_for_freed(key)
    }
}

impl State {
    fn set(&mut self, key: &Key, id: Option<String>) {
        if self.ids.get(key) == id.as_ref() {
            return;
        }
        if let Some(before) = self.ids.remove(key)
            && let Some(all) = self.by_id.get_mut(&before)
        {
            all.remove(key);
            if all.is_empty() {
                self.by_id.remove(&before);
            }
            if id.is_none() {
                self.freed.insert(key.clone(), before);
            }
        }
        if let Some(id) = id {
            self.by_id.entry(id.clone()).or_default().insert(key.clone());
            self.ids.insert(key.clone(), id);
        }
    }

    /// Those that ask for the host that an object had which is gone: once.
    fn waiting_for_freed(&mut self, key: &Key) -> Vec<Key> {
        let freed = self.freed.remove(key);
        let all = freed.and_then(|id| self.by_id.get(&id)).into_iter().flatten();
        all.filter(|other| *other != key).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host(name: &str, id: &str) -> DeserializeGuard<ConjurHost> {
        let object = json!({
            "metadata": { "namespace": "n", "name": name },
            "spec": { "connectionRef": { "name": "c" }, "id": id },
        });
        DeserializeGuard(Ok(serde_json::from_value(object).unwrap()))
    }

    fn asking(notes: &HostNotes, id: &str) -> Vec<String> {
        let mut names: Vec<String> = notes.asking_for(id).into_iter().map(|key| key.name).collect();
        names.sort();
        names
    }

    #[test]
    fn those_who_ask_for_one_host_are_found_by_its_id() {
        let notes = HostNotes::default();
        for (name, id) in [("a", "x"), ("b", "x"), ("c", "y")] {
            notes.hosts_show(&Event::Apply(host(name, id)));
        }
        assert_eq!(
            (asking(&notes, "x"), asking(&notes, "y")),
            (vec!["a".into(), "b".into()], vec!["c".into()])
        );
        notes.hosts_show(&Event::Init);
        notes.hosts_show(&Event::InitApply(host("b", "x")));
        let mut woken: Vec<_> = notes.hosts_show(&Event::InitDone).into_iter().map(|key| key.name).collect();
        woken.sort();
        assert_eq!(woken, ["a", "b", "c"], "who waits for what went with the watch, and what went");
        assert!(notes.lock().freed.is_empty());
        assert_eq!((asking(&notes, "x"), asking(&notes, "y")), (vec!["b".into()], vec![]));
        notes.hosts_show(&Event::Delete(host("b", "x")));
        assert!(notes.lock().by_id.is_empty() && notes.lock().ids.is_empty());
    }

    #[test]
    fn a_refused_key_is_known_until_another_is_stored_or_a_slot_has_it_tried() {
        let notes = HostNotes::default();
        let of = Key { namespace: "n".into(), name: "a".into() };
        let tried = |uid: &str, server: &str, key: &str, slot| RefusedKey {
            uid: Some(uid.to_owned()),
            server: server.to_owned(),
            key: key.to_owned(),
            slot,
        };
        let refused = tried("u", "s", "k", None);
        assert!(!notes.is_key_refused(&of, &refused));
        notes.note_refused_key(&of, Some(refused.clone()));
        assert!(notes.is_key_refused(&of, &refused));
        for other in [
            tried("v", "s", "k", None),
            tried("u", "t", "k", None),
            tried("u", "s", "l", None),
            tried("u", "s", "k", Some(1)),
        ] {
            assert!(!notes.is_key_refused(&of, &other));
        }
        notes.note_refused_key(&of, None);
        assert!(!notes.is_key_refused(&of, &refused));
        notes.note_refused_key(&of, Some(refused.clone()));
        notes.forget(&of);
        assert!(!notes.is_key_refused(&of, &refused));
    }

    #[test]
    fn a_removal_remembers_since_when_it_knows_of_an_announcement() {
        let notes = HostNotes::default();
        let key = Key { namespace: "n".into(), name: "a".into() };
        assert_eq!((notes.removal_found(&key, 1, 100), notes.removal_found(&key, 1, 150)), (100, 100));
        assert_eq!(notes.removal_found(&key, 2, 160), 160, "another one");
        notes.forget(&key);
        assert_eq!(notes.removal_found(&key, 2, 170), 170);
    }

    #[test]
    fn those_who_wait_for_a_host_are_woken_once_its_object_is_gone() {
        let notes = HostNotes::default();
        let key = |name: &str| Key { namespace: "n".into(), name: name.into() };
        let names = |keys: Vec<Key>| keys.into_iter().map(|key| key.name).collect::<Vec<_>>();
        for (name, id) in [("older", "x"), ("younger", "x"), ("other", "y")] {
            assert_eq!(notes.hosts_show(&Event::Apply(host(name, id))), []);
        }
        assert_eq!(notes.hosts_show(&Event::Delete(host("older", "x"))), []);
        assert_eq!(names(notes.forget(&key("older"))), ["younger"]);
        assert_eq!(notes.forget(&key("older")), []);
        // It comes again before it is forgotten.
        notes.hosts_show(&Event::Apply(host("older", "x")));
        notes.hosts_show(&Event::Delete(host("older", "x")));
        assert_eq!(names(notes.hosts_show(&Event::Apply(host("older", "z")))), ["younger"]);
        assert_eq!(notes.forget(&key("older")), []);
    }
}

//! Which objects may claim which branch, by server, account and branch: whoever asks whose a branch is looks at those who
//! name the same, however many others there are.
//!
//! Fed by the watches, before the stores are: what is in a store is here. What it says is only where to look; whether an
//! object claims the branch, its connection and its rules say when they are asked ([`super::claims`]).

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use kube::runtime::watcher::Event;

use crate::{
    api::{ConnectionId, ConnectionKind},
    plan::policy::branch_claims::BranchPlace,
    runtime::Key,
};

/// What a policy names: its connection and its branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The connection.
    pub connection: ConnectionId,
    /// The branch.
    pub branch: String,
}

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address, as it is spelled.
    pub url: String,
    /// The account.
    pub account: String,
}

/// See the module.
#[derive(Default)]
pub struct Places {
    policies: HashMap<Arc<Key>, Names>,
    connections: HashMap<ConnectionId, Connection>,
    at: HashMap<BranchPlace, HashSet<Arc<Key>>>,
    /// What a list under way has shown: of what it does not show, the watch tells nothing.
    listed: HashSet<Key>,
    listed_connections: HashMap<ConnectionKind, HashSet<ConnectionId>>,
}

#[derive(Default)]
struct Connection {
    server: Option<Server>,
    users: HashSet<Arc<Key>>,
}

impl Places {
    /// The objects that name a branch.
    pub fn at(&self, place: &BranchPlace) -> Vec<Arc<Key>> {
        self.at.get(place).into_iter().flatten().cloned().collect()
    }

    /// What the watch of policies shows; nothing is named by one that does not decode.
    pub fn policies_show(&mut self, event: Event<(Key, Option<Names>)>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply((key, names)) => {
                self.listed.insert(key.clone());
                self.policy(key, names);
            }
            Event::Apply((key, names)) => self.policy(key, names),
            Event::Delete((key, _)) => self.policy(key, None),
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<Arc<Key>> =
                    self.policies.keys().filter(|key| !listed.contains(&***key)).cloned().collect();
                for key in gone {
                    self.policy((*key).clone(), None);
                }
            }
        }
    }

    /// What the watch of connections of a kind shows; one that does not decode leads nowhere.
    pub fn connections_show(&mut self, kind: ConnectionKind, event: Event<(ConnectionId, Option<Server>)>) {
        match event {
            Event::Init => drop(self.listed_connections.remove(&kind)),
            Event::InitApply((id, server)) => {
                self.listed_connections.entry(kind).or_default().insert(id.clone());
                self.connection(&id, server);
            }
            Event::Apply((id, server)) => self.connection(&id, server),
            Event::Delete((id, _)) => self.connection(&id, None),
            Event::InitDone => {
                let listed = self.listed_connections.remove(&kind).unwrap_or_default();
                let known = self.connections.keys().filter(|id| id.kind == kind && !listed.contains(*id));
                let gone: Vec<ConnectionId> = known.cloned().collect();
                for id in &gone {
                    self.connection(id, None);
                }
            }
        }
    }

    fn policy(&mut self, key: Key, names: Option<Names>) {
        let key = self.policies.get_key_value(&key).map_or_else(|| Arc::new(key), |(known, _)| known.clone());
        if self.policies.get(&key) == names.as_ref() {
            return;
        }
        if let Some(before) = self.policies.remove(&key)
            && let Some(connection) = self.connections.get_mut(&before.connection)
        {
            connection.users.remove(&key);
            if let Some(place) = connection.place(&before.branch) {
                take_out(&mut self.at, &place, &key);
            }
            if connection.is_nothing() {
                self.connections.remove(&before.connection);
            }
        }
        if let Some(names) = names {
            let connection = self.connections.entry(names.connection.clone()).or_default();
            connection.users.insert(key.clone());
            if let Some(place) = connection.place(&names.branch) {
                self.at.entry(place).or_default().insert(key.clone());
            }
            self.policies.insert(key, names);
        }
    }

    fn connection(&mut self, id: &ConnectionId, server: Option<Server>) {
        let Self { policies, connections, at, .. } = self;
        let connection = connections.entry(id.clone()).or_default();
        if connection.server != server {
            let before = Connection {
                server: std::mem::replace(&mut connection.server, server),
                ..Connection::default()
            };
            for key in &connection.users {
                let Some(names) = policies.get(key) else { continue };
                if let Some(place) = before.place(&names.branch) {
                    take_out(at, &place, key);
                }
                if let Some(place) = connection.place(&names.branch) {
                    at.entry(place).or_default().insert(key.clone());
                }
            }
        }
        if connection.is_nothing() {
            connections.remove(id);
        }
    }
}

impl Connection {
    fn place(&self, branch: &str) -> Option<BranchPlace> {
        self.server.as_ref().map(|server| BranchPlace::new(&server.url, &server.account, branch))
    }

    fn is_nothing(&self) -> bool {
        self.server.is_none() && self.users.is_empty()
    }
}

fn take_out<K: Hash + Eq, V: Hash + Eq>(from: &mut HashMap<K, HashSet<V>>, at: &K, one: &V) {
    if let Some(all) = from.get_mut(at) {
        all.remove(one);
        if all.is_empty() {
            from.remove(at);
        }
    }
}

/// The same event, of something else.
pub fn of_event<T, U>(event: &Event<T>, of: impl FnOnce(&T) -> U) -> Event<U> {
    match event {
        Event::Apply(object) => Event::Apply(of(object)),
        Event::Delete(object) => Event::Delete(of(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(of(object)),
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "n".into(), name: name.into() }
    }

    fn id(name: &str) -> ConnectionId {
        ConnectionId { kind: ConnectionKind::ConjurConnection, namespace: "n".into(), name: name.into() }
    }

    fn policy(name: &str, connection: &str, branch: &str) -> (Key, Option<Names>) {
        (key(name), Some(Names { connection: id(connection), branch: branch.into() }))
    }

    fn connection(name: &str, url: &str) -> (ConnectionId, Option<Server>) {
        (id(name), Some(Server { url: url.into(), account: "demo".into() }))
    }

    fn at(places: &Places, url: &str, branch: &str) -> Vec<String> {
        let mut names: Vec<_> =
            places.at(&BranchPlace::new(url, "demo", branch)).iter().map(|key| key.name.clone()).collect();
        names.sort();
        names
    }

    const ONE: &str = "https://one";
    const TWO: &str = "https://two";

    #[test]
    fn those_who_name_a_branch_are_found_by_its_server_and_no_others() {
        let (mut places, kind) = (Places::default(), ConnectionKind::ConjurConnection);
        // In whatever order they come.
        places.policies_show(Event::Apply(policy("a", "first", "b")));
        assert_eq!(at(&places, ONE, "b"), [""; 0]);
        places.connections_show(kind, Event::Apply(connection("first", "https://ONE:443/")));
        places.connections_show(kind, Event::Apply(connection("second", ONE)));
        places.connections_show(kind, Event::Apply(connection("third", TWO)));
        for (name, connection, branch) in
            [("b", "second", "b"), ("c", "third", "b"), ("d", "first", "other"), ("e", "none", "b")]
        {
            places.policies_show(Event::Apply(policy(name, connection, branch)));
        }
        assert_eq!(at(&places, ONE, "b"), ["a", "b"]);
        assert_eq!(at(&places, TWO, "b"), ["c"]);
        // They move with what they name, and with where that leads.
        places.policies_show(Event::Apply(policy("d", "first", "b")));
        places.policies_show(Event::Apply(policy("b", "third", "b")));
        assert_eq!(
            (at(&places, ONE, "b"), at(&places, TWO, "b")),
            (vec!["a".into(), "d".into()], vec!["b".into(), "c".into()])
        );
        places.connections_show(kind, Event::Apply(connection("first", TWO)));
        assert_eq!((at(&places, ONE, "b").len(), at(&places, TWO, "b").len()), (0, 4));
        // And go with each of them.
        places.policies_show(Event::Apply((key("a"), None)));
        places.connections_show(kind, Event::Delete(connection("third", TWO)));
        assert_eq!(at(&places, TWO, "b"), ["d"]);
        places.connections_show(kind, Event::Apply(connection("third", ONE)));
        assert_eq!(at(&places, ONE, "b"), ["b", "c"]);
    }

    #[test]
    fn what_a_list_does_not_show_any_more_is_gone_and_nothing_is_left_of_it() {
        let (mut places, kind) = (Places::default(), ConnectionKind::ConjurConnection);
        let list = |places: &mut Places, policies: &[&str], connections: &[&str]| {
            places.policies_show(Event::Init);
            for name in policies {
                places.policies_show(Event::InitApply(policy(name, "c", "b")));
            }
            places.policies_show(Event::InitDone);
            places.connections_show(kind, Event::Init);
            for name in connections {
                places.connections_show(kind, Event::InitApply(connection(name, ONE)));
            }
            places.connections_show(kind, Event::InitDone);
        };
        list(&mut places, &["a", "b"], &["c"]);
        assert_eq!(at(&places, ONE, "b"), ["a", "b"]);
        list(&mut places, &["b"], &["c"]);
        assert_eq!(at(&places, ONE, "b"), ["b"]);
        places.connections_show(ConnectionKind::ClusterConjurConnection, Event::Init);
        places.connections_show(ConnectionKind::ClusterConjurConnection, Event::InitDone);
        assert_eq!(at(&places, ONE, "b"), ["b"], "another kind's list says nothing of it");
        list(&mut places, &["b"], &[]);
        assert_eq!(at(&places, ONE, "b"), [""; 0]);
        list(&mut places, &[], &[]);
        assert!(places.at.is_empty() && places.policies.is_empty() && places.connections.is_empty());
    }
}

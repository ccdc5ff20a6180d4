//! The connections that come of stores and settings, and who uses them for what.

mod access;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

pub use self::access::Conditions;
use super::{
    migration::Connection,
    note::{Notes, Source},
    output::Output,
};

/// Of which store or settings an object speaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreKey {
    /// Its kind, as the source has it.
    pub kind: String,
    /// Its namespace; none for a cluster-scoped one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// What became of a store.
#[derive(Debug)]
enum State {
    /// A connection.
    Connection(usize),
    /// It is of Conjur, and could not be translated.
    Blocked,
    /// It is of another provider.
    Other,
}

/// What a namespace does through a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Patterns of the ids that it reads.
    pub read: BTreeSet<String>,
    /// Ids that it writes.
    pub write: BTreeSet<String>,
    /// Branches that it makes variables in.
    pub branches: BTreeSet<String>,
}

#[derive(Debug)]
struct Pending {
    notes: Notes,
    object: Value,
    conditions: Option<Conditions>,
    uses: BTreeMap<Option<String>, Uses>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Connections {
    states: BTreeMap<StoreKey, State>,
    pending: Vec<Pending>,
}

/// What an object is to do about its store.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Use this.
    Use(Connection),
    /// The store is of another provider: the object is none of Conjur's.
    Other,
    /// There is none; a note says so.
    Blocked,
}

impl Connections {
    /// A store of Conjur, with the connection that it became. `conditions`: of a cluster-scoped one.
    pub fn add(
        &mut self,
        key: StoreKey,
        notes: Notes,
        object: Value,
        conditions: Option<Conditions>,
        output: &mut Output,
    ) {
        if notes.is_blocked() {
            self.states.insert(key, State::Blocked);
            output.note(notes);
            return;
        }
        self.states.insert(key, State::Connection(self.pending.len()));
        self.pending.push(Pending { notes, object, conditions, uses: BTreeMap::new() });
    }

    /// A store of another provider.
    pub fn add_other(&mut self, key: StoreKey) {
        self.states.insert(key, State::Other);
    }

    /// Whether anything is known of a store.
    pub fn knows(&self, key: &StoreKey) -> bool {
        self.states.contains_key(key)
    }

    /// The connection for an object that names this store in `field`.
    pub fn resolve(&self, key: &StoreKey, field: &str, notes: &mut Notes, output: &Output) -> Resolved {
        let why = match self.states.get(key) {
            Some(State::Connection(at)) => return Resolved::Use(self.name(*at)),
            Some(State::Other) => return Resolved::Other,
            Some(State::Blocked) => format!("{} {} could not be made a connection", key.kind, key.name),
            None if key.name.is_empty() => {
                "no workload that says how to log in is among the objects".to_owned()
            }
            None => format!("{} {} is not among the objects", key.kind, key.name),
        };
        if let Some(connection) = &output.options.connection {
            let todo = if connection.cluster { "See that its access rules permit what is used" } else { "" };
            notes.info(field, format!("{why}: the connection {} is used", connection.name), todo);
            return Resolved::Use(connection.clone());
        }
        let todo = match self.states.get(key) {
            Some(_) => "Make a connection by hand, and name it with --connection",
            None => "Add it to the objects, or make a connection by hand and name it with --connection",
        };
        notes.blocks(field, why, todo);
        Resolved::Blocked
    }

    fn name(&self, at: usize) -> Connection {
        let object = &self.pending[at].object;
        Connection {
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            cluster: object["kind"] == "ClusterConjurConnection",
        }
    }

    /// Remembers what a namespace does through a connection.
    pub fn used(&mut self, key: &StoreKey, namespace: Option<&str>, uses: Uses) {
        let Some(State::Connection(at)) = self.states.get(key) else { return };
        let all = self.pending[*at].uses.entry(namespace.map(str::to_owned)).or_default();
        all.read.extend(uses.read);
        all.write.extend(uses.write);
        all.branches.extend(uses.branches);
    }

    /// Gives out the connections, with the rules that their uses ask for.
    pub fn finish(self, output: &mut Output) {
        for mut pending in self.pending {
            if let Some(conditions) = &pending.conditions {
                let rules = access::rules(conditions, &pending.uses, &mut pending.notes);
                pending.object["spec"]["access"] = json!(rules);
            }
            output.emit(pending.notes, pending.object, None);
        }
    }
}

/// A reference to a connection, as a manifest has it.
pub fn reference(connection: &Connection) -> Value {
    if connection.cluster {
        json!({ "name": connection.name, "kind": "ClusterConjurConnection" })
    } else {
        json!({ "name": connection.name })
    }
}

/// A store that an object of a namespace names.
pub fn store_key(kind: &str, name: &str, namespace: Option<&str>) -> StoreKey {
    let namespace = namespace.filter(|_| kind != "ClusterSecretStore").map(str::to_owned);
    StoreKey { kind: kind.to_owned(), namespace, name: name.to_owned() }
}

impl From<&Source> for StoreKey {
    fn from(source: &Source) -> Self {
        store_key(&source.kind, &source.name, source.namespace.as_deref())
    }
}

//! What came of all objects so far.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    bounds,
    migration::{Migration, Mode, Options, Takeover},
    note::{Notes, Source},
};

/// Collects objects, notes and takeovers.
#[derive(Debug)]
pub struct Output<'o> {
    /// What the caller knows.
    pub options: &'o Options,
    migration: Migration,
    /// What was made of what, by kind, namespace and name.
    made: BTreeMap<(String, String, String), Source>,
    /// The Secrets that are one object's alone.
    owned: BTreeMap<(Option<String>, String), Source>,
    connections: usize,
}

impl<'o> Output<'o> {
    /// Nothing yet.
    pub fn new(options: &'o Options) -> Self {
        Self {
            options,
            migration: Migration::default(),
            made: BTreeMap::new(),
            owned: BTreeMap::new(),
            connections: 0,
        }
    }

    /// Notes alone.
    pub fn note(&mut self, notes: Notes) {
        self.migration.notes.extend(notes.into_all());
    }

    /// An object, unless its notes say that it is not translated. Whether it is.
    pub fn emit(&mut self, mut notes: Notes, object: Value, takeover: Option<Takeover>) -> bool {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
        if !notes.is_blocked() {
            bounds::check(&object, &mut notes);
            if let Some(first) = self.made.get(&key) {
                let what = format!("{first} became a {} of this name already", key.0);
                notes.blocks("metadata.name", what, "Rename one of them");
            }
            self.refuse_two_owners(takeover.as_ref(), &mut notes);
        }
        let is_made = !notes.is_blocked();
        if is_made {
            self.made.insert(key, notes.source().clone());
            if let Some(takeover) = takeover {
                self.add(takeover, notes.source());
            }
            self.put(object);
        }
        self.note(notes);
        is_made
    }

    fn put(&mut self, object: Value) {
        if object["kind"].as_str().is_some_and(|kind| kind.ends_with("Connection")) {
            self.migration.objects.insert(self.connections, object);
            self.connections += 1;
        } else {
            self.migration.objects.push(object);
        }
    }

    fn refuse_two_owners(&self, takeover: Option<&Takeover>, notes: &mut Notes) {
        let Some(takeover) = takeover.filter(|takeover| takeover.mode == Mode::Owner) else { return };
        if let Some(first) = self.owned.get(&(takeover.namespace.clone(), takeover.secret.clone())) {
            let what = format!("{first} writes the Secret {}, too", takeover.secret);
            notes.blocks("", what, "Have one object write it, or another with creationPolicy: Merge");
        }
    }

    fn add(&mut self, takeover: Takeover, source: &Source) {
        if takeover.mode == Mode::Owner {
            self.owned.insert((takeover.namespace.clone(), takeover.secret.clone()), source.clone());
        }
        self.migration.takeovers.push(takeover);
    }

    /// Whether a ConjurSecret writes a Secret.
    pub fn writes(&self, namespace: Option<&str>, secret: &str) -> bool {
        let mut all = self.migration.takeovers.iter();
        all.any(|takeover| takeover.namespace.as_deref() == namespace && takeover.secret == secret)
    }

    /// All of it.
    pub fn finish(self) -> Migration {
        self.migration
    }
}

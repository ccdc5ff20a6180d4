//! What to know about a source object, and what to do by hand.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// The object is not translated.
    Blocks,
    /// It is, and behaves otherwise in this.
    Differs,
    /// It is, and there is something to know.
    Info,
}

/// A source object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Source {
    /// Its kind.
    pub kind: String,
    /// Its namespace; none where it has none, or the manifest leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Source {
    /// Of a manifest.
    pub fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            kind: text(&object["kind"]).unwrap_or_default(),
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// One thing to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// The object that it is about.
    pub source: Source,
    /// The field of it, as `spec.data[0].remoteRef.key`; empty for the whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is so.
    pub what: String,
    /// What to do; empty where nothing is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub todo: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Blocks => "not migrated",
            Severity::Differs => "differs",
            Severity::Info => "info",
        };
        write!(f, "{severity}: {}", self.source)?;
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        write!(f, ": {}", self.what)?;
        if self.todo.is_empty() { Ok(()) } else { write!(f, ". {}", self.todo) }
    }
}

/// The notes about one object, while it is looked at.
#[derive(Debug)]
pub struct Notes {
    source: Source,
    all: Vec<Note>,
}

impl Notes {
    /// None yet.
    pub fn new(source: Source) -> Self {
        Self { source, all: Vec::new() }
    }

    /// What they are about.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The object can't be translated.
    pub fn blocks(&mut self, field: impl Into<String>, what: impl Into<String>, todo: impl Into<String>) {
        self.add(Severity::Blocks, field.into(), what.into(), todo.into());
    }

    /// It behaves otherwise.
    pub fn differs(&mut self, field: impl Into<String>, what: impl Into<String>, todo: impl Into<String>) {
        self.add(Severity::Differs, field.into(), what.into(), todo.into());
    }

    /// Something to know.
    pub fn info(&mut self, field: impl Into<String>, what: impl Into<String>, todo: impl Into<String>) {
        self.add(Severity::Info, field.into(), what.into(), todo.into());
    }

    fn add(&mut self, severity: Severity, field: String, what: String, todo: String) {
        let note = Note { severity, source: self.source.clone(), field, what, todo };
        if !self.all.contains(&note) {
            self.all.push(note);
        }
    }

    /// Whether one says that the object is not translated.
    pub fn is_blocked(&self) -> bool {
        self.all.iter().any(|note| note.severity == Severity::Blocks)
    }

    /// All of them; of an object that is not translated without what would be to know of its translation.
    pub fn into_all(mut self) -> Vec<Note> {
        if self.is_blocked() {
            self.all.retain(|note| note.severity != Severity::Info);
        }
        self.all
    }
}

//! Reads the fields of a source object, and remembers which: what nobody asked for becomes a note.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::note::Notes;

/// The fields of one JSON object, and where it stands.
#[derive(Debug)]
pub struct Fields<'a> {
    at: String,
    map: Option<&'a Map<String, Value>>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    /// Of a value, which is taken for empty where it is no object.
    pub fn of(at: impl Into<String>, value: Option<&'a Value>) -> Self {
        Self { at: at.into(), map: value.and_then(Value::as_object), asked: RefCell::default() }
    }

    /// Where a field stands.
    pub fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    /// Where this stands.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.map.is_none_or(Map::is_empty)
    }

    /// A field, whatever it is; null is none.
    pub fn raw(&self, name: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(name);
        self.peek(name)
    }

    fn peek(&self, name: &str) -> Option<&'a Value> {
        self.map?.get(name).filter(|value| !value.is_null())
    }

    /// Takes a field as this, if it is of that form; else it stays to be noted.
    fn take<T>(&self, name: &'static str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let read = self.peek(name).map(read);
        if !matches!(read, Some(None)) {
            self.asked.borrow_mut().insert(name);
        }
        read.flatten()
    }

    /// A text; an empty one is none.
    pub fn text(&self, name: &'static str) -> Option<&'a str> {
        self.take(name, Value::as_str).filter(|text| !text.is_empty())
    }

    /// Yes or no.
    pub fn flag(&self, name: &'static str) -> Option<bool> {
        self.take(name, Value::as_bool)
    }

    /// A list; none is empty.
    pub fn list(&self, name: &'static str) -> &'a [Value] {
        self.take(name, Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// A list of texts.
    pub fn texts(&self, name: &'static str) -> Vec<&'a str> {
        let all = |value: &'a Value| value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
        self.take(name, all).unwrap_or_default()
    }

    /// A map of texts, in its order.
    pub fn map(&self, name: &'static str) -> Vec<(&'a str, &'a str)> {
        let all = |value: &'a Value| {
            let pairs = value.as_object()?.iter();
            pairs.map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect::<Option<Vec<_>>>()
        };
        self.take(name, all).unwrap_or_default()
    }

    /// A field that holds fields; none where it is not there.
    pub fn inner(&self, name: &'static str) -> Option<Fields<'a>> {
        let map = self.take(name, Value::as_object)?;
        Some(Self { at: self.path(name), map: Some(map), asked: RefCell::default() })
    }

    /// The items of a list, each with its fields.
    pub fn items(&self, name: &'static str) -> Vec<Fields<'a>> {
        let at = self.path(name);
        let items = self.list(name).iter().enumerate();
        items.map(|(n, value)| Self::of(format!("{at}[{n}]"), Some(value))).collect()
    }

    /// Fields that say nothing about the result.
    pub fn irrelevant(&self, names: &[&'static str]) {
        self.asked.borrow_mut().extend(names);
    }

    /// Notes each field that nobody asked for.
    pub fn rest(&self, notes: &mut Notes) {
        let asked = self.asked.borrow();
        for (name, value) in self.map.into_iter().flatten() {
            if !value.is_null() && !asked.contains(name.as_str()) {
                let what = "this field is not known here, or not in the form that is known; it is left out";
                notes.differs(self.path(name), what, "See what it does, and whether it is needed");
            }
        }
    }
}

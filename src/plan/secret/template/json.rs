//! JSON in templates: numbers as they were written, null as nothing that may become text.
//!
//! The engine has whole numbers of 128 bits, and floating point. A number that is written otherwise than the engine would
//! write it (`1.10`, `1e3`, forty digits) is kept as its text, a [`Number`], where nothing computes or compares: text can't.
//! Where a template does, it is a number of the engine, and its text is remembered beside it, to be written again.

use std::{
    cell::{Cell, RefCell},
    cmp::Ordering,
    collections::HashMap,
    fmt,
    io::Write as _,
    sync::Arc,
};

use minijinja::{
    Error, ErrorKind, Value,
    value::{DynObject, Object, ObjectRepr, ValueKind},
};
use serde::de::IgnoredAny;

use super::{
    binary::{Binary, NO_TEXT},
    explained::explained,
    output::Bounded,
};
use crate::limits::{JSON_DEPTH, JSON_NODES};

/// What to do about a null.
pub const NULL: &str = "a value that is used here is null; give it a value in Conjur, or say what stands for it with \
                        default(\"…\")";
/// How deep a value may be nested that is written.
const WRITTEN_DEPTH: usize = 200;

thread_local! {
    // A render is one run on one thread.
    static COMPUTES: Cell<bool> = const { Cell::new(false) };
    static ASKS_FOR_NONE: Cell<bool> = const { Cell::new(false) };
    static NULL_TAKEN: Cell<bool> = const { Cell::new(false) };
    static WRITTEN: RefCell<HashMap<u64, Box<str>>> = RefCell::new(HashMap::new());
}

/// From now on another template is rendered.
pub fn begin(text: &str) {
    let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let has = |these: &[&str]| these.iter().any(|this| words.contains(this));
    let computes = text.contains(['<', '>', '+', '*', '/'])
        || ["==", "!=", " - ", " % "].iter().any(|sign| text.contains(sign))
        || has(&[
            "in", "sort", "min", "max", "sum", "unique", "groupby", "dictsort", "round", "abs", "int",
            "float",
        ])
        || has(&[
            "number",
            "integer",
            "eq",
            "ne",
            "lt",
            "le",
            "gt",
            "ge",
            "equalto",
            "lessthan",
            "greaterthan",
        ])
        || has(&["odd", "even", "divisibleby", "range"]);
    COMPUTES.set(computes);
    ASKS_FOR_NONE.set(["==", "!="].iter().any(|sign| text.contains(sign)) && has(&["none", "None"]));
    NULL_TAKEN.set(false);
    WRITTEN.with_borrow_mut(HashMap::clear);
}

/// Whether a null was made text by something that asks no one.
pub fn null_was_taken() -> bool {
    NULL_TAKEN.get()
}

/// A number that the engine would write otherwise.
#[derive(Debug)]
pub struct Number(Box<str>);

impl Number {
    /// The text of a value that is one of these.
    pub fn of(value: &Value) -> Option<&str> {
        value.downcast_object_ref::<Self>().map(|number| &*number.0)
    }

    fn float(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }
}

impl Object for Number {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.float() != 0.0
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        self.float().partial_cmp(&other.downcast_ref::<Self>()?.float())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A null, which the engine would write as `None` into a text.
#[derive(Debug)]
struct Null;

impl Object for Null {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        false
    }

    fn render(self: &Arc<Self>, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        NULL_TAKEN.set(true);
        Ok(())
    }
}

/// Whether a value is null.
pub fn is_null(value: &Value) -> bool {
    value.is_none() || value.downcast_object_ref::<Null>().is_some()
}

/// The value that a JSON text stands for. Of two fields of one name the last counts, as everywhere.
///
/// # Errors
/// It is not JSON, or too large or too deep. Never holds anything of it.
pub fn read(text: &str) -> Result<Value, Error> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        explained(format!("the value is not JSON (at line {line}, column {column} of the value)"))
    })?;
    let mut reader = JsonReader { text, at: 0, nodes: 0 };
    reader.value(0)
}

/// Reads what is known to be JSON.
struct JsonReader<'t> {
    text: &'t str,
    at: usize,
    nodes: usize,
}

impl<'t> JsonReader<'t> {
    fn next(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))?;
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes a byte, if it is next.
    fn skip(&mut self, byte: u8) -> bool {
        let is_next = self.next() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        self.nodes += 1;
        if self.nodes > JSON_NODES {
            return Err(explained(format!(
                "the JSON has more than {JSON_NODES} values; take the part that is needed with property"
            )));
        }
        if depth > JSON_DEPTH {
            return Err(explained(format!("the JSON is nested more than {JSON_DEPTH} levels deep")));
        }
        match self.next() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Value::from(self.string()?)),
            Some(b't') => Ok(self.word(4, Value::from(true))),
            Some(b'f') => Ok(self.word(5, Value::from(false))),
            Some(b'n') if ASKS_FOR_NONE.get() => Ok(self.word(4, Value::from(()))),
            Some(b'n') => Ok(self.word(4, Value::from_object(Null))),
            Some(_) => Ok(number(self.number())),
            None => Err(not_json()),
        }
    }

    fn word(&mut self, length: usize, value: Value) -> Value {
        self.at += length;
        value
    }

    fn list(&mut self, depth: usize) -> Result<Value, Error> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.skip(b']') {
            items.push(self.value(depth + 1)?);
            self.skip(b',');
        }
        Ok(Value::from(items))
    }

    fn map(&mut self, depth: usize) -> Result<Value, Error> {
        self.at += 1;
        let mut fields = Vec::new();
        while !self.skip(b'}') {
            if self.next() != Some(b'"') {
                return Err(not_json());
            }
            let name = self.string()?;
            self.skip(b':');
            fields.push((name, self.value(depth + 1)?));
            self.skip(b',');
        }
        Ok(Value::from_pairs(fields))
    }

    fn string(&mut self) -> Result<String, Error> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                Some(b'\\') => self.at += 2,
                Some(b'"') => break,
                Some(_) => self.at += 1,
                None => return Err(not_json()),
            }
        }
        self.at += 1;
        let quoted = self.text.get(start..self.at).ok_or_else(not_json)?;
        serde_json::from_str(quoted).map_err(|_| not_json())
    }

    fn number(&mut self) -> &'t str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        // At least one byte, whatever it is: what reads on must come to an end.
        self.at += length.max(1);
        &rest[..length]
    }
}

fn not_json() -> Error {
    explained("the value is not JSON")
}

fn number(text: &str) -> Value {
    let is_whole = !text.contains(['.', 'e', 'E']) && text != "-0";
    if is_whole && let Ok(number) = text.parse::<i64>() {
        return Value::from(number);
    }
    if is_whole && let Ok(number) = text.parse::<i128>() {
        return Value::from(number);
    }
    let float = text.parse::<f64>().ok().filter(|float| float.is_finite());
    match float {
        Some(float) if COMPUTES.get() => {
            let is_its_own = WRITTEN.with_borrow_mut(|written| {
                &**written.entry(float.to_bits()).or_insert_with(|| text.into()) == text
            });
            if is_its_own { Value::from(float) } else { Value::from_object(Number(text.into())) }
        }
        Some(float) if as_json(float).as_deref() == Some(text) => Value::from(float),
        _ => Value::from_object(Number(text.into())),
    }
}

fn as_json(float: f64) -> Option<String> {
    serde_json::to_string(&float).ok().filter(|_| float.is_finite())
}

/// Writes a value as compact JSON.
///
/// # Errors
/// It holds something that JSON has nothing for, or is too deep. That the output is full shows there.
pub fn write(value: &Value, out: &mut Bounded) -> Result<(), Error> {
    write_at(value, out, 0)
}

fn write_at(value: &Value, out: &mut Bounded, depth: usize) -> Result<(), Error> {
    if depth > WRITTEN_DEPTH {
        return Err(explained(format!("a value is nested more than {WRITTEN_DEPTH} levels deep")));
    }
    if Binary::of(value).is_some() {
        return Err(explained(NO_TEXT));
    }
    if is_null(value) {
        return put(out, "null");
    }
    if let Some(text) = Number::of(value) {
        return put(out, text);
    }
    if let Some(text) = value.as_str() {
        return put_text(out, text);
    }
    match value.kind() {
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Bool => put(out, if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => put(out, &number_text(value)?),
        ValueKind::Seq | ValueKind::Iterable => {
            put(out, "[")?;
            for (at, item) in value.try_iter()?.enumerate() {
                put(out, if at == 0 { "" } else { "," })?;
                write_at(&item, out, depth + 1)?;
            }
            put(out, "]")
        }
        ValueKind::Map => {
            put(out, "{")?;
            for (at, key) in value.try_iter()?.enumerate() {
                put(out, if at == 0 { "" } else { "," })?;
                match key.as_str() {
                    Some(name) => put_text(out, name)?,
                    None if matches!(key.kind(), ValueKind::Number | ValueKind::Bool) => {
                        put(out, "\"")?;
                        write_at(&key, out, depth + 1)?;
                        put(out, "\"")?;
                    }
                    None => return Err(no_json()),
                }
                put(out, ":")?;
                write_at(&value.get_item(&key)?, out, depth + 1)?;
            }
            put(out, "}")
        }
        _ => Err(no_json()),
    }
}

fn number_text(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let float = f64::try_from(value.clone()).map_err(|_| no_json())?;
    let written = WRITTEN.with_borrow(|written| written.get(&float.to_bits()).map(ToString::to_string));
    written.or_else(|| as_json(float)).ok_or_else(|| explained("a number that is used here is not finite"))
}

fn put(out: &mut Bounded, text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes()).map_err(|_| Error::from(ErrorKind::OutOfFuel))
}

fn put_text(out: &mut Bounded, text: &str) -> Result<(), Error> {
    serde_json::to_writer(out, text).map_err(|_| Error::from(ErrorKind::OutOfFuel))
}

fn no_json() -> Error {
    explained("this can't be written as JSON")
}

//! What an expression stands for while a template is translated.

use super::{Fault, fault};

/// What kind of value an expression has when it is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Text.
    Text,
    /// True or false.
    Bool,
    /// A whole number.
    Number,
    /// A list of texts.
    List,
    /// A list or map that the template makes.
    Made,
    /// Anything that JSON has.
    Json,
    /// Good as a condition only: which of its operands it gives is not the same in both languages.
    Condition,
}

/// How tightly an expression binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Needs brackets wherever it is an operand.
    Loose,
    /// Ends with a filter: needs brackets before a subscript.
    Filtered,
    /// A name, a literal, a subscript, or in brackets.
    Tight,
}

/// An expression of this language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// It.
    pub text: String,
    /// How tightly it binds.
    pub level: Level,
    /// What it gives.
    pub kind: ValueKind,
}

impl Out {
    /// As an operand of `~`, `==`, `and`, a filter.
    pub fn operand(&self) -> String {
        if self.level == Level::Loose { format!("({})", self.text) } else { self.text.clone() }
    }

    /// Before a subscript.
    pub fn subscripted(&self) -> String {
        if self.level == Level::Tight { self.text.clone() } else { format!("({})", self.text) }
    }

    /// With a filter behind it.
    pub fn filtered(&self, filter: &str, kind: ValueKind) -> Self {
        Self { text: format!("{} | {filter}", self.operand()), level: Level::Filtered, kind }
    }
}

/// What an expression of the source stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Val {
    /// The map of all keys.
    Root,
    /// All secrets of a group of the Secrets Provider.
    Group,
    /// Its `.SecretsArray`.
    Array,
    /// Its `.SecretsMap`.
    Map,
    /// One of them: its alias, and the key of its value.
    Secret(String, String),
    /// A text that is known.
    Text(String),
    /// A number that is known.
    Number(i64),
    /// True or false, known.
    Bool(bool),
    /// A text that is split; its parts are fields `_0`, `_1` …
    Split(Out),
    /// What is rendered.
    Out(Out),
}

/// Words that can't be a name here.
const WORDS: [&str; 17] = [
    "true",
    "True",
    "false",
    "False",
    "none",
    "None",
    "loop",
    "self",
    "data",
    "not",
    "and",
    "or",
    "in",
    "is",
    "if",
    "else",
    "recursive",
];

/// The value of a key, as an expression.
pub fn key(name: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name =
        name.chars().all(is_word) && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if is_name && !WORDS.contains(&name) && !name.starts_with("it_") {
        name.to_owned()
    } else {
        format!("data[{}]", literal(name))
    }
}

/// A text as a literal.
pub fn literal(text: &str) -> String {
    let mut made = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => made.extend(['\\', c]),
            '\n' => made.push_str("\\n"),
            '\r' => made.push_str("\\r"),
            '\t' => made.push_str("\\t"),
            c if c.is_control() => made.extend(["\\u", &format!("{:04x}", u32::from(c))]),
            c => made.push(c),
        }
    }
    made.push('"');
    made
}

/// A value as it is rendered.
pub fn rendered(value: Val, at: usize) -> Result<Out, Fault> {
    match value {
        Val::Out(out) => Ok(out),
        Val::Text(text) => Ok(word(&literal(&text), ValueKind::Text)),
        Val::Number(number) => Ok(word(&number.to_string(), ValueKind::Number)),
        Val::Bool(is) => Ok(word(&is.to_string(), ValueKind::Bool)),
        Val::Root | Val::Group | Val::Array | Val::Map | Val::Secret(..) | Val::Split(_) => Err(fault(
            at,
            "a whole map or list is used where a value is expected",
            "Write the template by hand",
        )),
    }
}

/// An expression that needs no brackets.
pub fn word(text: &str, kind: ValueKind) -> Out {
    Out { text: text.to_owned(), level: Level::Tight, kind }
}

/// Whether a value is true, where that is known.
pub fn known(value: &Val) -> Option<bool> {
    match value {
        Val::Text(text) => Some(!text.is_empty()),
        Val::Number(number) => Some(*number != 0),
        Val::Bool(is) => Some(*is),
        Val::Secret(..) => Some(true),
        _ => None,
    }
}

//! Templates: from the fetched keys to the keys of the Secret.
//!
//! minijinja, strict, without a loader, and with bounds on work and output. Errors name the key, its source and the
//! line, and never a value: what the engine itself says of a fault may hold one, so only its kind is taken, and names
//! that stand in the template's own text.
//!
//! Output and what filters make are wiped here. The engine's own copies of values are let go of with the render, and
//! out of reach for that.
//!
//! The engine makes lists, maps and repetitions that it walks only where they are used, and nothing tells from outside how
//! deep, how large or how long. So only templates that have none of that ([`is_light`]) are rendered where they are asked
//! for; [`render`] and [`check`] of all others belong into a process that may die (`crate::heavy`).

mod binary;
mod bounds;
mod explained;
mod filters;
mod json;
mod light;
mod output;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::{Environment, Error, ErrorKind, Template, UndefinedBehavior, Value, value::ValueKind};
use serde::{Deserialize, Serialize};

pub use self::light::is_light;
use self::{
    binary::Binary,
    explained::{Explained, explained},
    output::Bounded,
};
use super::sources::Data;
use crate::plan::Failure;
use crate::{
    api::Reason,
    limits::{SECRET_DATA_BYTES, TEMPLATE_BYTES, TEMPLATE_FUEL, TEMPLATE_LIGHT_FUEL},
    sensitive::Sensitive,
};

/// The name under which all fetched keys are reachable, whatever they are called.
const ALL: &str = "data";
/// Most names that a message lists.
const NAMED: usize = 10;

/// A template, and the key that it makes.
#[derive(Clone, Debug)]
pub struct Text {
    /// The key in the Secret.
    pub key: String,
    /// The template.
    pub text: Arc<Sensitive<String>>,
    /// Where the text comes from, if not from the object itself: `ConfigMap billing-templates, key url`.
    pub source: Option<String>,
    /// Whether the text may itself hold what must not be seen, for it comes from a Secret.
    pub secret: bool,
}

impl Text {
    /// A template of the object's own.
    pub fn inline(key: &str, text: &str) -> Self {
        let text = Arc::new(Sensitive::new(text.to_owned()));
        Self { key: key.to_owned(), text, source: None, secret: false }
    }
}

/// What is wrong with a template. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the template of key '{key}'{}, line {line}: {what}", in_words(.from.as_deref()))]
pub struct TemplateError {
    /// The key that the template makes.
    pub key: String,
    /// Where its text comes from, if not from the object itself.
    pub from: Option<String>,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there, and what to do.
    pub what: String,
}

fn in_words(from: Option<&str>) -> String {
    from.map(|from| format!(" ({from})")).unwrap_or_default()
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Failure::stalled(Reason::TemplateInvalid, error.to_string())
    }
}

/// What came of rendering templates at once.
#[derive(Debug)]
pub enum Light {
    /// This.
    Done(Data),
    /// They are more than is done at once.
    TooHeavy,
}

/// A fault, and whether it is that there was no more fuel.
struct RenderFault {
    error: TemplateError,
    is_out_of_fuel: bool,
}

impl From<TemplateError> for RenderFault {
    fn from(error: TemplateError) -> Self {
        Self { error, is_out_of_fuel: false }
    }
}

/// Finds what is wrong with templates before there are values: their size and their syntax.
///
/// # Errors
/// The first that is wrong.
pub fn check<'t>(texts: impl IntoIterator<Item = &'t Text>) -> Result<(), TemplateError> {
    let environment = environment(&Arc::default());
    texts.into_iter().try_for_each(|text| compile(&environment, text).map(drop))
}

/// Renders templates with the fetched keys as variables: each by its name, where that is an identifier, and all of
/// them in the map `data`, which no key's name can hide.
///
/// # Errors
/// The first template that fails, and why.
pub fn render(texts: &[Text], values: &Data) -> Result<Data, TemplateError> {
    render_with(TEMPLATE_FUEL, texts, values).map_err(|fault| fault.error)
}

/// The same where all of them are light.
///
/// # Errors
/// The same.
pub fn render_light(texts: &[Text], values: &Data) -> Result<Light, TemplateError> {
    let bytes = values.values().map(|value| value.expose().len()).sum();
    if !texts.iter().all(|text| is_light(&text.text, bytes)) {
        return Ok(Light::TooHeavy);
    }
    match render_with(TEMPLATE_LIGHT_FUEL, texts, values) {
        Ok(made) => Ok(Light::Done(made)),
        Err(fault) if fault.is_out_of_fuel => Ok(Light::TooHeavy),
        Err(fault) => Err(fault.error),
    }
}

fn render_with(mut fuel: u64, texts: &[Text], values: &Data) -> Result<Data, RenderFault> {
    let whole = Arc::<Whole>::default();
    let mut environment = environment(&whole);
    filters::begin();
    let keys: BTreeMap<&str, Value> =
        values.iter().map(|(key, value)| (key.as_str(), binary::value(value.expose()))).collect();
    let all = Value::from_pairs(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    let own = keys.iter().filter(|(key, _)| **key != ALL);
    let root = Value::from_pairs(
        own.map(|(key, value)| ((*key).to_owned(), value.clone())).chain([(ALL.to_owned(), all)]),
    );
    let mut space = SECRET_DATA_BYTES;
    let mut rendered = BTreeMap::new();
    for text in texts {
        environment.set_fuel(Some(fuel));
        let (value, used) = one(&environment, text, &root, &whole, space, values)?;
        fuel = fuel.saturating_sub(used).max(1);
        space = space.saturating_sub(value.expose().len());
        rendered.insert(text.key.clone(), value);
    }
    Ok(rendered)
}

/// Renders one template: its output, and the fuel that it took.
fn one(
    environment: &Environment,
    text: &Text,
    root: &Value,
    whole: &Whole,
    space: usize,
    values: &Data,
) -> Result<(Sensitive<Vec<u8>>, u64), RenderFault> {
    let template = compile(environment, text)?;
    let too_large = || {
        let what = format!(
            "the keys are larger than {SECRET_DATA_BYTES} bytes together, which a Secret holds at most"
        );
        told(text, 1, what)
    };
    whole.begin(is_one_expression(environment, text.text.expose()));
    binary::begin();
    json::begin(text.text.expose());
    let mut output = Bounded::new(space);
    let used = match template.render_captured_to(root.clone(), &mut output) {
        Ok(captured) => captured.state().fuel_levels().map_or(0, |(used, _)| used),
        Err(_) if output.is_full() => return Err(too_large().into()),
        Err(error) => {
            let is_out_of_fuel = error.kind() == ErrorKind::OutOfFuel;
            return Err(RenderFault { error: explain(text, &template, &error, values), is_out_of_fuel });
        }
    };
    if binary::was_taken_for_text() {
        return Err(told(text, 1, binary::NO_TEXT.to_owned()).into());
    }
    if json::null_was_taken() {
        return Err(told(text, 1, json::NULL.to_owned()).into());
    }
    let value = match whole.end() {
        Some(bytes) if bytes.expose().len() > space => return Err(too_large().into()),
        Some(bytes) => bytes,
        None => output.into_bytes(),
    };
    Ok((value, used))
}

fn compile<'t>(environment: &'t Environment, text: &'t Text) -> Result<Template<'t, 't>, TemplateError> {
    let source = text.text.expose();
    if source.len() > TEMPLATE_BYTES {
        let what = format!("it has {} bytes, and a template has {TEMPLATE_BYTES} at most", source.len());
        return Err(told(text, 1, what));
    }
    bounds::check(source).map_err(|(line, what)| told(text, line, what))?;
    environment.template_from_named_str("template", source).map_err(|error| {
        // Found without any value, so that what the engine says is of the text alone.
        let what = match error.detail().filter(|_| !text.secret) {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        told(text, error.line().unwrap_or(1), what)
    })
}

/// Whether a template is `{{ … }}` and nothing else: then its value may be binary.
fn is_one_expression(environment: &Environment, text: &str) -> bool {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let inner = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
    inner.is_some_and(|inner| {
        let inner = inner.strip_prefix('-').unwrap_or(inner);
        let inner = inner.strip_suffix('-').unwrap_or(inner);
        environment.compile_expression(inner).is_ok()
    })
}

/// The binary value of a template that is one expression, which the engine, whose output is text, can't give.
#[derive(Default)]
struct Whole(Mutex<(bool, Option<Sensitive<Vec<u8>>>)>);

impl Whole {
    fn begin(&self, wanted: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (wanted, None);
    }

    /// Keeps the bytes if they are all that the template gives.
    fn keeps(&self, bytes: &[u8]) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 {
            kept.1 = Some(Sensitive::new(bytes.to_vec()));
        }
        kept.0
    }

    fn end(&self) -> Option<Sensitive<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.take()
    }
}

fn environment<'e>(whole: &Arc<Whole>) -> Environment<'e> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_recursion_limit(32);
    // It would write out the whole state.
    environment.remove_global("debug");
    filters::add_to(&mut environment);
    let whole = whole.clone();
    environment.set_formatter(move |out, _, value| {
        if let Some(bytes) = Binary::of(value) {
            return if whole.keeps(bytes) { Ok(()) } else { Err(explained(binary::NO_TEXT)) };
        }
        if let Some(text) = value.as_str() {
            return Ok(out.write_str(text)?);
        }
        if json::is_null(value) {
            return Err(explained(json::NULL));
        }
        match value.kind() {
            ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
            // What is no text is written as JSON, as `property` does.
            _ => Ok(out.write_str(filters::json(value)?.expose())?),
        }
    });
    environment
}

fn told(text: &Text, line: usize, what: String) -> TemplateError {
    TemplateError { key: text.key.clone(), from: text.source.clone(), line, what }
}

/// What went wrong in a render, told without any value.
fn explain(text: &Text, template: &Template, error: &Error, values: &Data) -> TemplateError {
    let line = error.line().unwrap_or(1);
    if let Some(explained) = Explained::of(error) {
        return told(text, line, explained.to_owned());
    }
    let what = match error.kind() {
        ErrorKind::UndefinedError => {
            meant(text, line, values).unwrap_or_else(|| missing(text, template, line, values))
        }
        ErrorKind::OutOfFuel => "it is too much work: loop over less, or make less of it".to_owned(),
        ErrorKind::InvalidOperation => meant(text, line, values).unwrap_or_else(|| {
            "a value does not have the form that is needed here; of one that is not text, take the base64 with \
             b64encode, or the fields with fromjson; of a number that is kept as it is written, take float"
                .to_owned()
        }),
        kind @ (ErrorKind::UnknownFilter | ErrorKind::UnknownTest) => {
            named(text, error, 1).map_or_else(|| kind.to_string(), |name| format!("{kind} '{name}'"))
        }
        kind @ ErrorKind::UnknownFunction => {
            named(text, error, 0).map_or_else(|| kind.to_string(), |name| format!("{kind} '{name}'"))
        }
        kind => kind.to_string(),
    };
    told(text, line, what)
}

/// The n-th word of what the engine says, if it is a name that stands in the template: a filter may be named by a
/// value, too.
fn named<'e>(text: &Text, error: &'e Error, at: usize) -> Option<&'e str> {
    let name = error.detail()?.split(' ').nth(at)?;
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (is_name && !text.secret && text.text.expose().contains(name)).then_some(name)
}

/// The key that is probably meant where it is no identifier, so that `db-user` is taken for `db` less `user`.
fn meant(text: &Text, line: usize, values: &Data) -> Option<String> {
    if text.secret {
        return None;
    }
    let there = text.text.expose().lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let stands = |key: &str| {
        there.match_indices(key).any(|(at, _)| {
            let before = there[..at].chars().next_back();
            let after = there[at + key.len()..].chars().next();
            // In quotes it is what it should be.
            !before.is_some_and(|c| is_word(c) || matches!(c, '"' | '\'' | '.' | '-'))
                && !after.is_some_and(|c| is_word(c) || matches!(c, '"' | '\''))
        })
    };
    // `a.b` is also a field of `a`, where that is there.
    let reads = |key: &str| key.split_once('.').is_some_and(|(first, _)| values.contains_key(first));
    let key = values.keys().find(|key| key.contains(['-', '.']) && !reads(key) && stands(key))?;
    let (first, _) = key.split_once(['-', '.'])?;
    let missing = if values.contains_key(first) { String::new() } else { format!("'{first}' is missing; ") };
    Some(format!("{missing}the key '{key}' is no identifier: write data[\"{key}\"]"))
}

/// Which names a template uses that there are none of.
fn missing(text: &Text, template: &Template, line: usize, values: &Data) -> String {
    let there = text.text.expose().lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let mut names: Vec<_> = template.undeclared_variables(false).into_iter().collect();
    // A text from a Secret is itself what no one may read.
    names.retain(|name| {
        !text.secret && name != ALL && !values.contains_key(name) && there.contains(name.as_str())
    });
    names.sort();
    let mut keys: Vec<_> = values.keys().take(NAMED).map(|key| format!("'{key}'")).collect();
    if values.len() > NAMED {
        keys.push(format!("and {} more", values.len() - NAMED));
    }
    let keys = if keys.is_empty() { "there are none".to_owned() } else { keys.join(", ") };
    match names.as_slice() {
        [] => format!("a key or field that is used here is missing; the fetched keys: {keys}"),
        names => format!(
            "'{}' is missing; the fetched keys: {keys}. A key that is no identifier is data[\"tls.crt\"]; for one that \
             may be missing, use default(\"\")",
            names.join("', '")
        ),
    }
}

#[cfg(test)]
#[path = "template/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "template/migrated_tests.rs"]
mod migrated_tests;

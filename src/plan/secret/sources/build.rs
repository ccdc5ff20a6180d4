//! From Conjur's answers to the keys and values of the Secret.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
};

use super::{
    Group, KeyEntry, LeftOut, Place, Resolved, Source,
    pattern::{Budget, Clock},
    rename::{Renaming, key_of, shown, unfit, unfit_as_name},
    value::{self, Bytes, Property, Unfit},
};
use crate::{
    api::{Reason, secret::PublicKeysKind},
    limits::REGEX_DEADLINE,
    plan::{Failure, LOOK_AGAIN},
    sensitive::Sensitive,
};

/// Key → value.
pub type Data = BTreeMap<String, Bytes>;

/// What becomes of all answers.
#[derive(Debug)]
pub struct BuiltData {
    /// Key → value; never empty.
    pub data: Data,
    /// What was found and is not in it.
    pub left_out: LeftOut,
}

/// The answer for one variable.
#[derive(Clone, Debug)]
pub enum Got<'v> {
    /// Its value.
    Value(&'v [u8]),
    /// It is missing, has no value, or is not visible; as the client says it.
    NotFound(String),
    /// It is visible and may not be read; as the client says it.
    Forbidden(String),
}

/// A variable without which there is no Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its id, as `status.missing` names it.
    pub variable: String,
    /// Forbidden; else not found.
    pub forbidden: bool,
    /// What happened.
    pub message: String,
}

/// Why there is no data.
#[derive(Clone, Debug)]
pub enum Problem {
    /// Variables are missing or forbidden; each is named once.
    Missing(Vec<Missing>),
    /// Anything else.
    Failure(Failure),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Where a key comes from, for a message.
enum KeyOrigin<'a> {
    Of(Place),
    Variable(Place, &'a str),
    Field(Place, &'a str, String),
}

impl fmt::Display for KeyOrigin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(place) => place.fmt(f),
            Self::Variable(place, id) => write!(f, "{place} (variable {id})"),
            Self::Field(place, id, field) => write!(f, "{place} (field {field} of variable {id})"),
        }
    }
}

/// One key that two sources name.
pub(super) fn twice(key: &str, first: &dyn fmt::Display, second: &dyn fmt::Display) -> Failure {
    let message =
        format!("{first} and {second} both have the key {}; name one of them otherwise", shown(key));
    Failure::stalled(Reason::InvalidSpec, message)
}

fn unusable(message: String) -> Failure {
    Failure::waiting(Reason::InvalidValue, LOOK_AGAIN, message)
}

/// Keys and values so far, each with where it comes from.
#[derive(Default)]
struct Builder<'a> {
    data: BTreeMap<String, (KeyOrigin<'a>, Bytes)>,
    /// The keys are those of the Secret; else only names for its templates, which may be any.
    plain: bool,
}

impl<'a> Builder<'a> {
    /// Why a key can't be one.
    fn unfit(&self, key: &str) -> Option<&'static str> {
        if self.plain { unfit(key) } else { unfit_as_name(key) }
    }

    /// # Errors
    /// `InvalidSpec`: the key can't be one, or another source names it too.
    fn add(&mut self, key: String, origin: KeyOrigin<'a>, value: Bytes) -> Result<(), Failure> {
        let what = if self.plain { "a Secret can't have" } else { "can't be" };
        if let Some(why) = self.unfit(&key) {
            let message = format!(
                "{origin} gives the key {}, which {what}: {why}. Rename it with rewrite",
                shown(&key)
            );
            return Err(Failure::stalled(Reason::InvalidSpec, message));
        }
        match self.data.entry(key) {
            btree_map::Entry::Occupied(taken) => Err(twice(taken.key(), &taken.get().0, &origin)),
            btree_map::Entry::Vacant(free) => {
                free.insert((origin, value));
                Ok(())
            }
        }
    }

    /// Adds what was found, of which no one said that it must be there. Whether it could be.
    fn add_found(&mut self, key: String, origin: KeyOrigin<'a>, value: &[u8]) -> bool {
        if self.unfit(&key).is_some() {
            return false;
        }
        match self.data.entry(key) {
            btree_map::Entry::Occupied(_) => false,
            btree_map::Entry::Vacant(free) => {
                free.insert((origin, Sensitive::new(value.to_vec())));
                true
            }
        }
    }
}

impl Resolved<'_> {
    /// The Secret's data, of the answers in the order of [`asks`](Self::asks), and the public keys in that of
    /// [`public_keys`](Self::public_keys). `plain`: its keys are the Secret's own, and must be such as one can have; else
    /// they are names for templates. What was found and whose key can't be, or is that of what the spec names or of a
    /// variable that is found before it, is left out: of all that is found, in the order of the ids.
    ///
    /// # Errors
    /// [`Problem::Missing`] names all that is missing or forbidden and not optional. Failures: `InvalidValue` where a
    /// value is not what the spec takes it for, `InvalidSpec` for a key that can't be or that two sources give other than
    /// finds, `NoKeys` where none would be left. None holds anything of a value.
    pub fn data(
        &self,
        answers: &[Got],
        public_keys: &[Vec<String>],
        plain: bool,
        mut left_out: LeftOut,
    ) -> Result<BuiltData, Problem> {
        let missing = self.missing(answers, public_keys);
        if !missing.is_empty() {
            return Err(Problem::Missing(missing));
        }
        let mut builder = Builder { plain, ..Builder::default() };
        let mut answers = answers.iter();
        for (at, entry) in self.sources.entries.iter().enumerate() {
            if let Some(Got::Value(value)) = answers.next() {
                let value = entry.value(Place::Entry(at), value)?;
                builder.add(entry.key.to_owned(), KeyOrigin::Of(Place::Entry(at)), value)?;
            }
        }
        for (at, group) in self.sources.groups.iter().enumerate() {
            if let (Source::Extract { variable, property, .. }, Some(Got::Value(value))) = (
                &group.source,
                matches!(group.source, Source::Extract { .. }).then(|| answers.next()).flatten(),
            ) {
                let renamed = Renamed::of(at, group)?;
                renamed.extract(Place::Extract(at), variable, property.as_ref(), value, &mut builder)?;
            }
        }
        for ((at, group, key), lines) in self.key_groups().zip(public_keys) {
            let mut text = lines.join("\n").into_bytes();
            text.push(b'\n');
            let (key, origin) =
                (Renamed::of(at, group)?.apply(key.to_owned())?, KeyOrigin::Of(Place::PublicKeys(at)));
            builder.add(key, origin, Sensitive::new(text))?;
        }
        let mut found = Vec::new();
        for ((at, group), ids) in self.find_groups().zip(&self.found) {
            let renamed = Renamed::of(at, group)?;
            for id in ids {
                // What vanished since it was listed is left out.
                if let Some(Got::Value(value)) = answers.next() {
                    found.push((id.as_str(), at, renamed.key_of_found(id)?, *value));
                }
            }
        }
        // Whatever order they are listed in, the same one has the key.
        found.sort_unstable_by_key(|(id, at, ..)| (*id, *at));
        for (id, at, key, value) in found {
            let origin = KeyOrigin::Variable(Place::Find(at), id);
            if !key.is_some_and(|key| builder.add_found(key, origin, value)) {
                left_out.add_for_its_key(id);
            }
        }
        if builder.data.is_empty() {
            return Err(self.no_keys(&left_out).into());
        }
        let data = builder.data.into_iter().map(|(key, (_, value))| (key, value)).collect();
        Ok(BuiltData { data, left_out })
    }

    fn find_groups(&self) -> impl Iterator<Item = (usize, &Group<'_>)> {
        let groups = self.sources.groups.iter().enumerate();
        groups.filter(|(_, g)| matches!(g.source, Source::Find(_)))
    }

    fn key_groups(&self) -> impl Iterator<Item = (usize, &Group<'_>, &str)> {
        self.sources.groups.iter().enumerate().filter_map(|(at, group)| match group.source {
            Source::PublicKeys(keys) => Some((at, group, keys.key.as_str())),
            Source::Find(_) | Source::Extract { .. } => None,
        })
    }

    /// What must be there and is not.
    fn missing(&self, answers: &[Got], public_keys: &[Vec<String>]) -> Vec<Missing> {
        let optional = |place| match place {
            Place::Entry(at) => self.sources.entries.get(at).is_some_and(|entry| entry.optional),
            // It was there a moment ago, and no one asked for it by name.
            Place::Find(_) => true,
            Place::Extract(_) | Place::PublicKeys(_) => false,
        };
        let mut missing: Vec<Missing> = Vec::new();
        let mut named = std::collections::HashSet::new();
        for (ask, got) in self.asks().zip(answers) {
            let (forbidden, message) = match got {
                Got::NotFound(message) if !optional(ask.place) => (false, message),
                Got::Forbidden(message) => (true, message),
                Got::NotFound(_) | Got::Value(_) => continue,
            };
            if named.insert((ask.variable, ask.version)) {
                let (variable, message) = (ask.variable.to_owned(), message.clone());
                missing.push(Missing { variable, forbidden, message });
            }
        }
        for ((_, keys), lines) in self.public_keys().zip(public_keys) {
            if lines.is_empty() {
                let kind = match keys.kind {
                    PublicKeysKind::User => "user",
                    PublicKeysKind::Host => "host",
                };
                let message = format!("{kind} {} has no public keys, or is not there", keys.id);
                let variable = format!("public_key:{kind}/{}", keys.id);
                missing.push(Missing { variable, forbidden: false, message });
            }
        }
        missing
    }

    fn no_keys(&self, left_out: &LeftOut) -> Failure {
        let why = match (self.sources.entries.is_empty(), self.find_groups().next().is_some()) {
            (true, true) => "nothing that has a value was found in Conjur",
            (false, true) => "all variables are optional and missing in Conjur, and nothing else was found",
            (false, false) => "all variables are optional and missing in Conjur",
            (true, false) => "the JSON object has no fields",
        };
        let note = left_out.note().map(|note| format!(". {note}")).unwrap_or_default();
        let message = format!("no key would be left: {why}. The Secret is not touched{note}");
        Failure::waiting(Reason::NoKeys, LOOK_AGAIN, message)
    }
}

impl KeyEntry<'_> {
    /// # Errors
    /// `InvalidValue`, naming the entry, its variable and property.
    fn value(&self, place: Place, whole: &[u8]) -> Result<Bytes, Failure> {
        let (key, variable) = (self.key, self.variable);
        let of_variable = format!("variable {variable} (for key {key}, {place})");
        let Some(property) = &self.property else {
            if !self.base64 {
                return Ok(Sensitive::new(whole.to_vec()));
            }
            return value::decoded(whole).map_err(|why| {
                unusable(format!(
                    "the value of {of_variable} {why}; set decode: None or correct it in Conjur"
                ))
            });
        };
        let text = value::part(whole, Some(property)).and_then(value::text);
        let text = text.map_err(|why| of_json(why, property, &of_variable))?;
        if !self.base64 {
            return Ok(text);
        }
        value::decoded(text.expose()).map_err(|why| {
            unusable(format!(
                "property {property} of {of_variable} {why}; set decode: None or correct it in Conjur"
            ))
        })
    }
}

/// Why a JSON value did not give what was asked of it.
fn of_json(why: Unfit, property: &Property, of_variable: &str) -> Failure {
    unusable(match why {
        Unfit::NotJson => format!(
            "the value of {of_variable} {why}, so that property {property} can't be taken of it; leave property out or \
             correct it in Conjur"
        ),
        Unfit::NoProperty | Unfit::Null | Unfit::NotObject | Unfit::NotBase64 => {
            format!(
                "property {property} of {of_variable} {why}; correct the property, or the value in Conjur"
            )
        }
    })
}

/// A source with its rules compiled, as long as its keys are made.
struct Renamed<'g> {
    at: usize,
    group: &'g Group<'g>,
    rules: Renaming<'g>,
    clock: Clock,
}

impl<'g> Renamed<'g> {
    fn of(at: usize, group: &'g Group<'g>) -> Result<Self, Failure> {
        let rules = group.renaming(at, &mut Budget::default())?;
        Ok(Self { at, group, rules, clock: Clock::start(REGEX_DEADLINE) })
    }

    /// # Errors
    /// `InvalidSpec`: a rule makes it longer than any key may be, or the rules take too long.
    fn apply(&self, key: String) -> Result<String, Failure> {
        self.check_clock()?;
        let start = shown(&key);
        self.rules.apply(key).map_err(|rule| {
            let at = self.at;
            let message = format!("spec.dataFrom[{at}].rewrite[{rule}] makes of the key {start} one that is longer than any may be");
            Failure::stalled(Reason::InvalidSpec, message)
        })
    }

    fn check_clock(&self) -> Result<(), Failure> {
        if !self.clock.is_over() {
            return Ok(());
        }
        let message = format!(
            "spec.dataFrom[{}].rewrite takes longer than {REGEX_DEADLINE:?} on the keys of this source: write simpler \
             rules, or find fewer variables",
            self.at
        );
        Err(Failure::stalled(Reason::InvalidSpec, message))
    }

    /// The key of a variable that was found; none where the rules make it longer than any may be.
    ///
    /// # Errors
    /// `InvalidSpec`: the rules take too long.
    fn key_of_found(&self, id: &str) -> Result<Option<String>, Failure> {
        let key = match &self.group.source {
            Source::Find(criteria) => key_of(id, criteria.prefix, criteria.key_from),
            Source::Extract { .. } | Source::PublicKeys(_) => id.to_owned(),
        };
        self.check_clock()?;
        Ok(self.rules.apply(key).ok())
    }

    /// Adds the fields of a JSON object.
    ///
    /// # Errors
    /// `InvalidValue` where there is no object, or a field is null.
    fn extract<'b>(
        &self,
        place: Place,
        variable: &'b str,
        property: Option<&Property>,
        whole: &[u8],
        builder: &mut Builder<'b>,
    ) -> Result<(), Failure> {
        let of_variable = format!("variable {variable} ({place})");
        let object = value::part(whole, property).map_err(|why| match property {
            Some(property) => of_json(why, property, &of_variable),
            None => unusable(format!("the value of {of_variable} {why}; extract takes a JSON object")),
        })?;
        let fields = value::fields(object).map_err(|why| match property {
            Some(property) => of_json(why, property, &of_variable),
            None => unusable(format!("the value of {of_variable} {why}; extract takes a JSON object")),
        })?;
        for (name, part) in fields {
            let field = shown(&name);
            let value = value::text(part).map_err(|why| {
                unusable(format!(
                    "field {field} of {of_variable} {why}; give it a value, or leave it out in Conjur"
                ))
            })?;
            builder.add(self.apply(name)?, KeyOrigin::Field(place, variable, field), value)?;
        }
        Ok(())
    }
}

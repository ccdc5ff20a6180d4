//! What goes into a Secret: from `data` and `dataFrom` to what is asked of Conjur, and from its answers to keys and values.
//!
//! ```text
//! Sources::of ─► named ids, finds, public keys ─► (the list of variables) ─► Sources::resolve ─► Resolved::asks
//!                                                                (their values) ─► Resolved::data ─► key → bytes
//! ```

mod build;
mod left_out;
pub(in crate::plan) mod pattern;
pub(in crate::plan) mod rename;
mod value;

use std::{collections::BTreeMap, fmt};

#[cfg(test)]
pub use self::build::Missing;
pub use self::{
    build::{BuiltData, Data, Got, Problem},
    left_out::LeftOut,
};
use self::{
    pattern::{Budget, Clock, Pattern},
    rename::Renaming,
    value::Property,
};
use crate::plan::Failure;
use crate::{
    api::{
        Reason,
        secret::{DataEntry, DataSource, Decode, Find, KeyFrom, PublicKeys, Rewrite},
    },
    limits::{FOUND_VARIABLES, REGEX_DEADLINE},
};

/// Where in the spec something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An entry of `data`.
    Entry(usize),
    /// A `find` of `dataFrom`.
    Find(usize),
    /// An `extract`.
    Extract(usize),
    /// A `publicKeys`.
    PublicKeys(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(at) => write!(f, "spec.data[{at}]"),
            Self::Find(at) => write!(f, "spec.dataFrom[{at}].find"),
            Self::Extract(at) => write!(f, "spec.dataFrom[{at}].extract"),
            Self::PublicKeys(at) => write!(f, "spec.dataFrom[{at}].publicKeys"),
        }
    }
}

/// A variable to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Its id, below the account.
    pub variable: &'a str,
    /// The pinned version.
    pub version: Option<u32>,
    /// What asks for it.
    pub place: Place,
}

/// The sources of one object, read and found sound.
#[derive(Debug)]
pub struct Sources<'a> {
    entries: Vec<KeyEntry<'a>>,
    groups: Vec<Group<'a>>,
}

#[derive(Debug)]
struct KeyEntry<'a> {
    key: &'a str,
    variable: &'a str,
    version: Option<u32>,
    property: Option<Property<'a>>,
    base64: bool,
    optional: bool,
}

/// An item of `dataFrom`.
#[derive(Debug)]
struct Group<'a> {
    source: Source<'a>,
    rules: &'a [Rewrite],
}

#[derive(Debug)]
enum Source<'a> {
    Find(Criteria<'a>),
    Extract { variable: &'a str, version: Option<u32>, property: Option<Property<'a>> },
    PublicKeys(&'a PublicKeys),
}

/// What a variable must meet to be found: all that is given.
#[derive(Debug)]
pub struct Criteria<'a> {
    prefix: &'a str,
    /// Conjur's own search, which only it can evaluate.
    pub search: Option<&'a str>,
    annotations: Option<&'a BTreeMap<String, String>>,
    pattern: Option<&'a str>,
    key_from: KeyFrom,
}

impl Criteria<'_> {
    /// What the ids begin with; empty for all.
    pub fn prefix(&self) -> &str {
        self.prefix
    }

    /// All of them but the search, ready to be used: what is compiled for it is dropped with it.
    ///
    /// # Errors
    /// `InvalidSpec`: the pattern can't be.
    pub fn matcher(&self, place: Place) -> Result<Matcher<'_>, Failure> {
        let pattern = self.compile(place, &mut Budget::default())?;
        Ok(Matcher { criteria: self, place, pattern, clock: Clock::start(REGEX_DEADLINE) })
    }

    fn compile(&self, place: Place, budget: &mut Budget) -> Result<Option<Pattern>, Failure> {
        let compile = |text| Pattern::compile(text, budget);
        let why = |why| invalid(format!("{place}.pattern is not a regular expression: {why}"));
        self.pattern.map(compile).transpose().map_err(why)
    }
}

/// What a variable must meet, as long as variables are looked through.
#[derive(Debug)]
pub struct Matcher<'c> {
    criteria: &'c Criteria<'c>,
    place: Place,
    pattern: Option<Pattern>,
    clock: Clock,
}

impl Matcher<'_> {
    /// Whether a variable meets all of them but the search, given its id and its annotations by name.
    ///
    /// # Errors
    /// `InvalidSpec`: the pattern took too long on those before.
    pub fn takes<'v>(&self, id: &str, annotation: impl Fn(&str) -> Option<&'v str>) -> Result<bool, Failure> {
        let Self { criteria, place, pattern, clock } = self;
        let mut annotations = criteria.annotations.into_iter().flatten();
        if !id.starts_with(criteria.prefix)
            || !annotations.all(|(name, value)| annotation(name) == Some(value))
        {
            return Ok(false);
        }
        let Some(pattern) = pattern else { return Ok(true) };
        if clock.is_over() {
            return Err(invalid(format!(
                "{place}.pattern takes longer than {REGEX_DEADLINE:?} on the variables that it is matched with: use a longer \
                 prefix, or a simpler pattern"
            )));
        }
        Ok(pattern.is_match(id))
    }
}

fn invalid(message: String) -> Failure {
    Failure::stalled(Reason::InvalidSpec, message)
}

impl<'a> Sources<'a> {
    /// Reads `data` and `dataFrom` of a spec.
    ///
    /// # Errors
    /// `InvalidSpec`, naming the field: one key named twice, a pointer that can't be, not exactly one of `find`, `extract`
    /// and `publicKeys`, a find without criteria, nothing at all.
    pub fn of(entries: &'a [DataEntry], sources: &'a [DataSource]) -> Result<Self, Failure> {
        if entries.is_empty() && sources.is_empty() {
            return Err(invalid(
                "nothing goes into the Secret: give spec.data, spec.dataFrom or both".into(),
            ));
        }
        let mut keys = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            if let Some(first) = keys.insert(entry.key.as_str(), at) {
                return Err(build::twice(&entry.key, &Place::Entry(first), &Place::Entry(at)));
            }
        }
        let entries = entries.iter().enumerate().map(|(at, entry)| KeyEntry::of(at, entry));
        let groups = sources.iter().enumerate().map(|(at, source)| Group::of(at, source));
        Ok(Self { entries: entries.collect::<Result<_, _>>()?, groups: groups.collect::<Result<_, _>>()? })
    }

    /// What compiling the regular expressions may take at once, told from their texts.
    pub fn patterns_may_take(&self) -> usize {
        let finds = self.finds().filter_map(|(_, criteria)| criteria.pattern);
        let rules = self.groups.iter().flat_map(|group| group.rules).map(|rule| rule.pattern.as_str());
        finds.chain(rules).map(pattern::may_take).sum()
    }

    /// Finds what is wrong with the regular expressions, before anything is asked for. Each is dropped again: until it is
    /// used, much time may pass.
    ///
    /// # Errors
    /// `InvalidSpec`, naming the field.
    pub fn check_patterns(&self) -> Result<(), Failure> {
        let mut budget = Budget::default();
        for (at, group) in self.groups.iter().enumerate() {
            if let Source::Find(criteria) = &group.source {
                criteria.compile(Place::Find(at), &mut budget)?;
            }
            group.renaming(at, &mut budget)?;
        }
        Ok(())
    }

    /// The variables that the spec names: these are known before Conjur is asked for anything.
    pub fn named(&self) -> impl Iterator<Item = Ask<'a>> {
        let entries = self.entries.iter().enumerate().map(|(at, entry)| Ask {
            variable: entry.variable,
            version: entry.version,
            place: Place::Entry(at),
        });
        entries.chain(self.groups.iter().enumerate().filter_map(|(at, group)| match &group.source {
            Source::Extract { variable, version, .. } => {
                Some(Ask { variable, version: *version, place: Place::Extract(at) })
            }
            Source::Find(_) | Source::PublicKeys(_) => None,
        }))
    }

    /// The finds, each with its place.
    pub fn finds(&self) -> impl Iterator<Item = (Place, &Criteria<'a>)> {
        self.groups.iter().enumerate().filter_map(|(at, group)| match &group.source {
            Source::Find(criteria) => Some((Place::Find(at), criteria)),
            Source::Extract { .. } | Source::PublicKeys(_) => None,
        })
    }

    /// A hint where something is written as a full id, which names it below its account and kind again.
    pub fn full_id(&self, account: &str) -> Option<String> {
        let full = format!("{account}:variable:");
        let named = self.named().map(|ask| (ask.place, "variable", ask.variable));
        let prefixes = self.finds().map(|(place, criteria)| (place, "prefix", criteria.prefix));
        let (place, field, _) = named.chain(prefixes).find(|(_, _, text)| text.starts_with(&full))?;
        Some(format!("{place}.{field} is written as a full id; leave out '{full}' in front of it"))
    }

    /// Takes the ids that each find brought, in the order of [`finds`](Self::finds).
    ///
    /// # Errors
    /// `InvalidSpec` where they are more than a Secret could hold.
    pub fn resolve(self, found: Vec<Vec<String>>) -> Result<Resolved<'a>, Failure> {
        let total: usize = found.iter().map(Vec::len).sum();
        if total > FOUND_VARIABLES {
            let (count, place) = found
                .iter()
                .zip(self.finds())
                .map(|(ids, (place, _))| (ids.len(), place))
                .max_by_key(|(count, _)| *count)
                .unwrap_or((total, Place::Find(0)));
            return Err(invalid(format!(
                "spec.dataFrom finds {total} variables ({count} of them by {place}), and {FOUND_VARIABLES} is the most that \
                 one object takes. Narrow it with a longer prefix or a pattern, or split it over several objects"
            )));
        }
        Ok(Resolved { sources: self, found })
    }
}

impl<'a> KeyEntry<'a> {
    fn of(at: usize, entry: &'a DataEntry) -> Result<Self, Failure> {
        Ok(Self {
            key: &entry.key,
            variable: &entry.variable,
            version: entry.version,
            property: property(Place::Entry(at), entry.property.as_deref())?,
            base64: entry.decode.unwrap_or_default() == Decode::Base64,
            optional: entry.optional == Some(true),
        })
    }
}

fn property(place: Place, text: Option<&str>) -> Result<Option<Property<'_>>, Failure> {
    let read = |text| Property::parse(text).map_err(|why| invalid(format!("{place}.property: {why}")));
    text.map(read).transpose()
}

impl<'a> Group<'a> {
    fn of(at: usize, item: &'a DataSource) -> Result<Self, Failure> {
        let source = match (&item.find, &item.extract, &item.public_keys) {
            (Some(find), None, None) => Source::Find(criteria(at, find, item.key_from)?),
            (None, Some(extract), None) => Source::Extract {
                variable: &extract.variable,
                version: extract.version,
                property: property(Place::Extract(at), extract.property.as_deref())?,
            },
            (None, None, Some(keys)) => Source::PublicKeys(keys),
            _ => {
                let message =
                    format!("spec.dataFrom[{at}]: give exactly one of find, extract and publicKeys");
                return Err(invalid(message));
            }
        };
        Ok(Self { source, rules: item.rewrite.as_deref().unwrap_or_default() })
    }

    /// Its rules, compiled.
    fn renaming(&self, at: usize, budget: &mut Budget) -> Result<Renaming<'a>, Failure> {
        Renaming::of(self.rules, budget).map_err(|(rule, field, why)| {
            invalid(format!("spec.dataFrom[{at}].rewrite[{rule}].{field} can't be used: {why}"))
        })
    }
}

/// Refuses what no id that can be asked for begins with: it would be waited for in vain.
fn check_prefix(place: &Place, prefix: &str) -> Result<(), Failure> {
    let (whole, _) = prefix.rsplit_once('/').unwrap_or_default();
    let odd = |segment: &str| matches!(segment, "" | "." | "..");
    let why = if prefix.starts_with('/') {
        "begins with a slash, and no id does; write it as below the account, such as apps/billing/"
    } else if prefix.contains('/') && whole.split('/').any(odd) {
        "has an empty, '.' or '..' segment, which no id that can be read has; write it as the ids begin"
    } else if prefix.chars().any(char::is_control) {
        "has a control character, which no id that can be read has; write it as the ids begin"
    } else {
        return Ok(());
    };
    Err(invalid(format!("{place}.prefix {why}")))
}

fn criteria(at: usize, find: &Find, key_from: Option<KeyFrom>) -> Result<Criteria<'_>, Failure> {
    let place = Place::Find(at);
    let annotations = find.annotations.as_ref().filter(|annotations| !annotations.is_empty());
    let text = |field: &'_ Option<String>| field.as_ref().is_some_and(|text| !text.is_empty());
    if !text(&find.prefix) && !text(&find.search) && !text(&find.pattern) && annotations.is_none() {
        let message = format!("{place}: give at least one of prefix, search, annotations and pattern");
        return Err(invalid(message));
    }
    check_prefix(&place, find.prefix.as_deref().unwrap_or_default())?;
    Ok(Criteria {
        prefix: find.prefix.as_deref().unwrap_or_default(),
        search: find.search.as_deref(),
        annotations,
        pattern: find.pattern.as_deref(),
        key_from: key_from.unwrap_or_default(),
    })
}

/// The sources, with what their finds brought.
#[derive(Debug)]
pub struct Resolved<'a> {
    sources: Sources<'a>,
    found: Vec<Vec<String>>,
}

impl Resolved<'_> {
    /// All variables to fetch: those that are named, in the order of [`Sources::named`], then those that were found.
    pub fn asks(&self) -> impl Iterator<Item = Ask<'_>> {
        let found = self.sources.finds().zip(&self.found).flat_map(|((place, _), ids)| {
            ids.iter().map(move |id| Ask { variable: id, version: None, place })
        });
        self.sources.named().chain(found)
    }

    /// What compiling the regular expressions may take at once, told from their texts.
    pub fn patterns_may_take(&self) -> usize {
        self.sources.patterns_may_take()
    }

    /// The users and hosts whose public keys are asked for.
    pub fn public_keys(&self) -> impl Iterator<Item = (Place, &PublicKeys)> {
        self.sources.groups.iter().enumerate().filter_map(|(at, group)| match group.source {
            Source::PublicKeys(keys) => Some((Place::PublicKeys(at), keys)),
            Source::Find(_) | Source::Extract { .. } => None,
        })
    }
}

#[cfg(test)]
#[path = "sources/tests.rs"]
mod tests;

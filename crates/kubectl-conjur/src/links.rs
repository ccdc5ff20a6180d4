//! What an object ties together: variables on one side, a Secret on the other.

use std::fmt;

use regex::Regex;
use serde_json::Value;

use crate::cluster::{Kind, Seen};

/// Which way values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From Conjur into the Secret.
    In,
    /// From the Secret into Conjur.
    Out,
}

/// What an object ties together.
#[derive(Debug)]
pub struct Link {
    /// As people write it: `cjs/db`.
    pub object: String,
    pub namespace: String,
    pub ready: bool,
    pub way: Direction,
    /// None where the Secrets are found by labels.
    pub secret: Option<String>,
    /// Ids, and how each is used.
    pub variables: Vec<(String, String)>,
    pub finds: Vec<Find>,
}

impl Link {
    /// How the object uses a variable; none where it does not.
    pub fn uses(&self, id: &str) -> Option<String> {
        let exact = self.variables.iter().find(|(of, _)| of == id).map(|(_, how)| how.clone());
        exact.or_else(|| {
            self.finds.iter().find(|find| find.may_find(id)).map(|find| format!("may, by {find}"))
        })
    }
}

/// An entry that finds variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Find {
    prefix: String,
    pattern: Option<String>,
    /// Whether it asks for more, which only Conjur can tell.
    more: bool,
}

impl Find {
    fn of(find: &Value) -> Self {
        let text = |field: &str| find[field].as_str().map(str::to_owned);
        let more = find["search"].is_string() || find["annotations"].is_object();
        Self { prefix: text("prefix").unwrap_or_default(), pattern: text("pattern"), more }
    }

    fn may_find(&self, id: &str) -> bool {
        // A pattern that is none finds nothing, and its object says so.
        let fits = |pattern: &String| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(id));
        id.starts_with(&self.prefix) && self.pattern.as_ref().is_none_or(fits)
    }
}

impl fmt::Display for Find {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.prefix.is_empty() {
            parts.push(format!("prefix {}", self.prefix));
        }
        parts.extend(self.pattern.iter().map(|pattern| format!("pattern {pattern}")));
        if self.more {
            parts.push("what it searches for".to_owned());
        }
        write!(
            f,
            "find with {}",
            if parts.is_empty() { "nothing named".to_owned() } else { parts.join(" and ") }
        )
    }
}

/// The links of an object: one, or two for a policy that both makes roles and keeps their keys.
pub fn of(seen: &Seen) -> Option<Link> {
    let (spec, status) = (seen.spec(), seen.status());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (way, secret, variables, finds) = match seen.kind {
        Kind::Secret => {
            let named = text(&status["target"]["name"]).or_else(|| text(&spec["target"]["name"]));
            (Direction::In, Some(named.unwrap_or_else(|| seen.name().to_owned())), read(spec), finds(spec))
        }
        Kind::Push => (Direction::Out, text(&spec["source"]["secretRef"]["name"]), pushed(seen), Vec::new()),
        Kind::Host => {
            let named = text(&status["target"]["name"]).or_else(|| text(&spec["target"]["name"]));
            (Direction::In, Some(named.unwrap_or_else(|| seen.name().to_owned())), Vec::new(), Vec::new())
        }
        Kind::Policy => {
            let secret = text(&spec["createdRoles"]["secretName"])?;
            (Direction::In, Some(secret), Vec::new(), Vec::new())
        }
        Kind::Connection | Kind::ClusterConnection => return None,
    };
    let object = seen.short_name();
    let (namespace, ready) = (seen.namespace().to_owned(), seen.is_ready());
    Some(Link { object, namespace, ready, way, secret, variables, finds })
}

/// The variables that a ConjurSecret names.
fn read(spec: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in spec["data"].as_array().into_iter().flatten() {
        if let (Some(id), Some(key)) = (entry["variable"].as_str(), entry["key"].as_str()) {
            all.push((id.to_owned(), format!("as key {key}")));
        }
    }
    for entry in spec["dataFrom"].as_array().into_iter().flatten() {
        if let Some(id) = entry["extract"]["variable"].as_str() {
            all.push((id.to_owned(), "each of its fields as a key".to_owned()));
        }
    }
    all
}

fn finds(spec: &Value) -> Vec<Find> {
    let entries = spec["dataFrom"].as_array().into_iter().flatten();
    entries.filter(|entry| entry["find"].is_object()).map(|entry| Find::of(&entry["find"])).collect()
}

/// The variables that a ConjurPush keeps, as it says; before it said so, those that its spec names.
fn pushed(seen: &Seen) -> Vec<(String, String)> {
    let how = "pushes it".to_owned();
    let told = seen.status()["variables"].as_array().into_iter().flatten();
    let told: Vec<_> =
        told.filter_map(|variable| variable["id"].as_str()).map(|id| (id.to_owned(), how.clone())).collect();
    if !told.is_empty() {
        return told;
    }
    let prefix = seen.spec()["prefix"].as_str().unwrap_or_default();
    let entries = seen.spec()["data"].as_array().into_iter().flatten();
    let ids = entries.filter_map(|entry| entry["variable"].as_str()).map(|id| {
        let secret = seen.spec()["source"]["secretRef"]["name"].as_str().unwrap_or_default();
        format!("{prefix}{id}").replace("{namespace}", seen.namespace()).replace("{secret}", secret)
    });
    ids.map(|id| (id, how.clone())).collect()
}

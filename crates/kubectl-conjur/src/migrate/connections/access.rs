//! The access rules of a ClusterConjurConnection: whom the ClusterSecretStore lets in, and what they use.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Uses;
use crate::migrate::{fields::Fields, note::Notes};

/// Most patterns of a rule.
const PATTERNS: usize = 128;

/// Which namespaces a ClusterSecretStore is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// By name, a list a condition.
    names: Vec<Vec<String>>,
    /// By labels.
    selectors: Vec<Value>,
    /// By regular expressions, and where these stand.
    regexes: Vec<(String, String)>,
}

impl Conditions {
    /// Of a store's `conditions`; each part of each lets namespaces in.
    pub fn of(spec: &Fields, notes: &mut Notes) -> Self {
        let mut all = Self::default();
        for condition in spec.items("conditions") {
            let names = condition.texts("namespaces");
            if !names.is_empty() {
                all.names.push(names.into_iter().map(str::to_owned).collect());
            }
            all.selectors.extend(condition.raw("namespaceSelector").cloned());
            let at = condition.path("namespaceRegexes");
            let regexes = condition.texts("namespaceRegexes");
            all.regexes.extend(regexes.into_iter().map(|regex| (at.clone(), regex.to_owned())));
            condition.rest(notes);
        }
        all
    }

    fn are_none(&self) -> bool {
        self.names.is_empty() && self.selectors.is_empty() && self.regexes.is_empty()
    }
}

/// The rules.
pub fn rules(
    conditions: &Conditions,
    uses: &BTreeMap<Option<String>, Uses>,
    notes: &mut Notes,
) -> Vec<Value> {
    let mut rules = Vec::new();
    let everything = reads(uses.values());
    if conditions.are_none() {
        let what = "without conditions every namespace may use it, and it may read what is listed";
        notes.info("spec.conditions", what, "Name the namespaces in access, each with what it needs");
        rules.extend(rule(&json!({ "selector": {} }), &everything, "spec.conditions", notes));
    }
    for names in &conditions.names {
        rules.extend(of_names(names, uses, everything.is_empty(), notes));
    }
    for selector in &conditions.selectors {
        rules.extend(rule(&json!({ "selector": selector }), &everything, "spec.conditions", notes));
    }
    rules.extend(of_regexes(conditions, uses, notes));
    // Who may load a branch may read all of it: that is given to those alone who push.
    for (namespace, uses) in uses {
        let Some(namespace) = namespace.as_ref().filter(|_| !uses.write.is_empty()) else { continue };
        let mut rule = json!({ "namespaces": { "names": [namespace] }, "write": uses.write });
        if !uses.branches.is_empty() {
            rule["branches"] = json!(uses.branches);
            let branches: Vec<_> = uses.branches.iter().map(String::as_str).collect();
            let what = format!(
                "namespace {namespace} makes variables in {}, which lets whoever may create ConjurPolicies there load these branches, and so read all that is in them",
                branches.join(", ")
            );
            notes.differs(
                "spec",
                what,
                "Declare the variables by policy and take branches out where that is too much",
            );
        }
        rules.push(rule);
    }
    rules
}

/// A rule for each namespace that is named, with what it reads: one that reads nothing needs none.
fn of_names(
    names: &[String],
    uses: &BTreeMap<Option<String>, Uses>,
    is_unused: bool,
    notes: &mut Notes,
) -> Vec<Value> {
    if is_unused {
        return rule(&json!({ "names": names }), &BTreeSet::new(), "spec.conditions", notes);
    }
    let (mut made, mut idle) = (Vec::new(), Vec::new());
    for name in names {
        let read = reads(uses.get(&Some(name.clone())).into_iter());
        if read.is_empty() {
            idle.push(name.as_str());
        } else {
            made.extend(rule(&json!({ "names": [name] }), &read, "spec.conditions", notes));
        }
    }
    if !idle.is_empty() {
        let what =
            format!("no object that reads through it was seen in {}: they get no rule", idle.join(", "));
        notes.differs("spec.conditions", what, "Write a rule into access where they are to read something");
    }
    made
}

fn reads<'u>(uses: impl Iterator<Item = &'u Uses>) -> BTreeSet<String> {
    uses.flat_map(|uses| uses.read.iter().cloned()).collect()
}

/// Rules for these namespaces: several where the patterns are too many for one.
fn rule(namespaces: &Value, read: &BTreeSet<String>, field: &str, notes: &mut Notes) -> Vec<Value> {
    if read.is_empty() {
        let what = format!(
            "no object that reads through it was seen for {namespaces}, so that it lets these read everything (**)"
        );
        notes.differs(field, what, "Write into access what they may read");
        return vec![json!({ "namespaces": namespaces, "read": ["**"] })];
    }
    if read.contains("**") {
        let what = format!(
            "what is found through it by {namespaces} can't be told from a search, so that it lets these read everything (**)"
        );
        notes.differs(field, what, "Write into access what they may read");
        return vec![json!({ "namespaces": namespaces, "read": ["**"] })];
    }
    let all: Vec<_> = read.iter().collect();
    all.chunks(PATTERNS).map(|part| json!({ "namespaces": namespaces, "read": part })).collect()
}

/// A rule names namespaces or selects them by labels: those that were seen are named.
fn of_regexes(
    conditions: &Conditions,
    uses: &BTreeMap<Option<String>, Uses>,
    notes: &mut Notes,
) -> Vec<Value> {
    let Some((at, _)) = conditions.regexes.first() else { return Vec::new() };
    let named: BTreeSet<_> = conditions.names.iter().flatten().collect();
    let seen: Vec<_> = uses.keys().flatten().filter(|namespace| !named.contains(namespace)).collect();
    let what = "a rule has no regular expressions; the namespaces that were seen to use it are named";
    notes.differs(
        at.clone(),
        what,
        "Add the others to access, or give the namespaces a label and select by it",
    );
    let read = reads(seen.iter().filter_map(|name| uses.get(&Some((*name).clone()))));
    if read.is_empty() { Vec::new() } else { rule(&json!({ "names": seen }), &read, at, notes) }
}

//! Records put into the policies that they are in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Scope, Shown};
use crate::model::{identifier_of, kind_of};

/// A statement or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    List(Vec<Part>),
    /// A list in one line, of texts and the tags before them.
    Line(Vec<(Option<&'static str>, String)>),
    Map(Vec<(String, Part)>),
    /// `!kind …`
    Tagged(String, Box<Part>),
}

/// Policies by their identifier while they are filled; the statements of a body are in the order of the
/// records.
struct Tree<'s> {
    scope: &'s Scope<'s>,
    policies: BTreeSet<String>,
    bodies: BTreeMap<String, Vec<Entry>>,
    /// By role: its members.
    grants: BTreeMap<String, Vec<Part>>,
    /// What each policy has beside id and body.
    heads: BTreeMap<String, Vec<(String, Part)>>,
}

/// A statement, or where one that still grows is found.
enum Entry {
    Done(Part),
    Policy(String),
    Grant(String),
}

/// The statements of the branch: the policy itself, or the body of the root.
pub(super) fn build(scope: &Scope<'_>, records: &[Shown<'_>]) -> Vec<Part> {
    let policies = records.iter().filter(|record| record.kind == "policy");
    let mut policies: BTreeSet<String> = policies.map(|record| record.identifier.clone()).collect();
    policies.insert(above(scope.branch).to_owned());
    let mut tree =
        Tree { scope, policies, bodies: BTreeMap::new(), grants: BTreeMap::new(), heads: BTreeMap::new() };
    for record in records {
        tree.add(record);
    }
    if scope.branch.is_empty() {
        let mut body = tree.body("");
        body.sort_by_key(place_of);
        return body;
    }
    vec![tree.policy(scope.branch)]
}

/// The order of statements in a body that is written as YAML.
pub(super) fn place_of(part: &Part) -> usize {
    const ORDER: [&str; 9] =
        ["user", "policy", "variable", "webservice", "host", "layer", "host-factory", "group", "grant"];
    let Part::Tagged(kind, _) = part else { return usize::MAX };
    ORDER.iter().position(|known| known == kind).unwrap_or(ORDER.len())
}

fn above(identifier: &str) -> &str {
    identifier.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn tagged(kind: &str, part: Part) -> Part {
    Part::Tagged(kind.replace('_', "-"), Box::new(part))
}

impl Tree<'_> {
    /// The nearest policy that is shown; the root's identifier is empty.
    fn parent(&self, identifier: &str) -> String {
        let mut parent = above(identifier);
        while !parent.is_empty() && !self.policies.contains(parent) {
            parent = above(parent);
        }
        parent.to_owned()
    }

    /// The id within the nearest policy.
    fn short(&self, identifier: &str) -> String {
        let parent = self.parent(identifier);
        let rest = identifier.strip_prefix(&parent).and_then(|rest| rest.strip_prefix('/'));
        rest.filter(|_| !parent.is_empty()).unwrap_or(identifier).to_owned()
    }

    fn push(&mut self, policy: String, entry: Entry) {
        self.bodies.entry(policy).or_default().push(entry);
    }

    fn add(&mut self, record: &Shown<'_>) {
        let parent = self.parent(&record.identifier);
        let is_root = record.kind == "policy" && record.identifier == "root";
        if record.kind == "policy" && !is_root {
            let head = [self.owner(record), annotations(own_annotations(record))];
            self.heads.insert(record.identifier.clone(), head.into_iter().flatten().collect());
            self.push(parent.clone(), Entry::Policy(record.identifier.clone()));
        } else if !is_root {
            let statement = self.statement(record);
            self.push(parent.clone(), Entry::Done(statement));
        }
        for permit in self.permits(record, &parent) {
            self.push(parent.clone(), Entry::Done(permit));
        }
        for role in &record.roles {
            let member = tagged(record.kind, Part::Text(format!("/{}", record.identifier)));
            let members = self.grants.entry((*role).to_owned()).or_default();
            members.push(member);
            if members.len() == 1 {
                let policy = self.parent(&self.scope.path_of(role));
                self.push(policy, Entry::Grant((*role).to_owned()));
            }
        }
    }

    fn statement(&self, record: &Shown<'_>) -> Part {
        let mut attributes = vec![("id".to_owned(), Part::Text(self.short(&record.identifier)))];
        let mut known = own_annotations(record);
        if record.kind == "variable" {
            for name in ["kind", "mime_type"] {
                if let Some(value) = known.remove(&format!("conjur/{name}")) {
                    attributes.push((name.to_owned(), Part::Text(value)));
                }
            }
            attributes.extend(annotations(known));
            return tagged(record.kind, Part::Map(attributes));
        }
        attributes.extend(self.owner(record));
        if record.kind == "host_factory" && !record.resource.layers.is_empty() {
            let layers = record.resource.layers.iter();
            let layers = layers.map(|layer| (Some("layer"), self.short(identifier_of(layer))));
            attributes.push(("layers".to_owned(), Part::Line(layers.collect())));
        }
        attributes.extend(annotations(known));
        let credentials = self.scope.model.credentials.get(record.id);
        let ranges = credentials.map(|known| known.restricted_to.as_slice()).unwrap_or_default();
        if !ranges.is_empty() {
            let ranges = ranges.iter().map(|range| (None, range.clone()));
            attributes.push(("restricted_to".to_owned(), Part::Line(ranges.collect())));
        }
        tagged(record.kind, Part::Map(attributes))
    }

    /// None where it is the policy around it, or `admin`.
    fn owner(&self, record: &Shown<'_>) -> Option<(String, Part)> {
        let owner = record.resource.owner.as_str();
        let path = self.scope.path_of(owner);
        let usual = kind_of(owner) == "policy" && self.parent(&record.identifier) == path || path == "admin";
        (!usual).then(|| ("owner".to_owned(), tagged(kind_of(owner), Part::Text(format!("/{path}")))))
    }

    /// One for each role, with all its privileges; a role of the same policy goes by its short id.
    fn permits(&self, record: &Shown<'_>, parent: &str) -> Vec<Part> {
        let mut by_role: BTreeMap<&str, Vec<(Option<&'static str>, String)>> = BTreeMap::new();
        for (role, privilege) in record.resource.permissions.keys() {
            by_role.entry(role).or_default().push((None, privilege.clone()));
        }
        let permits = by_role.into_iter().map(|(role, privileges)| {
            let path = self.scope.path_of(role);
            let beside = self.parent(&path) == parent;
            let name = if beside { self.short(&path) } else { format!("/{path}") };
            let resource = tagged(record.kind, Part::Text(self.short(&record.identifier)));
            let attributes = vec![
                ("role".to_owned(), tagged(kind_of(role), Part::Text(name))),
                ("privileges".to_owned(), Part::Line(privileges)),
                ("resource".to_owned(), resource),
            ];
            tagged("permit", Part::Map(attributes))
        });
        permits.collect()
    }

    fn policy(&self, identifier: &str) -> Part {
        let mut attributes = vec![("id".to_owned(), Part::Text(self.short(identifier)))];
        attributes.extend(self.heads.get(identifier).cloned().unwrap_or_default());
        attributes.push(("body".to_owned(), Part::List(self.body(identifier))));
        tagged("policy", Part::Map(attributes))
    }

    fn body(&self, identifier: &str) -> Vec<Part> {
        let entries = self.bodies.get(identifier).map(Vec::as_slice).unwrap_or_default();
        let statements = entries.iter().map(|entry| match entry {
            Entry::Done(statement) => statement.clone(),
            Entry::Policy(identifier) => self.policy(identifier),
            Entry::Grant(role) => {
                let name = Part::Text(self.short(&self.scope.path_of(role)));
                let members = self.grants.get(role).cloned().unwrap_or_default();
                let attributes = vec![
                    ("role".to_owned(), tagged(kind_of(role), name)),
                    ("members".to_owned(), Part::List(members)),
                ];
                tagged("grant", Part::Map(attributes))
            }
        });
        statements.collect()
    }
}

fn own_annotations(record: &Shown<'_>) -> BTreeMap<String, String> {
    let annotations = record.resource.annotations.iter();
    annotations.map(|(name, annotation)| (name.clone(), annotation.value.clone())).collect()
}

fn annotations(known: BTreeMap<String, String>) -> Option<(String, Part)> {
    let known: Vec<_> = known.into_iter().map(|(name, value)| (name, Part::Text(value))).collect();
    (!known.is_empty()).then(|| ("annotations".to_owned(), Part::Map(known)))
}

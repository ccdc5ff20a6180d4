//! Who would own what a document makes.
//!
//! The owner of a role is granted it (recording seq 709: a new host's `members` are its owner), so who owns the
//! branch's policy holds every role whose chain of owners ends there.

use std::collections::{HashMap, HashSet};

/// A role that an `owner:` names.
pub(super) struct RoleRef {
    /// With the account: `myorg:group:apps/billing/admins`.
    pub(super) id: String,
    inside: bool,
}

pub(super) struct Owners<'a> {
    account: &'a str,
    /// None for root, to which everything belongs.
    branch: Option<&'a str>,
    /// The owner of each record that the document makes.
    made: HashMap<String, RoleRef>,
    known: HashMap<String, bool>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(account: &'a str, branch: Option<&'a str>) -> Self {
        Self { account, branch, made: HashMap::new(), known: HashMap::new() }
    }

    /// A role by its path below the account, a user's not yet in `@` notation: `alice@apps-billing` alone does not
    /// tell a user of apps/billing from one of apps-billing, so a user named that way counts as outside.
    pub(super) fn reference(&self, account: &str, kind: &str, path: &str) -> RoleRef {
        let inside = account == self.account
            && self.branch.is_some_and(|branch| match path.strip_prefix(branch) {
                Some("") => kind == "policy",
                Some(rest) => rest.starts_with('/'),
                None => false,
            });
        let name = if kind == "user" { user_id(path) } else { path.to_owned() };
        RoleRef { id: format!("{account}:{kind}:{name}"), inside }
    }

    /// Notes a record with its explicit owner, or else the policy it stands in.
    pub(super) fn made(&mut self, id: &str, owner: Option<RoleRef>, enclosing: Option<&str>) {
        let owner =
            owner.or_else(|| enclosing.map(|id| RoleRef { id: id.to_owned(), inside: self.is_branch(id) }));
        if let Some(owner) = owner {
            self.made.entry(id.to_owned()).or_insert(owner);
        }
    }

    /// Whether the branch's owner would hold this role. Owners that go round in a circle, which the server refuses,
    /// end nowhere: no.
    pub(super) fn belongs_to_branch(&mut self, id: &str) -> bool {
        if self.branch.is_none() {
            return true;
        }
        let mut path: HashSet<String> = HashSet::new();
        let mut current = id.to_owned();
        let mut inside = false;
        let answer = loop {
            if self.is_branch(&current) {
                break true;
            }
            if let Some(known) = self.known.get(&current) {
                break *known;
            }
            let Some(owner) = self.made.get(&current) else { break inside };
            inside = owner.inside;
            if !path.insert(std::mem::replace(&mut current, owner.id.clone())) {
                break false;
            }
        };
        self.known.extend(path.into_iter().map(|id| (id, answer)));
        answer
    }

    fn is_branch(&self, id: &str) -> bool {
        let mut parts = id.splitn(3, ':');
        parts.next() == Some(self.account) && parts.next() == Some("policy") && parts.next() == self.branch
    }
}

/// `apps/billing/alice` → `alice@apps-billing` (recordings seq 66, 115). A user without an id is named after the
/// policy it stands in, and nothing follows the name of one at the top (seq 56).
pub(in crate::plan) fn user_id(path: &str) -> String {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    match path.rsplit_once('/') {
        Some((namespace, name)) => format!("{name}@{}", namespace.replace('/', "-")),
        None => path.to_owned(),
    }
}

/// An `owner:` may be absolute (`/ops`, recording seq 28) or climb (`../ops`); None where it climbs past the top.
pub(super) fn absolute(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.strip_prefix('/').unwrap_or(path).trim_end_matches('/').split('/') {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/")).filter(|path| !path.is_empty())
}

//! `GET policies/…`: the policy that is in effect, read back from what it made (recordings 126–136, 712, 725).

mod tree;
mod users;
mod written;

use std::collections::BTreeSet;

use super::Caller;
use super::reply::Reply;
use super::request::Request;
use crate::model::{Membership, Model, Resource, identifier_of, kind_of};

/// The largest `depth` and `limit`, and what they are by default: the real server's own defaults.
const DEPTH: usize = 64;
const LIMIT: usize = 100_000;

/// A record to write, as a policy would have it.
struct Shown<'m> {
    kind: &'m str,
    /// Of a user it is a path, as of all others: `app/joe` instead of `joe@app`.
    identifier: String,
    id: &'m str,
    resource: &'m Resource,
    /// The roles it was granted.
    roles: Vec<&'m str>,
}

/// What is to be shown of which branch.
struct Scope<'m> {
    model: &'m Model,
    /// The branch's identifier; empty for the root.
    branch: &'m str,
    depth: usize,
}

pub(super) fn answer(model: &Model, request: &Request, caller: &Caller, branch: &str) -> Reply {
    if model.visible(&caller.role, branch).is_none() {
        return Reply::not_found(branch);
    }
    if !model.owns(&caller.role, branch) {
        return Reply::html(500);
    }
    let number = |name: &str, largest: usize| match request.query(name) {
        None => Some(largest),
        Some(text) => text.parse().ok().filter(|number| *number <= largest),
    };
    let (Some(depth), Some(limit)) = (number("depth", DEPTH), number("limit", LIMIT)) else {
        return Reply::refused(400);
    };
    let identifier = Some(identifier_of(branch)).filter(|branch| *branch != "root").unwrap_or_default();
    let depth = depth + slashes(identifier);
    let scope = Scope { model, branch: identifier, depth };
    let (records, count) = scope.records(&model.all_roles(&caller.role));
    if count > limit {
        let message =
            format!("CONJ00164E Policy max allowed 'limit' = {limit} exceeded. Value for policy is: {count}");
        return Reply::error(422, "unprocessable_entity", &message);
    }
    let policy = tree::build(&scope, &records);
    // The type of a body that is not there decides.
    if request.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return Reply::json(200, &written::json(&policy));
    }
    Reply::content(200, "application/x-yaml; charset=utf-8", written::yaml(&policy))
}

impl<'m> Scope<'m> {
    /// What the roles see of the branch, in the order of the ids and users last; and how much it is:
    /// records but for users, their annotations and their permissions.
    fn records(&self, roles: &BTreeSet<String>) -> (Vec<Shown<'m>>, usize) {
        let (mut records, mut people, mut count) = (Vec::new(), Vec::new(), 0);
        for (id, resource) in &self.model.resources {
            let (kind, identifier) = (kind_of(id), identifier_of(id));
            if kind == "public_key" || !resource.visible_to(roles) {
                continue;
            }
            if kind == "user" {
                let path = self.user_path(id);
                if self.has_user(identifier) && slashes(&path) <= self.depth + 1 {
                    people.push(Shown { kind, identifier: path, id, resource, roles: self.granted(id) });
                }
            } else if self.holds(identifier) {
                count += 1 + resource.annotations.len() + resource.permissions.len();
                let (identifier, roles) = (identifier.to_owned(), self.granted(id));
                records.push(Shown { kind, identifier, id, resource, roles });
            }
        }
        records.extend(people);
        (records, count)
    }

    /// Whether it is the branch or below it, and not too deep.
    fn holds(&self, identifier: &str) -> bool {
        let below = identifier.strip_prefix(self.branch);
        let inside =
            self.branch.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        inside && slashes(identifier) <= self.depth
    }

    /// The roles that were granted, but for those outside: of users all are shown, of host factories none.
    fn granted(&self, id: &'m str) -> Vec<&'m str> {
        let is_shown = |role: &str| kind_of(id) == "user" || self.holds(identifier_of(role));
        let memberships = self.model.memberships.range((id.to_owned(), String::new())..);
        memberships
            .take_while(|((member, _), _)| member == id)
            .filter(|((_, role), Membership { ownership, .. })| {
                !ownership && kind_of(id) != "host_factory" && is_shown(role)
            })
            .map(|((_, role), _)| role.as_str())
            .collect()
    }
}

fn slashes(identifier: &str) -> usize {
    identifier.matches('/').count()
}

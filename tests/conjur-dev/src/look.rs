//! What a test looks at, without a request: records, what hangs on them, and what was loaded.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::Server;
use crate::control::{Kind, Seen};
use crate::http::show;
use crate::model::{PolicyVersion, Resource};

/// That a role may do something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Permit {
    /// Full id of the role.
    pub role: String,
    /// What it may.
    pub privilege: String,
    /// Full id of the policy that gave it.
    pub policy: Option<String>,
}

/// That a role is in another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// Full id of the one that has the member.
    pub role: String,
    /// Full id of the member.
    pub member: String,
    /// Whether the member owns it.
    pub ownership: bool,
    /// Full id of the policy that made it one; none where a host factory did.
    pub policy: Option<String>,
}

/// A host factory's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// It.
    pub text: String,
    /// Until when it works.
    #[serde(serialize_with = "as_text")]
    pub expiration: Timestamp,
    /// From where; from everywhere where this is empty.
    pub cidr: Vec<String>,
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

impl Server {
    /// The newest value of a variable.
    pub fn variable(&self, id: &str) -> Option<Vec<u8>> {
        let model = self.engine.model();
        let resource = model.resources.get(&model.id("variable", id))?;
        resource.value.latest().map(|value| value.to_vec())
    }

    /// How many times a variable's value changed since it was made.
    pub fn variable_versions(&self, id: &str) -> Option<u64> {
        let model = self.engine.model();
        let resource = model.resources.get(&model.id("variable", id))?;
        Some(resource.value.numbers().last().unwrap_or_default())
    }

    /// Whether a record exists: `exists("host", "app/web")`.
    pub fn exists(&self, kind: &str, id: &str) -> bool {
        let model = self.engine.model();
        model.resources.contains_key(&model.id(kind, id))
    }

    /// The full ids of all records of a kind, in their order.
    pub fn all(&self, kind: &str) -> Vec<String> {
        let model = self.engine.model();
        let prefix = model.id(kind, "");
        model.resources.keys().filter(|id| id.starts_with(&prefix)).cloned().collect()
    }

    /// A record as its owner is shown it by `GET resources/…`.
    pub fn shown(&self, kind: &str, id: &str) -> Option<Value> {
        let model = self.engine.model();
        let id = model.id(kind, id);
        let resource = model.resources.get(&id)?;
        Some(show::resource(&model, &id, resource))
    }

    /// Full id of a record's owner.
    pub fn owner(&self, kind: &str, id: &str) -> Option<String> {
        self.resource(kind, id, |resource| resource.owner.clone())
    }

    /// When a record was made.
    pub fn made_at(&self, kind: &str, id: &str) -> Option<Timestamp> {
        self.resource(kind, id, |resource| resource.created_at)
    }

    /// The annotations of a record; none where it is not there.
    pub fn annotations(&self, kind: &str, id: &str) -> BTreeMap<String, String> {
        let annotations = |resource: &Resource| {
            let all = resource.annotations.iter();
            all.map(|(name, annotation)| (name.clone(), annotation.value.clone())).collect()
        };
        self.resource(kind, id, annotations).unwrap_or_default()
    }

    /// Who may do what with a record by permits; owners may do everything.
    pub fn permits(&self, kind: &str, id: &str) -> BTreeSet<Permit> {
        let permits = |resource: &Resource| {
            let all = resource.permissions.iter();
            all.map(|((role, privilege), policy)| Permit {
                role: role.clone(),
                privilege: privilege.clone(),
                policy: policy.clone(),
            })
            .collect()
        };
        self.resource(kind, id, permits).unwrap_or_default()
    }

    /// What a role is directly in, without what it owns.
    pub fn memberships(&self, kind: &str, id: &str) -> BTreeSet<Edge> {
        let of = self.engine.model().id(kind, id);
        self.edges(|edge| edge.member == of && !edge.ownership)
    }

    /// Who is directly in a role, its owner among them.
    pub fn members(&self, kind: &str, id: &str) -> BTreeSet<Edge> {
        let of = self.engine.model().id(kind, id);
        self.edges(|edge| edge.role == of)
    }

    fn edges(&self, wanted: impl Fn(&Edge) -> bool) -> BTreeSet<Edge> {
        let model = self.engine.model();
        let all = model.memberships.iter().map(|((member, role), membership)| Edge {
            role: role.clone(),
            member: member.clone(),
            ownership: membership.ownership,
            policy: membership.policy.clone(),
        });
        all.filter(|edge| wanted(edge)).collect()
    }

    /// Where a login may come from; everywhere where this is empty.
    pub fn restricted_to(&self, login: &str) -> Vec<String> {
        self.credentials(login, |credentials| credentials.restricted_to.clone()).unwrap_or_default()
    }

    /// The tokens of a host factory that were not revoked, in the order they were made.
    pub fn factory_tokens(&self, factory: &str) -> Vec<Token> {
        let model = self.engine.model();
        let id = model.id("host_factory", factory);
        let tokens = model.factory_tokens.iter().filter(|token| token.factory == id).cloned();
        tokens
            .map(|token| Token { text: token.text, expiration: token.expiration, cidr: token.cidr })
            .collect()
    }

    /// All loads of a branch (`root`, `app/web`), oldest first.
    pub fn policy_versions(&self, branch: &str) -> Vec<PolicyVersion> {
        let model = self.engine.model();
        let versions = model.policy_versions.get(&model.id("policy", branch)).into_iter().flatten();
        versions.map(|version| PolicyVersion::clone(version)).collect()
    }

    /// How many loads of a branch there were.
    pub fn loads(&self, branch: &str) -> usize {
        let model = self.engine.model();
        model.policy_versions.get(&model.id("policy", branch)).map_or(0, Vec::len)
    }

    /// How many loads of each branch there were, by identifier.
    pub fn all_loads(&self) -> BTreeMap<String, usize> {
        let model = self.engine.model();
        let prefix = model.id("policy", "");
        let branches = model.policy_versions.iter();
        branches
            .map(|(id, versions)| (id.strip_prefix(&prefix).unwrap_or(id).to_owned(), versions.len()))
            .collect()
    }

    /// The requests of one kind, of all since the start or the last [`Server::clear_requests`].
    pub fn requests_of(&self, kind: Kind) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.kind == kind).collect()
    }

    fn resource<T>(&self, kind: &str, id: &str, read: impl FnOnce(&Resource) -> T) -> Option<T> {
        let model = self.engine.model();
        model.resources.get(&model.id(kind, id)).map(read)
    }
}

//! `?dryRun=true`: what a load would do, or why it would be refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::reply::Reply;
use crate::model::{Model, identifier_of, kind_of};
use crate::policy::Refused;

/// Two states of the model, seen by one role.
pub(super) struct Difference<'m> {
    before: &'m Model,
    after: &'m Model,
    /// Full id of the branch.
    branch: &'m str,
    /// All roles of the caller, in both states: what none of them sees is redacted (recording 722).
    roles: BTreeSet<String>,
}

impl<'m> Difference<'m> {
    pub(super) fn new(before: &'m Model, after: &'m Model, branch: &'m str, caller: &str) -> Self {
        let roles = before.all_roles(caller).union(&after.all_roles(caller)).cloned().collect();
        Self { before, after, branch, roles }
    }

    /// Recordings 75, 107, 709–723.
    pub(super) fn reply(&self) -> Reply {
        let (before, after) = (&self.before.resources, &self.after.resources);
        // Public keys are no records to it (recording 27).
        let listed = |id: &&String| kind_of(id) != "public_key";
        let created = after.keys().filter(|id| !before.contains_key(*id)).filter(listed);
        let deleted = before
            .keys()
            .filter(|id| !after.contains_key(*id))
            .filter(listed)
            .filter(|id| !self.is_cascade(id));
        let stayed = before.keys().filter(|id| after.contains_key(*id));
        let (mut was, mut is) = (Vec::new(), Vec::new());
        for id in stayed {
            let pair = (Record::of(self.before, id), Record::of(self.after, id));
            if pair.0 != pair.1 {
                was.push(self.item(id, &pair.0));
                is.push(self.item(id, &pair.1));
            }
        }
        let list = |items: Vec<Value>| json!({"items": items});
        let created = created.map(|id| self.item(id, &Record::of(self.after, id))).collect();
        let deleted = deleted.map(|id| self.item(id, &Record::of(self.before, id))).collect();
        Reply::json(
            200,
            &json!({
                "status": "Valid YAML",
                "created": list(created),
                "updated": {"before": list(was), "after": list(is)},
                "deleted": list(deleted),
            }),
        )
    }

    /// The server lists what the document takes away, not what its database deletes along with that: what another
    /// branch made and a deleted record owns or made.
    fn is_cascade(&self, id: &str) -> bool {
        let resource = &self.before.resources[id];
        let is_gone =
            |id: &String| self.before.resources.contains_key(id) && !self.after.resources.contains_key(id);
        resource.policy.as_deref() != Some(self.branch)
            && (is_gone(&resource.owner) || resource.policy.as_ref().is_some_and(is_gone))
    }

    /// The record within `identifier`, and beside it every field once more as null, as the real server does.
    fn item(&self, id: &str, record: &Record) -> Value {
        let mut fields = Map::new();
        fields.insert("identifier".into(), self.shown(id).into());
        if self.sees(id) {
            fields.insert("id".into(), short(identifier_of(id)).into());
        }
        fields.insert("type".into(), kind_of(id).into());
        if self.sees(id) {
            fields.insert("owner".into(), self.shown(&record.owner).into());
            fields.insert("policy".into(), record.policy.as_deref().map(|policy| self.shown(policy)).into());
            let by_privilege = record.permissions.iter();
            let permissions = by_privilege.map(|(privilege, ids)| (privilege.clone(), json!(self.all(ids))));
            let name = if record.role.is_some() { "permissions" } else { "permitted" };
            fields.insert(name.into(), Value::Object(permissions.collect()));
            fields.insert("annotations".into(), json!(record.annotations));
            if let Some(role) = &record.role {
                fields.insert("members".into(), json!(self.all(&role.members)));
                fields.insert("memberships".into(), json!(self.all(&role.memberships)));
                fields.insert("restricted_to".into(), json!(role.restricted_to));
            }
        }
        let names = fields.keys().filter(|name| *name != "identifier");
        let mut item: Map<String, Value> = names.map(|name| (name.clone(), Value::Null)).collect();
        item.insert("identifier".into(), Value::Object(fields));
        Value::Object(item)
    }

    fn all(&self, ids: &BTreeSet<String>) -> Vec<String> {
        ids.iter().map(|id| self.shown(id)).collect()
    }

    fn shown(&self, id: &str) -> String {
        if self.sees(id) {
            return id.split(':').take(3).collect::<Vec<_>>().join(":");
        }
        let account = id.split(':').next().unwrap_or_default();
        format!("{account}:{}:[REDACTED]", kind_of(id))
    }

    fn sees(&self, id: &str) -> bool {
        let resource = |model: &'m Model| model.resources.get(id);
        [resource(self.before), resource(self.after)]
            .into_iter()
            .flatten()
            .any(|resource| resource.visible_to(&self.roles))
    }
}

/// The real server takes a colon in an id for its end (recording 27).
fn short(identifier: &str) -> &str {
    identifier.split(':').next().unwrap_or_default()
}

/// What a dry run tells of a record.
#[derive(PartialEq)]
struct Record {
    owner: String,
    policy: Option<String>,
    /// By privilege: of a role the resources it may use, of anything else the roles that may use it.
    permissions: BTreeMap<String, BTreeSet<String>>,
    annotations: BTreeMap<String, String>,
    role: Option<Role>,
}

#[derive(PartialEq)]
struct Role {
    members: BTreeSet<String>,
    memberships: BTreeSet<String>,
    restricted_to: Vec<String>,
}

impl Record {
    fn of(model: &Model, id: &str) -> Self {
        let resource = &model.resources[id];
        let mut permissions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut permit = |privilege: &String, other: &String| {
            permissions.entry(privilege.clone()).or_default().insert(other.clone());
        };
        let is_role = model.roles.contains_key(id);
        if is_role {
            for (other, resource) in &model.resources {
                let held = resource.permissions.keys().filter(|(role, _)| role == id);
                held.for_each(|(_, privilege)| permit(privilege, other));
            }
        } else {
            resource.permissions.keys().for_each(|(role, privilege)| permit(privilege, role));
        }
        let annotations = resource.annotations.iter();
        Self {
            owner: resource.owner.clone(),
            policy: resource.policy.clone(),
            permissions,
            annotations: annotations.map(|(name, known)| (name.clone(), known.value.clone())).collect(),
            role: is_role.then(|| Role::of(model, id)),
        }
    }
}

impl Role {
    fn of(model: &Model, id: &str) -> Self {
        let edges = model.memberships.keys();
        let credentials = model.credentials.get(id);
        Self {
            members: edges.filter(|(_, role)| role == id).map(|(member, _)| member.clone()).collect(),
            memberships: model.held_by(id).map(str::to_owned).collect(),
            restricted_to: credentials.map(|known| known.restricted_to.clone()).unwrap_or_default(),
        }
    }
}

/// Recordings 105, 106: a list of one, with a position where there is one.
pub(super) fn invalid(refused: &Refused, branch: &str) -> Reply {
    let (message, at) = refused.explained();
    let (line, column) = at.unwrap_or_default();
    let lines: Vec<usize> = at.map(|(line, _)| line).into_iter().collect();
    let context = json!({"policy_id": identifier_of(branch), "offending_lines": lines});
    let error = json!({"line": line, "column": column, "message": message, "context": context});
    Reply::json(422, &json!({"status": "Invalid YAML", "errors": [error]}))
}

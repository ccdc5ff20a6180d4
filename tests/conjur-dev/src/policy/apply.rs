//! Applying a document to the model.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Refused;
use super::document::{Permission, Record, Reference, Statement};
use super::names::Place;
use crate::model::keys::new_api_key;
use crate::model::{Annotation, Credentials, Model, identifier_of, kind_of};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    /// POST: only adds.
    Append,
    /// PATCH: adds, changes, and removes what the document says.
    Update,
    /// PUT: what this branch made and the document leaves out is removed.
    Replace,
}

/// A document on its way into a branch.
pub(crate) struct Load<'a> {
    model: &'a mut Model,
    mode: Mode,
    /// Full id of the branch.
    branch: String,
    now: Timestamp,
    created: Vec<(String, String)>,
    /// What the document speaks of, for `Replace`.
    records: BTreeSet<String>,
    memberships: BTreeSet<(String, String)>,
    permissions: BTreeSet<(String, String, String)>,
    annotations: BTreeSet<(String, String)>,
}

/// A record with its full id, its owner and the place it stands in.
struct Placed<'a> {
    id: String,
    owner: String,
    place: Place,
    record: &'a Record,
}

/// Applies `statements` to `model`; on an error the model is left half changed, so give it a copy.
/// Returns the created roles with their API keys, in the order of the document.
pub(crate) fn apply(
    model: &mut Model,
    mode: Mode,
    branch: &str,
    statements: &[Statement],
    now: Timestamp,
) -> Result<Vec<(String, String)>, Refused> {
    if mode == Mode::Append && statements.iter().any(removes) {
        return Err(Refused::Text("may not contain deletion statements"));
    }
    let identifier = identifier_of(branch);
    let namespace = (identifier != "root").then(|| identifier.to_owned());
    let place = Place { account: model.account.clone(), namespace };
    if place.namespace.is_some() {
        statements.iter().try_for_each(relative_only)?;
    }
    let owner = if place.namespace.is_some() { branch.to_owned() } else { model.id("user", "admin") };
    let mut load = Load {
        model,
        mode,
        branch: branch.to_owned(),
        now,
        created: Vec::new(),
        records: BTreeSet::new(),
        memberships: BTreeSet::new(),
        permissions: BTreeSet::new(),
        annotations: BTreeSet::new(),
    };
    let (mut placed, mut others) = (Vec::new(), Vec::new());
    load.gather(&place, &owner, statements, &mut placed, &mut others)?;
    others.iter().try_for_each(|(place, statement)| load.remove(place, statement))?;
    for placed in &placed {
        load.make(placed);
    }
    placed.iter().try_for_each(|placed| load.check_owner(placed))?;
    placed.iter().try_for_each(|placed| load.join_layers(placed))?;
    others.iter().try_for_each(|(place, statement)| load.relate(place, statement))?;
    if mode == Mode::Replace {
        load.drop_the_rest();
    }
    Ok(load.created)
}

fn removes(statement: &Statement) -> bool {
    match statement {
        Statement::Revoke { .. } | Statement::Deny(_) | Statement::Delete(_) => true,
        Statement::Record(record) => record.body.iter().any(removes),
        Statement::Grant { .. } | Statement::Permit(_) => false,
    }
}

/// Outside the root, what a document makes or grants must be below its branch (recordings 116, 117, 675).
fn relative_only(statement: &Statement) -> Result<(), Refused> {
    let check = |id: Option<&str>| match id {
        Some(id) if id.starts_with('/') => Err(Refused::invalid(format!("Illegal absolute id: {id}"))),
        _ => Ok(()),
    };
    let all = |references: &[Reference]| references.iter().try_for_each(|one| check(one.id.as_deref()));
    match statement {
        Statement::Record(record) => {
            check(record.id.as_deref())?;
            record.body.iter().try_for_each(relative_only)
        }
        Statement::Grant { roles, .. } | Statement::Revoke { roles, .. } => all(roles),
        Statement::Permit(privileges) | Statement::Deny(privileges) => all(&privileges.resources),
        Statement::Delete(records) => all(records),
    }
}

impl Load<'_> {
    fn gather<'s>(
        &mut self,
        place: &Place,
        owner: &str,
        statements: &'s [Statement],
        placed: &mut Vec<Placed<'s>>,
        others: &mut Vec<(Place, &'s Statement)>,
    ) -> Result<(), Refused> {
        for statement in statements {
            let Statement::Record(record) = statement else {
                others.push((place.clone(), statement));
                continue;
            };
            let id = place.full(record.kind, record.id.as_deref())?;
            if !self.records.insert(id.clone()) {
                // What the real server says of a record defined twice (recording 57).
                return Err(Refused::invalid("Missing required option account"));
            }
            let owner = match &record.owner {
                Some(reference) => place.resolve(reference)?,
                None => owner.to_owned(),
            };
            placed.push(Placed { id: id.clone(), owner, place: place.clone(), record });
            self.gather(&place.inside(&id), &id, &record.body, placed, others)?;
        }
        Ok(())
    }

    fn make(&mut self, placed: &Placed<'_>) {
        let Placed { id, owner, record, .. } = placed;
        let policy = Some(self.branch.clone());
        let is_new = !self.model.resources.contains_key(id);
        if is_new {
            self.model.add_record(id, owner, policy.as_deref(), self.now);
            if matches!(kind_of(id), "user" | "host") {
                let key = new_api_key();
                self.created.push((id.clone(), key.clone()));
                self.model.credentials.insert(id.clone(), Credentials::new(key, self.now));
            }
        } else if self.mode != Mode::Append {
            self.change_owner(id, owner);
        }
        self.memberships.insert((owner.clone(), id.clone()));
        if let (Some(restricted_to), Some(credentials)) =
            (&record.restricted_to, self.model.credentials.get_mut(id))
        {
            credentials.restricted_to.clone_from(restricted_to);
        }
        for (name, value) in &record.annotations {
            self.annotate(id, name, value);
        }
        self.add_public_keys(id, &record.public_keys);
    }

    /// What another branch made keeps its owner, whatever this one says of it.
    fn change_owner(&mut self, id: &str, owner: &str) {
        let Some(resource) = self.model.resources.get_mut(id) else { return };
        if resource.owner != owner && resource.policy.as_deref() == Some(&self.branch) {
            owner.clone_into(&mut resource.owner);
            if self.model.roles.contains_key(id) {
                self.model.own(id, owner, Some(self.branch.clone()));
            }
        }
    }

    /// Adds an annotation, or changes one of this branch's own (recordings 82–85).
    fn annotate(&mut self, id: &str, name: &str, value: &str) {
        self.annotations.insert((id.to_owned(), name.to_owned()));
        let Some(resource) = self.model.resources.get_mut(id) else { return };
        let branch = Some(self.branch.clone());
        if let Some(annotation) = resource.annotations.get_mut(name) {
            if annotation.policy == branch && self.mode != Mode::Append {
                value.clone_into(&mut annotation.value);
            }
        } else {
            let annotation = Annotation { value: value.to_owned(), policy: branch };
            resource.annotations.insert(name.to_owned(), annotation);
        }
    }

    /// Each key is a resource of its own, named by the comment in the key.
    fn add_public_keys(&mut self, user: &str, keys: &[String]) {
        for key in keys {
            let name = key.split_whitespace().nth(2).unwrap_or_default();
            let id = self.model.id("public_key", &format!("user/{}/{name}", identifier_of(user)));
            self.records.insert(id.clone());
            if !self.model.resources.contains_key(&id) {
                let policy = self.branch.clone();
                self.model.add_record(&id, user, Some(&policy), self.now);
            }
            if let Some(resource) = self.model.resources.get_mut(&id) {
                resource.value.set(key.clone().into_bytes().into());
            }
        }
    }

    fn check_owner(&self, placed: &Placed<'_>) -> Result<(), Refused> {
        self.role(&placed.owner).map(|_| ())
    }

    fn join_layers(&mut self, placed: &Placed<'_>) -> Result<(), Refused> {
        for layer in &placed.record.layers {
            let layer = placed.place.resolve(layer)?;
            self.role(&layer)?;
            self.memberships.insert((placed.id.clone(), layer.clone()));
            self.model.grant(&layer, &placed.id, Some(self.branch.clone()));
            if let Some(factory) = self.model.resources.get_mut(&placed.id) {
                factory.layers.insert(layer);
            }
        }
        Ok(())
    }

    fn relate(&mut self, place: &Place, statement: &Statement) -> Result<(), Refused> {
        match statement {
            Statement::Grant { roles, members } => {
                for role in roles {
                    let role = self.role(&place.resolve(role)?)?;
                    for member in members {
                        let member = self.role(&place.resolve(member)?)?;
                        self.memberships.insert((member.clone(), role.clone()));
                        self.model.grant(&role, &member, Some(self.branch.clone()));
                    }
                }
                Ok(())
            }
            Statement::Permit(privileges) => self.permit(place, privileges),
            _ => Ok(()),
        }
    }

    fn permit(&mut self, place: &Place, permit: &Permission) -> Result<(), Refused> {
        for role in &permit.roles {
            let role = self.role(&place.resolve(role)?)?;
            for resource in &permit.resources {
                let id = place.resolve(resource)?;
                let resource = self.model.resources.get_mut(&id).ok_or_else(|| missing(&id))?;
                for privilege in &permit.granted {
                    self.permissions.insert((id.clone(), role.clone(), privilege.clone()));
                    let granted = (role.clone(), privilege.clone());
                    resource.permissions.entry(granted).or_insert_with(|| Some(self.branch.clone()));
                }
            }
        }
        Ok(())
    }

    /// `!delete`, `!revoke` and `!deny`; what is not there needs no removing (recording 77), and what another
    /// branch granted stays (recordings 98 and 382).
    fn remove(&mut self, place: &Place, statement: &Statement) -> Result<(), Refused> {
        match statement {
            Statement::Delete(records) => {
                for record in records {
                    self.model.delete(&place.resolve(record)?);
                }
            }
            Statement::Revoke { roles, members } => {
                for role in roles {
                    let role = place.resolve(role)?;
                    for member in members {
                        let edge = (place.resolve(member)?, role.clone());
                        let granted = self.model.memberships.get(&edge);
                        if granted.is_some_and(|granted| granted.policy.as_deref() == Some(&self.branch)) {
                            self.model.memberships.remove(&edge);
                        }
                    }
                }
            }
            Statement::Deny(deny) => self.deny(place, deny)?,
            Statement::Record(_) | Statement::Grant { .. } | Statement::Permit(_) => {}
        }
        Ok(())
    }

    fn deny(&mut self, place: &Place, deny: &Permission) -> Result<(), Refused> {
        for resource in &deny.resources {
            let Some(resource) = self.model.resources.get_mut(&place.resolve(resource)?) else { continue };
            for role in &deny.roles {
                let role = place.resolve(role)?;
                for privilege in &deny.granted {
                    let granted = (role.clone(), privilege.clone());
                    if resource.permissions.get(&granted) == Some(&Some(self.branch.clone())) {
                        resource.permissions.remove(&granted);
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes what earlier loads of this branch made and this document does not speak of.
    fn drop_the_rest(&mut self) {
        let branch = Some(self.branch.as_str());
        let resources = &self.model.resources;
        let gone: Vec<String> = resources
            .iter()
            .filter(|(id, resource)| resource.policy.as_deref() == branch && !self.records.contains(*id))
            .map(|(id, _)| id.clone())
            .collect();
        let memberships = &self.memberships;
        self.model
            .memberships
            .retain(|edge, membership| membership.policy.as_deref() != branch || memberships.contains(edge));
        for (id, resource) in &mut self.model.resources {
            resource.permissions.retain(|(role, privilege), policy| {
                let stated = (id.clone(), role.clone(), privilege.clone());
                policy.as_deref() != branch || self.permissions.contains(&stated)
            });
            resource.annotations.retain(|name, annotation| {
                let stated = (id.clone(), name.clone());
                annotation.policy.as_deref() != branch || self.annotations.contains(&stated)
            });
        }
        for id in &gone {
            self.model.delete(id);
        }
    }

    fn role(&self, id: &str) -> Result<String, Refused> {
        if self.model.roles.contains_key(id) { Ok(id.to_owned()) } else { Err(missing(id)) }
    }
}

fn missing(id: &str) -> Refused {
    Refused::invalid(crate::http::reply::not_found_message(id))
}

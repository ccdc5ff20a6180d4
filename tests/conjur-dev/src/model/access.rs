//! Who may do and see what.

use std::collections::BTreeSet;

use super::{Model, Resource};

impl Model {
    /// The role itself and every role it holds, directly or through others.
    pub(crate) fn all_roles(&self, role: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::from([role.to_owned()]);
        let mut next = vec![role.to_owned()];
        while let Some(member) = next.pop() {
            for role in self.held_by(&member) {
                if seen.insert(role.to_owned()) {
                    next.push(role.to_owned());
                }
            }
        }
        seen
    }

    /// The roles that `member` holds directly.
    pub(crate) fn held_by<'a>(&'a self, member: &'a str) -> impl Iterator<Item = &'a str> {
        self.memberships
            .range((member.to_owned(), String::new())..)
            .take_while(move |((of, _), _)| of == member)
            .map(|((_, role), _)| role.as_str())
    }

    /// Whether `role` may use `privilege` on the resource: its owners may do everything.
    pub(crate) fn permitted(&self, role: &str, privilege: &str, id: &str) -> bool {
        self.resources.get(id).is_some_and(|resource| resource.permits(&self.all_roles(role), privilege))
    }

    /// The resource, if `role` may see it: it owns it or holds any privilege on it.
    pub(crate) fn visible<'a>(&'a self, role: &str, id: &str) -> Option<&'a Resource> {
        let resource = self.resources.get(id)?;
        resource.visible_to(&self.all_roles(role)).then_some(resource)
    }

    pub(crate) fn owns(&self, role: &str, id: &str) -> bool {
        self.resources.get(id).is_some_and(|resource| self.all_roles(role).contains(&resource.owner))
    }
}

impl Resource {
    pub(crate) fn permits(&self, roles: &BTreeSet<String>, privilege: &str) -> bool {
        roles.contains(&self.owner)
            || self.permissions.keys().any(|(role, granted)| granted == privilege && roles.contains(role))
    }

    pub(crate) fn visible_to(&self, roles: &BTreeSet<String>) -> bool {
        roles.contains(&self.owner) || self.permissions.keys().any(|(role, _)| roles.contains(role))
    }
}

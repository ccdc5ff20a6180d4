//! Users: `joe@app-nested` is `joe` in the policy `app/nested`, or in `app-nested`.

use super::{Scope, slashes};
use crate::model::{identifier_of, kind_of};

impl Scope<'_> {
    /// Whether the user is one of the branch's.
    pub(super) fn has_user(&self, identifier: &str) -> bool {
        if self.branch.is_empty() {
            return true;
        }
        let dashed = self.branch.replace('/', "-");
        identifier.match_indices('@').any(|(at, _)| {
            let path = identifier[at + 1..].strip_prefix(&dashed);
            path.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    }

    /// The identifier, and of a user its path.
    pub(super) fn path_of(&self, id: &str) -> String {
        if kind_of(id) == "user" { self.user_path(id) } else { identifier_of(id).to_owned() }
    }

    /// By its owner, if that is a policy of such a name, else by the first policy of such a name.
    pub(super) fn user_path(&self, id: &str) -> String {
        let Some((name, dashed)) = identifier_of(id).split_once('@') else {
            return identifier_of(id).to_owned();
        };
        let is_named =
            |policy: &str| kind_of(policy) == "policy" && identifier_of(policy).replace('/', "-") == dashed;
        let owner = self.model.resources.get(id).map(|user| user.owner.as_str());
        let policies = self.model.resources.keys().map(String::as_str);
        let mut named = owner.into_iter().filter(|owner| is_named(owner)).chain(
            policies.filter(|policy| is_named(policy) && slashes(identifier_of(policy)) <= self.depth),
        );
        match named.next() {
            Some(policy) => format!("{}/{name}", identifier_of(policy)),
            None => name.to_owned(),
        }
    }
}

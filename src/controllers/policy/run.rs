//! One load: what it works with, and what becomes known of roles in it.

use std::collections::BTreeSet;

use super::{
    branch_locks::Loader,
    document::Content,
    keys::KeySecret,
    seen::{Seen, failed},
};
use crate::{
    api::policy::LoadMode,
    conjur::{self, Error, PolicyBranch, RoleId},
    controllers::{Context, connection::pool::ReadyConnection},
    plan::{Failure, policy::branch_claims::Place},
};

/// The mode of a spec, as the client has it.
impl From<LoadMode> for conjur::LoadMode {
    fn from(mode: LoadMode) -> Self {
        match mode {
            LoadMode::Append => Self::Append,
            LoadMode::Update => Self::Update,
            LoadMode::Replace => Self::Replace,
        }
    }
}

/// What became known of roles during one load.
#[derive(Default)]
pub struct Roles {
    /// Made by the operator, their keys stored.
    pub created: BTreeSet<String>,
    /// Made by the operator, as the answer of this load says.
    pub answered: BTreeSet<String>,
    /// Announced at some time: what of them has no key in the end was not made by the operator.
    pub announced: BTreeSet<String>,
    /// Announced, there, and perhaps the operator's: no one can tell any more.
    pub unclear: BTreeSet<String>,
    /// The operator's, and taken out of Conjur by this load.
    pub gone: BTreeSet<String>,
}

impl Roles {
    /// Those of `known` that this policy made, so that their keys must be there.
    pub fn of_ours(&self, mut known: BTreeSet<String>, kept: &KeySecret) -> BTreeSet<String> {
        known.retain(|role| {
            !self.gone.contains(role)
                && (kept.has_key(role) || !self.announced.contains(role) || self.unclear.contains(role))
        });
        known
    }
}

/// What one load works with.
pub struct Run<'a> {
    pub seen: &'a Seen<'a>,
    pub content: &'a Content,
    pub through: &'a ReadyConnection,
    pub ctx: &'a Context,
}

impl Run<'_> {
    /// Takes note of a connection that fails, and makes an error of Conjur a failure.
    pub fn failed(&self, error: Error) -> Failure {
        failed(error, self.through, self.ctx)
    }

    /// A branch, as the operator loads it.
    pub fn loader(&self, branch: &PolicyBranch) -> Loader {
        let settings = &self.seen.named.facts.settings;
        Loader {
            place: Place::new(&settings.url, &settings.account, branch.as_str()),
            identity: self.through.identity.to_string(),
        }
    }

    pub fn our_role(&self) -> String {
        let role = RoleId::from_login(&self.through.account, &self.through.identity);
        role.map(|r| r.to_string()).unwrap_or_default()
    }
}

/// As the status names roles: not at all where there are none.
pub fn some_roles(roles: &BTreeSet<String>) -> Option<Vec<String>> {
    (!roles.is_empty()).then(|| roles.iter().cloned().collect())
}

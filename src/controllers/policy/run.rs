//! One load: what it works with, and what becomes known of roles in it.

use std::collections::BTreeSet;

use super::{document::Content, seen::ObservedPolicy};
use crate::{
    api::policy::LoadMode,
    conjur::{self, Error, PolicyBranch},
    controllers::{Context, connection::pool::ReadyConnection},
    effect::branch_locks::Loader,
    plan::{Failure, policy::branch_claims::BranchPlace},
};

/// The mode of a spec, as the client has it.
pub fn for_client(mode: LoadMode) -> conjur::LoadMode {
    match mode {
        LoadMode::Append => conjur::LoadMode::Append,
        LoadMode::Update => conjur::LoadMode::Update,
        LoadMode::Replace => conjur::LoadMode::Replace,
    }
}

/// What one load works with.
pub struct Run<'a> {
    pub seen: &'a ObservedPolicy<'a>,
    pub content: &'a Content,
    pub through: &'a ReadyConnection,
    pub ctx: &'a Context,
}

impl Run<'_> {
    /// Takes note of a connection that fails, and makes an error of Conjur a failure.
    pub fn failed(&self, error: Error) -> Failure {
        self.ctx.clients.failure(self.through, error)
    }

    /// A branch, as the operator loads it.
    pub fn loader(&self, branch: &PolicyBranch) -> Loader {
        let settings = &self.seen.named.facts.settings;
        Loader {
            place: BranchPlace::new(&settings.url, &settings.account, branch.as_str()),
            identity: self.through.identity.to_string(),
        }
    }
}

/// As the status names roles: not at all where there are none.
pub fn some_roles(roles: &BTreeSet<String>) -> Option<Vec<String>> {
    (!roles.is_empty()).then(|| roles.iter().cloned().collect())
}

//! What Conjur's refusals mean for a policy, and what to do about them.

use super::load::Run;
use crate::{
    api::{Reason, policy::LoadMode},
    conjur::{Error, PolicyBranch},
    controllers::failure::LOOK_AGAIN,
    plan::{Failure, document::Document},
};

impl Run<'_> {
    /// A load that certainly did not happen.
    pub fn refused(&self, error: Error) -> Failure {
        let (branch, identity) = (&self.seen.branch, &self.through.identity);
        let privilege = if self.seen.object.mode() == LoadMode::Append { "create" } else { "update" };
        match error {
            Error::NotFound { .. } => branch_not_found(branch, identity),
            Error::Forbidden { message } => Failure::stalled(
                Reason::PolicyForbidden,
                format!(
                    "{message}. Let somebody who owns the branch load: - !permit {{role: {}, privileges: [{privilege}], \
                     resource: !policy /{branch}}}",
                    role(identity)
                ),
            ),
            Error::Invalid { message, line: Some(line), column, .. } => Failure::stalled(
                Reason::PolicyInvalid,
                format!(
                    "Conjur refuses the document: line {line}, column {}: {message}",
                    column.unwrap_or(1)
                ),
            ),
            Error::Invalid { message, .. } => {
                Failure::stalled(Reason::PolicyInvalid, format!("Conjur refuses the document: {message}"))
            }
            error => self.failed(error),
        }
    }
}

pub fn branch_not_found(branch: &PolicyBranch, identity: &str) -> Failure {
    let message = format!(
        "policy branch {branch} does not exist, or is not visible to {identity}: load the policy that makes it, or permit \
         {identity} to use it"
    );
    Failure::waiting(Reason::BranchNotFound, LOOK_AGAIN / 10, message)
}

pub fn not_owner(document: &Document, branch: &PolicyBranch, identity: &str, account: &str) -> Failure {
    let (parent, name) = branch.as_str().rsplit_once('/').unwrap_or(("root", branch.as_str()));
    let first = document.roles.first().map_or_else(String::new, |first| {
        let id = first.id.strip_prefix(&format!("{account}:")).unwrap_or(&first.id);
        format!(", line {}, makes {}", first.line, id.replacen(':', " ", 1))
    });
    let message = format!(
        "spec.document{first}, and {identity} does not own branch {branch}: it could never see hosts and users there or \
         recover their keys. Let somebody load this into branch {parent}: - !policy {{id: {name}, owner: {}}}; or grant \
         {identity} the role that owns the branch",
        role(identity)
    );
    Failure::stalled(Reason::NotBranchOwner, message)
}

/// A login as a policy names its role.
fn role(login: &str) -> String {
    match login.split_once('/') {
        Some((kind, id)) => format!("!{kind} /{id}"),
        None => format!("!user /{login}"),
    }
}

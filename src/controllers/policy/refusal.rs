//! What Conjur's refusals mean for a policy, and what to do about them.

use super::{document::Content, load::Run};
use crate::{
    api::{Reason, policy::LoadMode},
    conjur::{Error, PolicyBranch},
    controllers::failure::LOOK_AGAIN,
    plan::Failure,
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
            Error::Invalid { message, line, column, .. } => self.invalid(line, column, &message),
            error => self.failed(error),
        }
    }
}

impl Run<'_> {
    /// A document that Conjur does not take.
    pub fn invalid(&self, line: Option<u32>, column: Option<u32>, message: &str) -> Failure {
        let text = &self.content.text;
        let place = line.map(|line| text.place(line, Some(column.unwrap_or(1).max(1))) + ": ").unwrap_or_default();
        // Conjur quotes what it does not understand.
        let words = if text.is_secret() {
            "its words may quote the document, which lies in a Secret, and are left out"
        } else {
            message
        };
        Failure::stalled(Reason::PolicyInvalid, format!("Conjur refuses the document: {place}{words}"))
    }
}

pub fn branch_not_found(branch: &PolicyBranch, identity: &str) -> Failure {
    let message = format!(
        "policy branch {branch} does not exist, or is not visible to {identity}: load the policy that makes it, or permit \
         {identity} to use it"
    );
    Failure::waiting(Reason::BranchNotFound, LOOK_AGAIN / 10, message)
}

pub fn not_owner(content: &Content, branch: &PolicyBranch, identity: &str, account: &str) -> Failure {
    let (parent, name) = branch.as_str().rsplit_once('/').unwrap_or(("root", branch.as_str()));
    let first = content.document.roles.first().map_or_else(String::new, |first| {
        let id = first.id.strip_prefix(&format!("{account}:")).unwrap_or(&first.id);
        format!("{} makes {}, and ", content.text.at(first.line, None), id.replacen(':', " ", 1))
    });
    let message = format!(
        "{first}{identity} does not own branch {branch}: it could never see hosts and users there or \
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

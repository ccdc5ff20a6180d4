//! What Conjur's refusals mean for a policy, and what to do about them.

use super::{document::Content, load::Run};
use crate::{
    api::{Reason, policy::LoadMode},
    conjur::{Check, Error, PolicyBranch},
    controllers::failure::LOOK_AGAIN,
    plan::{Class, Failure},
};

impl Run<'_> {
    /// A load that certainly did not happen.
    pub async fn refused(&self, error: Error) -> Failure {
        let (branch, identity) = (&self.seen.branch, &self.through.identity);
        match error {
            Error::NotFound { .. } => branch_not_found(branch, identity),
            Error::Forbidden { message } => self.forbidden(message).await,
            Error::Invalid { message, line, column, .. } => self.invalid(line, column, &message),
            error @ Error::Conflict { .. } => {
                let failure = self.failed(error);
                if let Class::Waiting(pause) = failure.class {
                    self.ctx.branches.pause_for(&self.seen.server, branch.as_str(), pause, &failure.message);
                }
                failure
            }
            error => self.failed(error),
        }
    }

    /// Which privilege the identity lacks, by asking Conjur for each, and what gives it.
    async fn forbidden(&self, message: String) -> Failure {
        let (branch, identity) = (&self.seen.branch, &self.through.identity);
        let (mode, needed) = match self.seen.object.mode() {
            LoadMode::Append => ("Append", "create"),
            LoadMode::Update => ("Update", "update"),
            LoadMode::Replace => ("Replace", "update"),
        };
        let (mut has, mut lacks) = (Vec::new(), false);
        for privilege in ["read", "create", "update"] {
            match self.through.client.check_permission("policy", branch.as_str(), privilege, None).await {
                Ok(Check::Granted) => has.push(privilege),
                Ok(Check::Denied | Check::NoResource) => lacks |= privilege == needed,
                // What can't be asked is not claimed.
                Err(error) => tracing::debug!("cannot ask for {privilege} on {branch}: {error}"),
            }
        }
        let may = has.contains(&needed);
        let has = if has.is_empty() { "nothing".to_owned() } else { has.join(" and ") };
        let message = if lacks {
            let (parent, name) = parent_and_name(branch);
            format!(
                "{identity} lacks {needed} on policy {branch}, which mode {mode} needs (it has {has}). Let somebody who may \
                 load branch {parent} load this there: - !permit {{role: {}, privileges: [{needed}], resource: !policy {name}}}",
                role(identity)
            )
        } else if may {
            format!(
                "Conjur forbids to load the document into branch {branch}, though {identity} has {has} on policy {branch}: the \
                 document itself asks for more than it may. Look for statements about records outside of branch {branch}"
            )
        } else {
            message
        };
        Failure::stalled(Reason::PolicyForbidden, message)
    }
}

/// The branch that a branch was made in, and its name there.
fn parent_and_name(branch: &PolicyBranch) -> (&str, &str) {
    branch.as_str().rsplit_once('/').unwrap_or(("root", branch.as_str()))
}

impl Run<'_> {
    /// A document that Conjur does not take.
    pub fn invalid(&self, line: Option<u32>, column: Option<u32>, message: &str) -> Failure {
        let text = &self.content.text;
        let place =
            line.map(|line| text.place(line, Some(column.unwrap_or(1).max(1))) + ": ").unwrap_or_default();
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
    let (parent, name) = parent_and_name(branch);
    let first = content.document.roles.first().map_or_else(String::new, |first| {
        let id = first.id.strip_prefix(&format!("{account}:")).unwrap_or(&first.id);
        format!("{} makes {}, and ", content.text.at(first.line, None), id.replacen(':', " ", 1))
    });
    let message = format!(
        "{first}{identity} does not own branch {branch}: it could never see hosts and users there or \
         recover their keys. Let somebody load this into branch {parent} in mode Update (PATCH): - !policy {{id: {name}, owner: {}}}; or grant \
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

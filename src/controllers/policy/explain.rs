//! What Conjur's refusals mean for a policy, and what to do about them.

use super::{document::Content, retry, run::Run, seen::Refused};
use crate::{
    api::{
        Reason,
        policy::{LoadMode, MendedBy},
    },
    conjur::{Error, Ownership, PolicyBranch},
    limits::BRANCH_AGAIN,
    plan::{Class, Failure, policy::refusal::mended_by},
    runtime::Key,
};

impl Run<'_> {
    /// A load that certainly did not happen.
    pub async fn refused(&self, error: Error) -> Failure {
        let branch = &self.seen.branch;
        match error {
            Error::NotFound { message, .. } => match self.what_it_has(branch).await {
                // The branch is there: the document refers to something that is not.
                Some(has) if !has.is_empty() => self.invalid("not_found", (None, None), None, &message),
                _ => self.no_branch(branch),
            },
            Error::Forbidden { message } => self.forbidden(message).await,
            Error::Invalid { code, message, line, column, missing } => {
                self.invalid(&code, (line, column), missing, &message)
            }
            error @ Error::Conflict { .. } => {
                let failure = self.failed(error);
                if let Class::Waiting(pause) = failure.class {
                    self.ctx.branches.pause_for(&self.loader(branch), pause, &failure.message);
                }
                failure
            }
            error => self.failed(error),
        }
    }

    /// What the identity is to a branch; none where that can't be asked now.
    pub async fn what_it_has(&self, branch: &PolicyBranch) -> Option<Vec<String>> {
        let has = retry::what_it_has(branch, self.through, self.ctx).await;
        has.inspect_err(|error| tracing::debug!("cannot ask for privileges on {branch}: {error}")).ok()
    }

    /// Takes note that the identity is not to the branch what it should be.
    pub fn lacks(&self, branch: &PolicyBranch, has: Option<Vec<String>>) {
        // Of another branch, which an announcement names, the next look is a whole one.
        if *branch == self.seen.branch {
            self.note(MendedBy::Privilege, None, has);
        }
    }

    /// Who does not own a branch sees none of its roles, and can't recover their keys.
    ///
    /// # Errors
    /// `BranchNotFound`, `NotBranchOwner`; Conjur's.
    pub async fn require_ownership(&self, branch: &PolicyBranch) -> Result<(), Failure> {
        match self.through.client.owns_branch(branch).await.map_err(|e| self.failed(e))? {
            Ownership::Owner => Ok(()),
            is => Err(self.not_owned(branch, is).await),
        }
    }

    /// Why it matters that the identity does not own a branch.
    pub async fn not_owned(&self, branch: &PolicyBranch, is: Ownership) -> Failure {
        if is == Ownership::NoBranch {
            return self.no_branch(branch);
        }
        self.lacks(branch, self.what_it_has(branch).await);
        not_owner(self.content, branch, &self.through.identity, &self.through.account)
    }

    fn note(&self, mended_by: MendedBy, record: Option<String>, has: Option<Vec<String>>) {
        let secret = self.content.text.is_secret();
        self.seen.note_refused(Refused { mended_by, record, has, secret });
    }

    /// The branch is not there, or not to be seen.
    pub fn no_branch(&self, branch: &PolicyBranch) -> Failure {
        self.lacks(branch, Some(Vec::new()));
        let identity = &self.through.identity;
        let message = format!(
            "policy branch {branch} does not exist, or is not visible to {identity}: load the policy that makes it, or permit \
             {identity} to use it"
        );
        Failure::waiting(Reason::BranchNotFound, BRANCH_AGAIN, message)
    }

    /// Which privilege the identity lacks, by asking Conjur for each, and what gives it.
    async fn forbidden(&self, message: String) -> Failure {
        let (branch, identity) = (&self.seen.branch, &self.through.identity);
        let mode = self.seen.object.mode();
        let needed = if mode == LoadMode::Append { "create" } else { "update" };
        let mode = mode.as_str();
        let known = self.what_it_has(branch).await;
        self.lacks(branch, known.clone());
        let Some(known) = known else { return Failure::stalled(Reason::PolicyForbidden, message) };
        let has: Vec<&str> = known
            .iter()
            .map(String::as_str)
            .filter(|has| ["read", "create", "update"].contains(has))
            .collect();
        let may = has.contains(&needed);
        let has = if has.is_empty() { "nothing".to_owned() } else { has.join(" and ") };
        let message = if may {
            format!(
                "Conjur forbids to load the document into branch {branch}, though {identity} has {has} on policy {branch}: the \
                 document itself asks for more than it may. Look for statements about records outside of branch {branch}"
            )
        } else {
            let (parent, name) = parent_and_name(branch);
            format!(
                "{identity} lacks {needed} on policy {branch}, which mode {mode} needs (it has {has}). Let an identity that may load branch {parent} load this there: - !permit {{role: {}, privileges: [{needed}], resource: !policy {name}}}",
                role(identity)
            )
        };
        Failure::stalled(Reason::PolicyForbidden, message)
    }

    /// A document that Conjur does not take: its word for that, the place, the record that it lacks, and what it says.
    pub fn invalid(
        &self,
        code: &str,
        (line, column): (Option<u32>, Option<u32>),
        missing: Option<String>,
        message: &str,
    ) -> Failure {
        let mended_by = match code {
            "not_found" => MendedBy::Record,
            code => mended_by(code, line.is_some(), missing.is_some(), message.ends_with('…')),
        };
        self.note(mended_by, missing, None);
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

    /// The server failed at a document, and answers something else: at the second time it is the document's fault.
    pub fn server_failed(&self, error: Error) -> Failure {
        let seen = self.seen;
        let again = self.ctx.policy_notes.server_failed(&Key::of(seen.object), &seen.hash);
        // What is loaded was taken before: there the fault is the server's.
        if !again || seen.says_loaded() {
            return self.failed(error);
        }
        self.note(MendedBy::Time, None, None);
        let message = format!(
            "{} fails at the document ({}), and answers other requests: something in the document is more than it can do, such \
             as to make and to !delete one record at once. Change the document; it is sent again every 10 minutes",
            seen.named.facts.settings.url,
            error.status().map_or_else(|| "no answer".to_owned(), |status| format!("status {status}"))
        );
        Failure::stalled(Reason::PolicyInvalid, message)
    }
}

/// The branch that a branch was made in, and its name there.
fn parent_and_name(branch: &PolicyBranch) -> (&str, &str) {
    branch.as_str().rsplit_once('/').unwrap_or(("root", branch.as_str()))
}

fn not_owner(content: &Content, branch: &PolicyBranch, identity: &str, account: &str) -> Failure {
    let (parent, name) = parent_and_name(branch);
    let first = content.document.roles.first().map_or_else(String::new, |first| {
        let id = first.id.strip_prefix(&format!("{account}:")).unwrap_or(&first.id);
        format!("{} makes {}, and ", content.text.at(first.line, None), id.replacen(':', " ", 1))
    });
    let message = format!(
        "{first}{identity} does not own branch {branch}: it could never see hosts and users there or \
         recover their keys. With an identity that may, load this into branch {parent} in mode Update (PATCH): - !policy {{id: {name}, owner: {}}}; or grant \
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

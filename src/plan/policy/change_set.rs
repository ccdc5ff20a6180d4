//! What a load would change, for a person: counts and first ids; and whether it would delete what can't be had again.

use std::collections::BTreeSet;

use crate::api::{
    ALLOW_DELETIONS_ANNOTATION, Reason,
    policy::{PlannedItems, PolicyPlan},
};
use crate::plan::Failure;

/// So many ids stand in the status.
const IDS_IN_STATUS: usize = 20;
/// So many stand in a message.
const IDS_IN_MESSAGE: usize = 5;
/// What a server writes in place of an id that the caller does not see (recordings 722 and 723).
const REDACTED: &str = "[REDACTED]";

/// What a load would do, by full ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// What it would make.
    pub created: Vec<String>,
    /// What it would change.
    pub updated: Vec<String>,
    /// What it would remove.
    pub deleted: Vec<String>,
}

impl ChangeSet {
    /// Whether Conjur holds what the document says.
    pub fn is_empty(&self) -> bool {
        self.created.is_empty() && self.updated.is_empty() && self.deleted.is_empty()
    }

    /// How many ids the server keeps to itself.
    pub fn hidden(&self) -> usize {
        let all = self.created.iter().chain(&self.updated).chain(&self.deleted);
        all.filter(|id| is_hidden(id)).count()
    }

    /// Whether the server keeps to itself what it would remove.
    pub fn hides_deletions(&self) -> bool {
        self.deleted.iter().any(|id| is_hidden(id))
    }

    /// As the status says it.
    pub fn to_status(&self) -> PolicyPlan {
        let items = |ids: &[String]| PlannedItems {
            count: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            ids: ids.iter().filter(|id| !is_hidden(id)).take(IDS_IN_STATUS).cloned().collect(),
        };
        PolicyPlan {
            created: items(&self.created),
            updated: items(&self.updated),
            deleted: items(&self.deleted),
        }
    }

    /// `create 2 (…), update 1 (…), delete none`, with the first ids of each.
    pub fn in_words(&self) -> String {
        format!(
            "create {}, update {}, delete {}",
            some(&self.created),
            some(&self.updated),
            some(&self.deleted)
        )
    }
}

fn is_hidden(id: &str) -> bool {
    id.ends_with(REDACTED)
}

fn some(ids: &[String]) -> String {
    match ids.len() {
        0 => "none".to_owned(),
        count => {
            let named = named(ids.iter().filter(|id| !is_hidden(id)));
            if named.is_empty() { count.to_string() } else { format!("{count} ({named})") }
        }
    }
}

/// The first ids, and that there are more.
fn named<'a>(ids: impl Iterator<Item = &'a String>) -> String {
    let mut first: Vec<&str> = ids.take(IDS_IN_MESSAGE + 1).map(String::as_str).collect();
    if first.len() > IDS_IN_MESSAGE {
        first.truncate(IDS_IN_MESSAGE);
        first.push("…");
    }
    first.join(", ")
}

/// What a message says of ids that are not shown; empty where all are.
pub fn hidden_note(difference: &ChangeSet, identity: &str, branch: &str) -> String {
    match difference.hidden() {
        0 => String::new(),
        hidden => format!(
            ". {hidden} of the ids are not shown, since {identity} does not own branch {branch}: grant it the role that owns the \
             branch to see them"
        ),
    }
}

/// What a message about a dry run says of the load: why it would be refused, or what it may delete.
pub fn load_notes(refusals: &[Failure], deletions_are_allowed: bool) -> String {
    let note = |refusal: &Failure| {
        let (reason, message) = (refusal.reason.as_str(), &refusal.message);
        if refusal.reason == Reason::DeletionsNotAllowed && deletions_are_allowed {
            format!(
                ". The annotation {ALLOW_DELETIONS_ANNOTATION} allows this, which would else be refused: {message}"
            )
        } else {
            format!(". The load would be refused ({reason}): {message}")
        }
    };
    refusals.iter().map(note).collect()
}

/// What a load would delete and no one could bring back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Variables that hold a value.
    pub variables: BTreeSet<String>,
    /// Hosts and users: their API keys die with them.
    pub roles: BTreeSet<String>,
    /// What another object keeps, by its owner annotation in Conjur: no permission reaches it.
    pub kept: BTreeSet<String>,
}

impl Losses {
    /// Whether nothing is lost for good.
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.roles.is_empty() && self.kept.is_empty()
    }
}

/// What is known of what a Replace would delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletions {
    /// This of it can't be had again; `hidden` where the server keeps some of it to itself.
    Seen {
        /// What is lost for good.
        losses: Losses,
        /// There is more, which is not shown.
        hidden: bool,
    },
    /// No one tells.
    Unseen {
        /// Nothing was ever loaded into the branch, so that there is nothing to delete.
        never_loaded: bool,
    },
}

impl Deletions {
    /// Whether the annotation can permit it.
    pub fn may_be_allowed(&self) -> bool {
        !matches!(self, Self::Seen { losses, .. } if !losses.kept.is_empty())
    }

    /// Whether all of it is known.
    pub fn are_seen(&self) -> bool {
        matches!(self, Self::Seen { hidden: false, .. } | Self::Unseen { never_loaded: true })
    }

    /// Why it needs the user's word; none where nothing is lost.
    pub fn refusal(&self, branch: &str, identity: &str, me: NamedObject) -> Option<Failure> {
        match self {
            Self::Seen { losses, .. } if !losses.kept.is_empty() => Some(refusal_of_kept(losses, branch)),
            Self::Seen { losses, .. } if !losses.is_empty() => Some(refusal(losses, branch, me)),
            Self::Seen { hidden: false, .. } | Self::Unseen { never_loaded: true } => None,
            Self::Seen { hidden: true, .. } | Self::Unseen { never_loaded: false } => {
                Some(refusal_unseen(branch, identity, me))
            }
        }
    }
}

/// Whether the annotation `allow-deletions` permits the deletions of this very document.
pub fn is_allowed(annotation: Option<&str>, hash: &str) -> bool {
    annotation.is_some_and(|allowed| allowed.trim() == hash)
}

/// Which object a command is for.
#[derive(Clone, Copy, Debug)]
pub struct NamedObject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Hex SHA-256 of its document.
    pub hash: &'a str,
}

impl NamedObject<'_> {
    fn command(&self) -> String {
        format!(
            "kubectl annotate --overwrite -n {} conjurpolicy {} {ALLOW_DELETIONS_ANNOTATION}={}",
            self.namespace, self.name, self.hash
        )
    }
}

/// Refuses a load that would delete for good, until the user allows just that document's deletions.
fn refusal(losses: &Losses, branch: &str, named_object: NamedObject) -> Failure {
    let variables = (!losses.variables.is_empty()).then(|| {
        format!(
            "{} that hold values ({})",
            count(&losses.variables, "variable"),
            named(losses.variables.iter())
        )
    });
    let roles = (!losses.roles.is_empty())
        .then(|| format!("{} ({})", count(&losses.roles, "host or user"), named(losses.roles.iter())));
    let what: Vec<String> = variables.into_iter().chain(roles).collect();
    let message = format!(
        "to Replace branch {branch} by this document would delete {}: their values and API keys would be gone for good. Put them \
         into the document, or allow it for this document: {}",
        what.join(" and "),
        named_object.command()
    );
    Failure::stalled(Reason::DeletionsNotAllowed, message)
}

/// Refuses a Replace that would delete what another object keeps.
fn refusal_of_kept(losses: &Losses, branch: &str) -> Failure {
    let message = format!(
        "to Replace branch {branch} by this document would delete {} that other objects of the operator keep ({}), which nothing permits. Use mode Update, or let those objects use a branch below {branch}",
        count(&losses.kept, "record"),
        named(losses.kept.iter())
    );
    Failure::stalled(Reason::DeletionsNotAllowed, message)
}

/// Refuses a Replace of which no one can tell what it would delete.
fn refusal_unseen(branch: &str, identity: &str, named_object: NamedObject) -> Failure {
    let message = format!(
        "what it would delete to Replace branch {branch} can't be told, for {identity} does not own the branch, and Conjur shows it \
         only to owners. Grant {identity} the role that owns the branch, use mode Update, or allow any deletion of this document: \
         {}",
        named_object.command()
    );
    Failure::stalled(Reason::DeletionsNotAllowed, message)
}

fn count(ids: &BTreeSet<String>, what: &str) -> String {
    let count = ids.len();
    match what {
        "host or user" if count > 1 => format!("{count} hosts and users"),
        _ if count > 1 => format!("{count} {what}s"),
        _ => format!("{count} {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(kind: &str, count: usize) -> Vec<String> {
        (0..count).map(|n| format!("demo:{kind}:app/{n:02}")).collect()
    }

    const ME: NamedObject = NamedObject { namespace: "billing", name: "p", hash: "abc" };

    #[test]
    fn the_status_has_counts_and_the_first_twenty_ids_that_are_shown() {
        let mut created = ids("variable", 30);
        created.insert(0, "demo:host:[REDACTED]".into());
        let difference = ChangeSet { created, deleted: ids("group", 1), ..ChangeSet::default() };
        let plan = difference.to_status();
        assert_eq!((plan.created.count, plan.updated.count, plan.deleted.count), (31, 0, 1));
        assert_eq!(plan.created.ids, ids("variable", 20));
        assert_eq!(plan.deleted.ids, ids("group", 1));
        assert_eq!(difference.hidden(), 1);
        assert!(hidden_note(&difference, "host/x", "app").contains("1 of the ids"));
        assert_eq!(hidden_note(&ChangeSet::default(), "host/x", "app"), "");
    }

    #[test]
    fn a_dry_run_says_what_a_load_would_be_refused_for() {
        let unseen = Deletions::Unseen { never_loaded: false }.refusal("app", "host/x", ME).unwrap();
        let taken = Failure::stalled(Reason::BranchTaken, "it is taken");
        let said = load_notes(&[taken, unseen.clone()], false);
        assert!(
            said.starts_with(". The load would be refused (BranchTaken): it is taken. The load"),
            "{said}"
        );
        assert!(said.contains("(DeletionsNotAllowed): what it would delete"), "{said}");
        let said = load_notes(&[unseen], true);
        assert!(said.contains("allows this") && !said.contains("load would be refused"), "{said}");
        assert_eq!(load_notes(&[], true), "");
    }

    #[test]
    fn in_words_it_names_the_first_five() {
        let difference = ChangeSet { created: ids("host", 7), updated: ids("policy", 1), deleted: vec![] };
        assert_eq!(
            difference.in_words(),
            "create 7 (demo:host:app/00, demo:host:app/01, demo:host:app/02, demo:host:app/03, demo:host:app/04, …), update 1 \
             (demo:policy:app/00), delete none"
        );
        let hidden = ChangeSet { created: vec!["demo:host:[REDACTED]".into()], ..ChangeSet::default() };
        assert_eq!(hidden.in_words(), "create 1, update none, delete none");
        assert!(!hidden.is_empty() && ChangeSet::default().is_empty());
    }

    #[test]
    fn only_the_hash_of_this_document_allows_its_deletions() {
        for (annotation, allowed) in [
            (None, false),
            (Some(""), false),
            (Some("true"), false),
            (Some("ab"), false),
            (Some(" abc\n"), true),
        ] {
            assert_eq!(is_allowed(annotation, "abc"), allowed, "{annotation:?}");
        }
    }

    #[test]
    fn a_refusal_names_what_would_be_lost_and_the_command_that_allows_it() {
        let set = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<_>>();
        for (variables, roles, says) in [
            (
                ids("variable", 2),
                vec![],
                "2 variables that hold values (demo:variable:app/00, demo:variable:app/01): ",
            ),
            (vec![], ids("host", 1), "delete 1 host or user (demo:host:app/00): "),
            (
                ids("variable", 1),
                ids("user", 2),
                "and 2 hosts and users (demo:user:app/00, demo:user:app/01): ",
            ),
        ] {
            let losses = Losses { variables: set(variables), roles: set(roles), ..Losses::default() };
            let failure = refusal(&losses, "app", ME);
            assert_eq!(failure.reason, Reason::DeletionsNotAllowed);
            assert!(failure.message.contains(says), "{failure}");
            assert!(
                failure
                    .message
                    .ends_with("kubectl annotate --overwrite -n billing conjurpolicy p conjur-operator.io/allow-deletions=abc"),
                "{failure}"
            );
        }
        assert!(Losses::default().is_empty());
        assert!(refusal_unseen("app", "host/x", ME).message.contains("host/x does not own the branch"));
    }

    #[test]
    fn what_another_object_keeps_is_never_allowed_to_go() {
        let kept: BTreeSet<_> = ids("variable", 1).into_iter().collect();
        let losses =
            Losses { kept, variables: ids("variable", 2).into_iter().collect(), ..Losses::default() };
        let deletions = Deletions::Seen { losses, hidden: false };
        assert!(!deletions.may_be_allowed() && Deletions::Unseen { never_loaded: true }.may_be_allowed());
        let refusal = deletions.refusal("app", "host/x", ME).unwrap();
        assert!(refusal.message.contains("(demo:variable:app/00)"), "{refusal}");
        assert!(!refusal.message.contains("kubectl annotate"), "{refusal}");
    }

    #[test]
    fn what_is_lost_and_what_nobody_tells_of_needs_a_word_and_an_empty_branch_does_not() {
        let lost = Losses { variables: ids("variable", 1).into_iter().collect(), ..Losses::default() };
        let none = Losses::default;
        for (deletions, says) in [
            (Deletions::Seen { losses: lost.clone(), hidden: false }, Some("demo:variable:app/00")),
            (Deletions::Seen { losses: lost, hidden: true }, Some("demo:variable:app/00")),
            (Deletions::Seen { losses: none(), hidden: true }, Some("can't be told")),
            (Deletions::Seen { losses: none(), hidden: false }, None),
            (Deletions::Unseen { never_loaded: false }, Some("can't be told")),
            (Deletions::Unseen { never_loaded: true }, None),
        ] {
            let refusal = deletions.refusal("app", "host/x", ME);
            assert_eq!(refusal.is_some(), says.is_some(), "{deletions:?}");
            let message = refusal.map(|f| f.message).unwrap_or_default();
            assert!(message.contains(says.unwrap_or_default()), "{message}");
        }
    }
}

//! The policy documents that make, change and remove a host.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::policy::statements::{StatementKind, Statements, path_in};

/// A document, and the branch that it is loaded into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDocument {
    /// The branch.
    pub branch: String,
    /// The text.
    pub text: String,
}

/// What of a host a document sets.
#[derive(Clone, Debug, Default)]
pub struct HostAttributes<'a> {
    /// Its annotations, the operator's own among them.
    pub annotations: BTreeMap<String, String>,
    /// The CIDRs that it may come from; none leaves them as they are.
    pub restricted_to: Option<&'a [String]>,
    /// Memberships to grant: `layer/<id>`.
    pub grants: BTreeSet<&'a str>,
    /// Memberships to revoke.
    pub revokes: BTreeSet<&'a str>,
}

/// The branch that an id lies in.
pub fn parent(id: &str) -> &str {
    id.rsplit_once('/').map_or("root", |(parent, _)| parent)
}

/// The branch that a membership is granted in, whose documents name what is granted below it (recordings 116, 675): that of
/// the host, where the role lies below it, else the one that the role lies in. None for what is no role.
pub fn branch_of_grant<'r>(role: &'r str, branch: &'r str) -> Option<&'r str> {
    let (_, id) = role_parts(role)?;
    Some(if path_in(id, branch).is_some() { branch } else { parent(id) })
}

/// Kind and id of a role: `layer/apps/web`, `group/apps/readers`.
pub fn role_parts(role: &str) -> Option<(StatementKind, &str)> {
    let (kind, id) = role.split_once('/')?;
    let kind =
        [StatementKind::Layer, StatementKind::Group].into_iter().find(|known| known.as_str() == kind)?;
    (!id.is_empty()).then_some((kind, id))
}

/// A host and nothing else. It names the object in a comment, so that its hash in the list of a branch's versions is the
/// object's own. None where the id does not lie below the branch.
pub fn bare(branch: &str, id: &str, uid: &str, account: &str) -> Option<String> {
    let mut all = Statements::new(branch, account);
    all.comment(&format!("made for the ConjurHost with the uid {uid}"));
    all.record(StatementKind::Host, path_in(id, branch)?, &BTreeMap::new(), None);
    all.document().ok().map(|(text, _)| text)
}

/// The documents that give a host its attributes: the first one is for its own branch. None where an id lies outside of its
/// branch.
pub fn attributes(
    branch: &str,
    id: &str,
    wanted: &HostAttributes<'_>,
    account: &str,
) -> Option<Vec<HostDocument>> {
    let path = path_in(id, branch)?;
    let mut own = Statements::new(branch, account);
    own.record(StatementKind::Host, path, &wanted.annotations, wanted.restricted_to);
    let mut others = BTreeMap::new();
    let grants = wanted.grants.iter().map(|role| (role, true));
    for (role, is_granted) in grants.chain(wanted.revokes.iter().map(|role| (role, false))) {
        let (kind, role_id) = role_parts(role)?;
        let at = branch_of_grant(role, branch)?;
        let named = path_in(role_id, at)?;
        // Another branch names it by its absolute id; the root policy takes no slash before one.
        let (all, member) = if at == branch {
            (&mut own, path.to_owned())
        } else {
            let slash = if at == "root" { "" } else { "/" };
            (others.entry(at).or_insert_with(|| Statements::new(at, account)), format!("{slash}{id}"))
        };
        if is_granted { all.grant(kind, named, &member) } else { all.revoke(kind, named, &member) }
    }
    let all = std::iter::once((branch, own)).chain(others);
    all.map(|(branch, statements)| {
        let (text, _) = statements.document().ok()?;
        Some(HostDocument { branch: branch.to_owned(), text })
    })
    .collect()
}

/// Removes a host from a branch that its id lies below.
pub fn removal(branch: &str, id: &str, account: &str) -> Option<String> {
    let mut all = Statements::new(branch, account);
    all.delete(StatementKind::Host, path_in(id, branch)?);
    all.document().ok().map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::policy::document;

    fn read(branch: &str, text: &str) -> (Vec<String>, usize) {
        let read = document::read(text, branch, "demo").unwrap_or_else(|e| panic!("{e:?}: {text}"));
        (read.records.iter().map(|record| record.id.clone()).collect(), read.statements)
    }

    #[test]
    fn a_bare_host_is_a_host_and_nothing_else() {
        for (branch, id) in
            [("apps/billing", "apps/billing/web"), ("apps", "apps/billing/web"), ("root", "web")]
        {
            let text = bare(branch, id, "u-1", "demo").unwrap();
            assert_eq!(read(branch, &text), (vec![format!("demo:host:{id}")], 1), "{text}");
            assert_ne!(bare(branch, id, "u-2", "demo").unwrap(), text, "another object's has another hash");
        }
        assert_eq!(bare("apps", "app/web", "u", "demo"), None);
    }

    #[test]
    fn memberships_are_granted_where_the_roles_lie() {
        let cidrs = ["10.0.0.0/8".to_owned()];
        let wanted = HostAttributes {
            annotations: BTreeMap::from([(
                "authn-jwt/dev/sub".to_owned(),
                "system:serviceaccount:a:b".to_owned(),
            )]),
            restricted_to: Some(&cidrs),
            grants: BTreeSet::from([
                "layer/apps/web/all",
                "group/conjur/authn-jwt/dev/apps",
                "group/everyone",
            ]),
            revokes: BTreeSet::from(["layer/apps/old"]),
        };
        let documents = attributes("apps", "apps/web/one", &wanted, "demo").unwrap();
        let texts: Vec<(&str, &str)> =
            documents.iter().map(|d| (d.branch.as_str(), d.text.as_str())).collect();
        assert_eq!(
            texts,
            [
                (
                    "apps",
                    "- !host\n  id: \"web/one\"\n  restricted_to: [\"10.0.0.0/8\"]\n  annotations:\n    \"authn-jwt/dev/sub\": \
                     \"system:serviceaccount:a:b\"\n- !grant\n  role: !layer \"web/all\"\n  member: !host \"web/one\"\n- !revoke\n  \
                     role: !layer \"old\"\n  member: !host \"web/one\"\n"
                ),
                (
                    "conjur/authn-jwt/dev",
                    "- !grant\n  role: !group \"apps\"\n  member: !host \"/apps/web/one\"\n"
                ),
                ("root", "- !grant\n  role: !group \"everyone\"\n  member: !host \"apps/web/one\"\n"),
            ]
        );
    }

    proptest! {
        #[test]
        fn no_text_of_a_spec_becomes_a_statement(
            name in "\\PC{1,12}|[\n\r\t:#!&*{}\"'\\-]{1,12}",
            value in "\\PC{0,20}|[\n\r\t:#!&*{}\"'\\-]{0,20}",
            cidr in "[0-9./\n\"]{1,12}",
        ) {
            let cidrs = [cidr];
            let wanted = HostAttributes {
                annotations: BTreeMap::from([(name, value)]),
                restricted_to: Some(&cidrs),
                ..HostAttributes::default()
            };
            let documents = attributes("apps", "apps/web", &wanted, "demo").unwrap();
            prop_assert_eq!(documents.len(), 1);
            let (records, statements) = read("apps", &documents[0].text);
            prop_assert_eq!((records, statements), (vec!["demo:host:apps/web".to_owned()], 1));
        }
    }
}

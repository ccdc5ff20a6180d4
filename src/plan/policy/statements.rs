//! Policy documents that the operator writes itself: of records, permits, grants and deletions, each text as a double-quoted
//! scalar, so that no id, annotation or name can become a statement. What was written is read again by the operator's own
//! reader ([`Statements::document`]): a document holds what was planned and nothing else.

use std::{collections::BTreeMap, fmt::Write};

use super::document::{self, Document};

/// A kind of record that the operator writes statements of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatementKind {
    /// A variable.
    Variable,
    /// A host.
    Host,
    /// A user.
    User,
    /// A layer.
    Layer,
    /// A group.
    Group,
}

impl StatementKind {
    /// Its tag, without the `!`, which is its kind in full ids, too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Variable => "variable",
            Self::Host => "host",
            Self::User => "user",
            Self::Layer => "layer",
            Self::Group => "group",
        }
    }
}

/// A record, by its kind and its id below the account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordName {
    /// Its kind.
    pub kind: StatementKind,
    /// Its id below the account.
    pub id: String,
}

impl RecordName {
    /// Of `host/apps/web`, `user/alice`, `layer/apps/web` or `group/apps/readers`.
    pub fn of_role(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once('/')?;
        let kinds = [StatementKind::Host, StatementKind::User, StatementKind::Layer, StatementKind::Group];
        let kind = kinds.into_iter().find(|known| known.as_str() == kind)?;
        (!id.is_empty()).then(|| Self { kind, id: id.to_owned() })
    }

    /// Of a login: `host/apps/web`, or `alice`.
    pub fn of_login(login: &str) -> Self {
        match login.strip_prefix("host/") {
            Some(id) => Self { kind: StatementKind::Host, id: id.to_owned() },
            None => Self { kind: StatementKind::User, id: login.to_owned() },
        }
    }

    /// Its full id.
    pub fn full_id(&self, account: &str) -> String {
        format!("{account}:{}:{}", self.kind.as_str(), self.id)
    }
}

/// What a document came to be that was not planned: a fault of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a policy document does not say what was planned, and was not loaded; this is a bug in the operator, please report it"
)]
pub struct NotAsPlanned;

/// Statements for a branch.
pub struct Statements<'a> {
    branch: &'a str,
    account: &'a str,
    text: String,
    /// Full ids of the records that it makes, in its order.
    makes: Vec<String>,
    deletions: usize,
    count: usize,
}

impl<'a> Statements<'a> {
    /// None yet. `branch`: `apps/billing`, or `root`.
    pub fn new(branch: &'a str, account: &'a str) -> Self {
        Self { branch, account, text: String::new(), makes: Vec::new(), deletions: 0, count: 0 }
    }

    /// A comment, so that the hash of the document is whose it names.
    pub fn comment(&mut self, text: &str) {
        self.line(&format!("# {}", quoted(text)));
    }

    /// Makes a record below the branch, or adds to one that is there. `path`: how the branch names it. `restricted_to`: of a
    /// host; none leaves that as it is.
    pub fn record(
        &mut self,
        kind: StatementKind,
        path: &str,
        annotations: &BTreeMap<String, String>,
        restricted_to: Option<&[String]>,
    ) {
        self.line(&format!("- !{}\n  id: {}", kind.as_str(), quoted(path)));
        if let Some(restricted_to) = restricted_to {
            let all: Vec<_> = restricted_to.iter().map(|cidr| quoted(cidr)).collect();
            self.line(&format!("  restricted_to: [{}]", all.join(", ")));
        }
        if !annotations.is_empty() {
            self.line("  annotations:");
        }
        for (name, value) in annotations {
            self.line(&format!("    {}: {}", quoted(name), quoted(value)));
        }
        let id = if self.branch == "root" { path.to_owned() } else { format!("{}/{path}", self.branch) };
        self.makes.push(RecordName { kind, id }.full_id(self.account));
        self.count += 1;
    }

    /// Permits a role something on variables of the branch; `paths`: how the branch names them.
    pub fn permit(&mut self, role: &RecordName, privileges: &[String], paths: &[&str]) {
        self.privileges("permit", role, privileges, paths);
    }

    /// Takes back what a permit of the branch gave.
    pub fn deny(&mut self, role: &RecordName, privileges: &[String], paths: &[&str]) {
        self.privileges("deny", role, privileges, paths);
        self.deletions += 1;
    }

    /// Makes a host a member of a layer or group of the branch: outside of the root policy it names no others (recordings 116,
    /// 675). `path`: how the branch names the role; `member`: the host's, or its id behind a slash where it lies elsewhere.
    pub fn grant(&mut self, kind: StatementKind, path: &str, member: &str) {
        self.membership("grant", kind, path, member);
    }

    /// Takes the membership back.
    pub fn revoke(&mut self, kind: StatementKind, path: &str, member: &str) {
        self.membership("revoke", kind, path, member);
        self.deletions += 1;
    }

    /// Removes a record of the branch.
    pub fn delete(&mut self, kind: StatementKind, path: &str) {
        self.line(&format!("- !delete\n  record: !{} {}", kind.as_str(), quoted(path)));
        self.deletions += 1;
        self.count += 1;
    }

    /// The document, and what the operator reads in it.
    ///
    /// # Errors
    /// It says something else than was planned.
    pub fn document(self) -> Result<(String, Document), NotAsPlanned> {
        let read = document::read(&self.text, self.branch, self.account).map_err(|_| NotAsPlanned)?;
        let makes = read.records.iter().map(|record| record.id.as_str());
        let hosts = read.roles.iter().all(|role| self.makes.contains(&role.id));
        let as_planned = makes.eq(self.makes.iter().map(String::as_str))
            && hosts
            && read.deletions.len() == self.deletions
            && read.statements == self.count;
        if as_planned { Ok((self.text, read)) } else { Err(NotAsPlanned) }
    }

    fn privileges(&mut self, tag: &str, role: &RecordName, privileges: &[String], paths: &[&str]) {
        let all: Vec<_> = privileges.iter().map(|privilege| quoted(privilege)).collect();
        self.line(&format!("- !{tag}\n  role: {}\n  privileges: [{}]", self.reference(role), all.join(", ")));
        self.line("  resource:");
        for path in paths {
            self.line(&format!("  - !variable {}", quoted(path)));
        }
        self.count += 1;
    }

    fn membership(&mut self, tag: &str, kind: StatementKind, path: &str, member: &str) {
        let role = format!("!{} {}", kind.as_str(), quoted(path));
        self.line(&format!("- !{tag}\n  role: {role}\n  member: !host {}", quoted(member)));
        self.count += 1;
    }

    /// A role by its absolute id; the root policy knows no other ids, and takes no slash before one (recordings 116, 675).
    fn reference(&self, role: &RecordName) -> String {
        let slash = if self.branch == "root" { "" } else { "/" };
        format!("!{} {}", role.kind.as_str(), quoted(&format!("{slash}{}", role.id)))
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// How a branch names what has this id below the account; none where that does not lie below the branch.
pub fn path_in<'i>(id: &'i str, branch: &str) -> Option<&'i str> {
    let path = if branch == "root" { id } else { id.strip_prefix(branch)?.strip_prefix('/')? };
    (!path.is_empty()).then_some(path)
}

/// A text as a double-quoted scalar of YAML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // What YAML reads as the end of a line, or does not take at all.
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                // Writing to a String can't fail.
                write!(out, "\\U{:08x}", u32::from(c)).ok();
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_document_says_what_was_planned() {
        let mut all = Statements::new("push/app", "demo");
        all.record(StatementKind::Variable, "keys/one", &annotations(&[("team", "ai")]), None);
        all.record(StatementKind::Host, "web", &BTreeMap::new(), Some(&words(&["10.0.0.0/8"])));
        let reader = RecordName::of_role("host/push/mere").unwrap();
        all.permit(&reader, &words(&["read", "execute"]), &["keys/one"]);
        all.grant(StatementKind::Layer, "web", "web");
        all.deny(&reader, &words(&["update"]), &["keys/one"]);
        all.delete(StatementKind::Variable, "old");
        let (text, read) = all.document().unwrap();
        let expected = r#"- !variable
  id: "keys/one"
  annotations:
    "team": "ai"
- !host
  id: "web"
  restricted_to: ["10.0.0.0/8"]
- !permit
  role: !host "/push/mere"
  privileges: ["read", "execute"]
  resource:
  - !variable "keys/one"
- !grant
  role: !layer "web"
  member: !host "web"
- !deny
  role: !host "/push/mere"
  privileges: ["update"]
  resource:
  - !variable "keys/one"
- !delete
  record: !variable "old"
"#;
        assert_eq!(text, expected);
        let ids: Vec<_> = read.records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids, ["demo:variable:push/app/keys/one", "demo:host:push/app/web"]);
    }

    #[test]
    fn the_root_policy_names_roles_without_a_slash() {
        let mut all = Statements::new("root", "demo");
        all.record(StatementKind::Variable, "a/b", &BTreeMap::new(), None);
        all.permit(&RecordName::of_role("user/alice").unwrap(), &words(&["read"]), &["a/b"]);
        let (text, _) = all.document().unwrap();
        assert!(text.contains("role: !user \"alice\""), "{text}");
    }

    #[test]
    fn what_is_no_role_is_told() {
        for text in ["", "host", "host/", "policy/x", "variable/x", "/x", "alice"] {
            assert_eq!(RecordName::of_role(text), None, "{text}");
        }
    }

    #[test]
    fn an_id_lies_below_a_branch_or_not() {
        for (id, branch, path) in [
            ("litellm/a/b", "litellm", Some("a/b")),
            ("litellm", "litellm", None),
            ("litellm/", "litellm", None),
            ("litellmx/a", "litellm", None),
            ("a/b", "root", Some("a/b")),
        ] {
            assert_eq!(path_in(id, branch), path, "{id} {branch}");
        }
    }

    proptest! {
        /// Whatever a text holds, it stays the text of its scalar.
        #[test]
        fn no_text_becomes_a_statement(
            id in "[a-z][ -~\u{85}\u{2028}\n\t\u{feff}é]{0,20}[a-z]",
            name in "(?s).{1,12}",
            value in "(?s).{0,40}",
        ) {
            let mut all = Statements::new("app", "demo");
            all.record(StatementKind::Variable, &id, &BTreeMap::from([(name, value)]), None);
            all.permit(&RecordName { kind: StatementKind::Host, id: id.clone() }, &words(&["read"]), &[&id]);
            let (_, read) = all.document().unwrap();
            prop_assert_eq!(&read.records[0].id, &format!("demo:variable:app/{id}"));
            prop_assert_eq!(read.statements, 2);
        }
    }
}

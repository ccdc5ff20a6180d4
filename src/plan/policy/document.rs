//! What a policy document would make, read without a server: its hosts and users, who would own them, and
//! whether it deletes. The rules are those of the server's resolver, as its answers show them.
//!
//! Read in the order of the text below: [`read`] builds the tree, gives each record its id (a reference's counts
//! too, for an alias may name a record that was first seen as a reference), then collects the statements.

mod error;
mod owners;
mod tree;

use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

pub use error::DocumentError;
pub(in crate::plan) use owners::user_id;
use owners::{Owners, RoleRef};
use tree::{NodeId, Shape, Tree};

use crate::limits::DOCUMENT_DEPTH;

/// What a document holds that matters before it is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The hosts and users that the document makes (or, where they exist, updates), in the document's order.
    pub roles: Vec<MadeRole>,
    /// All records that the document makes (or, where they exist, updates), hosts and users too, in its order.
    pub records: Vec<Record>,
    /// The statements that take something away; a server refuses them in mode Append (recording seq 74).
    pub deletions: Vec<Deletion>,
    /// How many statements there are, those in the bodies of nested policies included.
    pub statements: usize,
}

/// A record that a document makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `account:host_factory:apps/billing/factory`, `account:user:alice@apps-billing`.
    pub id: String,
    /// Its tag without the `!`, such as `host-factory`, or the kind of a `!resource`.
    #[serde(deserialize_with = "kind_of_record")]
    pub kind: RecordKind,
    /// How a statement in the branch names it: `eu/alice` for a user of the policy `eu` there. Empty for what is named
    /// like the branch itself.
    pub path: String,
}

/// The tags of statements that make a record. `!resource` makes one of any kind.
pub const RECORD_KINDS: [&str; 8] =
    ["group", "host", "host-factory", "layer", "policy", "user", "variable", "webservice"];

/// One of [`RECORD_KINDS`], or what else a `!resource` has as its `kind`: `configuration`.
pub type RecordKind = Cow<'static, str>;

/// None for what the server would hardly take, and no id could hold.
fn record_kind(kind: &str) -> Option<RecordKind> {
    let known = RECORD_KINDS.into_iter().find(|known| *known == kind || known.replace('-', "_") == kind);
    let is_word = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    known.map(Cow::Borrowed).or_else(|| is_word.then(|| Cow::Owned(kind.to_owned())))
}

fn kind_of_record<'de, D: Deserializer<'de>>(from: D) -> Result<RecordKind, D::Error> {
    record_kind(&String::deserialize(from)?).ok_or_else(|| D::Error::custom("no kind of a record"))
}

/// A host or user that a document makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeRole {
    /// `account:host:apps/billing/web`, or `account:user:alice@apps-billing`.
    pub id: String,
    pub kind: RoleKind,
    /// 1-based; for an alias, the line of what it names.
    pub line: u32,
    /// The `owner:` of the role itself or else of the nearest enclosing policy that has one, as a full id.
    pub owner: Option<String>,
    /// Who owns the branch would not own this role, so could neither see it nor rotate its key (recordings
    /// seq 715 and 728).
    pub owner_outside_branch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoleKind {
    Host,
    User,
}

/// A `!delete`, `!deny` or `!revoke` statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    pub statement: DeletionKind,
    /// 1-based.
    pub line: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeletionKind {
    Delete,
    Deny,
    Revoke,
}

/// Reads a policy document as it would be loaded into a branch (`apps/billing`, or `root`).
///
/// It is no stricter than the server: a tag, an attribute or a shape it does not know passes, for the server to
/// judge. Refused are only an empty document, YAML that does not parse, what is no list of statements (recordings
/// seq 47, 48), a second YAML document (seq 121), and what is nested too deep to be read safely.
pub fn read(document: &str, branch: &str, account: &str) -> Result<Document, DocumentError> {
    if document.trim().is_empty() {
        let message = "the document is empty; to take everything out of a branch, write `[]`".to_owned();
        return Err(DocumentError { message, line: 1, column: 1 });
    }
    let tree = Tree::read(document)?;
    let Some(root) = tree.root else { return Ok(Document::default()) };
    let top = tree.nodes.get(root);
    match top.map(|node| &node.shape) {
        Some(Shape::Sequence(_)) => {}
        Some(Shape::Scalar(text)) if text.is_empty() => return Ok(Document::default()),
        _ => {
            let message =
                "a policy document is a list of statements: begin each with `- `, as in `- !host web`";
            let (line, column) = top.map_or((1, 1), |node| (node.line, node.column));
            return Err(DocumentError { message: message.to_owned(), line, column });
        }
    }
    let branch = Some(branch.trim_matches('/')).filter(|branch| *branch != "root");
    let mut reader = DocumentReader {
        account,
        paths: vec![None; tree.nodes.len()],
        branch,
        named: HashSet::new(),
        collected: HashSet::new(),
        recorded: HashSet::new(),
        owners: Owners::new(account, branch),
        made: HashSet::new(),
        document: Document::default(),
        tree,
    };
    reader.name(root, branch.map(Rc::from).as_ref(), 0)?;
    let scope =
        Scope { enclosing: branch.map(|id| Rc::from(format!("{account}:policy:{id}"))), explicit: None };
    reader.collect(root, &scope, 0)?;
    Ok(reader.finish())
}

/// Aliases can make a walk deeper than the text is; beyond this it stops rather than use up the stack.
const MAX_WALK: usize = 2 * DOCUMENT_DEPTH;

struct DocumentReader<'a> {
    account: &'a str,
    /// None for root.
    branch: Option<&'a str>,
    tree: Tree<'a>,
    /// The id of each record below the account, before a user's is turned into `@` notation; a leading slash kept.
    paths: Vec<Option<Rc<str>>>,
    named: HashSet<NodeId>,
    collected: HashSet<NodeId>,
    recorded: HashSet<String>,
    owners: Owners<'a>,
    made: HashSet<String>,
    document: Document,
}

/// Where a statement stands.
#[derive(Clone)]
struct Scope {
    /// The policy that owns what has no owner of its own; None at the top of root.
    enclosing: Option<Rc<str>>,
    /// The explicit owner of the nearest enclosing policy that has one.
    explicit: Option<Rc<str>>,
}

impl DocumentReader<'_> {
    /// Gives every record below a node its path: what a record refers to first, a policy's body last, each node
    /// where it is first met. That is the server's order, and decides what an alias means.
    fn name(&mut self, id: NodeId, namespace: Option<&Rc<str>>, depth: usize) -> Result<(), DocumentError> {
        self.check_depth(id, depth)?;
        if !self.named.insert(id) {
            return Ok(());
        }
        let path = self.path(id, namespace);
        if let Some(slot) = self.paths.get_mut(id) {
            slot.clone_from(&path);
        }
        let is_policy = self.tag(id) == Some("policy");
        for child in self.children(id, is_policy) {
            self.name(child, namespace, depth + 1)?;
        }
        match self.tree.attribute(id, "body") {
            Some(body) if is_policy => self.name(body, path.as_ref().or(namespace), depth + 1),
            _ => Ok(()),
        }
    }

    /// The values of a collection, without a policy's body.
    fn children(&self, id: NodeId, is_policy: bool) -> Vec<NodeId> {
        match self.tree.nodes.get(id).map(|node| &node.shape) {
            Some(Shape::Sequence(items)) => items.clone(),
            Some(Shape::Mapping(pairs)) => pairs
                .iter()
                .filter(|(key, _)| !(is_policy && self.tree.text(*key) == Some("body")))
                .map(|(_, value)| *value)
                .collect(),
            Some(Shape::Scalar(_)) | None => Vec::new(),
        }
    }

    /// None for what is no record, and for a record without id where no policy lends it one.
    fn path(&self, id: NodeId, namespace: Option<&Rc<str>>) -> Option<Rc<str>> {
        self.tag(id)?;
        let written = match &self.tree.nodes.get(id)?.shape {
            Shape::Scalar(text) => text.as_ref(),
            Shape::Mapping(_) => {
                self.tree.attribute(id, "id").and_then(|value| self.tree.text(value)).unwrap_or_default()
            }
            Shape::Sequence(_) => return None,
        };
        match namespace {
            // Recordings seq 28 (`!layer`), 56 (`!user`), 677 (`""`): no id is the enclosing policy's id.
            _ if written.trim().is_empty() => namespace.cloned(),
            _ if written.starts_with('/') => Some(written.into()),
            Some(namespace) => Some(format!("{namespace}/{written}").into()),
            None => Some(written.into()),
        }
    }

    /// Collects the statements at a node, and those in the bodies of policies there.
    fn collect(&mut self, id: NodeId, scope: &Scope, depth: usize) -> Result<(), DocumentError> {
        self.check_depth(id, depth)?;
        if !self.collected.insert(id) {
            return Ok(());
        }
        if let Some(Shape::Sequence(items)) = self.tree.nodes.get(id).map(|node| &node.shape) {
            for item in items.clone() {
                self.collect(item, scope, depth + 1)?;
            }
            return Ok(());
        }
        let Some(tag) = self.tag(id).map(str::to_owned) else { return Ok(()) };
        self.document.statements += 1;
        let deletion = match tag.as_str() {
            "delete" => Some(DeletionKind::Delete),
            "deny" => Some(DeletionKind::Deny),
            "revoke" => Some(DeletionKind::Revoke),
            _ => None,
        };
        if let Some(statement) = deletion {
            self.document.deletions.push(Deletion { statement, line: self.line(id) });
            return Ok(());
        }
        let Some(record) = self.record(id, &tag) else { return Ok(()) };
        self.note(id, &record, &tag);
        let owner = self.tree.attribute(id, "owner").and_then(|owner| self.owner(owner));
        let explicit =
            owner.as_ref().map(|owner| Rc::from(owner.id.as_str())).or_else(|| scope.explicit.clone());
        self.owners.made(&record, owner, scope.enclosing.as_deref());
        match tag.as_str() {
            "host" => self.add(id, record, RoleKind::Host, explicit),
            "user" => self.add(id, record, RoleKind::User, explicit),
            "policy" => {
                if let Some(body) = self.tree.attribute(id, "body") {
                    let scope = Scope { enclosing: Some(Rc::from(record)), explicit };
                    self.collect(body, &scope, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, node: NodeId, id: &str, tag: &str) {
        let kind = self.kind(node, tag);
        let path =
            self.paths.get(node).and_then(|path| path.as_deref()).map(|path| path.trim_start_matches('/'));
        let (Some(kind), Some(path)) = (kind, path) else { return };
        let relative = match self.branch {
            None => Some(path),
            Some(branch) => path.strip_prefix(branch).and_then(|rest| match rest {
                "" => Some(""),
                rest => rest.strip_prefix('/'),
            }),
        };
        // What lies outside the branch is refused by the server.
        let Some(relative) = relative else { return };
        if self.recorded.insert(id.to_owned()) {
            self.document.records.push(Record { id: id.to_owned(), kind, path: relative.to_owned() });
        }
    }

    fn add(&mut self, node: NodeId, id: String, kind: RoleKind, owner: Option<Rc<str>>) {
        if self.made.insert(id.clone()) {
            let (line, owner) = (self.line(node), owner.map(|owner| owner.to_string()));
            self.document.roles.push(MadeRole { id, kind, line, owner, owner_outside_branch: false });
        }
    }

    /// Decides whose the roles are, once every statement is known: an owner may be made after what it owns.
    fn finish(mut self) -> Document {
        for role in &mut self.document.roles {
            role.owner_outside_branch = !self.owners.belongs_to_branch(&role.id);
        }
        self.document
    }

    /// The full id of a record that a statement makes.
    fn record(&self, id: NodeId, tag: &str) -> Option<String> {
        let path = self.paths.get(id)?.as_ref()?;
        // Below root a server refuses an absolute id here (recordings seq 116, 675); without its slash it is at
        // least what the author meant.
        let kind = if tag == "resource" { self.kind(id, tag)? } else { Cow::Owned(tag.to_owned()) };
        let name =
            if kind == "user" { owners::user_id(path) } else { path.trim_start_matches('/').to_owned() };
        let account = self.scalar_attribute(id, "account").unwrap_or(self.account);
        Some(format!("{account}:{}:{name}", kind.replace('-', "_")))
    }

    /// The kind of the record that a statement makes; none where it makes none.
    fn kind(&self, id: NodeId, tag: &str) -> Option<RecordKind> {
        if tag == "resource" {
            return record_kind(self.scalar_attribute(id, "kind")?);
        }
        RECORD_KINDS.into_iter().find(|kind| *kind == tag).map(Cow::Borrowed)
    }

    /// Whom an `owner:` names; None where no one can say, which the server will refuse.
    fn owner(&self, id: NodeId) -> Option<RoleRef> {
        let path = owners::absolute(self.paths.get(id)?.as_ref()?)?;
        let tag = self.tag(id)?;
        let kind = if tag == "role" { self.scalar_attribute(id, "kind").unwrap_or(tag) } else { tag };
        let account = self.scalar_attribute(id, "account").unwrap_or(self.account);
        Some(self.owners.reference(account, &kind.replace('-', "_"), &path))
    }

    fn tag(&self, id: NodeId) -> Option<&str> {
        self.tree.nodes.get(id)?.tag.as_deref()
    }

    fn line(&self, id: NodeId) -> u32 {
        self.tree.nodes.get(id).map_or(1, |node| node.line)
    }

    fn scalar_attribute(&self, id: NodeId, name: &str) -> Option<&str> {
        self.tree.attribute(id, name).and_then(|value| self.tree.text(value))
    }

    fn check_depth(&self, id: NodeId, depth: usize) -> Result<(), DocumentError> {
        if depth < MAX_WALK {
            return Ok(());
        }
        let (line, column) = self.tree.nodes.get(id).map_or((1, 1), |node| (node.line, node.column));
        let message = "aliases nest this document too deeply to be read: write out what they name".to_owned();
        Err(DocumentError { message, line, column })
    }
}

#[cfg(test)]
mod tests;

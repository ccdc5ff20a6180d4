//! A policy document as statements.

use std::sync::Arc;

use super::Refused;
use super::attributes::{self, Attributes};
use super::yaml::{self, Content, Node, Tree};
use crate::model::ranges::written_range;

/// What may stand at the top of a document or in the body of a policy.
#[derive(Debug)]
pub(crate) enum Statement {
    Record(Box<Record>),
    Grant { roles: Vec<Reference>, members: Vec<Reference> },
    Revoke { roles: Vec<Reference>, members: Vec<Reference> },
    Permit(Permission),
    Deny(Permission),
    Delete(Vec<Reference>),
}

#[derive(Debug)]
pub(crate) struct Permission {
    pub(crate) roles: Vec<Reference>,
    pub(crate) granted: Vec<String>,
    pub(crate) resources: Vec<Reference>,
}

/// A record that the document makes.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// As in ids: `host_factory`, not `host-factory`.
    pub(crate) kind: &'static str,
    pub(crate) id: Option<String>,
    pub(crate) owner: Option<Reference>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) restricted_to: Option<Vec<String>>,
    pub(crate) public_keys: Vec<String>,
    pub(crate) layers: Vec<Reference>,
    pub(crate) body: Vec<Statement>,
}

/// A record that a statement speaks of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reference {
    pub(crate) kind: &'static str,
    pub(crate) id: Option<String>,
}

/// Tag, kind in ids, and the name that error messages use.
pub(crate) const RECORDS: [(&str, &str, &str); 8] = [
    ("policy", "policy", "Policy"),
    ("variable", "variable", "Variable"),
    ("host", "host", "Host"),
    ("user", "user", "User"),
    ("group", "group", "Group"),
    ("layer", "layer", "Layer"),
    ("webservice", "webservice", "Webservice"),
    ("host-factory", "host_factory", "HostFactory"),
];

const STATEMENTS: [(&str, &str); 5] =
    [("grant", "Grant"), ("revoke", "Revoke"), ("permit", "Permit"), ("deny", "Deny"), ("delete", "Delete")];

/// Reads a whole document.
///
/// # Errors
/// `policy_invalid`, with the position where the real server has one (recordings 45–57, 119–121).
pub(crate) fn read(text: &str) -> Result<Vec<Statement>, Refused> {
    let tree = yaml::parse(text)?;
    let statements = match tree.root.as_deref() {
        None => Vec::new(),
        Some(Node { content: Content::Scalar(value), tag: None, .. }) if value.is_empty() => Vec::new(),
        Some(node) => match &node.content {
            Content::Sequence(_) => read_body(&tree, node)?,
            Content::Scalar(_) => return Err(tree.refuse(node, "Unexpected scalar")),
            Content::Mapping(_) => return Err(tree.refuse(node, "Unexpected mapping")),
        },
    };
    tree.refuse_second_document()?;
    Ok(statements)
}

/// The statements of a list; lists in lists, as anchors make them, are flattened.
fn read_body(tree: &Tree<'_>, node: &Node) -> Result<Vec<Statement>, Refused> {
    let Content::Sequence(items) = &node.content else {
        return Err(tree.refuse(node, "Attribute 'body' must be a list"));
    };
    let mut statements = Vec::new();
    for item in items {
        if item.tag.is_none() && matches!(item.content, Content::Sequence(_)) {
            statements.extend(read_body(tree, item)?);
        } else {
            statements.push(read_statement(tree, item)?);
        }
    }
    Ok(statements)
}

fn read_statement(tree: &Tree<'_>, node: &Arc<Node>) -> Result<Statement, Refused> {
    let Some(tag) = node.tag.as_deref() else { return Err(untagged(tree, node)) };
    if let Some((kind, name)) = record_type(tag) {
        return Ok(Statement::Record(Box::new(read_record(tree, node, kind, name)?)));
    }
    let Some((_, name)) = STATEMENTS.iter().find(|(known, _)| *known == tag) else {
        return Err(tree.refuse(node, format!("Unrecognized data type '!{tag}'")));
    };
    let attributes = Attributes::of(tree, node, name)?;
    Ok(match *name {
        "Grant" => Statement::Grant {
            roles: attributes.references(&["role", "roles"])?,
            members: attributes.references(&["member", "members"])?,
        },
        "Revoke" => Statement::Revoke {
            roles: attributes.references(&["role", "roles"])?,
            members: attributes.references(&["member", "members"])?,
        },
        "Permit" => Statement::Permit(attributes.privileges()?),
        "Deny" => Statement::Deny(attributes.privileges()?),
        _ => Statement::Delete(attributes.references(&["record", "records"])?),
    })
}

/// The Ruby error that the real server lets through (recording 54).
fn untagged(tree: &Tree<'_>, node: &Node) -> Refused {
    match &node.content {
        Content::Scalar(value) => Refused::invalid(format!(
            "undefined method `referenced_records' for \"{value}\":String\n\n        traverse(record.referenced_records, \
             visited, method(:resolve_account), method(:on_resolve_policy))\n                       \
             ^^^^^^^^^^^^^^^^^^^"
        )),
        _ => tree.refuse(node, "Unexpected mapping"),
    }
}

fn read_record(
    tree: &Tree<'_>,
    node: &Node,
    kind: &'static str,
    name: &'static str,
) -> Result<Record, Refused> {
    let mut record = Record { kind, ..Record::default() };
    if let Content::Scalar(id) = &node.content {
        record.id = (!id.is_empty()).then(|| id.clone());
        return Ok(record);
    }
    let attributes = Attributes::of(tree, node, name)?;
    record.id = attributes.text("id")?.filter(|id| !id.is_empty());
    record.owner = attributes.references(&["owner"])?.into_iter().next();
    for (attribute, annotation) in attributes::ANNOTATIONS_OF {
        if let Some(value) = attributes.text(attribute)? {
            record.annotations.push((annotation.to_owned(), value));
        }
    }
    record.annotations.extend(attributes.annotations()?);
    if let Some(ranges) = attributes.texts(&["restricted_to"])? {
        let read = |range: &String| {
            let refused = || Refused::invalid(format!("Invalid IP address or CIDR range '{range}'"));
            written_range(range).ok_or_else(refused)
        };
        record.restricted_to = Some(ranges.iter().map(read).collect::<Result<_, _>>()?);
    }
    record.public_keys = attributes.texts(&["public_keys", "public_key"])?.unwrap_or_default();
    record.layers = attributes.references(&["layers", "layer"])?;
    if let Some(body) = attributes.get("body") {
        record.body = read_body(tree, body)?;
    }
    Ok(record)
}

/// The kind and the name of a record's type, by its tag.
pub(crate) fn record_type(tag: &str) -> Option<(&'static str, &'static str)> {
    RECORDS.iter().find(|(known, ..)| *known == tag).map(|(_, kind, name)| (*kind, *name))
}

//! The attributes of a statement or record.

use std::sync::Arc;

use super::Refused;
use super::document::{Permission, Reference, record_type};
use super::yaml::{Content, Node, Tree};

/// Attributes that are kept as annotations (recording 444).
pub(super) const ANNOTATIONS_OF: [(&str, &str); 4] = [
    ("kind", "conjur/kind"),
    ("mime_type", "conjur/mime_type"),
    ("uidnumber", "conjur/uidnumber"),
    ("gidnumber", "conjur/gidnumber"),
];

/// What each type takes beside `id`, `owner` and `annotations`.
const KNOWN: [(&str, &[&str]); 13] = [
    ("Policy", &["body"]),
    ("Variable", &["kind", "mime_type"]),
    ("Host", &["restricted_to"]),
    ("User", &["restricted_to", "public_keys", "public_key", "uidnumber"]),
    ("Group", &["gidnumber"]),
    ("Layer", &[]),
    ("Webservice", &[]),
    ("HostFactory", &["layers", "layer"]),
    ("Grant", &["role", "roles", "member", "members"]),
    ("Revoke", &["role", "roles", "member", "members"]),
    ("Permit", &["role", "roles", "privilege", "privileges", "resource", "resources"]),
    ("Deny", &["role", "roles", "privilege", "privileges", "resource", "resources"]),
    ("Delete", &["record", "records"]),
];

pub(super) struct Attributes<'a> {
    tree: &'a Tree<'a>,
    pairs: Vec<(&'a str, &'a Arc<Node>)>,
}

impl<'a> Attributes<'a> {
    /// Reads a mapping, refusing names that the type does not have (recording 55).
    pub(super) fn of(tree: &'a Tree<'a>, node: &'a Node, name: &str) -> Result<Self, Refused> {
        let Content::Mapping(mapping) = &node.content else {
            return Err(tree.refuse(node, format!("{name} must be a mapping")));
        };
        let is_statement = matches!(name, "Grant" | "Revoke" | "Permit" | "Deny" | "Delete");
        let known = KNOWN.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, known)| *known);
        let mut pairs = Vec::new();
        for (key, value) in mapping {
            let Content::Scalar(attribute) = &key.content else {
                return Err(tree.refuse(key, "Unexpected mapping"));
            };
            let common = !is_statement && matches!(attribute.as_str(), "id" | "owner" | "annotations");
            if !common && !known.contains(&attribute.as_str()) {
                let message = format!("No such attribute '{attribute}' on type {name}");
                return Err(tree.refuse(value, message));
            }
            pairs.push((attribute.as_str(), value));
        }
        Ok(Self { tree, pairs })
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Arc<Node>> {
        self.pairs.iter().find(|(known, _)| *known == name).map(|(_, node)| *node)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refused> {
        self.get(name).map(|node| self.scalar(name, node)).transpose()
    }

    /// A list of scalars, or one alone.
    pub(super) fn texts(&self, names: &[&str]) -> Result<Option<Vec<String>>, Refused> {
        let Some((name, node)) = names.iter().find_map(|name| Some((*name, self.get(name)?))) else {
            return Ok(None);
        };
        match &node.content {
            Content::Sequence(items) => {
                items.iter().map(|item| self.scalar(name, item)).collect::<Result<_, _>>().map(Some)
            }
            _ => Ok(Some(vec![self.scalar(name, node)?])),
        }
    }

    pub(super) fn annotations(&self) -> Result<Vec<(String, String)>, Refused> {
        let Some(node) = self.get("annotations") else { return Ok(Vec::new()) };
        let pairs = match &node.content {
            Content::Mapping(pairs) => pairs,
            Content::Scalar(text) if text.is_empty() => return Ok(Vec::new()),
            _ => return Err(self.tree.refuse(node, "Attribute 'annotations' must be a mapping")),
        };
        let mut annotations = Vec::new();
        for (key, value) in pairs {
            let name = self.scalar("annotations", key)?;
            annotations.push((name.clone(), self.scalar(&name, value)?));
        }
        Ok(annotations)
    }

    /// The records of the first of `names` that is there; lists in lists are flattened.
    pub(super) fn references(&self, names: &[&str]) -> Result<Vec<Reference>, Refused> {
        let mut references = Vec::new();
        for name in names {
            if let Some(node) = self.get(name) {
                self.collect(name, node, &mut references)?;
            }
        }
        Ok(references)
    }

    pub(super) fn privileges(&self) -> Result<Permission, Refused> {
        Ok(Permission {
            roles: self.references(&["role", "roles"])?,
            granted: self.texts(&["privileges", "privilege"])?.unwrap_or_default(),
            resources: self.references(&["resource", "resources"])?,
        })
    }

    fn collect(&self, name: &str, node: &Node, into: &mut Vec<Reference>) -> Result<(), Refused> {
        match (node.tag.as_deref(), &node.content) {
            (None, Content::Sequence(items)) => {
                items.iter().try_for_each(|item| self.collect(name, item, into))
            }
            (Some(tag), content) => {
                let Some((kind, _)) = record_type(tag) else {
                    return Err(self.tree.refuse(node, format!("Unrecognized data type '!{tag}'")));
                };
                let id = match content {
                    Content::Scalar(id) => Some(id.clone()),
                    Content::Mapping(pairs) => {
                        pairs.iter().find_map(|(key, value)| match (&key.content, &value.content) {
                            (Content::Scalar(key), Content::Scalar(id)) if key == "id" => Some(id.clone()),
                            _ => None,
                        })
                    }
                    Content::Sequence(_) => None,
                };
                into.push(Reference { kind, id: id.filter(|id| !id.is_empty()) });
                Ok(())
            }
            (None, _) => Err(self.tree.refuse(node, format!("Attribute '{name}' must be a record"))),
        }
    }

    /// A scalar as it is written: `1`, `true` and dates are text (recording 687).
    fn scalar(&self, name: &str, node: &Node) -> Result<String, Refused> {
        match &node.content {
            Content::Scalar(text) => Ok(text.clone()),
            Content::Mapping(_) => {
                Err(self.tree.refuse(node, format!("Attribute '{name}' can't be a mapping")))
            }
            Content::Sequence(_) => {
                Err(self.tree.refuse(node, format!("Attribute '{name}' can't be a sequence")))
            }
        }
    }
}

//! YAML into a flat arena, in which an alias is the node it names rather than a copy of it: a document of
//! aliases to aliases stays as small as its text.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScanError, Span, StructureStyle, Tag};

use super::error::DocumentError;
use crate::limits::{DOCUMENT_DEPTH, DOCUMENT_NODES};

pub(super) type NodeId = usize;

pub(super) enum Shape<'a> {
    Scalar(Cow<'a, str>),
    Sequence(Vec<NodeId>),
    Mapping(Vec<(NodeId, NodeId)>),
}

pub(super) struct Node<'a> {
    pub(super) line: u32,
    pub(super) column: u32,
    /// What stands behind the `!`, lowercase: `host`, `host-factory`. YAML's own tags (`!!str`) are none.
    pub(super) tag: Option<Box<str>>,
    pub(super) shape: Shape<'a>,
}

/// Nodes in pieces of one size: a list that grows as a whole holds all of them twice while it does.
#[derive(Default)]
pub(super) struct Nodes<'a> {
    full: Vec<Vec<Node<'a>>>,
    last: Vec<Node<'a>>,
}

/// Nodes of one piece.
const PIECE: usize = 4_096;

impl<'a> Nodes<'a> {
    pub(super) fn len(&self) -> usize {
        self.full.len() * PIECE + self.last.len()
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node<'a>> {
        self.full.get(id / PIECE).unwrap_or(&self.last).get(id % PIECE)
    }

    fn get_mut(&mut self, id: NodeId) -> Option<&mut Node<'a>> {
        self.full.get_mut(id / PIECE).unwrap_or(&mut self.last).get_mut(id % PIECE)
    }

    fn push(&mut self, node: Node<'a>) {
        self.last.push(node);
        if self.last.len() == PIECE {
            self.full.push(std::mem::take(&mut self.last));
        }
    }
}

#[derive(Default)]
pub(super) struct Tree<'a> {
    pub(super) nodes: Nodes<'a>,
    /// None where the document holds nothing but comments.
    pub(super) root: Option<NodeId>,
}

impl<'a> Tree<'a> {
    /// Reads one YAML document; positions in errors are 1-based, and no error quotes the text.
    pub(super) fn read(text: &'a str) -> Result<Self, DocumentError> {
        let mut builder = TreeBuilder { text, ..TreeBuilder::default() };
        let options = granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true };
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| syntax_error(&error))?;
            builder.event(event, &span)?;
        }
        Ok(builder.tree)
    }

    /// The text of a scalar, or None for a list or mapping.
    pub(super) fn text(&self, id: NodeId) -> Option<&str> {
        match &self.nodes.get(id)?.shape {
            Shape::Scalar(text) => Some(text),
            Shape::Sequence(_) | Shape::Mapping(_) => None,
        }
    }

    /// The value under a key of a mapping.
    pub(super) fn attribute(&self, id: NodeId, name: &str) -> Option<NodeId> {
        let Shape::Mapping(pairs) = &self.nodes.get(id)?.shape else { return None };
        pairs.iter().find(|(key, _)| self.text(*key) == Some(name)).map(|(_, value)| *value)
    }
}

/// A collection that is being read.
struct Open {
    id: NodeId,
    /// The mapping key that waits for its value.
    key: Option<NodeId>,
    style: StructureStyle,
}

#[derive(Default)]
struct TreeBuilder<'a> {
    text: &'a str,
    tree: Tree<'a>,
    open: Vec<Open>,
    anchors: HashMap<usize, NodeId>,
    documents: usize,
}

impl<'a> TreeBuilder<'a> {
    fn event(&mut self, event: Event<'a>, span: &Span) -> Result<(), DocumentError> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    // Recording seq 121: the server takes a single document only.
                    let message =
                        "a second YAML document begins here; a policy is a single document: remove the `---`";
                    return Err(at(&span.start, message));
                }
            }
            Event::Scalar(text, _, anchor, tag) => {
                // The parser says `~` where nothing is written; a server says nothing.
                let text = if span.is_empty() { Cow::Borrowed("") } else { text };
                // An anchor on a plain value names nothing for a server; one on a record does.
                let anchor = if tag.as_deref().and_then(local_name).is_some() { anchor } else { 0 };
                self.add(Shape::Scalar(text), anchor, tag.as_deref(), span)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                let id = self.open(Shape::Sequence(Vec::new()), anchor, tag.as_deref(), span)?;
                self.open.push(Open { id, key: None, style });
            }
            Event::MappingStart(style, anchor, tag) => {
                let id = self.open(Shape::Mapping(Vec::new()), anchor, tag.as_deref(), span)?;
                self.open.push(Open { id, key: None, style });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(id) => self.attach(*id),
                // Of a plain value's anchor, which a server ignores: see below.
                None => self.nothing(span)?,
            },
            // For a server it is no value, as if nothing stood there; no statement can be that.
            Event::UnresolvedAlias(_) if self.open.last().is_some_and(|open| open.key.is_some()) => {
                self.nothing(span)?;
            }
            Event::UnresolvedAlias(_) => return Err(at(&span.start, "this alias names no anchor before it")),
            // Stream and document ends carry nothing; comments and anchor events were not asked for.
            _ => {}
        }
        Ok(())
    }

    fn nothing(&mut self, span: &Span) -> Result<(), DocumentError> {
        self.add(Shape::Scalar(Cow::Borrowed("")), 0, None, span).map(drop)
    }

    fn open(
        &mut self,
        shape: Shape<'a>,
        anchor: usize,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<NodeId, DocumentError> {
        if self.open.len() >= DOCUMENT_DEPTH {
            let message =
                format!("the document is nested more than {DOCUMENT_DEPTH} levels deep: flatten it");
            return Err(at(&span.start, &message));
        }
        self.add(shape, anchor, tag, span)
    }

    fn add(
        &mut self,
        shape: Shape<'a>,
        anchor: usize,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<NodeId, DocumentError> {
        let id = self.tree.nodes.len();
        if id >= DOCUMENT_NODES {
            let message = format!(
                "the document has more than {DOCUMENT_NODES} YAML nodes: split it over several ConjurPolicies"
            );
            return Err(at(&span.start, &message));
        }
        let in_flow = self.open.last().is_some_and(|open| open.style == StructureStyle::Flow);
        if !in_flow && indented_by_tab(self.text, span.start.byte_offset()) {
            return Err(at(&span.start, TAB));
        }
        // The tag stands before its node, and is where a person looks for the statement.
        let start = span.tag_start().unwrap_or(span.start);
        let (line, column) = position(&start);
        self.tree.nodes.push(Node { line, column, tag: tag.and_then(local_name), shape });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.attach(id);
        Ok(id)
    }

    fn attach(&mut self, id: NodeId) {
        let Some(Open { id: parent, key, .. }) = self.open.last_mut() else {
            self.tree.root = Some(id);
            return;
        };
        match self.tree.nodes.get_mut(*parent).map(|node| &mut node.shape) {
            Some(Shape::Sequence(items)) => items.push(id),
            Some(Shape::Mapping(pairs)) => match key.take() {
                Some(key) => pairs.push((key, id)),
                None => *key = Some(id),
            },
            Some(Shape::Scalar(_)) | None => {}
        }
    }
}

const TAB: &str = "the YAML has a tab here; indent with spaces";

/// The server's parser refuses this, without saying where (recording seq 46); the operator's would take it.
fn indented_by_tab(text: &str, offset: Option<usize>) -> bool {
    let before = offset.and_then(|offset| text.get(..offset)).unwrap_or_default();
    let line = before.rsplit(['\n', '\r']).next().unwrap_or_default();
    line.contains('\t') && line.trim().is_empty()
}

/// `!host` and `!<!host>` are `host`; the server takes `!HostFactory` and `!host_factory` for `!host-factory`.
fn local_name(tag: &Tag) -> Option<Box<str>> {
    let full = format!("{}{}", tag.handle(), tag.suffix());
    let (_, name) = full.split_once('!')?;
    let plain: String =
        name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect();
    match plain.as_str() {
        "" => None,
        "hostfactory" => Some("host-factory".into()),
        _ => Some(plain.into_boxed_str()),
    }
}

fn syntax_error(error: &ScanError) -> DocumentError {
    let message = match error.kind() {
        ErrorKind::UnexpectedCharacter { .. } => {
            "the YAML has a character here that cannot stand here".to_owned()
        }
        ErrorKind::UnknownAnchor => "this alias names no anchor before it".to_owned(),
        ErrorKind::RecursionLimitExceeded => {
            format!("the document is nested more than {DOCUMENT_DEPTH} levels deep: flatten it")
        }
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            TAB.to_owned()
        }
        kind => format!("the YAML does not parse: {kind}"),
    };
    at(error.marker(), &message)
}

pub(super) fn at(marker: &Marker, message: &str) -> DocumentError {
    let (line, column) = position(marker);
    DocumentError { message: message.to_owned(), line, column }
}

fn position(marker: &Marker) -> (u32, u32) {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (number(marker.line()).max(1), number(marker.col()).saturating_add(1))
}

//! YAML into a tree that keeps tags, aliases and positions.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag};

use super::Refused;

#[derive(Debug)]
pub(crate) struct Node {
    /// The tag without its `!`.
    pub(crate) tag: Option<String>,
    pub(crate) content: Content,
    /// Byte offset up to which the real parser has read when it reports this node.
    read_to: usize,
}

#[derive(Debug)]
pub(crate) enum Content {
    Scalar(String),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<(Arc<Node>, Arc<Node>)>),
}

/// A document and the text it came from.
pub(crate) struct Tree<'a> {
    text: &'a str,
    pub(crate) root: Option<Arc<Node>>,
    /// Where a second document starts, which is refused (recording 121).
    second_document: Option<usize>,
}

impl Tree<'_> {
    /// An error at a node, with the real server's line and column.
    pub(crate) fn refuse(&self, node: &Node, message: impl Into<String>) -> Refused {
        Refused::Invalid { message: message.into(), at: Some(position(self.text, node.read_to)) }
    }

    pub(crate) fn refuse_second_document(&self) -> Result<(), Refused> {
        let Some(offset) = self.second_document else { return Ok(()) };
        let message = "Multiple YAML documents encountered. Only a single document is permitted per policy.";
        Err(Refused::Invalid { message: message.to_owned(), at: Some(position(self.text, offset)) })
    }
}

/// Line and column, from 0; the end of the text counts as the start of a line.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    if offset >= text.len() && column > 0 { (line + 1, 0) } else { (line, column) }
}

/// The text of a document, without its byte order mark (recording 681).
///
/// # Errors
/// `policy_invalid` without a position for what is no UTF-8 (recording 682).
pub(crate) fn text_of(bytes: &[u8]) -> Result<&str, Refused> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => Err(Refused::invalid(utf8_message(&bytes[error.valid_up_to()..]))),
    }
}

/// The words of libyaml for bytes that are no UTF-8 (recording 682).
fn utf8_message(rest: &[u8]) -> &'static str {
    let width = match rest.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => return "invalid leading UTF-8 octet",
    };
    if rest.len() < width { "incomplete UTF-8 octet sequence" } else { "invalid trailing UTF-8 octet" }
}

/// Builds the tree of the first document.
///
/// # Errors
/// `policy_invalid` without a position for what is no YAML (recordings 45, 46).
pub(crate) fn parse(text: &str) -> Result<Tree<'_>, Refused> {
    let mut builder = Builder { text, anchors: HashMap::new(), open: Vec::new(), root: None };
    let mut second_document = None;
    let mut documents = 0;
    let options = granit_parser::options! { emit_comments: false };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| not_yaml(text, &error))?;
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                second_document = Some(span.end.byte_offset().unwrap_or(text.len()));
                break;
            }
        }
        builder.take(event, span)?;
    }
    Ok(Tree { text, root: builder.root, second_document })
}

const NO_TOKEN: &str = "found character that cannot start any token while scanning for the next token";

/// The words of libyaml, where granit-parser has its own for the same mistake.
fn not_yaml(text: &str, error: &ScanError) -> Refused {
    let (mark, info) = (error.marker(), error.info());
    let message = if info.contains("mapping values are not allowed") {
        "mapping values are not allowed in this context".to_owned()
    } else if info.contains("tab") || info.contains("cannot start any token") {
        NO_TOKEN.to_owned()
    } else if info.contains("flow") || info.contains("unclosed") {
        "did not find expected node content while parsing a flow node".to_owned()
    } else {
        info
    };
    // Where something is missing at the end, the real parser has read up to there (recording 105).
    let rest = mark.byte_offset().and_then(|offset| text.get(offset..));
    let (line, column) = if rest.is_none_or(|rest| rest.trim_matches(['[', '{', ' ', '\n', '\r']).is_empty())
    {
        position(text, text.len())
    } else {
        (mark.line() - 1, mark.col())
    };
    Refused::Yaml { message, line: line + 1, column: column + 1 }
}

enum Open {
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<(Arc<Node>, Arc<Node>)>, Option<Arc<Node>>),
}

struct Frame {
    open: Open,
    tag: Option<String>,
    anchor: usize,
    read_to: usize,
    block: bool,
}

struct Builder<'a> {
    text: &'a str,
    anchors: HashMap<usize, Arc<Node>>,
    open: Vec<Frame>,
    root: Option<Arc<Node>>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Refused> {
        let start = span.start.byte_offset().unwrap_or_default();
        let end = span.end.byte_offset().unwrap_or_default();
        self.refuse_tabs(&event, start)?;
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let read_to = if style == ScalarStyle::Plain { self.after_blanks(end) } else { end };
                let tag = tag.map(|tag| tag_name(&tag));
                // A tag or key alone is an empty scalar, which the parser may spell `~`.
                let empty = style == ScalarStyle::Plain && start == end;
                let value = if empty { String::new() } else { value.into_owned() };
                self.close(Node { tag, content: Content::Scalar(value), read_to }, anchor);
            }
            Event::SequenceStart(style, anchor, tag) => {
                let open = Open::Sequence(Vec::new());
                self.begin(open, style, anchor, tag.map(|tag| tag_name(&tag)), start);
            }
            Event::MappingStart(style, anchor, tag) => {
                let open = Open::Mapping(Vec::new(), None);
                self.begin(open, style, anchor, tag.map(|tag| tag_name(&tag)), start);
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned();
                self.attach(node.ok_or_else(|| Refused::invalid("Alias of an open node"))?);
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, style: StructureStyle, anchor: usize, tag: Option<String>, start: usize) {
        let block = style == StructureStyle::Block;
        self.open.push(Frame { open, tag, anchor, read_to: start + 1, block });
    }

    fn end(&mut self) {
        let Some(frame) = self.open.pop() else { return };
        let content = match frame.open {
            Open::Sequence(items) => Content::Sequence(items),
            Open::Mapping(pairs, _) => Content::Mapping(pairs),
        };
        self.close(Node { tag: frame.tag, content, read_to: frame.read_to }, frame.anchor);
    }

    fn close(&mut self, node: Node, anchor: usize) {
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.attach(node);
    }

    fn attach(&mut self, node: Arc<Node>) {
        let text = self.text;
        let Some(frame) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match &mut frame.open {
            Open::Sequence(items) => items.push(node),
            Open::Mapping(pairs, key) => {
                if let Some(key) = key.take() {
                    pairs.push((key, node));
                    return;
                }
                // A block mapping is known as one only at the colon of its first key.
                if pairs.is_empty() && frame.block {
                    let colon = text[node.read_to.min(text.len())..].find(':').unwrap_or_default();
                    frame.read_to = node.read_to + colon + 1;
                }
                *key = Some(node);
            }
        }
    }

    /// The real parser takes no tab for indentation (recording 46); in flow style it may stand anywhere.
    fn refuse_tabs(&self, event: &Event<'_>, start: usize) -> Result<(), Refused> {
        let before = self.text[..start.min(self.text.len())].rsplit('\n').next().unwrap_or_default();
        let indented = event.is_node() && before.contains('\t') && before.trim().is_empty();
        if indented && self.open.iter().all(|frame| frame.block) {
            return Err(Refused::invalid(NO_TOKEN));
        }
        Ok(())
    }

    /// The real parser reads on over blanks and line breaks after a plain scalar.
    fn after_blanks(&self, end: usize) -> usize {
        let rest = &self.text[end.min(self.text.len())..];
        end + (rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len())
    }
}

fn tag_name(tag: &Tag) -> String {
    let written = tag.original();
    written.strip_prefix('!').unwrap_or(&written).to_owned()
}

//! Go templates in the language of this operator's, where both give the same bytes.
//!
//! External Secrets Operator renders Go's `text/template` with the functions of sprig over a map of texts, and fails on a
//! missing key; nothing is escaped. This operator renders minijinja, strict, without escaping. White space that `{{-` and
//! `-}}` take away is taken away here; variables are put in where they are used, for nothing ever changes them.

mod call;
mod context;
mod expression;
mod functions;
mod lexer;
mod pieces;
mod text_functions;
mod tree;
mod value;
mod walk;

use std::collections::BTreeSet;

pub use self::expression::{Expression, Node as ExpressionNode};

/// Something at a place of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Line and column, counted from 1.
    pub place: (usize, usize),
    /// What is so.
    pub what: String,
    /// What to do.
    pub todo: String,
}

/// What a template speaks of.
#[derive(Clone, Debug)]
pub enum Names {
    /// The keys of an ExternalSecret; `open`: there are others that only Conjur knows.
    Keys {
        /// Those that are known.
        known: BTreeSet<String>,
        /// Whether there may be more.
        open: bool,
    },
    /// The aliases of a secret group of the Secrets Provider, in its order, each with the key of the value here.
    Aliases(Vec<(String, String)>),
}

/// A template of this operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// The template; none where something in it blocks.
    pub text: Option<String>,
    /// What has no counterpart.
    pub blocks: Vec<Finding>,
    /// What is not the same for each value.
    pub differs: Vec<Finding>,
}

/// Translates a template.
pub fn translate(text: &str, names: &Names) -> Translated {
    let mut walk = walk::Walk::new(names);
    match tree::read(text) {
        Ok(nodes) => walk.nodes(&nodes),
        Err(fault) => walk.blocks.push(fault),
    }
    let made = pieces::join(&walk.pieces);
    if let Err(what) = pieces::check(&walk.pieces) {
        walk.blocks.push(fault(0, what, "Shorten it by hand"));
    }
    let finding = |fault: &Fault| Finding {
        place: place(text, fault.at),
        what: fault.what.clone(),
        todo: fault.todo.clone(),
    };
    Translated {
        text: walk.blocks.is_empty().then_some(made),
        blocks: walk.blocks.iter().map(finding).collect(),
        differs: walk.context.differs.iter().map(finding).collect(),
    }
}

/// The expression of a template that is one action and the text around it: what stands before, the expression, what stands
/// behind. None where it is anything else.
pub fn one_action(text: &str) -> Option<(String, Expression, String)> {
    let nodes = tree::read(text).ok()?;
    let mut parts = (String::new(), None, String::new());
    for node in nodes {
        match (node, &parts.1) {
            (tree::TreeNode::Text(text), None) => parts.0 = text,
            (tree::TreeNode::Text(text), Some(_)) => parts.2 = text,
            (tree::TreeNode::Print(expression), None) => parts.1 = Some(expression),
            _ => return None,
        }
    }
    Some((parts.0, parts.1?, parts.2))
}

/// Whether a text is the same in both languages: it has no tags of either, and no line break at its end, which this one drops.
pub fn is_plain(text: &str) -> bool {
    !["{{", "{%", "{#"].iter().any(|tag| text.contains(tag)) && !text.ends_with(['\n', '\r'])
}

/// The template of one key, and nothing else.
pub fn of_key(key: &str) -> String {
    format!("{{{{ {} }}}}", value::key(key))
}

/// The expression for one key.
pub fn key(key: &str) -> String {
    value::key(key)
}

/// Joins texts and expressions to a template.
pub fn compose(parts: &[(bool, String)]) -> String {
    let pieces: Vec<_> = parts
        .iter()
        .map(
            |(is_expression, part)| {
                if *is_expression { pieces::Piece::print(part) } else { pieces::Piece::Text(part.clone()) }
            },
        )
        .collect();
    pieces::join(&pieces)
}

/// Where something is wrong: an offset into the template.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    at: usize,
    what: String,
    todo: String,
}

fn fault(at: usize, what: impl Into<String>, todo: impl Into<String>) -> Fault {
    Fault { at, what: what.into(), todo: todo.into() }
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests;

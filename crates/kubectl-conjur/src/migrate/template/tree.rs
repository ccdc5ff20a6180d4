//! Texts, actions and what holds others: `if`, `with`, `range`.

use super::{
    Fault,
    expression::{Expression, Pipeline, pipeline},
    fault,
    lexer::{Part, parts},
};

/// A node of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeNode {
    /// Text as it stands.
    Text(String),
    /// `{{ … }}`
    Print(Expression),
    /// `{{ $x := … }}`
    Set(String, Expression),
    /// `{{ if }}`, `{{ with }}` or `{{ range }}`, what is in it, and what is in its `else`.
    Block(Block, Pipeline, Vec<TreeNode>, Vec<TreeNode>),
    /// What is not understood.
    Fault(usize, String, String),
}

/// The blocks that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `if`
    If,
    /// `with`
    With,
    /// `range`
    Range,
}

/// Reads a template.
pub fn read(text: &str) -> Result<Vec<TreeNode>, Fault> {
    let parts = parts(text)?;
    let mut reader = TreeReader { parts: &parts, next: 0, depth: 0 };
    let (nodes, end) = reader.nodes()?;
    match end {
        End::Text => Ok(nodes),
        End::Else(_, at) | End::Close(at) => {
            Err(fault(at, "there is nothing open here", "Write the template by hand"))
        }
    }
}

/// How a list of nodes ends.
enum End<'t> {
    Text,
    /// With what stands behind `else`.
    Else(&'t str, usize),
    Close(usize),
}

struct TreeReader<'p, 't> {
    parts: &'p [Part<'t>],
    next: usize,
    depth: usize,
}

impl<'t> TreeReader<'_, 't> {
    fn nodes(&mut self) -> Result<(Vec<TreeNode>, End<'t>), Fault> {
        let mut nodes = Vec::new();
        while let Some(part) = self.parts.get(self.next) {
            self.next += 1;
            let (body, at) = match part {
                Part::Text(text) => {
                    nodes.push(TreeNode::Text((*text).to_owned()));
                    continue;
                }
                Part::Action(body, at) => (*body, *at),
            };
            let start = at + body.len() - body.trim_start().len();
            let body = body.trim();
            let end = body.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(body.len());
            let (word, rest) = body.split_at(end);
            match word {
                "end" => return Ok((nodes, End::Close(start))),
                "else" => return Ok((nodes, End::Else(rest, start + end))),
                "if" => nodes.push(self.block(Block::If, rest, start + end)?),
                "with" => nodes.push(self.block(Block::With, rest, start + end)?),
                "range" => nodes.push(self.block(Block::Range, rest, start + end)?),
                "define" | "template" | "block" | "break" | "continue" => {
                    let what = format!("'{word}' has no counterpart here");
                    return Err(fault(start, what, "Write the template by hand"));
                }
                _ => nodes.push(plain(body, start)),
            }
        }
        Ok((nodes, End::Text))
    }

    fn block(&mut self, block: Block, head: &str, at: usize) -> Result<TreeNode, Fault> {
        self.depth += 1;
        if self.depth > 16 {
            return Err(fault(at, "blocks are nested too deeply", "Write the template by hand"));
        }
        let head = pipeline(head, at)?;
        let (body, end) = self.nodes()?;
        let unclosed = || fault(at, "this block is not closed", "Close it with {{ end }}");
        let otherwise = match end {
            End::Text => return Err(unclosed()),
            End::Close(_) => Vec::new(),
            End::Else(rest, at) => self.otherwise(rest, at, unclosed)?,
        };
        self.depth -= 1;
        Ok(TreeNode::Block(block, head, body, otherwise))
    }

    /// `else`, `else if …`, `else with …`: the latter two end with the block that they stand in.
    fn otherwise(
        &mut self,
        rest: &str,
        at: usize,
        unclosed: impl Fn() -> Fault,
    ) -> Result<Vec<TreeNode>, Fault> {
        let trimmed = rest.trim_start();
        let at = at + rest.len() - trimmed.len();
        for (word, block) in [("if", Block::If), ("with", Block::With)] {
            if let Some(head) =
                trimmed.strip_prefix(word).filter(|head| head.starts_with([' ', '\t', '\n', '(']))
            {
                return Ok(vec![self.block(block, head, at + word.len())?]);
            }
        }
        if !trimmed.is_empty() {
            return Err(fault(at, "this is not understood", "Write the template by hand"));
        }
        match self.nodes()? {
            (nodes, End::Close(_)) => Ok(nodes),
            _ => Err(unclosed()),
        }
    }
}

/// An action that is no block.
fn plain(body: &str, at: usize) -> TreeNode {
    match pipeline(body, at) {
        Ok(Pipeline { variables, value }) => match variables.as_slice() {
            [] => TreeNode::Print(value),
            [one] => TreeNode::Set(one.clone(), value),
            _ => TreeNode::Fault(at, "this is not understood".into(), "Write the template by hand".into()),
        },
        Err(Fault { at, what, todo }) => TreeNode::Fault(at, what, todo),
    }
}

//! Reads `values.yaml`: the YAML that it is written in, which is little, and its comments.

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value};

/// A value of the chart, with what lies below it.
#[derive(Debug, Default)]
pub struct Node {
    pub key: String,
    /// The section of the README that begins with it.
    pub section: Option<String>,
    pub doc: String,
    pub tags: Tags,
    /// Of one without children.
    pub scalar: Value,
    pub children: Vec<Node>,
}

/// What its comment says for the schema.
#[derive(Debug, Default, Clone)]
pub struct Tags {
    pub schema: Map<String, Value>,
    pub strings: bool,
    pub kubernetes: Option<String>,
    pub open: bool,
}

impl Node {
    /// Its default, with all that lies below it.
    pub fn value(&self) -> Value {
        if self.children.is_empty() {
            return self.scalar.clone();
        }
        Value::Object(self.children.iter().map(|node| (node.key.clone(), node.value())).collect())
    }

    /// Whether it is one value for people, whatever lies below it.
    pub fn is_leaf(&self) -> bool {
        self.children.is_empty() || self.tags.kubernetes.is_some() || self.tags.strings
    }
}

/// The values of the file, in its order.
pub fn parse(text: &str) -> Result<Vec<Node>> {
    let mut lines = text.lines().enumerate().peekable();
    let mut root = Node::default();
    // The nodes that are open, by how far they are indented.
    let mut path: Vec<(usize, Node)> = Vec::new();
    let (mut section, mut comment) = (None, Vec::new());
    for (number, line) in lines.by_ref() {
        let at = number + 1;
        let (indent, content) = (line.len() - line.trim_start().len(), line.trim());
        if let Some(title) = content.strip_prefix("## ") {
            section = Some(title.to_owned());
        } else if let Some(text) = content.strip_prefix("# ") {
            comment.push(text.to_owned());
        } else if content.is_empty() {
            comment.clear();
        } else {
            let Some((key, value)) = content.split_once(':') else { bail!("line {at}: {content}") };
            close(&mut root, &mut path, indent);
            let (doc, tags) = documented(&comment, at)?;
            comment.clear();
            let scalar = scalar(value.trim(), at)?;
            let node =
                Node { key: key.to_owned(), section: section.take(), doc, tags, scalar, children: vec![] };
            path.push((indent, node));
        }
    }
    close(&mut root, &mut path, 0);
    check(&root.children, "")?;
    Ok(root.children)
}

/// Hands those that are indented as far, or farther, to the node that they lie in.
fn close(root: &mut Node, path: &mut Vec<(usize, Node)>, indent: usize) {
    while let Some((_, node)) = path.pop_if(|(open, _)| *open >= indent) {
        path.last_mut().map_or(&mut *root, |(_, parent)| parent).children.push(node);
    }
}

fn check(nodes: &[Node], under: &str) -> Result<()> {
    for node in nodes {
        let path = format!("{under}{}", node.key);
        ensure!(!node.is_leaf() || !node.doc.is_empty(), "{path} has no comment");
        if !node.is_leaf() {
            check(&node.children, &format!("{path}."))?;
        }
    }
    Ok(())
}

fn documented(comment: &[String], at: usize) -> Result<(String, Tags)> {
    let (mut doc, mut tags) = (Vec::new(), Tags::default());
    for line in comment {
        match line.strip_prefix('@').map(|tag| tag.split_once(' ').unwrap_or((tag, ""))) {
            None => doc.push(line.as_str()),
            Some(("schema", json)) => match serde_json::from_str(json)? {
                Value::Object(keys) => tags.schema.extend(keys),
                _ => bail!("line {at}: @schema needs an object"),
            },
            Some(("strings", "")) => tags.strings = true,
            Some(("open", "")) => tags.open = true,
            Some(("kubernetes", kind)) if !kind.is_empty() => tags.kubernetes = Some(kind.to_owned()),
            Some(_) => bail!("line {at}: unknown tag {line}"),
        }
    }
    Ok((doc.join(" "), tags))
}

fn scalar(text: &str, at: usize) -> Result<Value> {
    if let Some(items) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let items = items.split(',').map(str::trim).filter(|item| !item.is_empty());
        return items.map(|item| scalar(item, at)).collect();
    }
    ensure!(!text.contains(['#', '&', '*', '|', '>', '\'']), "line {at}: only plain values are read here");
    Ok(match text {
        "{}" => Value::Object(Map::new()),
        // A map follows.
        "" => Value::Null,
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_defaults_and_nesting_are_read() {
        let text = "# Lost.\n\n## First\n\n# About\n# a.\na: 1\nb:\n  # C.\n  # @schema {\"minimum\": 2}\n  c: [x, 3]\n  # D.\n  # @strings\n  d:\n    e: \"1\"\n## Second\n# F.\nf: ghcr.io\n";
        let nodes = parse(text).unwrap();
        let all: Vec<Value> = nodes.iter().map(Node::value).collect();
        assert_eq!(json!(all), json!([1, { "c": ["x", 3], "d": { "e": "1" } }, "ghcr.io"]));
        assert_eq!((nodes[0].doc.as_str(), nodes[0].section.as_deref()), ("About a.", Some("First")));
        assert_eq!(nodes[2].section.as_deref(), Some("Second"));
        assert_eq!(nodes[1].children[0].tags.schema["minimum"], 2);
        assert!(nodes[1].children[1].is_leaf());
    }

    #[test]
    fn what_has_no_comment_or_an_unknown_tag_is_refused() {
        for (text, expected) in [
            ("a:\n  b: 1\n", "a.b has no comment"),
            ("# A.\n# @what\na: 1\n", "unknown tag"),
            ("# A.\na: 1 # more\n", "only plain values"),
            ("# A.\na\n", "line 2"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

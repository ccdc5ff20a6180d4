//! The chart's page: what a person wrote, and a table of all values.

use std::fmt::Write as _;

use crate::values::Node;

/// `head`, then a table for each section.
pub fn readme(head: &str, nodes: &[Node]) -> String {
    let mut page = format!(
        "<!-- Written by `make chart-docs` from README.head.md and values.yaml. -->\n{head}\n## Values\n"
    );
    for node in nodes {
        if let Some(section) = &node.section {
            let _ = write!(page, "\n### {section}\n\n| value | what for | default |\n|---|---|---|\n");
        }
        rows(&mut page, node, "");
    }
    page
}

fn rows(page: &mut String, node: &Node, under: &str) {
    let path = format!("{under}{}", node.key);
    let doc = match &node.tags.kubernetes {
        Some(kind) => format!("{} ({kind})", node.doc),
        None => node.doc.clone(),
    };
    let doc = doc.replace('|', "\\|");
    if node.is_leaf() {
        let _ = writeln!(page, "| `{path}` | {doc} | `{}` |", node.value());
        return;
    }
    if !doc.is_empty() {
        let _ = writeln!(page, "| `{path}` | {doc} | |");
    }
    for child in &node.children {
        rows(page, child, &format!("{path}."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::parse;

    #[test]
    fn each_value_is_a_row_of_its_section() {
        let nodes =
            parse("## One\n# All of a.\na:\n  # B|C.\n  b: x\n## Two\n# D.\n# @kubernetes Affinity\nd: {}\n")
                .unwrap();
        let page = readme("# Chart\n", &nodes);
        let expected = "### One\n\n| value | what for | default |\n|---|---|---|\n| `a` | All of a. | |\n\
                        | `a.b` | B\\|C. | `\"x\"` |\n\n### Two\n\n| value | what for | default |\n|---|---|---|\n\
                        | `d` | D. (Affinity) | `{}` |\n";
        assert!(page.ends_with(expected), "{page}");
    }
}

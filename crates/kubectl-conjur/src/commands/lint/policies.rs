//! Which files are policies of Conjur: other tools have lists and tags, too.

use granit_parser::{Event, Parser, Tag};

/// The tags of statements, without `-` and `_`, which Conjur takes either of.
const STATEMENTS: [&str; 14] = [
    "delete",
    "deny",
    "grant",
    "group",
    "host",
    "hostfactory",
    "layer",
    "permit",
    "policy",
    "resource",
    "revoke",
    "user",
    "variable",
    "webservice",
];

/// Whether a text is a list, or a list of lists, in which a statement of Conjur stands. Where it breaks off, what stands before
/// that says it.
pub fn is_policy(text: &str) -> bool {
    // Lists and mappings that are open: what stands in a mapping without a tag is no statement.
    let mut open = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, _)) = event else { return false };
        let in_mapping = open.contains(&'{');
        let tag = match &event {
            Event::Scalar(_, _, _, tag) => tag.as_deref(),
            Event::SequenceStart(_, _, tag) => {
                open.push('[');
                tag.as_deref()
            }
            Event::MappingStart(_, _, tag) => {
                open.push('{');
                tag.as_deref()
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                None
            }
            _ => None,
        };
        if !in_mapping && tag.is_some_and(is_statement) {
            return true;
        }
        if open == ['{'] {
            return false;
        }
    }
    false
}

fn is_statement(tag: &Tag) -> bool {
    let full = format!("{}{}", tag.handle(), tag.suffix());
    let name = full.split_once('!').map(|(_, name)| name.replace(['-', '_'], "").to_lowercase());
    name.is_some_and(|name| STATEMENTS.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_known_by_conjurs_own_tags() {
        for text in [
            "- !variable a\n",
            "-   !variable a\n",
            "-\n  !variable a\n",
            "-\n  !policy\n  id: a\n",
            "# a comment\n- &all\n  - !variable a\n  - !variable b\n",
            "- &web !host web\n",
            "- !HostFactory\n  id: a\n",
            "- !host-factory {id: a}\n",
            "- !varable a\n- !host b\n",
            "- !variable a\n- {]\n",
            "!policy\nid: a\n",
            "--- # a comment\n- !grant {role: !group a, member: !user b}\n",
            "[!variable a]",
        ] {
            assert!(is_policy(text), "{text}");
        }
        for text in [
            "- !Sub '${a}'\n",
            "- !reference [.setup, script]\n",
            "- !include a.yaml\n",
            "- !!str host\n",
            "- a: !host b\n",
            "a: [!variable b]\n",
            "- '!variable a'\n",
            "- host\n",
            "[{]",
            "",
        ] {
            assert!(!is_policy(text), "{text}");
        }
    }
}

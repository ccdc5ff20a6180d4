//! Whoever is on call finds each reason and each alert, and what to do then.

use std::{collections::BTreeSet, fs, path::Path};

use conjur_operator::api::Reason;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The sections of a page with a heading in code, and what stands in each: "### `Name`".
fn sections(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("\n### `").skip(1).filter_map(|part| part.split_once("`\n"));
    parts.map(|(name, text)| (name, text.split("\n## ").next().unwrap_or(text))).collect()
}

const CAUSE: &str = "- **Find the cause:** ";
const ACTION: &str = "- **What to do:** ";

#[test]
fn every_reason_has_a_paragraph_with_its_cause_and_what_to_do() {
    let page = read("docs/reasons.md");
    let sections = sections(&page);
    let told: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    let (distinct, all): (BTreeSet<_>, BTreeSet<_>) =
        (told.iter().copied().collect(), Reason::ALL.iter().map(|reason| reason.as_str()).collect());
    assert_eq!(distinct, all, "docs/reasons.md on the left, the reasons of the code on the right");
    assert_eq!(told.len(), all.len(), "docs/reasons.md tells a reason twice");
    for (name, text) in sections {
        let (meaning, rest) = text.split_once("\n- ").unwrap_or((text, ""));
        let rest = format!("- {rest}");
        assert!(meaning.trim().ends_with('.'), "docs/reasons.md does not say what {name} means");
        let action = rest.split(ACTION).nth(1).unwrap_or_else(|| panic!("what to do about {name}?"));
        // What is well has no cause to be found.
        let is_well = action.trim() == "Nothing.";
        assert!(
            is_well || rest.contains(CAUSE),
            "docs/reasons.md does not say how to find the cause of {name}"
        );
    }
}

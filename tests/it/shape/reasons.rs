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

const CAUSE: &str = "- **Find the cause:**";
const ACTION: &str = "- **What to do:**";

#[test]
fn every_reason_has_a_paragraph_with_its_cause_and_what_to_do() {
    let page = read("docs/reasons.md");
    let sections = sections(&page);
    let told: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    let (distinct, all): (BTreeSet<_>, BTreeSet<_>) =
        (told.iter().copied().collect(), Reason::ALL.iter().map(|reason| reason.as_str()).collect());
    assert_eq!(distinct, all, "docs/reasons.md on the left, the reasons of the code on the right");
    assert_eq!(told.len(), all.len(), "docs/reasons.md tells a reason twice");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, text) in sections {
        let reason = Reason::ALL.iter().find(|reason| reason.as_str() == name).unwrap();
        let (meaning, rest) = text.split_once("\n- ").unwrap_or((text, ""));
        let rest = format!("- {rest}");
        assert_eq!(
            words(meaning),
            words(reason.meaning()),
            "docs/reasons.md on the left, the code on the right"
        );
        let action = rest.split(ACTION).nth(1).unwrap_or_else(|| panic!("what to do about {name}?"));
        // What is well has no cause to be found.
        let is_well = action.trim() == "Nothing.";
        assert!(
            is_well || rest.contains(CAUSE),
            "docs/reasons.md does not say how to find the cause of {name}"
        );
    }
}

#[test]
fn every_alert_of_the_chart_has_a_paragraph_with_its_cause_and_what_to_do() {
    let page = read("docs/operations.md");
    let alerts = read("charts/conjur-operator/files/alerts.yaml");
    let fields = |name: &'static str| {
        let lines = alerts.lines().map(str::trim);
        lines.filter_map(move |line| line.trim_start_matches("- ").strip_prefix(name)).collect::<Vec<_>>()
    };
    let (names, severities) = (fields("alert: "), fields("severity: "));
    let sections = sections(&page);
    let told: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    assert_eq!(told, names, "docs/operations.md on the left, the alerts of the chart on the right");
    assert_eq!(names.len(), severities.len());
    for ((name, text), severity) in sections.iter().zip(severities) {
        let said = text.trim_start().split('.').next().unwrap().to_lowercase();
        assert_eq!(said, severity, "docs/operations.md says another severity of {name}");
        assert!(text.contains(CAUSE) && text.contains(ACTION), "docs/operations.md is short on {name}");
    }
}

/// The first table below a heading, as its cells.
fn table<'p>(page: &'p str, heading: &str) -> Vec<Vec<&'p str>> {
    let (_, text) = page.split_once(heading).unwrap();
    let rows =
        text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn the_figures_for_sizing_are_those_that_were_measured() {
    let (operations, benchmarks) = (read("docs/operations.md"), read("docs/benchmarks.md"));
    let measured = table(&benchmarks, "\n<!-- figures -->\n");
    let quoted = table(&operations, "\n## Sizing\n");
    assert!(quoted.len() > 4, "{quoted:?}");
    for row in quoted {
        let there = measured.iter().find(|there| there[0] == row[0]);
        let there = there.unwrap_or_else(|| panic!("docs/benchmarks.md has no case {}", row[0]));
        assert_eq!(there[2], row[1], "docs/operations.md has another figure of: {}", row[0]);
    }
}

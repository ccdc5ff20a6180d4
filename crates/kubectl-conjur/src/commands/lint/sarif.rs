//! Findings in the Static Analysis Results Interchange Format 2.1.0, which code hosts show beside the lines.

use serde_json::{Value, json};

use super::finding::{LintFinding, Rule};

pub fn report(findings: &[LintFinding]) -> Value {
    let rules =
        Rule::ALL.map(|rule| json!({ "id": rule.id(), "shortDescription": { "text": rule.about() } }));
    let results: Vec<_> = findings
        .iter()
        .map(|one| {
            let object = if one.object.is_empty() { String::new() } else { format!("{}: ", one.object) };
            json!({
                "ruleId": one.rule.id(), "level": "error", "message": { "text": format!("{object}{}", one.message) },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": one.path }, "region": { "startLine": one.line } } }],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "kubectl-conjur", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "results": results,
        }],
    })
}

//! `docs/reference.md`, from the CRDs: every field with its type, its bounds and its description.

mod field;

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use conjur_operator_api::crds;
use serde_json::Value;

const HEAD: &str = "# API reference

<!-- Written by `make crds` from the types in `crates/conjur-operator-api`. -->

Every field of the group `conjur-operator.io`, version `v1alpha1`, as the CRDs have it. `[]` stands for the entries of a list, `.*` for
those of a map. A field without a mark is optional. *Checked* is a rule of the API server, which refuses what does not keep to it.
`kubectl explain` tells the same in a terminal; the page of each kind has its examples.
";

/// The page, as it is to be.
///
/// # Errors
/// Where a CRD is not as those of the operator are.
pub fn generate() -> Result<String> {
    let mut text = String::from(HEAD);
    for crd in crds() {
        let crd = serde_json::to_value(&crd)?;
        kind(&mut text, &crd["spec"]).with_context(|| crd["metadata"]["name"].to_string())?;
    }
    Ok(text)
}

/// The section of one kind.
fn kind(text: &mut String, spec: &Value) -> Result<()> {
    let names = &spec["names"];
    let kind = names["kind"].as_str().context("no kind")?;
    let version = &spec["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let scope = if spec["scope"] == "Namespaced" { "Lies in a namespace" } else { "Lies in no namespace" };
    let short: Vec<&str> =
        names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let page = match kind {
        "ConjurConnection" | "ClusterConjurConnection" => "connections.md".to_owned(),
        _ => format!("{}.md", kind.to_lowercase()),
    };
    let plural = names["plural"].as_str().context("no plural")?;
    write!(text, "\n## {kind}\n\n{} {scope}; `{plural}`", field::described(schema))?;
    for name in short {
        write!(text, ", `{name}`")?;
    }
    writeln!(text, " for kubectl. Its page: [{page}]({page}).")?;
    for part in ["spec", "status"] {
        let fields = field::all(&schema["properties"][part]);
        anyhow::ensure!(!fields.is_empty(), "no {part}");
        writeln!(text, "\n### {kind}, {part}\n\n| field | type | |\n|---|---|---|")?;
        for row in field::checks(&schema["properties"][part])
            .iter()
            .map(|rule| format!("| `{part}` | object | {rule} |"))
        {
            writeln!(text, "{row}")?;
        }
        for field in fields {
            writeln!(text, "| `{}` | {} | {} |", field.path, field.type_, field.text)?;
        }
    }
    Ok(())
}

/// Where the page lies in the repository.
pub fn page() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_is_generated_is_current() {
        let there = std::fs::read_to_string(page()).unwrap_or_default();
        assert!(
            there == generate().unwrap(),
            "docs/reference.md does not come from the types as they are; run `make crds`"
        );
    }
}

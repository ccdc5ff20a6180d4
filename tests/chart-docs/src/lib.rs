//! The chart's `values.schema.json` and `README.md`, from the comments of its `values.yaml`.
//!
//! Every value has a comment above it. A line `## …` begins a section of the README; a line `# @…` is for the schema:
//!
//! - `@schema {…}`: keys of JSON Schema that win over what follows from the default,
//! - `@strings`: a map of strings,
//! - `@kubernetes Toleration`: what Kubernetes calls so, which the API server checks; its default is one row of the README,
//! - `@open`: a map in which others may have keys of their own.

mod readme;
mod schema;
mod values;

use std::path::Path;

use anyhow::{Context as _, Result};

/// What is generated, by the name of its file in the chart's folder.
///
/// # Errors
/// Where a file can't be read, or `values.yaml` does not keep to the rules; with the line.
pub fn generate(chart: &Path) -> Result<[(&'static str, String); 2]> {
    let read = |name: &str| std::fs::read_to_string(chart.join(name)).with_context(|| name.to_owned());
    let values = values::parse(&read("values.yaml")?)?;
    let schema = serde_json::to_string_pretty(&schema::schema(&values))? + "\n";
    Ok([("values.schema.json", schema), ("README.md", readme::readme(&read("README.head.md")?, &values))])
}

/// The folder of the chart in the repository.
pub fn chart() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/conjur-operator")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_current() {
        for (name, text) in generate(&chart()).unwrap() {
            let there = std::fs::read_to_string(chart().join(name)).unwrap_or_default();
            assert!(there == text, "{name} does not come from values.yaml as it is; run `make chart-docs`");
        }
    }
}

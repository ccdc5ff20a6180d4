//! What `lint` finds, and the checks that find it.

use serde::Serialize;

/// A rule, the path of a field, the line in the field's text where that is known, and what is wrong.
pub type Found = (Rule, String, Option<u32>, String);

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LintFinding {
    pub path: String,
    /// From 1.
    pub line: u32,
    /// Which check found it.
    pub rule: Rule,
    /// `ConjurSecret billing/db`; empty for what is no object.
    pub object: String,
    pub message: String,
}

/// The checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    Yaml,
    Schema,
    UnknownField,
    Spec,
    Template,
    PolicyDocument,
}

impl Rule {
    pub const ALL: [Rule; 6] =
        [Rule::Yaml, Rule::Schema, Rule::UnknownField, Rule::Spec, Rule::Template, Rule::PolicyDocument];

    pub fn id(self) -> &'static str {
        match self {
            Rule::Yaml => "yaml",
            Rule::Schema => "schema",
            Rule::UnknownField => "unknown-field",
            Rule::Spec => "spec",
            Rule::Template => "template",
            Rule::PolicyDocument => "policy-document",
        }
    }

    pub fn about(self) -> &'static str {
        match self {
            Rule::Yaml => "The file can be read, and is YAML",
            Rule::Schema => "The API server takes the object: the schema and the rules of its CRD",
            Rule::UnknownField => "Each field is one that there is",
            Rule::Spec => "The operator takes the spec",
            Rule::Template => "Templates can be read",
            Rule::PolicyDocument => "Policy documents can be read",
        }
    }
}

//! The policy language: reading a document and applying it.

pub(crate) mod apply;
mod attributes;
pub(crate) mod document;
mod names;
pub(crate) mod yaml;

use serde_json::{Value, json};

/// Why a document was refused.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It does not parse, or says what makes no sense (recordings 45–73); lines and columns are those of
    /// the real server: its parser's position after the offending event, counted from 0.
    Invalid { message: String, at: Option<(usize, usize)> },
    /// It is no YAML (recordings 45, 46): only a dry run tells where, counted from 1 (recording 105).
    Yaml { message: String, line: usize, column: usize },
    /// `policy_text` itself is not acceptable (recordings 49, 74).
    Text(&'static str),
}

impl Refused {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), at: None }
    }

    /// What a dry run says of it: the message with its explanation, and where.
    pub(crate) fn explained(&self) -> (String, Option<(usize, usize)>) {
        match self {
            Self::Text(reason) => (format!("policy_text {reason}"), None),
            Self::Yaml { message, line, column } if message.contains("parsing a flow node") => {
                let explanation = "This error can occur when you have an unexpected character at the beginning \
                                   of the node. putting the node in quotes might help";
                (format!("{message}\n{explanation}"), Some((*line, *column)))
            }
            Self::Yaml { message, line, column } => (message.clone(), Some((*line, *column))),
            Self::Invalid { message, at } if message.starts_with("Unrecognized data type") => {
                let explanation = "The tag must be one of the following: !delete, !deny, !grant, !group, !host, \
                                   !host-factory, !layer, !permit, !policy, !revoke, !user, !variable, !webservice";
                (format!("{message}\n{explanation}"), *at)
            }
            Self::Invalid { message, at } => (message.clone(), *at),
        }
    }

    /// The body of the 422.
    pub(crate) fn body(&self) -> Value {
        match self {
            Self::Text(reason) => json!({"error": {
                "code": "validation_failed",
                "message": format!("policy_text {reason}"),
                "details": [{"code": "validation_failed", "target": "policy_text", "message": reason}],
            }}),
            Self::Invalid { message, at: None } | Self::Yaml { message, .. } => {
                json!({"error": {"code": "policy_invalid", "message": message}})
            }
            Self::Invalid { message, at: Some((line, column)) } => json!({"error": {
                "code": "policy_invalid",
                "message": format!("Error at line {line}, column {column} in policy : {message}"),
                "innererror": {
                    "code": "policy_invalid", "filename": "policy", "line": line, "column": column,
                },
            }}),
        }
    }
}

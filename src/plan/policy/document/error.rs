//! Why a document can't be read.

use serde::{Deserialize, Serialize};

/// Why a document can't be read. The message never quotes the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct DocumentError {
    pub message: String,
    /// 1-based.
    pub line: u32,
    /// 1-based.
    pub column: u32,
}

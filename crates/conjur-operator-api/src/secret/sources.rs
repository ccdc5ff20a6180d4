//! What goes into a Secret.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;

/// One key of the Secret, and the variable whose value it gets.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DataEntry {
    /// Required. Key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')")
        .message("a Secret key is made of letters, digits, '-', '_' and '.', and is not '.' nor begins with '..'"))]
    pub key: String,
    /// Required. Id of the variable, below the account: `apps/billing/db/password`.
    #[schemars(length(min = 1, max = 1024))]
    pub variable: String,
    /// A pinned version of the value. Default: the latest.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Takes one field of a value that is JSON: a JSON pointer (`/nested/field`), or the name of a field at the top.
    /// Text comes as it is, anything else as compact JSON. Default: the whole value.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// Base64: the value (or property) is base64, and its bytes go into the Secret. Default: None.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<Decode>,
    /// True: a variable that is missing in Conjur leaves the key out, also one that was there; one that is
    /// forbidden still fails. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// What is done to a value before it goes into the Secret.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decode {
    /// Nothing.
    #[default]
    None,
    /// It is decoded as base64, standard or URL-safe.
    Base64,
}

/// Something that gives several keys: exactly one of `find`, `extract` and `publicKeys`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.find) ? 1 : 0) + (has(self.extract) ? 1 : 0) + (has(self.publicKeys) ? 1 : 0) == 1")
        .message("give exactly one of find, extract and publicKeys in each item of dataFrom"),
    validation = Rule::new("!has(self.keyFrom) || has(self.find)")
        .message("keyFrom names the keys of find; leave it out elsewhere, or use rewrite")
)]
pub struct DataSource {
    /// All variables that meet every criterion given; each gives one key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub find: Option<Find>,
    /// A variable that holds a JSON object; each of its fields gives one key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extract: Option<Extract>,
    /// The public keys of a user or host, under one key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_keys: Option<PublicKeys>,
    /// How `find` names its keys. Path: what is left of the id after the prefix, with `/` as `_`. LastSegment: what
    /// stands behind the last `/`. Default: Path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_from: Option<KeyFrom>,
    /// Renames the keys, one rule after the other.
    #[schemars(length(min = 1, max = 16))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Vec<Rewrite>>,
}

/// Which variables; all that is given must match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.prefix) || has(self.search) || has(self.annotations) || has(self.pattern)")
    .message("give at least one of prefix, search, annotations and pattern"))]
pub struct Find {
    /// What the id begins with, such as `apps/billing/`.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Whole words in the id or annotations, as Conjur's search has it: `pass` does not find `password`.
    #[schemars(length(min = 1, max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// Annotations that the variable has in Conjur, with their values.
    #[schemars(transform = bounds::map(1, 16, 1024))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 1024)").message("the name of an annotation has at most 1024 characters"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// A regular expression that matches somewhere in the id; `^` and `$` bind it to its ends.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// A variable that holds a JSON object.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Extract {
    /// Required. Id of the variable, below the account.
    #[schemars(length(min = 1, max = 1024))]
    pub variable: String,
    /// A pinned version of the value. Default: the latest.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The field that holds the object: a JSON pointer, or the name of a field at the top. Default: the whole value.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
}

/// The public keys of a user or host.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PublicKeys {
    /// Required. user or host.
    pub kind: PublicKeysKind,
    /// Required. Its id, below the account.
    #[schemars(length(min = 1, max = 1024))]
    pub id: String,
    /// Required. Key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')")
        .message("a Secret key is made of letters, digits, '-', '_' and '.', and is not '.' nor begins with '..'"))]
    pub key: String,
}

/// Whose public keys.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PublicKeysKind {
    /// A user.
    User,
    /// A host.
    Host,
}

/// How found variables name their keys.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyFrom {
    /// By what is left of the id after the prefix, with `/` as `_`.
    #[default]
    Path,
    /// By what stands behind the last `/`.
    LastSegment,
}

/// One rule that renames keys.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    /// Required. A regular expression; every match in the key is replaced.
    #[schemars(length(min = 1, max = 1024))]
    pub pattern: String,
    /// Required. What takes its place; `$1` or `${name}` stands for a group.
    #[schemars(length(max = 253))]
    pub replacement: String,
}

//! What is asked for, and what comes of it.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::note::{Note, Severity};

/// What the caller knows and the objects don't say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The connection to use where an object's own is not among the objects, or can't be translated.
    pub connection: Option<Connection>,
}

/// A connection, as an object refers to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Connection {
    /// Its name.
    pub name: String,
    /// A ClusterConjurConnection; else a ConjurConnection of the object's namespace.
    pub cluster: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Migration {
    /// The operator's objects: connections first, in the order of the sources.
    pub objects: Vec<Value>,
    /// What to know and to do.
    pub notes: Vec<Note>,
    /// The Secrets that are there, and who takes each over.
    pub takeovers: Vec<Takeover>,
}

impl Migration {
    /// The object of a kind and name that was made.
    pub fn object(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    /// Whether something was not translated.
    pub fn is_blocked(&self) -> bool {
        self.notes.iter().any(|note| note.severity == Severity::Blocks)
    }
}

/// A Secret that is there and goes over to a ConjurSecret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Takeover {
    /// Where both are; none where the manifests name no namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The Secret.
    pub secret: String,
    /// The ConjurSecret that writes it from now on.
    pub conjur_secret: String,
    /// How it writes it.
    pub mode: Mode,
    /// The keys that it writes, where they can be known. With [`Mode::Owner`] the Secret must have these and no others, or
    /// it loses or gains one by the hand-over; only `conjur-map` of the Secrets Provider may be there besides, and goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_keys: Option<BTreeSet<String>>,
    /// The type that the Secret must have, where the manifests tell: another would have it deleted and made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_type: Option<String>,
    /// Who writes it now, and has to stop first.
    pub from: Former,
}

impl Takeover {
    /// The ExternalSecret that writes the Secret now: its apiVersion and name.
    pub fn former_external_secret(&self) -> Option<(&str, &str)> {
        match &self.from {
            Former::ExternalSecret { api_version, name, .. } => Some((api_version, name)),
            Former::SecretsProvider { .. } => None,
        }
    }
}

/// How a ConjurSecret writes its Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Mode {
    /// Its data is the operator's alone. It needs the adopt annotation.
    Owner,
    /// Only some keys are the operator's. The managers of these keys have to be taken out of `metadata.managedFields`,
    /// for the operator forces nothing.
    Merge,
}

/// Who writes a Secret before the hand-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "camelCase")]
pub enum Former {
    /// External Secrets Operator, for this ExternalSecret: its controller reference, and labels and annotations below
    /// `reconcile.external-secrets.io/`, have to go.
    #[serde(rename_all = "camelCase")]
    ExternalSecret {
        /// Its apiVersion.
        api_version: String,
        /// Its name.
        name: String,
        /// Whether the Secret names it as its controller (`creationPolicy: Owner`), so that it goes with it.
        owns: bool,
    },
    /// The Secrets Provider, of these workloads (`Deployment/web`); none are known where none was among the objects.
    SecretsProvider {
        /// Each as `<kind>/<name>`.
        workloads: Vec<String>,
    },
}

//! What the API server was asked, from its audit log.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use crate::Result;

/// The policy: every request, without bodies.
pub(crate) const POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]
}"#;

/// One request to the API server, as its audit log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRequest {
    /// When it came in.
    pub time: Timestamp,
    /// When it got as far as its stage: for `ResponseComplete`, when it was answered.
    pub until: Timestamp,
    /// `ResponseComplete`; a watch also has a `ResponseStarted`, and its `ResponseComplete` when it ends.
    pub stage: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The plural, like `secrets`; empty for a request that is no resource's, like `/version`.
    pub resource: String,
    /// Like `status`; often empty.
    pub subresource: String,
    /// The object's namespace; empty for lists over all and for what has none.
    pub namespace: String,
    /// The object's name; empty for lists and for a create that leaves it to the server.
    pub name: String,
    /// What the caller says it is.
    pub user_agent: String,
    /// The answer's status.
    pub code: u16,
    /// Path and query.
    pub uri: String,
}

impl ApiRequest {
    /// Whether it is a watch or concerns a Lease: what goes on all the time, whatever there is to do.
    pub fn is_background(&self) -> bool {
        self.verb == "watch" || self.resource == "leases"
    }

    /// Whether a token of a `ServiceAccount` was requested.
    pub fn is_token_request(&self) -> bool {
        self.resource == "serviceaccounts" && self.subresource == "token"
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    #[serde(rename = "requestURI")]
    uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

/// A place in the audit log: what comes after it is new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditMark(pub(crate) u64);

/// All requests of `user` in the audit log after `mark`, in the order in which they were answered, and the place up to
/// which it was read.
pub(crate) fn requests_by(user: &str, log: &Path, mark: AuditMark) -> Result<(Vec<ApiRequest>, AuditMark)> {
    let mut text = String::new();
    let mut file = File::open(log).with_context(|| format!("opening {}", log.display()))?;
    let read = file.seek(SeekFrom::Start(mark.0)).and_then(|_| file.read_to_string(&mut text));
    read.with_context(|| format!("reading {}", log.display()))?;
    let mut found = Vec::new();
    let mut until = mark.0;
    // The last line may still be in the writing.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        until += line.len() as u64;
        if !line.contains(user) {
            continue;
        }
        let line: Line = serde_json::from_str(line).with_context(|| format!("an audit line: {line}"))?;
        if line.user.username == user {
            found.push(ApiRequest {
                time: line.request_received_timestamp,
                until: line.stage_timestamp,
                stage: line.stage,
                verb: line.verb,
                resource: line.object_ref.resource,
                subresource: line.object_ref.subresource,
                namespace: line.object_ref.namespace,
                name: line.object_ref.name,
                user_agent: line.user_agent,
                code: line.response_status.code,
                uri: line.uri,
            });
        }
    }
    Ok((found, AuditMark(until)))
}

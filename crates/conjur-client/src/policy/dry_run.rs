//! A load that isn't one: what it would do, or what is wrong with the document.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;

use super::{LoadMode, branch_path};
use crate::capabilities::{Capability, Support};
use crate::client::Client;
use crate::error::Error;
use crate::http::Call;
use crate::id::PolicyBranch;
use crate::observe::Endpoint;
use crate::response::{self, HttpAnswer};
use crate::session::json;
use crate::words;

/// What a load would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DryRun {
    /// It would be loaded.
    Valid(Changes),
    /// It would be refused, for these reasons.
    Invalid(Vec<Flaw>),
}

/// What a load would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What would be new.
    pub created: Vec<Item>,
    /// What would change, as it is …
    pub before: Vec<Item>,
    /// … and as it would be.
    pub after: Vec<Item>,
    /// What would be gone.
    pub deleted: Vec<Item>,
}

/// A record. Where the caller doesn't own the branch, ids read `[REDACTED]` and fields are missing (recordings 722
/// and 723).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Item {
    /// The full id, `account:kind:id`.
    #[serde(deserialize_with = "words::id")]
    pub identifier: String,
    /// Its kind.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// The full id of its owner.
    #[serde(default)]
    pub owner: Option<String>,
    /// The full id of the policy that makes it.
    #[serde(default)]
    pub policy: Option<String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// What it may do: the full ids of resources by privilege.
    #[serde(default)]
    pub permissions: BTreeMap<String, Vec<String>>,
    /// Who may do what with it: the full ids of roles by privilege.
    #[serde(default)]
    pub permitted: BTreeMap<String, Vec<String>>,
    /// The full ids of its members.
    #[serde(default)]
    pub members: Vec<String>,
    /// The full ids of what it is a member of.
    #[serde(default)]
    pub memberships: Vec<String>,
    /// The CIDRs it may come from.
    #[serde(default)]
    pub restricted_to: Vec<String>,
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Flaw {
    /// The line, from 1.
    #[serde(default)]
    pub line: Option<u32>,
    /// The column; 0 where the server doesn't know it.
    #[serde(default)]
    pub column: Option<u32>,
    /// What it is.
    #[serde(deserialize_with = "words::text")]
    pub message: String,
}

impl Flaw {
    /// The record that the document refers to and that isn't there, as a full id.
    pub fn missing(&self) -> Option<String> {
        response::missing_record(&self.message).filter(|_| self.line.is_none_or(|line| line == 0))
    }
}

impl Client {
    /// What a load of `document` would do: `POST`, `PATCH` or `PUT policies/{account}/policy/{branch}?dryRun=true` (API:
    /// Dry Run; recordings 27, 32, 75, 105 to 109, 709 to 724). It makes no version.
    ///
    /// A server that doesn't know dry runs **loads** the document. So the server's version is asked first, and only
    /// 1.21.1 and later is sent one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the server is older, doesn't say its version, or says nothing of what would change;
    /// [`Error::NotFound`], [`Error::Forbidden`] as for a load; [`Error::Unexpected`] with 500 for a `PUT` by
    /// someone who doesn't own the branch (724), or where the server did load the document.
    pub async fn dry_run_policy(
        &self,
        branch: &PolicyBranch,
        mode: LoadMode,
        document: &[u8],
    ) -> Result<DryRun, Error> {
        self.knows_dry_runs().await?;
        let session = self.session();
        let (method, privilege) = mode.request();
        let call = Call {
            method,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))],
            body: Bytes::copy_from_slice(document),
            timeout: session.limits.policy_timeout,
            repeatable: false,
            ..session.get(Endpoint::PolicyDryRun, format!("{}?dryRun=true", branch_path(session, branch)))
        };
        let answer = session.call(&call).await.map_err(|fault| fault.error)?;
        let target = format!("the dry run in policy branch {branch}");
        let about = session.about(&target, privilege);
        match answer.status {
            201 => Err(Error::Unexpected {
                status: Some(201),
                message: format!("{} loaded the document into {branch} instead of a dry run", about.url),
            }),
            200..=299 => match json::<Report>(&answer, about)?.changes() {
                Some(changes) => Ok(DryRun::Valid(changes)),
                None => Err(Error::Unsupported {
                    what: Capability::DryRun,
                    message: format!(
                        "the server at {} checks documents, but does not say what they would change: dry runs that do came \
                         after 1.21.1; use a later server",
                        about.url
                    ),
                }),
            },
            422 => match flaws(&answer) {
                Some(flaws) => Ok(DryRun::Invalid(flaws)),
                None => Err(response::from_answer(&answer, about)),
            },
            500 => Err(Error::Unexpected {
                status: Some(500),
                message: format!(
                    "{} answered 500 for {target}, as it does to those who may load the branch but don't own it",
                    about.url
                ),
            }),
            _ => Err(response::from_answer(&answer, about)),
        }
    }

    async fn knows_dry_runs(&self) -> Result<(), Error> {
        // Each time: the server behind an address may be exchanged for an older one.
        let version = self.server_version().await?;
        match Capability::DryRun.on(version.as_deref()) {
            Support::Has => Ok(()),
            Support::Lacks | Support::Unsaid => Err(Error::Unsupported {
                what: Capability::DryRun,
                message: Capability::DryRun.refused(self.session().transport.url(), version.as_deref()),
            }),
        }
    }
}

/// The errors of an invalid document: a 422 without `error` (recordings 105 and 106).
fn flaws(answer: &HttpAnswer) -> Option<Vec<Flaw>> {
    #[derive(Deserialize)]
    struct Refused {
        errors: Vec<Flaw>,
    }
    serde_json::from_slice::<Refused>(answer.body.expose()).ok().map(|refused| refused.errors)
}

/// The first servers with a dry run said only `status`.
#[derive(Deserialize)]
struct Report {
    created: Option<Items>,
    updated: Option<Updated>,
    deleted: Option<Items>,
}

#[derive(Deserialize)]
struct Updated {
    before: Items,
    after: Items,
}

#[derive(Deserialize)]
struct Items {
    items: Vec<Wrapped>,
}

/// 1.24.0 puts the record into the field `identifier` of one whose other fields are null; the API's documents don't.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wrapped {
    Nested { identifier: Box<Item> },
    Flat(Box<Item>),
}

impl Wrapped {
    fn item(self) -> Item {
        match self {
            Self::Nested { identifier: item } | Self::Flat(item) => *item,
        }
    }
}

impl Report {
    fn changes(self) -> Option<Changes> {
        let items = |list: Items| list.items.into_iter().map(Wrapped::item).collect();
        let updated = self.updated?;
        Some(Changes {
            created: items(self.created?),
            before: items(updated.before),
            after: items(updated.after),
            deleted: items(self.deleted?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_changes_says_nothing_of_them() {
        let changes = |json: &str| serde_json::from_str::<Report>(json).unwrap().changes();
        assert_eq!(changes(r#"{"status":"Valid YAML","errors":[]}"#), None);
        let none = r#"{"created":{"items":[]},"updated":{"before":{"items":[]},"after":{"items":[]}},"deleted":{"items":[]}}"#;
        assert_eq!(changes(none), Some(Changes::default()));
    }
}

//! Policies: load a document, ask who owns a branch, and look at what was loaded.
//!
//! ```
//! # async fn example(client: conjur_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use conjur_client::{LoadError, LoadMode, PolicyBranch};
//!
//! let branch = PolicyBranch::new("apps")?;
//! match client.load_policy(&branch, LoadMode::Append, b"- !host web\n").await {
//!     // The keys of the hosts that it makes come once, now.
//!     Ok(loaded) => println!("{} keys to keep", loaded.created_roles.len()),
//!     Err(LoadError::Refused(error)) => println!("nothing was loaded: {error}"),
//!     Err(LoadError::Unknown(error)) => println!("look at the branch's versions: {error}"),
//! }
//! # Ok(())
//! # }
//! ```

mod dry_run;
mod effective;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;

use super::check::Check;
use super::client::Client;
use super::error::{Error, LoadError};
use super::http::{Call, Fault};
use super::id::{self, PolicyBranch, RoleId};
use super::observe::Endpoint;
use super::response;
use super::session::{Session, json, longer};
use super::{memory_budget, stream, words};
use crate::limits::{ID_BYTES, POLICY_VERSIONS};
use crate::sensitive::Sensitive;

pub use self::dry_run::{Changes, DryRun, Flaw, Item};

/// A privilege that no one grants: only an owner passes a check for it (recordings of `15-ownership`).
const NOBODYS_PRIVILEGE: &str = "own-this-branch-probe";

/// What a load does with what is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoadMode {
    /// `POST`: only adds; needs `create`.
    Append,
    /// `PATCH`: adds, changes and deletes what the document says; needs `update`.
    Update,
    /// `PUT`: what the document leaves out of what this branch made is removed; needs `update`.
    Replace,
}

impl LoadMode {
    fn request(self) -> (Method, &'static str) {
        match self {
            Self::Append => (Method::POST, "the create privilege on it"),
            Self::Update => (Method::PATCH, "the update privilege on it"),
            Self::Replace => (Method::PUT, "the update privilege on it"),
        }
    }
}

fn branch_path(session: &Session, branch: &PolicyBranch) -> String {
    format!("policies/{}/policy/{}", id::segment(&session.account), id::segment(branch.as_str()))
}

/// What a load made.
#[derive(Debug)]
pub struct Loaded {
    /// The users and hosts that did not exist before, with their API keys, which the server never tells again.
    pub created_roles: BTreeMap<RoleId, Sensitive<String>>,
    /// The branch's version; every successful load raises it.
    pub version: u64,
}

/// What the caller is to a branch, or to a host factory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Owns it, directly or through a group: sees and may rotate what a load makes.
    Owner,
    /// Sees it, but doesn't own it.
    NotOwner,
    /// Missing or invisible.
    NoBranch,
}

/// One load of a branch, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PolicyVersion {
    /// Counts up from 1; the 20 newest are kept.
    pub version: u64,
    /// Hex SHA-256 of the document.
    #[serde(rename = "policy_sha256", deserialize_with = "words::text")]
    pub sha256: String,
    /// The full id of who loaded it.
    #[serde(deserialize_with = "words::text")]
    pub role: String,
    /// When the load began, as the server writes it.
    #[serde(deserialize_with = "words::text")]
    pub created_at: String,
    /// When it ended; `None` while it goes on.
    #[serde(default, deserialize_with = "words::optional")]
    pub finished_at: Option<String>,
}

impl Client {
    /// Loads `document` into `branch`: `POST`, `PATCH` or `PUT policies/{account}/policy/{branch}`, within
    /// `policy_timeout`. Sent once (a 401 apart, after which nothing was done).
    ///
    /// # Errors
    /// [`LoadError::Refused`] where nothing was loaded: no connection, or a 4xx, as in [`Error::Invalid`] with line
    /// and column, [`Error::Conflict`], [`Error::Forbidden`], [`Error::NotFound`]. [`LoadError::Unknown`] where it
    /// may have been: timeout, reset, 408, 5xx, or a success whose body is lost or not understood.
    pub async fn load_policy(
        &self,
        branch: &PolicyBranch,
        mode: LoadMode,
        document: &[u8],
    ) -> Result<Loaded, LoadError> {
        let session = self.session();
        let (method, privilege) = mode.request();
        let path = branch_path(session, branch);
        let call = Call {
            method,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))],
            body: Bytes::copy_from_slice(document),
            timeout: session.limits.policy_timeout,
            repeatable: false,
            ..session.get(Endpoint::PolicyLoad, path)
        };
        let target = format!("policy branch {branch}");
        let about = session.about(&target, privilege);
        let mut answer = session.call(&call).await.map_err(|Fault { error, maybe_sent, .. }| {
            if maybe_sent { LoadError::Unknown(error) } else { LoadError::Refused(error) }
        })?;
        if let Some(share) = answer.share.take() {
            // The keys in it are held until they are stored.
            memory_budget::keep(&Arc::new(share));
        }
        match answer.status {
            200..=299 => read_loaded(json(&answer, about)).map_err(LoadError::Unknown),
            408 | 500.. => Err(LoadError::Unknown(response::from_answer(&answer, about))),
            _ => Err(LoadError::Refused(response::from_answer(&answer, about))),
        }
    }

    /// Whether the caller owns `branch`: a check for a privilege that no one grants, which owners pass. 204 is the
    /// owner, a 404 without a body someone who sees the branch, one with JSON (recordings 463 to 470) no one.
    pub async fn owns_branch(&self, branch: &PolicyBranch) -> Result<Ownership, Error> {
        self.owns("policy", branch.as_str()).await
    }

    /// The same of a host factory: who owns it sees the hosts that it makes, and may rotate their keys. Who only may
    /// `execute` it sees none of them.
    pub async fn owns_host_factory(&self, factory: &str) -> Result<Ownership, Error> {
        self.owns("host_factory", factory).await
    }

    async fn owns(&self, kind: &str, id: &str) -> Result<Ownership, Error> {
        match self.check_permission(kind, id, NOBODYS_PRIVILEGE, None).await? {
            Check::Granted => Ok(Ownership::Owner),
            Check::Denied => Ok(Ownership::NotOwner),
            Check::NoResource => Ok(Ownership::NoBranch),
        }
    }

    /// The kept versions of `branch`, oldest first: `GET resources/{account}/policy/{branch}`, read as a stream,
    /// for the texts of all of them come along. Needs to see the branch.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the branch is missing or invisible.
    pub async fn policy_versions(&self, branch: &PolicyBranch) -> Result<Vec<PolicyVersion>, Error> {
        #[derive(Deserialize)]
        struct Shown {
            policy_versions: Vec<PolicyVersion>,
        }
        let session = self.session();
        let path =
            format!("resources/{}/policy/{}", id::segment(&session.account), id::segment(branch.as_str()));
        let call = stream::deadline(session.get(Endpoint::ShowResource, path), longer(&session.limits));
        let target = format!("policy branch {branch}");
        let about = session.about(&target, "the right to see it");
        let shown: Option<Shown> = session.stream(&call, about).await?;
        let shown = shown.ok_or_else(|| about.missing())?;
        let mut versions = shown.policy_versions;
        versions.sort_by_key(|version| version.version);
        versions.drain(..versions.len().saturating_sub(POLICY_VERSIONS));
        Ok(versions)
    }
}

#[derive(Deserialize)]
struct Created {
    #[serde(default)]
    created_roles: BTreeMap<String, CreatedRole>,
    version: u64,
}

#[derive(Deserialize)]
struct CreatedRole {
    api_key: Sensitive<String>,
}

fn read_loaded(created: Result<Created, Error>) -> Result<Loaded, Error> {
    let created = created?;
    let mut created_roles = BTreeMap::new();
    for (role, CreatedRole { api_key }) in created.created_roles {
        // What has no id to be named by costs only itself: the keys of the others come never again.
        if let Some(role) = role.parse::<RoleId>().ok().filter(|_| role.len() <= ID_BYTES) {
            created_roles.insert(role, api_key);
        } else {
            tracing::warn!("a load made a role whose id can't be read; its key is lost");
        }
    }
    Ok(Loaded { created_roles, version: created.version })
}

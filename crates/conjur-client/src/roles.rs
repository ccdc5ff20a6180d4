//! Roles, who is in them, and what they are in; public keys.
//!
//! ```
//! # async fn example(client: conjur_client::Client) -> Result<(), conjur_client::Error> {
//! use conjur_client::Members;
//!
//! for membership in client.role_members("group", "apps/admins", &Members::default()).await? {
//!     println!("{}", membership.member);
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt::Write;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::capabilities::{Capability, Support};
use super::client::Client;
use super::error::Error;
use super::http::Call;
use super::id::{self, RoleId};
use super::memory_budget;
use super::observe::Endpoint;
use super::pages::Page;
use super::response;
use super::session::{json, longer};
use super::stream;

/// A role as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Role {
    /// Which.
    pub id: RoleId,
    /// When it was made, as the server writes it.
    pub created_at: String,
    /// The full id of the policy that made it.
    #[serde(default)]
    pub policy: Option<String>,
    /// Who is in it.
    #[serde(default)]
    pub members: Vec<Membership>,
}

/// One role in another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Membership {
    /// The one that has the member.
    pub role: RoleId,
    /// The member.
    pub member: RoleId,
    /// Whether the member may give the role to others.
    #[serde(default)]
    pub admin_option: bool,
    /// Whether it is a member because it owns the role.
    #[serde(default)]
    pub ownership: bool,
    /// The full id of the policy that made it one.
    #[serde(default)]
    pub policy: Option<String>,
}

/// Which members or memberships.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Only roles of this kind.
    pub kind: Option<String>,
    /// Only those whose id has these words.
    pub search: Option<String>,
    /// Only this part. All of them without it.
    pub page: Option<Page>,
}

impl Members {
    fn write(&self, path: &mut String) {
        // Writing to a String can't fail.
        if let Some(kind) = &self.kind {
            write!(path, "&kind={}", id::query(kind)).ok();
        }
        if let Some(search) = &self.search {
            write!(path, "&search={}", id::query(search)).ok();
        }
        if let Some(page) = self.page {
            write!(path, "&limit={}&offset={}", page.limit, page.offset).ok();
        }
    }
}

impl Client {
    /// A role: `GET roles/{account}/{kind}/{id}` (API: Show a Role; recordings 379 to 382, 393 to 400). `None` where it
    /// is missing or invisible; a host may not see its own, for which there is [`whoami`](Client::whoami) (396).
    pub async fn show_role(&self, kind: &str, id: &str) -> Result<Option<Role>, Error> {
        self.role(Endpoint::ShowRole, kind, id, "").await
    }

    /// The direct members of a role: `GET roles/…?members` (API: List a Role's Members; recordings 383 to 387).
    ///
    /// # Errors
    /// [`Error::NotFound`] where the role is missing or invisible (397).
    pub async fn role_members(
        &self,
        kind: &str,
        id: &str,
        which: &Members,
    ) -> Result<Vec<Membership>, Error> {
        let mut query = "?members".to_owned();
        which.write(&mut query);
        self.found(kind, id, self.role(Endpoint::RoleMembers, kind, id, &query).await?)
    }

    /// What a role is directly a member of: `GET roles/…?memberships` (API: List a Role's Memberships; recordings 388,
    /// 513).
    ///
    /// # Errors
    /// [`Error::NotFound`] where the role is missing or invisible.
    pub async fn role_memberships(
        &self,
        kind: &str,
        id: &str,
        which: &Members,
    ) -> Result<Vec<Membership>, Error> {
        let mut query = "?memberships".to_owned();
        which.write(&mut query);
        self.found(kind, id, self.role(Endpoint::RoleMemberships, kind, id, &query).await?)
    }

    /// All that a role is a member of, through others too, and itself: `GET roles/…?all` (API: List a Role's
    /// Memberships; recording 389).
    ///
    /// # Errors
    /// [`Error::NotFound`] where the role is missing or invisible.
    pub async fn all_role_memberships(&self, kind: &str, id: &str) -> Result<Vec<RoleId>, Error> {
        self.found(kind, id, self.role(Endpoint::RoleMemberships, kind, id, "?all").await?)
    }

    async fn role<T: DeserializeOwned + Send + 'static>(
        &self,
        endpoint: Endpoint,
        kind: &str,
        id: &str,
        query: &str,
    ) -> Result<Option<T>, Error> {
        let session = self.session();
        let account = id::segment(&session.account);
        let path = format!("roles/{account}/{}/{}{query}", id::segment(kind), id::segment(id));
        let call = stream::deadline(session.get(endpoint, path), longer(&session.limits));
        let target = format!("role {kind} {id}");
        session.stream(&call, session.about(&target, "the right to see it")).await
    }

    fn found<T>(&self, kind: &str, id: &str, answer: Option<T>) -> Result<T, Error> {
        let target = format!("role {kind} {id}");
        answer.ok_or_else(|| self.session().about(&target, "it").missing())
    }

    /// The public keys of a user, or of what the server has them for, one a line: `GET public_keys/{account}/{kind}/{id}`
    /// without a token (API: Show Public Keys; recordings 521 to 525). Empty for a user without keys, and for one
    /// that is not there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the server has none: by its version, where that is known, and else by its answer.
    /// [`Error::NoRoute`] for a kind that the server has no route for (525); [`Error::Config`] for an id that
    /// [`VariableId::new`](super::VariableId::new) would refuse.
    pub async fn public_keys(&self, kind: &str, id: &str) -> Result<Vec<String>, Error> {
        id::check(id).map_err(|error| Error::config(error.to_string()))?;
        let session = self.session();
        let url = session.transport.url();
        if let Some(front) = session.version.recent()
            && Capability::PublicKeys.on(front.version.as_deref()) == Support::Lacks
        {
            return Err(Error::Unsupported {
                what: Capability::PublicKeys,
                message: Capability::PublicKeys.refused(url, front.version.as_deref()),
            });
        }
        let account = id::segment(&session.account);
        let path = format!("public_keys/{account}/{}/{}", id::segment(kind), id::segment(id));
        let call: Call = session.get(Endpoint::PublicKeys, path);
        let mut answer = session.transport.send(&call, None).await.map_err(|fault| fault.error)?;
        let target = format!("the public keys of {kind} {id}");
        let about = session.about(&target, "the right to see them");
        // Where there is no route, the server asks for a token first.
        if matches!(answer.status, 401 | 404 | 405) && !answer.is_conjur_404() {
            let version = self.server_version().await?;
            if Capability::PublicKeys.on(version.as_deref()) != Support::Has {
                return Err(Error::Unsupported {
                    what: Capability::PublicKeys,
                    message: Capability::PublicKeys.refused(url, version.as_deref()),
                });
            }
        }
        if !answer.is_success() {
            return Err(response::from_answer(&answer, about));
        }
        let text = std::str::from_utf8(answer.body.expose()).ok().filter(|_| !answer.is_html());
        let text = text.ok_or_else(|| Error::Unexpected {
            status: Some(answer.status),
            message: response::not_an_api(&answer, about),
        })?;
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        // They stay until the object's work is done, with those of others that it asks for.
        let (length, share) = (text.len(), answer.share.take().map(Arc::new));
        let mut sum = session.sum(&session.parties);
        let counted = match sum.add(length, share.as_deref()) {
            Ok(()) => sum.pay().await,
            refused => refused,
        };
        counted.map_err(|refused| refused.error("the public keys", about.url))?;
        if let Some(share) = &share {
            memory_budget::keep(share);
        }
        Ok(lines)
    }

    /// Who has a privilege on a resource: `GET resources/…?permitted_roles=true&privilege=` (API: Show Permitted Roles;
    /// recordings 457 to 462). Owners have every privilege.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the resource is missing or invisible.
    pub async fn permitted_roles(&self, kind: &str, id: &str, privilege: &str) -> Result<Vec<RoleId>, Error> {
        let session = self.session();
        let path = format!(
            "resources/{}/{}/{}?permitted_roles=true&privilege={}",
            id::segment(&session.account),
            id::segment(kind),
            id::segment(id),
            id::query(privilege)
        );
        let call = session.get(Endpoint::PermittedRoles, path);
        let answer = session.call(&call).await.map_err(|fault| fault.error)?;
        let target = format!("{kind} {id}");
        json(&answer, session.about(&target, "the right to see who may use it"))
    }
}

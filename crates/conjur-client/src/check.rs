//! Whether someone has a privilege.
//!
//! ```
//! # async fn example(client: conjur_client::Client) -> Result<(), conjur_client::Error> {
//! use conjur_client::Check;
//!
//! let may_read = client.check_permission("variable", "apps/db/password", "execute", None).await? == Check::Granted;
//! println!("{may_read}");
//! # Ok(())
//! # }
//! ```

use std::fmt::Write;

use super::client::Client;
use super::error::Error;
use super::id::{self, RoleId};
use super::observe::Endpoint;
use super::response;

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// The role has the privilege, by a permit or as an owner: 204.
    Granted,
    /// The caller sees the resource, and the role lacks the privilege: 404 without a body.
    Denied,
    /// The resource is missing, or invisible to the caller: 404 with JSON.
    NoResource,
}

impl Client {
    /// Whether the caller, or `role`, has `privilege` on a resource: `GET resources/…?check=true&privilege=[&role=]`
    /// (API: Check Permission; recordings 463 to 474, 704 to 708, 717 to 721).
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a `role` that is missing, or that the caller may not ask about (472, 473).
    pub async fn check_permission(
        &self,
        kind: &str,
        id: &str,
        privilege: &str,
        role: Option<&RoleId>,
    ) -> Result<Check, Error> {
        let session = self.session();
        let mut path = format!(
            "resources/{}/{}/{}?check=true&privilege={}",
            id::segment(&session.account),
            id::segment(kind),
            id::segment(id),
            id::query(privilege)
        );
        if let Some(role) = role {
            // Writing to a String can't fail.
            write!(path, "&role={}", id::query(&role.to_string())).ok();
        }
        let answer = session.call(&session.get(Endpoint::Check, path)).await.map_err(|fault| fault.error)?;
        let target = format!("{kind} {id}");
        let about = session.about(&target, "the right to check it");
        match (answer.status, role) {
            (204, _) => Ok(Check::Granted),
            (404, _) if answer.body.expose().is_empty() => Ok(Check::Denied),
            (404, _) if answer.is_conjur_404() => Ok(Check::NoResource),
            (403, Some(role)) => Err(Error::Forbidden {
                message: format!("{role} is missing, or {} may not ask about it", about.login),
            }),
            (200..=299, _) => Err(Error::Unexpected {
                status: Some(answer.status),
                message: response::not_an_api(&answer, about),
            }),
            _ => Err(response::from_answer(&answer, about)),
        }
    }
}

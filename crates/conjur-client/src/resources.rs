//! Who am I, what server is this, show and list resources, rotate a role's key.
//!
//! ```
//! # async fn example(client: conjur_client::Client) -> Result<(), conjur_client::Error> {
//! let me = client.whoami().await?;
//! println!("{} of account {}", me.username, me.account);
//! if let Some(variable) = client.show_resource("variable", "apps/db/password").await? {
//!     println!("{} belongs to {}", variable.id, variable.owner);
//!     println!("its newest value has the number {:?}", variable.newest_version());
//!     println!("kept by team {:?}", variable.annotation("team"));
//! }
//! # Ok(())
//! # }
//! ```

use http::Method;
use http::header::{ACCEPT, DATE, HeaderValue};
use jiff::Timestamp;
use serde::Deserialize;

use super::authn::methods::read_key;
use super::capabilities::{Capability, Support};
use super::catalogue::Mark;
use super::client::Client;
use super::error::Error;
use super::http::Call;
use super::id::{self, RoleId};
use super::observe::Endpoint;
use super::response::{self, HttpAnswer};
use super::session::{json, longer};
use super::words::Words;
use super::{stream, words};
use crate::gate::Priority;
use crate::sensitive::Sensitive;

/// Whose token it is (`GET whoami`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WhoAmI {
    /// The account.
    #[serde(deserialize_with = "words::text")]
    pub account: String,
    /// The login: `alice`, `host/apps/web`.
    #[serde(deserialize_with = "words::text")]
    pub username: String,
}

/// A resource as it is shown and listed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Resource {
    /// The full id, `account:kind:id`.
    pub id: String,
    /// The full id of its owner.
    pub owner: String,
    /// When it was made, as the server writes it.
    #[serde(deserialize_with = "words::text")]
    pub created_at: String,
    /// The full id of the policy that made it; the root policy has none.
    #[serde(default)]
    pub policy: Option<String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
    /// Who may do what with it, by permits; owners may do everything.
    #[serde(default)]
    pub permissions: Vec<Permission>,
    /// The kept versions of its value, oldest first, without values.
    #[serde(default)]
    pub secrets: Vec<SecretVersion>,
    /// The CIDRs that a user or host may come from.
    #[serde(default)]
    pub restricted_to: Vec<String>,
}

impl Resource {
    /// The value of an annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.iter().find(|one| one.name == name).map(|one| one.value.as_str())
    }

    /// The number of the newest value of a variable; none where it was never set (recordings 737, 739, 743).
    pub fn newest_version(&self) -> Option<u32> {
        self.secrets.iter().map(|secret| secret.version).max()
    }

    /// Which value a variable has, the same as a [catalogue](crate::catalogue) has it.
    pub fn mark(&self) -> Mark {
        Mark::of(self.newest_version(), &self.created_at)
    }

    /// When it was made. `None` where the server writes times in another way than RFC 3339.
    pub fn made_at(&self) -> Option<Timestamp> {
        self.created_at.parse().ok()
    }

    /// Whether a permit gives `role` itself `privilege`. What it has through other roles, or as an owner, a
    /// [check](Client::check_permission) tells.
    pub fn permits(&self, role: &RoleId, privilege: &str) -> bool {
        self.permissions.iter().any(|one| one.privilege == privilege && one.role == *role)
    }

    /// How much memory what is usually kept of it takes.
    pub(super) fn bytes(&self) -> usize {
        let policy = self.policy.as_ref().map_or(0, String::len);
        std::mem::size_of::<Self>() + self.id.len() + self.owner.len() + self.created_at.len() + policy
    }
}

/// One permit on a resource.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Permission {
    /// `read`, `execute`, `update`, `create`, `authenticate`, or any other word.
    pub privilege: String,
    /// Who has it.
    pub role: RoleId,
    /// The full id of the policy that gave it.
    #[serde(default)]
    pub policy: Option<String>,
}

/// That a value exists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SecretVersion {
    /// Its number, from 1.
    pub version: u32,
    /// When it ends, as the server writes it.
    #[serde(default)]
    pub expires_at: Option<String>,
}

/// One annotation of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Annotation {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The full id of the policy that made it; what a host factory made has none (recordings 793, 794).
    #[serde(default)]
    pub policy: Option<String>,
}

impl Client {
    /// Whose token the client has: `GET whoami`.
    pub async fn whoami(&self) -> Result<WhoAmI, Error> {
        let session = self.session();
        json(&self.ask_who().await?, session.about("whoami", "the right to ask"))
    }

    /// What time it is for the server, in whole seconds and to a second or two: the `Date` of an answer to `GET whoami`. Where nothing in
    /// front of the server gives its answers one, the time of the client's token, which the server itself wrote into
    /// it, and what has passed since. The local clock plays no part.
    ///
    /// For what the server compares with its own clock, as the expiration of a
    /// [host factory's token](Client::create_host_factory_tokens).
    ///
    /// # Errors
    /// Those of [`whoami`](Client::whoami); [`Error::Unexpected`] where neither tells a time.
    pub async fn server_date(&self) -> Result<Timestamp, Error> {
        let session = self.session();
        let answer = self.ask_who().await?;
        let about = session.about("the server's time", "the right to ask");
        json::<WhoAmI>(&answer, about)?;
        if let Some(date) = answer.header(&DATE).and_then(response::date) {
            return Ok(date);
        }
        let token = session.tokens.get(&session.transport, Priority::Foreground).await?;
        token.servers_time().ok_or_else(|| Error::Unexpected {
            status: Some(answer.status),
            message: format!(
                "{} tells no time: neither its answers have a `Date`, nor its tokens `iat`",
                about.url
            ),
        })
    }

    async fn ask_who(&self) -> Result<HttpAnswer, Error> {
        let session = self.session();
        let call = session.get(Endpoint::WhoAmI, "whoami".to_owned());
        session.call(&call).await.map_err(|fault| fault.error)
    }

    /// The server's version: `GET /` with `Accept: application/json`, without a token. `None` where it doesn't say. What
    /// servers of which version have says the [table](crate::capabilities).
    pub async fn server_version(&self) -> Result<Option<String>, Error> {
        #[derive(Deserialize)]
        struct Root {
            version: Option<Words>,
        }
        let session = self.session();
        let call = Call {
            headers: vec![(ACCEPT, HeaderValue::from_static("application/json"))],
            ..session.get(Endpoint::Version, String::new())
        };
        let answer = session.transport.send(&call, None).await.map_err(|fault| fault.error)?;
        match answer.status {
            200..=299 => {
                let root = serde_json::from_slice::<Root>(answer.body.expose()).ok();
                let said = root.and_then(|root| root.version).map(Words::into_string);
                let version = said.filter(|said| is_version(said));
                session.version.keep(version.as_deref());
                Ok(version)
            }
            // Servers and proxies that keep the root to themselves are fine otherwise.
            400..=499 if answer.status != 429 => {
                session.version.keep(None);
                Ok(None)
            }
            _ => {
                Err(response::from_answer(&answer, session.about("the server's version", "the right to ask")))
            }
        }
    }

    /// What time it is for the server, by the `Date` of its front page, which needs no token: for whoever is refused where one logs
    /// in. `None` where no answer has one.
    ///
    /// # Errors
    /// Those of [`server_version`](Client::server_version) where there is no answer.
    pub async fn front_date(&self) -> Result<Option<Timestamp>, Error> {
        let session = self.session();
        let call = session.get(Endpoint::Version, String::new());
        let answer = session.transport.send(&call, None).await.map_err(|fault| fault.error)?;
        Ok(answer.header(&DATE).and_then(response::date))
    }

    /// What the server's version has; it is [asked for](Client::server_version) where it was not within ten minutes.
    ///
    /// # Errors
    /// Those of [`server_version`](Client::server_version).
    pub async fn supports(&self, what: Capability) -> Result<Support, Error> {
        let version = match self.session().version.recent() {
            Some(front) => front.version,
            None => self.server_version().await?,
        };
        Ok(what.on(version.as_deref()))
    }

    /// A resource: `GET resources/{account}/{kind}/{id}`. `None` where it is missing or invisible. A variable comes with
    /// its annotations, permits and the numbers of its versions; any privilege on it is enough, `update` alone too
    /// (recordings 748, 752). Read as a stream: a policy's comes with the texts of all its versions.
    pub async fn show_resource(&self, kind: &str, id: &str) -> Result<Option<Resource>, Error> {
        let session = self.session();
        let path =
            format!("resources/{}/{}/{}", id::segment(&session.account), id::segment(kind), id::segment(id));
        let call = stream::deadline(session.get(Endpoint::ShowResource, path), longer(&session.limits));
        let target = format!("{kind} {id}");
        session.stream(&call, session.about(&target, "the right to see it")).await
    }

    /// Gives another role a new API key: `PUT authn/{account}/api_key?role=`. The old one is dead at once. Not
    /// repeated by itself: when the answer is lost, so is the new key, and it must be rotated again.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the caller's own role, which a token may not rotate (recordings of `10-credentials`);
    /// [`Error::NotFound`] where the role is missing or invisible, [`Error::Forbidden`] for a group.
    pub async fn rotate_api_key(&self, role: &RoleId) -> Result<Sensitive<String>, Error> {
        let session = self.session();
        if role.account == session.account && role.login() == session.tokens.login() {
            // The server's 401 would look like a token that is no longer accepted.
            return Err(Error::Invalid {
                code: "own_key".to_owned(),
                message: format!("{role} is the caller itself, whose own key can't be rotated with a token"),
                line: None,
                column: None,
                missing: None,
            });
        }
        let path =
            format!("authn/{}/api_key?role={}", id::segment(&session.account), id::query(&role.to_string()));
        let call =
            Call { method: Method::PUT, repeatable: false, ..session.get(Endpoint::RotateApiKey, path) };
        let answer = session.call(&call).await.map_err(|fault| fault.error)?;
        let target = format!("{} {}", role.kind, role.id);
        let about = session.about(&target, "the right to rotate its key (or it is of a kind that has none)");
        read_key(&answer, about)
    }
}

/// Longest text that is taken for a version.
const VERSION_BYTES: usize = 32;

/// Whether a server's word for its version can be one: it stands in a status, which more may read than what else a server
/// says, so nothing else is taken for it.
fn is_version(said: &str) -> bool {
    let mut numbers = said.splitn(3, '.');
    let is_number =
        |part: Option<&str>| part.is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    said.len() <= VERSION_BYTES
        && said.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-'))
        && is_number(numbers.next())
        && is_number(numbers.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_version_is_taken_for_one() {
        for version in ["1.24.0", "1.21.1-2374", "0.0.dev", "13.5+build-7", "1.0"] {
            assert!(is_version(version), "{version}");
        }
        let long = format!("1.0.{}", "0".repeat(VERSION_BYTES));
        for other in ["", "1", "hunter2", "v1.2", "1.x", "1.24.0 hunter2", "1.24.0\n", "1.2/3", "1.2é", &long]
        {
            assert!(!is_version(other), "{other}");
        }
    }
}

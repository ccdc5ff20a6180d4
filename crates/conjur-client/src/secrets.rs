//! One secret at a time, of any kind. For many variables there is [`fetch_variables`](Client::fetch_variables).
//!
//! ```
//! # async fn example(client: conjur_client::Client) -> Result<(), conjur_client::Error> {
//! client.set_secret("variable", "apps/db/password", b"any bytes").await?;
//! let value = client.fetch_secret("variable", "apps/db/password", None).await?;
//! assert_eq!(value.expose(), b"any bytes");
//!
//! // One of many, behind what people wait for.
//! use conjur_client::sensitive::Sensitive;
//! use conjur_client::{Priority, VariableId};
//! let id = VariableId::new("apps/db/password").map_err(|error| conjur_client::Error::config(error.to_string()))?;
//! client.set_variable(&id, Sensitive::new(b"other bytes".to_vec()), Priority::Refresh).await?;
//! # Ok(())
//! # }
//! ```

use std::fmt::Write;
use std::sync::Arc;

use ::http::Method;
use ::http::header::{CONTENT_TYPE, ETAG, HeaderValue};
use bytes::Bytes;

use super::authn::methods::{secret_body, sensitive_body};
use super::client::Client;
use super::error::Error;
use super::http::Call;
use super::id::{self, VariableId};
use super::observe::Endpoint;
use super::response::{self, HttpAnswer};
use super::session::Session;
use super::variables::{Fetched, Value};
use crate::gate::Priority;
use crate::limits::SECRET_BYTES;
use crate::sensitive::Sensitive;

impl Client {
    /// The value of a secret: `GET secrets/{account}/{kind}/{id}[?version=]` (API: Retrieve a Secret; recordings 147
    /// to 266). The bytes are as they were set. Reads up to 64 MiB.
    ///
    /// The server keeps the 20 newest versions. 1.24.0 has this route for the kind `variable` only (259).
    ///
    /// # Errors
    /// [`Error::NotFound`] where it is missing, never set, invisible or without that version, which the server
    /// doesn't tell apart; [`Error::Forbidden`] where it is visible; [`Error::Unexpected`] for a kind that the
    /// server has no route for.
    pub async fn fetch_secret(&self, kind: &str, id: &str, version: Option<u32>) -> Result<Value, Error> {
        self.session().secret(kind, id, version, Priority::Foreground, SECRET_BYTES).await
    }

    /// Sets the value of a secret, binary and of any size that the server takes: `POST secrets/{account}/{kind}/{id}`
    /// as `application/octet-stream`, without which older servers take the body apart as a form (API: Add a Secret;
    /// recordings 148 to 266). The value that it has already makes no new version on servers that are known for it (151;
    /// [`Capability::EqualValueIsNoVersion`](super::Capability)), so that repeating is safe.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value that is empty or only white space (169, 170), [`Error::NotFound`] where it is
    /// missing or invisible, [`Error::Forbidden`] without `update`.
    pub async fn set_secret(&self, kind: &str, id: &str, value: &[u8]) -> Result<(), Error> {
        self.set(kind, id, secret_body(value.to_vec()), Priority::Foreground).await
    }

    /// The same for a variable, for those who set many: with a priority, and without a copy of the value, which is wiped
    /// when it has been sent. `update` on the variable is enough (recording 749).
    ///
    /// # Errors
    /// Those of [`set_secret`](Client::set_secret).
    pub async fn set_variable(
        &self,
        id: &VariableId,
        value: Sensitive<Vec<u8>>,
        priority: Priority,
    ) -> Result<(), Error> {
        self.set("variable", id.as_str(), sensitive_body(value), priority).await
    }

    async fn set(&self, kind: &str, id: &str, value: Bytes, priority: Priority) -> Result<(), Error> {
        let session = self.session();
        let call = Call {
            method: Method::POST,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))],
            body: value,
            priority,
            ..session.get(Endpoint::SetSecret, path(session, kind, id))
        };
        let answer = session.call(&call).await.map_err(|fault| fault.error)?;
        let target = format!("{kind} {id}");
        let about = session.about(&target, "the update privilege on it");
        match answer.status {
            200..=299 if answer.body.expose().is_empty() => Ok(()),
            200..=299 => Err(Error::Unexpected {
                status: Some(answer.status),
                message: response::not_an_api(&answer, about),
            }),
            422 => Err(Error::Invalid {
                code: response::code_of(&answer).unwrap_or_else(|| "422".to_owned()),
                message: format!(
                    "{} refused the value of {target}: it must not be empty or white space only",
                    about.url
                ),
                line: None,
                column: None,
                missing: None,
            }),
            _ => Err(response::from_answer(&answer, about)),
        }
    }
}

fn path(session: &Session, kind: &str, id: &str) -> String {
    format!("secrets/{}/{}/{}", id::segment(&session.account), id::segment(kind), id::segment(id))
}

impl Session {
    /// One secret, alone: the server tells missing from forbidden, and sends the bytes as they are.
    pub(crate) async fn secret(
        &self,
        kind: &str,
        id: &str,
        version: Option<u32>,
        priority: Priority,
        limit: usize,
    ) -> Result<Value, Error> {
        let mut path = path(self, kind, id);
        let mut target = format!("{kind} {id}");
        if let Some(version) = version {
            write!(path, "?version={version}").ok();
            target = format!("version {version} of {target}");
        }
        let call = Call { priority, limit, ..self.get(Endpoint::Secret, path) };
        let answer = self.call(&call).await.map_err(|fault| fault.error)?;
        let about = self.about(&target, "the execute privilege on it");
        if !answer.is_success() {
            return Err(response::from_answer(&answer, about));
        }
        if is_a_page(&answer) || answer.encoding().is_some() {
            let message = response::not_an_api(&answer, about);
            return Err(Error::Unexpected { status: Some(answer.status), message });
        }
        Ok(Arc::new(Fetched::new(answer.body, answer.share)))
    }
}

/// A proxy's login page instead of a value. Conjur gives each value an `ETag`; a variable may have the type HTML,
/// but a whole page alone is more likely to be someone's sorry note than a secret.
fn is_a_page(answer: &HttpAnswer) -> bool {
    let start = &answer.body.expose()[..answer.body.expose().len().min(64)];
    let start = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
    answer.is_html()
        && (answer.header(&ETAG).is_none() || start.starts_with("<!doctype") || start.starts_with("<html"))
}

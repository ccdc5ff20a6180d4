//! What is done with a login and its password or key, rather than with a token. The client's own credentials play no
//! part in it: whoever changes them goes on with a new client.
//!
//! ```
//! # async fn example(client: conjur_client::Client, password: conjur_client::sensitive::Sensitive<String>) -> Result<(), conjur_client::Error> {
//! // The key that the other calls authenticate with.
//! let api_key = client.login("alice", &password).await?;
//! assert!(!api_key.expose().is_empty());
//! # Ok(())
//! # }
//! ```

use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};

use super::authn::methods::{basic, fetch_key, read_key, secret_body};
use super::client::Client;
use super::error::Error;
use super::http::Call;
use super::id;
use super::observe::Endpoint;
use super::response::{self, About};
use crate::gate::Priority;
use crate::sensitive::Sensitive;

impl Client {
    /// The API key of `login`, by its password or by the key itself: `GET authn/{account}/login` with Basic (API:
    /// Login; recordings 10 to 13, 43, 544). The host's CIDRs play no part (44).
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where they don't belong together, whichever it is; [`Error::Config`] for a login
    /// with a colon.
    pub async fn login(&self, login: &str, password: &Sensitive<String>) -> Result<Sensitive<String>, Error> {
        let session = self.session();
        let timeout = session.limits.timeout;
        fetch_key(&session.transport, &session.account, login, password, Priority::Foreground, timeout).await
    }

    /// Changes the password of `login`, proved by its password or API key: `PUT authn/{account}/password` with Basic
    /// (API: Change Your Password; recordings 532 to 543). Whether its API key stays the same is up to the server.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the rules where the new one is too weak (`CONJ00046E`), [`Error::Forbidden`] for a
    /// host, [`Error::Unauthenticated`] where `current` is wrong.
    pub async fn change_password(
        &self,
        login: &str,
        current: &Sensitive<String>,
        new: &Sensitive<String>,
    ) -> Result<(), Error> {
        let body = secret_body(new.expose().clone().into_bytes());
        let mut call = self.by_password(Endpoint::ChangePassword, "password", login, current, body)?;
        call.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")));
        let session = self.session();
        let answer = session.transport.send(&call, None).await.map_err(|fault| fault.error)?;
        let target = format!("the password of {login}");
        let about = About {
            url: session.transport.url(),
            login,
            target: &target,
            privilege: if answer.status == 401 { PROOF } else { "the right to have one: only users do" },
        };
        match answer.status {
            200 | 204 => Ok(()),
            300.. => Err(response::from_answer(&answer, about)),
            status => {
                Err(Error::Unexpected { status: Some(status), message: response::not_an_api(&answer, about) })
            }
        }
    }

    /// Gives `login` a new API key, proved by its password or present key: `PUT authn/{account}/api_key` with Basic
    /// (API: Rotate Your API Key; recordings 548, 552, 566). The old key is dead at once; tokens made with it live
    /// on (551). Not repeated by itself: where the answer is lost, so is the key.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where `current` is wrong (555).
    pub async fn rotate_own_api_key(
        &self,
        login: &str,
        current: &Sensitive<String>,
    ) -> Result<Sensitive<String>, Error> {
        let call = self.by_password(Endpoint::RotateOwnApiKey, "api_key", login, current, Bytes::new())?;
        let session = self.session();
        let answer = session.transport.send(&call, None).await.map_err(|fault| fault.error)?;
        let target = format!("the API key of {login}");
        let privilege = if answer.status == 401 { PROOF } else { "the right to have one" };
        read_key(&answer, About { url: session.transport.url(), login, target: &target, privilege })
    }

    fn by_password(
        &self,
        endpoint: Endpoint,
        route: &str,
        login: &str,
        current: &Sensitive<String>,
        body: Bytes,
    ) -> Result<Call, Error> {
        let session = self.session();
        Ok(Call {
            method: Method::PUT,
            headers: vec![(AUTHORIZATION, basic(login, current)?)],
            body,
            repeatable: false,
            ..session.get(endpoint, format!("authn/{}/{route}", id::segment(&session.account)))
        })
    }
}

const PROOF: &str = "login, account, and the password or API key";

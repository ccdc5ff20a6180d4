//! What is done with a login and its password or key, rather than with a token. The client's own credentials play no
//! part in it: whoever changes them goes on with a new client.
//!
//! ```
//! # async fn example(client: conjur_client::Client, password: conjur_client::sensitive::Sensitive<String>) -> Result<(), conjur_client::Error> {
//! // The key that the other calls authenticate with.
//! let api_key = client.login("alice", &password).await?;
//! assert!(!api_key.expose().is_empty());
//!
//! // Whether a key that is kept somewhere still works.
//! use conjur_client::{Priority, RoleId};
//! if let Ok(web) = "demo:host:apps/web".parse::<RoleId>() {
//!     println!("{}", client.is_api_key_valid(&web, &api_key, Priority::Refresh).await?);
//! }
//! # Ok(())
//! # }
//! ```

use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};

use super::authn::methods::{self, basic, fetch_key, read_key, secret_body};
use super::client::Client;
use super::error::Error;
use super::http::Call;
use super::id::{self, RoleId};
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
        let (account, timeout) = (&session.account, session.limits.timeout);
        let call = methods::login(account, login, password, Priority::Foreground, timeout)?;
        fetch_key(&session.transport, login, &call).await
    }

    /// Whether `api_key` is the present key of `role`: the same call. The role's CIDRs play no part (44), and the client's
    /// own token is neither used nor touched.
    ///
    /// `false` is nothing but Conjur's own 401, which is empty and asks for nothing: the key is not, or no longer, this
    /// role's, or the role is gone.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for a 401 of something in front of the server, and whatever keeps the call from being
    /// answered: nothing is known of the key then. [`Error::Config`] for a login with a colon.
    pub async fn is_api_key_valid(
        &self,
        role: &RoleId,
        api_key: &Sensitive<String>,
        priority: Priority,
    ) -> Result<bool, Error> {
        let session = self.session();
        let login = role.login();
        let call = methods::login(&role.account, &login, api_key, priority, session.limits.timeout)?;
        let call = Call { parties: session.parties.clone(), ..call };
        let answer = session.transport.send(&call, None).await.map_err(|fault| fault.error)?;
        if answer.status == 401
            && answer.body.expose().is_empty()
            && answer.header(&WWW_AUTHENTICATE).is_none()
        {
            return Ok(false);
        }
        let about =
            About { url: session.transport.url(), login: &login, target: "the API key", privilege: PROOF };
        read_key(&answer, about).map(|_| true)
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

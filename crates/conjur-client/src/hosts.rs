//! Host factories: tokens, and the hosts that are made with them.
//!
//! ```
//! # async fn example(client: conjur_client::Client, token: conjur_client::sensitive::Sensitive<String>) -> Result<(), conjur_client::Error> {
//! // With the token alone: no credentials are needed.
//! let host = client.create_host(&token, "web-7", &std::collections::BTreeMap::new()).await?;
//! assert_eq!(host.id.login(), "host/web-7");
//!
//! // As its owner: a token for the next two minutes, by the server's clock, used once and revoked.
//! use std::time::Duration;
//! let expiration = client.server_date().await? + Duration::from_secs(120);
//! for token in client.create_host_factory_tokens("apps/factory", expiration, &[], 1).await? {
//!     client.create_host(&token.token, "web-8", &std::collections::BTreeMap::new()).await?;
//!     client.revoke_host_factory_token(&token.token).await?;
//! }
//! // None is left.
//! if let Some(factory) = client.show_host_factory("apps/factory").await? {
//!     assert!(factory.tokens.iter().all(|token| token.expiration != expiration));
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use serde::Deserialize;

use super::authn::methods::secret_body;
use super::client::Client;
use super::error::Error;
use super::http::Call;
use super::id::{self, RoleId};
use super::observe::Endpoint;
use super::resources::Annotation;
use super::response;
use super::session::json;
use super::words;
use crate::sensitive::Sensitive;

/// A token that makes hosts.
#[derive(Debug, Clone, Deserialize)]
pub struct HostFactoryToken {
    /// It, as it is given to [`create_host`](Client::create_host).
    pub token: Sensitive<String>,
    /// Until when it works.
    pub expiration: Timestamp,
    /// From where it works; everywhere where this is empty.
    #[serde(default, rename = "cidr")]
    pub cidrs: Vec<String>,
}

/// A host factory as it is shown.
#[derive(Debug, Clone, Deserialize)]
pub struct HostFactory {
    /// The full id, `account:host_factory:id`.
    #[serde(deserialize_with = "words::id")]
    pub id: String,
    /// The full id of its owner.
    pub owner: String,
    /// Its tokens, the expired ones too as long as the server keeps them.
    #[serde(default)]
    pub tokens: Vec<HostFactoryToken>,
    /// What the hosts that it makes are members of.
    #[serde(default)]
    pub layers: Vec<RoleId>,
}

/// A host that was made with a token.
#[derive(Debug, Clone, Deserialize)]
pub struct CreatedHost {
    /// Which.
    pub id: RoleId,
    /// Its owner, the factory.
    pub owner: String,
    /// When it was made, as the server writes it.
    pub created_at: String,
    /// Its API key.
    pub api_key: Sensitive<String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
}

const FORM: &str = "application/x-www-form-urlencoded";

impl Client {
    /// A host factory with its tokens: `GET resources/{account}/host_factory/{id}` (API: Show a Resource; recordings 450
    /// and 515). `None` where it is missing or invisible; who sees it sees its tokens.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where it has tens of thousands of tokens.
    pub async fn show_host_factory(&self, factory: &str) -> Result<Option<HostFactory>, Error> {
        let session = self.session();
        let path =
            format!("resources/{}/host_factory/{}", id::segment(&session.account), id::segment(factory));
        let call = session.get(Endpoint::ShowResource, path);
        // As a whole, unlike other resources: a buffer that is wiped, for there are tokens in it.
        let answer = session.call(&call).await.map_err(|fault| fault.error)?;
        let target = format!("host_factory {factory}");
        match json(&answer, session.about(&target, "the right to see it")) {
            Err(Error::NotFound { .. }) => Ok(None),
            shown => shown.map(Some),
        }
    }

    /// Makes `count` tokens of a host factory, which work until `expiration` from `cidrs` (everywhere where there are
    /// none): `POST host_factory_tokens`, a form, answered with 200 (API: Create Host Factory Tokens; recordings 476
    /// to 495, 792). The server compares the expiration with its own [clock](Client::server_date), and shows it to the second.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the reason for a bad CIDR, an expiration in the past or a count below 1 (479, 483,
    /// 484; servers before 1.24 make no token instead), [`Error::NotFound`] where the factory is missing or invisible,
    /// [`Error::Forbidden`] without `execute`.
    pub async fn create_host_factory_tokens(
        &self,
        factory: &str,
        expiration: Timestamp,
        cidrs: &[String],
        count: u32,
    ) -> Result<Vec<HostFactoryToken>, Error> {
        let session = self.session();
        let factory_id = format!("{}:host_factory:{factory}", session.account);
        let mut form = format!(
            "expiration={}&host_factory={}&count={count}",
            id::segment(&expiration.to_string()),
            id::segment(&factory_id)
        );
        for cidr in cidrs {
            // Writing to a String can't fail.
            write!(form, "&cidr%5B%5D={}", id::segment(cidr)).ok();
        }
        let call = Call {
            method: Method::POST,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static(FORM))],
            body: form.into(),
            repeatable: false,
            ..session.get(Endpoint::CreateHostFactoryTokens, "host_factory_tokens".to_owned())
        };
        let answer = session.call(&call).await.map_err(|fault| fault.error)?;
        let target = format!("host_factory {factory}");
        json(&answer, session.about(&target, "the execute privilege on it"))
    }

    /// Revokes a token: `DELETE host_factory_tokens/{token}`, 204 (API: Revoke Host Factory Tokens; recordings 516 to
    /// 519).
    ///
    /// # Errors
    /// [`Error::NotFound`] where it is unknown, revoked already, or of a factory that the caller doesn't see.
    pub async fn revoke_host_factory_token(&self, token: &Sensitive<String>) -> Result<(), Error> {
        let session = self.session();
        let path = format!("host_factory_tokens/{}", id::segment(token.expose()));
        let call = Call {
            method: Method::DELETE,
            repeatable: false,
            ..session.get(Endpoint::RevokeHostFactoryToken, path)
        };
        let answer = session.call(&call).await.map_err(|fault| fault.error)?;
        let about = session.about("the host factory token", "the update privilege on its factory");
        match answer.status {
            200 | 204 => Ok(()),
            201..=299 => Err(Error::Unexpected {
                status: Some(answer.status),
                message: response::not_an_api(&answer, about),
            }),
            _ => Err(response::from_answer(&answer, about)),
        }
    }

    /// Makes a host with a host factory's token, not with the client's own: `POST host_factories/hosts` (API: Create a
    /// Host; recordings 496 to 510). The id is taken as it is, **not** below the factory's policy. A host that is
    /// there already gets a **new** key, and its old one is dead; so this is not repeated by itself.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the token is unknown, revoked, expired or used from elsewhere (505 to 508, 804),
    /// [`Error::Forbidden`] for a host that is there and that another one made, be it a policy of the factory's own
    /// branch (799, 800), [`Error::Config`] for an annotation whose name is empty or has square brackets, which mean
    /// something in the form, [`Error::Invalid`] for an id below `conjur/` (504) or one that is empty.
    pub async fn create_host(
        &self,
        token: &Sensitive<String>,
        id: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<CreatedHost, Error> {
        if let Some(name) = annotations.keys().find(|name| name.is_empty() || name.contains(['[', ']'])) {
            return Err(Error::config(format!(
                "the annotation {name:?} can't be given to a host that a host factory makes: its name is empty or has square \
                 brackets"
            )));
        }
        let session = self.session();
        let mut form = format!("id={}", id::segment(id));
        for (name, value) in annotations {
            // Writing to a String can't fail.
            write!(form, "&annotations%5B{}%5D={}", id::segment(name), id::segment(value)).ok();
        }
        let text = zeroize::Zeroizing::new(format!("Token token=\"{}\"", token.expose()));
        let mut header = HeaderValue::from_str(&text)
            .map_err(|_| Error::config("the host factory token can't be written into a header"))?;
        header.set_sensitive(true);
        let call = Call {
            method: Method::POST,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static(FORM))],
            body: secret_body(form.into_bytes()),
            repeatable: false,
            ..session.get(Endpoint::CreateHost, "host_factories/hosts".to_owned())
        };
        let answer = session.transport.send(&call, Some(&header)).await.map_err(|fault| fault.error)?;
        let target = format!("host {id}");
        let about = session.about(&target, "the right to be made");
        if answer.status == 403 {
            // Who asks is the token, and not whom the client logs in as.
            let message =
                format!("{target} is there already, and was not made by the host factory of this token");
            return Err(Error::Forbidden { message });
        }
        json(&answer, about)
    }
}

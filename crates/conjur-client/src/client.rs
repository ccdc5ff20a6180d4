//! One identity on one server.
//!
//! ```
//! # async fn example(one: conjur_client::Config, other: conjur_client::Config) -> Result<(), conjur_client::Error> {
//! use conjur_client::{Client, MemoryBudget};
//!
//! // Two servers, and one amount of memory for the answers of both.
//! let memory = MemoryBudget::default();
//! let one = Client::builder(one).memory_budget(&memory).user_agent("backup/1.0").build()?;
//! let other = Client::builder(other).memory_budget(&memory).build()?;
//! println!("{} {}", one.whoami().await?.username, other.whoami().await?.username);
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use ::http::HeaderValue;

use super::authn::Backoff;
use super::catalogue::Catalogues;
use super::config::Config;
use super::error::Error;
use super::http::Handed;
use super::memory_budget::MemoryBudget;
use super::observe::{Observer, Unobserved};
use super::session::Session;
use super::variables::{Collector, Timing};
use crate::gate::Parties;

const NAME: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// A client of one server as one identity. Clones share everything but whom they call for.
#[derive(Clone)]
pub struct Client {
    pub(super) session: Arc<Session>,
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) collector: Collector,
    pub(super) catalogues: Catalogues,
}

impl Client {
    /// Makes a client with a memory budget of its own; sends nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] with what is wrong: the URL, the account, the login, an empty key, a CA bundle without a
    /// certificate.
    pub fn new(config: Config) -> Result<Self, Error> {
        Self::builder(config).build()
    }

    /// A client to be, which may be handed more than its configuration.
    pub fn builder(config: Config) -> ClientBuilder {
        ClientBuilder { config, observer: Arc::new(Unobserved), memory: None, user_agent: None }
    }

    /// The same client, for calls on behalf of `party`: where several parties wait for the same server, each has its
    /// turn, however much another one asks for.
    #[must_use]
    pub fn on_behalf_of(&self, party: &str) -> Self {
        let session = Arc::new(self.session.on_behalf_of(Parties::of([party.into()])));
        Self { session, inner: Arc::clone(&self.inner) }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }
}

/// Makes a [`Client`]: what it has in common with others, and how it is known.
#[must_use = "nothing is made before `build`"]
pub struct ClientBuilder {
    config: Config,
    observer: Arc<dyn Observer>,
    memory: Option<MemoryBudget>,
    user_agent: Option<String>,
}

impl ClientBuilder {
    /// Tells `observer` of every request on the wire.
    pub fn observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    /// Pays for answers, lists and connections from a budget that other clients have, too. Without it the client has its own.
    pub fn memory_budget(self, memory: &MemoryBudget) -> Self {
        Self { memory: Some(memory.clone()), ..self }
    }

    /// How the client names itself to servers and proxies, as in `backup/1.0`. Default: this crate's name and version.
    pub fn user_agent(self, name: impl Into<String>) -> Self {
        Self { user_agent: Some(name.into()), ..self }
    }

    /// Makes the client; sends nothing yet.
    ///
    /// # Errors
    /// Those of [`Client::new`]; [`Error::Config`] for a name with what no header may have.
    pub fn build(self) -> Result<Client, Error> {
        self.with_timing(Backoff::default(), Timing::default())
    }

    pub(super) fn with_timing(self, backoff: Backoff, timing: Timing) -> Result<Client, Error> {
        let Self { config, observer, memory, user_agent } = self;
        config.check()?;
        let memory = memory.unwrap_or_default();
        let user_agent = user_agent.as_deref().unwrap_or(NAME);
        let user_agent = HeaderValue::from_str(user_agent).map_err(|error| {
            Error::config(format!("{user_agent:?} can't be the user agent of a request")).because(error)
        })?;
        let handed = Handed { observer, memory: memory.clone(), user_agent };
        let session = Arc::new(Session::new(config, handed, backoff)?);
        let collector = Collector::new(&session.limits, timing);
        let catalogues = Catalogues::new(timing.catalogue, memory.kept());
        Ok(Client { session, inner: Arc::new(Inner { collector, catalogues }) })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let session = self.session();
        f.debug_struct("Client")
            .field("url", &session.transport.url())
            .field("account", &session.account)
            .field("login", &session.tokens.login())
            .finish_non_exhaustive()
    }
}

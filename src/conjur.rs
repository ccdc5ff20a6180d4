//! A client of Conjur's REST API. Knows no Kubernetes.
//!
//! One [`Client`] is one identity on one server. It is cheap to clone; all clones share the token, the connections
//! and the [collector](variables), which gathers the variables that concurrent callers ask for into batches.
//!
//! | module | what it does |
//! |---|---|
//! | [`id`] | names, and how they are written into a URL |
//! | [`error`] | what an answer means |
//! | `pace`, `http`, `tls`, `stream` | the transport: permits, deadlines, bounded bodies, repeats |
//! | `authn`, `session` | the token, and a call with one |
//! | [`variables`] | fetch variables: gather, cut, isolate the bad ids, remember them |
//! | [`policy`] | load policy, ask who owns a branch, what was loaded |
//! | [`resources`] | who am I, show and list, rotate keys |
//! | [`observe`] | counting requests |

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use self::authn::Backoff;
use self::observe::Unobserved;
use self::session::Session;
use self::variables::{Collector, Timing};
use crate::sensitive::Sensitive;

mod authn;
pub mod error;
mod http;
pub mod id;
pub mod observe;
mod pace;
pub mod policy;
pub mod resources;
mod session;
mod stream;
mod tls;
pub mod variables;

pub use self::error::{Error, LoadError};
pub use self::id::{InvalidId, PolicyBranch, RoleId, VariableId};
pub use self::observe::{Endpoint, Observer, Outcome};
pub use self::pace::Lane;
pub use self::policy::{LoadMode, Loaded, Ownership, PolicyVersion};
pub use self::resources::{Page, Resource, WhoAmI};
pub use self::variables::{Freshness, Value, Wanted};

/// How to log in.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// `POST authn/{account}/{login}/authenticate` with an API key.
    ApiKey {
        /// `alice` for a user, `host/apps/web` for a host.
        login: String,
        /// The key as it is sent: nothing is trimmed, and a newline at its end is a wrong key.
        api_key: Sensitive<String>,
    },
}

/// How much the client asks of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight, policy loads included. Refreshes leave one to the others.
    pub max_connections: usize,
    /// Requests a second.
    pub requests_per_second: u32,
    /// Ids in one batch.
    pub batch_size: usize,
    /// Bytes of one batch's query.
    pub batch_bytes: usize,
    /// For one call, its repeats included, from when it may be sent.
    pub timeout: Duration,
    /// The same for a policy load, and for reading about policies.
    pub policy_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4,
            requests_per_second: 50,
            batch_size: 250,
            batch_bytes: 7500,
            timeout: Duration::from_secs(30),
            policy_timeout: Duration::from_secs(600),
        }
    }
}

/// Whom to talk to, and as who.
#[derive(Debug, Clone)]
pub struct Config {
    /// `https` or `http`, with a path where the API has one.
    pub url: Url,
    /// The account.
    pub account: String,
    /// PEM; exactly these roots are trusted then, the system's are not.
    pub ca_bundle: Option<Vec<u8>>,
    /// How to log in.
    pub credentials: Credentials,
    /// How old a token may become. It is renewed at three quarters of its own life at the latest.
    pub token_refresh_interval: Duration,
    /// How much to ask of the server.
    pub limits: Limits,
}

impl Config {
    /// A configuration with the defaults: the system's roots, five minutes, [`Limits::default`].
    pub fn new(url: Url, account: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            url,
            account: account.into(),
            ca_bundle: None,
            credentials,
            token_refresh_interval: Duration::from_secs(300),
            limits: Limits::default(),
        }
    }

    fn check(&self) -> Result<(), Error> {
        let url = &self.url;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(Error::config(format!(
                "the URL must begin with https:// or http://, not {}:",
                url.scheme()
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::config("the URL must not hold a user or a password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Error::config("the URL must not have a query or a fragment"));
        }
        if self.account.is_empty()
            || self.account.contains([':', '/'])
            || self.account.contains(char::is_control)
        {
            return Err(Error::config(format!("{:?} is not an account", self.account)));
        }
        let Credentials::ApiKey { login, api_key } = &self.credentials;
        RoleId::from_login(&self.account, login).map_err(|_| {
            Error::config(format!(
                "{login:?} is not a login: write alice for a user, host/apps/web for a host"
            ))
        })?;
        if api_key.expose().is_empty() {
            return Err(Error::config(format!("the API key of {login} is empty")));
        }
        Ok(())
    }
}

/// A client of one server as one identity. Clones share everything.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    session: Arc<Session>,
    collector: Collector,
}

impl Client {
    /// Makes a client; sends nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] with what is wrong: the URL, the account, the login, an empty key, a CA bundle without a
    /// certificate.
    pub fn new(config: Config) -> Result<Self, Error> {
        Self::with_observer(config, Arc::new(Unobserved))
    }

    /// The same, with every request on the wire told to `observer`.
    pub fn with_observer(config: Config, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        Self::with_timing(config, observer, Backoff::default(), Timing::default())
    }

    fn with_timing(
        config: Config,
        observer: Arc<dyn Observer>,
        backoff: Backoff,
        timing: Timing,
    ) -> Result<Self, Error> {
        config.check()?;
        let session = Arc::new(Session::new(config, observer, backoff)?);
        let collector = Collector::new(&session.limits, timing);
        Ok(Self { inner: Arc::new(Inner { session, collector }) })
    }

    fn session(&self) -> &Session {
        &self.inner.session
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

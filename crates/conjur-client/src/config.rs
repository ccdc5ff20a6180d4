//! Whom to talk to, as who, and how much.
//!
//! ```
//! use std::time::Duration;
//!
//! use conjur_client::sensitive::Sensitive;
//! use conjur_client::{Config, Credentials, Limits};
//!
//! # fn example() -> Result<(), conjur_client::Error> {
//! let credentials = Credentials::Password { login: "alice".to_owned(), password: Sensitive::new("…".to_owned()) };
//! let mut config = Config::new(conjur_client::address::base("https://conjur.example.com")?, "demo", credentials);
//! config.limits = Limits { timeout: Duration::from_secs(5), ..Limits::default() };
//! // Nothing of what is secret is shown.
//! assert!(!format!("{config:?}").contains('…'));
//! # Ok(())
//! # }
//! # example().unwrap();
//! ```

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use url::Url;

use super::address;
use super::error::Error;
use super::id::{self, RoleId};
use super::reach::Area;
use crate::budget::Party;
use crate::sensitive::Sensitive;

/// Where the JWTs of [`Credentials::Jwt`] come from. Asked anew for each authentication, so that it may give the
/// same one until it is about to end, or make one each time. A closure that returns a future is one.
pub trait JwtSource: Send + Sync {
    /// A JWT, as it is sent.
    ///
    /// # Errors
    /// Go to all who wait for a token as they are: [`Error::Config`] where a person has to act,
    /// [`Error::Unavailable`] where it may pass.
    fn jwt(&self) -> BoxFuture<'_, Result<Sensitive<String>, Error>>;
}

impl<F, R> JwtSource for F
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Result<Sensitive<String>, Error>> + Send + 'static,
{
    fn jwt(&self) -> BoxFuture<'_, Result<Sensitive<String>, Error>> {
        self().boxed()
    }
}

/// A client certificate, as PEM.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate, and those between it and its root.
    pub certificate: Vec<u8>,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: Sensitive<Vec<u8>>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

/// How to log in. Whichever it is: one token for all callers, renewed in time, and never a storm.
#[derive(Clone)]
pub enum Credentials {
    /// `POST authn/{account}/{login}/authenticate` with an API key.
    ApiKey {
        /// `alice` for a user, `host/apps/web` for a host.
        login: String,
        /// The key as it is sent: nothing is trimmed, and a newline at its end is a wrong key (recording 20).
        api_key: Sensitive<String>,
    },
    /// `GET authn/{account}/login` gives the API key (recordings 10 and 544), which authenticates as above. The key is
    /// kept in memory only, and asked for again when it is refused: someone rotated it.
    Password {
        /// `alice`. A host has no password.
        login: String,
        /// Its password.
        password: Sensitive<String>,
    },
    /// `POST authn-jwt/{service}/{account}[/{host}]/authenticate` with `jwt=…` (recordings 576 to 593).
    Jwt {
        /// The authenticator's id, `dev` for `conjur/authn-jwt/dev`.
        service_id: String,
        /// The host, `apps/web`, where the authenticator does not take it from the JWT.
        host_id: Option<String>,
        /// Where JWTs come from.
        source: Arc<dyn JwtSource>,
    },
    /// `POST authn-cert/{service}/{account}[/{host}]/authenticate`, with the certificate in the TLS handshake. Servers
    /// after 1.24 (from the vendor's Go client).
    Certificate {
        /// The authenticator's id, `prod` for `conjur/authn-cert/prod`.
        service_id: String,
        /// The host, `apps/web`; without it the server takes it from the certificate's SPIFFE URI.
        host_id: Option<String>,
        /// Presented on every connection.
        identity: ClientIdentity,
    },
    /// No token: only the calls that need none work, such as [`server_version`](super::Client::server_version),
    /// [`public_keys`](super::Client::public_keys), [`login`](super::Client::login) and
    /// [`create_host`](super::Client::create_host).
    Anonymous,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the login: it may come from a Secret, at whatever key someone named.
        let (name, service) = match self {
            Self::ApiKey { .. } => ("ApiKey", None),
            Self::Password { .. } => ("Password", None),
            Self::Jwt { service_id, .. } => ("Jwt", Some(service_id)),
            Self::Certificate { service_id, .. } => ("Certificate", Some(service_id)),
            Self::Anonymous => ("Anonymous", None),
        };
        let mut shown = f.debug_struct(name);
        if let Some(service) = service {
            shown.field("service_id", service);
        }
        shown.finish_non_exhaustive()
    }
}

impl Credentials {
    /// Who logs in, for messages, as far as it is known before.
    pub(crate) fn who(&self) -> String {
        match self {
            Self::ApiKey { login, .. } | Self::Password { login, .. } => login.clone(),
            Self::Jwt { host_id: Some(host), .. } | Self::Certificate { host_id: Some(host), .. } => {
                host_login(host)
            }
            Self::Jwt { service_id, .. } => format!("the JWT for authn-jwt/{service_id}"),
            Self::Certificate { service_id, .. } => format!("the certificate for authn-cert/{service_id}"),
            Self::Anonymous => "no identity".to_owned(),
        }
    }

    /// `shown` stands in messages in place of a login that may not be seen.
    fn check(&self, account: &str, shown: Option<&str>) -> Result<(), Error> {
        let (login, secret, what) = match self {
            Self::ApiKey { login, api_key } => (login.clone(), Some(api_key), "API key"),
            Self::Password { login, password } => (login.clone(), Some(password), "password"),
            Self::Jwt { service_id, host_id, .. } | Self::Certificate { service_id, host_id, .. } => {
                if !id::is_segment(service_id) {
                    return Err(Error::config(format!(
                        "{service_id:?} is not an authenticator's service id"
                    )));
                }
                let Some(host) = host_id else { return Ok(()) };
                (host_login(host), None, "")
            }
            Self::Anonymous => return Ok(()),
        };
        if let Some(why) = wrong_login(account, &login) {
            return Err(Error::config(match shown {
                Some(shown) => format!("{shown} {why}"),
                None => format!("{login:?} is not a login: it {why}"),
            }));
        }
        match secret {
            Some(secret) if secret.expose().is_empty() => {
                Err(Error::config(format!("the {what} of {} is empty", shown.unwrap_or(&login))))
            }
            _ => Ok(()),
        }
    }
}

/// Why a text is no login, as a sentence whose subject is left out. It does not quote the text, which may be a secret
/// that was named by mistake.
fn wrong_login(account: &str, login: &str) -> Option<&'static str> {
    let of_account = login.strip_prefix(account).is_some_and(|rest| rest.starts_with(':'));
    let full = of_account || login.contains(":host:") || login.contains(":user:");
    if login.is_empty() {
        Some("is empty: write alice for a user, host/apps/web for a host")
    } else if login.chars().any(char::is_control) {
        Some("contains a line break or another control character")
    } else if full {
        Some("is a full id: leave out account and kind, and write alice for a user, host/apps/web for a host")
    } else if login.contains('/') && !login.starts_with("host/") && !login.starts_with("user/") {
        Some("has a slash and does not start with host/: write host/apps/web for the host apps/web")
    } else if RoleId::from_login(account, login).is_err() {
        Some("has an empty, `.` or `..` segment: write alice for a user, host/apps/web for a host")
    } else {
        None
    }
}

/// `host/apps/web`, whether the id came with its kind or without.
pub(crate) fn host_login(host: &str) -> String {
    if host.starts_with("host/") { host.to_owned() } else { format!("host/{host}") }
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
    /// A client certificate for every connection, however one logs in.
    pub client_identity: Option<ClientIdentity>,
    /// How to log in.
    pub credentials: Credentials,
    /// What messages and `Debug` say in place of the login of the credentials, where that comes from a place whose values
    /// are not shown, as in `key login of Secret billing/conjur`. Once the server has confirmed the login,
    /// they say it.
    pub shown_login: Option<String>,
    /// Where it may lead, judged at each connect; everywhere without it.
    pub reach: Option<Area>,
    /// How old a token may become. It is renewed at three quarters of its own life at the latest.
    pub token_refresh_interval: Duration,
    /// How much to ask of the server.
    pub limits: Limits,
    /// Whose connection it is: all of one party share its part of the process's budgets.
    pub party: Party,
}

impl Config {
    /// A configuration with the defaults: the system's roots, five minutes, [`Limits::default`].
    pub fn new(url: Url, account: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            url,
            account: account.into(),
            ca_bundle: None,
            client_identity: None,
            credentials,
            shown_login: None,
            reach: None,
            token_refresh_interval: Duration::from_secs(300),
            limits: Limits::default(),
            party: Party::from(""),
        }
    }

    /// The certificate of every connection.
    ///
    /// # Errors
    /// [`Error::Config`] where there are two, or no TLS to present it in.
    pub(crate) fn identity(&self) -> Result<Option<&ClientIdentity>, Error> {
        let identity = match (&self.client_identity, &self.credentials) {
            (Some(_), Credentials::Certificate { .. }) => {
                return Err(Error::config(
                    "a connection presents one client certificate: give the one to log in with, or another beside \
                     a different way to log in",
                ));
            }
            (Some(identity), _) | (None, Credentials::Certificate { identity, .. }) => Some(identity),
            (None, _) => None,
        };
        if identity.is_some() && self.url.scheme() != "https" {
            return Err(Error::config("a client certificate needs a URL that begins with https://"));
        }
        Ok(identity)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        address::check_base(&self.url)?;
        if !id::is_account(&self.account) {
            return Err(Error::config(format!("{:?} is not an account", self.account)));
        }
        self.credentials.check(&self.account, self.shown_login.as_deref())
    }
}

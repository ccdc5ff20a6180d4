//! A Conjur server in memory, for development and tests. Nothing here is fit for real secrets.
//!
//! It answers what a real server (1.24.0) was recorded to answer: a test replays the recordings. In a test
//! it runs in-process, as [`Server`]; the binary `conjur-dev` is the same as a process. Tests make things go
//! wrong with [`Fault`], stop a policy load at a chosen point with [`Hold`], and read what was asked from
//! [`Server::requests`]; over HTTP the same is under `/_dev`.

mod control;
mod dev;
mod engine;
mod http;
mod jwt;
mod listen;
mod look;
mod model;
mod policy;
mod serve;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use control::{Effect, Fault, Hold, Kind, Point, Seen, When};
pub use look::{Edge, Permit, Token};
pub use model::PolicyVersion;

use engine::{Engine, Load, LoadError, lock};
use model::keys::new_api_key;
use model::{Credentials, role_of_login};
use policy::apply::Mode;

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The account; `demo` by default.
    pub account: String,
    /// HTTPS instead of HTTP.
    pub tls: Option<TlsPem>,
    /// The API key of `admin`; a random one by default.
    pub admin_key: Option<String>,
    /// How long access tokens are good for; 480 s by default, as on a real server.
    pub token_lifetime: Duration,
    /// Over HTTPS, what becomes of client certificates; optional by default.
    pub client_certificates: ClientCertificates,
    /// Authenticators that are enabled from the start (`authn-jwt/k8s`), as by `CONJUR_AUTHENTICATORS` of a
    /// real server; others are enabled by `PATCH {authenticator}/{account}`. None by default.
    pub authenticators: Vec<String>,
    /// Where to listen; a free port of 127.0.0.1 by default.
    pub listen: SocketAddr,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            account: "demo".to_owned(),
            tls: None,
            client_certificates: ClientCertificates::default(),
            authenticators: Vec::new(),
            admin_key: None,
            token_lifetime: Duration::from_secs(480),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

/// What becomes of client certificates.
#[derive(Clone, Debug, Default)]
pub enum ClientCertificates {
    /// They are asked for. Who has none connects all the same, and of one that is given only its key is
    /// proven: `authn-cert` checks it against the CA of its service.
    #[default]
    Optional,
    /// A connection without one that this CA (PEM) signed is refused, whatever is asked on it.
    Required {
        /// The certificates of the CA.
        ca: String,
    },
}

/// A certificate chain and its key, as PEM.
#[derive(Clone)]
pub struct TlsPem {
    /// The certificate, and those between it and its root.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl std::fmt::Debug for TlsPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsPem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why a server did not start or a document was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    /// Certificate or key are no good.
    #[error("TLS: {0}")]
    Tls(String),
    /// What the server would answer to the document, or that its branch is busy or unknown.
    #[error("the policy was not loaded: {0}")]
    Policy(String),
}

/// A running server; clones are handles to the same one. It ends with its runtime, or by [`Server::stop`].
#[derive(Clone)]
pub struct Server {
    pub(crate) engine: Arc<Engine>,
    address: SocketAddr,
    tls: listen::Tls,
    connections: Arc<AtomicU64>,
    accepting: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Server {
    /// Starts a server with an empty account.
    ///
    /// # Errors
    /// [`Error::Listen`], [`Error::Tls`].
    pub async fn start(options: Options) -> Result<Self, Error> {
        let tls = match &options.tls {
            None => None,
            Some(pem) => {
                let acceptor = tls::acceptor(pem, &options.client_certificates)?;
                Some(Arc::new(Mutex::new(acceptor)))
            }
        };
        let admin_key = options.admin_key.unwrap_or_else(new_api_key);
        let lifetime = seconds(options.token_lifetime);
        let engine = Arc::new(Engine::new(&options.account, admin_key, lifetime, options.authenticators));
        let listener = bind(options.listen).await?;
        let address = listener.local_addr();
        let address = address.map_err(|source| Error::Listen { address: options.listen, source })?;
        let server = Self { engine, address, tls, connections: Arc::default(), accepting: Arc::default() };
        server.accept(listener);
        Ok(server)
    }

    fn accept(&self, listener: TcpListener) {
        let (tls, count) = (self.tls.clone(), Arc::clone(&self.connections));
        let accepting = listen::accept(listener, tls, serve::router(self.clone()), count);
        *lock(&self.accepting) = Some(accepting);
    }

    /// Stops listening and cuts all connections; what was begun is still done, and the state stays.
    pub async fn stop(&self) {
        let accepting = lock(&self.accepting).take();
        if let Some(accepting) = accepting {
            accepting.abort();
            let _aborted = accepting.await;
        }
    }

    /// Listens again, on the same port; nothing happens if it does.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn resume(&self) -> Result<(), Error> {
        if lock(&self.accepting).is_none() {
            self.accept(bind(self.address).await?);
        }
        Ok(())
    }

    /// Exchanges certificate, key and what becomes of client certificates, for connections from now on;
    /// those that are open stay.
    ///
    /// # Errors
    /// [`Error::Tls`], also where the server was started without TLS.
    pub fn set_tls(&self, pem: &TlsPem, clients: &ClientCertificates) -> Result<(), Error> {
        let tls = self.tls.as_ref().ok_or_else(|| Error::Tls("the server speaks plain HTTP".to_owned()))?;
        *lock(tls) = tls::acceptor(pem, clients)?;
        Ok(())
    }

    /// Puts the server's clock ahead by so many seconds, or back where they are negative: what it dates,
    /// and what it holds for expired.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.engine.set_clock_offset(seconds);
    }

    /// `http://127.0.0.1:PORT`, or `https://…`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The account.
    pub fn account(&self) -> &str {
        self.engine.account()
    }

    /// The API key of `admin`.
    pub fn admin_key(&self) -> String {
        self.api_key_of("admin").unwrap_or_default()
    }

    /// Appends a document to the root policy, as `admin`. Returns the API keys of the roles it made, by full
    /// id (`demo:host:app/web`).
    ///
    /// # Errors
    /// [`Error::Policy`] with the server's own words.
    pub async fn load_root(&self, document: &str) -> Result<BTreeMap<String, String>, Error> {
        self.load("root", document).await
    }

    /// Appends a document to a branch, as `admin`; otherwise like [`Server::load_root`].
    ///
    /// # Errors
    /// [`Error::Policy`].
    pub async fn load(&self, branch: &str, document: &str) -> Result<BTreeMap<String, String>, Error> {
        let (branch, role) = {
            let model = self.engine.model();
            let id = model.id("policy", branch);
            if !model.resources.contains_key(&id) {
                return Err(Error::Policy(format!("there is no branch `{branch}`")));
            }
            (id, model.id("user", "admin"))
        };
        let load = Load {
            method: "POST",
            path: "",
            mode: Mode::Append,
            branch: &branch,
            document: document.as_bytes(),
            role: &role,
            client_ip: "127.0.0.1".to_owned(),
        };
        match self.engine.load(load).await {
            Ok(loaded) => Ok(loaded.created.into_iter().collect()),
            Err(LoadError::Busy) => Err(Error::Policy("another load of the branch is under way".to_owned())),
            Err(LoadError::Refused(refused)) => Err(Error::Policy(refused.body().to_string())),
        }
    }

    /// Sets a variable by its identifier (`app/db/password`), without a request. False if there is none.
    #[must_use]
    pub fn set_variable(&self, id: &str, value: &[u8]) -> bool {
        let mut model = self.engine.model();
        let id = model.id("variable", id);
        let resource = model.resources.get_mut(&id);
        resource.map(|resource| resource.value.set(value.to_vec().into())).is_some()
    }

    /// Gives every variable whose identifier begins with `prefix` a value of its own of `bytes` bytes, another one for
    /// each `text`. Returns how many there are.
    pub fn fill(&self, prefix: &str, text: &str, bytes: usize) -> usize {
        let mut model = self.engine.model();
        let prefix = model.id("variable", prefix);
        let found = model.resources.range_mut(prefix.clone()..);
        let found = found.take_while(|(id, _)| id.starts_with(&prefix));
        found
            .map(|(id, resource)| {
                let value: Vec<u8> = format!("{text} {id} ").bytes().cycle().take(bytes).collect();
                resource.value.set(value.into());
            })
            .count()
    }

    /// The present API key of `admin` or `host/app/web`.
    pub fn api_key_of(&self, login: &str) -> Option<String> {
        self.credentials(login, |credentials| credentials.api_key.clone())
    }

    /// How many times the key of a login was replaced since its role was made.
    pub fn key_generation(&self, login: &str) -> Option<u64> {
        self.credentials(login, |credentials| credentials.generation)
    }

    /// Gives a login a new key of the caller's choice. False if there is no such login.
    #[must_use]
    pub fn set_api_key(&self, login: &str, key: &str) -> bool {
        self.credentials(login, |credentials| credentials.rotate(key.to_owned(), self.engine.now())).is_some()
    }

    pub(crate) fn credentials<T>(&self, login: &str, read: impl FnOnce(&mut Credentials) -> T) -> Option<T> {
        let role = role_of_login(self.account(), login);
        self.engine.model().credentials.get_mut(&role).map(read)
    }

    /// All requests since the start or the last [`Server::clear_requests`]; those to `/_dev` don't count.
    pub fn requests(&self) -> Vec<Seen> {
        self.engine.control.seen()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.engine.control.clear_seen();
    }

    /// How many requests of each kind there were.
    pub fn counts(&self) -> BTreeMap<Kind, usize> {
        self.engine.control.counts()
    }

    /// How many requests of one kind there were.
    pub fn count(&self, kind: Kind) -> usize {
        self.counts().get(&kind).copied().unwrap_or_default()
    }

    /// Adds a fault; those that strike do so in the order they were added.
    pub fn fault(&self, fault: Fault) {
        self.engine.control.add_fault(fault);
    }

    /// Ends all faults; requests that stall already go on stalling.
    pub fn clear_faults(&self) {
        self.engine.control.clear_faults();
    }

    /// Holds policy loads that match, until they are released. Returns the hold's number.
    #[must_use]
    pub fn hold(&self, hold: Hold) -> u64 {
        self.engine.control.hold(hold)
    }

    /// Lets the loads of one hold go on, and holds no more.
    pub fn release(&self, id: u64) {
        self.engine.control.release(Some(id));
    }

    /// Ends all holds.
    pub fn release_all(&self) {
        self.engine.control.release(None);
    }

    /// How many loads wait at a hold now.
    pub fn held(&self) -> usize {
        *self.engine.control.waiting().borrow()
    }

    /// How many loads wait at a hold, as it changes: `held_changes().wait_for(|held| *held == 1)`.
    pub fn held_changes(&self) -> watch::Receiver<usize> {
        self.engine.control.waiting()
    }

    /// The version that the server says it is from now on; none where it doesn't say, as the hosted service. Before
    /// 1.21.1, and without one, `?dryRun=true` really loads; from 1.27 on, and without one, it has no public keys.
    pub fn set_version(&self, version: Option<&str>) {
        self.engine.set_version(version);
    }

    /// From now on everything but `/_dev` is answered with 426 and this version in `Upgrade`; none ends that.
    pub fn set_contract(&self, version: Option<&str>) {
        self.engine.set_contract(version);
    }

    /// Whether its dry runs answer from now on as those of the first servers that had them may: complete, and as if no
    /// document changed anything.
    pub fn set_empty_dry_runs(&self, empty: bool) {
        self.engine.set_empty_dry_runs(empty);
    }

    /// Every access token given so far is refused from now on.
    pub fn expire_tokens(&self) {
        self.engine.expire_tokens();
    }

    /// How long tokens given from now on are good for.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.engine.set_token_lifetime(seconds(lifetime));
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

//! The state behind the listeners, and the one thing that takes time: a policy load.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::control::{Control, Point};
use crate::model::keys::{self, Claims, Refusal, Signer};
use crate::model::{Model, PolicyVersion};
use crate::policy::apply::{self, Mode};
use crate::policy::document::{self, Statement};
use crate::policy::{Refused, yaml};

pub(crate) struct Engine {
    account: String,
    model: Mutex<Model>,
    signer: Mutex<Signer>,
    token_lifetime: AtomicI64,
    /// Branches with a load under way.
    busy: Mutex<HashSet<String>>,
    /// Enabled from the start, like those of a real server's environment: `authn-jwt/k8s`.
    authenticators: Vec<String>,
    /// Seconds that this server's clock is ahead.
    clock_offset: AtomicI64,
    /// What it says it is; none where it doesn't say.
    version: Mutex<Option<String>>,
    /// The version of the API that it insists on.
    contract: Mutex<Option<String>>,
    /// Whether its dry runs name nothing, whatever a document would change.
    empty_dry_runs: AtomicBool,
    pub(crate) control: Control,
}

/// A policy document on its way in.
pub(crate) struct Load<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) mode: Mode,
    /// Full id of the branch.
    pub(crate) branch: &'a str,
    pub(crate) document: &'a [u8],
    /// Full id of the role that loads.
    pub(crate) role: &'a str,
    pub(crate) client_ip: String,
}

pub(crate) struct Loaded {
    /// The created roles and their keys.
    pub(crate) created: Vec<(String, String)>,
    pub(crate) version: u64,
}

#[derive(Debug)]
pub(crate) enum LoadError {
    /// Another load of the branch is under way (recording 137).
    Busy,
    Refused(Refused),
}

impl Engine {
    pub(crate) fn new(
        account: &str,
        admin_key: String,
        token_lifetime: i64,
        authenticators: Vec<String>,
    ) -> Self {
        Self {
            account: account.to_owned(),
            model: Mutex::new(Model::new(account, admin_key, Timestamp::now())),
            signer: Mutex::new(Signer::new()),
            token_lifetime: AtomicI64::new(token_lifetime),
            busy: Mutex::new(HashSet::new()),
            authenticators,
            clock_offset: AtomicI64::new(0),
            version: Mutex::new(Some("1.24.0".to_owned())),
            contract: Mutex::new(None),
            empty_dry_runs: AtomicBool::new(false),
            control: Control::default(),
        }
    }

    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// The time by this server's clock, which a test may have put wrong.
    pub(crate) fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_secs(self.clock_offset.load(Ordering::Relaxed));
        Timestamp::now().saturating_add(offset).unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn set_clock_offset(&self, seconds: i64) {
        self.clock_offset.store(seconds, Ordering::Relaxed);
    }

    pub(crate) fn set_version(&self, version: Option<&str>) {
        *lock(&self.version) = version.map(str::to_owned);
    }

    pub(crate) fn version(&self) -> Option<String> {
        lock(&self.version).clone()
    }

    pub(crate) fn set_empty_dry_runs(&self, empty: bool) {
        self.empty_dry_runs.store(empty, Ordering::Relaxed);
    }

    pub(crate) fn has_empty_dry_runs(&self) -> bool {
        self.empty_dry_runs.load(Ordering::Relaxed)
    }

    pub(crate) fn set_contract(&self, version: Option<&str>) {
        *lock(&self.contract) = version.map(str::to_owned);
    }

    pub(crate) fn contract(&self) -> Option<String> {
        lock(&self.contract).clone()
    }

    /// Dry runs came with 1.21.1; before, and in the hosted service, such a request loads.
    pub(crate) fn knows_dry_runs(&self) -> bool {
        self.numbers() >= vec![1, 21, 1]
    }

    /// Public keys went with 1.27; from then on, and in the hosted service, there is no such route.
    pub(crate) fn has_public_keys(&self) -> bool {
        !self.numbers().is_empty() && self.numbers() < vec![1, 27]
    }

    /// Its version; empty where it doesn't say.
    fn numbers(&self) -> Vec<u64> {
        let version = self.version().unwrap_or_default();
        version.split('.').map_while(|part| part.parse().ok()).collect()
    }

    /// The authenticators that are enabled from the start.
    pub(crate) fn authenticators(&self) -> &[String] {
        &self.authenticators
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    pub(crate) fn issue(&self, login: &str) -> Value {
        lock(&self.signer).issue(login, self.now(), self.token_lifetime.load(Ordering::Relaxed))
    }

    pub(crate) fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        lock(&self.signer).verify(token, self.now())
    }

    /// A new signing key: every token so far is `Invalid`, in the words of an expired one.
    pub(crate) fn expire_tokens(&self) {
        *lock(&self.signer) = Signer::new();
    }

    pub(crate) fn set_token_lifetime(&self, seconds: i64) {
        self.token_lifetime.store(seconds, Ordering::Relaxed);
    }

    /// Loads a document. Nobody sees anything of it before all of it is committed.
    pub(crate) async fn load(&self, load: Load<'_>) -> Result<Loaded, LoadError> {
        let created_at = self.now();
        let busy = Busy::claim(&self.busy, load.branch).ok_or(LoadError::Busy)?;
        let outcome = self.load_claimed(&load, created_at).await;
        drop(busy);
        if outcome.is_ok() {
            self.control.pass(load.method, load.path, Point::AfterCommit).await;
        }
        outcome.map_err(LoadError::Refused)
    }

    async fn load_claimed(&self, load: &Load<'_>, created_at: Timestamp) -> Result<Loaded, Refused> {
        let statements = statements_of(load.document)?;
        self.control.pass(load.method, load.path, Point::BeforeCommit).await;
        let mut model = self.model();
        let mut changed = model.clone();
        let created = apply::apply(&mut changed, load.mode, load.branch, &statements, created_at)?;
        let versions = changed.policy_versions.entry(load.branch.to_owned()).or_default();
        let version = versions.last().map_or(1, |last| last.version + 1);
        versions.push(Arc::new(PolicyVersion {
            version,
            created_at,
            finished_at: self.now(),
            text: String::from_utf8_lossy(load.document).into_owned(),
            sha256: keys::sha256_hex(load.document),
            role: load.role.to_owned(),
            client_ip: load.client_ip.clone(),
        }));
        *model = changed;
        Ok(Loaded { created, version })
    }
}

/// What the model would be after a load.
pub(crate) fn try_out(model: &Model, mode: Mode, branch: &str, document: &[u8]) -> Result<Model, Refused> {
    let statements = statements_of(document)?;
    let mut changed = model.clone();
    apply::apply(&mut changed, mode, branch, &statements, Timestamp::now())?;
    Ok(changed)
}

fn statements_of(document: &[u8]) -> Result<Vec<Statement>, Refused> {
    if document.is_empty() {
        return Err(Refused::Text("is not present"));
    }
    document::read(yaml::text_of(document)?)
}

/// A branch is busy as long as this lives.
struct Busy<'a> {
    branches: &'a Mutex<HashSet<String>>,
    branch: String,
}

impl<'a> Busy<'a> {
    fn claim(branches: &'a Mutex<HashSet<String>>, branch: &str) -> Option<Self> {
        lock(branches).insert(branch.to_owned()).then(|| Self { branches, branch: branch.to_owned() })
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(self.branches).remove(&self.branch);
    }
}

/// A panic in one request must not take the server down for the rest of the test.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

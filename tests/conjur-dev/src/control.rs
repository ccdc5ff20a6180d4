//! What a test does to the server: faults, holds, and the log of what was asked.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::engine::lock;

/// Something that goes wrong for requests that match.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Any method where none is given.
    #[serde(default)]
    pub method: Option<String>,
    /// How the path, as it is sent and without its query, begins.
    pub path: String,
    /// How many requests it hits; all of them where none is given.
    #[serde(default)]
    pub count: Option<u64>,
    /// Before or after the request had its effect.
    #[serde(default)]
    pub when: When,
    /// What happens.
    pub effect: Effect,
}

/// Whether a fault strikes before the request had its effect, or after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// The request is never processed.
    #[default]
    Before,
    /// It is processed, and the answer is spoilt or lost.
    After,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// The answer comes later; other faults still apply.
    Latency { millis: u64 },
    /// This status, with an empty body, and `Retry-After` in seconds if given.
    Status {
        status: u16,
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The connection is reset.
    Reset,
    /// Half of the body, then the connection ends; always after processing.
    Truncate,
    /// No answer, on an open connection.
    Stall,
}

/// Where a policy load can be held.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Point {
    /// The document is read and nothing of it is visible; the branch is busy.
    BeforeCommit,
    /// All of it is there; the caller has no answer yet.
    AfterCommit,
}

/// Which loads to hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hold {
    /// Any of POST, PATCH and PUT where none is given.
    #[serde(default)]
    pub method: Option<String>,
    /// How the path, as it is sent and without its query, begins.
    pub path: String,
    /// Where.
    pub at: Point,
    /// How many loads; all of them where none is given.
    #[serde(default)]
    pub count: Option<u64>,
}

/// A request as the server saw it.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    #[serde(skip)]
    pub(crate) id: u64,
    /// The method.
    pub method: String,
    /// Path and query, as they were sent.
    pub path: String,
    /// Who asked: by token, by Basic, in the path of an authenticate, or whom that let in.
    pub login: Option<String>,
    /// What was answered; none while it is under way and where nothing was.
    pub status: Option<u16>,
    /// What it was.
    pub kind: Kind,
    /// Whether it came over HTTP/2.
    pub http2: bool,
    /// Which connection it came by; they are counted from 1.
    pub connection: u64,
    /// Whether its connection came with a client certificate.
    pub client_certificate: bool,
    /// The id that came with it, as Conjur takes it over into its log.
    pub request_id: Option<String>,
}

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A key for a token.
    Authenticate,
    /// A password for a key.
    Login,
    /// `GET whoami`.
    Whoami,
    /// Many values.
    Batch,
    /// One value.
    Single,
    /// A value set.
    Set,
    /// A policy load.
    Load,
    /// A dry run of one.
    DryRun,
    /// A role's key replaced.
    Rotate,
    /// One resource shown.
    Show,
    /// A list of resources.
    List,
    /// A permission asked about.
    Check,
    /// Anything about roles.
    Role,
    /// Tokens of a host factory made.
    MakeTokens,
    /// A token of a host factory revoked.
    RevokeToken,
    /// A host made with a token, or given a new key.
    Enrol,
    /// Public keys.
    PublicKeys,
    /// The front page, which says the version.
    Version,
    /// The rest.
    Other,
}

#[derive(Default)]
pub(crate) struct Control {
    faults: Mutex<Vec<Fault>>,
    holds: Mutex<Holds>,
    waiting: watch::Sender<usize>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Holds {
    last: u64,
    active: Vec<(u64, Hold, watch::Sender<()>)>,
}

#[derive(Default)]
struct Log {
    last: u64,
    seen: Vec<Seen>,
}

impl Control {
    pub(crate) fn add_fault(&self, fault: Fault) {
        lock(&self.faults).push(fault);
    }

    pub(crate) fn clear_faults(&self) {
        lock(&self.faults).clear();
    }

    /// Waits out the latencies and gives the first other effect that strikes.
    pub(crate) async fn strike(&self, method: &str, path: &str, when: When) -> Option<Effect> {
        let (latency, effect) = self.draw(method, path, when);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        effect
    }

    fn draw(&self, method: &str, path: &str, when: When) -> (Duration, Option<Effect>) {
        let mut latency = Duration::ZERO;
        for fault in lock(&self.faults).iter_mut() {
            let due = if fault.effect == Effect::Truncate { When::After } else { fault.when };
            if due != when
                || fault.count == Some(0)
                || !path.starts_with(&fault.path)
                || fault.method.as_ref().is_some_and(|wanted| wanted != method)
            {
                continue;
            }
            fault.count = fault.count.map(|count| count - 1);
            match fault.effect {
                Effect::Latency { millis } => latency += Duration::from_millis(millis),
                effect => return (latency, Some(effect)),
            }
        }
        (latency, None)
    }

    pub(crate) fn hold(&self, hold: Hold) -> u64 {
        let mut holds = lock(&self.holds);
        holds.last += 1;
        let id = holds.last;
        holds.active.push((id, hold, watch::Sender::new(())));
        id
    }

    /// Ends one hold, or all: what waits goes on, since its gate closes.
    pub(crate) fn release(&self, id: Option<u64>) {
        lock(&self.holds).active.retain(|(known, ..)| id.is_some_and(|id| id != *known));
    }

    /// How many loads wait, as it changes.
    pub(crate) fn waiting(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    /// Waits here as long as a hold says so.
    pub(crate) async fn pass(&self, method: &str, path: &str, at: Point) {
        let Some(mut gate) = self.gate(method, path, at) else { return };
        self.waiting.send_modify(|waiting| *waiting += 1);
        // The gate never changes: it is over when the hold is gone.
        while gate.changed().await.is_ok() {}
        self.waiting.send_modify(|waiting| *waiting -= 1);
    }

    fn gate(&self, method: &str, path: &str, at: Point) -> Option<watch::Receiver<()>> {
        let mut holds = lock(&self.holds);
        let (_, hold, gate) = holds.active.iter_mut().find(|(_, hold, _)| {
            hold.at == at
                && hold.count != Some(0)
                && path.starts_with(&hold.path)
                && hold.method.as_ref().is_none_or(|wanted| wanted == method)
        })?;
        hold.count = hold.count.map(|count| count - 1);
        Some(gate.subscribe())
    }

    /// Keeps a request and gives the number to add its status by.
    pub(crate) fn note(&self, seen: Seen) -> u64 {
        let mut log = lock(&self.log);
        log.last += 1;
        let id = log.last;
        log.seen.push(Seen { id, ..seen });
        id
    }

    /// What became of a request, and whom it let in.
    pub(crate) fn note_reply(&self, id: u64, status: u16, login: Option<&str>) {
        let mut log = lock(&self.log);
        if let Some(seen) = log.seen.iter_mut().rev().find(|seen| seen.id == id) {
            seen.status = Some(status);
            seen.login = login.map(str::to_owned).or(seen.login.take());
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.log).seen.clone()
    }

    pub(crate) fn clear_seen(&self) {
        lock(&self.log).seen.clear();
    }

    pub(crate) fn counts(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for seen in &lock(&self.log).seen {
            *counts.entry(seen.kind).or_default() += 1;
        }
        counts
    }
}

impl Kind {
    /// By method, decoded segments and query.
    pub(crate) fn of(method: &str, segments: &[&str], query: &str) -> Self {
        let asks = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let dry = query.split('&').any(|pair| pair.eq_ignore_ascii_case("dryRun=true"));
        match (method, segments) {
            ("POST", [authn, .., "authenticate"]) if authn.starts_with("authn") => Self::Authenticate,
            ("GET", ["authn", _, "login"]) => Self::Login,
            ("PUT", ["authn", _, "api_key"]) => Self::Rotate,
            ("GET", ["whoami"]) => Self::Whoami,
            ("GET", ["secrets"]) => Self::Batch,
            ("GET", ["secrets", ..]) => Self::Single,
            ("POST", ["secrets", ..]) => Self::Set,
            ("POST" | "PATCH" | "PUT", ["policies", ..]) if dry => Self::DryRun,
            ("POST" | "PATCH" | "PUT", ["policies", ..]) => Self::Load,
            ("GET", ["resources", _, _, _, ..]) if asks("check") => Self::Check,
            ("GET", ["resources", _, _, _, ..]) => Self::Show,
            ("GET", ["resources", ..]) => Self::List,
            (_, ["roles", ..]) => Self::Role,
            ("POST", ["host_factory_tokens"]) => Self::MakeTokens,
            ("DELETE", ["host_factory_tokens", ..]) => Self::RevokeToken,
            ("POST", ["host_factories", "hosts"]) => Self::Enrol,
            ("GET", ["public_keys", ..]) => Self::PublicKeys,
            ("GET", []) => Self::Version,
            _ => Self::Other,
        }
    }
}

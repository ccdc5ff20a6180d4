//! Which of several replicas acts: the one that holds a Lease. The rules are client-go's.
//!
//! Whether a Lease has run out is told by how long **this process** has seen it unchanged, never by comparing its clock with
//! the operator's. Every write carries the resourceVersion that was read, so that of two who write only one can succeed. The
//! holder gives up (10 s) before others may take over (15 s): what it does in Conjur cannot be called back.
//!
//! All this runs on a thread apart from the work, by a client of its own, so that no load delays it. Work that stands
//! still is to end all the same: without a sign of life from each runtime the Lease is neither taken nor renewed.

mod record;
mod timing;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::heartbeat::{Heartbeats, Silent};

pub use record::{Decision, LeaseRecord, Seen, decide};
pub use timing::{LeaseTiming, TimingError};

/// Which Lease, and who the operator is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub namespace: String,
    pub name: String,
    /// Must be the operator's alone, as a Pod's name is: whoever holds the Lease under it is taken for an earlier run of the operator.
    pub identity: String,
    /// How long it lasts, and what follows from that.
    pub timing: LeaseTiming,
}

impl Settings {
    /// An identity that is the operator's alone: the Pod's name where `POD_NAME` says it, so that a container that was
    /// restarted takes its Lease back at once; elsewhere something random.
    pub fn own_identity() -> String {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        variable("POD_NAME").unwrap_or_else(|| {
            let host = variable("HOSTNAME").unwrap_or_else(|| "conjur-operator".to_owned());
            format!("{host}_{:016x}", rand::random::<u64>())
        })
    }
}

/// The Lease can't be had at all.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    #[error(
        "the API server forbids access to the Lease {lease}: {source}; the operator's Role must allow get, create and update of leases there"
    )]
    Forbidden { lease: String, source: kube::Error },
}

/// The operator no longer hold the Lease. Another may act by now: the process must end at once, without finishing anything.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("the Lease {lease} was taken over by {holder}; this process exits and starts again as a standby")]
    TakenOver { lease: String, holder: String },
    #[error(
        "the Lease {lease} could not be renewed in {after:?} ({last}); this process exits, because another may take over"
    )]
    NotRenewed { lease: String, after: Duration, last: String },
}

/// Waits until the operator holds the Lease. Faults of the API server are logged and tried again; only a lasting refusal is an
/// error. `standby` is called as soon as it is known that another holds it. Dropping the future gives up waiting.
pub async fn acquire(
    client: Client,
    settings: Settings,
    heartbeats: Heartbeats,
    standby: impl Fn(),
) -> Result<Held, AcquireError> {
    let timing = settings.timing;
    let lease = LeaseClient::new(client, settings, heartbeats);
    let mut seen = Seen::default();
    let mut forbidden_since: Option<Instant> = None;
    let mut failing = false;
    loop {
        let wait = match lease.try_acquire(&mut seen).await {
            Ok(Attempt::Held { object, since }) => {
                tracing::info!(lease = lease.title, identity = lease.identity, "holding the Lease");
                return Ok(Held { lease, object, since });
            }
            Ok(Attempt::Wait(wait)) => {
                (forbidden_since, failing) = (None, false);
                standby();
                wait.min(timing.renew_every)
            }
            Err(CallError::Api(error)) if is_forbidden(&error) => {
                let since = *forbidden_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= timing.forbidden_patience {
                    return Err(AcquireError::Forbidden { lease: lease.title, source: error });
                }
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(lease = lease.title, %error, "access to the Lease is forbidden; trying again");
                }
                timing.renew_every
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(lease = lease.title, %error, "the Lease can't be read or written; trying again");
                }
                timing.renew_every
            }
        };
        sleep(wait).await;
    }
}

/// The Lease, while the operator holds it.
pub struct Held {
    lease: LeaseClient,
    /// As last read or written: its resourceVersion guards the next write.
    object: Box<Lease>,
    /// When the last write that succeeded was begun.
    since: Instant,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("lease", &self.lease.title)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

impl Held {
    /// Renews the Lease until `drained` is cancelled, then releases it, so that another takes over at once. Cancel
    /// it only when nothing acts any more. An error means that the process must end.
    pub async fn run(mut self, drained: CancellationToken) -> Result<(), Lost> {
        let mut last = "no call was answered".to_owned();
        let mut failing = false;
        loop {
            tokio::select! {
                () = drained.cancelled() => {
                    self.release().await;
                    return Ok(());
                }
                () = sleep(self.lease.timing.renew_every.min(self.left())) => {}
            }
            let left = self.left();
            if left.is_zero() {
                let (lease, after) = (self.lease.title, self.lease.timing.renew_deadline);
                return Err(Lost::NotRenewed { lease, after, last });
            }
            // A shutdown waits for the call: cut off, it would leave the operator without the resourceVersion to release with.
            match timeout(left, Box::pin(self.renew())).await {
                Ok(Ok(Renewal::Renewed)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(lease = self.lease.title, "the Lease is renewed again");
                    }
                }
                Ok(Ok(Renewal::TakenOver(holder))) => {
                    return Err(Lost::TakenOver { lease: self.lease.title, holder });
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(lease = self.lease.title, %error, "the Lease was not renewed; trying again");
                    }
                    last = error.to_string();
                }
                Err(_) => "a call was not answered in time".clone_into(&mut last),
            }
        }
    }

    /// Empties the Lease's holder, as far as that can be done: otherwise it runs out.
    pub async fn release(self) {
        let Self { lease, object, .. } = self;
        match lease.replace(record::released(*object, Timestamp::now())).await {
            Ok(_) => tracing::info!(lease = lease.title, "released the Lease"),
            Err(error) => {
                tracing::warn!(lease = lease.title, %error, "the Lease was not released; it expires by itself");
            }
        }
    }

    /// How long others can't have taken over yet, less the margin.
    fn left(&self) -> Duration {
        self.lease.timing.renew_deadline.saturating_sub(self.since.elapsed())
    }

    async fn renew(&mut self) -> Result<Renewal, CallError> {
        let begun = Instant::now();
        self.lease.alive(begun)?;
        let renewed = record::held(
            (*self.object).clone(),
            &self.lease.identity,
            self.lease.timing.lease,
            Timestamp::now(),
        );
        match self.lease.replace(renewed).await {
            Ok(object) => *self.object = object,
            Err(error) if error.is_conflict() || error.is_not_found() => return self.look_again().await,
            Err(error) => return Err(error),
        }
        self.since = begun;
        Ok(Renewal::Renewed)
    }

    /// Someone wrote the Lease or deleted it: perhaps only its labels, perhaps it was the operator's own call that timed out.
    async fn look_again(&mut self) -> Result<Renewal, CallError> {
        let begun = Instant::now();
        let (identity, duration) = (self.lease.identity.clone(), self.lease.timing.lease);
        *self.object = match self.lease.get().await? {
            None => {
                self.lease
                    .create(record::held(Lease::default(), &identity, duration, Timestamp::now()))
                    .await?
            }
            Some(object) => {
                let holder = LeaseRecord::of(&object).holder;
                if holder != identity {
                    let holder = if holder.is_empty() { "none (it was released)".to_owned() } else { holder };
                    return Ok(Renewal::TakenOver(holder));
                }
                self.lease.replace(record::held(object, &identity, duration, Timestamp::now())).await?
            }
        };
        self.since = begun;
        Ok(Renewal::Renewed)
    }
}

enum Renewal {
    Renewed,
    TakenOver(String),
}

enum Attempt {
    Held { object: Box<Lease>, since: Instant },
    Wait(Duration),
}

struct LeaseClient {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// `namespace/name`, for messages.
    title: String,
    heartbeats: Heartbeats,
    timing: LeaseTiming,
}

impl LeaseClient {
    fn new(client: Client, settings: Settings, heartbeats: Heartbeats) -> Self {
        let Settings { namespace, name, identity, timing } = settings;
        let title = format!("{namespace}/{name}");
        Self { api: Api::namespaced(client, &namespace), name, identity, title, heartbeats, timing }
    }

    /// Whether there is someone who could do what the holder of the Lease is to do.
    fn alive(&self, now: Instant) -> Result<(), CallError> {
        self.heartbeats.check(now, self.timing.heartbeat).map_err(CallError::Silent)
    }

    async fn try_acquire(&self, seen: &mut Seen) -> Result<Attempt, CallError> {
        self.alive(Instant::now())?;
        let object = self.get().await?;
        let record = object.as_ref().map(LeaseRecord::of);
        let since = Instant::now();
        seen.note(record.as_ref(), since);
        if let Decision::Wait(wait) = decide(record.as_ref(), seen, &self.identity, since) {
            return Ok(Attempt::Wait(wait));
        }
        let taken = record::held(
            object.clone().unwrap_or_default(),
            &self.identity,
            self.timing.lease,
            Timestamp::now(),
        );
        let written = if object.is_some() { self.replace(taken).await } else { self.create(taken).await };
        match written {
            Ok(object) => Ok(Attempt::Held { object: Box::new(object), since }),
            // Another was faster.
            Err(error) if error.is_conflict() => Ok(Attempt::Wait(self.timing.renew_every)),
            Err(error) => Err(error),
        }
    }

    async fn get(&self) -> Result<Option<Lease>, CallError> {
        self.call(self.api.get_opt(&self.name)).await
    }

    async fn create(&self, mut lease: Lease) -> Result<Lease, CallError> {
        lease.metadata.name = Some(self.name.clone());
        self.call(self.api.create(&parameters(), &lease)).await
    }

    /// Fails with a conflict when the Lease is not as the operator reads it.
    async fn replace(&self, lease: Lease) -> Result<Lease, CallError> {
        self.call(self.api.replace(&self.name, &parameters(), &lease)).await
    }

    async fn call<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
        match timeout(self.timing.call, call).await {
            Ok(result) => result.map_err(CallError::Api),
            Err(_) => Err(CallError::Timeout(self.timing.call)),
        }
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some("conjur-operator".to_owned()), ..PostParams::default() }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Api(kube::Error),
    #[error("the API server did not answer in {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Silent(Silent),
}

impl CallError {
    /// Also for "already exists": both mean that another wrote first.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists())
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_not_found())
    }
}

#[cfg(test)]
mod tests;

//! ConjurConnection and ClusterConjurConnection: make the shared clients, see that they work, and wake those who
//! wait for them.

pub mod access;
mod audiences;
mod client_config;
mod dependents;
pub mod pool;
pub mod removal;
pub mod users;
pub mod view;
mod worked;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    core::DeserializeGuard,
    runtime::{events::EventType, watcher::Event},
};

use self::{
    client_config::ClientInputs,
    dependents::{tell_of_client, wake_users},
    users::Users,
};
use super::{
    Context,
    connection::view::ConnectionView,
    dependencies::{DependencyKind, Dependent},
    handle::{Listed, seconds},
};
use crate::{
    api::{
        ClusterConjurConnection, ConjurConnection, ConjurConnectionStatus, ConnectionId, ConnectionKind,
        Reason,
        condition::{READY, is_true},
    },
    conjur::{Client, ClientBuilder, Error, Lane},
    heavy::Heavy,
    limits,
    metrics::{Kind, ObjectState},
    plan::{self, Class, Failure, connection::health::ConnectionEvent},
    runtime::{Key, Object, Outcome, Reconcile, ReconcileError, api_of_part, failure::ROOM_AGAIN},
};

pub use self::audiences::Audiences;

/// A connection that works is looked at this often, for a fault that no call has met.
const CHECK_AGAIN: Duration = Duration::from_secs(600);
/// The same for one that nothing uses.
const CHECK_UNUSED: Duration = Duration::from_secs(1800);

macro_rules! reconcile {
    ($kind:ty, $label:expr, $store:ident, $api:expr, $watched:expr) => {
        impl Object for $kind {
            const KIND: Kind = $label;

            fn api(client: kube::Client, namespace: &str) -> Api<Self> {
                $api(client, namespace)
            }

            fn watched(client: kube::Client, part: &str) -> Api<DeserializeGuard<Self>> {
                $watched(client, part)
            }

            fn shorten(spec: &mut Self::Spec) {
                if let Some(bundle) = spec.tls.as_mut().and_then(|tls| tls.ca_bundle.as_mut()) {
                    *bundle = "".into();
                }
            }

            fn is_of_administrators() -> bool {
                kind_of::<Self>() == ConnectionKind::ClusterConjurConnection
            }
        }

        impl Reconcile for $kind {
            type Context = Context;
            const DEADLINE: Duration = limits::CONNECTION_DEADLINE;

            async fn reconcile(
                &self,
                status: &mut ConjurConnectionStatus,
                ctx: &Context,
            ) -> Result<Outcome, ReconcileError> {
                let facts = ConnectionView::from(self);
                let outcome = check_and_say(self, &facts, status, ctx).await?;
                Ok(check_tenants(&facts, outcome, ctx).await)
            }

            fn shown(event: &Event<DeserializeGuard<Self>>, ctx: &Context) {
                ctx.policy_notes.claims.connections_show(kind_of::<Self>(), event);
            }

            fn on_deleted(key: &Key, ctx: &Context) {
                let id = ConnectionId {
                    kind: kind_of::<Self>(),
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                };
                let there = ctx.kinds.$store.store.get(&key.reference()).and_then(|another| another.uid());
                ctx.clients.forget(&id, there.as_deref());
                let users = Users { connection: id.clone(), tenant: None };
                // They tell of it; their Secrets stay.
                wake_users(&users, ConnectionEvent::Fails, ctx);
                ctx.inputs.forget_connection(&id);
            }
        }

        impl Listed for $kind {
            fn add_state(&self, state: &mut ObjectState<'_>, ctx: &Context) {
                let namespace = self.metadata.namespace.clone().unwrap_or_default();
                let id = ConnectionId { kind: kind_of::<Self>(), namespace, name: self.name_any() };
                let ago = ctx.clients.worked().ago(&id).as_secs_f64();
                let made = self.metadata.creation_timestamp.as_ref();
                let age = made.map_or(f64::INFINITY, |made| seconds(made.0, Timestamp::now()));
                state.worked = Some(ago.min(age));
            }
        }
    };
}
reconcile!(ConjurConnection, Kind::Connection, connections, Api::namespaced, api_of_part);
reconcile!(
    ClusterConjurConnection,
    Kind::ClusterConnection,
    cluster_connections,
    |client, _| Api::all(client),
    |client, _| Api::all(client)
);

fn kind_of<K: Object>() -> ConnectionKind {
    if K::KIND == Kind::Connection {
        ConnectionKind::ConjurConnection
    } else {
        ConnectionKind::ClusterConjurConnection
    }
}

/// What a check of one identity found.
enum CheckOutcome {
    /// It was not due; it is after this.
    Rests(Duration),
    /// It works.
    Works {
        client: Client,
        /// None where only tenants have one.
        identity: Option<String>,
        inputs: String,
    },
}

/// Sees that one identity of a connection works, if that is due or `asked` for. Its users are woken where it is news.
async fn check(facts: &ConnectionView, asked: bool, ctx: &Context) -> Result<CheckOutcome, Failure> {
    let user = match &facts.tenant {
        None => Dependent::Connection(facts.id.clone()),
        Some(tenant) => Dependent::Tenant(facts.id.clone(), tenant.clone()),
    };
    // First of all: what it refers to is not even watched before it is known that it may.
    if let Err(failure) = plan::connection::check(&facts.settings, facts.access.as_deref()) {
        ctx.inputs.want(&user, &[]);
        return Err(failure);
    }
    if facts.access.is_some()
        && let Err(failure) = ctx.scope.check_references(&facts.settings)
    {
        ctx.inputs.want(&user, &[]);
        return Err(failure);
    }
    ctx.inputs.want(&user, &client_config::referred(facts));
    if let Some(rest) = ctx.clients.rests(facts)
        && !ctx.inputs.changed(&user)
        && !asked
    {
        return Ok(CheckOutcome::Rests(rest));
    }
    let changed = ctx.inputs.take_changed(&user) || ctx.clients.take_outdated(facts) || asked;
    let known = ctx.clients.checked_at(facts).filter(|_| facts.tenant.is_some() || facts.is_observed());
    let needed = ctx.clients.is_needed(facts);
    // Where each namespace has an identity of its own, this one tells of the server for all of them.
    let for_all = facts.has_tenants() && facts.tenant.is_none();
    let every = if !for_all && ctx.clients.let_go_if_idle(facts) { CHECK_UNUSED } else { CHECK_AGAIN };
    let rest = known.and_then(|at| every.checked_sub(at.elapsed()));
    if let (Some(rest), false) = (rest, changed || needed) {
        return Ok(CheckOutcome::Rests(rest));
    }
    let place = match ctx.clients.admit(facts) {
        Ok(place) => place,
        // What nothing uses, and worked, can wait.
        Err(_) if known.is_some() && !needed && !asked => {
            return Ok(CheckOutcome::Rests(limits::CLIENT_BUSY));
        }
        Err(failure) => return Err(failure),
    };
    let ClientInputs { config, inputs } = client_config::gather(facts, ctx).await?;
    // One that was refused keeps away from the server for a while, whoever asks.
    let may_be_used = ctx.clients.checked_at(facts).is_some() || !asked;
    let existing = ctx.clients.existing(facts, &inputs).filter(|_| may_be_used);
    if let (Some(rest), Some(_), false) = (rest, &existing, asked) {
        return Ok(CheckOutcome::Rests(rest));
    }
    let client = if let Some(client) = existing {
        client
    } else {
        let client = Client::builder(config.clone())
            .observer(Arc::new(ctx.clients.worked().observer(&facts.id, ctx.metrics.clone())))
            .memory_budget(ctx.clients.memory())
            .user_agent(USER_AGENT);
        let client = make(client, &config.party, &ctx.heavy).await?;
        // What works goes on while a new key is on its way, for as long as its token lives.
        if ctx.clients.is_working(facts)
            && let Err(Error::Unauthenticated { .. }) = who_is(&client, facts).await
            && rotation(facts, ctx).is_some()
        {
            return Ok(CheckOutcome::Rests(ctx.clients.keep_outdated(facts)));
        }
        tell_of_client(&client, &Users::of(facts), ctx);
        ctx.clients.put(facts, inputs.clone(), client.clone());
        client
    };
    drop(place);
    let identity = who_is(&client, facts).await.map_err(|error| {
        ctx.clients.check_failed(facts, &error);
        not_let_in(error, rotation(facts, ctx))
    })?;
    if let Some(tell) = ctx.clients.works(facts, identity.as_deref()) {
        wake_users(&Users::of(facts), tell, ctx);
    }
    Ok(CheckOutcome::Works { client, identity, inputs })
}

const _: () = assert!(limits::CLIENT_MAKING_BYTES > limits::LIGHT_BYTES, "made on a worker of the runtime");

/// How the operator names itself to servers and proxies.
const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Makes a client off the runtime's workers: a hundred certificates are read for it, of a tenant's bundle or of the system.
async fn make(client: ClientBuilder, party: &str, heavy: &Heavy) -> Result<Client, Error> {
    heavy.run(party, limits::CLIENT_MAKING_BYTES, || client.build()).await
}

/// Who the operator is; none where that is each namespace's own matter, and only the server has to answer.
async fn who_is(client: &Client, facts: &ConnectionView) -> Result<Option<String>, Error> {
    if facts.has_tenants() && facts.tenant.is_none() {
        client.server_version().await.map(|_| None)
    } else {
        client.whoami().await.map(|who| Some(who.username))
    }
}

/// Who rotates the key that a connection logs in with, where that is under way.
fn rotation(facts: &ConnectionView, ctx: &Context) -> Option<String> {
    let settings = &facts.settings;
    let secrets =
        client_config::referred(facts).into_iter().filter(|input| input.kind == DependencyKind::Secret);
    let secrets: Vec<Key> =
        secrets.map(|input| Key { namespace: input.namespace, name: input.name }).collect();
    let login = settings.auth.api_key.as_ref().and_then(|auth| auth.login.clone());
    let login = login.or_else(|| ctx.clients.identity(facts));
    let server = plan::policy::branch_claims::server(&settings.url, &settings.account);
    ctx.kinds.rotates(&secrets, login.as_deref(), &server, ctx)
}

/// What `whoami` refuses is the identity itself: its role is gone, say, while its token lives. A server that wants another
/// version of the API for this wants it for all. `rotates`: who makes a new key for the identity now, so that the old one is
/// refused for a while.
fn not_let_in(error: Error, rotates: Option<String>) -> Failure {
    match error {
        Error::Unauthenticated { message } if rotates.is_some() => Failure {
            class: Class::Connection,
            reason: Reason::KeyRotating,
            message: format!(
                "{message}. {} rotates this key; the login is tried again when the new one is stored",
                rotates.unwrap_or_default()
            ),
        },
        Error::Forbidden { message } | Error::NotFound { message, .. } => {
            Failure { class: Class::Connection, reason: Reason::AuthenticationFailed, message }
        }
        Error::ContractVersion { message, .. } => {
            Failure { class: Class::Connection, reason: Reason::Unsupported, message }
        }
        error => error.into(),
    }
}

/// Checks the connection's own identity, and says what came of it.
async fn check_and_say<K: Object>(
    object: &K,
    facts: &ConnectionView,
    status: &mut ConjurConnectionStatus,
    ctx: &Context,
) -> Result<Outcome, ReconcileError> {
    let asked = ctx.sync_nows.take(K::KIND, &Key::of(object));
    let checked = check(facts, asked, ctx).await.map_err(|failure| fail(facts, failure, ctx))?;
    let CheckOutcome::Works { client, identity, inputs } = checked else {
        let CheckOutcome::Rests(rest) = checked else { return Ok(Outcome::NotDue(None)) };
        return Ok(Outcome::NotDue(Some(rest)));
    };
    let version = server_version(facts, asked, &client).await;
    let url = &facts.settings.url;
    if url.starts_with("http://") && !facts.is_observed() {
        let note = format!("{url} is plain http: secrets cross the network unencrypted");
        ctx.events.publish(object, EventType::Warning, Reason::InsecureConnection, "Connect", note);
    }
    let message = match &identity {
        Some(identity) => format!("connected to {url} as {identity}"),
        None => format!("{url} answers; each namespace logs in with a ServiceAccount of its own"),
    };
    (status.identity, status.observed_inputs, status.server_version) = (identity, Some(inputs), version);
    let (again, reason) = (Some(CHECK_AGAIN), Reason::Connected);
    Ok(Outcome::Done { again, reason, message, lane: Lane::Foreground })
}

/// Checks the identities of the namespaces that use the connection with one of their own. What fails there is told
/// by the objects that wait for it, not by the connection.
async fn check_tenants(facts: &ConnectionView, outcome: Outcome, ctx: &Context) -> Outcome {
    let mut soonest: Option<Duration> = None;
    for tenant in ctx.clients.tenants(facts) {
        let theirs = facts.clone().for_user(&tenant);
        if theirs.tenant.is_none() {
            continue;
        }
        if ctx.clients.forget_if_idle(&theirs) {
            ctx.inputs.want(&Dependent::Tenant(facts.id.clone(), tenant), &[]);
            continue;
        }
        match check(&theirs, false, ctx).await {
            Ok(CheckOutcome::Rests(rest)) => soonest = Some(soonest.map_or(rest, |s| s.min(rest))),
            Ok(CheckOutcome::Works { .. }) => {}
            Err(failure) => {
                if failure.reason == Reason::OperatorBusy {
                    soonest = Some(soonest.map_or(ROOM_AGAIN, |s| s.min(ROOM_AGAIN)));
                }
                drop(fail(&theirs, failure, ctx));
            }
        }
    }
    match outcome {
        Outcome::NotDue(again) => Outcome::NotDue([again, soonest].into_iter().flatten().min()),
        outcome => outcome,
    }
}

/// The server's version: asked where it is not known yet, the connection was not Ready, or `sync-now` asks; else as it was.
async fn server_version(facts: &ConnectionView, asked: bool, client: &Client) -> Option<String> {
    let known = facts.status.server_version.clone();
    let ready = is_true(facts.status.conditions.as_deref().unwrap_or_default(), READY);
    if known.is_some() && facts.is_observed() && ready && !asked {
        return known;
    }
    // Servers may hide it, and it is for people only.
    client.server_version().await.ok().flatten()
}

/// A check for which the operator had no room. A connection that works goes on.
fn of_operator(failure: Failure, works: bool) -> ReconcileError {
    let class = if works { Class::Transient } else { failure.class };
    ReconcileError { failure: Failure { class, ..failure }, asked: !works, again: Some(ROOM_AGAIN) }
}

fn fail(facts: &ConnectionView, failure: Failure, ctx: &Context) -> ReconcileError {
    if failure.reason == Reason::OperatorBusy {
        // Nothing was learnt of the connection: it stays as it is known, and is looked at again soon.
        return of_operator(failure, ctx.clients.checked_at(facts).is_some());
    }
    let works = facts.is_observed() && ctx.clients.checked_at(facts).is_some();
    if failure.reason == Reason::ApiServerError && works {
        // The API server's fault: the client that there is goes on.
        return ReconcileError { failure, asked: false, again: None };
    }
    let (again, news) = ctx.clients.fails(facts, &failure);
    if news && let Some(tenant) = &facts.tenant {
        // What fails for all is in the status, which is logged where it changes.
        tracing::warn!(connection = %facts.id, namespace = tenant, reason = failure.reason.as_str(), "{failure}");
    }
    if news {
        // Those who wait for it say why; the others find nothing due.
        wake_users(&Users::of(facts), ConnectionEvent::Fails, ctx);
    }
    let class = match failure.reason {
        // The user must act, and the server may be mended without the operator noticing: it is tried again all the same.
        Reason::AuthenticationFailed | Reason::TlsFailed | Reason::HostDenied | Reason::Unsupported => {
            Class::Stalled
        }
        _ if failure.class == Class::Connection => Class::Transient,
        _ => failure.class,
    };
    if failure.class == Class::Connection || facts.tenant.is_some() {
        let (kinds, id) = (ctx.kinds.clone(), facts.id.clone());
        tokio::spawn(async move {
            tokio::time::sleep(again).await;
            kinds.wake_connection(&id);
        });
    }
    let message = match failure.reason {
        Reason::TlsFailed => {
            format!(
                "{}; correct spec.tls (caBundle or caBundleFrom), spec.url or the server",
                failure.message
            )
        }
        _ => failure.message,
    };
    ReconcileError { failure: Failure { class, message, ..failure }, asked: true, again: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conjur::{Config, Credentials};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_client_is_made_in_the_turn_of_heavy_work() {
        let heavy = Heavy::new(std::path::PathBuf::new());
        let (has_begun, begun) = tokio::sync::oneshot::channel();
        let (may_end, wait) = std::sync::mpsc::channel();
        let theirs = heavy.clone();
        let busy = tokio::spawn(async move {
            let work = move || {
                has_begun.send(()).unwrap();
                wait.recv().unwrap();
            };
            theirs.run("other", limits::HEAVY_BYTES, work).await;
        });
        begun.await.unwrap();
        let config = Config::new("https://conjur".parse().unwrap(), "demo", Credentials::Anonymous);
        let mut making = std::pin::pin!(make(Client::builder(config), "", &heavy));
        let waits = tokio::time::timeout(Duration::from_millis(100), &mut making).await;
        assert!(waits.is_err(), "it is made while others have all of the places");
        may_end.send(()).unwrap();
        assert!(making.await.is_ok());
        busy.await.unwrap();
    }
}

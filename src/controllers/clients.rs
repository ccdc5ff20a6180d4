//! The pool of Conjur clients: one per connection, where every controller gets it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{Resource, ResourceExt, core::DeserializeGuard, runtime::reflector::ObjectRef};

use super::{Context, Key, backoff, streams::Wakeups};
use crate::{
    api::{ConjurConnection, ConnectionRef, Reason},
    conjur,
    plan::{Class, Failure, inputs},
};

/// Longest pause between two tries of a connection that can't be reached.
const LONGEST_UNREACHABLE: Duration = Duration::from_secs(30);
/// Longest pause between two tries of a login that is refused.
const LONGEST_REFUSED: Duration = Duration::from_secs(300);
/// Failures older than this no longer count as in a row.
const FORGIVEN_AFTER: Duration = Duration::from_secs(120);

/// A client that works, and who we are with it.
#[derive(Clone)]
pub struct Connected {
    /// The client.
    pub client: conjur::Client,
    /// `whoami`'s username: `host/apps/billing`.
    pub identity: Arc<str>,
    /// The account.
    pub account: Arc<str>,
    /// The connection it belongs to.
    pub connection: ObjectRef<DeserializeGuard<ConjurConnection>>,
    uid: Arc<str>,
}

/// What is known of a connection.
#[derive(Clone)]
pub enum Standing {
    /// It was not tried yet as it is now.
    Untried,
    /// It works.
    Connected(Connected),
    /// It fails, and is tried by itself.
    Failing(Failure),
}

struct Entry {
    generation: Option<i64>,
    inputs: String,
    /// None where what it is made of is missing or wrong.
    client: Option<conjur::Client>,
    identity: Option<Arc<str>>,
    failing: Option<Failure>,
    /// Why it fails, as those who use it were told.
    told: Option<Reason>,
    failures: u32,
    failed_at: Option<Instant>,
    /// The server asked not to be asked before.
    not_before: Option<Instant>,
    checked_at: Option<Instant>,
}

/// By uid of the connection.
pub struct Clients {
    entries: Mutex<HashMap<String, Entry>>,
    wakeups: Wakeups,
}

impl Clients {
    /// An empty pool, which wakes a connection that a call found failing.
    pub fn new(wakeups: Wakeups) -> Self {
        Self { entries: Mutex::default(), wakeups }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, Entry>) -> T) -> T {
        change(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of a connection as it is in the store.
    pub fn standing(&self, connection: &ConjurConnection) -> Standing {
        let uid = connection.uid().unwrap_or_default();
        self.with(|entries| match entries.get(&uid) {
            Some(entry) if entry.generation == connection.meta().generation => {
                if let Some(failure) = &entry.failing {
                    return Standing::Failing(failure.clone());
                }
                match (&entry.client, &entry.identity) {
                    (Some(client), Some(identity)) => Standing::Connected(Connected {
                        client: client.clone(),
                        identity: identity.clone(),
                        account: connection.spec.account.as_str().into(),
                        connection: connection_ref(connection),
                        uid: uid.as_str().into(),
                    }),
                    _ => Standing::Untried,
                }
            }
            _ => Standing::Untried,
        })
    }

    /// Who we are through a connection, where that is known: by the pool, else by its status.
    pub fn identity(&self, connection: &ConjurConnection) -> Option<String> {
        let known = self.with(|entries| {
            let entry = entries.get(&connection.uid().unwrap_or_default())?;
            entry.identity.as_deref().map(str::to_owned)
        });
        known.or_else(|| connection.status.as_ref().and_then(|s| s.identity.clone()))
    }

    /// The client of a connection with these inputs, if it is in the pool already.
    pub fn existing(&self, connection: &ConjurConnection, inputs: &str) -> Option<conjur::Client> {
        self.with(|entries| {
            let entry = entries.get(&connection.uid().unwrap_or_default())?;
            let same = entry.generation == connection.meta().generation && entry.inputs == inputs;
            entry.client.clone().filter(|_| same)
        })
    }

    /// Puts a client into the pool, in place of an earlier one of the connection.
    pub fn put(&self, connection: &ConjurConnection, inputs: String, client: conjur::Client) {
        self.with(|entries| {
            let entry = Entry { inputs, client: Some(client), ..Entry::untried(connection) };
            entries.insert(connection.uid().unwrap_or_default(), entry);
        });
    }

    /// The connection works, as that identity. Says whether it is news.
    pub fn works(&self, connection: &ConjurConnection, identity: &str) -> bool {
        self.with(|entries| {
            let Some(entry) = entries.get_mut(&connection.uid().unwrap_or_default()) else { return false };
            entry.told = None;
            let news = entry.failing.take().is_some() || entry.identity.as_deref() != Some(identity);
            entry.identity = Some(identity.into());
            entry.checked_at = Some(Instant::now());
            news
        })
    }

    /// The connection fails, or could not even be made. When it is to be tried again, and whether those who use it
    /// don't know yet that it fails for this reason.
    pub fn fails(&self, connection: &ConjurConnection, failure: &Failure) -> (Duration, bool) {
        self.with(|entries| {
            let uid = connection.uid().unwrap_or_default();
            let entry = entries.entry(uid).or_insert_with(|| Entry::untried(connection));
            if entry.generation != connection.meta().generation {
                *entry = Entry::untried(connection);
            }
            let news = entry.told != Some(failure.reason);
            entry.told = Some(failure.reason);
            (entry.fail(failure), news)
        })
    }

    /// When a connection was last seen to work by its own check; none where it does not work now.
    pub fn checked_at(&self, connection: &ConjurConnection) -> Option<Instant> {
        self.with(|entries| {
            let entry = entries.get(&connection.uid().unwrap_or_default())?;
            if entry.failing.is_some() { None } else { entry.checked_at }
        })
    }

    /// How long a failing connection still rests before it is tried again.
    pub fn rests(&self, connection: &ConjurConnection) -> Option<Duration> {
        self.with(|entries| {
            let entry = entries.get(&connection.uid().unwrap_or_default())?;
            let failure =
                entry.failing.as_ref().filter(|_| entry.generation == connection.meta().generation)?;
            let pause = backoff(entry.failures, Duration::from_secs(1), longest(failure), 0.0);
            pause.checked_sub(entry.failed_at?.elapsed()).max(entry.asked_to_wait())
        })
    }

    /// The connection's own check failed: where the server says when it wants to be asked again, it is not before.
    pub fn check_failed(&self, connection: &ConjurConnection, error: &conjur::Error) {
        self.with(|entries| {
            if let Some(entry) = entries.get_mut(&connection.uid().unwrap_or_default()) {
                entry.note_wait(error);
            }
        });
    }

    /// A call through a connection failed: if the connection is at fault, it is tried by itself from now on.
    pub fn call_failed(&self, through: &Connected, error: &conjur::Error) {
        if !error.is_connection() {
            return;
        }
        let failure = Failure::from(error.clone());
        let first = self.with(|entries| match entries.get_mut(through.uid.as_ref()) {
            Some(entry) if entry.failing.is_none() => {
                entry.note_wait(error);
                entry.fail(&failure);
                true
            }
            _ => false,
        });
        if first {
            self.wakeups.connection(through.connection.clone());
        }
    }

    /// Lets go of a connection that is gone.
    pub fn forget(&self, still_there: impl Fn(&str) -> bool) {
        self.with(|entries| entries.retain(|uid, _| still_there(uid)));
    }
}

impl Entry {
    fn untried(connection: &ConjurConnection) -> Self {
        Self {
            generation: connection.meta().generation,
            inputs: String::new(),
            client: None,
            identity: None,
            failing: None,
            told: None,
            failures: 0,
            failed_at: None,
            not_before: None,
            checked_at: None,
        }
    }

    fn fail(&mut self, failure: &Failure) -> Duration {
        let in_a_row =
            self.failed_at.is_some_and(|at| at.elapsed() < FORGIVEN_AFTER.max(longest(failure) * 2));
        self.failures = if in_a_row { self.failures.saturating_add(1) } else { 1 };
        self.failed_at = Some(Instant::now());
        self.failing = Some(failure.clone());
        let pause = backoff(self.failures, Duration::from_secs(1), longest(failure), rand::random());
        pause.max(self.asked_to_wait().unwrap_or_default())
    }

    /// Takes note of a `Retry-After`, up to a bound.
    fn note_wait(&mut self, error: &conjur::Error) {
        if let Some(wait) = error.retry_after() {
            self.not_before = Some(Instant::now() + wait.min(LONGEST_REFUSED));
        }
    }

    fn asked_to_wait(&self) -> Option<Duration> {
        self.not_before?.checked_duration_since(Instant::now())
    }
}

fn longest(failure: &Failure) -> Duration {
    match failure.reason {
        Reason::AuthenticationFailed => LONGEST_REFUSED,
        _ => LONGEST_UNREACHABLE,
    }
}

/// The reference that wakes a connection.
pub fn connection_ref(connection: &ConjurConnection) -> ObjectRef<DeserializeGuard<ConjurConnection>> {
    ObjectRef::new(&connection.name_any()).within(&connection.namespace().unwrap_or_default())
}

/// A connection that an object names, as it is now.
pub struct Named {
    /// The connection.
    pub connection: ConjurConnection,
    /// Whether it works.
    pub standing: Standing,
    /// A hash over what of it matters to those who use it: uid, generation, identity. A mere exchange of its key
    /// changes nothing for them.
    pub inputs: String,
}

/// Looks up the connection that an object names. No IO.
///
/// # Errors
/// `ConnectionNotFound`; `ConnectionNotReady` where it does not decode.
pub fn named(reference: &ConnectionRef, user: &Key, ctx: &Context) -> Result<Named, Failure> {
    let at = ObjectRef::new(&reference.name).within(&user.namespace);
    let found = ctx.connections.get(&at).ok_or_else(|| {
        Failure::waiting(
            Reason::ConnectionNotFound,
            super::failure::LOOK_AGAIN,
            format!(
                "ConjurConnection {}/{} does not exist: create it, or correct spec.connectionRef.name",
                user.namespace, reference.name
            ),
        )
    })?;
    let connection = found.0.as_ref().map_err(|_| Failure {
        class: Class::Connection,
        reason: Reason::ConnectionNotReady,
        message: format!(
            "ConjurConnection {}/{} does not decode; see its status",
            user.namespace, reference.name
        ),
    })?;
    let identity = ctx.clients.identity(connection).unwrap_or_default();
    let generation = connection.meta().generation.unwrap_or_default().to_string();
    Ok(Named {
        standing: ctx.clients.standing(connection),
        inputs: inputs::hash([connection.uid().unwrap_or_default().as_str(), &generation, &identity]),
        connection: connection.clone(),
    })
}

/// What an object says that waits for its failing connection.
pub fn not_ready(connection: &ConjurConnection, why: &Failure) -> Failure {
    Failure {
        class: Class::Connection,
        reason: Reason::ConnectionNotReady,
        message: format!(
            "ConjurConnection {}/{} does not work ({why}); this goes on when it does",
            connection.namespace().unwrap_or_default(),
            connection.name_any()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_asks_to_wait_is_not_asked_before() {
        let connection: ConjurConnection = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "c", "namespace": "n", "uid": "u", "generation": 1 },
            "spec": { "url": "http://conjur", "account": "demo", "auth": {} }
        }))
        .unwrap();
        let clients = Clients::new(Wakeups::new().0);
        let limited = |seconds| conjur::Error::RateLimited {
            message: "wait".into(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let (pause, _) = clients.fails(&connection, &limited(0).into());
        assert!(pause <= Duration::from_secs(1));
        for (asked, at_least, at_most) in [(120, 110, 120), (86_400, 290, 300)] {
            clients.check_failed(&connection, &limited(asked));
            let (pause, _) = clients.fails(&connection, &limited(asked).into());
            let rest = clients.rests(&connection).unwrap();
            for wait in [pause, rest] {
                assert!((at_least..=at_most).contains(&wait.as_secs()), "{wait:?}");
            }
        }
    }
}

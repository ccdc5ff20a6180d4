//! The pool of Conjur clients: one per connection and identity, where every controller gets it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Context, Key, backoff,
    connection::Tell,
    facts::{ConnectionId, Facts},
    streams::Wakeups,
};
use crate::{
    api::{ConnectionKind, ConnectionRef, Reason, connection::AccessMode},
    conjur,
    limits::{self, InUse, Limit},
    plan::{
        Class, Failure,
        access::{self, Consumer, Verb},
        inputs,
    },
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
    pub connection: ConnectionId,
    slot: Slot,
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

impl Standing {
    /// The same, whose client calls on behalf of a namespace: those of one connection have their turns.
    fn on_behalf_of(self, namespace: &str) -> Self {
        match self {
            Self::Connected(connected) => {
                let client = connected.client.on_behalf_of(namespace);
                Self::Connected(Connected { client, ..connected })
            }
            standing => standing,
        }
    }
}

/// A place in the pool: tokens, batches and answers are never shared between two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    uid: String,
    tenant: Option<String>,
}

impl Slot {
    fn of(facts: &Facts) -> Self {
        Self { uid: facts.uid.clone(), tenant: facts.tenant.clone() }
    }
}

struct Entry {
    generation: Option<i64>,
    inputs: String,
    /// None where what it is made of is missing or wrong.
    client: Option<conjur::Client>,
    /// None until `whoami` answered.
    identity: Option<Arc<str>>,
    failing: Option<Failure>,
    /// Why it fails, as those who use it were told.
    told: Option<Reason>,
    failures: u32,
    failed_at: Option<Instant>,
    /// The server asked not to be asked before.
    not_before: Option<Instant>,
    checked_at: Option<Instant>,
    /// An earlier client of the connection worked or failed: objects may wait for this one.
    tried_before: bool,
    /// Whose part of the budget a client is.
    party: String,
    /// When an object that may use it wanted to, last.
    used: Option<Instant>,
    /// An object wants it, and there is no client.
    needed: bool,
    /// When the client was made.
    made: Option<Instant>,
    share: Option<InUse>,
}

/// By uid of the connection, and tenant.
pub struct Clients {
    entries: Mutex<HashMap<Slot, Entry>>,
    wakeups: Wakeups,
}

impl Clients {
    /// An empty pool, which wakes a connection that a call found failing.
    pub fn new(wakeups: Wakeups) -> Self {
        Self { entries: Mutex::default(), wakeups }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<Slot, Entry>) -> T) -> T {
        change(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn entry<T>(&self, facts: &Facts, look: impl FnOnce(&mut Entry) -> Option<T>) -> Option<T> {
        self.with(|entries| entries.get_mut(&Slot::of(facts)).and_then(look))
    }

    /// What is known of a connection as it is in the store. Nothing is begun by it.
    pub fn standing(&self, facts: &Facts) -> Standing {
        let slot = Slot::of(facts);
        let known = self.with(|entries| {
            let entry = entries.get(&slot).filter(|e| e.generation == facts.generation)?;
            if let Some(failure) = &entry.failing {
                return Some(Standing::Failing(failure.clone()));
            }
            let both = entry.client.clone().zip(entry.identity.clone());
            Some(both.map_or(Standing::Untried, |(client, identity)| {
                Standing::Connected(Connected {
                    client,
                    identity,
                    account: facts.settings.account.as_str().into(),
                    connection: facts.id.clone(),
                    slot: slot.clone(),
                })
            }))
        });
        known.unwrap_or(Standing::Untried)
    }

    /// An object that may use a connection wants to: where it has no client, it is tried, and wakes its users.
    pub fn wanted(&self, facts: &Facts) {
        let wake = self.with(|entries| {
            let entry = entries.entry(Slot::of(facts)).or_insert_with(|| Entry::untried(facts));
            if entry.generation != facts.generation && facts.tenant.is_some() {
                let tried_before =
                    entry.tried_before || entry.failing.is_some() || entry.checked_at.is_some();
                *entry = Entry { tried_before, ..Entry::untried(facts) };
            }
            entry.used = Some(Instant::now());
            let waits = entry.client.is_none() && entry.failing.is_none();
            waits && !std::mem::replace(&mut entry.needed, waits)
        });
        if wake {
            self.wakeups.connection(&facts.id);
        }
    }

    /// Whether an object wants a connection that has no client.
    pub fn is_needed(&self, facts: &Facts) -> bool {
        self.entry(facts, |entry| Some(entry.needed && entry.client.is_none())).unwrap_or_default()
    }

    /// Lets go of a client that nothing used for a while. Whether there is none then.
    pub fn let_go_if_idle(&self, facts: &Facts) -> bool {
        let idle = |at: Option<Instant>| at.is_none_or(|at| at.elapsed() >= limits::CLIENT_IDLE);
        self.entry(facts, |entry| {
            if entry.failing.is_none() && idle(entry.used) && idle(entry.made) {
                entry.let_go();
            }
            Some(entry.client.is_none())
        })
        .unwrap_or(true)
    }

    /// Makes room for a client: those that nothing used just now go first, and then one of whoever has most.
    ///
    /// # Errors
    /// `TooManyClients`.
    pub fn admit(&self, facts: &Facts) -> Result<(), Failure> {
        if facts.access.is_some() && facts.tenant.is_none() {
            // Of administrators.
            return Ok(());
        }
        let (own, party) = (Slot::of(facts), facts.party());
        let admitted = self.with(|entries| {
            let held: Vec<_> = entries
                .iter()
                .filter(|(slot, entry)| entry.client.is_some() && **slot != own)
                .map(|(slot, entry)| Held { slot, party: &entry.party, used: entry.used.max(entry.made) })
                .collect();
            let gone = make_room(&held, &party, Instant::now()).map(Option::<&Slot>::cloned);
            if let Ok(Some(slot)) = &gone
                && let Some(entry) = entries.get_mut(slot)
            {
                entry.let_go();
            }
            gone.map(drop)
        });
        admitted.map_err(|limit| {
            limits::hit(limit);
            let message = match limit {
                Limit::ClientsPerNamespace => format!(
                    "namespace {party} uses {} connections to Conjur at once, which is all that it may; this one has its turn \
                     when another is not used. One connection serves any number of objects",
                    limits::CLIENTS_PER_NAMESPACE
                ),
                _ => format!(
                    "{} connections to Conjur are used at once, which is all that the operator keeps; this one has its turn \
                     when another is not used",
                    limits::CLIENTS
                ),
            };
            Failure::waiting(Reason::TooManyClients, limits::CLIENT_BUSY, message)
        })
    }

    /// Forgets a namespace's identity that nothing used for a while. Whether it did.
    pub fn forget_if_idle(&self, facts: &Facts) -> bool {
        self.with(|entries| {
            let idle = entries.get(&Slot::of(facts)).is_some_and(|entry| {
                entry.used.is_none_or(|at| at.elapsed() >= limits::CLIENT_IDLE)
                    && entry.made.is_none_or(|at| at.elapsed() >= limits::CLIENT_IDLE)
            });
            if idle {
                entries.remove(&Slot::of(facts));
            }
            idle
        })
    }

    /// Who we are through a connection, where that is known: by the pool, else by its status.
    pub fn identity(&self, facts: &Facts) -> Option<String> {
        let known = self.entry(facts, |entry| entry.identity.as_deref().map(str::to_owned));
        known.or_else(|| facts.status.identity.clone())
    }

    /// The namespaces that use a connection with an identity of their own.
    pub fn tenants(&self, facts: &Facts) -> Vec<String> {
        self.with(|entries| {
            entries.keys().filter(|s| s.uid == facts.uid).filter_map(|s| s.tenant.clone()).collect()
        })
    }

    /// The client of a connection with these inputs, if it is in the pool already.
    pub fn existing(&self, facts: &Facts, inputs: &str) -> Option<conjur::Client> {
        self.entry(facts, |entry| {
            let same = entry.generation == facts.generation && entry.inputs == inputs;
            entry.client.clone().filter(|_| same)
        })
    }

    /// Puts a client into the pool, in place of an earlier one of the connection.
    pub fn put(&self, facts: &Facts, inputs: String, client: conjur::Client) {
        let share = Some(InUse::of(Limit::Clients, 1));
        let made = Some(Instant::now());
        let entry = Entry { inputs, client: Some(client), made, share, ..Entry::untried(facts) };
        self.with(|entries| {
            let former = entries.get(&Slot::of(facts));
            let used = former.and_then(|e| e.used);
            let tried_before =
                former.is_some_and(|e| e.tried_before || e.failing.is_some() || e.checked_at.is_some());
            entries.insert(Slot::of(facts), Entry { tried_before, used, ..entry });
        });
    }

    /// The connection works, as that identity; none where only its tenants have one. What its users are to be told;
    /// none where it is no news.
    pub fn works(&self, facts: &Facts, identity: Option<&str>) -> Option<Tell> {
        self.entry(facts, |entry| {
            // It was changed while it was checked: what was found out is of the connection as it was.
            if entry.generation != facts.generation {
                return None;
            }
            entry.told = None;
            let again = entry.failing.take().is_some() || std::mem::take(&mut entry.tried_before);
            let first = entry.checked_at.is_none();
            let another = entry.identity.as_deref() != identity;
            entry.identity = identity.map(Into::into);
            entry.checked_at = Some(Instant::now());
            match (again, first, another) {
                (true, ..) | (false, false, true) => Some(Tell::WorksAgain),
                (false, true, _) => Some(Tell::Works),
                (false, false, false) => None,
            }
        })
    }

    /// The connection fails, or could not even be made. When it is to be tried again, and whether those who use it
    /// don't know yet that it fails for this reason.
    pub fn fails(&self, facts: &Facts, failure: &Failure) -> (Duration, bool) {
        self.with(|entries| {
            let entry = entries.entry(Slot::of(facts)).or_insert_with(|| Entry::untried(facts));
            if entry.generation != facts.generation {
                *entry = Entry::untried(facts);
            }
            let news = entry.told != Some(failure.reason);
            entry.told = Some(failure.reason);
            (entry.fail(failure), news)
        })
    }

    /// When a connection was last seen to work by its own check; none where it does not work now.
    pub fn checked_at(&self, facts: &Facts) -> Option<Instant> {
        self.entry(facts, |entry| entry.checked_at.filter(|_| entry.failing.is_none()))
    }

    /// How long a failing connection still rests before it is tried again.
    pub fn rests(&self, facts: &Facts) -> Option<Duration> {
        self.entry(facts, |entry| {
            let failure = entry.failing.as_ref().filter(|_| entry.generation == facts.generation)?;
            let pause = backoff(entry.failures, Duration::from_secs(1), longest(failure), 0.0);
            pause.checked_sub(entry.failed_at?.elapsed()).max(entry.asked_to_wait())
        })
    }

    /// The connection's own check failed: where the server says when it wants to be asked again, it is not before.
    pub fn check_failed(&self, facts: &Facts, error: &conjur::Error) {
        self.entry(facts, |entry| {
            entry.note_wait(error);
            Some(())
        });
    }

    /// A call through a connection failed: if the connection is at fault, it is tried by itself from now on.
    pub fn call_failed(&self, through: &Connected, error: &conjur::Error) {
        if !error.is_connection() {
            return;
        }
        let failure = Failure::from(error.clone());
        let first = self.with(|entries| match entries.get_mut(&through.slot) {
            Some(entry) if entry.failing.is_none() => {
                entry.note_wait(error);
                entry.fail(&failure);
                true
            }
            _ => false,
        });
        if first {
            self.wakeups.connection(&through.connection);
        }
    }

    /// Lets go of connections that are gone.
    pub fn forget(&self, still_there: impl Fn(&str) -> bool) {
        self.with(|entries| entries.retain(|slot, _| still_there(&slot.uid)));
    }
}

impl Entry {
    fn untried(facts: &Facts) -> Self {
        Self {
            generation: facts.generation,
            inputs: String::new(),
            client: None,
            identity: None,
            failing: None,
            told: None,
            failures: 0,
            failed_at: None,
            not_before: None,
            checked_at: None,
            tried_before: false,
            party: facts.party(),
            used: None,
            needed: false,
            made: None,
            share: None,
        }
    }

    fn let_go(&mut self) {
        (self.client, self.share, self.needed) = (None, None, false);
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

/// A client that is there.
struct Held<'a, S> {
    slot: &'a S,
    party: &'a str,
    used: Option<Instant>,
}

/// Which client goes so that a party can have one more; none where there is room.
fn make_room<'a, S>(held: &[Held<'a, S>], party: &str, now: Instant) -> Result<Option<&'a S>, Limit> {
    let is_idle = |one: &&Held<'a, S>| {
        one.used.is_none_or(|at| now.saturating_duration_since(at) >= limits::CLIENT_BUSY)
    };
    let oldest =
        |all: &mut dyn Iterator<Item = &Held<'a, S>>| all.min_by_key(|one| one.used).map(|one| one.slot);
    let count = |of: &str| held.iter().filter(|one| one.party == of).count();
    let own = count(party);
    if own >= limits::CLIENTS_PER_NAMESPACE {
        let gone = oldest(&mut held.iter().filter(|one| one.party == party).filter(is_idle));
        return gone.map(Some).ok_or(Limit::ClientsPerNamespace);
    }
    if held.len() < limits::CLIENTS {
        return Ok(None);
    }
    if let Some(gone) = oldest(&mut held.iter().filter(is_idle)) {
        return Ok(Some(gone));
    }
    let mut counts = HashMap::<&str, usize>::new();
    for one in held {
        *counts.entry(one.party).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > own + 1);
    let (largest, _) = most.ok_or(Limit::Clients)?;
    oldest(&mut held.iter().filter(|one| one.party == largest)).map(Some).ok_or(Limit::Clients)
}

fn longest(failure: &Failure) -> Duration {
    match failure.reason {
        Reason::AuthenticationFailed | Reason::HostDenied => LONGEST_REFUSED,
        _ => LONGEST_UNREACHABLE,
    }
}

/// A connection that an object names, as it is now.
pub struct Named {
    /// The connection, as the object's namespace uses it.
    pub facts: Facts,
    /// Whether it works.
    pub standing: Standing,
    /// A hash over what of it matters to those who use it: uid, generation, identity, and which of its rules the labels of
    /// their namespace select. A mere exchange of its key changes nothing for them.
    pub inputs: String,
}

/// Looks up the connection that an object names. No IO.
///
/// # Errors
/// `ConnectionNotFound`; `ConnectionNotReady` where it does not decode.
pub fn named(reference: &ConnectionRef, user: &Key, ctx: &Context) -> Result<Named, Failure> {
    let found = match reference.kind.unwrap_or_default() {
        ConnectionKind::ConjurConnection => {
            let at = ObjectRef::new(&reference.name).within(&user.namespace);
            ctx.connections.get(&at).map(|found| found.0.as_ref().ok().map(Facts::from))
        }
        ConnectionKind::ClusterConjurConnection => {
            let found = ctx.cluster_connections.get(&ObjectRef::new(&reference.name));
            found.map(|found| found.0.as_ref().ok().map(Facts::from))
        }
    };
    let id = ConnectionId::of(reference, &user.namespace);
    let facts = found
        .ok_or_else(|| {
            let message = format!("{id} does not exist: create it, or correct spec.connectionRef.name");
            Failure::waiting(Reason::ConnectionNotFound, super::failure::LOOK_AGAIN, message)
        })?
        .ok_or_else(|| Failure {
            class: Class::Connection,
            reason: Reason::ConnectionNotReady,
            message: format!("{id} does not decode; see its status"),
        })?
        .for_user(&user.namespace);
    // A tenant's identity is that of its ServiceAccount: it is not known before it is tried, and stays the same.
    let identity = if facts.tenant.is_some() {
        "tenant".into()
    } else {
        ctx.clients.identity(&facts).unwrap_or_default()
    };
    let generation = facts.generation.unwrap_or_default().to_string();
    let selection = selection(&facts, &user.namespace, ctx);
    let parts = [facts.uid.as_str(), &generation, &identity].into_iter().chain(selection.as_deref());
    Ok(Named {
        standing: ctx.clients.standing(&facts).on_behalf_of(&user.namespace),
        inputs: inputs::hash(parts),
        facts,
    })
}

/// Which rules of a connection are for a namespace, where that depends on its labels.
fn selection(facts: &Facts, namespace: &str, ctx: &Context) -> Option<String> {
    let found = ctx.namespaces.get(&ObjectRef::new(namespace));
    let none = BTreeMap::new();
    let labels = found.as_ref().map_or(&none, |n| n.labels());
    access::selection(facts.access.as_ref()?, Consumer { namespace, labels })
}

impl Named {
    /// Refuses what the connection does not let an object of a namespace do, before Conjur is asked. No IO.
    ///
    /// # Errors
    /// `AccessDenied`, saying which rule or mode is missing.
    pub fn check_access(&self, verb: Verb, ids: &[&str], user: &Key, ctx: &Context) -> Result<(), Failure> {
        self.judge_access(verb, ids, user, ctx)?;
        // Not before: no token is asked for, and nobody logs in, for who may not use it.
        ctx.clients.wanted(&self.facts);
        Ok(())
    }

    fn judge_access(&self, verb: Verb, ids: &[&str], user: &Key, ctx: &Context) -> Result<(), Failure> {
        let mode = self.facts.settings.access_mode;
        let forbidden = match verb {
            Verb::Read => (mode == AccessMode::WriteOnly).then_some("no variable may be read through it"),
            Verb::Load => (mode == AccessMode::ReadOnly).then_some("no policy may be loaded through it"),
            // Nothing is read or written by it.
            Verb::Plan => None,
        };
        if let Some(why) = forbidden {
            let message = format!("{} has accessMode {mode:?}: {why}", self.facts.id);
            return Err(Failure::stalled(Reason::AccessDenied, message));
        }
        let Some(rules) = &self.facts.access else { return Ok(()) };
        let namespace = ctx.namespaces.get(&ObjectRef::new(&user.namespace));
        let none = BTreeMap::new();
        let labels = namespace.as_ref().map_or(&none, |n| n.labels());
        let who = Consumer { namespace: &user.namespace, labels };
        let connection = &self.facts.id.name;
        if ids.is_empty() {
            return access::check_use(rules, who, connection);
        }
        ids.iter().try_for_each(|id| access::check(rules, who, verb, id, connection))
    }

    /// Calls for each of some ids that can't be asked for and that the rules would let an object of a namespace read, were
    /// it not for their form.
    pub fn covered<'i>(
        &self,
        ids: impl Iterator<Item = &'i str>,
        user: &Key,
        ctx: &Context,
        each: impl FnMut(&'i str),
    ) {
        let Some(rules) = &self.facts.access else { return ids.for_each(each) };
        let namespace = ctx.namespaces.get(&ObjectRef::new(&user.namespace));
        let none = BTreeMap::new();
        let labels = namespace.as_ref().map_or(&none, |n| n.labels());
        let who = Consumer { namespace: &user.namespace, labels };
        let granted = access::Granted::of(rules, who, Verb::Read);
        ids.filter(|id| granted.covers(id)).for_each(each);
    }

    /// Of some variables those that an object of a namespace may read. No IO.
    pub fn readable<'i>(&self, ids: impl Iterator<Item = &'i str>, user: &Key, ctx: &Context) -> Vec<String> {
        let Some(rules) = &self.facts.access else { return ids.map(str::to_owned).collect() };
        let namespace = ctx.namespaces.get(&ObjectRef::new(&user.namespace));
        let none = BTreeMap::new();
        let labels = namespace.as_ref().map_or(&none, |n| n.labels());
        let who = Consumer { namespace: &user.namespace, labels };
        let granted = access::Granted::of(rules, who, Verb::Read);
        ids.filter(|id| granted.includes(id)).map(str::to_owned).collect()
    }
}

/// What an object says that waits for its failing connection.
pub fn not_ready(facts: &Facts, why: &Failure) -> Failure {
    Failure {
        class: Class::Connection,
        reason: Reason::ConnectionNotReady,
        message: format!("{} does not work ({why}); this goes on when it does", facts.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_clients_makes_room_and_those_in_use_come_last() {
        let now = Instant::now() + Duration::from_secs(3600);
        let held = |party: &'static str, count: usize, ago: u64| {
            (0..count).map(move |nth| {
                (
                    party,
                    now.checked_sub(
                        Duration::from_secs(ago) + Duration::from_millis(u64::try_from(nth).unwrap()),
                    ),
                )
            })
        };
        let asked = |all: Vec<(&'static str, Option<Instant>)>, party: &str| {
            let slots: Vec<usize> = (0..all.len()).collect();
            let held: Vec<_> = all
                .iter()
                .zip(&slots)
                .map(|((party, used), slot)| Held { slot, party, used: *used })
                .collect();
            make_room(&held, party, now).map(|gone| gone.map(|at| all[*at].0))
        };
        assert_eq!(asked(held("a", 15, 0).collect(), "a"), Ok(None));
        assert_eq!(asked(held("a", 16, 0).collect(), "a"), Err(Limit::ClientsPerNamespace));
        assert_eq!(asked(held("a", 16, 0).collect(), "b"), Ok(None));
        assert_eq!(asked(held("a", 16, 600).collect(), "a"), Ok(Some("a")));
        assert_eq!(asked([("a", None)].into_iter().chain(held("a", 15, 0)).collect(), "a"), Ok(Some("a")));
        let names: Vec<&'static str> = (0..limits::CLIENTS / 10).map(|n| &*format!("ns{n}").leak()).collect();
        let full = |ago| names.iter().flat_map(move |name| held(name, 10, ago)).collect::<Vec<_>>();
        assert!(asked(full(0), "new").unwrap().is_some_and(|gone| gone.starts_with("ns")));
        assert_eq!(asked(full(0), names[0]), Err(Limit::Clients));
        assert!(asked(full(600), names[0]).unwrap().is_some());
    }

    #[test]
    fn a_client_is_tried_for_who_may_use_it_and_made_again_when_it_was_let_go() {
        let connection: crate::api::ConjurConnection = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "c", "namespace": "n", "uid": "u", "generation": 1 },
            "spec": { "url": "http://conjur", "account": "demo", "auth": {} }
        }))
        .unwrap();
        let facts = Facts::from(&connection);
        let (wakeups, mut woken) = Wakeups::new();
        let clients = Clients::new(wakeups);
        assert!(matches!(clients.standing(&facts), Standing::Untried));
        assert!(woken.connections.try_recv().is_err(), "looking begins nothing");
        clients.wanted(&facts);
        clients.wanted(&facts);
        assert!(woken.connections.try_recv().is_ok() && woken.connections.try_recv().is_err());
        assert!(clients.is_needed(&facts));
        let config =
            conjur::Config::new("http://conjur".parse().unwrap(), "demo", conjur::Credentials::Anonymous);
        clients.put(&facts, "i".into(), conjur::Client::new(config).unwrap());
        assert_eq!(clients.works(&facts, Some("alice")), Some(Tell::Works));
        assert!(!clients.is_needed(&facts) && !clients.let_go_if_idle(&facts), "it was used just now");
        clients.with(|entries| entries.values_mut().for_each(Entry::let_go));
        assert!(matches!(clients.standing(&facts), Standing::Untried));
        clients.wanted(&facts);
        assert!(woken.connections.try_recv().is_ok() && clients.is_needed(&facts));
    }

    #[test]
    fn a_server_that_asks_to_wait_is_not_asked_before() {
        let connection: crate::api::ConjurConnection = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "c", "namespace": "n", "uid": "u", "generation": 1 },
            "spec": { "url": "http://conjur", "account": "demo", "auth": {} }
        }))
        .unwrap();
        let facts = Facts::from(&connection);
        let clients = Clients::new(Wakeups::new().0);
        let limited = |seconds| conjur::Error::RateLimited {
            message: "wait".into(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let (pause, _) = clients.fails(&facts, &limited(0).into());
        assert!(pause <= Duration::from_secs(1));
        for (asked, at_least, at_most) in [(120, 110, 120), (86_400, 290, 300)] {
            clients.check_failed(&facts, &limited(asked));
            let (pause, _) = clients.fails(&facts, &limited(asked).into());
            let rest = clients.rests(&facts).unwrap();
            for wait in [pause, rest] {
                assert!((at_least..=at_most).contains(&wait.as_secs()), "{wait:?}");
            }
        }
    }
}

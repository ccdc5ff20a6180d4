//! The pool of Conjur clients: one per connection and identity, where every controller gets it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{view::ConnectionView, worked::WorkedTimes};
use crate::controllers::kinds::Kinds;
use crate::{
    api::{ConnectionId, Reason},
    conjur,
    limits::{self, InUse, Limit},
    plan::{
        Failure,
        backoff::backoff,
        connection::health::{ConnectionEvent, Health},
    },
};

/// What a connection may be made of is tried again after this, where a rotation of its key is under way; twice as long after
/// each refusal, up to the longest.
const ROTATION_AGAIN: Duration = Duration::from_secs(2);
const LONGEST_ROTATION: Duration = Duration::from_secs(60);

/// A client that works, and who the operator is with it.
#[derive(Clone)]
pub struct ReadyConnection {
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
pub enum ConnectionState {
    /// It was not tried yet as it is now.
    Untried,
    /// It works.
    Ready(ReadyConnection),
    /// It fails, and is tried by itself.
    Failing(Failure),
}

impl ConnectionState {
    /// The same, whose client calls on behalf of a namespace: those of one connection have their turns.
    pub(super) fn on_behalf_of(self, namespace: &str) -> Self {
        match self {
            Self::Ready(connected) => {
                let client = connected.client.on_behalf_of(namespace);
                Self::Ready(ReadyConnection { client, ..connected })
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
    fn of(facts: &ConnectionView) -> Self {
        Self { uid: facts.uid.clone(), tenant: facts.tenant.clone() }
    }
}

struct PoolEntry {
    generation: Option<i64>,
    inputs: String,
    /// None where what it is made of is missing or wrong.
    client: Option<conjur::Client>,
    /// None until `whoami` answered.
    identity: Option<Arc<str>>,
    health: Health,
    /// Whose part of the budget a client is.
    party: String,
    /// When an object that may use it wanted to, last.
    used: Option<Instant>,
    /// An object wants it, and there is no client.
    needed: bool,
    /// When the client was made.
    made: Option<Instant>,
    share: Option<InUse>,
    /// Something newer that it may be made of was refused while a rotation was under way, and is to be tried again.
    outdated: bool,
    /// How often in a row it was refused.
    outdated_tries: u32,
}

/// By uid of the connection, and tenant.
pub struct Clients {
    pool: Mutex<Pool>,
    kinds: Arc<Kinds>,
    /// What all of them may take together.
    memory: conjur::MemoryBudget,
    worked: WorkedTimes,
}

#[derive(Default)]
struct Pool {
    entries: HashMap<Slot, PoolEntry>,
    /// What each connection has among the entries: one that goes is found without a look at all others.
    of: HashMap<ConnectionId, HashSet<Slot>>,
    /// Clients that are being made, each for a party: they have their places before there is something to put there.
    making: HashMap<Slot, String>,
    /// As whom the server let each connection in last.
    confirmed: HashMap<ConnectionId, Confirmed>,
}

/// As whom a server let a connection in last, since the process began: also as it was before an edit, or while it can't be made.
struct Confirmed {
    uid: String,
    url: String,
    account: String,
    /// By tenant.
    identities: HashMap<Option<String>, Arc<str>>,
}

impl Confirmed {
    /// Nothing of it.
    fn none(facts: &ConnectionView) -> Self {
        let (url, account) = (facts.settings.url.clone(), facts.settings.account.clone());
        Self { uid: facts.uid.clone(), url, account, identities: HashMap::new() }
    }

    /// Whether it is of this connection and its server. Who may make connections may have led it to any server before.
    fn is_of(&self, facts: &ConnectionView) -> bool {
        self.uid == facts.uid && self.url == facts.settings.url && self.account == facts.settings.account
    }
}

impl Pool {
    /// What is known of a connection; of one that was never heard of, nothing yet.
    fn entry(&mut self, facts: &ConnectionView) -> &mut PoolEntry {
        let slot = Slot::of(facts);
        self.of.entry(facts.id.clone()).or_default().insert(slot.clone());
        self.entries.entry(slot).or_insert_with(|| PoolEntry::untried(facts))
    }

    fn remove(&mut self, id: &ConnectionId, gone: impl Fn(&Slot) -> bool) {
        let Some(slots) = self.of.get_mut(id) else { return };
        for slot in slots.extract_if(|slot| gone(slot)) {
            self.entries.remove(&slot);
        }
        if slots.is_empty() {
            self.of.remove(id);
        }
    }

    /// The places that others have.
    fn held(&self, own: &Slot) -> Vec<HeldClient<'_, Slot>> {
        let made = self
            .entries
            .iter()
            .filter(|(slot, entry)| entry.has_place() && *slot != own && !self.making.contains_key(*slot));
        let made = made.map(|(slot, entry)| HeldClient {
            slot,
            party: &entry.party,
            used: entry.used.max(entry.made),
            making: false,
        });
        let making = self.making.iter().filter(|(slot, _)| *slot != own);
        let making = making.map(|(slot, party)| HeldClient { slot, party, used: None, making: true });
        made.chain(making).collect()
    }
}

/// A place for a client that is being made, until this is dropped; what was put there by then keeps it.
#[must_use = "the place is given back when this is dropped"]
pub struct ClientPlace<'c>(Option<(&'c Clients, Slot)>);

impl Drop for ClientPlace<'_> {
    fn drop(&mut self) {
        if let Some((clients, slot)) = self.0.take() {
            clients.with(|pool| pool.making.remove(&slot));
        }
    }
}

impl Clients {
    /// An empty pool, which wakes a connection that a call found failing.
    pub fn new(kinds: Arc<Kinds>) -> Self {
        Self {
            pool: Mutex::default(),
            kinds,
            memory: conjur::MemoryBudget::default(),
            worked: WorkedTimes::new(),
        }
    }

    /// What all clients of the process may take together.
    pub fn memory(&self) -> &conjur::MemoryBudget {
        &self.memory
    }

    /// When each connection last worked.
    pub fn worked(&self) -> &WorkedTimes {
        &self.worked
    }

    fn with<T>(&self, change: impl FnOnce(&mut Pool) -> T) -> T {
        change(&mut self.pool.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn entry<T>(&self, facts: &ConnectionView, look: impl FnOnce(&mut PoolEntry) -> Option<T>) -> Option<T> {
        self.with(|pool| pool.entries.get_mut(&Slot::of(facts)).and_then(look))
    }

    /// What is known of a connection as it is in the store. Nothing is begun by it.
    pub fn standing(&self, facts: &ConnectionView) -> ConnectionState {
        let slot = Slot::of(facts);
        let known = self.with(|pool| {
            let entry = pool.entries.get(&slot).filter(|e| e.generation == facts.generation)?;
            if let Some(failure) = entry.health.failing() {
                return Some(ConnectionState::Failing(failure.clone()));
            }
            let both = entry.client.clone().zip(entry.identity.clone());
            Some(both.map_or(ConnectionState::Untried, |(client, identity)| {
                ConnectionState::Ready(ReadyConnection {
                    client,
                    identity,
                    account: facts.settings.account.as_str().into(),
                    connection: facts.id.clone(),
                    slot: slot.clone(),
                })
            }))
        });
        known.unwrap_or(ConnectionState::Untried)
    }

    /// An object that may use a connection wants to: where it has no client, it is tried, and wakes its users.
    pub fn wanted(&self, facts: &ConnectionView) {
        let wake = self.with(|pool| {
            let entry = pool.entry(facts);
            if entry.generation != facts.generation && facts.tenant.is_some() {
                *entry =
                    PoolEntry { health: Health::untried_after(&entry.health), ..PoolEntry::untried(facts) };
            }
            entry.used = Some(Instant::now());
            let waits = entry.client.is_none() && entry.health.failing().is_none();
            waits && !std::mem::replace(&mut entry.needed, waits)
        });
        if wake {
            self.kinds.wake_connection(&facts.id);
        }
    }

    /// Whether an object wants a connection that has no client.
    pub fn is_needed(&self, facts: &ConnectionView) -> bool {
        self.entry(facts, |entry| Some(entry.needed && entry.client.is_none())).unwrap_or_default()
    }

    /// Lets go of a client that works and that nothing used for a while. Whether there is none then. One that fails goes
    /// when it does ([`Self::fails`]): here it is about to be tried again.
    pub fn let_go_if_idle(&self, facts: &ConnectionView) -> bool {
        self.entry(facts, |entry| {
            if entry.health.failing().is_none() && is_idle(entry.used) && is_idle(entry.made) {
                entry.let_go();
            }
            Some(entry.client.is_none())
        })
        .unwrap_or(true)
    }

    /// Makes room for a client and keeps its place while it is made, so that of many that come at once no more pass than
    /// there is room for. Those that nothing used just now go first, and then one of whoever has most.
    ///
    /// # Errors
    /// `TooManyClients`.
    pub fn admit(&self, facts: &ConnectionView) -> Result<ClientPlace<'_>, Failure> {
        if facts.access.is_some() && facts.tenant.is_none() {
            // Of administrators.
            return Ok(ClientPlace(None));
        }
        let (own, party) = (Slot::of(facts), facts.party());
        let admitted = self.with(|pool| -> Result<(), Limit> {
            // One that is there has its place.
            if pool.entries.get(&own).is_none_or(|entry| entry.client.is_none()) {
                let gone = make_room(&pool.held(&own), &party, Instant::now())?.cloned();
                if let Some(entry) = gone.and_then(|slot| pool.entries.get_mut(&slot)) {
                    entry.let_go();
                }
            }
            pool.making.insert(own.clone(), party.clone());
            Ok(())
        });
        admitted.map(|()| ClientPlace(Some((self, own)))).map_err(|limit| {
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
    pub fn forget_if_idle(&self, facts: &ConnectionView) -> bool {
        let own = Slot::of(facts);
        self.with(|pool| {
            let entry = pool.entries.get(&own);
            let idle = entry.is_some_and(|entry| is_idle(entry.used) && is_idle(entry.made));
            if idle {
                pool.remove(&facts.id, |slot| *slot == own);
            }
            idle
        })
    }

    /// Who the operator is through a connection, where that is known: by the pool, else by its status.
    pub fn identity(&self, facts: &ConnectionView) -> Option<String> {
        let known = self.entry(facts, |entry| entry.identity.as_deref().map(str::to_owned));
        known.or_else(|| facts.status.identity.clone())
    }

    /// As whom the server let a connection in, as it is made now, since the process began; not what its status says.
    pub fn confirmed(&self, facts: &ConnectionView) -> Option<String> {
        self.entry(facts, |entry| {
            let same = entry.generation == facts.generation;
            entry.identity.as_deref().filter(|_| same).map(str::to_owned)
        })
    }

    /// All as whom the server let a connection in, each as of the last time; none while it let in no one since the process began.
    pub fn identities(&self, facts: &ConnectionView) -> Option<Vec<String>> {
        self.with(|pool| {
            let confirmed = pool.confirmed.get(&facts.id).filter(|confirmed| confirmed.uid == facts.uid)?;
            let all = confirmed.identities.values().filter(|_| confirmed.is_of(facts));
            Some(all.map(ToString::to_string).collect())
        })
    }

    /// The namespaces that use a connection with an identity of their own.
    pub fn tenants(&self, facts: &ConnectionView) -> Vec<String> {
        self.with(|pool| {
            let own = pool.of.get(&facts.id).into_iter().flatten().filter(|slot| slot.uid == facts.uid);
            own.filter_map(|slot| slot.tenant.clone()).collect()
        })
    }

    /// The client of a connection with these inputs, if it is in the pool already.
    pub fn existing(&self, facts: &ConnectionView, inputs: &str) -> Option<conjur::Client> {
        self.entry(facts, |entry| {
            let same = entry.generation == facts.generation && entry.inputs == inputs;
            entry.client.clone().filter(|_| same)
        })
    }

    /// Puts a client into the pool, in place of an earlier one of the connection. Where it fails, and is made anew of the
    /// same only because it was let go, it still does: how often it failed and who knows is as it was.
    pub fn put(&self, facts: &ConnectionView, inputs: String, client: conjur::Client) {
        let share = Some(InUse::of(Limit::Clients, 1));
        self.with(|pool| {
            // Those of a former object of the name.
            pool.remove(&facts.id, |slot| slot.uid != facts.uid);
            let entry = pool.entry(facts);
            let same = entry.generation == facts.generation && entry.inputs == inputs;
            if !(same && entry.health.failing().is_some()) {
                let health = Health::untried_after(&entry.health);
                *entry = PoolEntry { inputs, health, used: entry.used, ..PoolEntry::untried(facts) };
            }
            if !entry.has_place() {
                entry.made = Some(Instant::now());
            }
            (entry.client, entry.share) = (Some(client), share);
        });
    }

    /// Whether a client of the connection as it is works now, whatever it is made of.
    pub fn is_working(&self, facts: &ConnectionView) -> bool {
        let works = |entry: &mut PoolEntry| {
            let works = entry.client.is_some() && entry.health.checked_at().is_some();
            (works && entry.generation == facts.generation).then_some(())
        };
        self.entry(facts, works).is_some()
    }

    /// The client that there is goes on, though it is not made of what there is now, which is tried again: after this pause.
    pub fn keep_outdated(&self, facts: &ConnectionView) -> Duration {
        let tries = self.entry(facts, |entry| {
            entry.outdated = true;
            entry.outdated_tries = entry.outdated_tries.saturating_add(1);
            Some(entry.outdated_tries)
        });
        backoff(tries.unwrap_or(1), ROTATION_AGAIN, LONGEST_ROTATION, 0.0)
    }

    /// Whether what it may be made of now is to be tried again.
    pub fn take_outdated(&self, facts: &ConnectionView) -> bool {
        self.entry(facts, |entry| Some(std::mem::take(&mut entry.outdated))).unwrap_or_default()
    }

    /// The connection works, as that identity; none where only its tenants have one. What its users are to be told;
    /// none where it is no news.
    pub fn works(&self, facts: &ConnectionView, identity: Option<&str>) -> Option<ConnectionEvent> {
        self.with(|pool| {
            // It was changed while it was checked: what was found out is of the connection as it was.
            let entry =
                pool.entries.get_mut(&Slot::of(facts)).filter(|e| e.generation == facts.generation)?;
            if let Some(identity) = identity {
                let confirmed =
                    pool.confirmed.entry(facts.id.clone()).or_insert_with(|| Confirmed::none(facts));
                if !confirmed.is_of(facts) {
                    *confirmed = Confirmed::none(facts);
                }
                confirmed.identities.insert(facts.tenant.clone(), identity.into());
            }
            let another = entry.identity.as_deref() != identity;
            entry.identity = identity.map(Into::into);
            entry.health.works(another, Instant::now())
        })
    }

    /// The connection fails, or could not even be made. When it is to be tried again, and whether those who use it
    /// don't know yet that it fails for this reason.
    pub fn fails(&self, facts: &ConnectionView, failure: &Failure) -> (Duration, bool) {
        let for_all = facts.has_tenants() && facts.tenant.is_none();
        self.with(|pool| {
            let entry = pool.entry(facts);
            if entry.generation != facts.generation {
                *entry = PoolEntry::untried(facts);
            }
            if is_idle(entry.used) && !for_all {
                // Its place stays for a while: else as many would be made, one after the other, as fail.
                (entry.client, entry.share) = (None, None);
            }
            entry.health.fails(failure, Instant::now(), rand::random())
        })
    }

    /// When a connection was last seen to work by its own check; none where it does not work now.
    pub fn checked_at(&self, facts: &ConnectionView) -> Option<Instant> {
        self.entry(facts, |entry| entry.health.checked_at())
    }

    /// How long a failing connection still rests before it is tried again.
    pub fn rests(&self, facts: &ConnectionView) -> Option<Duration> {
        self.entry(facts, |entry| {
            let same = entry.generation == facts.generation;
            same.then(|| entry.health.rests(Instant::now())).flatten()
        })
    }

    /// The connection's own check failed: where the server says when it wants to be asked again, it is not before.
    pub fn check_failed(&self, facts: &ConnectionView, error: &conjur::Error) {
        self.entry(facts, |entry| {
            entry.health.asks_to_wait(error.retry_after(), Instant::now());
            Some(())
        });
    }

    /// A call through a connection failed: if the connection is at fault, it is tried by itself from now on.
    pub fn call_failed(&self, through: &ReadyConnection, error: &conjur::Error) {
        if !error.is_connection() {
            return;
        }
        let failure = Failure::from(error.clone());
        let first = self.with(|pool| {
            let entry = pool.entries.get_mut(&through.slot);
            entry.is_some_and(|entry| entry.health.call_fails(&failure, error.retry_after(), Instant::now()))
        });
        if first {
            self.kinds.wake_connection(&through.connection);
        }
    }

    /// An error of Conjur as a failure, after taking note of it where the connection is at fault.
    pub fn failure(&self, through: &ReadyConnection, error: conjur::Error) -> Failure {
        self.call_failed(through, &error);
        error.into()
    }

    /// Lets go of a connection that is gone; of another of its name, whose uid is given, nothing.
    pub fn forget(&self, id: &ConnectionId, there: Option<&str>) {
        self.worked.forget(id);
        self.with(|pool| {
            pool.remove(id, |slot| there != Some(slot.uid.as_str()));
            if pool.confirmed.get(id).is_some_and(|confirmed| there != Some(confirmed.uid.as_str())) {
                pool.confirmed.remove(id);
            }
        });
    }
}

impl PoolEntry {
    fn untried(facts: &ConnectionView) -> Self {
        Self {
            generation: facts.generation,
            inputs: String::new(),
            client: None,
            identity: None,
            health: Health::default(),
            party: facts.party(),
            used: None,
            needed: false,
            made: None,
            share: None,
            outdated: false,
            outdated_tries: 0,
        }
    }

    fn let_go(&mut self) {
        (self.client, self.share, self.made, self.needed) = (None, None, None, false);
    }

    /// Whether it has a place among the clients: it is there, or was made and failed just now.
    fn has_place(&self) -> bool {
        let lately = self.made.is_some_and(|at| at.elapsed() < limits::CLIENT_BUSY);
        self.client.is_some() || (self.health.failing().is_some() && lately)
    }
}

fn is_idle(used: Option<Instant>) -> bool {
    used.is_none_or(|at| at.elapsed() >= limits::CLIENT_IDLE)
}

/// A client's place.
struct HeldClient<'a, S> {
    slot: &'a S,
    party: &'a str,
    used: Option<Instant>,
    /// The client is being made, and can't go.
    making: bool,
}

/// Which client goes so that a party can have one more; none where there is room.
fn make_room<'a, S>(held: &[HeldClient<'a, S>], party: &str, now: Instant) -> Result<Option<&'a S>, Limit> {
    let is_idle = |one: &&HeldClient<'a, S>| {
        one.used.is_none_or(|at| now.saturating_duration_since(at) >= limits::CLIENT_BUSY)
    };
    let oldest = |all: &mut dyn Iterator<Item = &HeldClient<'a, S>>| {
        all.filter(|one| !one.making).min_by_key(|one| one.used).map(|one| one.slot)
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Class;

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
                .map(|((party, used), slot)| HeldClient { slot, party, used: *used, making: false })
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
        let facts = facts("c");
        let (kinds, mut ends) = Kinds::new();
        let clients = Clients::new(kinds);
        assert!(matches!(clients.standing(&facts), ConnectionState::Untried));
        assert!(ends.connections.incoming.woken.try_recv().is_none(), "looking begins nothing");
        clients.wanted(&facts);
        clients.wanted(&facts);
        assert!(
            ends.connections.incoming.woken.try_recv().is_some()
                && ends.connections.incoming.woken.try_recv().is_none()
        );
        assert!(clients.is_needed(&facts));
        let config =
            conjur::Config::new("http://conjur".parse().unwrap(), "demo", conjur::Credentials::Anonymous);
        clients.put(&facts, "i".into(), conjur::Client::new(config).unwrap());
        assert_eq!(clients.works(&facts, Some("alice")), Some(ConnectionEvent::Works));
        assert!(!clients.is_needed(&facts) && !clients.let_go_if_idle(&facts), "it was used just now");
        clients.with(|pool| pool.entries.values_mut().for_each(PoolEntry::let_go));
        assert!(matches!(clients.standing(&facts), ConnectionState::Untried));
        clients.wanted(&facts);
        assert!(ends.connections.incoming.woken.try_recv().is_some() && clients.is_needed(&facts));
    }

    fn facts(name: &str) -> ConnectionView {
        let connection: crate::api::ConjurConnection = serde_json::from_value(serde_json::json!({
            "metadata": { "name": name, "namespace": "n", "uid": format!("uid of {name}"), "generation": 1 },
            "spec": { "url": "http://conjur", "account": "demo", "auth": {} }
        }))
        .unwrap();
        ConnectionView::from(&connection)
    }

    fn client() -> conjur::Client {
        let (url, nobody) = ("http://conjur".parse().unwrap(), conjur::Credentials::Anonymous);
        conjur::Client::new(conjur::Config::new(url, "demo", nobody)).unwrap()
    }

    #[test]
    fn of_many_that_come_at_once_no_more_are_made_than_there_are_places() {
        let clients = Clients::new(Kinds::new().0);
        let all: Vec<ConnectionView> = (0..100).map(|nth| facts(&format!("c{nth}"))).collect();
        let mut places: Vec<_> = all.iter().filter_map(|facts| clients.admit(facts).ok()).collect();
        assert_eq!(places.len(), limits::CLIENTS_PER_NAMESPACE);
        let refused = clients.admit(&all[50]).map(drop).expect_err("a refusal");
        assert_eq!(refused.reason, Reason::TooManyClients);
        // One that could not be made gives its place back.
        places.pop();
        let place = clients.admit(&all[50]).unwrap();
        assert!(clients.admit(&all[51]).is_err());
        // One that was made keeps it.
        clients.put(&all[50], "i".into(), client());
        drop(place);
        assert!(clients.admit(&all[50]).is_ok() && clients.admit(&all[51]).is_err());
        places.clear();
        assert!(clients.admit(&all[51]).is_ok());
    }

    #[test]
    fn a_failing_client_that_nothing_uses_goes_and_what_is_known_of_it_stays() {
        let clients = Clients::new(Kinds::new().0);
        let facts = facts("c");
        let failure = Failure::from(conjur::Error::unavailable("no answer"));
        for (pause, news) in [(1, true), (2, false), (4, false)] {
            clients.put(&facts, "i".into(), client());
            assert_eq!(matches!(clients.standing(&facts), ConnectionState::Failing(_)), pause > 1);
            assert_eq!(clients.fails(&facts, &failure).1, news, "those who use it were told");
            assert!(clients.existing(&facts, "i").is_none());
            assert!(matches!(clients.standing(&facts), ConnectionState::Failing(_)));
            let rest = clients.rests(&facts).unwrap();
            assert_eq!(rest.as_millis().div_ceil(1000), pause, "{rest:?}");
        }
        assert!(
            clients.with(|pool| pool.entry(&facts).has_place()),
            "others are not made in its stead at once"
        );
        clients.put(&facts, "i".into(), client());
        assert_eq!(clients.works(&facts, Some("alice")), Some(ConnectionEvent::WorksAgain));
        // Made of something else, it is another.
        clients.fails(&facts, &failure);
        clients.put(&facts, "another".into(), client());
        assert!(matches!(clients.standing(&facts), ConnectionState::Untried));
        // One that is used stays.
        clients.wanted(&facts);
        clients.fails(&facts, &failure);
        assert!(clients.existing(&facts, "another").is_some());
    }

    #[test]
    fn a_connection_that_is_gone_takes_its_own_entries_and_no_look_at_the_others() {
        let clients = Clients::new(Kinds::new().0);
        let one = facts("c");
        let all: Vec<ConnectionView> = (0..20_000)
            .map(|nth| {
                let mut facts = one.clone();
                (facts.id.name, facts.uid) = (format!("c{nth}"), format!("u{nth}"));
                facts
            })
            .collect();
        for facts in &all {
            clients.wanted(facts);
            clients.wanted(&ConnectionView { tenant: Some("t".into()), ..facts.clone() });
        }
        assert_eq!(clients.tenants(&all[7]), ["t"]);
        let since = Instant::now();
        clients.forget(&all[1].id, Some("u1"));
        for facts in &all[2..] {
            clients.forget(&facts.id, None);
        }
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        let left = |pool: &mut Pool| (pool.entries.len(), pool.of.len());
        assert_eq!(clients.with(left), (4, 2));
        // A new object of the name takes the place of the former one.
        let again = ConnectionView { uid: "new".into(), ..all[0].clone() };
        clients.put(&again, "i".into(), client());
        assert_eq!((clients.with(left), clients.tenants(&all[0])), ((3, 2), vec![]));
    }

    #[test]
    fn whom_a_server_let_in_is_remembered_over_edits() {
        let clients = Clients::new(Kinds::new().0);
        let one = facts("c");
        let known = |facts: &ConnectionView| clients.identities(facts);
        assert_eq!(known(&one), None, "after a start");
        clients.put(&one, "i".into(), client());
        clients.works(&one, Some("host/me"));
        assert_eq!(known(&one), Some(vec!["host/me".into()]));
        let edited = ConnectionView { generation: Some(2), ..one.clone() };
        clients.fails(&edited, &Failure::transient(Reason::CredentialsNotFound, "gone"));
        assert_eq!((known(&edited), clients.confirmed(&edited)), (Some(vec!["host/me".to_owned()]), None));
        // To another server: who it is there no one knows.
        let mut elsewhere = edited.clone();
        elsewhere.settings.url = "http://elsewhere".into();
        assert_eq!(known(&elsewhere), Some(vec![]));
        clients.forget(&one.id, None);
        assert_eq!(known(&one), None);
    }

    #[test]
    fn a_server_that_asks_to_wait_is_not_asked_before() {
        let facts = facts("c");
        let clients = Clients::new(Kinds::new().0);
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

    #[test]
    fn a_shortage_of_the_operator_is_one_objects_and_not_the_connections() {
        let facts = facts("c");
        let (kinds, mut ends) = Kinds::new();
        let clients = Clients::new(kinds);
        let config =
            conjur::Config::new("http://conjur".parse().unwrap(), "demo", conjur::Credentials::Anonymous);
        clients.put(&facts, "i".into(), conjur::Client::new(config).unwrap());
        clients.works(&facts, Some("alice"));
        let ConnectionState::Ready(through) = clients.standing(&facts) else { panic!("it works") };
        let no_room = conjur::Error::NoRoom { message: "no room".into() };
        clients.call_failed(&through, &no_room);
        assert!(matches!(clients.standing(&facts), ConnectionState::Ready(_)));
        assert!(ends.connections.incoming.woken.try_recv().is_none());
        let failure = Failure::from(no_room);
        assert_eq!(failure.reason, Reason::OperatorBusy);
        assert_eq!(failure.class, Class::Waiting(Duration::from_secs(10)));
    }
}

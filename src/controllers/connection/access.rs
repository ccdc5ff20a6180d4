//! The connection that an object names, and what its namespace may do with it.

use std::{collections::BTreeMap, time::Duration};

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{pool::ConnectionState, view::ConnectionView};
use crate::controllers::Context;
use crate::{
    api::{
        ConnectionId, ConnectionKind, ConnectionRef, Reason,
        condition::{READY, is_true},
        connection::AccessMode,
    },
    plan::{
        Class, Failure, LOOK_AGAIN,
        connection::access::{self, Consumer, Verb},
        hash,
        policy::branch_claims::server,
    },
    runtime::Key,
};

pub use super::client_config::credential;

/// What the operator may not list is asked for again this often.
const HIDDEN_AGAIN: Duration = Duration::from_secs(30);

/// A connection that an object names, as it is now.
pub struct BoundConnection {
    /// The connection, as the object's namespace uses it.
    pub facts: ConnectionView,
    /// Whether it works.
    pub standing: ConnectionState,
    /// A hash over what of it matters to those who use it: uid, generation, identity, and which of its rules the labels of
    /// their namespace select. A mere exchange of its key changes nothing for them.
    pub inputs: String,
}

/// Looks up the connection that an object names. No IO.
///
/// # Errors
/// `ConnectionNotFound`; `ConnectionNotReady` where it does not decode, `ApiServerError` where the operator may not see it;
/// `AccessDenied` where the operator serves none of its kind.
pub fn named(reference: &ConnectionRef, user: &Key, ctx: &Context) -> Result<BoundConnection, Failure> {
    let found = match reference.kind.unwrap_or_default() {
        ConnectionKind::ConjurConnection => {
            let at = ObjectRef::new(&reference.name).within(&user.namespace);
            ctx.kinds.connections.store.get(&at).map(|found| found.0.as_ref().ok().map(ConnectionView::from))
        }
        ConnectionKind::ClusterConjurConnection => {
            ctx.scope.check_cluster_connections(&reference.name)?;
            let found = ctx.kinds.cluster_connections.store.get(&ObjectRef::new(&reference.name));
            found.map(|found| found.0.as_ref().ok().map(ConnectionView::from))
        }
    };
    let id = ConnectionId::of(reference, &user.namespace);
    let facts = found
        .ok_or_else(|| {
            if is_hidden(&id, ctx) {
                // It may be there: what was made through it is not taken for lost.
                let message = format!(
                    "{id} can't be looked up: the operator's rights do not let it list such connections there. They are looked at \
                     again in 30 s"
                );
                return Failure::waiting(Reason::ApiServerError, HIDDEN_AGAIN, message);
            }
            let message = format!("{id} does not exist: create it, or correct spec.connectionRef.name");
            Failure::waiting(Reason::ConnectionNotFound, LOOK_AGAIN, message)
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
    Ok(BoundConnection {
        standing: ctx.clients.standing(&facts).on_behalf_of(&user.namespace),
        inputs: hash::hash(parts),
        facts,
    })
}

/// Whether the operator may not see a connection, whether it is there or not.
fn is_hidden(id: &ConnectionId, ctx: &Context) -> bool {
    match id.kind {
        ConnectionKind::ConjurConnection => ctx.kinds.connections.unshown.is_hidden(&id.namespace),
        ConnectionKind::ClusterConjurConnection => ctx.kinds.cluster_connections.unshown.is_hidden(""),
    }
}

/// Which rules of a connection are for a namespace, where that depends on its labels.
fn selection(facts: &ConnectionView, namespace: &str, ctx: &Context) -> Option<String> {
    let rules = facts.access.as_ref()?;
    as_consumer(namespace, ctx, |who| access::selection(rules, who))
}

/// Judges a namespace by its name and the labels that it has now.
fn as_consumer<T>(namespace: &str, ctx: &Context, judge: impl FnOnce(Consumer<'_>) -> T) -> T {
    let found = ctx.namespaces.get(&ObjectRef::new(namespace));
    let none = BTreeMap::new();
    let labels = found.as_ref().map_or(&none, |n| n.labels());
    judge(Consumer { namespace, labels })
}

/// What of a connection tells whether the server lets it in.
#[derive(Clone, Copy, Debug)]
struct LetIn {
    /// It works; it fails for this reason; none where it was not tried yet.
    standing: Option<Result<(), Reason>>,
    /// The server said who it is, as it is made now, since the process began.
    confirmed: bool,
    /// Its status says that it works.
    said: bool,
}

/// Whether a server said nothing of who a connection is: it can't be reached, or has too much to do.
pub fn is_silent(why: Reason) -> bool {
    matches!(why, Reason::ConjurUnavailable | Reason::RateLimited)
}

impl LetIn {
    /// Untried ones are tried within seconds of the start: until then what their status says counts.
    fn is_it(self) -> bool {
        match self.standing {
            Some(Ok(())) => true,
            Some(Err(Reason::AuthenticationFailed)) => false,
            Some(Err(_)) => self.confirmed,
            None => self.said,
        }
    }
}

impl BoundConnection {
    /// A hash over the server that it leads to.
    pub fn server(&self) -> String {
        server(&self.facts.settings.url, &self.facts.settings.account)
    }

    /// Whether the server lets it in, as far as is known: it works, or did as it is made now and fails for another reason. Who
    /// has a connection that never worked says nothing of what lies on its server. No IO.
    pub fn is_let_in(&self, ctx: &Context) -> bool {
        let standing = match &self.standing {
            ConnectionState::Ready(_) => Some(Ok(())),
            ConnectionState::Failing(failure) => Some(Err(failure.reason)),
            ConnectionState::Untried => None,
        };
        let conditions = self.facts.status.conditions.as_deref().unwrap_or_default();
        let confirmed = ctx.clients.confirmed(&self.facts).is_some();
        // A tenant's is an administrator's connection, whose rules let it in.
        let said = self.facts.tenant.is_some() || is_true(conditions, READY);
        LetIn { standing, confirmed, said }.is_it()
    }

    /// Refuses what the connection does not let an object of a namespace do, before Conjur is asked. No IO.
    ///
    /// # Errors
    /// `AccessDenied`, saying which rule or mode is missing.
    pub fn check_access(&self, verb: Verb, ids: &[&str], user: &Key, ctx: &Context) -> Result<(), Failure> {
        self.judge_access(verb, ids, user, ctx)?;
        // Not before: no token is asked for, and no one logs in, for who may not use it.
        ctx.clients.wanted(&self.facts);
        Ok(())
    }

    /// The same as a question about another object, by which no one is tried or logs in. No IO.
    pub fn may_access(&self, verb: Verb, ids: &[&str], user: &Key, ctx: &Context) -> bool {
        self.judge_access(verb, ids, user, ctx).is_ok()
    }

    fn judge_access(&self, verb: Verb, ids: &[&str], user: &Key, ctx: &Context) -> Result<(), Failure> {
        let mode = self.facts.settings.access_mode;
        let forbidden = match verb {
            Verb::Read => (mode == AccessMode::WriteOnly).then_some("no variable may be read through it"),
            Verb::Push => (mode == AccessMode::ReadOnly).then_some("no value may be pushed through it"),
            Verb::Load => (mode == AccessMode::ReadOnly).then_some("no policy may be loaded through it"),
            // Nothing is read or written by it.
            Verb::Plan => None,
        };
        if let Some(why) = forbidden {
            let message = format!("{} has accessMode {mode:?}: {why}", self.facts.id);
            return Err(Failure::stalled(Reason::AccessDenied, message));
        }
        let Some(rules) = &self.facts.access else { return Ok(()) };
        let connection = &self.facts.id.name;
        as_consumer(&user.namespace, ctx, |who| {
            if ids.is_empty() {
                return access::check_use(rules, who, connection);
            }
            ids.iter().try_for_each(|id| access::check(rules, who, verb, id, connection))
        })
    }

    /// Refuses what an object may not do with hosts, before Conjur is asked: each of the ids, by what messages call it, must lie
    /// in a branch that is granted; without ids, the namespace must be let use the connection at all. No IO.
    ///
    /// # Errors
    /// `AccessDenied`, saying which rule or mode is missing.
    pub fn check_hosts(&self, ids: &[(String, &str)], user: &Key, ctx: &Context) -> Result<(), Failure> {
        self.judge_hosts(ids, user, ctx)?;
        ctx.clients.wanted(&self.facts);
        Ok(())
    }

    /// The same as a question about another object, or before anything is wanted: no one is tried or logs in by it. No IO.
    ///
    /// # Errors
    /// As [`check_hosts`](Self::check_hosts).
    pub fn judge_hosts(&self, ids: &[(String, &str)], user: &Key, ctx: &Context) -> Result<(), Failure> {
        if self.facts.settings.access_mode == AccessMode::ReadOnly {
            let message = format!(
                "{} has accessMode ReadOnly: no host may be made, rotated or removed through it",
                self.facts.id
            );
            return Err(Failure::stalled(Reason::AccessDenied, message));
        }
        let Some(rules) = &self.facts.access else { return Ok(()) };
        as_consumer(&user.namespace, ctx, |who| access::check_hosts(rules, who, ids, &self.facts.id.name))
    }

    /// Whether an object may rotate a host that is the identity of a connection. No IO.
    pub fn may_rotate_identity(&self, id: &str, user: &Key, ctx: &Context) -> bool {
        let Some(rules) = &self.facts.access else { return true };
        as_consumer(&user.namespace, ctx, |who| access::may_rotate_identity(rules, who, id))
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
        let granted = as_consumer(&user.namespace, ctx, |who| access::Granted::of(rules, who, Verb::Read));
        ids.filter(|id| granted.covers(id)).for_each(each);
    }

    /// Of some variables those that an object of a namespace may read. No IO.
    pub fn readable<'i>(&self, ids: impl Iterator<Item = &'i str>, user: &Key, ctx: &Context) -> Vec<String> {
        let Some(rules) = &self.facts.access else { return ids.map(str::to_owned).collect() };
        let granted = as_consumer(&user.namespace, ctx, |who| access::Granted::of(rules, who, Verb::Read));
        ids.filter(|id| granted.includes(id)).map(str::to_owned).collect()
    }
}

/// What an object says that waits for its failing connection.
pub fn not_ready(facts: &ConnectionView, why: &Failure) -> Failure {
    Failure {
        class: Class::Connection,
        reason: Reason::ConnectionNotReady,
        message: format!("{} is not ready ({why}); this continues when it is", facts.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_never_worked_is_not_let_in() {
        for (standing, confirmed, said, expected) in [
            (Some(Ok(())), true, false, true),
            (Some(Err(Reason::AuthenticationFailed)), false, true, false),
            (Some(Err(Reason::AuthenticationFailed)), true, true, false),
            (Some(Err(Reason::ConjurUnavailable)), false, true, false),
            (Some(Err(Reason::ConjurUnavailable)), true, false, true),
            (Some(Err(Reason::KeyRotating)), true, false, true),
            (None, false, true, true),
            (None, false, false, false),
        ] {
            let let_in = LetIn { standing, confirmed, said };
            assert_eq!(let_in.is_it(), expected, "{let_in:?}");
        }
    }
}

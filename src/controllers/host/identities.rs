//! Hosts that connections log in as: which they are, whether their keys may be rotated, and which of them are.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{object::target_name, seen::ObservedHost};
use crate::{
    api::{
        ConjurHost, Reason, SERVER_ANNOTATION,
        host::{PendingHost, PendingStep},
    },
    controllers::{
        Context,
        connection::{
            access::{self, BoundConnection, is_silent},
            pool::{ConnectionState, ReadyConnection},
            view::ConnectionView,
        },
    },
    plan::{
        Failure,
        host::view::LANDS_WITHIN,
        policy::branch_claims::server,
        secret::{Owner, is_written_for},
    },
    runtime::Key,
};

/// Refuses the identity that the connection itself has: Conjur lets no one rotate the own key with a token, and the key that is
/// rotated is the one that the rotation needs.
///
/// # Errors
/// `InvalidSpec`, with the way out.
pub fn refuse_own(through: &ReadyConnection, object: &ConjurHost) -> Result<(), Failure> {
    if *through.identity != *format!("host/{}", object.spec.id) {
        return Ok(());
    }
    let message = format!(
        "host/{} is the identity that the connection itself logs in as, and an identity can't rotate its own key. Use a connection of \
         another identity that owns it: spec.via: {{existing: {{}}}}, conflictPolicy: Adopt, and the Secret with the credentials as \
         spec.target.name",
        object.spec.id
    );
    Err(Failure::stalled(Reason::InvalidSpec, message))
}

/// Refuses, through a ClusterConjurConnection, a host that a connection logs in as, where no rule permits that.
///
/// # Errors
/// `AccessDenied`.
pub fn check(
    seen: &ObservedHost,
    named: &BoundConnection,
    object: &ConjurHost,
    ctx: &Context,
) -> Result<(), Failure> {
    check_on(&seen.server, named, object, &seen.key, ctx)
}

/// The same on a server.
///
/// # Errors
/// `AccessDenied`.
pub fn check_on(
    server_hash: &str,
    named: &BoundConnection,
    object: &ConjurHost,
    key: &Key,
    ctx: &Context,
) -> Result<(), Failure> {
    if named.may_rotate_identity(&object.spec.id, key, ctx) {
        return Ok(());
    }
    let login = format!("host/{}", object.spec.id);
    if !all_on(server_hash, ctx).iter().any(|facts| logins(facts, ctx).contains(&login)) {
        return Ok(());
    }
    // Whose connection it is is not told.
    let message = format!(
        "{login} is the identity of a connection, whose key may be rotated through ClusterConjurConnection {} only where a rule says \
         so. Its administrator can add identities: true to the rule that grants its branch to namespace {}",
        named.facts.id.name, key.namespace
    );
    Err(Failure::stalled(Reason::AccessDenied, message))
}

/// All connections to a server. Only those are copied, and each address is hashed once.
fn all_on(server_hash: &str, ctx: &Context) -> Vec<ConnectionView> {
    let (own, cluster) = (ctx.kinds.connections.store.state(), ctx.kinds.cluster_connections.store.state());
    let mut known: HashMap<(&str, &str), bool> = HashMap::new();
    let mut is_there =
        |url, account| *known.entry((url, account)).or_insert_with(|| server(url, account) == server_hash);
    let mut all = Vec::new();
    for connection in own.iter().filter_map(|connection| connection.0.as_ref().ok()) {
        if is_there(&connection.spec.url, &connection.spec.account) {
            all.push(ConnectionView::from(connection));
        }
    }
    for connection in cluster.iter().filter_map(|connection| connection.0.as_ref().ok()) {
        if is_there(&connection.spec.url, &connection.spec.account) {
            all.push(ConnectionView::from(connection));
        }
    }
    all
}

/// Whether there is a Secret that the operator wrote for the object, with a key of this server.
pub fn has_secret(host: &ConjurHost, key: &Key, server: &str, ctx: &Context) -> bool {
    let written = host.status.as_ref().and_then(|status| status.target.as_ref());
    let name = written.map_or_else(|| target_name(host), |target| target.name.clone());
    let secret = ctx.owned.get(&ObjectRef::new(&name).within(&key.namespace));
    secret.is_some_and(|secret| {
        let on = secret.annotations().get(SERVER_ANNOTATION);
        is_written_for(&secret.metadata, &Owner::of(host)) && on.is_some_and(|on| on == server)
    })
}

/// Whom a connection logs in as: as the server confirmed last, and before the server answered, after a start, as its status says.
/// Who may write that may name anyone's host: once the server was asked, it counts no more.
fn logins(facts: &ConnectionView, ctx: &Context) -> BTreeSet<String> {
    let mut logins = said_logins(facts);
    logins.extend(identities(facts, ctx));
    logins
}

/// As whom a server let a connection in, or, while it was not asked or did not answer since the start, does by its status.
pub fn identities(facts: &ConnectionView, ctx: &Context) -> Vec<String> {
    if let Some(confirmed) = ctx.clients.identities(facts) {
        return confirmed;
    }
    let is_open = match ctx.clients.standing(facts) {
        ConnectionState::Untried => true,
        ConnectionState::Failing(why) => is_silent(why.reason),
        ConnectionState::Ready(_) => false,
    };
    facts.status.identity.clone().filter(|_| is_open && facts.is_observed()).into_iter().collect()
}

/// Whom a connection logs in as by what it says, where only an administrator says it: who may make a ConjurConnection may name
/// anyone there.
fn said_logins(facts: &ConnectionView) -> BTreeSet<String> {
    let mut logins = BTreeSet::new();
    if facts.access.is_none() {
        return logins;
    }
    let auth = &facts.settings.auth;
    let host = |id: &String| format!("host/{id}");
    logins.extend(auth.api_key.as_ref().and_then(|auth| auth.login.clone()));
    logins.extend(auth.jwt.as_ref().and_then(|auth| auth.host_id.as_ref()).map(host));
    logins.extend(auth.certificate.as_ref().and_then(|auth| auth.host_id.as_ref()).map(host));
    logins.extend(facts.status.identity.clone());
    logins
}

/// Who is rotating a key that lies in one of these Secrets, or that of a login on a server: the object, where it writes the Secret.
pub fn rotating(secrets: &[Key], login: Option<&str>, server: &str, ctx: &Context) -> Option<String> {
    let store = &ctx.kinds.hosts.store;
    let now = Timestamp::now().as_second();
    store.state().iter().find_map(|host| {
        let key = Key::of(host.as_ref());
        // Of most their names say enough, without a copy.
        let shown = host.0.as_ref().ok()?;
        let target = Key { namespace: key.namespace.clone(), name: target_name(shown) };
        let has_secret = secrets.contains(&target);
        // What this process announced is known to be under way, however long it waits for its turn.
        let is_own = ctx.host_notes.is_rotating(&key, shown.uid().as_deref());
        // By the name alone only that: who may write a status may name anyone's host.
        let has_name = is_own && login == Some(&format!("host/{}", shown.spec.id));
        if !has_secret && !has_name {
            return None;
        }
        let host = ctx.statuses.freshest(&key, store)?.ok()?;
        let status = host.status.as_ref()?;
        let pending = status.pending.as_ref().filter(|pending| pending.server == server)?;
        if !(is_own || is_under_way(pending, now)) || host.spec.suspend == Some(true) {
            return None;
        }
        // Who can't rotate the host says nothing of it. After a start it is not known at once who can.
        let named = access::named(&host.spec.connection_ref, &key, ctx).ok()?;
        let can = matches!(named.standing, ConnectionState::Ready(_) | ConnectionState::Untried)
            && named.server() == server
            && super::claims::may_keep(&named, &host, &key, ctx);
        can.then(|| {
            if has_secret {
                format!("ConjurHost {}/{}", key.namespace, host.name_any())
            } else {
                "a ConjurHost".to_owned()
            }
        })
    })
}

/// Whether what was announced may still end a key: not longer than a request can be on its way, whatever stands there.
fn is_under_way(pending: &PendingHost, now: i64) -> bool {
    let rotates =
        pending.step != PendingStep::Load && (0..LANDS_WITHIN).contains(&now.saturating_sub(pending.at));
    let may_land = pending.until.is_some_and(|until| (1..=LANDS_WITHIN).contains(&until.saturating_sub(now)));
    rotates || may_land
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ClusterConjurConnection, ConjurConnection};

    #[test]
    fn whom_a_namespace_says_that_it_logs_in_as_keeps_no_one_from_the_host() {
        let reference = json!({ "namespace": "conjur", "name": "n", "key": "k" });
        for (auth, login) in [
            (
                json!({ "apiKey": { "login": "host/apps/web", "apiKeySecretRef": reference } }),
                "host/apps/web",
            ),
            (
                json!({ "jwt": { "serviceID": "s", "hostID": "apps/web", "serviceAccountRef": { "name": "n", "audiences": ["conjur"] } } }),
                "host/apps/web",
            ),
            (
                json!({ "certificate": { "serviceID": "s", "hostID": "apps/web", "certificateSecretRef": reference } }),
                "host/apps/web",
            ),
            (json!({ "apiKey": { "loginSecretRef": reference, "apiKeySecretRef": reference } }), "host/told"),
        ] {
            let object = json!({
                "metadata": { "namespace": "n", "name": "c", "uid": "u" },
                "spec": { "url": "https://h", "account": "demo", "auth": auth },
                "status": { "identity": "host/told" },
            });
            let own: ConjurConnection = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(said_logins(&ConnectionView::from(&own)), BTreeSet::new(), "{auth}");
            let cluster: ClusterConjurConnection = serde_json::from_value(object).unwrap();
            let said = said_logins(&ConnectionView::from(&cluster));
            assert!(said.contains(login) && said.contains("host/told"), "{auth}: {said:?}");
        }
    }

    #[test]
    fn an_announcement_counts_as_a_rotation_only_as_long_as_it_can_be_one() {
        let now = 10_000;
        for (step, at, until, expected) in [
            (PendingStep::Rotate, now, None, true),
            (PendingStep::Enrol, now - LANDS_WITHIN + 1, None, true),
            (PendingStep::Rotate, now - LANDS_WITHIN, None, false),
            (PendingStep::Rotate, now - LANDS_WITHIN, Some(now + 1), true),
            (PendingStep::Rotate, now - LANDS_WITHIN, Some(now), false),
            (PendingStep::Load, now, None, false),
            (PendingStep::Load, now, Some(now + LANDS_WITHIN), true),
            // Of a time to come, which the operator writes never.
            (PendingStep::Rotate, now + 1, None, false),
            (PendingStep::Rotate, i64::MAX, Some(i64::MAX), false),
            (PendingStep::Load, i64::MIN, Some(i64::MIN), false),
        ] {
            let pending = PendingHost {
                step,
                at,
                number: 1,
                server: "s".to_owned(),
                until,
                asked: None,
                load: None,
                token: None,
                grants: None,
            };
            assert_eq!(is_under_way(&pending, now), expected, "{pending:?}");
        }
    }
}

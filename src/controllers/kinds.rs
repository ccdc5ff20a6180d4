//! The list of the kinds. What is done for each of them alike is made from it: its store, what wakes it, its runner.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
};
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::{
    handle::{AnyKind, Handle, HandleEnd, handle},
    watches,
};
use crate::{
    api::{
        ClusterConjurConnection, ConjurConnection, ConjurHost, ConjurPolicy, ConjurPush, ConjurSecret,
        ConnectionId, ConnectionKind,
    },
    metrics::Kind,
    plan::{scope::WatchScope, secret::Owner},
    runtime::{Key, Object, Reconcile, runner},
};

/// Comes to whether what is waited for is listed.
type Listing = Shared<BoxFuture<'static, bool>>;

/// How long kinds that take nothing in Conjur wait for the lists of those that do.
const LONGEST_START: Duration = Duration::from_secs(30);

/// What all reconcilers share, which the kinds say: here it is only handed on.
type KindContext = <ConjurConnection as Reconcile>::Context;

macro_rules! kinds {
    ($($field:ident: $kind:ident),+ $(,)?) => {
        /// What there is of each kind, and what wakes it.
        pub struct Kinds {
            $(
                #[doc = concat!("Of ", stringify!($kind), ".")]
                pub $field: Handle<$kind>,
            )+
        }

        /// The other ends, for who runs the kinds.
        pub struct Ends {
            $(
                #[doc = concat!("Of ", stringify!($kind), ".")]
                pub $field: HandleEnd<$kind>,
            )+
        }

        impl Kinds {
            /// Both ends.
            pub fn new() -> (Arc<Self>, Ends) {
                $(let $field = handle();)+
                (Arc::new(Self { $($field: $field.0),+ }), Ends { $($field: $field.1),+ })
            }

            /// Each kind, for those who ask all alike.
            pub fn all(&self) -> impl Iterator<Item = &dyn AnyKind<KindContext>> {
                [$(&self.$field as &dyn AnyKind<KindContext>),+].into_iter()
            }
        }

        impl Ends {
            /// Runs the objects of all kinds, until told to stop and what runs has ended. They begin when all kinds are
            /// listed, and `others` are: what is looked up must be there before the first of them looks it up, or it would
            /// say "not found", or take for free what is another's. Where `others` come to false, they never begin. Kinds that
            /// take nothing in Conjur wait for the kinds that do only so long ([`LONGEST_START`]). `listed` is called when all are
            /// listed.
            pub async fn run(
                self,
                client: Client,
                ctx: Arc<KindContext>,
                others: impl Future<Output = bool> + Send + 'static,
                listed: impl FnOnce(),
                stop: CancellationToken,
            ) {
                let looked_up = vec![$((<$kind as Object>::KIND, looked_up(&self.$field).shared())),+];
                let (first, rest) = looked_up.into_iter().partition::<Vec<_>, _>(|(kind, _)| !takes(*kind));
                let first = first.into_iter().map(|(_, listed)| listed).chain([others.boxed().shared()]);
                let first = all(first.collect());
                let rest = all(rest.into_iter().map(|(_, listed)| listed).collect());
                let every = all(vec![first.clone(), rest.clone()]);
                let soon = soon(first, rest);
                $(let $field = {
                    let ready = if takes(<$kind as Object>::KIND) { every.clone() } else { soon.clone() };
                    run_kind(self.$field, client.clone(), ctx.scope.clone(), ctx.clone(), ready, stop.clone())
                };)+
                let told = async {
                    if stop.run_until_cancelled(every).await == Some(true) {
                        listed();
                    }
                };
                tokio::join!(told, $($field),+);
            }
        }
    };
}

kinds! {
    connections: ConjurConnection,
    cluster_connections: ClusterConjurConnection,
    secrets: ConjurSecret,
    policies: ConjurPolicy,
    pushes: ConjurPush,
    hosts: ConjurHost,
}

impl Kinds {
    /// Wakes a connection.
    pub fn wake_connection(&self, id: &ConnectionId) {
        let key = Key { namespace: id.namespace.clone(), name: id.name.clone() };
        match id.kind {
            ConnectionKind::ConjurConnection => self.connections.wake(key),
            ConnectionKind::ClusterConjurConnection => self.cluster_connections.wake(key),
        }
    }

    /// As [`Listed::rotates`](super::handle::Listed::rotates), of all kinds.
    pub fn rotates(
        &self,
        secrets: &[Key],
        login: Option<&str>,
        server: &str,
        ctx: &KindContext,
    ) -> Option<String> {
        self.all().find_map(|kind| kind.rotates(secrets, login, server, ctx))
    }

    /// Wakes the object that a Secret was written for.
    pub fn wake_owner(&self, owner: &Owner) {
        let Some(kind) = self.all().find(|kind| kind.writes_secrets() && kind.name() == owner.kind) else {
            return tracing::debug!(kind = owner.kind.as_ref(), "no object of this kind is woken");
        };
        kind.wake(Key { namespace: owner.namespace.clone(), name: owner.name.clone() });
    }
}

/// Whether a kind takes branches, variables or hosts in Conjur: it never begins before it is known what the others have.
fn takes(kind: Kind) -> bool {
    matches!(kind, Kind::Policy | Kind::Push | Kind::Host)
}

/// Whether all of these come to be.
fn all(of: Vec<Listing>) -> Listing {
    join_all(of).map(|all| all.into_iter().all(|ready| ready)).boxed().shared()
}

/// Begins when the first are listed, and the rest are, or have been waited for long enough.
fn soon(first: Listing, rest: Listing) -> Listing {
    async move {
        let waited = tokio::time::timeout(LONGEST_START, rest);
        let (first, rest) = tokio::join!(first, waited);
        if rest.is_err() {
            tracing::warn!("ConjurPolicies, ConjurPushes or ConjurHosts can't be listed; the other kinds begin without them");
        }
        first && rest.unwrap_or(true)
    }
    .boxed()
    .shared()
}

/// Waits until a kind is listed, which others look up. False where it never will be. One that has no CRD has no objects, and
/// keeps none of the others back.
fn looked_up<K: Reconcile>(end: &HandleEnd<K>) -> BoxFuture<'static, bool> {
    let (store, unshown) = (end.store.clone(), end.incoming.unshown.clone());
    async move {
        tokio::select! {
            listed = store.wait_until_ready() => listed.is_ok(),
            () = unshown.given_up() => true,
        }
    }
    .boxed()
}

/// Runs the objects of one kind.
async fn run_kind<K: Reconcile>(
    end: HandleEnd<K>,
    client: Client,
    scope: WatchScope,
    ctx: Arc<K::Context>,
    ready: Listing,
    stop: CancellationToken,
) {
    let HandleEnd { store, incoming } = end;
    let woken = watches::wakes(&client, &scope, incoming, ctx.clone());
    Box::pin(runner::run::<K>(woken, store, ready, ctx, stop)).await;
}

#[cfg(test)]
mod tests {
    use kube::{core::DeserializeGuard, runtime::watcher::Event};
    use serde_json::json;

    use super::*;

    fn object<K: Object>(name: &str, connection: &str, ready: &str) -> Event<DeserializeGuard<K>> {
        let object = json!({
            "metadata": { "namespace": "n", "name": name },
            "spec": { "connectionRef": { "name": connection }, "branch": "apps" },
            "status": { "conditions": [{
                "type": "Ready", "status": ready, "reason": "Synced", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        });
        Event::Apply(DeserializeGuard(Ok(serde_json::from_value(object).unwrap())))
    }

    #[test]
    fn each_kind_has_one_name_in_manifests_and_in_metrics() {
        let (kinds, _ends) = Kinds::new();
        for kind in kinds.all() {
            assert_eq!(kind.name(), kind.kind().as_str());
        }
    }

    #[test]
    fn a_secret_wakes_only_an_object_of_a_kind_that_writes_secrets() {
        let (kinds, mut ends) = Kinds::new();
        for kind in [
            "ConjurConnection",
            "ClusterConjurConnection",
            "ConjurSecret",
            "ConjurPolicy",
            "ConjurPush",
            "ConjurHost",
            "Other",
        ] {
            kinds.wake_owner(&Owner {
                api_version: "conjur-operator.io/v1alpha1".into(),
                kind: kind.into(),
                namespace: "n".into(),
                name: kind.into(),
                uid: "u".into(),
            });
        }
        let (secret, policy) =
            (ends.secrets.incoming.woken.try_recv(), ends.policies.incoming.woken.try_recv());
        assert_eq!(secret.map(|(key, _)| key.name).as_deref(), Some("ConjurSecret"));
        assert_eq!(policy.map(|(key, _)| key.name).as_deref(), Some("ConjurPolicy"));
        let host = ends.hosts.incoming.woken.try_recv();
        assert_eq!(host.map(|(key, _)| key.name).as_deref(), Some("ConjurHost"));
        let waiting = [
            ends.connections.incoming.woken.waiting(),
            ends.cluster_connections.incoming.woken.waiting(),
            ends.secrets.incoming.woken.waiting(),
            ends.policies.incoming.woken.waiting(),
            ends.pushes.incoming.woken.waiting(),
            ends.hosts.incoming.woken.waiting(),
        ];
        assert_eq!(waiting, [0; 6]);
    }

    #[test]
    fn all_wait_for_every_kind_that_is_served() {
        let (_kinds, mut ends) = Kinds::new();
        let (hosts, policies) = (looked_up(&ends.hosts).shared(), looked_up(&ends.policies).shared());
        assert_eq!((hosts.clone().now_or_never(), policies.clone().now_or_never()), (None, None));
        ends.hosts.incoming.writer.apply_watcher_event(&Event::Init);
        ends.hosts.incoming.writer.apply_watcher_event(&Event::InitDone);
        assert_eq!((hosts.now_or_never(), policies.clone().now_or_never()), (Some(true), None));
        ends.policies.incoming.unshown.give_up();
        assert_eq!(policies.now_or_never(), Some(true));
    }

    #[test]
    fn of_any_kind_those_are_found_that_use_a_connection() {
        let (kinds, mut ends) = Kinds::new();
        ends.secrets.incoming.writer.apply_watcher_event(&object("mine", "c", "False"));
        ends.secrets.incoming.writer.apply_watcher_event(&object("anothers", "other", "True"));
        ends.policies.incoming.writer.apply_watcher_event(&object("policy", "c", "True"));
        let users = kinds
            .all()
            .flat_map(|kind| kind.users(&|reference, namespace| reference.name == "c" && namespace == "n"));
        let users: Vec<_> = users.map(|user| (user.key.name, user.ready)).collect();
        assert_eq!(users, [("mine".to_owned(), false), ("policy".to_owned(), true)]);
        assert_eq!(kinds.all().map(|kind| kind.keys().len()).collect::<Vec<_>>(), [0, 0, 2, 1, 0, 0]);
    }
}

//! ConjurPush: Secret → Conjur. `reconcile` → `observe` → `act`.
//!
//! # Flow
//! Find out what the Secrets hold (`sources`); see whose each variable is, by the pages of Conjur's list, which all objects of an
//! identity share (`run`); have what is missing made, together with what others want in the branch (`effect::variables`); say in the
//! status what is about to be filled, fill it (`fill`), and say what was. What nothing names any more is removed where the spec
//! asks for it (`remove`). An object whose Secrets and spec are as they were is looked at without reading a Secret.
//!
//! # Guarantees
//! - No variable that another writer made or filled gets a value, unless the spec and the connection's rules let it be adopted.
//! - An id stands in the status before its first value goes out: a crash at any line loses neither value nor ownership.
//! - Nothing is removed but what carries the annotations of this object, and never everything because its source is gone.

mod cache;
mod claims;
mod fill;
mod object;
mod remove;
mod run;
mod say;
mod seen;
mod sources;
mod variables;

use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, core::DeserializeGuard, runtime::watcher::Event};

use self::seen::ObservedPush;
use super::{Context, handle::Listed};
use crate::{
    api::{ConjurPush, ConjurPushSpec, ConjurPushStatus, ConnectionId, ConnectionRef, SYNC_NOW_ANNOTATION},
    conjur::Lane,
    limits::{PUSH_DEADLINE, RUNNING_PUSHES},
    metrics::Kind,
    plan::{Failure, schedule::Due},
    runtime::{Key, Object, Outcome, Reconcile, ReconcileError, api_of_part, concurrency::Line},
};

pub use self::cache::PushNotes;

impl Object for ConjurPush {
    const KIND: Kind = Kind::Push;
    const CONNECTION: Option<fn(&Self) -> &ConnectionRef> = Some(|push| &push.spec.connection_ref);

    fn api(client: kube::Client, namespace: &str) -> Api<Self> {
        Api::namespaced(client, namespace)
    }

    fn watched(client: kube::Client, part: &str) -> Api<DeserializeGuard<Self>> {
        api_of_part(client, part)
    }

    fn compact(&mut self) {
        self.spec.data.iter_mut().for_each(Vec::shrink_to_fit);
        if let Some(status) = &mut self.status {
            status.conditions.iter_mut().for_each(Vec::shrink_to_fit);
            status.variables.iter_mut().for_each(Vec::shrink_to_fit);
        }
    }

    fn shorten(spec: &mut ConjurPushSpec) {
        spec.data = None;
        spec.rewrite = None;
    }

    fn check_references(&self) -> Result<(), Failure> {
        crate::plan::references::of_push(&self.spec)
    }
}

impl Reconcile for ConjurPush {
    type Context = Context;
    const DEADLINE: Duration = PUSH_DEADLINE;
    const AT_ONCE: usize = RUNNING_PUSHES;

    async fn reconcile(
        &self,
        status: &mut ConjurPushStatus,
        ctx: &Context,
    ) -> Result<Outcome, ReconcileError> {
        if object::is_due(self) {
            return Box::pin(remove::reconcile(self, status, ctx)).await;
        }
        if !remove::ensure_finalizer(self, ctx).await? {
            return Ok(Outcome::NotDue(None));
        }
        if self.spec.suspend == Some(true) {
            claims::keep_pushed(self, status, ctx);
            return Ok(Outcome::Suspended);
        }
        let seen = Box::new(seen::observe(self, ctx).await?);
        let result = match seen.due(Timestamp::now(), ctx) {
            Due::In(wait) => {
                seen.handle_slot(false, ctx);
                return Ok(Outcome::NotDue(Some(wait)));
            }
            Due::WhenWoken => return Ok(Outcome::NotDue(None)),
            Due::Now(cause) => {
                // What a run that was cut off was about to take is given up.
                claims::keep_pushed(self, status, ctx);
                Box::pin(seen.act(cause, status, ctx)).await
            }
        };
        if let Err(trouble) = &result {
            seen.mark_handled(trouble, status);
        }
        result
    }

    fn shown(event: &Event<DeserializeGuard<Self>>, ctx: &Context) {
        claims::shown(event, ctx);
    }

    fn line(&self) -> Option<Line> {
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let status = self.status.as_ref();
        let sync_now = self.metadata.annotations.as_ref().and_then(|all| all.get(SYNC_NOW_ANNOTATION));
        // A changed Secret shows in nothing that is known here: it waits with the looks that are due by time, of which each is
        // short.
        let is_settled = status.is_some_and(|status| {
            status.observed_generation == self.metadata.generation
                && sync_now == status.last_handled_sync_now.as_ref()
        });
        let connection = ConnectionId::of(&self.spec.connection_ref, namespace);
        Some(Line { connection, lane: if is_settled { Lane::Refresh } else { Lane::Foreground } })
    }

    fn on_deleted(key: &Key, ctx: &Context) {
        ctx.heavy.forget(Self::KIND.as_str(), &key.namespace, &key.name);
        claims::give_up(key, ctx);
        ctx.push_notes.forget(key);
        ctx.inputs.want(&object::user(key), &[]);
        ctx.inputs.unselect(key);
    }
}

impl Listed for ConjurPush {
    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }
}

impl ObservedPush<'_> {
    fn mark_handled(&self, trouble: &ReconcileError, status: &mut ConjurPushStatus) {
        use crate::plan::Class;
        if matches!(trouble.failure.class, Class::Stalled | Class::Waiting(_)) {
            self.mark_inputs(status);
        }
    }
}

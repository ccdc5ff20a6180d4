//! What a kind does, for the runtime that calls it.

use std::{ops::Deref, time::Duration};

use kube::{
    core::DeserializeGuard,
    runtime::{reflector::Store, watcher::Event},
};

use super::{Key, Object, Outcome, ReconcileError, Shared, concurrency::Line};
use crate::limits::RUNNING_OTHERS;

/// A kind that the operator reconciles.
pub trait Reconcile: Object {
    /// What its reconcilers share, the runtime's part among it.
    type Context: Deref<Target = Shared> + Send + Sync + 'static;
    /// How long one reconcile may take.
    const DEADLINE: Duration;
    /// How many objects of the kind are worked on at once.
    const AT_ONCE: usize = RUNNING_OTHERS;

    /// Looks at the object, and does what is due. Every effect may be repeated. `status` is a draft, at first as the status
    /// stands: what it says in the end is written, unless nothing was due.
    fn reconcile(
        &self,
        status: &mut Self::Status,
        ctx: &Self::Context,
    ) -> impl Future<Output = Result<Outcome, ReconcileError>> + Send;

    /// The store of the kind.
    fn store(ctx: &Self::Context) -> &Store<DeserializeGuard<Self>>;

    /// Takes note of what the watch shows, before the store does.
    fn shown(_event: &Event<DeserializeGuard<Self>>, _ctx: &Self::Context) {}

    /// The line that the object waits in for its turn; none where its turn is at once.
    fn line(&self) -> Option<Line> {
        None
    }

    /// Forgets what is remembered of an object that is gone.
    fn on_deleted(key: &Key, ctx: &Self::Context);
}

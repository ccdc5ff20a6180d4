//! Shows metrics what there is of all kinds.

use std::sync::{Arc, Weak};

use super::Context;
use crate::metrics::{ObjectState, ShowsStates};

/// What the stores hold, as long as there is someone who reconciles it.
pub struct AllStates(Weak<Context>);

impl AllStates {
    /// Of all kinds.
    pub fn of(ctx: &Arc<Context>) -> Arc<Self> {
        // The metrics are a part of what it looks into.
        Arc::new(Self(Arc::downgrade(ctx)))
    }
}

impl ShowsStates for AllStates {
    fn objects(&self, see: &mut dyn FnMut(&ObjectState<'_>)) {
        let Some(ctx) = self.0.upgrade() else { return };
        for kind in ctx.kinds.all() {
            kind.states(see, &ctx);
        }
    }
}

//! What is said of an object that is done: also what a find brought and what is left out of it.

use kube::runtime::events::EventType;

use super::seen::ObservedSecret;
use crate::{
    api::{
        ConjurSecret, Reason,
        condition::{READY, find},
    },
    controllers::Context,
    plan::secret::sources::LeftOut,
};

impl ObservedSecret {
    /// The message of `Synced`.
    pub fn synced(&self) -> String {
        let synced = format!("Secret {} holds what Conjur holds", self.desired.name);
        match &self.remembered.left_out.note() {
            Some(note) => format!("{synced}; {note}"),
            None => synced,
        }
    }

    /// Takes note of what is left out, and tells of it once.
    pub fn note_left_out(&mut self, object: &ConjurSecret, left_out: LeftOut, ctx: &Context) {
        if self.remembered.left_out == left_out {
            return;
        }
        let note = left_out.note();
        let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
        let said = find(conditions.unwrap_or_default(), READY).map(|ready| ready.message.as_str());
        if let Some(note) = note.as_ref().filter(|note| !said.is_some_and(|said| said.contains(*note))) {
            ctx.events.publish(object, EventType::Warning, Reason::VariablesLeftOut, "Find", note);
        }
        self.remembered.left_out.clone_from(&left_out);
        ctx.memory.change(&self.key, |m| m.left_out = left_out);
    }
}

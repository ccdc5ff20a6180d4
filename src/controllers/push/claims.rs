//! Which object has a variable, over all connections and namespaces (`plan::push::claims` decides).

use kube::{core::DeserializeGuard, runtime::watcher::Event};

use super::{
    object::has_given_up,
    seen::{ObservedPush, age, server_of},
};
use crate::{
    api::{ConjurPush, ConjurPushStatus, Reason},
    controllers::{Context, connection::access},
    plan::connection::access::Verb,
    runtime::Key,
};

/// Takes note of what the watch shows: what an object pushed is its own from the start, and one that is gone has nothing.
pub fn shown(event: &Event<DeserializeGuard<ConjurPush>>, ctx: &Context) {
    let (Event::InitApply(guard) | Event::Apply(guard) | Event::Delete(guard)) = event else { return };
    let key = Key::of(guard);
    let Ok(object) = &guard.0 else { return };
    if matches!(event, Event::Delete(_)) || has_given_up(object) {
        return give_up(&key, ctx);
    }
    let is_new = ctx.push_notes.claims(|claims| !claims.has(&key));
    if let Some(status) = object.status.as_ref().filter(|_| is_new) {
        keep_pushed(object, status, ctx);
    }
}

/// An object keeps what it pushed, and claims nothing else.
pub fn keep_pushed(object: &ConjurPush, status: &ConjurPushStatus, ctx: &Context) {
    let ids = status.variables.iter().flatten().map(|variable| variable.id.as_str());
    let key = Key::of(object);
    let waiting = ctx.push_notes.claims(|claims| claims.set(&key, age(object), ids));
    wake(waiting, ctx);
}

/// An object gives up all that it claims.
pub fn give_up(key: &Key, ctx: &Context) {
    let waiting = ctx.push_notes.claims(|claims| claims.forget(key));
    wake(waiting, ctx);
}

/// Whether an object that is not done still keeps others out: what it waits for is the variable itself, or is wrong with others of
/// its variables.
pub fn is_held_in_spite_of(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::AccessDenied
            | Reason::SourceNotFound
            | Reason::InvalidSpec
            | Reason::ConnectionNotFound
            | Reason::ConnectionNotReady
            | Reason::TemplateInvalid
            | Reason::PolicyForbidden
            | Reason::PolicyInvalid
            | Reason::BranchNotFound
            | Reason::BranchTaken
    )
}

fn wake(those: Vec<Key>, ctx: &Context) {
    for key in those {
        ctx.kinds.pushes.wake(key);
    }
}

impl ObservedPush<'_> {
    /// Claims these variables, and what was pushed before.
    pub fn claim<'i>(&self, ids: impl Iterator<Item = &'i str>, status: &'i ConjurPushStatus, ctx: &Context) {
        let pushed = status.variables.iter().flatten().map(|variable| variable.id.as_str());
        let all: Vec<&str> = ids.chain(pushed).collect();
        let waiting = ctx.push_notes.claims(|claims| claims.set(&self.key, self.age(), all.into_iter()));
        wake(waiting, ctx);
    }

    /// Who has a variable, where that is another, older object.
    pub fn taken_by(&self, id: &str, server: &str, ctx: &Context) -> Option<Key> {
        let others = ctx.push_notes.claims(|claims| claims.older(&self.key, &self.age(), id));
        others.into_iter().find(|other| is_rival(other, id, server, ctx))
    }

    /// From now on the object is woken when one of these is given up.
    pub fn wait_for<'i>(&self, ids: impl Iterator<Item = &'i str>, ctx: &Context) {
        ctx.push_notes.claims(|claims| claims.wait(&self.key, ids));
    }
}

/// Whether another object goes to the same server, which lets it in, and may push there.
fn is_rival(other: &Key, id: &str, server: &str, ctx: &Context) -> bool {
    let Some(found) = ctx.kinds.pushes.store.get(&other.reference()) else { return false };
    let Ok(object) = &found.0 else { return false };
    let Ok(named) = access::named(&object.spec.connection_ref, other, ctx) else { return false };
    server_of(&named) == server && named.is_let_in(ctx) && named.may_access(Verb::Push, &[id], other, ctx)
}

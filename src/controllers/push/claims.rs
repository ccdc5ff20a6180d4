//! Which object has a variable, over all connections and namespaces (`plan::push::claims` decides).

use kube::{core::DeserializeGuard, runtime::watcher::Event};

use super::{
    object::has_given_up,
    run::Push,
    seen::{ObservedPush, age},
};
use crate::{
    api::{
        ConjurPush, ConjurPushStatus,
        push::{PushedVariable, PushedVersion},
    },
    controllers::{Context, connection::access},
    plan::{
        connection::access::Verb,
        push::{claims::ClaimedVariable, decide::PushStep},
    },
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

/// An object claims what its status says that it has, and nothing else; of that nothing which it was found not to be able to push.
pub fn keep_pushed(object: &ConjurPush, status: &ConjurPushStatus, ctx: &Context) {
    let server = status.applied.as_ref().map_or("", |applied| applied.server.as_str());
    let key = Key::of(object);
    let waiting = ctx.push_notes.claims(|claims| {
        let is_new = !claims.has(&key);
        let all: Vec<_> =
            in_status(status).filter(|one| is_new || claims.claims(&key, server, one.id)).collect();
        claims.set(&key, age(object), server, &all)
    });
    wake(waiting, ctx);
}

/// An object gives up all that it claims.
pub fn give_up(key: &Key, ctx: &Context) {
    let waiting = ctx.push_notes.claims(|claims| claims.forget(key));
    wake(waiting, ctx);
}

fn in_status(status: &ConjurPushStatus) -> impl Iterator<Item = ClaimedVariable<'_>> {
    let all = status.variables.iter().flatten();
    // What is merely announced may never be filled.
    let is_held = |variable: &PushedVariable| matches!(variable.version, PushedVersion::Number(_));
    all.map(move |variable| ClaimedVariable { id: &variable.id, firm: is_held(variable) })
}

fn wake(those: Vec<Key>, ctx: &Context) {
    for key in those {
        ctx.kinds.pushes.wake(key);
    }
}

impl Push<'_> {
    /// Claims what the status says that the object has, and what it is about to fill; not what it can't push, or what an older
    /// object has.
    pub fn claim_to_push(&self, status: &ConjurPushStatus) {
        let may_be_filled = |step: &PushStep| match step {
            PushStep::Fill { takes_over, .. } => !takes_over,
            PushStep::Settled(_) => true,
            PushStep::Leave { mine } => *mine,
            _ => false,
        };
        let is_free = |id: &&String| self.seen.taken_by(id, &self.server, self.ctx).is_none();
        let about_to = self.steps.iter().filter(|(_, step)| may_be_filled(step)).map(|(id, _)| id);
        let about_to: Vec<&String> = about_to.filter(is_free).collect();
        self.claim(status, &about_to);
    }

    /// The same, when that is done.
    pub fn claim_pushed(&self, status: &ConjurPushStatus) {
        self.claim(status, &[]);
    }

    fn claim(&self, status: &ConjurPushStatus, about_to: &[&String]) {
        let can_not_be = |variable: &ClaimedVariable| {
            matches!(
                self.steps.get(variable.id),
                Some(
                    PushStep::Foreign { .. }
                        | PushStep::Taken(_)
                        | PushStep::NotFound { .. }
                        | PushStep::Leave { mine: false }
                )
            )
        };
        let about_to = about_to.iter().map(|id| ClaimedVariable { id, firm: true });
        let all: Vec<_> =
            in_status(status).filter(|variable| !can_not_be(variable)).chain(about_to).collect();
        let (key, age) = (&self.seen.key, self.seen.age());
        let waiting = self.ctx.push_notes.claims(|claims| claims.set(key, age, &self.server, &all));
        wake(waiting, self.ctx);
    }
}

impl ObservedPush<'_> {
    /// Who has a variable, where that is another, older object.
    pub fn taken_by(&self, id: &str, server: &str, ctx: &Context) -> Option<Key> {
        let others = ctx.push_notes.claims(|claims| claims.older(&self.key, &self.age(), server, id));
        others.into_iter().find(|other| is_rival(other, id, server, ctx))
    }

    /// From now on the object is woken when one of these is given up.
    pub fn wait_for<'i>(&self, server: &str, ids: impl Iterator<Item = &'i str>, ctx: &Context) {
        let ids: Vec<&str> = ids.collect();
        ctx.push_notes.claims(|claims| claims.wait(&self.key, server, &ids));
    }
}

/// Whether another object goes to the same server, which lets it in, and may push there.
fn is_rival(other: &Key, id: &str, server: &str, ctx: &Context) -> bool {
    let Some(found) = ctx.kinds.pushes.store.get(&other.reference()) else { return false };
    let Ok(object) = &found.0 else { return false };
    let Ok(named) = access::named(&object.spec.connection_ref, other, ctx) else { return false };
    named.server() == server && named.is_let_in(ctx) && named.may_access(Verb::Push, &[id], other, ctx)
}

//! Wakes those who use a connection.

use super::users::Users;
use crate::{conjur::Client, controllers::Context, plan::connection::health::ConnectionEvent};

/// Wakes every object that uses a connection: those that wait for it go on, the others find nothing due.
pub fn wake_users(users: &Users, tell: ConnectionEvent, ctx: &Context) {
    for kind in ctx.kinds.all() {
        let mut those = kind.users(&|reference, namespace| users.include(reference, namespace));
        let at_once = kind.is_told_at_once();
        if at_once {
            // Those that have nothing come first.
            those.sort_by_key(|user| user.ready);
        }
        let keys = those.into_iter().map(|user| user.key);
        match tell {
            ConnectionEvent::Works | ConnectionEvent::Fails if at_once => keys.for_each(|key| kind.wake(key)),
            // All of them may be due, or cost something where they are not.
            ConnectionEvent::WorksAgain | ConnectionEvent::Works | ConnectionEvent::Fails => {
                kind.wake_spread(keys.collect());
            }
        }
    }
}

/// Tells all kinds of a client that was made for a connection.
pub fn tell_of_client(client: &Client, users: &Users, ctx: &Context) {
    ctx.kinds.all().for_each(|kind| kind.client_made(client, users, ctx));
}

//! The token of a host factory that a run made which then died: it is revoked also where nothing else is done for the object.

use jiff::Timestamp;

use super::{claims, remove::own_pending, seen::ObservedHost};
use crate::{
    api::{
        ConjurHost, ConjurHostStatus,
        host::{Enrolment, PendingEnrolment},
    },
    controllers::{Context, connection::access},
    effect::host::tokens::revoke_announced,
};

/// After so many seconds by the operator's clock a token has ended by any server's.
const ENDED: i64 = 300;

/// Revokes the token that an earlier run announced, where the object may use the factory. What fails here is tried again with the
/// object.
pub async fn revoke_left(object: &ConjurHost, seen: &ObservedHost, status: &ConjurHostStatus, ctx: &Context) {
    let now = Timestamp::now().as_second();
    let Some(token) = left(status, &seen.server, object.spec.enrolment().as_ref(), now) else { return };
    let Ok(named) = access::named(&object.spec.connection_ref, &seen.key, ctx) else { return };
    if claims::check_access(&named, object, &seen.key, ctx).is_err() {
        return;
    }
    let Ok(Some(through)) = seen.through(ctx) else { return };
    if let Err(error) = revoke_announced(&through.client, &token).await {
        let failure = ctx.clients.failure(&through, error);
        tracing::debug!(host = object.spec.id, "a token may be left until it ends: {}", failure.message);
    }
}

/// The token that may be left.
fn left(
    status: &ConjurHostStatus,
    server: &str,
    enrolment: Option<&Enrolment<'_>>,
    now: i64,
) -> Option<PendingEnrolment> {
    let token = own_pending(status.pending.as_ref()?, server, enrolment, None)?.token?;
    (now < token.expires.saturating_add(ENDED)).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::host::{PendingHost, PendingStep};

    #[test]
    fn only_a_token_of_the_specs_factory_on_this_server_is_left() {
        let token = Some(PendingEnrolment { factory: "apps/f".to_owned(), expires: 1_000 });
        let pending = PendingHost {
            step: PendingStep::Enrol,
            at: 900,
            number: 1,
            server: "s".to_owned(),
            until: None,
            asked: None,
            load: None,
            token,
            grants: None,
        };
        let status = ConjurHostStatus { pending: Some(pending), ..ConjurHostStatus::default() };
        for (server, way, now, expected) in [
            ("s", Enrolment::Factory("apps/f"), 950, true),
            ("s", Enrolment::Factory("apps/f"), 1_299, true),
            ("s", Enrolment::Factory("apps/f"), 1_300, false),
            ("s", Enrolment::Factory("apps/g"), 950, false),
            ("t", Enrolment::Factory("apps/f"), 950, false),
            ("s", Enrolment::Existing, 950, false),
        ] {
            assert_eq!(left(&status, server, Some(&way), now).is_some(), expected, "{server} {way:?} {now}");
        }
        assert_eq!(left(&ConjurHostStatus::default(), "s", Some(&Enrolment::Existing), 0), None);
    }
}

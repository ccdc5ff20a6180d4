//! The token of a host factory that an earlier run made, or may have made: it is known by when it ends, and is revoked.

use super::{
    faults::fault,
    step::{FactoryLook, HostEffect, HostQuestion, HostStep, HostVerdict},
    view::HostView,
};
use crate::api::host::PendingEnrolment;

/// A factory's token lives so long, in seconds.
pub const TOKEN_LIFE: i64 = crate::limits::FACTORY_TOKEN_LIFE.as_secs().cast_signed();
/// Tokens of a factory that may have gone since one was announced, whose seconds it had to leave out.
const GONE_SINCE: i64 = 60;

/// Whether a token that is announced can be one of the operator's, by the server's clock. Who may write the status may have
/// written any second there, in which a token of another ends: those that are given to people live for longer.
pub fn may_be_made_for_one_enrolment(token: &PendingEnrolment, seen: &FactoryLook) -> bool {
    let tokens = i64::try_from(seen.expiries.len()).unwrap_or(i64::MAX);
    let latest = seen.now.saturating_add(TOKEN_LIFE + GONE_SINCE).saturating_add(tokens);
    token.expires <= latest || fault!(AnyTokenIsRevoked)
}

/// What was announced of a token by an earlier run, and is not known to be gone.
fn announced(view: &HostView) -> Option<&PendingEnrolment> {
    let token = view.earlier()?.token.as_ref()?;
    (!view.token_gone && !fault!(TokenOfACrashIsLeft)).then_some(token)
}

/// It is revoked whatever is wrong with the Secret.
pub fn a_token_that_was_announced_is_revoked(view: &HostView) -> Option<HostStep> {
    let token = announced(view)?;
    let Some(seen) = &view.factory else {
        return Some(HostStep::Learn(HostQuestion::TokensOf(token.factory.clone())));
    };
    let is_there = seen.expiries.contains(&token.expires) && may_be_made_for_one_enrolment(token, seen);
    let (factory, expires) = (token.factory.clone(), token.expires);
    is_there.then_some(HostStep::Do(HostEffect::Revoke { factory, expires }))
}

/// It was used and revoked, or may still be made: no one would know of that one but its factory, for two minutes.
pub fn a_token_that_may_come_is_waited_for(view: &HostView) -> Option<HostStep> {
    let (token, seen) = (announced(view)?, view.factory.as_ref()?);
    let may_come = !view.is_announced_key_stored()
        && seen.now < token.expires
        && may_be_made_for_one_enrolment(token, seen);
    may_come.then(|| HostStep::Finish(HostVerdict::Wait((token.expires - seen.now).clamp(1, TOKEN_LIFE))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_ends_much_later_is_none_of_the_operators() {
        let now = 1_000_000;
        for (expires, others, expected) in [
            (now + TOKEN_LIFE, 0, true),
            (now - 5, 0, true),
            (now + TOKEN_LIFE + GONE_SINCE, 0, true),
            (now + TOKEN_LIFE + GONE_SINCE + 3, 0, false),
            (now + TOKEN_LIFE + GONE_SINCE + 3, 3, true),
            (now + 600, 1, false),
            (i64::MAX, 1, false),
        ] {
            let seen = FactoryLook { now, expiries: (0..others).collect() };
            let token = PendingEnrolment { factory: "f".to_owned(), expires };
            assert_eq!(may_be_made_for_one_enrolment(&token, &seen), expected, "{expires} {others}");
        }
    }
}

//! Which change of the conditions is worth a log line: a trouble that begins, is another one, or ends. What fails again in the
//! same way is none, however often it is tried.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{
    Reason,
    condition::{READY, RECONCILING, find},
};

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateTurn {
    /// It was never Ready before, as far as is known.
    FirstReady,
    /// It is Ready again, or what was tried again works.
    ReadyAgain,
    /// It is not Ready, for this reason.
    NotReady,
    /// It is still Ready, as it was, and something is tried again.
    Retries,
    /// Nothing is done for it any more.
    Suspended,
}

/// What is wrong with an object, by its conditions: the reason, and whether Ready is still True.
fn trouble(conditions: &[Condition]) -> Option<(&str, bool)> {
    let ready = find(conditions, READY)?;
    if ready.status != "True" {
        return Some((&ready.reason, false));
    }
    let reconciling = find(conditions, RECONCILING).filter(|found| found.status == "True")?;
    Some((&reconciling.reason, true))
}

/// What there is to tell of new conditions. `is_told_elsewhere`: of a reason that something else tells of, once for all who wait
/// for it.
pub fn turn(
    old: &[Condition],
    new: &[Condition],
    is_told_elsewhere: impl Fn(&str) -> bool,
) -> Option<StateTurn> {
    let (before, now) = (trouble(old), trouble(new));
    match (before, now) {
        _ if find(new, READY).is_none() => None,
        (_, None) if find(old, READY).is_none() => Some(StateTurn::FirstReady),
        (None, None) => None,
        (Some((reason, _)), None) => (!is_told_elsewhere(reason)).then_some(StateTurn::ReadyAgain),
        (before, Some(now)) if before == Some(now) => None,
        (_, Some((reason, _))) if is_told_elsewhere(reason) => None,
        (_, Some((reason, _))) if reason == Reason::Suspended.as_str() => Some(StateTurn::Suspended),
        (_, Some((_, true))) => Some(StateTurn::Retries),
        (_, Some((_, false))) => Some(StateTurn::NotReady),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::condition::{State, conditions};

    #[test]
    fn what_begins_and_ends_is_told_once_and_a_retry_is_not() {
        let elsewhere = |reason: &str| reason == Reason::ConnectionNotReady.as_str();
        let retrying = |still_good| State::Retrying { still_good };
        let (mut standing, mut told) = (Vec::new(), Vec::new());
        for (state, reason, expected) in [
            (State::Done, Reason::Synced, Some(StateTurn::FirstReady)),
            (State::Done, Reason::Synced, None),
            (retrying(true), Reason::ApiServerError, Some(StateTurn::Retries)),
            (retrying(true), Reason::ApiServerError, None),
            (State::Done, Reason::Synced, Some(StateTurn::ReadyAgain)),
            (State::Stalled, Reason::ForeignSecret, Some(StateTurn::NotReady)),
            (State::Stalled, Reason::ForeignSecret, None),
            (State::Waiting, Reason::VariableNotFound, Some(StateTurn::NotReady)),
            (State::Done, Reason::Synced, Some(StateTurn::ReadyAgain)),
            (State::Waiting, Reason::ConnectionNotReady, None),
            (State::Done, Reason::Synced, None),
            (retrying(true), Reason::ConnectionNotReady, None),
            (retrying(false), Reason::ApiServerError, Some(StateTurn::NotReady)),
            (State::Done, Reason::Synced, Some(StateTurn::ReadyAgain)),
            (State::Suspended, Reason::Suspended, None),
        ] {
            let new = conditions(&standing, state, reason, "m", Some(1), Timestamp::UNIX_EPOCH);
            told.push((state, turn(&standing, &new, elsewhere)));
            assert_eq!(told.last().and_then(|(_, turn)| *turn), expected, "{told:?}");
            standing = new;
        }
        let suspended =
            conditions(&[], State::Suspended, Reason::Suspended, "m", Some(1), Timestamp::UNIX_EPOCH);
        assert_eq!(turn(&[], &suspended, elsewhere), Some(StateTurn::Suspended));
        assert_eq!(turn(&suspended, &suspended, elsewhere), None);
    }
}

//! Conditions as `kubectl wait`, Flux (kstatus) and Argo CD understand them.
//!
//! ```
//! use conjur_operator_api::condition::{Conditioned, READY, is_true};
//! use conjur_operator_api::ConjurSecretStatus;
//!
//! /// Whether the Secret holds what Conjur holds, and the spec's newest generation was looked at.
//! fn is_done(status: &ConjurSecretStatus, generation: i64) -> bool {
//!     status.observed_generation() == Some(generation) && is_true(status.conditions(), READY)
//! }
//!
//! assert!(!is_done(&ConjurSecretStatus::default(), 1), "nothing is reported yet");
//! ```

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Reason;

/// Condition type that every object has.
pub const READY: &str = "Ready";
/// Condition type that stands only while something is awaited or tried again.
pub const RECONCILING: &str = "Reconciling";
/// Condition type that stands only while the user must act.
pub const STALLED: &str = "Stalled";

/// Longest message of a condition that the API server takes, in bytes.
const MESSAGE_LIMIT: usize = 32_768;

/// A status that tells of its object by conditions.
pub trait Conditioned {
    /// The generation that was last looked at to the end.
    fn observed_generation(&self) -> Option<i64>;

    /// The conditions; none before the first report.
    fn conditions(&self) -> &[Condition];

    /// Sets the generation that was last looked at to the end.
    fn set_observed_generation(&mut self, generation: Option<i64>);

    /// Sets the conditions.
    fn set_conditions(&mut self, conditions: Vec<Condition>);
}

/// Says of a status that has both as fields of these names that it tells by conditions.
macro_rules! conditioned {
    ($status:ty) => {
        impl crate::condition::Conditioned for $status {
            fn observed_generation(&self) -> Option<i64> {
                self.observed_generation
            }

            fn conditions(&self) -> &[Condition] {
                self.conditions.as_deref().unwrap_or_default()
            }

            fn set_observed_generation(&mut self, generation: Option<i64>) {
                self.observed_generation = generation;
            }

            fn set_conditions(&mut self, conditions: Vec<Condition>) {
                self.conditions = Some(conditions);
            }
        }
    };
}
pub(super) use conditioned;

/// The state that an object's conditions tell of; the table in `docs/reasons.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Done: Ready.
    Done,
    /// Waiting for something that will announce itself: not Ready, Reconciling; the generation counts as observed.
    Waiting,
    /// A fault that will be tried again: Reconciling; Ready stays True where the last good state stands and
    /// nothing new is asked.
    Retrying {
        /// The last good state stands and nothing new is asked.
        still_good: bool,
    },
    /// The user must act: not Ready, Stalled.
    Stalled,
    /// Nothing is done: as it was; a new object is not Ready.
    Suspended,
}

impl State {
    /// Whether `status.observedGeneration` is set with it.
    pub fn observes_generation(self) -> bool {
        !matches!(self, State::Retrying { .. })
    }
}

/// The conditions that tell of `state`, with the transition times of those that stood already kept.
pub fn conditions(
    old: &[Condition],
    state: State,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let make = |type_: &str, status: bool, reason: Reason, message: &str| {
        condition(old, type_, status, reason, message, generation, now)
    };
    let was_ready = find(old, READY);
    match state {
        State::Done => vec![make(READY, true, reason, message)],
        State::Waiting => vec![make(READY, false, reason, message), make(RECONCILING, true, reason, message)],
        State::Stalled => vec![make(READY, false, reason, message), make(STALLED, true, reason, message)],
        State::Retrying { still_good } => {
            let ready = match was_ready.filter(|c| still_good && c.status == "True") {
                Some(standing) => standing.clone(),
                None => make(READY, false, reason, message),
            };
            vec![ready, make(RECONCILING, true, reason, message)]
        }
        State::Suspended => vec![was_ready.cloned().unwrap_or_else(|| make(READY, false, reason, message))],
    }
}

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of a type is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

fn condition(
    old: &[Condition],
    type_: &str,
    status: bool,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if status { "True" } else { "False" };
    let since = find(old, type_).filter(|c| c.status == status).map_or_else(
        // The API server keeps whole seconds.
        || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        |c| c.last_transition_time.clone(),
    );
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message: clip(message, MESSAGE_LIMIT).to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// At most `limit` bytes of a text, cut between characters.
pub fn clip(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn types(conditions: &[Condition]) -> Vec<(&str, &str)> {
        conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect()
    }

    #[test]
    fn each_state_has_the_conditions_of_the_table() {
        let none: &[Condition] = &[];
        let good = conditions(none, State::Done, Reason::Synced, "ok", Some(1), at(1));
        let stalled = conditions(none, State::Stalled, Reason::ForeignSecret, "no", Some(1), at(1));
        for (old, state, expected) in [
            (none, State::Done, vec![(READY, "True")]),
            (none, State::Waiting, vec![(READY, "False"), (RECONCILING, "True")]),
            (none, State::Stalled, vec![(READY, "False"), (STALLED, "True")]),
            (none, State::Retrying { still_good: true }, vec![(READY, "False"), (RECONCILING, "True")]),
            (&good, State::Retrying { still_good: true }, vec![(READY, "True"), (RECONCILING, "True")]),
            (&good, State::Retrying { still_good: false }, vec![(READY, "False"), (RECONCILING, "True")]),
            (none, State::Suspended, vec![(READY, "False")]),
            (&good, State::Suspended, vec![(READY, "True")]),
            (&stalled, State::Suspended, vec![(READY, "False")]),
        ] {
            let got = conditions(old, state, Reason::ConjurUnavailable, "m", Some(1), at(2));
            assert_eq!(types(&got), expected, "{state:?}");
        }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = conditions(&[], State::Done, Reason::Synced, "a", Some(1), at(1));
        let same = conditions(&first, State::Done, Reason::Synced, "b", Some(2), at(9));
        assert_eq!(same[0].last_transition_time.0, at(1));
        let turned = conditions(&same, State::Stalled, Reason::ForeignSecret, "c", Some(2), at(10));
        assert_eq!(turned[0].last_transition_time.0, at(10));
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        assert_eq!(clip("äöü", 3), "ä");
        assert_eq!(clip("abc", 3), "abc");
    }
}

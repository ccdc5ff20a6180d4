//! Several things that are wrong with one object, told as one.

use std::time::Duration;

use super::decide::PushStep;
use crate::{
    api::{ADOPT_ANNOTATION, Reason},
    limits::{BRANCH_AGAIN, REFUSED_AGAIN},
    plan::{Class, Failure, LOOK_AGAIN, record_owner::RecordOwner},
};

/// Most problems that a message names.
const NAMED: usize = 5;

/// What there is to say of problems, and when the object is to be looked at again for them; none where there is none.
pub fn combine(mut problems: Vec<Failure>) -> Option<(Failure, Option<Duration>)> {
    // What passes by itself is tried again at once; of the rest a person must know what waits for them.
    let rank = |failure: &Failure| match failure.class {
        Class::Connection => 0,
        Class::Transient => 1,
        Class::Stalled => 2,
        Class::Waiting(_) => 3,
    };
    problems.sort_by_key(rank);
    let again = problems.iter().filter_map(|problem| match problem.class {
        Class::Waiting(again) => Some(again),
        Class::Stalled => looked_again(problem.reason),
        Class::Connection | Class::Transient => None,
    });
    let again = again.min();
    let first = problems.first()?;
    if rank(first) == 0 {
        return Some((first.clone(), again));
    }
    let messages: Vec<&str> = problems.iter().take(NAMED).map(|problem| problem.message.as_str()).collect();
    let more = problems.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Some((Failure { message: format!("{}{more}", messages.join("; ")), ..first.clone() }, again))
}

/// When an object that a person must mend is looked at again, where what mends it may happen in Conjur, or to another object, and
/// nothing announces it; none where it announces itself.
fn looked_again(reason: Reason) -> Option<Duration> {
    match reason {
        Reason::BranchTaken => Some(BRANCH_AGAIN),
        Reason::PolicyForbidden | Reason::PolicyInvalid | Reason::ForeignVariable | Reason::VariableTaken => {
            Some(REFUSED_AGAIN)
        }
        _ => None,
    }
}

/// A number of things, in words.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// That so many things stay.
pub fn stays(count: usize) -> &'static str {
    if count == 1 { "stays" } else { "stay" }
}

/// Why a variable is not pushed to; none where it is. `me`: the object; `namespace`: its namespace.
pub fn problem(id: &str, step: &PushStep, me: &RecordOwner, is_tenant: bool) -> Option<Failure> {
    match step {
        PushStep::Make { .. } | PushStep::Fill { .. } | PushStep::Settled(_) | PushStep::Leave { .. } => None,
        PushStep::NotFound { again } => {
            let was = if *again { "is gone from Conjur" } else { "does not exist, or is not visible" };
            Some(Failure::waiting(
                Reason::VariableNotFound,
                LOOK_AGAIN,
                format!(
                    "variable {id} {was}: make it and permit the connection's identity `update` on it, or set \
                     spec.createVariables"
                ),
            ))
        }
        PushStep::Foreign { owner: None } => Some(Failure::stalled(
            Reason::ForeignVariable,
            format!(
                "variable {id} holds a value that this object did not push; set conflictPolicy: Adopt to replace it, or push to \
                 another id"
            ),
        )),
        PushStep::Foreign { owner: Some(_) } => Some(Failure::stalled(
            Reason::ForeignVariable,
            format!(
                "variable {id} has another owner by its annotation conjur-operator.io/owner; push to another id, or let this \
                 object take it over with conflictPolicy: Adopt{}",
                if is_tenant {
                    format!(" and the annotation {ADOPT_ANNOTATION}: {me} on the variable in Conjur")
                } else {
                    String::new()
                }
            ),
        )),
        PushStep::Taken(other) => Some(taken(id, other, &me.namespace)),
    }
}

/// That another object has a variable. Of one in another namespace the name is not told.
pub fn taken(id: &str, other: &RecordOwner, namespace: &str) -> Failure {
    let whose = if other.namespace == namespace {
        format!("{} {}/{}", other.kind, other.namespace, other.name)
    } else {
        format!("a {} of another namespace", other.kind)
    };
    Failure::stalled(
        Reason::VariableTaken,
        format!("variable {id} is kept by {whose}; push to another id, or delete that object"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> RecordOwner {
        RecordOwner::parse("c1/ns/ConjurPush/a").unwrap()
    }

    #[test]
    fn what_a_person_must_do_is_told_first_and_what_waits_is_looked_at_again() {
        let stalled = Failure::stalled(Reason::ForeignVariable, "foreign");
        let (_, again) = combine(vec![stalled.clone()]).unwrap();
        assert_eq!(again, Some(REFUSED_AGAIN), "what mends it in Conjur is not announced");
        let waits = Failure::waiting(Reason::VariableNotFound, Duration::from_secs(7), "missing");
        let (told, again) = combine(vec![waits.clone(), stalled.clone()]).unwrap();
        assert_eq!((told.reason, told.message.as_str()), (Reason::ForeignVariable, "foreign; missing"));
        assert_eq!(again, Some(Duration::from_secs(7)));
        let fails =
            Failure { class: Class::Connection, reason: Reason::ConjurUnavailable, message: "down".into() };
        let (told, _) = combine(vec![stalled.clone(), fails, waits]).unwrap();
        assert_eq!((told.class, told.message.as_str()), (Class::Connection, "down"));
        let (told, _) = combine(vec![stalled; 8]).unwrap();
        assert!(told.message.ends_with("; and 3 more"), "{told}");
        assert_eq!(combine(Vec::new()), None);
    }

    #[test]
    fn no_name_of_another_namespace_is_told() {
        let here = RecordOwner::parse("c1/ns/ConjurPush/b").unwrap();
        assert!(taken("v", &here, "ns").message.contains("ConjurPush ns/b"));
        let there = RecordOwner::parse("c1/tenant-x/ConjurPush/secret-name").unwrap();
        let message = taken("v", &there, "ns").message;
        assert!(!message.contains("tenant-x") && !message.contains("secret-name"), "{message}");
    }

    #[test]
    fn a_tenant_learns_which_annotation_lets_it_take_a_variable_over() {
        let foreign = PushStep::Foreign { owner: Some("c2/x/ConjurPush/b".into()) };
        let message = problem("v", &foreign, &me(), true).unwrap().message;
        assert!(message.contains("conjur-operator.io/adopt: c1/ns/ConjurPush/a"), "{message}");
        assert!(!message.contains("c2/x"), "{message}");
    }
}

//! From the entries of a spec to the data of a Secret, through the shared client.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    time::Duration,
};

use serde_json::{Map, json};

use crate::{
    api::{Reason, secret::DataEntry},
    conjur::{Error, Freshness, Lane, VariableId, Wanted},
    controllers::{Context, Trouble, clients::Connected, failure::LOOK_AGAIN},
    plan::{Failure, schedule::Cause},
    sensitive::Sensitive,
};

/// A new object takes a remembered "missing" for an answer only if it is this young.
const FRESH: Duration = Duration::from_secs(5);
/// Most variables that a message names.
const NAMED: usize = 5;

/// What to fetch for each entry, in their order.
///
/// # Errors
/// `InvalidSpec`, naming the entry: an id that can't be, or a key that another entry has.
pub fn wanted(entries: &[DataEntry]) -> Result<Vec<Wanted>, Failure> {
    let mut keys = HashMap::new();
    entries
        .iter()
        .enumerate()
        .map(|(at, entry)| {
            if let Some(first) = keys.insert(entry.key.as_str(), at) {
                let message =
                    format!("spec.data[{first}] and spec.data[{at}] both have the key '{}'; name one of them otherwise", entry.key);
                return Err(Failure::stalled(Reason::InvalidSpec, message));
            }
            let id = VariableId::new(&entry.variable)
                .map_err(|e| Failure::stalled(Reason::InvalidSpec, format!("spec.data[{at}].variable: {e}")))?;
            Ok(Wanted { id, version: entry.version })
        })
        .collect()
}

/// Fetches the entries' variables.
///
/// # Errors
/// `VariableNotFound` or `VariableForbidden`, naming each in the message and in `status.missing`; `NoKeys` where
/// all are optional and missing; the connection's failure.
pub async fn data(
    entries: &[DataEntry],
    wanted: &[Wanted],
    cause: Cause,
    lane: Lane,
    through: &Connected,
    ctx: &Context,
) -> Result<BTreeMap<String, Sensitive<Vec<u8>>>, Trouble> {
    let freshness = match cause {
        Cause::SyncNow => Freshness::NoOlderThan(Duration::ZERO),
        Cause::Generation => Freshness::NoOlderThan(FRESH),
        _ => Freshness::Remembered,
    };
    let answers = through.client.fetch_variables(wanted, lane, freshness).await;
    let mut data = BTreeMap::new();
    let mut missing: Vec<(&DataEntry, &Error)> = Vec::new();
    for (entry, wanted) in entries.iter().zip(wanted) {
        match answers.get(wanted) {
            Some(Ok(value)) => {
                data.insert(entry.key.clone(), Sensitive::new(value.expose().clone()));
            }
            Some(Err(Error::NotFound { .. })) if entry.optional == Some(true) => {}
            Some(Err(error @ (Error::NotFound { .. } | Error::Forbidden { .. }))) => {
                missing.push((entry, error));
            }
            Some(Err(error)) => {
                ctx.clients.call_failed(through, error);
                let failure = Failure::from(error.clone());
                return Err(if error.is_connection() {
                    waits(&failure, through).into()
                } else {
                    failure.into()
                });
            }
            None => {
                let message = format!("the client gave no answer for variable {}", entry.variable);
                return Err(Failure::transient(Reason::ConjurUnavailable, message).into());
            }
        }
    }
    if !missing.is_empty() {
        return Err(tell(&missing));
    }
    if data.is_empty() {
        let message = "no key would be left: all variables are optional and missing in Conjur. The Secret is not touched";
        return Err(Failure::waiting(Reason::NoKeys, LOOK_AGAIN, message).into());
    }
    Ok(data)
}

fn waits(why: &Failure, through: &Connected) -> Failure {
    let message = format!("{}; {} is tried until it works", why.message, through.connection);
    Failure { message, ..why.clone() }
}

fn tell(missing: &[(&DataEntry, &Error)]) -> Trouble {
    let not_found = |error: &Error| matches!(error, Error::NotFound { .. });
    let listed: Vec<_> = missing
        .iter()
        .map(|(entry, error)| {
            let reason = if not_found(error) { "NotFound" } else { "Forbidden" };
            json!({ "variable": entry.variable, "reason": reason })
        })
        .collect();
    let reason = if missing.iter().any(|(_, error)| not_found(error)) {
        Reason::VariableNotFound
    } else {
        Reason::VariableForbidden
    };
    let mut message =
        missing.iter().take(NAMED).map(|(_, error)| error.to_string()).collect::<Vec<_>>().join("; ");
    if missing.len() > NAMED {
        let more = missing.len() - NAMED;
        let _ = write!(message, "; and {more} more, see status.missing");
    }
    let mut fields = Map::new();
    fields.insert("missing".into(), listed.into());
    Trouble { failure: Failure::waiting(reason, LOOK_AGAIN, message), asked: true, fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, variable: &str) -> DataEntry {
        DataEntry { key: key.into(), variable: variable.into(), ..DataEntry::default() }
    }

    #[test]
    fn two_entries_with_one_key_are_refused_naming_both() {
        let failure = wanted(&[entry("a", "x"), entry("b", "x"), entry("a", "y")]).unwrap_err();
        assert!(failure.message.contains("spec.data[0] and spec.data[2]"), "{failure}");
    }

    #[test]
    fn an_id_that_cannot_be_is_refused_naming_the_entry() {
        let failure = wanted(&[entry("a", "x"), entry("b", "x/../y")]).unwrap_err();
        assert_eq!(failure.reason, Reason::InvalidSpec);
        assert!(failure.message.starts_with("spec.data[1].variable"), "{failure}");
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let error =
            |id: &str| Error::NotFound { target: id.into(), message: format!("variable {id} is missing") };
        let entries: Vec<_> = (0..7).map(|i| entry(&format!("k{i}"), &format!("v{i}"))).collect();
        let errors: Vec<_> = entries.iter().map(|e| error(&e.variable)).collect();
        let trouble = tell(&entries.iter().zip(&errors).collect::<Vec<_>>());
        assert_eq!(trouble.failure.reason, Reason::VariableNotFound);
        assert!(trouble.failure.message.ends_with("and 2 more, see status.missing"), "{}", trouble.failure);
        assert_eq!(trouble.fields["missing"][6], json!({ "variable": "v6", "reason": "NotFound" }));
    }
}

//! Which rule of a ClusterConjurConnection does not match, and where.

use std::collections::BTreeMap;

use conjur_client::segments;
use conjur_operator::seams::access::{Consumer, Verb, check, check_use};
use conjur_operator_api::connection::AccessRule;

/// What a rule lacks for an id to be granted: a sentence, and the closest pattern, segment by segment.
///
/// # Errors
/// The sentence, where no rule grants it.
pub fn judge(
    rules: &[AccessRule],
    (namespace, labels): (&str, &BTreeMap<String, String>),
    verb: Verb,
    id: &str,
    connection: &str,
) -> Result<(), (String, Option<String>)> {
    let who = Consumer { namespace, labels };
    check(rules, who, verb, id, connection).map_err(|failure| {
        let list = |rule: &AccessRule| match verb {
            Verb::Read => rule.read.clone(),
            Verb::Push => rule.write.clone(),
            Verb::Load | Verb::Plan => rule.branches.clone(),
        };
        // Only of rules that are for the namespace at all.
        let for_it =
            rules.iter().filter(|rule| check_use(std::slice::from_ref(*rule), who, connection).is_ok());
        let patterns: Vec<String> = for_it.flat_map(|rule| list(rule).unwrap_or_default()).collect();
        (failure.message, closest(&patterns, namespace, id))
    })
}

/// Where the pattern that goes furthest with an id leaves it.
fn closest(patterns: &[String], namespace: &str, id: &str) -> Option<String> {
    let of: Vec<&str> = id.split('/').collect();
    let (pattern, at) = patterns
        .iter()
        .map(|pattern| {
            let filled = pattern.replace("{namespace}", namespace);
            let known = filled.split('/').take_while(|part| *part != "**");
            let fits = known.zip(&of).take_while(|(part, segment)| segments::matches(part, segment));
            (pattern, fits.count())
        })
        .max_by_key(|(_, fits)| *fits)?;
    let filled = pattern.replace("{namespace}", namespace);
    let parts: Vec<&str> = filled.split('/').collect();
    let becomes = if &filled == pattern { String::new() } else { format!(" (here {filled})") };
    let why = match (parts.get(at), of.get(at)) {
        // What it stands for is free; what follows has to be the end.
        (Some(&"**"), Some(_)) => {
            let end = parts[at + 1..].join("/");
            if end.is_empty() {
                return None;
            }
            format!("after the first {at} segments it has to end with {end}")
        }
        (Some(wanted), Some(is)) => format!("segment {} is {is}, and not {wanted}", at + 1),
        (Some(wanted), None) => format!("the id ends after segment {at}, where {wanted} follows"),
        (None, Some(is)) => {
            format!("the id goes on with {is} after the {} segments of the pattern", parts.len())
        }
        (None, None) => return None,
    };
    Some(format!("The closest pattern is {pattern}{becomes}: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_segment_that_does_not_match_is_named() {
        let rules: Vec<AccessRule> = serde_json::from_value(json!([
            { "namespaces": { "names": ["other"] }, "read": ["apps/web/**"] },
            { "namespaces": { "selector": { "matchLabels": { "team": "pay" } } }, "read": ["apps/{namespace}/*", "shared/**"] },
        ]))
        .unwrap();
        let labels = BTreeMap::from([("team".to_owned(), "pay".to_owned())]);
        let why =
            |id: &str| judge(&rules, ("billing", &labels), Verb::Read, id, "shared").map_err(|(_, why)| why);
        assert_eq!(why("apps/billing/db"), Ok(()));
        let closest = |id: &str| why(id).unwrap_err().unwrap();
        assert_eq!(
            closest("apps/payments/db"),
            "The closest pattern is apps/{namespace}/* (here apps/billing/*): segment 2 is payments, and not billing"
        );
        assert!(closest("apps/billing/db/password").contains("goes on with password after the 3 segments"));
        assert!(closest("apps/billing").contains("the id ends after segment 2, where * follows"));
        let rules: Vec<AccessRule> = serde_json::from_value(json!([
            { "namespaces": { "names": ["billing"] }, "read": ["apps/**/password"] }]))
        .unwrap();
        let why = judge(&rules, ("billing", &labels), Verb::Read, "apps/a/b/secret", "shared").unwrap_err().1;
        assert!(why.unwrap().contains("after the first 1 segments it has to end with password"));
        let nobody =
            judge(&rules, ("third", &BTreeMap::new()), Verb::Read, "apps/web/a", "shared").unwrap_err();
        assert!(nobody.0.contains("no rule of spec.access") && nobody.1.is_none(), "{nobody:?}");
    }
}

//! What goes together with a record that is deleted.
//!
//! In Conjur a record goes with its owner, and with the policy that made it. A dry run tells only of the records that the
//! document itself takes away, not of those.

use std::collections::{BTreeMap, BTreeSet};

use super::removal::Hangs;

/// All that is gone when these records are: they, and what hangs on them in turn. `all` are the records that exist.
pub fn goes_with(deleted: BTreeSet<String>, all: &BTreeMap<String, Hangs>) -> BTreeSet<String> {
    let mut hanging: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for (id, record) in all {
        for holder in std::iter::once(&record.owner).chain(&record.policy) {
            hanging.entry(holder).or_default().push(id);
        }
    }
    let mut look: Vec<String> = deleted.iter().cloned().collect();
    let mut gone = deleted;
    while let Some(id) = look.pop() {
        for other in hanging.get(id.as_str()).into_iter().flatten() {
            if gone.insert((*other).clone()) {
                look.push((*other).clone());
            }
        }
    }
    gone
}

/// Whether something may hang on a record: roles own, policies make.
pub fn may_hold(kind: &str) -> bool {
    matches!(kind, "group" | "host" | "layer" | "policy" | "user")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_deleted_record_owns_or_made_goes_with_it_and_nothing_else() {
        let all: BTreeMap<String, Hangs> = [
            ("group:g", "policy:app", "policy:app"),
            ("variable:owned", "group:g", "policy:root"),
            ("host:h", "group:g", "policy:other"),
            ("variable:of-host", "host:h", "policy:other"),
            ("policy:app/eu", "policy:app", "policy:app"),
            ("variable:app/eu/made", "policy:root", "policy:app/eu"),
            ("variable:app/stays", "policy:app", "policy:app"),
            ("policy:circle", "policy:circle", "policy:root"),
        ]
        .into_iter()
        .map(|(id, owner, policy)| {
            (id.to_owned(), Hangs { owner: owner.to_owned(), policy: Some(policy.to_owned()) })
        })
        .collect();
        for (deleted, gone) in [
            (vec!["group:g"], vec!["group:g", "host:h", "variable:of-host", "variable:owned"]),
            (vec!["policy:app/eu"], vec!["policy:app/eu", "variable:app/eu/made"]),
            (vec!["variable:app/stays", "host:unseen"], vec!["host:unseen", "variable:app/stays"]),
            (vec!["policy:circle"], vec!["policy:circle"]),
            (vec![], vec![]),
        ] {
            let deleted = deleted.into_iter().map(str::to_owned).collect();
            assert_eq!(goes_with(deleted, &all).into_iter().collect::<Vec<_>>(), gone);
        }
    }
}

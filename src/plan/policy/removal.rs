//! What of a document's records may be removed, and the document that removes them.
//!
//! In Conjur a record goes with its owner, and with the policy that made it. So a record of the operator's on which someone
//! else's hangs stays, and whatever that one hangs on in turn.

use std::collections::{BTreeMap, BTreeSet};

use super::document::RECORD_KINDS;
use crate::plan::{effect::inventory::Named, full_id::kind_of};

/// A record, as the list of all shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hangs {
    /// Full id of its owner.
    pub owner: String,
    /// Full id of the policy whose load made it.
    pub policy: Option<String>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Full ids of what goes, in the order of the document.
    pub goes: Vec<String>,
    /// The document that removes them; empty where nothing goes.
    pub document: String,
    /// Full ids of what stays, each with that of a record that would go with it.
    pub stays: BTreeMap<String, String>,
    /// Full ids of the records that are not the operator's and hang on what stays.
    pub held_by: BTreeSet<String>,
}

/// Decides what of `ours` can go. `all` are the records that exist.
pub fn plan(ours: &BTreeMap<String, Named>, all: &BTreeMap<String, Hangs>) -> Removal {
    let mut stays: BTreeMap<String, String> = BTreeMap::new();
    let mut held_by = BTreeSet::new();
    let mut look: Vec<&String> =
        all.iter().filter(|(id, record)| is_foreign(id, record, ours)).map(|(id, _)| id).collect();
    while let Some(id) = look.pop() {
        let Some(record) = all.get(id) else { continue };
        for holder in std::iter::once(&record.owner).chain(&record.policy) {
            let Some((holder, _)) = ours.get_key_value(holder).filter(|(holder, _)| *holder != id) else {
                continue;
            };
            if !ours.contains_key(id) {
                held_by.insert(id.clone());
            }
            if !stays.contains_key(holder) {
                stays.insert(holder.clone(), id.clone());
                look.push(holder);
            }
        }
    }
    let mut goes: Vec<(&String, &Named)> = ours.iter().filter(|(id, _)| !stays.contains_key(*id)).collect();
    goes.sort_by_key(|(id, named)| (rank(&named.kind), std::cmp::Reverse(depth(&named.path)), *id));
    let document = goes.iter().map(|(_, named)| statement(named)).collect();
    Removal { goes: goes.into_iter().map(|(id, _)| id.clone()).collect(), document, stays, held_by }
}

/// A user's public keys are records that go and come with the user.
fn is_foreign(id: &str, record: &Hangs, ours: &BTreeMap<String, Named>) -> bool {
    let goes_with_its_user = kind_of(id) == "public_key" && ours.contains_key(&record.owner);
    !goes_with_its_user && !ours.contains_key(id)
}

/// What nothing depends on first, then roles, then groups of roles; policies last, the deepest first.
fn rank(kind: &str) -> u8 {
    match kind {
        "host-factory" => 1,
        "host" | "user" => 2,
        "layer" | "group" => 3,
        "policy" => 4,
        // Variables, webservices, and what else a `!resource` makes.
        _ => 0,
    }
}

fn depth(path: &str) -> usize {
    path.split('/').count()
}

fn statement(named: &Named) -> String {
    // A JSON string is a YAML string.
    let quoted = |text: &str| serde_json::Value::from(text);
    let (kind, id) = (named.kind.as_str(), quoted(&named.path));
    if RECORD_KINDS.contains(&kind) {
        return format!("- !delete\n  record: !{kind} {id}\n");
    }
    format!("- !delete\n  record: !resource {{kind: {}, id: {id}}}\n", quoted(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(records: &[(&str, &str)]) -> BTreeMap<String, Named> {
        let named = |(kind, path): &(&str, &str)| {
            let id = format!("demo:{}:app/{path}", kind.replace('-', "_"));
            (id, Named { kind: (*kind).to_owned(), path: (*path).to_owned() })
        };
        records.iter().map(named).collect()
    }

    fn all(records: &[(&str, &str, &str)]) -> BTreeMap<String, Hangs> {
        let full = |id: &str| format!("demo:{id}");
        let record = |(id, owner, policy): &(&str, &str, &str)| {
            (full(id), Hangs { owner: full(owner), policy: Some(full(policy)) })
        };
        records.iter().map(record).collect()
    }

    #[test]
    fn what_a_resource_made_is_removed_by_its_kind() {
        let removal = plan(&ours(&[("configuration", "c\"]"), ("policy", "p")]), &BTreeMap::new());
        let expected = "- !delete\n  record: !resource {kind: \"configuration\", id: \"c\\\"]\"}\n- !delete\n  record: !policy \"p\"\n";
        assert_eq!(removal.document, expected);
    }

    #[test]
    fn children_go_before_policies_and_the_deepest_policy_first() {
        let ours = ours(&[
            ("policy", "eu"),
            ("policy", "eu/west"),
            ("group", "g"),
            ("host", "eu/west/h"),
            ("variable", "v"),
            ("host-factory", "f"),
        ]);
        let removal = plan(&ours, &BTreeMap::new());
        let kinds = ["variable:app/v", "host_factory:app/f", "host:app/eu/west/h", "group:app/g"];
        let policies = ["policy:app/eu/west", "policy:app/eu"];
        let expected: Vec<_> = kinds.iter().chain(&policies).map(|id| format!("demo:{id}")).collect();
        assert_eq!(removal.goes, expected);
        assert!(
            removal.document.starts_with(
                "- !delete\n  record: !variable \"v\"\n- !delete\n  record: !host-factory \"f\"\n"
            )
        );
        assert!(removal.stays.is_empty());
    }

    #[test]
    fn what_others_hang_on_stays_and_what_that_hangs_on_too() {
        let branch = "policy:app";
        for (foreign, stay) in [
            (("host:x", "group:app/g", "policy:root"), vec!["demo:group:app/g", "demo:policy:app/eu"]),
            (("variable:app/eu/theirs", "user:bob", "policy:app/eu"), vec!["demo:policy:app/eu"]),
            (("variable:app/theirs", "policy:app", branch), vec![]),
            (("public_key:user/alice@app/k", "user:alice@app", branch), vec![]),
        ] {
            let mut ours = ours(&[("policy", "eu"), ("group", "g"), ("variable", "eu/v")]);
            let alice = Named { kind: "user".into(), path: "alice".into() };
            ours.insert("demo:user:alice@app".into(), alice);
            let all = all(&[
                ("policy:app/eu", branch, branch),
                ("group:app/g", "policy:app/eu", branch),
                ("variable:app/eu/v", "policy:app/eu", branch),
                ("user:alice@app", branch, branch),
                foreign,
            ]);
            let removal = plan(&ours, &all);
            assert_eq!(removal.stays.keys().collect::<Vec<_>>(), stay, "{foreign:?}");
            assert_eq!(removal.goes.len(), 4 - stay.len());
            let holds: Vec<_> =
                Some(format!("demo:{}", foreign.0)).into_iter().filter(|_| !stay.is_empty()).collect();
            assert_eq!(removal.held_by.into_iter().collect::<Vec<_>>(), holds, "only what is not ours");
        }
    }

    #[test]
    fn odd_ids_are_quoted() {
        let ours = ours(&[("host", "we \"ird: #1"), ("layer", "")]);
        let removal = plan(&ours, &BTreeMap::new());
        let read = crate::plan::policy::document::read(&removal.document, "app", "demo").unwrap();
        assert_eq!(read.deletions.len(), 2);
        assert!(removal.document.contains(r#"!host "we \"ird: #1""#));
    }
}

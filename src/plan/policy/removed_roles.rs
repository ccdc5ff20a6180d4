//! Which roles a load took out of Conjur, so that their keys are good for nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::policy::LoadMode,
    plan::{effect::evidence::Origin, full_id::is_at_or_below},
};

/// Whether a load in this mode, of a document that `deletes`, can take roles away.
pub fn may_go(mode: LoadMode, deletes: bool) -> bool {
    match mode {
        LoadMode::Append => false,
        LoadMode::Update => deletes,
        LoadMode::Replace => true,
    }
}

/// Those of the roles seen before a load of `branch` (a full id) that it took away: they were made there or below, and
/// are not seen after it. Both looks must be an owner's, for to others what is there looks the same as what is not.
pub fn went(
    before: &BTreeMap<String, Origin>,
    after: &BTreeMap<String, Origin>,
    branch: &str,
) -> BTreeSet<String> {
    let of_branch = |policy: &str| branch.ends_with(":policy:root") || is_at_or_below(policy, branch, '/');
    let gone = before
        .iter()
        .filter(|(role, seen)| !after.contains_key(*role) && seen.policy.as_deref().is_some_and(of_branch));
    gone.map(|(role, _)| role.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_load_that_deletes_takes_roles_away() {
        for (mode, deletes, may) in [
            (LoadMode::Append, true, false),
            (LoadMode::Update, false, false),
            (LoadMode::Update, true, true),
            (LoadMode::Replace, false, true),
        ] {
            assert_eq!(may_go(mode, deletes), may, "{mode:?} {deletes}");
        }
    }

    #[test]
    fn gone_is_what_was_seen_in_the_branch_before_and_is_not_seen_after() {
        let roles = |all: &[(&str, Option<&str>)]| -> BTreeMap<String, Origin> {
            let seen =
                |policy: Option<&str>| Origin { created_at: "t".into(), policy: policy.map(str::to_owned) };
            all.iter().map(|(id, policy)| ((*id).to_owned(), seen(*policy))).collect()
        };
        let before = roles(&[
            ("gone", Some("demo:policy:app")),
            ("below", Some("demo:policy:app/eu")),
            ("stays", Some("demo:policy:app")),
            ("neighbours", Some("demo:policy:apple")),
            ("of-root", Some("demo:policy:root")),
            ("silent", None),
        ]);
        let after = roles(&[("stays", Some("demo:policy:app")), ("new", Some("demo:policy:app"))]);
        let ids = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
        assert_eq!(ids(went(&before, &after, "demo:policy:app")), ["below", "gone"]);
        assert_eq!(ids(went(&before, &before, "demo:policy:app")), Vec::<String>::new());
        assert_eq!(
            ids(went(&before, &after, "demo:policy:root")),
            ["below", "gone", "neighbours", "of-root"]
        );
    }
}

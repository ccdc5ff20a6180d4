//! Which keys leave the `createdRoles` Secret of a policy that goes: those of roles that Conjur no longer has.
//!
//! That a role is not to be seen does not mean that it is gone: an identity that lost its branch, or that speaks to
//! another server, sees nothing of what is there. Gone is what the operator was about to remove and had seen before, and what is
//! not seen in a policy that the identity owns, for an owner sees all of it.

use std::collections::BTreeSet;

use crate::plan::full_id::{below_account, kind_of};

/// The policy in which a host or user (its full id) lies. A user's id has it behind its `@` with `-` for each `/`, so
/// that it is told only where exactly one of `known` reads like that.
pub fn home(role: &str, known: &BTreeSet<String>) -> Option<String> {
    let id = below_account(role)?;
    let root = || Some("root".to_owned());
    match kind_of(role) {
        "host" => id.rsplit_once('/').map_or_else(root, |(policy, _)| Some(policy.to_owned())),
        "user" => {
            let Some((_, at)) = id.rsplit_once('@') else { return root() };
            let mut named = known.iter().filter(|policy| policy.replace('/', "-") == at);
            let only = named.next()?;
            named.next().is_none().then(|| only.clone())
        }
        _ => None,
    }
}

/// What is known of the roles whose keys a Secret keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownRoles {
    /// Full ids of those that are seen in Conjur.
    pub seen: BTreeSet<String>,
    /// Full ids of those that were seen before, and whose removal was sent.
    pub removed: BTreeSet<String>,
    /// Policies that the identity owns.
    pub owned: BTreeSet<String>,
}

/// Whether a role is certainly gone. `home` is the policy in which it lies, where that is known.
pub fn is_gone(role: &str, home: Option<&String>, known: &KnownRoles) -> bool {
    !known.seen.contains(role)
        && (known.removed.contains(role) || home.is_some_and(|home| known.owned.contains(home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_key_goes_only_with_a_role_that_is_certainly_gone() {
        let web = "demo:host:app/web";
        for (seen, removed, owned, gone) in [
            (&[][..], &[][..], &[][..], false),
            (&[], &[], &["app"], true),
            (&[], &[], &["app/eu", "root"], false),
            (&[], &[web], &[], true),
            (&[web], &[web], &["app"], false),
            (&[], &["demo:host:app/other"], &[], false),
        ] {
            let known = KnownRoles { seen: set(seen), removed: set(removed), owned: set(owned) };
            assert_eq!(is_gone(web, home(web, &set(&[])).as_ref(), &known), gone, "{known:?}");
        }
        let known = KnownRoles { owned: set(&["app"]), ..KnownRoles::default() };
        assert!(!is_gone("demo:user:a@app", None, &known), "nobody knows where it lies");
    }

    #[test]
    fn a_role_lies_in_the_policy_that_its_id_names() {
        let known = set(&["app", "app/eu", "a-b", "a/b"]);
        for (role, policy) in [
            ("demo:host:app/eu/web", Some("app/eu")),
            ("demo:host:web", Some("root")),
            ("demo:user:alice", Some("root")),
            ("demo:user:alice@app-eu", Some("app/eu")),
            ("demo:user:alice@app", Some("app")),
            ("demo:user:alice@other", None),
            ("demo:user:alice@a-b", None),
            ("demo:group:app/g", None),
        ] {
            assert_eq!(home(role, &known).as_deref(), policy, "{role}");
        }
    }
}

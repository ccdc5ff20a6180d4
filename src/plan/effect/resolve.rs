//! What became of an announced load.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    announcement::Announcement,
    evidence::{BranchVersion, Origin, lists_all_after},
    faults::fault,
};

/// What became of an announced load.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resolution {
    /// The version that the newest load made: it happened.
    pub happened: Option<i64>,
    /// Owed roles that these loads made: their keys may be rotated and stored.
    pub rotate: BTreeSet<String>,
    /// Owed roles that do not exist.
    pub absent: BTreeSet<String>,
    /// Owed roles that exist and may be the operator's, for the server no longer lists all versions since.
    pub unclear: BTreeSet<String>,
}

/// Finds out what became of an announced load. `roles` are the owed roles that exist. They must have been looked at
/// before `versions`, or a role that was made in between would be taken for a stranger's; and where a load happened, those
/// that were absent once more after it, or one that was made in between would be taken for one that was never made.
pub fn resolve(
    announced: &Announcement,
    roles: &BTreeMap<String, Origin>,
    versions: &[BranchVersion],
) -> Resolution {
    let ours = announced.made(versions);
    let newest = ours.iter().filter(|v| v.version > announced.since && v.sha256 == announced.document);
    let all_listed = lists_all_after(announced.version, versions) || fault!(UnlistedVersionsMadeNothing);
    let mut found = Resolution { happened: newest.map(|v| v.version).max(), ..Resolution::default() };
    for role in &announced.owed {
        let within = |seen: &Origin, v: &BranchVersion| {
            seen.is_within(&announced.branch, v.span()) || fault!(TimeDoesNotCount)
        };
        let set = match roles.get(role) {
            None => &mut found.absent,
            Some(seen) if ours.iter().any(|v| within(seen, v)) => &mut found.rotate,
            Some(seen) if !all_listed && versions.iter().all(|v| !within(seen, v)) => &mut found.unclear,
            Some(_) => continue,
        };
        set.insert(role.clone());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: &str = "demo:host:ops";

    fn announced(owed: &[&str]) -> Announcement {
        Announcement {
            document: "sha".into(),
            inputs: "i".into(),
            since: 4,
            at: 0,
            documents: BTreeSet::from(["sha".to_owned()]),
            loaders: BTreeSet::from([US.to_owned()]),
            server: "c".into(),
            branch: "app".into(),
            version: 4,
            owed: owed.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    fn version(version: i64, sha: &str, role: &str, created_at: &str) -> BranchVersion {
        let finished_at = Some(format!("{created_at}+"));
        let (sha256, role, created_at) = (sha.into(), role.into(), created_at.into());
        BranchVersion { version, sha256, role, created_at, finished_at }
    }

    fn role(at: &str, policy: Option<&str>) -> Origin {
        Origin { created_at: at.into(), policy: policy.map(str::to_owned) }
    }

    fn roles(seen: &[(&str, &str)]) -> BTreeMap<String, Origin> {
        seen.iter().map(|(id, at)| ((*id).to_owned(), role(at, Some("demo:policy:app")))).collect()
    }

    #[test]
    fn a_load_happened_only_where_hash_role_and_version_say_so() {
        for (seen, happened) in [
            (version(5, "sha", US, "t5"), true),
            (version(4, "sha", US, "t4"), false),
            (version(5, "other", US, "t5"), false),
            (version(5, "sha", "demo:user:admin", "t5"), false),
        ] {
            let got = resolve(&announced(&[]), &roles(&[]), std::slice::from_ref(&seen));
            assert_eq!(got.happened.is_some(), happened, "{seen:?}");
        }
    }

    #[test]
    fn only_a_role_that_our_load_made_may_be_rotated() {
        let versions = [version(5, "sha", US, "t5"), version(6, "x", "demo:user:admin", "t6")];
        let mut seen = roles(&[("ours", "t5"), ("during", "t5+"), ("strangers", "t6"), ("older", "t1")]);
        seen.insert("of-root".into(), role("t5", Some("demo:policy:root")));
        seen.insert("silent".into(), role("t5", None));
        seen.insert("silent-during".into(), role("t5+", None));
        let owed = ["ours", "during", "strangers", "older", "gone", "of-root", "silent", "silent-during"];
        let got = resolve(&announced(&owed), &seen, &versions);
        assert_eq!(got.rotate.into_iter().collect::<Vec<_>>(), ["during", "ours", "silent"]);
        assert_eq!(got.absent.into_iter().collect::<Vec<_>>(), ["gone"]);
        assert_eq!(got.unclear, BTreeSet::new());
        assert_eq!(got.happened, Some(5));
    }

    #[test]
    fn nothing_is_rotated_where_no_load_of_ours_happened() {
        let got = resolve(&announced(&["strangers"]), &roles(&[("strangers", "t5")]), &[]);
        assert_eq!(got, Resolution::default());
    }

    #[test]
    fn what_a_version_that_is_no_longer_listed_may_have_made_is_unclear_and_not_rotated() {
        let versions = [version(30, "x", "demo:user:admin", "t30"), version(31, "y", US, "t31")];
        let got = resolve(&announced(&["a", "b"]), &roles(&[("a", "t5"), ("b", "t30")]), &versions);
        assert_eq!(got.unclear.into_iter().collect::<Vec<_>>(), ["a"]);
        assert_eq!(got.rotate, BTreeSet::new());
    }

    #[test]
    fn a_load_in_another_mode_is_not_taken_for_the_newest_one() {
        let earlier = announced(&["a"]);
        let changed = Announcement { inputs: "replace".into(), since: 5, version: 5, ..announced(&["b"]) };
        let both = changed.after(earlier);
        assert_eq!((both.version, both.since), (4, 5));
        let versions = [version(5, "sha", US, "t5")];
        let got = resolve(&both, &roles(&[("a", "t5")]), &versions);
        assert_eq!(got.happened, None, "version 5 was loaded in the earlier mode");
        assert_eq!(got.rotate.into_iter().collect::<Vec<_>>(), ["a"]);
        let again = Announcement { since: 5, version: 5, ..announced(&[]) }.after(announced(&[]));
        assert_eq!(again.since, 4, "the same load, tried twice, counts from the first");
    }
}

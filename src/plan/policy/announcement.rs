//! Loading a policy document so that no API key is lost and no stranger's key is rotated.
//!
//! A load gives the keys of the hosts and users that it makes once, in its answer. Between Conjur's commit and
//! the operator's record of them a crash is always possible. So a load is **announced** before it: the branch's version and
//! the roles that did not exist go into the `createdRoles` Secret. Those roles are *owed* a key. Afterwards the
//! announcement is **resolved** by looking: a version of the branch above the announced one, with the document's
//! hash, by the operator's role, means that the load happened; an owed role that was made in the same transaction (its
//! `created_at` equals that version's, recordings 701 and 702; or lies before the version's `finished_at` and its
//! `policy` is the branch, for a load holds its branch for itself) is the operator's, and its key may be rotated, since no one
//! ever had it. Any other role is left alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::full_id::{below_account, has_key, lies_in};

/// Key of the `createdRoles` Secret under which an announcement lies.
pub const PENDING_KEY: &str = "pending.json";

/// A load that was announced, as it lies in the `createdRoles` Secret, together with earlier ones of the branch whose
/// outcome was not known by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Hex SHA-256 of the document of the newest of these loads.
    pub document: String,
    /// A hash over server, branch and mode of the newest of these loads.
    pub inputs: String,
    /// Version of the branch before the newest of these loads.
    pub since: i64,
    /// When the newest was announced, in seconds since 1970.
    pub at: i64,
    /// Hex SHA-256 of the documents of all of them.
    pub documents: BTreeSet<String>,
    /// Full ids of the roles that they were loaded as.
    pub loaders: BTreeSet<String>,
    /// A hash over the address and account of the server.
    pub server: String,
    /// The branch.
    pub branch: String,
    /// Version of the branch before the first of these loads.
    pub version: i64,
    /// Full ids of the roles that did not exist before one of them, and whose key was not stored since.
    pub owed: BTreeSet<String>,
}

impl Announcement {
    /// This one, together with an earlier one of the same branch whose loads may still happen.
    #[must_use]
    pub fn after(mut self, earlier: Announcement) -> Self {
        if (&earlier.document, &earlier.inputs) == (&self.document, &self.inputs) {
            self.since = self.since.min(earlier.since);
        }
        self.documents.extend(earlier.documents);
        self.loaders.extend(earlier.loaders);
        self.owed.extend(earlier.owed);
        self.version = self.version.min(earlier.version);
        self
    }

    /// Forgets owed roles that no load of the branch can have made: whoever may write the Secret may have named them.
    pub fn keep_to_its_branch(&mut self, account: &str) {
        let branch = self.branch.clone();
        self.owed.retain(|role| has_key(role) && lies_in(role, account, &branch));
    }

    /// The versions of the branch that these loads made.
    fn made<'v>(&self, versions: &'v [BranchVersion]) -> Vec<&'v BranchVersion> {
        let ours = |v: &&BranchVersion| {
            v.version > self.version && self.loaders.contains(&v.role) && self.documents.contains(&v.sha256)
        };
        versions.iter().filter(ours).collect()
    }

    /// Whether any of these loads happened.
    pub fn any_happened(&self, versions: &[BranchVersion]) -> bool {
        !self.made(versions).is_empty()
    }
}

/// One version of a branch, as Conjur lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchVersion {
    /// Its number.
    pub version: i64,
    /// Hex SHA-256 of the document.
    pub sha256: String,
    /// Full id of the role that loaded it.
    pub role: String,
    /// When its transaction began, as the server writes it: RFC 3339 in UTC, so that later is greater.
    pub created_at: String,
    /// When it ended.
    pub finished_at: Option<String>,
}

/// A role, as Conjur shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRole {
    /// When the transaction that made it began.
    pub created_at: String,
    /// Full id of the branch whose load made it.
    pub policy: Option<String>,
}

impl BranchVersion {
    /// Whether a role was made by this load of a branch.
    fn made(&self, role: &SeenRole, branch: &str) -> bool {
        let at = role.created_at.as_str();
        match role.policy.as_deref().and_then(below_account) {
            Some(policy) if policy != branch => false,
            Some(_) => (self.created_at.as_str()..=self.end()).contains(&at),
            None => self.created_at == at,
        }
    }

    fn end(&self) -> &str {
        self.finished_at.as_deref().unwrap_or(&self.created_at)
    }
}

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

/// Finds out what became of an announced load. `roles` are the owed roles that exist, with their `created_at`. They
/// must have been looked at before `versions`, or a role that was made in between would be taken for a stranger's;
/// and where a load happened, those that were absent once more after it, or one that was made in between would be
/// taken for one that was never made.
pub fn resolve(
    announced: &Announcement,
    roles: &BTreeMap<String, SeenRole>,
    versions: &[BranchVersion],
) -> Resolution {
    let ours = announced.made(versions);
    let newest = ours.iter().filter(|v| v.version > announced.since && v.sha256 == announced.document);
    let all_listed = versions.iter().map(|v| v.version).min().is_none_or(|v| v <= announced.version + 1);
    let mut found = Resolution { happened: newest.map(|v| v.version).max(), ..Resolution::default() };
    for role in &announced.owed {
        let set = match roles.get(role) {
            None => &mut found.absent,
            Some(seen) if ours.iter().any(|v| v.made(seen, &announced.branch)) => &mut found.rotate,
            Some(seen) if !all_listed && versions.iter().all(|v| !v.made(seen, &announced.branch)) => {
                &mut found.unclear
            }
            Some(_) => continue,
        };
        set.insert(role.clone());
    }
    found
}

/// The newest version of a branch; 0 where it was never loaded.
pub fn newest(versions: &[BranchVersion]) -> i64 {
    versions.iter().map(|v| v.version).max().unwrap_or(0)
}

/// The logins that the annotation `rotate-keys` permits to rotate.
pub fn permitted_rotations(annotation: Option<&str>) -> BTreeSet<&str> {
    annotation.unwrap_or_default().split(',').map(str::trim).filter(|login| !login.is_empty()).collect()
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

    fn role(at: &str, policy: Option<&str>) -> SeenRole {
        SeenRole { created_at: at.into(), policy: policy.map(str::to_owned) }
    }

    fn roles(seen: &[(&str, &str)]) -> BTreeMap<String, SeenRole> {
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
    fn a_key_is_owed_only_for_what_lies_in_the_branch() {
        for (branch, role, owed) in [
            ("apps/a", "demo:host:apps/a/web", true),
            ("apps/a", "demo:host:apps/a/eu/web", true),
            ("apps/a", "demo:host:apps/a", true),
            ("apps/a", "demo:host:apps/ab/web", false),
            ("apps/a", "demo:host:victim/web", false),
            ("apps/a", "prod:host:apps/a/web", false),
            ("apps/a", "demo:user:alice@apps-a", true),
            ("apps/a", "demo:user:alice@apps-a-eu", true),
            ("apps/a", "demo:user:alice@apps-ab", false),
            ("apps/a", "demo:user:admin", false),
            ("apps/a", "demo:group:apps/a/g", false),
            ("root", "demo:user:alice", true),
            ("root", "demo:host:victim/web", true),
        ] {
            let mut announced = Announcement { branch: branch.into(), ..announced(&[role]) };
            announced.keep_to_its_branch("demo");
            assert_eq!(!announced.owed.is_empty(), owed, "{branch} {role}");
        }
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

    #[test]
    fn the_rotation_annotation_is_a_list_of_logins() {
        assert_eq!(permitted_rotations(Some(" host/a, alice@x ,,")), BTreeSet::from(["host/a", "alice@x"]));
        assert!(permitted_rotations(None).is_empty());
    }

    #[test]
    fn an_announcement_survives_its_json() {
        let a = announced(&["x"]);
        assert_eq!(serde_json::from_str::<Announcement>(&serde_json::to_string(&a).unwrap()).unwrap(), a);
    }
}

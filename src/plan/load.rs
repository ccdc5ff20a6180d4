//! Loading a policy document so that no API key is lost and no stranger's key is rotated.
//!
//! A load gives the keys of the hosts and users that it makes once, in its answer. Between Conjur's commit and
//! our record of them a crash is always possible. So a load is **announced** before it: the branch's version and
//! the roles that did not exist go into the `createdRoles` Secret. Those roles are *owed* a key. Afterwards the
//! announcement is **resolved** by looking: a version of the branch above the announced one, with the document's
//! hash, by our role, means that the load happened; an owed role that was made in the same transaction (its
//! `created_at` equals that version's, recordings 701 and 702; or lies before the version's `finished_at`, for a
//! load holds its branch for itself) is ours, and its key may be rotated, since nobody ever had it. Any other role
//! is left alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Key of the `createdRoles` Secret under which an announcement lies.
pub const PENDING_KEY: &str = "pending.json";

/// A load that was announced, as it lies in the `createdRoles` Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Hex SHA-256 of every document whose load was announced since the last resolution.
    pub documents: BTreeSet<String>,
    /// The connection that the load goes through: a hash over its uid, address and account.
    pub connection: String,
    /// A hash over connection, branch and mode of the newest of these loads.
    pub inputs: String,
    /// The branch.
    pub branch: String,
    /// Version of the branch before the first of these loads.
    pub version: i64,
    /// Full ids of the roles that did not exist before, and have no stored key yet.
    pub owed: BTreeSet<String>,
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

impl BranchVersion {
    /// Whether a role was made by this load, by the time that it was made.
    fn made(&self, role_created_at: &str) -> bool {
        let end = self.finished_at.as_deref().unwrap_or(&self.created_at);
        (self.created_at.as_str()..=end).contains(&role_created_at)
    }
}

/// What became of an announced load.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resolution {
    /// The newest of our versions that were announced, with its document's hash: that load happened.
    pub happened: Option<(i64, String)>,
    /// Owed roles that our load made: their keys may be rotated and stored.
    pub rotate: BTreeSet<String>,
    /// Owed roles that do not exist.
    pub absent: BTreeSet<String>,
}

/// Finds out what became of an announced load. `roles` are the owed roles that exist, with their `created_at`,
/// looked at **before** `versions`: a role that was absent then, and no version since, was not made by us.
pub fn resolve(
    announced: &Announcement,
    roles: &BTreeMap<String, String>,
    versions: &[BranchVersion],
    our_role: &str,
) -> Resolution {
    let ours: Vec<&BranchVersion> = versions
        .iter()
        .filter(|v| {
            v.version > announced.version && v.role == our_role && announced.documents.contains(&v.sha256)
        })
        .collect();
    let made_by_us = |created_at: &String| ours.iter().any(|v| v.made(created_at));
    Resolution {
        happened: ours.iter().max_by_key(|v| v.version).map(|v| (v.version, v.sha256.clone())),
        rotate: announced.owed.iter().filter(|id| roles.get(*id).is_some_and(made_by_us)).cloned().collect(),
        absent: announced.owed.iter().filter(|id| !roles.contains_key(*id)).cloned().collect(),
    }
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
            documents: BTreeSet::from(["sha".to_owned()]),
            connection: "c".into(),
            inputs: "i".into(),
            branch: "app".into(),
            version: 4,
            owed: owed.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    fn version(version: i64, sha: &str, role: &str, created_at: &str) -> BranchVersion {
        let finished_at = Some(format!("{created_at}+"));
        BranchVersion {
            version,
            sha256: sha.into(),
            role: role.into(),
            created_at: created_at.into(),
            finished_at,
        }
    }

    fn roles(seen: &[(&str, &str)]) -> BTreeMap<String, String> {
        seen.iter().map(|(id, at)| ((*id).to_owned(), (*at).to_owned())).collect()
    }

    #[test]
    fn a_load_happened_only_where_hash_role_and_version_say_so() {
        for (seen, happened) in [
            (version(5, "sha", US, "t5"), true),
            (version(4, "sha", US, "t4"), false),
            (version(5, "other", US, "t5"), false),
            (version(5, "sha", "demo:user:admin", "t5"), false),
        ] {
            let got = resolve(&announced(&[]), &roles(&[]), std::slice::from_ref(&seen), US);
            assert_eq!(got.happened.is_some(), happened, "{seen:?}");
        }
    }

    #[test]
    fn only_a_role_that_our_load_made_may_be_rotated() {
        let versions = [version(5, "sha", US, "t5"), version(6, "x", "demo:user:admin", "t6")];
        let seen = roles(&[("ours", "t5"), ("during", "t5+"), ("strangers", "t6"), ("older", "t1")]);
        let got =
            resolve(&announced(&["ours", "during", "strangers", "older", "gone"]), &seen, &versions, US);
        assert_eq!(got.rotate.into_iter().collect::<Vec<_>>(), ["during", "ours"]);
        assert_eq!(got.absent.into_iter().collect::<Vec<_>>(), ["gone"]);
        assert_eq!(got.happened, Some((5, "sha".into())));
    }

    #[test]
    fn nothing_is_rotated_where_no_load_of_ours_happened() {
        let got = resolve(&announced(&["strangers"]), &roles(&[("strangers", "t5")]), &[], US);
        assert_eq!(got, Resolution::default());
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

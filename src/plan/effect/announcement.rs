//! A load that is announced before it is made: what the `createdRoles` Secret says of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{evidence::BranchVersion, faults::fault};
use crate::plan::full_id::{has_key, lies_in};

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
        let same = (&earlier.document, &earlier.inputs) == (&self.document, &self.inputs);
        if same && !fault!(EarlierSinceIsForgotten) {
            self.since = self.since.min(earlier.since);
        }
        self.documents.extend(earlier.documents);
        self.loaders.extend(earlier.loaders);
        if !fault!(EarlierOwedAreForgotten) {
            self.owed.extend(earlier.owed);
        }
        if !fault!(EarlierVersionIsForgotten) {
            self.version = self.version.min(earlier.version);
        }
        self
    }

    /// Forgets owed roles that no load of the branch can have made: whoever may write the Secret may have named them.
    pub fn keep_to_its_branch(&mut self, account: &str) {
        let branch = self.branch.clone();
        self.owed.retain(|role| has_key(role) && lies_in(role, account, &branch));
    }

    /// The versions of the branch that these loads made.
    pub fn made<'v>(&self, versions: &'v [BranchVersion]) -> Vec<&'v BranchVersion> {
        let ours = |v: &&BranchVersion| {
            v.version > self.version
                && self.documents.contains(&v.sha256)
                && (self.loaders.contains(&v.role) || fault!(LoaderDoesNotCount))
        };
        versions.iter().filter(ours).collect()
    }

    /// Whether any of these loads happened.
    pub fn any_happened(&self, versions: &[BranchVersion]) -> bool {
        !self.made(versions).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(owed: &[&str]) -> Announcement {
        Announcement {
            document: "sha".into(),
            inputs: "i".into(),
            since: 4,
            at: 0,
            documents: BTreeSet::from(["sha".to_owned()]),
            loaders: BTreeSet::from(["demo:host:ops".to_owned()]),
            server: "c".into(),
            branch: "app".into(),
            version: 4,
            owed: owed.iter().map(|s| (*s).to_owned()).collect(),
        }
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
    fn an_announcement_survives_its_json() {
        let a = announced(&["x"]);
        assert_eq!(serde_json::from_str::<Announcement>(&serde_json::to_string(&a).unwrap()).unwrap(), a);
    }
}

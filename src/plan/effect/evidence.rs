//! What Conjur shows of loads that happened, and the one rule by which a record is known to be made by one of them.

use crate::plan::full_id::below_account;

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
    /// From when to when its transaction ran.
    pub fn span(&self) -> (&str, &str) {
        (&self.created_at, self.finished_at.as_deref().unwrap_or(&self.created_at))
    }
}

/// What Conjur shows of who made a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// When the transaction that made it began.
    pub created_at: String,
    /// Full id of the branch whose load made it.
    pub policy: Option<String>,
}

impl Origin {
    /// Whether a load of `branch` that ran from `from` to `to` made the record: a load holds its branch for itself, so
    /// that what the branch made in that time is the load's. Where Conjur does not say which branch made it, only the very
    /// begin of the load counts, which all that a transaction makes carries (recordings 701, 702).
    pub fn is_within(&self, branch: &str, (from, to): (&str, &str)) -> bool {
        let at = self.created_at.as_str();
        match self.policy.as_deref().and_then(below_account) {
            Some(policy) if policy != branch => false,
            Some(_) => (from..=to).contains(&at),
            None => from == at,
        }
    }
}

/// The newest version of a branch; 0 where it was never loaded.
pub fn newest(versions: &[BranchVersion]) -> i64 {
    versions.iter().map(|v| v.version).max().unwrap_or(0)
}

/// Whether all versions of a branch after this one are listed: Conjur lists the last 20.
pub fn lists_all_after(version: i64, versions: &[BranchVersion]) -> bool {
    versions.iter().map(|v| v.version).min().is_none_or(|oldest| oldest <= version + 1)
}

//! Whose a policy branch is. A load in mode Replace removes what its document leaves out, so that a branch which one
//! object Replaces can't be loaded by a second: each load would undo the other's.
//!
//! The older object wins (by its creation, then by its uid). Taken in that order, each object may have the branch
//! unless one that came before has it and one of the two Replaces: so an older object that only Updates keeps its
//! branch from a newer one that would Replace it, and a newcomer never takes anything from those who were there.

use crate::api::{Reason, policy::LoadMode};
use crate::plan::{Failure, hash};

/// A branch of an account of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BranchPlace {
    /// Base address.
    url: String,
    account: String,
    branch: String,
}

impl BranchPlace {
    /// Addresses that differ only in their spelling are one; two names of one server can't be told from two servers.
    pub fn new(url: &str, account: &str, branch: &str) -> Self {
        Self { url: address(url), account: account.to_owned(), branch: branch.to_owned() }
    }
}

impl BranchPlace {
    /// The branch.
    pub fn branch(&self) -> &str {
        &self.branch
    }
}

/// One spelling of a base address, of those that differ only in their spelling.
pub fn address(url: &str) -> String {
    let url = url::Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.to_string());
    url.trim_end_matches('/').to_owned()
}

/// A hash that tells one account of one server from others, however its address is spelled.
pub fn server(url: &str, account: &str) -> String {
    hash::hash([address(url).as_str(), account])
}

/// An object that loads a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The branch.
    pub place: BranchPlace,
    /// How.
    pub mode: LoadMode,
    /// When the object was made, in seconds since 1970.
    pub created: i64,
    /// Its uid.
    pub uid: String,
    /// Its namespace and name: `billing/policy`.
    pub name: String,
}

impl Claim {
    fn is_before(&self, other: &Claim) -> bool {
        (self.created, &self.uid) < (other.created, &other.uid)
    }

    /// Whether the two can't both load: they load the same branch, and one of them Replaces it.
    pub fn collides_with(&self, other: &Claim) -> bool {
        self.uid != other.uid
            && self.place == other.place
            && (self.mode == LoadMode::Replace || other.mode == LoadMode::Replace)
    }
}

/// How far an object got that asks for a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whether it loaded the branch before, in whatever mode.
    pub loaded: bool,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether its connection fails.
    pub disconnected: bool,
    /// Why it is not done, where it was looked at and is not.
    pub refused: Option<Reason>,
}

impl Progress {
    /// Whether it keeps others out of the branch. Who loaded it does. Who never did may be someone that could not
    /// either, and sees to it that Conjur is never asked (no document, a wrong key, `suspend`): so it does only as long
    /// as nothing is in its way but the branch itself. Once it can load, it is the older one all the same.
    pub fn keeps_others_out(self) -> bool {
        let refused = self
            .refused
            .is_some_and(|reason| !matches!(reason, Reason::BranchTaken | Reason::DeletionsNotAllowed));
        self.loaded || !(self.suspended || self.disconnected || refused)
    }
}

/// Who has the branch that `mine` claims, where that is another: the oldest that stands in the way.
///
/// That is the oldest of all or no one. Where it Replaces, no one else has the branch. Where it does not, no one that Replaces
/// has it, for this one was there before; and of those that don't, none stands in the way of who does not either.
pub fn taken_by<'c>(mine: &Claim, all: &'c [Claim]) -> Option<&'c Claim> {
    let earlier = all.iter().filter(|c| c.place == mine.place && c.is_before(mine));
    let oldest = earlier.min_by(|a, b| (a.created, &a.uid).cmp(&(b.created, &b.uid)));
    oldest.filter(|oldest| oldest.collides_with(mine))
}

/// What an object says whose branch is another's.
pub fn refusal(mine: &Claim, holder: &Claim) -> Failure {
    let (branch, name) = (&mine.place.branch, &holder.name);
    let message = if holder.mode == LoadMode::Replace {
        format!(
            "policy branch {branch} belongs to the older ConjurPolicy {name}, which Replaces it: its next load would remove what \
             this one loads. Put the document into that one, load another branch, or give {name} another mode"
        )
    } else {
        format!(
            "policy branch {branch} is loaded by the older ConjurPolicy {name}, and mode Replace would remove what that one \
             loads. Put both documents into one ConjurPolicy, use mode Update, or load another branch"
        )
    };
    Failure::stalled(Reason::BranchTaken, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use LoadMode::{Append, Replace, Update};

    fn claim(created: i64, uid: &str, mode: LoadMode) -> Claim {
        let place = BranchPlace::new("https://conjur/api", "demo", "apps/billing");
        Claim { place, mode, created, uid: uid.into(), name: format!("ns/{uid}") }
    }

    /// Who stands in whose way, of objects in the order of their age.
    fn decided(modes: &[LoadMode]) -> Vec<Option<usize>> {
        let all: Vec<Claim> =
            (0..).zip(modes).map(|(at, mode)| claim(at, &format!("u{at}"), *mode)).collect();
        let holder = |mine: &Claim| {
            taken_by(mine, &all).map(|holder| all.iter().position(|c| c.uid == holder.uid).unwrap())
        };
        all.iter().map(holder).collect()
    }

    #[test]
    fn a_branch_that_is_replaced_belongs_to_the_oldest() {
        for (modes, holders) in [
            (vec![Replace], vec![None]),
            (vec![Update, Append, Update], vec![None, None, None]),
            (vec![Replace, Update], vec![None, Some(0)]),
            (vec![Replace, Append, Replace], vec![None, Some(0), Some(0)]),
            (vec![Update, Replace], vec![None, Some(0)]),
            (vec![Append, Update, Replace], vec![None, None, Some(0)]),
            // Who may not load takes nothing from the others.
            (vec![Update, Replace, Update], vec![None, Some(0), None]),
            (vec![Replace, Replace, Replace], vec![None, Some(0), Some(0)]),
        ] {
            assert_eq!(decided(&modes), holders, "{modes:?}");
        }
    }

    /// As the head of this file says it, one after the other.
    fn by_the_rule<'c>(mine: &Claim, all: &'c [Claim]) -> Option<&'c Claim> {
        let mut holders: Vec<&Claim> = Vec::new();
        for claim in all.iter().filter(|claim| claim.is_before(mine)) {
            if !holders.iter().any(|holder| holder.collides_with(claim)) {
                holders.push(claim);
            }
        }
        holders.into_iter().find(|holder| holder.collides_with(mine))
    }

    #[test]
    fn the_oldest_decides_for_all_orders_of_modes() {
        for nth in 0..3_usize.pow(6) {
            let mode = |at: u32| [Append, Update, Replace][nth / 3_usize.pow(at) % 3];
            let all: Vec<Claim> =
                (0..6).map(|at| claim(i64::from(at), &format!("u{at}"), mode(at))).collect();
            for mine in &all {
                assert_eq!(taken_by(mine, &all), by_the_rule(mine, &all), "{all:?}");
            }
        }
    }

    #[test]
    fn whose_a_branch_is_costs_no_more_than_those_who_claim_it() {
        let all: Vec<Claim> = (0..50_000).map(|at| claim(at, &format!("u{at}"), Update)).collect();
        let since = std::time::Instant::now();
        assert_eq!(taken_by(&claim(60_000, "mine", Update), &all), None);
        assert_eq!(taken_by(&claim(60_000, "mine", Replace), &all), all.first());
        assert!(since.elapsed() < std::time::Duration::from_secs(5), "{:?}", since.elapsed());
    }

    #[test]
    fn of_two_that_were_made_in_one_second_the_smaller_uid_wins() {
        let (a, b) = (claim(5, "a", Replace), claim(5, "b", Replace));
        let all = [b.clone(), a.clone()];
        assert_eq!(taken_by(&a, &all), None);
        assert_eq!(taken_by(&b, &all), Some(&a));
    }

    #[test]
    fn a_branch_is_told_by_address_account_and_name() {
        let mine = claim(9, "me", Replace);
        for (url, account, branch, same) in [
            ("https://conjur/api/", "demo", "apps/billing", true),
            ("https://CONJUR:443/api", "demo", "apps/billing", true),
            ("https://other/api", "demo", "apps/billing", false),
            ("https://conjur/api", "prod", "apps/billing", false),
            ("https://conjur/api", "demo", "apps", false),
            ("https://conjur/api", "demo", "apps/billing/eu", false),
        ] {
            let other = Claim { place: BranchPlace::new(url, account, branch), ..claim(1, "other", Update) };
            assert_eq!(taken_by(&mine, &[other]).is_some(), same, "{url} {account} {branch}");
        }
    }

    #[test]
    fn a_server_is_one_however_its_address_is_spelled() {
        let mine = server("https://conjur/api", "demo");
        // What was written down under the usual spelling stays valid.
        assert_eq!(mine, hash::hash(["https://conjur/api", "demo"]));
        for (url, account, same) in [
            ("https://CONJUR:443/api/", "demo", true),
            ("https://conjur:444/api", "demo", false),
            ("http://conjur/api", "demo", false),
            ("https://conjur/api", "prod", false),
        ] {
            assert_eq!(server(url, account) == mine, same, "{url} {account}");
        }
        assert_eq!(server("http://127.1:8080", "demo"), server("http://127.0.0.1:8080/", "demo"));
    }

    #[test]
    fn who_never_loaded_keeps_nobody_out_once_something_is_in_its_way() {
        let new = Progress { loaded: false, suspended: false, disconnected: false, refused: None };
        for (progress, keeps) in [
            (new, true),
            (Progress { suspended: true, ..new }, false),
            (Progress { disconnected: true, ..new }, false),
            (Progress { refused: Some(Reason::DocumentNotFound), ..new }, false),
            (Progress { refused: Some(Reason::PolicyInvalid), ..new }, false),
            (Progress { refused: Some(Reason::BranchNotFound), ..new }, false),
            (Progress { refused: Some(Reason::ConjurUnavailable), ..new }, false),
            (Progress { refused: Some(Reason::BranchTaken), ..new }, true),
            (Progress { refused: Some(Reason::DeletionsNotAllowed), ..new }, true),
            (
                Progress {
                    loaded: true,
                    suspended: true,
                    disconnected: true,
                    refused: Some(Reason::PolicyInvalid),
                },
                true,
            ),
        ] {
            assert_eq!(progress.keeps_others_out(), keeps, "{progress:?}");
        }
    }

    #[test]
    fn the_refusal_names_the_holder() {
        for (holder, word) in [(Replace, "belongs to"), (Update, "is loaded by")] {
            let failure = refusal(&claim(2, "me", Replace), &claim(1, "them", holder));
            assert_eq!(failure.reason, Reason::BranchTaken);
            assert!(
                failure.message.contains(word) && failure.message.contains("ConjurPolicy ns/them"),
                "{failure}"
            );
        }
    }
}

//! What a document made, so that `deletionPolicy: Delete` can remove that and nothing else.
//!
//! Before each load the records of the document that do **not** exist are written down: they are *announced*. Once it
//! is known what became of the load, the announcement is *resolved*: the load's own times go into it. A record is the operator's
//! where it was announced as absent and was made by a load of the branch at that load's time (recordings 701 and 702:
//! a record has the time of the transaction that made it, and names the branch's policy). A record that existed before,
//! or that someone else made in between, is never the operator's.
//!
//! It lies in a Secret of the object's namespace, so whoever may write Secrets there may have written it. It is no
//! authority: the branches that it names must be granted like any other, and within a branch that is granted a
//! document could delete all that it can.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::evidence::{BranchVersion, Origin, lists_all_after};
use crate::plan::{
    full_id::{below_account, kind_of},
    policy::document::{Record, user_id},
};

/// Key of the Secret under which an inventory lies.
pub const INVENTORY_KEY: &str = "inventory.json";

/// All that the loads of one object may have made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Oldest first.
    pub loads: Vec<InventoriedLoad>,
    /// By server, full ids of the hosts and users that were seen, and whose removal was about to be sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removing: BTreeMap<String, BTreeSet<String>>,
}

/// What one load may have made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoriedLoad {
    /// A hash over the address and account of the server.
    pub server: String,
    /// The branch.
    pub branch: String,
    /// Hex SHA-256 of the document.
    pub document: String,
    /// Full id of the role that loaded it.
    pub loader: String,
    /// Version of the branch before the load.
    pub since: i64,
    /// When it happened; none as long as that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<BTreeSet<(String, String)>>,
    /// By kind, how statements in the branch name the records that did not exist before.
    pub absent: BTreeMap<String, BTreeSet<String>>,
}

impl InventoriedLoad {
    fn same_load(&self, other: &Self) -> bool {
        (&self.server, &self.branch, &self.document, &self.loader)
            == (&other.server, &other.branch, &other.document, &other.loader)
    }

    fn happened_as(&self, version: &BranchVersion) -> bool {
        version.version > self.since && version.sha256 == self.document && version.role == self.loader
    }

    fn made(&self, seen: &Origin) -> bool {
        self.times.iter().flatten().any(|(from, to)| seen.is_within(&self.branch, (from, to)))
    }
}

impl Inventory {
    /// Announces a load that may make these records. What of them earlier loads made is gone, for it is absent now.
    pub fn announce(&mut self, mut load: InventoriedLoad, absent: &[&Record]) {
        for record in absent {
            load.absent.entry(record.kind.to_string()).or_default().insert(record.path.clone());
        }
        let here = |l: &InventoriedLoad| (&l.server, &l.branch) == (&load.server, &load.branch);
        for earlier in self.loads.iter_mut().filter(|l| l.times.is_some() && here(l)) {
            for (kind, paths) in &mut earlier.absent {
                paths.retain(|path| load.absent.get(kind).is_none_or(|now| !now.contains(path)));
            }
        }
        let again = self.loads.iter_mut().find(|l| l.times.is_none() && l.same_load(&load));
        match again {
            Some(earlier) => {
                earlier.since = earlier.since.min(load.since);
                for (kind, paths) in load.absent {
                    earlier.absent.entry(kind).or_default().extend(paths);
                }
            }
            None => self.loads.push(load),
        }
        self.tidy();
    }

    /// A load made these hosts and users (their full ids), as its answer says: also those that were announced under
    /// another name, or not at all, for the server reads a document as it does.
    pub fn made(&mut self, load: InventoriedLoad, account: &str, roles: &BTreeSet<String>) {
        let known = self.announced(&load.server, &load.branch, account);
        let new = roles.iter().filter(|role| !known.contains(*role));
        let records: Vec<Record> = new.filter_map(|role| role_record(role, account, &load.branch)).collect();
        if !records.is_empty() {
            self.announce(load, &records.iter().collect::<Vec<_>>());
        }
    }

    /// Hosts and users are there, and are about to be removed: when they are not seen any more, they are gone.
    pub fn removes<'r>(&mut self, server: &str, roles: impl Iterator<Item = &'r String>) {
        for role in roles {
            self.removing.entry(server.to_owned()).or_default().insert(role.clone());
        }
    }

    /// Whether a load into a branch was announced and it is not known what became of it.
    pub fn is_open(&self, server: &str, branch: &str) -> bool {
        self.loads.iter().any(|l| l.times.is_none() && l.server == server && l.branch == branch)
    }

    /// Writes down when announced loads into a branch happened. With `no_other`, no load of the branch is under way:
    /// one of which nothing is to be seen did not happen, and is forgotten; unless Conjur no longer lists all versions
    /// since (it keeps 20), so that no one can tell any more (`unclear`).
    pub fn resolve(&mut self, server: &str, branch: &str, versions: &[BranchVersion], no_other: bool) {
        let mut unlisted = Vec::new();
        for load in self.loads.iter_mut().filter(|l| l.server == server && l.branch == branch) {
            if load.times.is_some() {
                continue;
            }
            let times: BTreeSet<_> = versions
                .iter()
                .filter(|version| load.happened_as(version))
                .map(BranchVersion::span)
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .collect();
            let all_listed = lists_all_after(load.since, versions);
            if !times.is_empty() {
                if !all_listed {
                    // An earlier try of the same load may have happened, too.
                    unlisted.push(InventoriedLoad { times: Some(BTreeSet::new()), ..load.clone() });
                }
                load.times = Some(times);
            } else if no_other {
                if all_listed {
                    load.absent.clear();
                }
                load.times = Some(times);
            }
        }
        self.loads.extend(unlisted);
        self.tidy();
    }

    fn tidy(&mut self) {
        for load in &mut self.loads {
            load.absent.retain(|_, paths| !paths.is_empty());
        }
        self.loads.retain(|load| load.times.is_none() || !load.absent.is_empty());
    }

    /// The branches of a server that loads were announced into.
    pub fn branches(&self, server: &str) -> BTreeSet<String> {
        self.loads.iter().filter(|l| l.server == server).map(|l| l.branch.clone()).collect()
    }

    /// Whether loads into another server were announced.
    pub fn has_others(&self, server: &str) -> bool {
        self.loads.iter().any(|l| l.server != server)
    }

    /// Full ids of all that loads into a branch announced, made or not.
    pub fn announced(&self, server: &str, branch: &str, account: &str) -> BTreeSet<String> {
        self.named(server, branch).map(|(_, kind, path)| full_id(account, branch, kind, path)).collect()
    }

    /// What of it the operator's loads made, of what exists: how the branch names it, by full id.
    pub fn ours(
        &self,
        server: &str,
        branch: &str,
        account: &str,
        there: &BTreeMap<String, Origin>,
    ) -> BTreeMap<String, Named> {
        self.named(server, branch)
            .filter_map(|(load, kind, path)| {
                let id = full_id(account, branch, kind, path);
                let seen = there.get(&id)?;
                load.made(seen).then(|| (id, Named { kind: kind.to_owned(), path: path.to_owned() }))
            })
            .collect()
    }

    /// What of it the operator's loads may have made, of what exists: no one can tell any more what became of them.
    pub fn unclear(
        &self,
        server: &str,
        branch: &str,
        account: &str,
        there: &BTreeMap<String, Origin>,
    ) -> BTreeSet<String> {
        let ours = self.ours(server, branch, account, there);
        let policy = format!("{account}:policy:{branch}");
        self.named(server, branch)
            .filter(|(load, ..)| load.times.as_ref().is_some_and(BTreeSet::is_empty))
            .map(|(_, kind, path)| full_id(account, branch, kind, path))
            .filter(|id| {
                let seen = there.get(id);
                seen.is_some_and(|seen| seen.policy.as_ref().is_none_or(|p| *p == policy))
                    && !ours.contains_key(id)
            })
            .collect()
    }

    /// One of these records (full ids), of what exists, that a load of the operator's made, or may have made as long as it is not
    /// known what became of it.
    pub fn one_of(
        &self,
        server: &str,
        account: &str,
        records: &BTreeSet<String>,
        there: &BTreeMap<String, Origin>,
    ) -> Option<String> {
        self.branches(server).into_iter().find_map(|branch| {
            self.named(server, &branch).find_map(|(load, kind, path)| {
                let id = full_id(account, &branch, kind, path);
                let seen = there.get(&id).filter(|_| records.contains(&id))?;
                (load.times.is_none() || load.made(seen)).then_some(id)
            })
        })
    }

    fn named<'a>(
        &'a self,
        server: &'a str,
        branch: &'a str,
    ) -> impl Iterator<Item = (&'a InventoriedLoad, &'a str, &'a str)> {
        let here = self.loads.iter().filter(move |l| l.server == server && l.branch == branch);
        here.flat_map(|load| {
            load.absent.iter().flat_map(move |(kind, paths)| {
                paths.iter().map(move |path| (load, kind.as_str(), path.as_str()))
            })
        })
    }
}

/// How a statement in a branch names a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its tag, without the `!`.
    pub kind: String,
    /// Its id, relative to the branch.
    pub path: String,
}

/// The full id of what a statement in a branch names.
fn full_id(account: &str, branch: &str, kind: &str, path: &str) -> String {
    let path = match (branch, path) {
        ("root", path) => path.to_owned(),
        (branch, "") => branch.to_owned(),
        (branch, path) => format!("{branch}/{path}"),
    };
    let id = if kind == "user" { user_id(&path) } else { path };
    format!("{account}:{}:{id}", kind.replace('-', "_"))
}

/// How a statement in a branch names a host or user (its full id); none for what does not lie in the branch.
fn role_record(role: &str, account: &str, branch: &str) -> Option<Record> {
    let id = below_account(role)?;
    let (kind, path) = match kind_of(role) {
        "host" if branch == "root" => ("host", id.to_owned()),
        "host" => ("host", id.strip_prefix(branch)?.trim_start_matches('/').to_owned()),
        "user" => {
            let (name, at) = id.rsplit_once('@').unwrap_or((id, ""));
            let below = if branch == "root" { at } else { at.strip_prefix(&branch.replace('/', "-"))? };
            let below = below.trim_start_matches('-');
            ("user", if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") })
        }
        _ => return None,
    };
    let record = Record { id: role.to_owned(), kind: kind.into(), path };
    (full_id(account, branch, kind, &record.path) == role).then_some(record)
}

/// Longest name of a Secret.
const NAME_LIMIT: usize = 253;

/// The name of the Secret that keeps the inventory of a policy.
pub fn secret_name(policy: &str) -> String {
    let name = format!("conjurpolicy-inventory.{policy}");
    if name.len() <= NAME_LIMIT {
        return name;
    }
    format!("conjurpolicy-inventory.{}", crate::plan::hash::hash([policy]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::policy::document;

    #[test]
    fn a_role_that_only_the_answer_of_a_load_names_is_ours_all_the_same() {
        for (branch, role, path) in [
            ("app", "demo:host:app", Some("")),
            ("app", "demo:host:app/web", Some("web")),
            ("app", "demo:host:app/eu/web", Some("eu/web")),
            ("root", "demo:host:web", Some("web")),
            ("app", "demo:user:alice@app", Some("alice")),
            ("app", "demo:user:alice@app-eu", Some("eu/alice")),
            ("a/b", "demo:user:alice@a-b", Some("alice")),
            ("root", "demo:user:alice", Some("alice")),
            ("root", "demo:user:alice@app", Some("app/alice")),
            ("app", "demo:host:apps/web", None),
            ("app", "demo:user:alice", None),
            ("app", "demo:group:app/g", None),
            ("app", "other:host:app/web", None),
        ] {
            let record = role_record(role, "demo", branch);
            assert_eq!(record.map(|r| r.path).as_deref(), path, "{role} in {branch}");
        }
        let mut inventory = Inventory::default();
        announced(&mut inventory, "sha", 4, "- !variable a\n");
        let roles = BTreeSet::from(["demo:host:app".to_owned(), "demo:host:app/web".to_owned()]);
        inventory.made(load("sha", 4), "demo", &roles);
        inventory.resolve("s", "app", &[version(5, "sha", "demo:host:ops")], true);
        let policy = Some("demo:policy:app");
        let there = roles.iter().map(|role| (role.clone(), seen("t5", policy))).collect();
        let ours = inventory.ours("s", "app", "demo", &there);
        assert_eq!(ours.keys().collect::<BTreeSet<_>>(), roles.iter().collect());
        // Also where nothing else was announced.
        let mut inventory = Inventory::default();
        inventory.made(load("sha", 4), "demo", &roles);
        assert!(inventory.is_open("s", "app"));
    }

    fn load(document: &str, since: i64) -> InventoriedLoad {
        InventoriedLoad {
            server: "s".into(),
            branch: "app".into(),
            document: document.into(),
            loader: "demo:host:ops".into(),
            since,
            times: None,
            absent: BTreeMap::new(),
        }
    }

    fn version(version: i64, sha: &str, role: &str) -> BranchVersion {
        BranchVersion {
            version,
            sha256: sha.into(),
            role: role.into(),
            created_at: format!("t{version}"),
            finished_at: Some(format!("t{version}+")),
        }
    }

    fn seen(at: &str, policy: Option<&str>) -> Origin {
        Origin { created_at: at.into(), policy: policy.map(str::to_owned) }
    }

    fn records(text: &str) -> Vec<Record> {
        document::read(text, "app", "demo").unwrap().records
    }

    fn announced(inventory: &mut Inventory, sha: &str, since: i64, text: &str) {
        let records = records(text);
        inventory.announce(load(sha, since), &records.iter().collect::<Vec<_>>());
    }

    #[test]
    fn ids_are_those_that_the_document_makes() {
        let text =
            "- !policy\n  id: eu\n  body:\n  - !user alice\n  - !host-factory f\n- !variable a/b\n- !layer\n";
        for branch in ["app", "root", "a/b"] {
            for record in document::read(text, branch, "demo").unwrap().records {
                assert_eq!(full_id("demo", branch, &record.kind, &record.path), record.id);
            }
        }
    }

    #[test]
    fn ours_is_what_was_absent_and_was_made_by_our_load() {
        let mut inventory = Inventory::default();
        announced(&mut inventory, "sha", 4, "- !variable a\n- !variable b\n- !variable c\n- !variable d\n");
        let policy = Some("demo:policy:app");
        let there: BTreeMap<String, Origin> = [
            ("demo:variable:app/a", seen("t5", policy)),
            ("demo:variable:app/b", seen("t6", policy)),
            ("demo:variable:app/c", seen("t5", Some("demo:policy:root"))),
            ("demo:variable:app/old", seen("t5", policy)),
        ]
        .into_iter()
        .map(|(id, seen)| (id.to_owned(), seen))
        .collect();
        assert!(inventory.ours("s", "app", "demo", &there).is_empty(), "not before it is known when it was");
        let versions = [version(5, "sha", "demo:host:ops"), version(6, "sha", "demo:user:admin")];
        inventory.resolve("s", "app", &versions, false);
        let ours = inventory.ours("s", "app", "demo", &there);
        assert_eq!(ours.keys().collect::<Vec<_>>(), ["demo:variable:app/a"]);
        assert!(inventory.ours("other", "app", "demo", &there).is_empty());
        assert!(inventory.has_others("other") && !inventory.has_others("s"));
    }

    #[test]
    fn one_of_what_holds_another_up_is_what_a_load_made_or_may_have_made() {
        let mut inventory = Inventory::default();
        announced(&mut inventory, "sha", 4, "- !variable a\n- !variable b\n- !variable c\n");
        let there = BTreeMap::from([
            ("demo:variable:app/a".to_owned(), seen("t5", Some("demo:policy:app"))),
            ("demo:variable:app/b".to_owned(), seen("t9", Some("demo:policy:app"))),
        ]);
        let one_of = |inventory: &Inventory, server: &str, ids: &[&str]| {
            let ids = ids.iter().map(|id| format!("demo:variable:app/{id}")).collect();
            inventory.one_of(server, "demo", &ids, &there).map(|id| id.rsplit('/').next().unwrap().to_owned())
        };
        for (server, ids, open, resolved) in [
            ("s", &["a"][..], Some("a"), Some("a")),
            ("s", &["b"], Some("b"), None),
            ("s", &["b", "a"], Some("a"), Some("a")),
            ("s", &["c"], None, None),
            ("s", &["other"], None, None),
            ("t", &["a"], None, None),
        ] {
            assert_eq!(one_of(&inventory, server, ids).as_deref(), open, "{ids:?}");
            let mut inventory = inventory.clone();
            inventory.resolve("s", "app", &[version(5, "sha", "demo:host:ops")], true);
            assert_eq!(one_of(&inventory, server, ids).as_deref(), resolved, "{ids:?}");
        }
    }

    #[test]
    fn a_load_that_did_not_happen_is_forgotten_once_no_other_is_under_way() {
        let mut inventory = Inventory::default();
        announced(&mut inventory, "sha", 4, "- !variable a\n");
        inventory.resolve("s", "app", &[version(4, "sha", "demo:host:ops")], false);
        assert!(inventory.is_open("s", "app"));
        inventory.resolve("s", "app", &[], true);
        assert_eq!(inventory, Inventory::default());
    }

    #[test]
    fn a_load_that_is_no_longer_listed_is_unclear_and_nothing_of_it_is_ours() {
        let there = BTreeMap::from([
            ("demo:variable:app/a".to_owned(), seen("t5", Some("demo:policy:app"))),
            ("demo:variable:app/b".to_owned(), seen("t5", Some("demo:policy:root"))),
        ]);
        for (oldest_listed, unclear) in [(5, vec![]), (6, vec!["demo:variable:app/a"])] {
            let mut inventory = Inventory::default();
            announced(&mut inventory, "sha", 4, "- !variable a\n- !variable b\n- !variable c\n");
            let versions: Vec<_> =
                (oldest_listed..oldest_listed + 20).map(|v| version(v, "x", "demo:user:admin")).collect();
            inventory.resolve("s", "app", &versions, true);
            assert!(!inventory.is_open("s", "app"));
            assert!(inventory.ours("s", "app", "demo", &there).is_empty());
            let found = inventory.unclear("s", "app", "demo", &there);
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), unclear, "from {oldest_listed}");
        }
    }

    #[test]
    fn the_same_load_tried_twice_is_one_and_what_was_made_anew_is_of_the_newer() {
        let mut inventory = Inventory::default();
        announced(&mut inventory, "sha", 4, "- !variable a\n");
        announced(&mut inventory, "sha", 6, "- !variable b\n");
        assert_eq!((inventory.loads.len(), inventory.loads[0].since), (1, 4));
        let others = [5, 6].map(|n| version(n, "x", "demo:user:admin"));
        let versions = [&others[..], &[version(7, "sha", "demo:host:ops")]].concat();
        inventory.resolve("s", "app", &versions, true);
        announced(&mut inventory, "next", 7, "- !variable b\n");
        inventory.resolve("s", "app", &[version(8, "next", "demo:host:ops")], true);
        let paths = |i: usize| inventory.loads[i].absent["variable"].iter().cloned().collect::<Vec<_>>();
        assert_eq!((paths(0), paths(1)), (vec!["a".to_owned()], vec!["b".to_owned()]));
        let json = serde_json::to_string(&inventory).unwrap();
        assert_eq!(serde_json::from_str::<Inventory>(&json).unwrap(), inventory);
    }

    #[test]
    fn where_an_earlier_try_is_no_longer_listed_what_it_may_have_made_is_unclear() {
        let mut inventory = Inventory::default();
        announced(&mut inventory, "sha", 4, "- !variable a\n- !variable b\n");
        announced(&mut inventory, "sha", 26, "- !variable c\n");
        let versions: Vec<_> = (8..27).map(|v| version(v, "x", "demo:user:admin")).collect();
        let versions = [&versions[..], &[version(27, "sha", "demo:host:ops")]].concat();
        inventory.resolve("s", "app", &versions, true);
        let policy = Some("demo:policy:app");
        let there = [("a", "t5"), ("c", "t27")]
            .map(|(name, at)| (format!("demo:variable:app/{name}"), seen(at, policy)));
        let there = BTreeMap::from(there);
        let ours = inventory.ours("s", "app", "demo", &there);
        assert_eq!(ours.keys().collect::<Vec<_>>(), ["demo:variable:app/c"]);
        let unclear = inventory.unclear("s", "app", "demo", &there);
        assert_eq!(unclear.iter().collect::<Vec<_>>(), ["demo:variable:app/a"]);
    }

    #[test]
    fn an_inventory_is_no_larger_than_its_document() {
        let text =
            (0..5000).fold(String::new(), |all, i| all + &format!("- !variable apps/service-{i}/password\n"));
        let mut inventory = Inventory::default();
        announced(&mut inventory, "sha", 0, &text);
        assert!(serde_json::to_vec(&inventory).unwrap().len() < text.len());
    }
}

//! A directory of policies, applied in any order.

use std::collections::BTreeMap;

use conjur_operator::api::ConjurPolicy;
use kube::api::{DeleteParams, ListParams};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use testbed::wait_for;

use super::super::{Bench, SOON, test};
use super::{policy, status};

/// Branches up to five deep, each made by a policy of the branch above it.
const BRANCHES: [&str; 17] = [
    "org",
    "org/a",
    "org/b",
    "org/c",
    "org/a/a",
    "org/a/b",
    "org/b/a",
    "org/c/a",
    "org/c/b",
    "org/a/a/a",
    "org/a/a/b",
    "org/b/a/a",
    "org/c/b/a",
    "org/a/a/a/a",
    "org/a/a/a/b",
    "org/b/a/a/a",
    "org/c/b/a/a",
];

/// 50 policies: by name, branch, further lines of the spec, and document.
fn directory() -> Vec<(String, String, String, String)> {
    let mut all = Vec::new();
    let name = |kind: &str, branch: &str| format!("{kind}-{}", branch.replace('/', "-"));
    for (i, branch) in BRANCHES.iter().enumerate() {
        let prefix = format!("{branch}/");
        let below =
            BRANCHES.iter().filter_map(|b| b.strip_prefix(&prefix)).filter(|rest| !rest.contains('/'));
        let policies = below.fold("- !group team\n- !variable password\n".to_owned(), |all, child| {
            all + "- !policy " + child + "\n"
        });
        all.push((name("tree", branch), (*branch).to_owned(), String::new(), policies));
        // Grants to a host of another branch, which may come later.
        let other = BRANCHES[(i * 7 + 3) % BRANCHES.len()];
        let grants = format!(
            "- !grant {{role: !group team, member: !host /{other}/web}}\n\
             - !permit {{role: !group /{other}/team, privileges: [read, execute], resource: !variable password}}\n"
        );
        all.push((name("grants", branch), (*branch).to_owned(), String::new(), grants));
        if i > 0 {
            let secret = name("keys", branch);
            let hosts = format!("createdRoles: {{secretName: {secret}}}");
            all.push((
                name("hosts", branch),
                (*branch).to_owned(),
                hosts,
                "- !host web\n- !user bot\n".to_owned(),
            ));
        }
    }
    let last = BRANCHES.len() * 3 - 1;
    assert_eq!((all.len(), last), (50, 50));
    // The one branch without hosts of its own is granted to by others.
    all[0].3 += "- !host web\n";
    "createdRoles: {secretName: keys-org}".clone_into(&mut all[0].2);
    all
}

async fn all_ready(bench: &Bench, count: usize) -> Vec<ConjurPolicy> {
    wait_for("all are Ready", SOON, || async {
        let all = bench.api::<ConjurPolicy>().list(&ListParams::default()).await.unwrap().items;
        let ready = |p: &&ConjurPolicy| {
            let conditions = p.status.clone().unwrap_or_default().conditions.unwrap_or_default();
            conditions.len() == 1 && conditions[0].status == "True"
        };
        (all.iter().filter(ready).count() == count).then_some(all)
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()))
}

#[test]
fn fifty_policies_in_random_order_converge_and_each_is_loaded_once() {
    test(|bench| async move {
        let seed: u64 = rand::random();
        eprintln!("the seed of this order is {seed}");
        bench.root("- !host ops\n- !policy {id: org, owner: !host ops}\n").await;
        bench.connect("host/ops").await;
        let mut all = directory();
        all.shuffle(&mut StdRng::seed_from_u64(seed));
        let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, branch, more, document) in &all {
            *expected.entry(branch).or_default() += 1;
            let more = format!("deletionPolicy: Delete\nbranch: {branch}\n{more}");
            bench.apply(&policy(name, more.trim_end(), document)).await;
        }
        let objects = all_ready(&bench, all.len()).await;
        for (branch, count) in expected {
            assert_eq!(super::version(&bench, branch), count, "{branch}, seed {seed}");
        }
        for object in &objects {
            for role in status(object).created_roles.unwrap_or_default() {
                let login = role.replacen("demo:host:", "host/", 1).replacen("demo:user:", "", 1);
                bench.keep_secret(bench.conjur.api_key_of(&login).unwrap());
            }
        }
        // And away again, all at once.
        bench
            .api::<ConjurPolicy>()
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await
            .unwrap();
        wait_for("all are gone", SOON, || async {
            let left = bench.api::<ConjurPolicy>().list(&ListParams::default()).await.unwrap().items;
            left.is_empty().then_some(())
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
        for branch in BRANCHES {
            assert_eq!(bench.conjur.exists("policy", branch), branch == "org", "{branch}, seed {seed}");
            assert!(!bench.conjur.exists("group", &format!("{branch}/team")), "{branch}, seed {seed}");
            assert!(!bench.conjur.exists("host", &format!("{branch}/web")), "{branch}, seed {seed}");
        }
    });
}

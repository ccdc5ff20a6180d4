//! `docs/conjurpolicy.md`, walked from its top to its end in one namespace.

use std::{collections::BTreeSet, fmt::Write as _};

use super::super::{Bench, setup::later, test};
use super::{
    Expected, after, tells_every_field,
    walk::{Step, Walk, flat, steps},
    without_example,
};

const PAGE: &str = include_str!("../../../../docs/conjurpolicy.md");
const ROOT: &str = include_str!("../../../../examples/gitops/root/root-policy.yml");

/// What is in the branch of the Replace, and not in its document.
const OTHER: &str = "apps/orders/of-others";

/// The branches of the page, owned by the host that loads them, and what lies in one of them before.
async fn prepare(bench: &Bench) {
    let branches: BTreeSet<&str> = after(PAGE, "\n  branch: apps/").collect();
    assert!(branches.len() > 6, "{branches:?}");
    let mut policy = String::from("- !host ops\n- !policy\n  id: apps\n  owner: !host ops\n  body:\n");
    for branch in branches {
        writeln!(policy, "  - !policy {{id: {branch}, owner: !host /ops}}").unwrap();
    }
    bench.root(&policy).await;
    bench.conjur.load("apps/orders", "- !variable of-others\n").await.unwrap();
    bench.set(OTHER);
    bench.connect("host/ops").await;
}

#[test]
fn every_example_and_command_of_a_policy_becomes_what_the_page_says() {
    test(|bench| async move {
        prepare(&bench).await;
        let (gitops, namespace) = (format!("{}-gitops", bench.namespace), &bench.namespace);
        let page = PAGE.replace("namespace: billing", &format!("namespace: {namespace}"));
        let page = page.replace("-n billing", &format!("-n {namespace}")).replace("conjur-policies", &gitops);
        let mut walk = Walk::of(bench.clone());
        let conjur = &bench.conjur;
        let (mut applied, mut ran) = (0, 0);
        for step in steps(flat(&page)) {
            match &step {
                Step::Command(command) if command.starts_with("conjur policy load ") => {
                    // The other examples have a branch of this name.
                    walk.policy = ROOT.replace("id: apps", "id: of-gitops").leak();
                }
                // Which of two is the older is told by the second.
                Step::Manifest(example) if matches!(example.expected, Expected::Says("BranchTaken")) => {
                    later().await;
                }
                _ => {}
            }
            walk.step(&step).await;
            match &step {
                Step::Manifest(example) if example.name == "orders" => {
                    assert!(conjur.variable(OTHER).is_some(), "a Replace deleted what it may not");
                }
                Step::Command(command) if command.contains("wait ") && command.contains("orders") => {
                    assert!(!conjur.exists("variable", OTHER), "what may be deleted stays");
                }
                Step::Manifest(example) if example.name == "jobs" => {
                    assert!(conjur.exists("variable", "apps/jobs/queue/password"));
                }
                Step::Command(command) if command.contains("delete conjurpolicy jobs") => {
                    assert!(!conjur.exists("variable", "apps/jobs/queue/password"));
                }
                _ => {}
            }
            applied += usize::from(matches!(step, Step::Manifest(_)));
            ran += usize::from(matches!(step, Step::Command(_)));
        }
        assert!(applied > 9 && ran > 8, "{applied} manifests, {ran} commands");
        assert!(!conjur.exists("variable", "apps/billing/smtp/password"), "a dry run loaded");
        assert!(
            !conjur.exists("variable", "apps/next-year/budget/password"),
            "a suspended policy was loaded"
        );
        let members = conjur.members("group", "apps/grants/members");
        assert!(!members.is_empty(), "the grant that waited for its group is not loaded");
        let permits = conjur.permits("variable", "apps/shop/db/password");
        assert!(permits.iter().any(|permit| permit.role == "demo:group:apps/shop/readers"), "{permits:?}");
        for login in ["host/apps/billing/web", "host/gitops"] {
            bench.keep_secret(conjur.api_key_of(login).unwrap());
        }
        walk.shell(&format!("kubectl delete namespace {gitops} --wait=false")).await.unwrap();
    });
}

#[test]
fn every_field_of_a_policy_is_on_the_page_and_in_an_example() {
    tells_every_field("ConjurPolicy", PAGE, "docs/conjurpolicy.md");
    let mut missing = without_example("ConjurPolicy", PAGE);
    // Which connections there are is told, and shown, by docs/connections.md.
    missing.remove("connectionRef.kind");
    assert!(missing.is_empty(), "docs/conjurpolicy.md has no example for {missing:?}");
}

#[test]
fn a_field_that_loses_its_example_is_missed() {
    let page = PAGE.replace("\n  suspend: true\n", "\n");
    assert!(page.contains("`suspend`"), "the table tells of it all the same");
    let missing = without_example("ConjurPolicy", page.leak());
    assert_eq!(missing, BTreeSet::from(["connectionRef.kind".to_owned(), "suspend".to_owned()]));
}

//! The examples of `docs/conjurpush.md`, and `examples/conjurpush.yaml`.

use std::collections::BTreeSet;

use super::super::{Bench, test};
use super::{Example, Expected, all_become, becomes, examples, names, policies, tells_every_field};

const PAGE: &str = include_str!("../../../../docs/conjurpush.md");
const EXAMPLE: &str = include_str!("../../../../examples/conjurpush.yaml");
const ROOT: &str = include_str!("../../../../examples/conjur/root-policy.yml");
/// The identity that the page has.
const PUSHER: &str = "host/apps/billing";

/// What a person has filled before.
const FILLED: [&str; 3] = ["apps/declared/by-hand", "apps/declared/handed-over", "apps/declared/once/first"];

/// Loads the policy of the page, and gives a value to what has one before it is pushed.
async fn prepare(bench: &Bench) {
    let policies = policies(PAGE);
    assert_eq!(policies.len(), 1);
    bench.root(&format!("{}\n", policies[0])).await;
    for id in FILLED {
        bench.set(id);
    }
    bench.connect(PUSHER).await;
}

#[test]
fn every_example_of_a_push_becomes_what_the_page_says() {
    test(|bench| async move {
        prepare(&bench).await;
        let examples = examples(PAGE);
        assert!(names(&examples).len() > 15);
        let before: Vec<_> = FILLED.iter().map(|id| bench.conjur.variable(id)).collect();
        all_become(&bench, &examples).await;
        let after: Vec<_> = FILLED.iter().map(|id| bench.conjur.variable(id)).collect();
        assert!(before[0] == after[0] && before[2] == after[2], "a value that is another's was replaced");
        assert!(before[1] != after[1], "what is adopted holds the former value");
        let permits = bench.conjur.permits("variable", "apps/billing/shown-to-others/token");
        let may =
            |role: &str| permits.iter().any(|permit| permit.role == role && permit.privilege == "execute");
        assert!(may("demo:group:apps/billing/readers") && may("demo:host:apps/web"), "{permits:?}");
    });
}

#[test]
fn every_field_of_a_push_is_on_the_page() {
    tells_every_field("ConjurPush", PAGE, "docs/conjurpush.md");
}

#[test]
fn the_example_of_a_push_is_in_conjur() {
    test(|bench| async move {
        bench.root(ROOT).await;
        bench.connect(PUSHER).await;
        let here = format!("namespace: {}", bench.namespace);
        bench.apply(&EXAMPLE.replace("namespace: billing", &here)).await;
        let example = Example {
            manifest: EXAMPLE,
            kind: "ConjurPush",
            name: "billing-generated",
            expected: Expected::Pushed(BTreeSet::from(["apps/billing/generated/session-key"])),
        };
        assert_eq!(becomes(&bench, &example).await, None);
    });
}

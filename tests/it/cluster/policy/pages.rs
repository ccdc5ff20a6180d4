//! The manifests of the documentation.

use conjur_operator::api::{ConjurPolicy, ConjurPolicyStatus};

use super::super::{Bench, test};
use super::status;

const PAGE: &str = include_str!("../../../../docs/conjurpolicy.md");
const EXAMPLE: &str = include_str!("../../../../examples/conjurpolicy.yaml");

/// Applies a manifest for the branch `apps/billing`, and waits until it is Ready.
async fn applied(bench: &Bench, manifest: &str) -> ConjurPolicyStatus {
    bench
        .root("- !host ops\n- !policy\n  id: apps\n  body:\n  - !policy {id: billing, owner: !host /ops}\n")
        .await;
    bench.connect("host/ops").await;
    assert!(manifest.contains("namespace: billing"), "{manifest}");
    bench.apply(&manifest.replace("namespace: billing", &format!("namespace: {}", bench.namespace))).await;
    let ready = status(&bench.ready::<ConjurPolicy>("billing").await);
    let data = bench.data("billing-roles").await.unwrap();
    let key = bench.conjur.api_key_of("host/apps/billing/web").unwrap();
    bench.keep_secret(key.clone());
    assert!(data["host.apps_2fbilling_2fweb.api-key"] == key);
    assert_eq!(data["host.apps_2fbilling_2fweb.login"], "host/apps/billing/web");
    assert!(bench.conjur.exists("variable", "apps/billing/db/password"));
    ready
}

#[test]
fn the_first_manifest_of_the_page_becomes_what_the_page_says() {
    test(|bench| async move {
        let manifest = PAGE.split("\n```yaml\n").nth(1).and_then(|block| block.split_once("\n```\n"));
        let ready = applied(&bench, manifest.unwrap().0).await;
        assert_eq!(ready.created_roles.unwrap(), ["demo:host:apps/billing/web"]);
        for key in bench.data("billing-roles").await.unwrap().into_keys() {
            assert!(PAGE.contains(&format!("| `{key}` |")), "{key}");
        }
    });
}

#[test]
fn the_example_becomes_ready_and_its_host_may_read() {
    test(|bench| async move {
        let ready = applied(&bench, EXAMPLE).await;
        assert_eq!((ready.version, ready.loaded_hash), (Some(1), ready.document_hash));
        for key in bench.data("billing-roles").await.unwrap().into_keys() {
            assert!(EXAMPLE.contains(&key), "{key}");
        }
    });
}

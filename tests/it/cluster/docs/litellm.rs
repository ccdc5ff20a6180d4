//! The manifests of `docs/litellm.md`, in their order, as one namespace.

use k8s_openapi::api::apps::v1::Deployment;
use testbed::wait_for;

use super::super::{
    Bench, SOON,
    setup::{eventually, synced},
    test,
};
use super::{Example, Expected, becomes, examples};

const PAGE: &str = include_str!("../../../../docs/litellm.md");
const PROVIDERS: [&str; 2] = ["litellm/providers/OPENAI_API_KEY", "litellm/providers/ANTHROPIC_API_KEY"];
/// What LiteLLM writes through the root policy.
const WRITTEN: &str = "litellm/by-the-proxy";

/// A manifest as it is applied here.
fn here(bench: &Bench, manifest: &str) -> String {
    let namespace = format!("namespace: {}", bench.namespace);
    let url = format!("url: {}", bench.conjur.url());
    let here = [
        ("namespace: conjur-policies", namespace.as_str()),
        ("namespace: litellm", &namespace),
        ("url: https://conjur.example.com", &url),
        ("account: myorg", "account: demo"),
    ];
    here.iter().fold(manifest.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// What the page says is done by people, or by LiteLLM, before an example is applied.
async fn before(bench: &Bench, example: &Example) {
    match (example.kind, example.name) {
        ("ConjurConnection", "conjur-root") => {
            bench.put_secret("conjur-root", &[("api-key", &bench.conjur.admin_key())]).await;
        }
        // The key comes from the Secret of the policy.
        ("ConjurConnection", "conjur") => {
            let roles = bench.data("root-roles").await.unwrap();
            let key = &roles["host.litellm-operator.api-key"];
            bench.keep_secret(key.clone());
            bench.put_secret("conjur-login", &[("api-key", key)]).await;
        }
        ("ConjurSecret", "litellm-providers") => PROVIDERS.iter().for_each(|id| _ = bench.set(id)),
        ("ConjurPolicy", "root") if matches!(example.expected, Expected::Says(_)) => {
            bench.root(&format!("- !variable \"{WRITTEN}\"\n")).await;
            bench.set(WRITTEN);
        }
        _ => {}
    }
}

#[test]
fn every_manifest_for_litellm_becomes_what_the_page_says() {
    test(|bench| async move {
        let examples = examples(PAGE);
        let mut refused = 0;
        for example in &examples {
            before(&bench, example).await;
            bench.apply(&here(&bench, example.manifest)).await;
            if let Some(wrong) = becomes(&bench, example).await {
                panic!("{wrong}");
            }
            if matches!(example.expected, Expected::Says("DeletionsNotAllowed")) {
                assert!(bench.conjur.variable(WRITTEN).is_some(), "a Replace deleted what LiteLLM wrote");
                let object = bench.kubectl(&["get", "conjurpolicy", "root", "-o", "yaml"]).await;
                assert!(object.contains(WRITTEN), "{object}");
                refused += 1;
            }
        }
        assert_eq!(refused, 1);
        assert!(!bench.conjur.exists("variable", WRITTEN), "what is taken out by name is gone");
        readers_may_read(&bench);
        a_changed_provider_key_restarts_the_proxy(&bench).await;
        deletion_is_as_the_page_says(&bench).await;
    });
}

/// Virtual keys and providers' keys are readable for the group, and nothing of theirs lies in the root policy.
fn readers_may_read(bench: &Bench) {
    for id in ["litellm/team-a", "litellm/team-b", "litellm/batch", "litellm/chat"].iter().chain(&PROVIDERS) {
        let permits = bench.conjur.permits("variable", id);
        let may = |privilege: &str| {
            permits.iter().any(|p| p.role == "demo:group:litellm/readers" && p.privilege == privilege)
        };
        assert!(may("read") && may("execute") && !may("update"), "{id}: {permits:?}");
    }
}

async fn a_changed_provider_key_restarts_the_proxy(bench: &Bench) {
    bench.set(PROVIDERS[0]);
    synced(bench, "litellm-providers", "a new key").await;
    let restarted = || async {
        let deployment = bench.api::<Deployment>().get("litellm").await.ok()?;
        let annotations = deployment.spec?.template.metadata?.annotations?;
        annotations.contains_key("conjur-operator.io/revision.litellm-providers").then_some(())
    };
    wait_for("a restart of the proxy", SOON, restarted).await.unwrap();
}

async fn deletion_is_as_the_page_says(bench: &Bench) {
    let gone = |id: &'static str| {
        let conjur = bench.conjur.clone();
        move || !conjur.exists("variable", id)
    };
    bench.kubectl(&["delete", "secret", "team-b"]).await;
    eventually("the variable of a Secret that is deleted goes", gone("litellm/team-b")).await;
    assert!(bench.conjur.variable("litellm/team-a").is_some());
    bench.kubectl(&["delete", "conjurpush", "litellm-keys", "litellm-virtual-keys"]).await;
    eventually("what a push made goes with it", gone("litellm/team-a")).await;
    assert!(bench.conjur.variable("litellm/batch").is_some(), "what is retained stays");
}

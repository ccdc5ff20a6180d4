//! Documents that lie in ConfigMaps and Secrets.

use conjur_operator::{api::ConjurPolicy, seams::document_hash};

use super::super::{alone, setup::api_requests, test};
use super::{
    Bench, billing, keys_in, keys_work, loads, policy_from, put_config_map, settled, status, version,
};

const ONE: (&str, &str, &str) = ("ConfigMap", "one", "policy.yml");

/// How often the operator read a ConfigMap or Secret.
fn reads(bench: &Bench, name: &str) -> usize {
    api_requests(bench).iter().filter(|r| r.verb == "get" && r.name == name).count()
}

/// Waits until the document with this text is loaded.
async fn loaded(bench: &Bench, name: &str, text: &str) -> ConjurPolicy {
    let hash = document_hash(text.as_bytes());
    let object = bench
        .until("loaded", name, |p: &ConjurPolicy| {
            p.status.as_ref().is_some_and(|s| s.loaded_hash.as_deref() == Some(&hash))
        })
        .await;
    assert_eq!(status(&object).document_hash, Some(hash));
    object
}

#[test]
fn sources_are_joined_in_their_order_with_newlines_between_them() {
    test(|bench| async move {
        billing(&bench).await;
        put_config_map(&bench, "one", &[("policy.yml", "- !variable one"), ("more", "- !host web\n")]).await;
        bench.put_secret("two", &[("policy", "- !variable two\n")]).await;
        let sources = [ONE, ("Secret", "two", "policy"), ("ConfigMap", "one", "more")];
        bench.apply(&policy_from("p", &keys_in("roles"), &sources)).await;
        bench.ready::<ConjurPolicy>("p").await;
        let text = "- !variable one\n- !variable two\n- !host web\n";
        loaded(&bench, "p", text).await;
        assert_eq!(bench.conjur.policy_versions("billing").pop().unwrap().text, text);
        keys_work(&bench, "roles", &["web"]).await;
    });
}

#[test]
fn a_change_of_any_source_is_loaded_by_itself_and_only_then() {
    test(|bench| async move {
        billing(&bench).await;
        put_config_map(&bench, "one", &[("policy.yml", "- !variable one\n")]).await;
        bench.put_secret("two", &[("policy", "- !variable two\n")]).await;
        bench.apply(&policy_from("p", "", &[ONE, ("Secret", "two", "policy")])).await;
        loaded(&bench, "p", "- !variable one\n- !variable two\n").await;
        bench.put_secret("two", &[("policy", "- !variable two\n- !variable three\n")]).await;
        loaded(&bench, "p", "- !variable one\n- !variable two\n- !variable three\n").await;
        assert!(bench.conjur.exists("variable", "billing/three"));
        put_config_map(&bench, "one", &[("policy.yml", "- !variable four\n")]).await;
        loaded(&bench, "p", "- !variable four\n- !variable two\n- !variable three\n").await;
        assert_eq!(version(&bench, "billing"), 3);
        // A label changes the ConfigMap, and not the document; a look at the object reads nothing.
        bench.kubectl(&["label", "configmap", "one", "looked=at"]).await;
        settled(&bench, "label").await;
        let before = (reads(&bench, "one"), reads(&bench, "two"));
        bench.kubectl(&["annotate", "conjurpolicy", "p", "look=again"]).await;
        settled(&bench, "annotation").await;
        assert_eq!((reads(&bench, "one"), reads(&bench, "two")), before);
        assert_eq!(version(&bench, "billing"), 3);
    });
}

#[test]
fn a_restart_reads_each_source_once_and_loads_nothing() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        put_config_map(&bench, "one", &[("policy.yml", "- !variable one\n")]).await;
        bench.apply(&policy_from("p", "", &[ONE])).await;
        bench.ready::<ConjurPolicy>("p").await;
        settled(&bench, "before").await;
        let before = reads(&bench, "one");
        operator.restart().await.unwrap();
        settled(&bench, "after").await;
        bench.kubectl(&["annotate", "conjurpolicy", "p", "look=again"]).await;
        settled(&bench, "later").await;
        assert!(reads(&bench, "one") <= before + 1, "{} reads", reads(&bench, "one") - before);
        assert_eq!(version(&bench, "billing"), 1);
    });
}

#[test]
fn a_missing_source_is_named_and_waited_for() {
    test(|bench| async move {
        billing(&bench).await;
        let sources = [ONE, ("Secret", "two", "policy")];
        bench.apply(&policy_from("p", "", &sources)).await;
        let message = bench.says::<ConjurPolicy>("p", "DocumentNotFound").await;
        assert!(
            message.contains("spec.documentFrom[0]: ConfigMap") && message.contains("/one does not exist"),
            "{message}"
        );
        put_config_map(&bench, "one", &[("policy.yml", "- !variable one\n")]).await;
        bench.until("the other one", "p", |p: &ConjurPolicy| says(p, "spec.documentFrom[1]: Secret")).await;
        bench.put_secret("two", &[("other", "x")]).await;
        bench.until("its key", "p", |p: &ConjurPolicy| says(p, "/two has no key 'policy'")).await;
        assert_eq!(loads(&bench), 0);
        bench.put_secret("two", &[("policy", "- !variable two\n")]).await;
        bench.ready::<ConjurPolicy>("p").await;
        // What is loaded stays, and the object says that its document is gone.
        bench.kubectl(&["delete", "configmap", "one"]).await;
        bench.says::<ConjurPolicy>("p", "DocumentNotFound").await;
        assert!(bench.conjur.exists("variable", "billing/one"));
        put_config_map(&bench, "one", &[("policy.yml", "- !variable one\n")]).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(version(&bench, "billing"), 1, "and nothing is loaded again when it is back");
    });
}

fn says(object: &ConjurPolicy, text: &str) -> bool {
    let conditions = object.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    conditions.iter().any(|c| c.message.contains(text))
}

#[test]
fn an_error_names_the_source_and_the_line_within_it() {
    test(|bench| async move {
        billing(&bench).await;
        put_config_map(&bench, "one", &[("policy.yml", "- !variable one\n- !variable two")]).await;
        put_config_map(&bench, "yaml", &[("b", "# a comment\n- [\n")]).await;
        put_config_map(&bench, "tag", &[("b", "- !variable three\n- !vriable four\n")]).await;
        put_config_map(&bench, "host", &[("b", "\n- !host web\n")]).await;
        for (name, reason, says) in [
            ("yaml", "PolicyInvalid", "spec.documentFrom[1] (ConfigMap yaml, key b), line "),
            (
                "tag",
                "PolicyInvalid",
                "Conjur refuses the document: spec.documentFrom[1] (ConfigMap tag, key b), line 2, column",
            ),
            ("host", "CreatedRolesRequired", "spec.documentFrom[1] (ConfigMap host, key b), line 2: "),
        ] {
            bench.apply(&policy_from(name, "", &[ONE, ("ConfigMap", name, "b")])).await;
            let message = bench.says::<ConjurPolicy>(name, reason).await;
            assert!(message.contains(says), "{name}: {message}");
        }
        let bytes = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "bytes" }, "binaryData": { "b": "LSDDqf8=" }
        });
        bench.apply(&bytes.to_string()).await;
        bench.apply(&policy_from("bytes", "", &[ONE, ("ConfigMap", "bytes", "b")])).await;
        let message = bench.says::<ConjurPolicy>("bytes", "PolicyInvalid").await;
        assert!(
            message.contains(
                "spec.documentFrom[1] (ConfigMap bytes, key b), line 1, column 4: this is not UTF-8"
            ),
            "{message}"
        );
    });
}

#[test]
fn a_secrets_document_is_quoted_nowhere() {
    test(|bench| async move {
        billing(&bench).await;
        let hidden = bench.secret_value("in-a-document");
        for (name, document) in
            [("tag", format!("- !variable v\n- !{hidden} v\n")), ("yaml", format!("- [ {hidden}\n"))]
        {
            bench.put_secret(name, &[("b", &document)]).await;
            bench.apply(&policy_from(name, "", &[("Secret", name, "b")])).await;
            let message = bench.says::<ConjurPolicy>(name, "PolicyInvalid").await;
            assert!(
                message.contains(&format!("spec.documentFrom[0] (Secret {name}, key b), line ")),
                "{message}"
            );
        }
    });
}

#[test]
fn a_document_of_over_ten_mebibytes_is_refused_and_a_large_one_is_loaded() {
    test(|bench| async move {
        billing(&bench).await;
        let piece = format!("# {}\n", "x".repeat(1_000_000));
        let mut sources = Vec::new();
        let names: Vec<String> = (0..11).map(|n| format!("part-{n}")).collect();
        for (n, name) in names.iter().enumerate() {
            put_config_map(&bench, name, &[("b", &format!("{piece}- !variable v{n}\n"))]).await;
            sources.push(("ConfigMap", name.as_str(), "b"));
        }
        bench.apply(&policy_from("p", "", &sources)).await;
        let message = bench.says::<ConjurPolicy>("p", "PolicyInvalid").await;
        assert!(message.contains("10 MiB"), "{message}");
        assert_eq!(loads(&bench), 0);
        bench.apply(&policy_from("p", "", &sources[..10])).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(bench.conjur.exists("variable", "billing/v9"));
    });
}

//! The Secret that keeps the key: its templates, its labels, what restarts for it, and what it does not give away.

use conjur_dev::Kind;
use conjur_operator::api::ConjurHost;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    super::{
        Bench, SOON,
        setup::{edit, put, secret},
        test,
    },
    annotate, billing, change, host, rotated, status, works,
};

#[test]
fn a_template_adds_keys_to_login_and_api_key() {
    test(|bench| async move {
        billing(&bench).await;
        let template = json!({ "data": {
            "CONJUR_AUTHN_LOGIN": "{{ login | urlencode }}", "CONJUR_AUTHN_API_KEY": "{{ api_key }}",
            "where": "{{ account }} at {{ url }}{{ ca }}",
        } });
        let target = json!({
            "name": "web-env", "labels": { "team": "pay" }, "annotations": { "note": "x" }, "template": template,
        });
        put(&bench, &host("web", &json!({ "target": target }))).await;
        bench.ready::<ConjurHost>("web").await;
        let data = works(&bench, "web-env", "host/billing/web").await;
        assert_eq!(data["CONJUR_AUTHN_LOGIN"], "host%2Fbilling%2Fweb");
        assert_eq!(data["CONJUR_AUTHN_API_KEY"], data["api-key"]);
        assert_eq!(data["where"], format!("demo at {}", bench.conjur.url()));
        let made = secret(&bench, "web-env").await;
        assert_eq!((made.labels()["team"].as_str(), made.annotations()["note"].as_str()), ("pay", "x"));
        assert_eq!(made.annotations()["conjur-operator.io/owner"], "ConjurHost/web");
        assert!(made.annotations().contains_key("conjur-operator.io/server"));
        // Another template changes the Secret, and not the key.
        let less = json!({ "spec": { "target": { "template": { "data": { "where": null, "CONJUR_AUTHN_API_KEY": null } } } } });
        change(&bench, "web", less).await;
        bench.ready::<ConjurHost>("web").await;
        let data = works(&bench, "web-env", "host/billing/web").await;
        assert_eq!(
            data.keys().map(String::as_str).collect::<Vec<_>>(),
            ["CONJUR_AUTHN_LOGIN", "api-key", "login"]
        );
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
    });
}

#[test]
fn what_someone_edits_of_the_secret_is_written_again_and_the_key_stays() {
    test(|bench| async move {
        billing(&bench).await;
        let template = json!({ "data": { "url": "{{ url }}" } });
        put(&bench, &host("web", &json!({ "target": { "template": template, "labels": { "a": "b" } } })))
            .await;
        bench.ready::<ConjurHost>("web").await;
        let before = works(&bench, "web", "host/billing/web").await;
        edit(&bench, "web", json!({ "stringData": { "url": "elsewhere" }, "metadata": { "labels": { "a": "c", "theirs": "x" } } })).await;
        wait_for("it is written again", SOON, || async {
            let now = secret(&bench, "web").await;
            (bench.data("web").await.as_ref() == Some(&before) && now.labels()["a"] == "b").then_some(())
        })
        .await
        .unwrap();
        assert_eq!(secret(&bench, "web").await.labels()["theirs"], "x", "what others put there stays");
        bench.events("DriftRepaired", "web").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
    });
}

#[test]
fn a_foreign_secret_is_refused_unless_it_may_be_adopted_and_then_never_goes() {
    test(|bench| async move {
        billing(&bench).await;
        bench.put_secret("web", &[("theirs", "x")]).await;
        put(&bench, &host("web", &json!({ "deletionPolicy": "Delete" }))).await;
        let message = bench.says::<ConjurHost>("web", "ForeignSecret").await;
        assert!(message.contains("conjur-operator.io/adopt=ConjurHost/web"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/web"), "no host is made whose key can't be kept");
        edit(
            &bench,
            "web",
            json!({ "metadata": { "annotations": { "conjur-operator.io/adopt": "ConjurHost/web" } } }),
        )
        .await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        bench.kubectl(&["delete", "conjurhost", "web"]).await;
        assert!(!bench.conjur.exists("host", "billing/web"));
        assert!(bench.data("web").await.is_some(), "an adopted Secret never goes");
    });
}

#[test]
fn another_name_takes_the_key_along_and_leaves_the_old_secret() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        change(&bench, "web", json!({ "spec": { "target": { "name": "other" } } })).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "other", "host/billing/web").await;
        assert!(bench.data("web").await.is_some(), "a Secret goes only with its host");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        assert_eq!(status(&bench.ready::<ConjurHost>("web").await).target.unwrap().name, "other");
    });
}

#[test]
fn a_secret_with_the_key_of_another_server_or_host_is_not_overwritten() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        let before = works(&bench, "web", "host/billing/web").await;
        let other = super::super::login::with(&bench, conjur_dev::Options::default()).await;
        other.root("- !host ops\n- !policy\n  id: billing\n  owner: !host ops\n").await;
        let key = other.conjur.api_key_of("host/ops").unwrap();
        other.keep_secret(key.clone());
        bench.put_secret("other-login", &[("api-key", &key)]).await;
        let manifest = other.connection("other", "host/ops").replace("conjur-login", "other-login");
        bench.apply(&manifest).await;
        bench.ready::<conjur_operator::api::ConjurConnection>("other").await;
        change(&bench, "web", json!({ "spec": { "connectionRef": { "name": "other" } } })).await;
        let message = bench.says::<ConjurHost>("web", "InvalidSpec").await;
        assert!(message.contains("another server") && message.contains("spec.target.name"), "{message}");
        assert_eq!(bench.data("web").await.as_ref(), Some(&before));
        assert!(!other.conjur.exists("host", "billing/web"));
        change(&bench, "web", json!({ "spec": { "target": { "name": "elsewhere" } } })).await;
        bench.ready::<ConjurHost>("web").await;
        let there = other.conjur.api_key_of("host/billing/web").unwrap();
        bench.keep_secret(there.clone());
        assert_eq!(bench.data("elsewhere").await.unwrap()["api-key"], there);
        assert_eq!(bench.data("web").await.as_ref(), Some(&before), "it still works on the first server");
        // Another object of the name, for another host.
        bench.kubectl(&["delete", "conjurhost", "web"]).await;
        put(&bench, &host("web", &json!({ "id": "billing/second" }))).await;
        let message = bench.says::<ConjurHost>("web", "InvalidSpec").await;
        assert!(message.contains("another host"), "{message}");
        assert_eq!(bench.data("web").await.as_ref(), Some(&before));
        other.conjur.stop().await;
    });
}

fn deployment(name: &str) -> Deployment {
    let value: Value = json!({
        "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } },
        },
    });
    serde_json::from_value(value).unwrap()
}

#[test]
fn workloads_are_restarted_for_another_key_and_not_for_the_first() {
    test(|bench| async move {
        billing(&bench).await;
        let deployments = bench.api::<Deployment>();
        deployments.create(&PostParams::default(), &deployment("web")).await.unwrap();
        let more = json!({ "rolloutRestart": [{ "kind": "Deployment", "name": "web" }] });
        put(&bench, &host("web", &more)).await;
        bench.ready::<ConjurHost>("web").await;
        let restarts = || async {
            let deployment = deployments.get("web").await.unwrap();
            let template = deployment.spec.unwrap().template.metadata.unwrap();
            template.annotations.unwrap_or_default().get("conjur-operator.io/revision.web").cloned()
        };
        assert_eq!(restarts().await, None, "the first write restarts nothing");
        rotated(&bench, "web", "x").await;
        let is_done = |h: &ConjurHost| {
            let said = status(h);
            said.rolled_out.is_some_and(|rolled_out| rolled_out.ends_with("-2")) && said.revision.is_some()
        };
        let object: ConjurHost = bench.until("the restart", "web", is_done).await;
        let revision = status(&object).revision.unwrap();
        assert_eq!(restarts().await, Some(revision.clone()));
        assert_eq!(status(&object).rolled_out, Some(revision.clone()));
        assert_eq!(secret(&bench, "web").await.annotations()["conjur-operator.io/revision"], revision);
        works(&bench, "web", "host/billing/web").await;
        let secrets = bench.api::<Secret>().list(&ListParams::default()).await.unwrap();
        assert_eq!(secrets.items.len(), 2, "the login and the one");
    });
}

/// Has the API server refuse changes of Secrets in the test's namespace, or take them again, and waits until it does.
async fn refuse_changes(bench: &Bench, refuses: bool) {
    let name = format!("secrets-{}", bench.namespace);
    let namespace = &bench.namespace;
    if refuses {
        let policy = format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             matchConstraints:\n    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}\n    \
             resourceRules: [{{apiGroups: [''], apiVersions: [v1], operations: [UPDATE], resources: [secrets]}}]\n  \
             validations: [{{expression: 'false', message: no change today}}]\n---\n\
             apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: {name}}}\n\
             spec: {{policyName: {name}, validationActions: [Deny]}}\n"
        );
        bench.apply(&policy).await;
    } else {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            bench.kubectl(&["delete", kind, &name]).await;
        }
    }
    let probe = Patch::Merge(json!({ "metadata": { "labels": { "probe": "x" } } }));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let api = bench.api::<Secret>();
    wait_for("the admission policy", SOON, || async {
        (api.patch("web", &params, &probe).await.is_err() == refuses).then_some(())
    })
    .await
    .unwrap();
}

#[test]
fn where_an_admission_policy_refuses_the_secret_no_rotation_begins() {
    test(|bench| async move {
        billing(&bench).await;
        put(&bench, &host("web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        let before = works(&bench, "web", "host/billing/web").await;
        refuse_changes(&bench, true).await;
        annotate(&bench, "web", "rotate-now", "x").await;
        let message = bench.says::<ConjurHost>("web", "InvalidSpec").await;
        let policy = format!("ValidatingAdmissionPolicy secrets-{}", bench.namespace);
        assert!(message.contains(&policy) && message.contains("/web"), "{message}");
        assert_eq!((bench.conjur.count(Kind::Rotate), bench.data("web").await), (0, Some(before)));
        assert!(status(&bench.api::<ConjurHost>().get("web").await.unwrap()).pending.is_none());
        works(&bench, "web", "host/billing/web").await;
        refuse_changes(&bench, false).await;
        annotate(&bench, "web", "sync-now", "x").await;
        let handled = |h: &ConjurHost| status(h).last_handled_rotate_now.as_deref() == Some("x");
        bench.until("the rotation", "web", handled).await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1));
    });
}

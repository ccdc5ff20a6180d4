//! Labels and annotations that GitOps tools track objects by are not copied to what the operator writes.

use conjur_operator::api::{ConjurConnection, ConjurHost, ConjurPolicy, ConjurPush, ConjurSecret};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret, events::v1::Event};
use kube::{
    Api, Resource, ResourceExt,
    api::{DynamicObject, ListParams, PostParams},
    core::ApiResource,
};
use serde_json::{Value, json};

use super::{Bench, SOON, test};

const LABELS: [&str; 7] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "argocd.argoproj.io/instance",
    "helm.sh/chart",
    "helm.toolkit.fluxcd.io/name",
    "kustomize.toolkit.fluxcd.io/name",
    "kustomize.toolkit.fluxcd.io/namespace",
];
const ANNOTATIONS: [&str; 8] = [
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/sync-wave",
    "config.kubernetes.io/origin",
    "helm.sh/resource-policy",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kustomize.toolkit.fluxcd.io/checksum",
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
];
/// The value of all of them.
const TRACKED: &str = "tracked-by-a-tool";

async fn put(bench: &Bench, kind: &str, name: &str, spec: Value) {
    let all = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), json!(TRACKED))).collect();
    let (labels, annotations): (Value, Value) =
        (Value::Object(all(&LABELS)), Value::Object(all(&ANNOTATIONS)));
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": kind,
        "metadata": { "name": name, "labels": labels, "annotations": annotations }, "spec": spec,
    }))
    .unwrap();
    super::setup::untyped(bench, kind).create(&PostParams::default(), &object).await.unwrap();
}

/// Everything of a kind in the test's namespace, as JSON.
async fn all<K>(bench: &Bench) -> Vec<Value>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let resource = ApiResource::erase::<K>(&());
    let objects = Api::<DynamicObject>::namespaced_with(bench.client.clone(), &bench.namespace, &resource);
    let list = objects.list(&ListParams::default()).await.unwrap();
    list.items.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
}

#[test]
fn what_tools_track_objects_by_is_copied_to_nothing_that_is_written() {
    test(|bench| async move {
        bench
            .root("- !host ops\n- !policy {id: apps, owner: !host ops, body: [!variable a]}\n- !policy {id: second, owner: !host ops}\n")
            .await;
        bench.set("apps/a");
        let key = bench.conjur.api_key_of("host/ops").unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        bench.put_secret("generated", &[("key", &bench.secret_value("generated"))]).await;
        bench.put_secret("shared", &[("of", "another")]).await;
        bench
            .apply(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\nspec:\n  selector: {matchLabels: {app: app}}\n  \
                 template: {metadata: {labels: {app: app}}, spec: {containers: [{name: app, image: none}]}}\n",
            )
            .await;
        let auth = json!({ "apiKey": { "login": "host/ops", "apiKeySecretRef": { "name": "conjur-login", "key": "api-key" } } });
        put(
            &bench,
            "ConjurConnection",
            "conjur",
            json!({ "url": bench.conjur.url(), "account": "demo", "auth": auth }),
        )
        .await;
        let of = |more: Value| {
            let mut spec = json!({ "connectionRef": { "name": "conjur" } });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        let data = json!([{ "key": "a", "variable": "apps/a" }]);
        let explicit = json!({
            "labels": { "argocd.argoproj.io/secret-type": "repository" },
            "annotations": { "argocd.argoproj.io/sync-options": "Prune=false" },
        });
        let restarts = json!([{ "kind": "Deployment", "name": "app" }]);
        put(
            &bench,
            "ConjurSecret",
            "own",
            of(json!({ "data": data, "target": explicit, "rolloutRestart": restarts })),
        )
        .await;
        let merge = json!({ "name": "shared", "creationPolicy": "Merge", "deletionPolicy": "Retain" });
        put(&bench, "ConjurSecret", "merged", of(json!({ "data": data, "target": merge }))).await;
        let roles = json!({ "secretName": "roles" });
        let policy = json!({ "branch": "second", "document": "- !host made\n- !variable v\n", "createdRoles": roles, "deletionPolicy": "Delete" });
        put(&bench, "ConjurPolicy", "policy", of(policy)).await;
        let source = json!({ "secretRef": { "name": "generated" } });
        let push = json!({ "source": source, "prefix": "apps/", "createVariables": { "branch": "apps" } });
        put(&bench, "ConjurPush", "push", of(push)).await;
        put(&bench, "ConjurHost", "web", of(json!({ "id": "apps/web", "rolloutRestart": restarts }))).await;
        bench.ready::<ConjurConnection>("conjur").await;
        bench.ready::<ConjurSecret>("own").await;
        bench.ready::<ConjurSecret>("merged").await;
        bench.ready::<ConjurPolicy>("policy").await;
        bench.ready::<ConjurPush>("push").await;
        bench.ready::<ConjurHost>("web").await;

        // A changed value restarts the workload; an edit is repaired with an Event.
        bench.set("apps/a");
        super::setup::sync_now(&bench, "own", "changed").await;
        let restarted = || async {
            let app = bench.api::<Deployment>().get("app").await.ok()?;
            app.spec?.template.metadata?.annotations.filter(|a| !a.is_empty())
        };
        testbed::wait_for("the workload is restarted", SOON, restarted).await.unwrap();
        bench.events("RolloutRestarted", "").await;

        let written =
            [all::<Secret>(&bench).await, all::<Deployment>(&bench).await, all::<Event>(&bench).await];
        let names = |objects: &[Value]| {
            let names = objects.iter().filter_map(|object| object["metadata"]["name"].as_str());
            names.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        for secret in ["own", "shared", "roles", "web"] {
            assert!(names(&written[0]).contains(secret), "no Secret {secret}: {:?}", names(&written[0]));
        }
        for object in written.iter().flatten() {
            assert!(!object.to_string().contains(TRACKED), "{object}");
        }
        for (kind, id) in [("host", "apps/web"), ("host", "second/made"), ("variable", "apps/key")] {
            assert!(bench.conjur.exists(kind, id), "no {kind} {id}");
            let annotations = bench.conjur.annotations(kind, id);
            assert!(!format!("{annotations:?}").contains(TRACKED), "{kind} {id}: {annotations:?}");
        }

        // What the spec names is set, for Argo CD reads its repositories from such Secrets.
        let own = bench.api::<Secret>().get("own").await.unwrap();
        let label = own.labels().get("argocd.argoproj.io/secret-type").map(String::as_str);
        assert_eq!(label, Some("repository"));
        let kept = own.annotations().get("argocd.argoproj.io/sync-options").map(String::as_str);
        assert_eq!(kept, Some("Prune=false"));
    });
}

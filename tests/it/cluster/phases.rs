//! Each kind in each phase, as GitOps tools judge it. What `gitops/argocd` has for Argo CD's own tests is what is seen here:
//! with `CONJUR_OPERATOR_RECORD=1` it is written anew, else it is compared.

use conjur_dev::{Effect, Fault, When};
use conjur_operator::api::{ClusterConjurConnection, ConjurConnection};
use kube::{
    Api, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use super::{Bench, test};
use crate::gitops::{phase::Phase, record};

/// A kind, and what to ask for so that it is in each phase.
struct Case {
    kind: &'static str,
    good: Value,
    /// What waits, and for what.
    waiting: Value,
    stalled: Value,
    /// Whether the good one is looked at again within seconds, so that a fault of the server shows.
    refreshes: bool,
}

const LOGIN: &str = "host/ops";

fn cases(bench: &Bench) -> Vec<Case> {
    let of = |more: Value| {
        let mut spec = json!({ "connectionRef": { "name": "conjur" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let reads = |variable: &str, more: Value| {
        let mut spec = of(
            json!({ "refreshInterval": "10s", "data": [{ "key": "a", "variable": format!("apps/{variable}") }] }),
        );
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let loads = |branch: &str, document: &str| {
        of(json!({ "branch": branch, "document": document, "driftCheckInterval": "10s" }))
    };
    let pushes = |secret: &str, prefix: &str| {
        of(json!({
            "source": { "secretRef": { "name": secret } }, "prefix": prefix,
            "createVariables": { "branch": "apps" }, "driftCheckInterval": "10s",
        }))
    };
    let connects = |secret: &str, url: &str, namespace: Option<&str>| {
        let mut key = json!({ "name": secret, "key": "api-key" });
        if let Some(namespace) = namespace {
            key["namespace"] = namespace.into();
        }
        let auth = json!({ "apiKey": { "login": LOGIN, "apiKeySecretRef": key } });
        json!({ "url": url, "account": "demo", "auth": auth })
    };
    let url = &bench.conjur.url();
    let here = Some(bench.namespace.as_str());
    let case = |kind, good, waiting, stalled, refreshes| Case { kind, good, waiting, stalled, refreshes };
    let foreign = json!({ "target": { "name": "foreign" } });
    vec![
        case("ConjurSecret", reads("a", json!({})), reads("none", json!({})), reads("a", foreign), true),
        case(
            "ConjurPolicy",
            loads("apps", "- !variable v\n"),
            loads("none", "- !variable v\n"),
            loads("apps", "- !vriable v\n"),
            true,
        ),
        case(
            "ConjurPush",
            pushes("keys", "apps/"),
            pushes("none", "apps/"),
            pushes("keys", "outside/"),
            true,
        ),
        case(
            "ConjurHost",
            of(json!({ "id": "apps/web", "target": { "name": "web" } })),
            of(json!({ "id": "none/web" })),
            of(json!({ "id": "apps/old" })),
            false,
        ),
        case(
            "ConjurConnection",
            connects("conjur-login", url, None),
            connects("none", url, None),
            connects("wrong", url, None),
            false,
        ),
        case(
            "ClusterConjurConnection",
            connects("conjur-login", url, here),
            connects("none", url, here),
            connects("wrong", url, here),
            false,
        ),
    ]
}

/// Objects of a kind, wherever it lives.
fn objects(bench: &Bench, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("conjur-operator.io", "v1alpha1", kind));
    if kind == ClusterConjurConnection::kind(&()) {
        return Api::all_with(bench.client.clone(), &resource);
    }
    Api::namespaced_with(bench.client.clone(), &bench.namespace, &resource)
}

struct Kind<'b> {
    bench: &'b Bench,
    kind: &'static str,
}

impl Kind<'_> {
    /// Those of the cluster have names of their own.
    fn name(&self, name: &str) -> String {
        if self.kind == ClusterConjurConnection::kind(&()) {
            return format!("{name}-{}", self.bench.namespace);
        }
        name.to_owned()
    }

    async fn put(&self, name: &str, spec: &Value) {
        let name = self.name(name);
        let object = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": self.kind, "metadata": { "name": name }, "spec": spec,
        });
        let params = PatchParams::apply("a-user").force();
        let made = objects(self.bench, self.kind).patch(&name, &params, &Patch::Apply(object)).await;
        self.look(made.unwrap());
    }

    /// The answer to a write is a state that a watch may have missed.
    fn look(&self, object: DynamicObject) {
        self.bench.world.judged.look(serde_json::to_value(object).unwrap());
    }

    async fn change(&self, name: &str, change: Value) {
        let params = PatchParams::default();
        let name = self.name(name);
        let changed = objects(self.bench, self.kind).patch(&name, &params, &Patch::Merge(change)).await;
        self.look(changed.unwrap());
    }

    /// Waits for a phase, and compares it with what Argo CD's tests have of it, or records it there.
    async fn is(&self, name: &str, phase: Phase) {
        let namespace =
            if self.kind == ClusterConjurConnection::kind(&()) { "" } else { self.bench.namespace.as_str() };
        let seen = self.bench.world.judged.saw(self.kind, namespace, &self.name(name), phase).await;
        record::is_as_recorded(
            &seen,
            phase,
            &[(&self.bench.namespace, "billing"), (&self.bench.conjur.url(), "https://conjur.example.com")],
        );
    }

    /// Deletes an object, and sees how it is judged while something holds it.
    async fn deletes(&self, name: &str) {
        self.change(name, json!({ "metadata": { "finalizers": ["example.com/held"] } })).await;
        objects(self.bench, self.kind).delete(&self.name(name), &DeleteParams::default()).await.unwrap();
        self.is(name, Phase::Deleting).await;
        self.change(name, json!({ "metadata": { "finalizers": null } })).await;
    }
}

#[test]
fn each_kind_is_judged_by_gitops_tools_as_its_phase_asks() {
    test(|bench| async move {
        bench
            .root("- !host ops\n- !policy {id: apps, owner: !host ops, body: [!variable a, !host old]}\n")
            .await;
        bench.set("apps/a");
        bench.put_secret("keys", &[("pushed", &bench.secret_value("pushed"))]).await;
        bench.put_secret("foreign", &[("of", "another")]).await;
        bench.put_secret("wrong", &[("api-key", "of-no-host")]).await;
        bench.connect(LOGIN).await;
        let cases = cases(&bench);
        for case in &cases {
            let kind = Kind { bench: &bench, kind: case.kind };
            for (name, spec) in [("good", &case.good), ("waiting", &case.waiting), ("stalled", &case.stalled)]
            {
                kind.put(name, spec).await;
            }
            kind.is("good", Phase::New).await;
            kind.is("good", Phase::Done).await;
            kind.is("waiting", Phase::Waiting).await;
            kind.is("stalled", Phase::Stalled).await;
        }
        // Nothing that a server's fault could touch while it is new.
        bench.conjur.fault(Fault {
            method: None,
            path: "/".into(),
            count: None,
            when: When::Before,
            effect: Effect::Status { status: 503, retry_after: None },
        });
        for case in cases.iter().filter(|case| case.refreshes) {
            Kind { bench: &bench, kind: case.kind }.is("good", Phase::StillGood).await;
        }
        bench.conjur.clear_faults();
        bench.ready::<ConjurConnection>("conjur").await;
        for case in &cases {
            let kind = Kind { bench: &bench, kind: case.kind };
            if case.good["connectionRef"].is_object() {
                let suspend = json!({ "spec": { "suspend": true } });
                kind.put("early", &{
                    let mut spec = case.waiting.clone();
                    spec["suspend"] = true.into();
                    spec
                })
                .await;
                kind.change("good", suspend).await;
                kind.is("good", Phase::Behind).await;
                kind.is("good", Phase::Suspended).await;
                kind.is("early", Phase::SuspendedEarly).await;
            }
            kind.deletes("waiting").await;
        }
        let shared = Kind { bench: &bench, kind: "ClusterConjurConnection" };
        for name in ["good", "stalled"] {
            objects(&bench, shared.kind).delete(&shared.name(name), &DeleteParams::default()).await.unwrap();
        }
    });
}

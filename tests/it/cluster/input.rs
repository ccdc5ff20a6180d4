//! Bad input gets an answer that says what to do: from the API server where it can tell, else in the condition.

use std::{collections::BTreeMap, time::Instant};

use conjur_dev::Kind;
use conjur_operator::api::ConjurSecret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    Bench, SOON, alone,
    setup::{
        change_policy, connected, connection, eventually, fetches, permitted, project, put, states, try_put,
        untyped,
    },
    test,
};

fn entry(key: &str, variable: &str) -> Value {
    json!({ "key": key, "variable": variable })
}

#[test]
fn the_api_server_refuses_a_bad_secret_and_says_what_to_write() {
    test(|bench| async move {
        let many: Vec<_> = (0..257).map(|i| entry(&format!("k{i}"), "x")).collect();
        for (spec, expected) in [
            (json!({ "data": [] }), "should have at least 1 items"),
            (json!({ "data": null }), "give data, dataFrom or both"),
            (json!({ "dataFrom": [] }), "should have at least 1 items"),
            (json!({ "dataFrom": [{}] }), "give exactly one of find, extract and publicKeys"),
            (
                json!({ "dataFrom": [{ "find": { "prefix": "a/" }, "extract": { "variable": "b" } }] }),
                "give exactly one of find, extract and publicKeys",
            ),
            (
                json!({ "dataFrom": [{ "find": {} }] }),
                "give at least one of prefix, search, annotations and pattern",
            ),
            (
                json!({ "dataFrom": [{ "extract": { "variable": "b" }, "keyFrom": "Path" }] }),
                "keyFrom names the keys of find",
            ),
            (
                json!({ "dataFrom": [{ "publicKeys": { "kind": "group", "id": "b", "key": "k" } }] }),
                "supported values: \"user\", \"host\"",
            ),
            (json!({ "target": { "creationPolicy": "Merge" } }), "write deletionPolicy: Retain"),
            (
                json!({ "target": { "creationPolicy": "Merge", "deletionPolicy": "Retain", "immutable": true } }),
                "leave immutable out",
            ),
            (json!({ "target": { "template": {} } }), "give data, dataFrom or both"),
            (
                json!({ "target": { "template": { "data": { "a b": "x" } } } }),
                "a Secret key is made of letters",
            ),
            (
                json!({ "rolloutRestart": [{ "kind": "Job", "name": "x" }] }),
                "supported values: \"Deployment\"",
            ),
            (json!({ "refreshPolicy": "Never" }), "supported values: \"Periodic\""),
            (json!({ "changeDetection": "ETag" }), "supported values: \"Value\""),
            (json!({ "data": many }), "must have at most 256 items"),
            (json!({ "data": [entry("a", "x"), entry("a", "y")] }), "give each entry a key of its own"),
            (
                json!({ "data": [entry("a b", "x")] }),
                "a Secret key is made of letters, digits, '-', '_' and '.'",
            ),
            (json!({ "data": [entry("..a", "x")] }), "is not '.' nor begins with '..'"),
            (json!({ "data": [entry(&"k".repeat(254), "x")] }), "Too long"),
            (
                json!({ "data": [{ "key": "a", "variable": "x", "version": 0 }] }),
                "greater than or equal to 1",
            ),
            (json!({ "refreshInterval": "9s" }), "write 10s or more"),
            (json!({ "refreshInterval": "soon" }), "spec.refreshInterval"),
            (
                json!({ "target": { "type": "kubernetes.io/service-account-token" } }),
                "use Opaque or another type",
            ),
            (json!({ "target": { "type": "bootstrap.kubernetes.io/token" } }), "use Opaque or another type"),
            (
                json!({ "target": { "labels": { "conjur-operator.io/managed": "no" } } }),
                "the operator's own; leave them out",
            ),
            (
                json!({ "target": { "labels": { "app.kubernetes.io/managed-by": "x" } } }),
                "the operator's own; leave them out",
            ),
            (
                json!({ "target": { "annotations": { "conjur-operator.io/owner": "x" } } }),
                "the operator's own; leave them out",
            ),
            (json!({ "target": { "name": "Not_A_Name" } }), "spec.target.name"),
            (json!({ "connectionRef": null }), "spec.connectionRef: Required value"),
        ] {
            let error = try_put(&bench, &project("bad", &[("a", "a")], &spec)).await.unwrap_err();
            assert!(error.contains(expected), "{spec}: {error}");
        }
    });
}

#[test]
fn the_api_server_refuses_maps_that_are_too_large() {
    test(|bench| async move {
        let many = |count: usize, length: usize| -> Value {
            (0..count)
                .map(|i| (format!("k{i}"), "x".repeat(length).into()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let long_key = |length: usize| json!({ "k".repeat(length): "x" });
        let target = |field: &str, map: Value| json!({ "target": { field: map } });
        let template = |map: Value| json!({ "target": { "template": { "data": map } } });
        let find = |map: Value| json!({ "data": null, "dataFrom": [{ "find": { "annotations": map } }] });
        for (at, (spec, expected)) in [
            (target("labels", many(65, 1)), Some("must have at most 64 items")),
            (target("labels", many(1, 64)), Some("Too long: may not be more than 63 bytes")),
            (target("labels", long_key(318)), Some("the key of a label has at most 317 characters")),
            (target("annotations", many(65, 1)), Some("must have at most 64 items")),
            (target("annotations", many(1, 16_385)), Some("Too long: may not be more than 16384 bytes")),
            (
                target("annotations", long_key(318)),
                Some("the key of an annotation has at most 317 characters"),
            ),
            (template(many(65, 1)), Some("must have at most 64 items")),
            (template(many(1, 65_537)), Some("Too long: may not be more than 65536 bytes")),
            (template(json!({})), Some("should have at least 1 properties")),
            (find(json!({})), Some("should have at least 1 properties")),
            (find(many(17, 1)), Some("must have at most 16 items")),
            (find(many(1, 1_025)), Some("Too long: may not be more than 1024 bytes")),
            (target("labels", many(64, 63)), None),
            (target("annotations", many(64, 1_000)), None),
            (template(many(1, 65_536)), None),
            (template(many(64, 1)), None),
            (find(many(16, 1_024)), None),
        ]
        .into_iter()
        .enumerate()
        {
            let mut object = project(&format!("bad-{at}"), &[("a", "a")], &spec);
            object["spec"]["suspend"] = true.into();
            let answer = try_put(&bench, &object).await.map(drop);
            match expected {
                None => assert_eq!(answer, Ok(()), "{at}"),
                Some(expected) => {
                    assert!(answer.as_ref().is_err_and(|e| e.contains(expected)), "{at}: {answer:?}");
                }
            }
        }
    });
}

#[test]
fn the_api_server_refuses_a_bad_connection_and_says_what_to_write() {
    test(|bench| async move {
        let key = json!({ "name": "x", "key": "y" });
        let (login, both) = (
            json!({ "apiKey": { "apiKeySecretRef": key } }),
            json!({ "apiKey": { "login": "host/x", "loginSecretRef": key, "apiKeySecretRef": key } }),
        );
        let tls = json!({ "caBundle": "-----BEGIN CERTIFICATE-----", "caBundleFrom": { "kind": "Secret", "name": "a", "key": "b" } });
        for (spec, expected) in [
            (json!({ "url": "conjur.example.com" }), "write the address with its scheme"),
            (json!({ "url": "ftp://conjur.example.com" }), "write the address with its scheme"),
            (json!({ "url": "https://me:secret@conjur.example.com" }), "credentials belong into spec.auth"),
            (json!({ "url": "https://conjur.example.com?a=b" }), "has no query"),
            (json!({ "account": "my:org" }), "a Conjur account has neither ':' nor '/'"),
            (json!({ "account": "" }), "spec.account"),
            (json!({ "auth": {} }), "say how to log in"),
            (json!({ "auth": null }), "spec.auth: Required value"),
            (json!({ "auth": login }), "set exactly one of login"),
            (json!({ "auth": both }), "set exactly one of login"),
            (json!({ "tls": { "caBundle": "nothing" } }), "write the authority's certificates as PEM"),
            (json!({ "tls": tls }), "set caBundle or caBundleFrom, not both"),
        ] {
            let error = try_put(&bench, &connection(&bench, "bad", &spec)).await.unwrap_err();
            assert!(error.contains(expected), "{spec}: {error}");
        }
    });
}

#[test]
fn a_variable_id_that_cannot_be_is_refused_before_conjur_is_asked() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        let asked = bench.conjur.requests().len();
        for (at, id) in ["apps/../admin", "/apps/a", "apps//a", "apps/./a", "apps/a/"].into_iter().enumerate()
        {
            let name = format!("bad-{at}");
            let data = json!([entry("good", "apps/a"), entry("bad", id)]);
            put(&bench, &project(&name, &[], &json!({ "data": data }))).await;
            let message = bench.says::<ConjurSecret>(&name, "InvalidSpec").await;
            assert!(message.starts_with("spec.data[1].variable: ") && message.contains(id), "{message}");
            let object: ConjurSecret = bench.api().get(&name).await.unwrap();
            assert_eq!(states(&object), "Ready=False Stalled=True");
            assert_eq!(object.status.unwrap().observed_generation, object.metadata.generation);
        }
        assert_eq!(bench.conjur.requests().len(), asked);
    });
}

#[test]
fn a_missing_variable_is_named_and_fetched_when_it_is_there() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        put(&bench, &project("bad", &[("a", "a"), ("b", "b"), ("c", "c")], &json!({}))).await;
        put(&bench, &project("good", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("good").await;
        let message = bench.says::<ConjurSecret>("bad", "VariableNotFound").await;
        for id in ["apps/b", "apps/c"] {
            let expected =
                format!("variable {id} is missing, has no value, or is not visible to host/apps/app");
            assert!(message.contains(&expected), "{message}");
        }
        assert!(!message.contains("variable apps/a "), "{message}");
        let object: ConjurSecret = bench.api().get("bad").await.unwrap();
        assert_eq!(states(&object), "Ready=False Reconciling=True");
        let missing = object.status.unwrap().missing.unwrap();
        let missing: Vec<_> = missing.iter().map(|m| (m.variable.as_str(), m.reason.as_str())).collect();
        assert_eq!(missing, [("apps/b", "NotFound"), ("apps/c", "NotFound")]);
        assert_eq!(bench.data("bad").await, None, "nothing is made of a part");

        change_policy(&bench, &(permitted("b") + &permitted("c"))).await;
        let (b, c) = (bench.set("apps/b"), bench.set("apps/c"));
        bench.holds("bad", &[("a", &value), ("b", &b), ("c", &c)]).await;
        let ready: ConjurSecret = bench.ready("bad").await;
        assert_eq!(ready.status.unwrap().missing, None);
    });
}

#[test]
fn a_forbidden_variable_is_named_and_fetched_when_it_is_permitted() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        let visible = "- !variable apps/b\n- !permit {role: !host apps/app, privileges: [read], resource: !variable apps/b}\n";
        change_policy(&bench, visible).await;
        let b = bench.set("apps/b");
        put(&bench, &project("bad", &[("b", "b")], &json!({}))).await;
        let message = bench.says::<ConjurSecret>("bad", "VariableForbidden").await;
        assert!(message.contains("host/apps/app may see variable apps/b but lacks"), "{message}");
        let object: ConjurSecret = bench.api().get("bad").await.unwrap();
        assert_eq!(states(&object), "Ready=False Reconciling=True");
        assert_eq!(object.status.unwrap().missing.unwrap()[0].reason, "Forbidden");
        change_policy(&bench, &permitted("b")).await;
        bench.holds("bad", &[("b", &b)]).await;
        bench.ready::<ConjurSecret>("bad").await;
    });
}

#[test]
fn bad_objects_cost_the_others_nothing() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        let fast = json!({ "refreshInterval": "10s" });
        put(&bench, &project("good", &[("a", "a")], &fast)).await;
        bench.ready::<ConjurSecret>("good").await;
        for i in 0..10 {
            put(&bench, &project(&format!("bad-{i}"), &[("a", "a"), ("b", &format!("bad/{i}"))], &fast))
                .await;
        }
        for i in 0..10 {
            bench.says::<ConjurSecret>(&format!("bad-{i}"), "VariableNotFound").await;
        }
        // What is good is asked for as if the others were not there; they are looked at together, at most one
        // request a second.
        bench.conjur.clear_requests();
        let started = Instant::now();
        let good =
            || bench.conjur.requests().into_iter().filter(|r| r.path.contains("apps/a")).collect::<Vec<_>>();
        eventually("two refreshes", || good().len() >= 2).await;
        assert!(good().iter().all(|r| !r.path.contains("bad")), "{:?}", good());
        let looks = fetches(&bench) - good().len();
        let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
        assert!(looks <= seconds + 2, "{looks} looks in {seconds} seconds");
        assert_eq!(bench.conjur.count(Kind::Authenticate), 0);
        bench.holds("good", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("good").await;
    });
}

#[test]
fn an_object_that_does_not_decode_says_so_and_the_others_go_on() {
    alone(|bench, operator| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        let strict = schema(&bench).await;
        let mut loose = strict.clone();
        let interval = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/refreshInterval";
        *loose.pointer_mut(interval).unwrap() = json!({ "x-kubernetes-preserve-unknown-fields": true });
        set_schema(&bench, loose).await;

        let bad = project("bad", &[("a", "a")], &json!({ "refreshInterval": { "x": 1 } }));
        wait_for("the loosened schema", SOON, || async { try_put(&bench, &bad).await.ok() }).await.unwrap();
        let untyped = untyped(&bench, "ConjurSecret");
        let conditions = || async {
            let object = untyped.get("bad").await.unwrap();
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let told: BTreeMap<_, _> = conditions
                .iter()
                .map(|c| {
                    (
                        c["type"].as_str().unwrap().to_owned(),
                        format!("{}/{}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()),
                    )
                })
                .collect();
            (told.get("Ready")? == "False/InvalidObject" && told.get("Stalled")? == "True/InvalidObject")
                .then(|| object.data["status"].clone())
        };
        let status = wait_for("InvalidObject", SOON, conditions).await.unwrap();
        let message = status["conditions"][0]["message"].as_str().unwrap();
        assert!(message.contains("Apply it again with the installed CRDs"), "{message}");
        assert_eq!(status["observedGeneration"], json!(1));
        put(&bench, &project("good", &[("a", "a")], &json!({}))).await;
        bench.holds("good", &[("a", &value)]).await;
        assert!(operator.is_running());

        // Put right, it goes on; and the schema is as it was.
        put(&bench, &project("bad", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("bad").await;
        untyped.delete("bad", &DeleteParams::default()).await.unwrap();
        set_schema(&bench, strict).await;
        let refused = || async { try_put(&bench, &bad).await.err() };
        wait_for("the strict schema", SOON, || async {
            let error = refused().await;
            if error.is_none() {
                untyped.delete("bad", &DeleteParams::default()).await.ok();
            }
            error
        })
        .await
        .unwrap();
    });
}

const CRD: &str = "conjursecrets.conjur-operator.io";

/// The CRD of ConjurSecrets, as JSON.
async fn schema(bench: &Bench) -> Value {
    let crds = Api::<CustomResourceDefinition>::all(bench.client.clone());
    serde_json::to_value(crds.get(CRD).await.unwrap()).unwrap()
}

async fn set_schema(bench: &Bench, schema: Value) {
    let crds = Api::<CustomResourceDefinition>::all(bench.client.clone());
    let mut schema: CustomResourceDefinition = serde_json::from_value(schema).unwrap();
    schema.metadata.resource_version = crds.get(CRD).await.unwrap().metadata.resource_version;
    crds.replace(CRD, &PostParams::default(), &schema).await.unwrap();
}

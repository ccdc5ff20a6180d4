//! What the API server refuses, with a message that says what to write instead.

use conjur_operator::api::ConjurHost;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    super::{
        setup::{put, try_put},
        test,
    },
    host,
};

#[test]
fn what_can_not_be_is_refused_with_what_to_write_instead() {
    test(|bench| async move {
        let adopt = |via: Value| json!({ "via": via, "conflictPolicy": "Adopt" });
        let token = json!({ "hostFactoryTokenSecretRef": { "name": "n", "key": "k" } });
        let factory = json!({ "hostFactory": { "id": "billing/factory" } });
        for (more, says) in [
            (json!({ "id": "web" }), "spec.via"),
            (json!({ "id": "host/billing/web" }), "without host/"),
            (json!({ "id": "/billing/web" }), "slash"),
            (json!({ "id": "billing//web" }), "slash"),
            (json!({ "id": "billing/../web" }), "segment"),
            (json!({ "via": {} }), "exactly one of"),
            (
                json!({ "via": { "branch": "billing", "existing": {} }, "conflictPolicy": "Adopt" }),
                "exactly one of",
            ),
            (json!({ "via": { "branch": "shop" } }), "below spec.via.branch"),
            (json!({ "via": { "existing": {} } }), "conflictPolicy: Adopt"),
            (json!({ "via": token }), "conflictPolicy: Adopt"),
            (json!({ "via": factory, "memberOf": ["layer/billing/web"] }), "via: {branch"),
            (json!({ "via": factory, "restrictedTo": ["10.0.0.0/8"] }), "via: {branch"),
            (json!({ "via": factory, "apiKey": false }), "via: {branch"),
            (
                json!({ "via": { "existing": {} }, "conflictPolicy": "Adopt", "annotations": { "a": "b" } }),
                "leave annotations out",
            ),
            (
                json!({ "apiKey": false, "target": { "name": "x" } }),
                "leave target, rotation and rolloutRestart out",
            ),
            (
                json!({ "apiKey": false, "rotation": { "interval": "720h" } }),
                "leave target, rotation and rolloutRestart out",
            ),
            (
                json!({ "apiKey": false, "rolloutRestart": [{ "kind": "Deployment", "name": "d" }] }),
                "leave target, rotation",
            ),
            (json!({ "rotation": { "interval": "59m" } }), "1h or more"),
            (json!({ "memberOf": ["billing/web"] }), "layer/<id>"),
            (json!({ "memberOf": ["user/alice"] }), "layer/<id>"),
            (json!({ "restrictedTo": ["nonsense"] }), "10.0.0.0/8"),
            (json!({ "annotations": { "conjur-operator.io/owner": "x" } }), "operator's own"),
            (json!({ "annotations": { "authn/api-key": "false" } }), "spec.apiKey: false"),
            (
                json!({ "target": { "template": { "data": { "login": "x" } } } }),
                "give the template other keys",
            ),
            (json!({ "target": { "type": "kubernetes.io/service-account-token" } }), "Opaque"),
            (json!({ "target": { "annotations": { "conjur-operator.io/x": "y" } } }), "operator's own"),
            (json!({ "target": { "deletionPolicy": "Retain" } }), "deletionPolicy"),
        ] {
            let answer = try_put(&bench, &host("web", &more)).await;
            let refused = answer.map(drop).expect_err(&format!("{more} is taken"));
            assert!(refused.contains(says), "{more}: {refused}");
        }
        for good in [adopt(json!({ "existing": {} })), json!({ "id": "web", "via": { "branch": "root" } })] {
            let mut object = host("good", &good);
            object["spec"]["suspend"] = true.into();
            put(&bench, &object).await;
            bench.kubectl(&["delete", "conjurhost", "good"]).await;
        }
    });
}

#[test]
fn what_a_host_is_can_not_be_changed() {
    test(|bench| async move {
        let factory = json!({ "hostFactory": { "id": "billing/factory" } });
        put(&bench, &host("web", &json!({ "suspend": true }))).await;
        put(&bench, &host("made", &json!({ "suspend": true, "via": factory, "annotations": { "a": "b" } })))
            .await;
        let api = bench.api::<ConjurHost>();
        for (name, change, says) in [
            ("web", json!({ "id": "billing/other" }), "can't be changed"),
            ("web", json!({ "via": { "branch": "billing" } }), "can't be changed"),
            ("made", json!({ "via": null }), "can't be changed"),
            ("made", json!({ "via": { "hostFactory": { "id": "billing/other" } } }), "can't be changed"),
            ("made", json!({ "annotations": { "a": "c" } }), "can't be changed later"),
            ("made", json!({ "annotations": null }), "can't be changed later"),
        ] {
            let change = json!({ "spec": change });
            let answer = api.patch(name, &PatchParams::default(), &Patch::Merge(change.clone())).await;
            let refused = answer.map(drop).expect_err(&format!("{change} is taken")).to_string();
            assert!(refused.contains(says), "{change}: {refused}");
        }
    });
}

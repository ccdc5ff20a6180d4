//! A host without an API key, with the annotations that an authenticator reads: a connection logs in as it with a JWT.

use conjur_operator::api::{ConjurConnection, ConjurHost, ConjurSecret};
use serde_json::json;

use super::{
    super::{
        login::{jwt, lets_service_accounts_in, service_account},
        setup::{connection, put},
        test,
    },
    host,
};

#[test]
fn a_connection_logs_in_with_a_jwt_as_a_host_that_a_conjurhost_made() {
    test(|bench| async move {
        let shared = bench.clone();
        let bench = lets_service_accounts_in(&shared, &[]).await;
        let namespace = bench.namespace.clone();
        bench
            .root(
                "- !host ops\n- !policy {id: apps/k8s, owner: !host ops}\n- !variable v\n- !group conjur/authn-jwt/k8s/apps\n\
                 - !permit {role: !group conjur/authn-jwt/k8s/apps, privileges: [read, authenticate], resource: !webservice conjur/authn-jwt/k8s}\n\
                 - !permit {role: !group conjur/authn-jwt/k8s/apps, privileges: [read, execute], resource: !variable v}\n\
                 - !policy\n  id: grants\n  owner: !host ops\n  body:\n  - !group apps\n\
                 - !grant {role: !group conjur/authn-jwt/k8s/apps, member: !group grants/apps}\n",
            )
            .await;
        let value = bench.set("v");
        bench.connect("host/ops").await;
        let id = format!("apps/k8s/system:serviceaccount:{namespace}:app");
        let more = json!({
            "id": id, "apiKey": false, "memberOf": ["group/grants/apps"],
            "annotations": { "authn-jwt/k8s/kubernetes.io/namespace": namespace },
        });
        put(&bench, &host("app", &more)).await;
        bench.ready::<ConjurHost>("app").await;
        assert!(bench.data("app").await.is_none());
        bench.keep_secret(bench.conjur.api_key_of(&format!("host/{id}")).unwrap());
        service_account(&bench, "app").await;
        put(&bench, &connection(&bench, "by-jwt", &json!({ "auth": jwt("app", "conjur") }))).await;
        let object = bench.ready::<ConjurConnection>("by-jwt").await;
        assert_eq!(object.status.unwrap().identity, Some(format!("host/{id}")));
        let object = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": { "name": "s" },
            "spec": { "connectionRef": { "name": "by-jwt" }, "data": [{ "key": "v", "variable": "v" }] },
        });
        put(&bench, &object).await;
        bench.ready::<ConjurSecret>("s").await;
        bench.holds("s", &[("v", &value)]).await;
        bench.conjur.stop().await;
    });
}

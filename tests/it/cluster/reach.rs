//! Where connections lead, whom they take along, and what they read for it: nothing that is not the namespace's own.

use conjur_operator::api::{ConjurConnection, ConjurPolicy, ConjurSecret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    Bench, SOON, alone,
    login::{jwt, lets_service_accounts_in, service_account},
    setup::{LOGIN, api_requests, connection, project, put, try_put, variables},
    test,
};

#[test]
fn a_connection_does_not_lead_to_the_api_server_nor_to_what_only_machines_may_see() {
    test(|bench| async move {
        variables(&bench, &["a"]).await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        let api_server = bench.world.plane.url().trim_end_matches('/');
        let mapped = api_server.replace("127.0.0.1", "[::ffff:127.0.0.1]");
        let mut said = Vec::new();
        for (at, url) in [
            api_server,
            &format!("{api_server}/api"),
            &mapped,
            "http://169.254.169.254/latest",
            "http://[::ffff:a9fe:a9fe]:1/",
            "http://0.0.0.0:1",
            "http://2852039166",
            "https://metadata.google.internal",
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("elsewhere-{at}");
            put(&bench, &connection(&bench, &name, &json!({ "url": url }))).await;
            let message = bench.says::<ConjurConnection>(&name, "HostDenied").await;
            assert!(message.contains("network.allowHosts"), "{message}");
            said.push(message.replace(url.trim_end_matches('/'), ""));
        }
        // The same for each, but for how the address is written when it was read.
        let rest = said[0].split(". ").nth(1).unwrap().to_owned();
        assert!(said.iter().all(|message| message.split(". ").nth(1) == Some(&rest)), "{said:#?}");
        // The address alone is none of the API server's: a Conjur is there, too.
        put(&bench, &connection(&bench, "conjur", &json!({}))).await;
        bench.ready::<ConjurConnection>("conjur").await;
    });
}

#[test]
fn a_connection_asks_for_allowed_audiences_only_and_its_token_stays_off_the_open_network() {
    test(|bench| async move {
        let bench = lets_service_accounts_in(&bench, &[(&bench.namespace, "app")]).await;
        service_account(&bench, "app").await;
        for (name, auth, url, expected) in [
            ("cloud", jwt("app", "sts.amazonaws.com"), bench.conjur.url(), "allowedAudiences"),
            ("open", jwt("app", "conjur"), "http://conjur.example.invalid".to_owned(), "over https only"),
        ] {
            put(&bench, &connection(&bench, name, &json!({ "url": url, "auth": auth }))).await;
            let message = bench.says::<ConjurConnection>(name, "InvalidSpec").await;
            assert!(message.contains(expected), "{message}");
        }
        assert!(
            !api_requests(&bench).iter().any(testbed::ApiRequest::is_token_request),
            "a token was asked for"
        );
        assert!(bench.conjur.requests().is_empty());
        put(&bench, &connection(&bench, "conjur", &json!({ "auth": jwt("app", "conjur") }))).await;
        bench.ready::<ConjurConnection>("conjur").await;
        bench.conjur.stop().await;
    });
}

#[test]
fn a_namespace_without_a_rule_costs_no_token_and_no_login() {
    test(|bench| async move {
        let bench = lets_service_accounts_in(&bench, &[(&bench.namespace, "app")]).await;
        service_account(&bench, "app").await;
        let access =
            json!([{ "namespaces": { "names": ["somebody-else"] }, "read": ["**"], "branches": ["**"] }]);
        let name = super::access::shared(&bench, &jwt("app", "conjur"), &access).await;
        let reference = json!({ "name": name, "kind": "ClusterConjurConnection" });
        put(&bench, &project("s", &[("v", "v")], &json!({ "connectionRef": reference }))).await;
        let policy = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPolicy", "metadata": { "name": "p" },
            "spec": { "connectionRef": reference, "branch": "apps", "document": "- !variable made\n" },
        });
        put(&bench, &policy).await;
        bench.says::<ConjurSecret>("s", "AccessDenied").await;
        bench.says::<ConjurPolicy>("p", "AccessDenied").await;
        assert!(
            !api_requests(&bench).iter().any(testbed::ApiRequest::is_token_request),
            "a token was asked for"
        );
        assert_eq!(bench.conjur.count(conjur_dev::Kind::Authenticate), 0);
        super::access::end(&bench, &name).await;
    });
}

#[test]
fn a_login_from_a_secret_is_never_shown_whatever_lies_there() {
    test(|bench| async move {
        variables(&bench, &["a"]).await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        let value = bench.secret_value("login");
        let wrong_forms = [
            value.clone(),
            format!("apps/{value}"),
            format!("demo:host:{value}"),
            format!("{value}\nmore"),
            format!("host/{value}//x"),
        ];
        for (at, login) in wrong_forms.iter().enumerate() {
            let name = format!("odd-{at}");
            bench.put_secret(&name, &[("login", login), ("api-key", &key)]).await;
            let refer = |key: &str| json!({ "name": name, "key": key });
            let auth = json!({ "apiKey": { "loginSecretRef": refer("login"), "apiKeySecretRef": refer("api-key") } });
            put(&bench, &connection(&bench, &name, &json!({ "auth": auth }))).await;
            // The first has the form of a login, and the server refuses it.
            let reason = if at == 0 { "AuthenticationFailed" } else { "InvalidSpec" };
            let message = bench.says::<ConjurConnection>(&name, reason).await;
            assert!(
                message.contains(&format!("key login of Secret {}/{name}", bench.namespace)),
                "{message}"
            );
            assert!(!message.contains(&value), "{message}");
        }
        for connection in
            bench.api::<ConjurConnection>().list(&kube::api::ListParams::default()).await.unwrap()
        {
            assert!(!serde_json::to_string(&connection.status).unwrap().contains(&value));
        }
    });
}

/// Takes the rules out of a schema, as an older CRD has not got them.
fn loosen(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "x-kubernetes-validations" && name != "pattern");
            fields.values_mut().for_each(loosen);
        }
        Value::Array(all) => all.iter_mut().for_each(loosen),
        _ => {}
    }
}

/// Exchanges the schema of the connections.
async fn exchange(bench: &Bench, crd: &CustomResourceDefinition) {
    let crds = Api::<CustomResourceDefinition>::all(bench.client.clone());
    let name = crd.metadata.name.as_deref().unwrap();
    let mut crd = crd.clone();
    crd.metadata.resource_version = crds.get(name).await.unwrap().metadata.resource_version;
    crds.replace(name, &PostParams::default(), &crd).await.unwrap();
}

#[test]
fn a_reference_that_came_past_the_schema_does_not_leave_its_namespace() {
    alone(|bench, operator| async move {
        let crds = Api::<CustomResourceDefinition>::all(bench.client.clone());
        let crd = crds.get("conjurconnections.conjur-operator.io").await.unwrap();
        let mut loose = serde_json::to_value(&crd).unwrap();
        loosen(&mut loose);
        exchange(&bench, &serde_json::from_value(loose).unwrap()).await;
        variables(&bench, &["a"]).await;
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        bench
            .put_secret(
                "conjur-login",
                &[("api-key", &key), ("login", LOGIN), ("tls.crt", "x"), ("tls.key", "x")],
            )
            .await;
        let own = json!({ "name": "conjur-login", "key": "api-key" });
        let theirs = json!({ "namespace": "kube-system", "name": "elsewhere-of-others", "key": "api-key" });
        let outside = json!({ "name": "../../kube-system/secrets/elsewhere-of-others", "key": "api-key" });
        let bundle = json!({ "kind": "Secret", "namespace": "kube-system", "name": "elsewhere-of-others", "key": "api-key" });
        let mut made = Vec::new();
        for (at, spec) in [
            json!({ "auth": { "apiKey": { "login": LOGIN, "apiKeySecretRef": theirs } } }),
            json!({ "auth": { "apiKey": { "loginSecretRef": theirs, "apiKeySecretRef": own } } }),
            json!({ "auth": { "password": { "login": "alice", "passwordSecretRef": theirs } } }),
            json!({ "auth": { "certificate": { "serviceID": "s", "certificateSecretRef": { "namespace": "kube-system", "name": "elsewhere-of-others" } } } }),
            json!({ "auth": { "jwt": { "serviceID": "s", "serviceAccountRef": { "namespace": "kube-system", "name": "default", "audiences": ["conjur"] } } } }),
            json!({ "tls": { "caBundleFrom": bundle } }),
            json!({ "tls": { "clientCertificateSecretRef": { "namespace": "kube-system", "name": "elsewhere-of-others" } } }),
            json!({ "auth": { "apiKey": { "login": LOGIN, "apiKeySecretRef": outside } } }),
            json!({ "limits": { "timeout": "100h" } }),
            json!({ "url": format!("{}/a/%2e%2e/b", bench.conjur.url()) }),
            json!({ "account": ".." }),
        ]
        .into_iter()
        .enumerate()
        {
            let object = connection(&bench, &format!("past-{at}"), &spec);
            wait_for("the looser schema", SOON, || async { try_put(&bench, &object).await.ok() }).await.unwrap();
            made.push(format!("past-{at}"));
        }
        for name in &made {
            bench.says::<ConjurConnection>(name, "InvalidSpec").await;
        }
        let user = bench.world.release.user();
        let asked = bench.world.plane.api_requests_by(&user).unwrap();
        let theirs: Vec<_> = asked
            .iter()
            .filter(|r| {
                r.uri.contains("elsewhere-of-others") || r.is_token_request() && r.namespace == "kube-system"
            })
            .collect();
        assert!(theirs.is_empty(), "{theirs:#?}");
        assert!(bench.conjur.requests().is_empty(), "something was sent");
        for name in &made {
            bench.api::<ConjurConnection>().delete(name, &DeleteParams::default()).await.unwrap();
        }
        exchange(&bench, &crd).await;
        drop(operator);
    });
}

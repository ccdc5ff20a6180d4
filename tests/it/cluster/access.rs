//! ClusterConjurConnection: who may use it for what, and that tenants never see each other's answers.

use conjur_client::{Client, Config, Credentials, sensitive::Sensitive};
use conjur_dev::{ClientCertificates, Options};
use conjur_operator::api::{ClusterConjurConnection, ConjurPolicy, ConjurSecret, condition::is_true};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testbed::{pki::Authority, wait_for};

use super::{
    Bench, SOON,
    login::{jwt, lets_service_accounts_in, service_account, tls, trust_service_accounts, with},
    setup::put,
    test,
};

/// A ClusterConjurConnection that is deleted by name at the end.
pub async fn shared(bench: &Bench, auth: &Value, access: &Value) -> String {
    let name = format!("shared-{}", bench.namespace);
    ready(bench, &name, &json!({ "auth": auth, "access": access })).await;
    name
}

/// Makes a ClusterConjurConnection, waits until it is Ready, and gives whom it is there.
async fn ready(bench: &Bench, name: &str, more: &Value) -> Option<String> {
    let mut object = json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ClusterConjurConnection", "metadata": { "name": name },
        "spec": { "url": bench.conjur.url(), "account": "demo" },
    });
    object["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let object: ClusterConjurConnection = serde_json::from_value(object).unwrap();
    let api = Api::<ClusterConjurConnection>::all(bench.client.clone());
    api.create(&PostParams::default(), &object).await.unwrap();
    wait_for("the ClusterConjurConnection to be Ready", SOON, || async {
        let status = api.get(name).await.ok()?.status?;
        is_true(&status.conditions.unwrap_or_default(), "Ready").then_some(status.identity)
    })
    .await
    .unwrap()
}

pub async fn end(bench: &Bench, name: &str) {
    let api = Api::<ClusterConjurConnection>::all(bench.client.clone());
    api.delete(name, &DeleteParams::default()).await.unwrap();
    bench.conjur.stop().await;
}

pub fn secret(name: &str, connection: &str, variable: &str) -> Value {
    json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": { "name": name },
        "spec": {
            "connectionRef": { "name": connection, "kind": "ClusterConjurConnection" },
            "data": [{ "key": "v", "variable": variable }],
        },
    })
}

pub fn policy(name: &str, connection: &str, branch: &str) -> Value {
    json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPolicy", "metadata": { "name": name },
        "spec": {
            "connectionRef": { "name": connection, "kind": "ClusterConjurConnection" },
            "branch": branch, "document": "- !variable made\n",
        },
    })
}

#[test]
fn each_rule_grants_what_it_says_and_nothing_else() {
    test(|bench| async move {
        let namespace = bench.namespace.clone();
        bench
            .root(&format!(
                "- !policy\n  id: apps\n  body:\n  - !policy\n    id: {namespace}\n    body:\n    - !variable own\n    - !policy below\n  \
                 - !policy\n    id: other\n    body:\n    - !variable theirs\n- !variable labelled\n"
            ))
            .await;
        let own = bench.set(&format!("apps/{namespace}/own"));
        bench.set("apps/other/theirs");
        let labelled = bench.set("labelled");
        let key = bench.conjur.admin_key();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        let auth = json!({ "apiKey": { "login": "admin", "apiKeySecretRef": { "namespace": namespace, "name": "conjur-login", "key": "api-key" } } });
        let access = json!([
            { "namespaces": { "names": [namespace] }, "read": ["apps/{namespace}/**"], "branches": ["apps/{namespace}/**"] },
            { "namespaces": { "names": [namespace], "selector": { "matchLabels": { "team": "pay" } } }, "read": ["labelled"] },
            { "namespaces": { "names": ["somebody-else"] }, "read": ["**"], "branches": ["**"] },
        ]);
        let name = shared(&bench, &auth, &access).await;
        put(&bench, &secret("own", &name, &format!("apps/{namespace}/own"))).await;
        bench.holds("own", &[("v", &own)]).await;
        let before = bench.conjur.requests().len();
        for (object, variable) in [("theirs", "apps/other/theirs"), ("labelled", "labelled")] {
            put(&bench, &secret(object, &name, variable)).await;
            let message = bench.says::<ConjurSecret>(object, "AccessDenied").await;
            assert!(message.contains(variable) && message.contains(&name), "{message}");
        }
        put(&bench, &secret("dots", &name, &format!("apps/{namespace}/../other/theirs"))).await;
        bench.says::<ConjurSecret>("dots", "InvalidSpec").await;
        put(&bench, &policy("exact", &name, &format!("apps/{namespace}"))).await;
        let message = bench.says::<ConjurPolicy>("exact", "AccessDenied").await;
        assert!(message.contains("branches"), "{message}");
        assert_eq!(bench.conjur.requests().len(), before, "Conjur was asked for what is not permitted");
        put(&bench, &policy("below", &name, &format!("apps/{namespace}/below"))).await;
        bench.ready::<ConjurPolicy>("below").await;
        let labels = json!({ "metadata": { "labels": { "team": "pay" } } });
        let namespaces = Api::<Namespace>::all(bench.client.clone());
        namespaces.patch(&namespace, &PatchParams::default(), &Patch::Merge(labels)).await.unwrap();
        wait_for("the label to count", SOON, || async {
            super::setup::sync_now(&bench, "labelled", &format!("{:?}", std::time::Instant::now())).await;
            (bench.data("labelled").await?.get("v") == Some(&labelled)).then_some(())
        })
        .await
        .unwrap();
        end(&bench, &name).await;
    });
}

#[test]
fn nobody_may_use_a_connection_without_a_rule() {
    test(|bench| async move {
        bench.root("- !variable v\n").await;
        bench.set("v");
        let key = bench.conjur.admin_key();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        let reference = json!({ "namespace": bench.namespace, "name": "conjur-login", "key": "api-key" });
        let auth = json!({ "apiKey": { "login": "admin", "apiKeySecretRef": reference } });
        let name = shared(&bench, &auth, &json!([])).await;
        put(&bench, &secret("s", &name, "v")).await;
        let message = bench.says::<ConjurSecret>("s", "AccessDenied").await;
        assert!(message.contains("namespaces: {names: ["), "{message}");
        assert!(bench.data("s").await.is_none());
        end(&bench, &name).await;
    });
}

#[test]
fn two_tenants_of_one_connection_never_see_each_others_answer() {
    test(|bench| async move {
        let other = bench.in_namespace(&format!("{}-b", bench.namespace)).await;
        let bench =
            lets_service_accounts_in(&bench, &[(&bench.namespace, "app"), (&other.namespace, "app")]).await;
        let other = Bench { conjur: bench.conjur.clone(), ..other };
        let host = format!("apps/k8s/system:serviceaccount:{}:app", bench.namespace);
        let permit = format!(
            "- !variable shared\n- !permit {{role: !host '{host}', privileges: [read, execute], resource: !variable shared}}\n"
        );
        super::setup::change_policy(&bench, &permit).await;
        let value = bench.set("shared");
        let access =
            json!([{ "namespaces": { "names": [bench.namespace, other.namespace] }, "read": ["**"] }]);
        let name = shared(&bench, &jwt("app", "conjur"), &access).await;
        for tenant in [&bench, &other] {
            service_account(tenant, "app").await;
            put(tenant, &secret("s", &name, "shared")).await;
        }
        bench.holds("s", &[("v", &value)]).await;
        let message = other.says::<ConjurSecret>("s", "VariableNotFound").await;
        assert!(message.contains(&other.namespace), "whose identity it was: {message}");
        assert!(other.data("s").await.is_none());
        let connection = Api::<ClusterConjurConnection>::all(bench.client.clone()).get(&name).await.unwrap();
        assert_eq!(connection.status.unwrap().identity, None);
        assert_eq!(other.api::<ConjurSecret>().list(&ListParams::default()).await.unwrap().items.len(), 1);
        let namespaces = Api::<Namespace>::all(bench.client.clone());
        namespaces.delete(&other.namespace, &DeleteParams::default()).await.unwrap();
        end(&bench, &name).await;
    });
}

#[test]
fn each_way_to_log_in_works_for_the_whole_cluster() {
    test(|bench| async move {
        let (server, clients) = (Authority::new("server").unwrap(), Authority::new("clients").unwrap());
        let options = Options {
            tls: Some(tls(&server)),
            client_certificates: ClientCertificates::Optional,
            authenticators: vec!["authn-jwt/k8s".to_owned(), "authn-cert/prod".to_owned()],
            ..Options::default()
        };
        let bench = with(&bench, options).await;
        trust_service_accounts(&bench, &[(&bench.namespace, "app")]).await;
        service_account(&bench, "app").await;
        let policy = "- !user alice\n- !policy\n  id: conjur/authn-cert/prod\n  body:\n  - !webservice\n  - !variable ca-cert\n- !host\n  id: web\n  \
                      annotations:\n    authn-cert/prod/cn: web\n- !permit\n  role: !host web\n  privileges: [read, authenticate]\n  \
                      resource: !webservice conjur/authn-cert/prod\n";
        let keys = bench.conjur.load("root", policy).await.unwrap();
        for key in keys.values() {
            bench.keep_secret(key.clone());
        }
        assert!(
            bench.conjur.set_variable("conjur/authn-cert/prod/ca-cert", clients.certificate().as_bytes())
        );
        let password = format!("Aa-Shared-12-{}", bench.namespace);
        bench.keep_secret(password.clone());
        let mut config = Config::new(bench.conjur.url().parse().unwrap(), "demo", Credentials::Anonymous);
        config.ca_bundle = Some(server.certificate().into_bytes());
        let key = Sensitive::new(keys["demo:user:alice"].clone());
        Client::new(config)
            .unwrap()
            .change_password("alice", &key, &Sensitive::new(password.clone()))
            .await
            .unwrap();
        let identity = clients.issue_client("web").unwrap();
        bench.keep_secret(identity.key.clone());
        bench.put_secret("web-tls", &[("tls.crt", &identity.certificate), ("tls.key", &identity.key)]).await;
        bench.put_secret("logins", &[("key", key.expose()), ("password", &password)]).await;
        let at = |name: &str, key: &str| json!({ "namespace": bench.namespace, "name": name, "key": key });
        let subject = format!("host/apps/k8s/system:serviceaccount:{}:app", bench.namespace);
        for (way, auth, who) in [
            (
                "key",
                json!({ "apiKey": { "login": "alice", "apiKeySecretRef": at("logins", "key") } }),
                "alice",
            ),
            (
                "password",
                json!({ "password": { "login": "alice", "passwordSecretRef": at("logins", "password") } }),
                "alice",
            ),
            (
                "jwt",
                json!({ "jwt": { "serviceID": "k8s", "serviceAccountRef": {
                    "namespace": bench.namespace, "name": "app", "audiences": ["conjur"],
                } } }),
                subject.as_str(),
            ),
            (
                "certificate",
                json!({ "certificate": { "serviceID": "prod", "hostID": "web", "certificateSecretRef": {
                    "namespace": bench.namespace, "name": "web-tls",
                } } }),
                "host/web",
            ),
        ] {
            let name = format!("{way}-{}", bench.namespace);
            let spec = json!({ "auth": auth, "tls": { "caBundle": server.certificate() } });
            assert_eq!(ready(&bench, &name, &spec).await.as_deref(), Some(who));
            let api = Api::<ClusterConjurConnection>::all(bench.client.clone());
            api.delete(&name, &DeleteParams::default()).await.unwrap();
        }
        bench.conjur.stop().await;
    });
}

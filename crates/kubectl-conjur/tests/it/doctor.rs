//! `doctor`: the way to Conjur, well and broken.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use conjur_dev::{Options, Server, TlsPem};
use testbed::pki::Authority;

use crate::setup::{Bench, test};

#[test]
fn a_connection_that_works_is_well_at_each_step_and_shows_no_value() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        bench.secret("db", &[("a", "a")]).await;
        bench.is("cjs/db", "Synced").await;
        // The development server speaks plain http, which is the one thing that is not well.
        let told = bench.plugin(&["doctor"]).await.ends(1);
        let told = told.says("accepted as host/ops").says("apps/a: 10 bytes").says("1 variables are visible");
        let told = told.says("this machine and the server agree").says("plain http").says("not tried");
        assert!(!told.out.contains("value-of-a"), "{}", told.out);
        bench
            .plugin(&["doctor", "conjur", "--write", "apps/a"])
            .await
            .ends(1)
            .says("its own value was written again");
        assert_eq!(bench.conjur.variable("apps/a").unwrap(), b"value-of-a");
        bench
            .plugin(&["doctor", "--variable", "apps/none"])
            .await
            .ends(1)
            .says("explain --variable apps/none");
        bench.conjur.set_clock_offset(-600);
        bench.plugin(&["doctor"]).await.ends(1).says("ahead of the server");
        // Also where the login is refused, as it may be for the clock.
        bench.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: conjur-login}\nstringData: {api-key: wrong}\n").await;
        bench.plugin(&["doctor"]).await.ends(1).says("ahead of the server").says("a wrong key");
    });
}

#[test]
fn the_environment_of_other_tools_is_tried_too() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        let (url, key) = (bench.conjur.url(), bench.conjur.api_key_of("host/ops").unwrap());
        let litellm = [
            ("CYBERARK_API_BASE", url.as_str()),
            ("CYBERARK_ACCOUNT", "demo"),
            ("CYBERARK_USERNAME", "host%2Fops"),
            ("CYBERARK_API_KEY", key.as_str()),
        ];
        bench.plugin_with(&["doctor", "--env"], &litellm).await.ends(1).says("accepted as host/ops");
        let wrong = [litellm[0], ("CYBERARK_ACCOUNT", "other"), litellm[2], litellm[3]];
        bench.plugin_with(&["doctor", "--env"], &wrong).await.ends(1).says("compare all three");
        bench
            .plugin_with(&["doctor", "--env"], &litellm[..2])
            .await
            .ends(2)
            .says("CONJUR_AUTHN_LOGIN or CYBERARK_USERNAME");
    });
}

async fn over_tls(bench: &Bench, authority: &Authority) -> Server {
    let identity = authority.issue(&["127.0.0.1"]).unwrap();
    let tls = TlsPem { certificate: identity.certificate, key: identity.key };
    let conjur = Server::start(Options { tls: Some(tls), ..Options::default() }).await.unwrap();
    conjur.load_root("- !host ops\n- !variable a\n- !permit {role: !host ops, privileges: [read, execute], resource: !variable a}\n").await.unwrap();
    assert!(conjur.set_variable("a", b"1"));
    let key = conjur.api_key_of("host/ops").unwrap();
    bench
        .apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: tls-login}}\nstringData: {{api-key: {key}}}\n"
        ))
        .await;
    conjur
}

#[test]
fn an_authority_that_is_missing_is_named() {
    test(|bench| async move {
        let (right, wrong) = (Authority::new("right").unwrap(), Authority::new("wrong").unwrap());
        let conjur = over_tls(&bench, &right).await;
        let connection = |name: &str, url: &str, authority: &Authority| {
            let pem = authority.certificate().replace('\n', "\n      ");
            format!(
                "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurConnection\nmetadata: {{name: {name}}}\nspec:\n  url: {url}\n  account: demo\n  \
                 tls:\n    caBundle: |\n      {pem}\n  auth: {{apiKey: {{login: host/ops, apiKeySecretRef: {{name: tls-login, key: api-key}}}}}}\n"
            )
        };
        bench.apply(&connection("good", &conjur.url(), &right)).await;
        bench.is("cjc/good", "Connected").await;
        let told = bench.plugin(&["doctor", "good"]).await.ends(0);
        told.says("trusted by the CA bundle").says("certificate for 127.0.0.1");
        bench.apply(&connection("bad", &conjur.url(), &wrong)).await;
        let told = bench.plugin(&["doctor", "bad"]).await.ends(1);
        told.says("the authority to trust is").says("spec.tls.caBundle").says("The CA bundle trusts");
    });
}

#[test]
fn what_is_in_the_way_is_told_at_its_step() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        let url = bench.conjur.url();
        let connection = |name: &str, url: &str, account: &str, login: &str, key: &str| {
            format!(
                "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurConnection\nmetadata: {{name: {name}}}\nspec:\n  url: {url}\n  account: {account}\n  \
                 auth: {{apiKey: {{login: {login}, apiKeySecretRef: {{name: conjur-login, key: {key}}}}}}}\n"
            )
        };
        for (name, manifest, expected) in [
            (
                "account",
                connection("account", &url, "other", "host/ops", "api-key"),
                "use the account demo, and this one other",
            ),
            ("login", connection("login", &url, "demo", "host/nobody", "api-key"), "compare all three"),
            (
                "key",
                connection("key", &url, "demo", "host/ops", "no-such"),
                "has no key no-such; its keys: api-key",
            ),
            (
                "port",
                connection("port", "http://127.0.0.1:1", "demo", "host/ops", "api-key"),
                "takes connections; 127.0.0.1:1",
            ),
            (
                "name",
                connection("name", "http://conjur.invalid", "demo", "host/ops", "api-key"),
                "can't be resolved",
            ),
        ] {
            bench.apply(&manifest).await;
            bench.plugin(&["doctor", name]).await.ends(1).says(expected);
        }
        // What the operator would not send either: a ServiceAccount's token in clear text, or one that the API server itself takes.
        let token = bench.kubectl(&["create", "token", "default"]).await;
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let own = claims["aud"][0].as_str().unwrap();
        for (name, url, audience, expected) in [
            ("clear", url.as_str(), "conjur", "is sent over https only"),
            ("own", "https://127.0.0.1:1", own, own),
        ] {
            bench
                .apply(&format!(
                    "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurConnection\nmetadata: {{name: {name}}}\nspec:\n  url: {url}\n  account: demo\n  \
                     auth: {{jwt: {{serviceID: dev, serviceAccountRef: {{name: default, audiences: [\"{audience}\"]}}}}}}\n"
                ))
                .await;
            let told = bench.plugin(&["doctor", name]).await.ends(1).says(expected);
            assert!(told.out.contains("settings") && !told.out.contains("reach"), "{}", told.out);
        }
        bench.plugin(&["doctor"]).await.ends(2).says("name a connection");
    });
}

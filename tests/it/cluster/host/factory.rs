//! Hosts that a host factory enrols: a token is made, used once and revoked, also after a crash; and tokens that were given.

use std::{collections::BTreeMap, time::Duration};

use conjur_client::{Client, Config, Credentials, sensitive::Sensitive};
use conjur_dev::{Effect, Kind, When};
use conjur_operator::{api::ConjurHost, seams::hash};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    super::{Bench, SOON, alone, setup::put, test},
    host, is_owned, memberships, rotated, status, strike, works,
};

/// The branch `billing` with a host factory, owned by the host that the connection is.
async fn with_factory(bench: &Bench) {
    bench
        .root("- !host ops\n- !policy\n  id: billing\n  owner: !host ops\n  body:\n  - !host old\n  - !layer web\n  - !host-factory {id: factory, layers: [!layer web]}\n")
        .await;
    bench.connect("host/ops").await;
}

fn by_factory(name: &str) -> Value {
    host(
        name,
        &json!({ "via": { "hostFactory": { "id": "billing/factory" } }, "annotations": { "team": "pay" } }),
    )
}

fn tokens(bench: &Bench) -> usize {
    bench.conjur.factory_tokens("billing/factory").len()
}

/// What the log and statuses must not show: tokens that are made.
fn admin(bench: &Bench) -> Client {
    let api_key = Sensitive::new(bench.conjur.admin_key());
    let credentials = Credentials::ApiKey { login: "admin".into(), api_key };
    Client::new(Config::new(bench.conjur.url().parse().unwrap(), "demo", credentials)).unwrap()
}

#[test]
fn a_factory_enrols_a_host_with_a_token_that_is_used_once_and_revoked() {
    test(|bench| async move {
        with_factory(&bench).await;
        put(&bench, &by_factory("web")).await;
        let object = bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        is_owned(&bench, "billing/web", "web").await;
        assert_eq!(bench.conjur.annotations("host", "billing/web")["team"], "pay");
        assert_eq!(memberships(&bench, "billing/web"), ["demo:layer:billing/web"]);
        assert_eq!(
            (tokens(&bench), bench.conjur.count(Kind::MakeTokens), bench.conjur.count(Kind::RevokeToken)),
            (0, 1, 1)
        );
        assert_eq!(status(&object).created, Some(true));
        rotated(&bench, "web", "x").await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.count(Kind::MakeTokens), 1, "a rotation needs no token");
    });
}

#[test]
fn a_host_that_the_factory_made_for_another_is_left_alone() {
    test(|bench| async move {
        with_factory(&bench).await;
        let admin = admin(&bench);
        let later = Timestamp::now() + Duration::from_secs(600);
        let made = admin.create_host_factory_tokens("billing/factory", later, &[], 1).await.unwrap();
        let theirs = admin.create_host(&made[0].token, "billing/web", &BTreeMap::new()).await.unwrap();
        bench.keep_secret(theirs.api_key.expose().clone());
        put(&bench, &by_factory("web")).await;
        let message = bench.says::<ConjurHost>("web", "ForeignHost").await;
        assert!(message.contains("host/billing/web"), "{message}");
        assert_eq!(bench.conjur.api_key_of("host/billing/web").as_ref(), Some(theirs.api_key.expose()));
        assert_eq!(bench.conjur.count(Kind::Enrol), 1, "no enrolment was even tried");
    });
}

#[test]
fn a_factory_that_is_visible_and_not_owned_enrols_nothing() {
    test(|bench| async move {
        bench
            .root("- !host ops\n- !policy\n  id: billing\n  body:\n  - !layer web\n  - !host-factory {id: factory, layers: [!layer web]}\n- !permit {role: !host ops, privileges: [read, execute], resource: !host-factory billing/factory}\n")
            .await;
        bench.connect("host/ops").await;
        let admin = admin(&bench);
        let later = Timestamp::now() + Duration::from_secs(600);
        let made = admin.create_host_factory_tokens("billing/factory", later, &[], 1).await.unwrap();
        let theirs = admin.create_host(&made[0].token, "billing/web", &BTreeMap::new()).await.unwrap();
        bench.keep_secret(theirs.api_key.expose().clone());
        put(&bench, &by_factory("web")).await;
        let message = bench.says::<ConjurHost>("web", "NotBranchOwner").await;
        assert!(message.contains("host/ops") && message.contains("billing/factory"), "{message}");
        assert_eq!(bench.conjur.api_key_of("host/billing/web").as_ref(), Some(theirs.api_key.expose()));
        assert_eq!((tokens(&bench), bench.conjur.count(Kind::MakeTokens)), (1, 1), "none is even made");
    });
}

#[test]
fn a_crash_between_making_a_token_and_revoking_it_leaves_none() {
    alone(|bench, mut operator| async move {
        with_factory(&bench).await;
        for (nth, (path, when)) in [
            ("/host_factory_tokens", When::After),
            ("/host_factories/hosts", When::Before),
            ("/host_factories/hosts", When::After),
            ("/host_factory_tokens/", When::Before),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("web{nth}");
            bench.conjur.clear_requests();
            strike(&bench, path, 1, when, Effect::Stall);
            put(&bench, &by_factory(&name)).await;
            let reached =
                || bench.conjur.requests().iter().any(|r| r.path.starts_with(path) && r.method != "GET");
            wait_for("the request", SOON, || async { reached().then_some(()) }).await.unwrap();
            if when == When::After {
                let effect = || tokens(&bench) > 0 || bench.conjur.exists("host", &format!("billing/{name}"));
                wait_for("its effect", SOON, || async { effect().then_some(()) }).await.unwrap();
            }
            operator.kill9().await.unwrap();
            bench.conjur.clear_faults();
            operator.restart().await.unwrap();
            bench.until("enrolled", &name, |h: &ConjurHost| status(h).applied.is_some()).await;
            works(&bench, &name, &format!("host/billing/{name}")).await;
            is_owned(&bench, &format!("billing/{name}"), &name).await;
            assert_eq!(tokens(&bench), 0, "a token is left after a crash at {path} {when:?}");
        }
    });
}

#[test]
fn a_token_of_a_crash_is_revoked_whatever_then_keeps_the_object_from_its_host() {
    alone(|bench, mut operator| async move {
        with_factory(&bench).await;
        for (name, reason) in [("foreign", "ForeignSecret"), ("template", "TemplateNotFound")] {
            bench.conjur.clear_requests();
            strike(&bench, "/host_factory_tokens", 1, When::After, Effect::Stall);
            put(&bench, &by_factory(name)).await;
            wait_for("the token", SOON, || async { (tokens(&bench) > 0).then_some(()) }).await.unwrap();
            operator.kill9().await.unwrap();
            bench.conjur.clear_faults();
            if reason == "ForeignSecret" {
                bench.put_secret(name, &[("login", "theirs")]).await;
            } else {
                let from = json!({ "kind": "ConfigMap", "name": "none", "key": "t" });
                let target = json!({ "template": { "dataFrom": [from] } });
                super::change(&bench, name, json!({ "spec": { "target": target } })).await;
            }
            operator.restart().await.unwrap();
            bench.says::<ConjurHost>(name, reason).await;
            wait_for("it is revoked", SOON, || async { (tokens(&bench) == 0).then_some(()) }).await.unwrap();
            assert!(!bench.conjur.exists("host", &format!("billing/{name}")));
        }
    });
}

#[test]
fn a_token_that_was_given_to_people_is_not_revoked_for_what_a_status_says() {
    test(|bench| async move {
        with_factory(&bench).await;
        given(&bench, 600, &[]).await;
        let token = bench.conjur.factory_tokens("billing/factory");
        let seen = admin(&bench).show_host_factory("billing/factory").await.unwrap().unwrap();
        let expires = seen.tokens[0].expiration.as_second();
        let mut object = by_factory("web");
        object["spec"]["suspend"] = true.into();
        put(&bench, &object).await;
        let server = hash([bench.conjur.url().trim_end_matches('/'), "demo"]);
        let forged = json!({ "status": { "pending": {
            "step": "Enrol", "at": Timestamp::now().as_second(), "number": 1, "server": server,
            "token": { "factory": "billing/factory", "expires": expires },
        } } });
        let api = bench.api::<ConjurHost>();
        api.patch_status("web", &PatchParams::default(), &Patch::Merge(forged)).await.unwrap();
        super::change(&bench, "web", json!({ "spec": { "suspend": false } })).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.factory_tokens("billing/factory").len(), token.len());
    });
}

/// A token of the factory, as an administrator gives one.
async fn given(bench: &Bench, life: u64, cidrs: &[String]) -> String {
    let later = Timestamp::now() + Duration::from_secs(life);
    let made = admin(bench).create_host_factory_tokens("billing/factory", later, cidrs, 1).await.unwrap();
    let token = made[0].token.expose().clone();
    bench.keep_secret(token.clone());
    token
}

fn by_token(name: &str) -> Value {
    let via = json!({ "hostFactoryTokenSecretRef": { "name": "given", "key": "token" } });
    host(name, &json!({ "via": via, "conflictPolicy": "Adopt" }))
}

#[test]
fn a_given_token_enrols_a_host_and_is_needed_no_more_when_its_key_is_stored() {
    test(|bench| async move {
        with_factory(&bench).await;
        put(&bench, &by_token("web")).await;
        let message = bench.says::<ConjurHost>("web", "CredentialsNotFound").await;
        assert!(message.contains("given") && message.contains("'token'"), "{message}");
        let token = given(&bench, 600, &[]).await;
        bench.put_secret("given", &[("token", &token)]).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        is_owned(&bench, "billing/web", "web").await;
        assert_eq!(tokens(&bench), 1, "it is not the operator's to revoke");
        bench.kubectl(&["delete", "secret", "given"]).await;
        super::looked_again(&bench, "web", "look").await;
        bench.ready::<ConjurHost>("web").await;
        rotated(&bench, "web", "x").await;
        works(&bench, "web", "host/billing/web").await;
        assert_eq!(bench.conjur.count(Kind::Enrol), 1);
    });
}

#[test]
fn a_given_token_that_ended_is_revoked_or_is_for_elsewhere_is_told() {
    test(|bench| async move {
        with_factory(&bench).await;
        let elsewhere = given(&bench, 600, &["10.0.0.0/8".to_owned()]).await;
        bench.put_secret("given", &[("token", &elsewhere)]).await;
        put(&bench, &by_token("web")).await;
        let message = bench.says::<ConjurHost>("web", "KeyNotStored").await;
        assert!(message.contains("hostFactoryTokenSecretRef") && message.contains("address"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/web"));
        let revoked = given(&bench, 600, &[]).await;
        let admin = admin(&bench);
        admin.revoke_host_factory_token(&Sensitive::new(revoked.clone())).await.unwrap();
        bench.put_secret("given", &[("token", &revoked)]).await;
        super::annotate(&bench, "web", "sync-now", "x").await;
        bench.says::<ConjurHost>("web", "KeyNotStored").await;
        let ended = given(&bench, 600, &[]).await;
        bench.conjur.set_clock_offset(3600);
        bench.put_secret("given", &[("token", &ended)]).await;
        super::annotate(&bench, "web", "sync-now", "y").await;
        bench.says::<ConjurHost>("web", "KeyNotStored").await;
        assert!(!bench.conjur.exists("host", "billing/web"));
        bench.conjur.set_clock_offset(0);
        super::annotate(&bench, "web", "sync-now", "z").await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
    });
}

#[test]
fn a_given_token_does_not_take_a_host_of_somebody_else() {
    test(|bench| async move {
        with_factory(&bench).await;
        let token = given(&bench, 600, &[]).await;
        bench.put_secret("given", &[("token", &token)]).await;
        let mut object = by_token("web");
        object["spec"]["id"] = "billing/old".into();
        put(&bench, &object).await;
        let message = bench.says::<ConjurHost>("web", "ForeignHost").await;
        assert!(message.contains("host/billing/old"), "{message}");
        assert_eq!(bench.conjur.key_generation("host/billing/old"), Some(0));
    });
}

#[test]
fn a_factory_that_is_not_the_identitys_is_told() {
    test(|bench| async move {
        with_factory(&bench).await;
        let more = json!({ "via": { "hostFactory": { "id": "billing/none" } } });
        put(&bench, &host("web", &more)).await;
        let message = bench.says::<ConjurHost>("web", "HostNotFound").await;
        assert!(message.contains("billing/none"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/web"));
    });
}

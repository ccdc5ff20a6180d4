//! Through a ClusterConjurConnection: each way of enrolment works within the rules, rights that end keep what was begun from going on and
//! lose nothing, and identities of connections are protected whatever their connections do.

use std::{collections::BTreeMap, time::Duration};

use conjur_client::{Client, Config, Credentials, sensitive::Sensitive};
use conjur_dev::{Effect, Hold, Kind, Point, When};
use conjur_operator::{
    api::{ConjurConnection, ConjurHost},
    seams::hash,
};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testbed::wait_for;

use super::{
    super::{
        Bench, SOON, Told,
        access::end,
        alone,
        setup::{later, put},
        test,
    },
    access::{by, grant, through},
    annotate, change, host, memberships, says_that, status, strike, works,
};

const FACTORY: &str = "mine/factory";

fn tokens(bench: &Bench) -> usize {
    bench.conjur.factory_tokens(FACTORY).len()
}

/// A token of the factory, as an administrator gives one.
async fn given(bench: &Bench) -> String {
    let api_key = Sensitive::new(bench.conjur.admin_key());
    let credentials = Credentials::ApiKey { login: "admin".into(), api_key };
    let admin = Client::new(Config::new(bench.conjur.url().parse().unwrap(), "demo", credentials)).unwrap();
    let at = Timestamp::now() + Duration::from_secs(600);
    let made = admin.create_host_factory_tokens(FACTORY, at, &[], 1).await.unwrap();
    let token = made[0].token.expose().clone();
    bench.keep_secret(token.clone());
    token
}

#[test]
fn factories_given_tokens_and_new_memberships_work_within_the_rules() {
    test(|bench| async move {
        let name = through(&bench, &["mine"]).await;
        let by_factory = json!({ "via": { "hostFactory": { "id": FACTORY } } });
        put(&bench, &by(&name, "made", "mine/made", &by_factory)).await;
        bench.ready::<ConjurHost>("made").await;
        works(&bench, "made", "host/mine/made").await;
        assert_eq!(memberships(&bench, "mine/made"), ["demo:layer:mine/web"]);
        assert_eq!(tokens(&bench), 0);

        let token = given(&bench).await;
        bench.put_secret("token", &[("token", &token)]).await;
        let via = json!({ "hostFactoryTokenSecretRef": { "name": "token", "key": "token" } });
        put(&bench, &by(&name, "given", "mine/given", &json!({ "via": via, "conflictPolicy": "Adopt" })))
            .await;
        bench.ready::<ConjurHost>("given").await;
        works(&bench, "given", "host/mine/given").await;

        // A status that says that the token of others was made for this object, whose factory is granted: also where it is its own.
        let expires = bench.conjur.factory_tokens(FACTORY)[0].expiration.as_second();
        let server = hash([bench.conjur.url().trim_end_matches('/'), "demo"]);
        for (object, more) in [("forged", json!({})), ("forged-factory", by_factory)] {
            let mut more = more.clone();
            more["suspend"] = true.into();
            put(&bench, &by(&name, object, &format!("mine/{object}"), &more)).await;
            let forged = json!({ "status": { "pending": {
                "step": "Enrol", "at": Timestamp::now().as_second(), "number": 1, "server": server,
                "token": { "factory": FACTORY, "expires": expires },
            } } });
            let api = bench.api::<ConjurHost>();
            api.patch_status(object, &PatchParams::default(), &Patch::Merge(forged)).await.unwrap();
            change(&bench, object, json!({ "spec": { "suspend": false } })).await;
            bench.ready::<ConjurHost>(object).await;
            works(&bench, object, &format!("host/mine/{object}")).await;
            assert_eq!(tokens(&bench), 1, "{object}");
        }

        // Memberships that come later: within the rules, beyond them, and back.
        put(&bench, &by(&name, "web", "mine/web", &json!({}))).await;
        bench.ready::<ConjurHost>("web").await;
        change(&bench, "web", json!({ "spec": { "memberOf": ["layer/mine/web"] } })).await;
        bench.ready::<ConjurHost>("web").await;
        assert_eq!(memberships(&bench, "mine/web"), ["demo:layer:mine/web"]);
        let loads = bench.conjur.loads("mine");
        let beyond = json!({ "spec": { "memberOf": ["layer/mine/web", "layer/victim/admins"] } });
        change(&bench, "web", beyond).await;
        let message = bench.says::<ConjurHost>("web", "AccessDenied").await;
        assert!(message.contains("layer/victim/admins"), "{message}");
        assert_eq!(memberships(&bench, "mine/web"), ["demo:layer:mine/web"]);
        assert_eq!((bench.conjur.loads("mine"), bench.conjur.loads("victim")), (loads, 0));
        change(&bench, "web", json!({ "spec": { "memberOf": null } })).await;
        bench.ready::<ConjurHost>("web").await;
        assert!(memberships(&bench, "mine/web").is_empty());
        works(&bench, "web", "host/mine/web").await;
        end(&bench, &name).await;
    });
}

#[test]
fn a_token_of_a_crash_is_left_alone_without_access_and_revoked_when_it_is_back() {
    alone(|bench, mut operator| async move {
        let name = through(&bench, &["mine"]).await;
        strike(&bench, "/host_factory_tokens", 1, When::After, Effect::Stall);
        put(&bench, &by(&name, "web", "mine/web", &json!({ "via": { "hostFactory": { "id": FACTORY } } })))
            .await;
        wait_for("the token", SOON, || async { (tokens(&bench) > 0).then_some(()) }).await.unwrap();
        operator.kill9().await.unwrap();
        bench.conjur.clear_faults();
        grant(&bench, &name, &["other"], None).await;
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        bench.says::<ConjurHost>("web", "AccessDenied").await;
        assert_eq!(
            (tokens(&bench), bench.conjur.count(Kind::RevokeToken)),
            (1, 0),
            "a status grants nothing"
        );
        grant(&bench, &name, &["mine"], None).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/mine/web").await;
        assert_eq!(tokens(&bench), 0);
        end(&bench, &name).await;
    });
}

#[test]
fn a_rule_that_is_withdrawn_between_an_announcement_and_its_load_has_nothing_loaded() {
    test(|bench| async move {
        let name = through(&bench, &["mine"]).await;
        let path = "/policies/demo/policy/mine".to_owned();
        let gate = bench.conjur.hold(Hold { method: None, path, at: Point::BeforeCommit, count: Some(1) });
        put(&bench, &by(&name, "first", "mine/first", &json!({}))).await;
        wait_for("its load", SOON, || async { (bench.conjur.held() == 1).then_some(()) }).await.unwrap();
        put(&bench, &by(&name, "web", "mine/web", &json!({}))).await;
        bench.until("it is announced", "web", |h: &ConjurHost| status(h).pending.is_some()).await;
        grant(&bench, &name, &["other"], None).await;
        later().await;
        bench.conjur.release(gate);
        for object in ["first", "web"] {
            says_that(&bench, object, "AccessDenied", "mine/").await;
        }
        assert!(!bench.conjur.exists("host", "mine/web"));
        let withdrawn = |h: &ConjurHost| status(h).pending.is_none();
        bench.until("it is announced no more", "web", withdrawn).await;
        // What was sent before made a host, whose key is not lost.
        works(&bench, "first", "host/mine/first").await;
        assert_eq!(bench.conjur.loads("mine"), 1);
        grant(&bench, &name, &["mine"], None).await;
        for object in ["first", "web"] {
            bench.ready::<ConjurHost>(object).await;
            works(&bench, object, &format!("host/mine/{object}")).await;
            assert_eq!(bench.conjur.key_generation(&format!("host/mine/{object}")), Some(0));
        }
        end(&bench, &name).await;
    });
}

/// Has the object looked at anew, by an edit, and waits until it says again that identities are protected.
async fn still_protected(bench: &Bench, object: &str, edit: &str) {
    change(bench, object, json!({ "spec": { "rotation": { "interval": edit } } })).await;
    let protected = |h: &ConjurHost| {
        status(h).observed_generation == h.metadata.generation
            && h.told().1.iter().any(|c| c.reason == "AccessDenied" && c.message.contains("identities: true"))
    };
    bench.until("it is refused", object, protected).await;
}

#[test]
fn the_identity_of_a_connection_is_protected_after_a_start_a_failure_and_an_edit() {
    alone(|bench, mut operator| async move {
        let name = through(&bench, &["mine"]).await;
        bench.conjur.load("mine", "- !host bot\n- !host bot2\n").await.unwrap();
        let mut keys = BTreeMap::new();
        for bot in ["bot", "bot2"] {
            let key = bench.conjur.api_key_of(&format!("host/mine/{bot}")).unwrap();
            bench.keep_secret(key.clone());
            bench.put_secret(bot, &[("api-key", &key)]).await;
            keys.insert(bot, key);
        }
        let bots =
            |bot: &str| bench.connection("bots", &format!("host/mine/{bot}")).replace("conjur-login", bot);
        bench.apply(&bots("bot")).await;
        bench.ready::<ConjurConnection>("bots").await;
        let existing = json!({ "via": { "existing": {} }, "conflictPolicy": "Adopt" });
        put(&bench, &by(&name, "web", "mine/bot", &existing)).await;
        bench.says::<ConjurHost>("web", "AccessDenied").await;

        // After a start, with a rotation that was asked for before anything was known.
        operator.kill9().await.unwrap();
        annotate(&bench, "web", "rotate-now", "x").await;
        operator.restart().await.unwrap();
        still_protected(&bench, "web", "1h").await;

        // The same, while that connection fails: only its status says who it is.
        operator.kill9().await.unwrap();
        let login = "/authn/demo/host%2Fmine%2Fbot/authenticate";
        let down = Effect::Status { status: 503, retry_after: None };
        bench.conjur.fault(conjur_dev::Fault {
            method: None,
            path: login.into(),
            count: None,
            when: When::Before,
            effect: down,
        });
        bench.conjur.clear_requests();
        operator.restart().await.unwrap();
        let tried = || bench.conjur.requests().iter().any(|r| r.path.starts_with(login));
        wait_for("the connection fails", SOON, || async { tried().then_some(()) }).await.unwrap();
        still_protected(&bench, "web", "2h").await;
        bench.conjur.clear_faults();
        assert_eq!(bench.conjur.api_key_of("host/mine/bot").as_ref(), keys.get("bot"));

        // Edited, it is someone else: that one is protected then, and the former one no more.
        bench.ready::<ConjurConnection>("bots").await;
        bench.apply(&bots("bot2")).await;
        let is_other = |c: &ConjurConnection| {
            c.status.as_ref().and_then(|s| s.identity.as_deref()) == Some("host/mine/bot2")
        };
        bench.until("it is the other", "bots", is_other).await;
        annotate(&bench, "web", "sync-now", "y").await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/mine/bot").await;
        put(&bench, &by(&name, "other", "mine/bot2", &existing)).await;
        bench.says::<ConjurHost>("other", "AccessDenied").await;
        still_protected(&bench, "other", "1h").await;
        assert_eq!(bench.conjur.api_key_of("host/mine/bot2").as_ref(), keys.get("bot2"));
        bench.ready::<ConjurConnection>("bots").await;
        end(&bench, &name).await;
    });
}

#[test]
fn a_host_that_may_not_log_in_from_the_operators_address_is_kept_all_the_same() {
    test(|bench| async move {
        super::billing(&bench).await;
        put(&bench, &host("web", &json!({ "restrictedTo": ["10.0.0.0/8"] }))).await;
        bench.ready::<ConjurHost>("web").await;
        works(&bench, "web", "host/billing/web").await;
        super::looked_again(&bench, "web", "look").await;
        super::rotated(&bench, "web", "x").await;
        works(&bench, "web", "host/billing/web").await;
        super::looked_again(&bench, "web", "look again").await;
        bench.ready::<ConjurHost>("web").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1));
        let login = "/authn/demo/host%2Fbilling%2Fweb/authenticate";
        assert!(bench.conjur.requests().iter().all(|r| r.path != login), "that would be refused");
    });
}

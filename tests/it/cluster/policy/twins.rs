//! Two objects that ask for the same.

use conjur_client::{Client, Config, Credentials, LoadMode, PolicyBranch, sensitive::Sensitive};
use conjur_dev::Point;
use conjur_operator::api::ConjurPolicy;

use super::super::{Bench, alone, test};
use super::{billing, held, keys_in, keys_work, old_host_is_untouched, policy, status, version};

#[test]
fn two_policies_cannot_share_a_secret_for_keys() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host p\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.apply(&policy("q", &keys_in("roles"), "- !host q\n")).await;
        let message = bench.says::<ConjurPolicy>("q", "ForeignSecret").await;
        assert!(message.contains("it was written for ConjurPolicy/p"), "{message}");
        assert!(!bench.conjur.exists("host", "billing/q"), "refused before the load");
        keys_work(&bench, "roles", &["p"]).await;
    });
}

#[test]
fn a_twins_key_is_not_rotated() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        // p announces and is killed before its load does anything; q then loads the very same document.
        bench.conjur.fault(super::load_fault(1, conjur_dev::When::Before, conjur_dev::Effect::Stall));
        let document = "- !host old\n- !host web\n";
        bench.apply(&policy("p", &keys_in("p-roles"), document)).await;
        testbed::wait_for("the announcement and the load", super::SOON, || async {
            (super::loads(&bench) == 1).then_some(())
        })
        .await
        .unwrap();
        operator.kill9().await.unwrap();
        bench
            .kubectl(&["patch", "conjurpolicy", "p", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#])
            .await;
        bench.apply(&policy("q", &keys_in("q-roles"), document)).await;
        operator.restart().await.unwrap();
        bench.ready::<ConjurPolicy>("q").await;
        keys_work(&bench, "q-roles", &["web"]).await;
        bench
            .kubectl(&["patch", "conjurpolicy", "p", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#])
            .await;
        let p = bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0));
        assert_eq!(status(&p).created_roles, None, "it is q's");
        keys_work(&bench, "q-roles", &["web"]).await;
        old_host_is_untouched(&bench);
    });
}

#[test]
fn a_dead_key_in_the_secret_of_another_is_not_taken_for_that_of_a_role_that_was_made_anew() {
    test(|bench| async move {
        billing(&bench).await;
        let document = "- !host old\n- !host web\n";
        bench.apply(&policy("q", &keys_in("q-roles"), document)).await;
        bench.ready::<ConjurPolicy>("q").await;
        bench.keep_secret(bench.conjur.api_key_of("host/billing/web").unwrap());
        // Somebody deletes the host, whose key stays where it was stored.
        let api_key = Sensitive::new(bench.conjur.api_key_of("host/ops").unwrap());
        let credentials = Credentials::ApiKey { login: "host/ops".into(), api_key };
        let ops = Client::new(Config::new(bench.conjur.url().parse().unwrap(), "demo", credentials)).unwrap();
        let branch = PolicyBranch::new("billing").unwrap();
        let delete = b"- !delete {record: !host web}\n";
        ops.load_policy(&branch, LoadMode::Update, delete).await.unwrap();
        assert!(!bench.conjur.exists("host", "billing/web"));
        // p makes it anew with the very same document, and the answer is lost.
        bench.conjur.fault(super::load_fault(1, conjur_dev::When::After, conjur_dev::Effect::Reset));
        bench.apply(&policy("p", &keys_in("p-roles"), document)).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "p-roles", &["web"]).await;
        old_host_is_untouched(&bench);
    });
}

#[test]
fn a_load_that_was_refused_for_another_does_not_claim_what_a_twin_makes() {
    test(|bench| async move {
        billing(&bench).await;
        let at = Point::BeforeCommit;
        let stranger =
            bench.conjur.hold(conjur_dev::Hold { method: None, path: String::new(), at, count: Some(1) });
        let conjur = bench.conjur.clone();
        let busy = tokio::spawn(async move { conjur.load("billing", "- !variable theirs\n").await });
        held(&bench, 1).await;
        let document = "- !host old\n- !host web\n";
        bench.apply(&policy("p", &keys_in("p-roles"), document)).await;
        bench.apply(&policy("q", &keys_in("q-roles"), document)).await;
        bench.says::<ConjurPolicy>("p", "LoadInProgress").await;
        bench.says::<ConjurPolicy>("q", "LoadInProgress").await;
        bench.conjur.release(stranger);
        busy.await.unwrap().unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        bench.ready::<ConjurPolicy>("q").await;
        assert_eq!(
            bench.conjur.key_generation("host/billing/web"),
            Some(0),
            "one made it and stored its key"
        );
        let key = bench.conjur.api_key_of("host/billing/web").unwrap();
        bench.keep_secret(key.clone());
        let mut stored = 0;
        for secret in ["p-roles", "q-roles"] {
            let data = bench.data(secret).await.unwrap_or_default();
            stored += data.values().filter(|value| **value == key).count();
        }
        assert_eq!(stored, 1);
    });
}

/// Another server with a branch `billing`, and a connection `other` to it.
pub(super) async fn other_server(bench: &Bench) -> conjur_dev::Server {
    let other = conjur_dev::Server::start(conjur_dev::Options::default()).await.unwrap();
    other.load_root("- !host ops\n- !policy {id: billing, owner: !host ops}\n").await.unwrap();
    bench.put_secret("other-login", &[("api-key", &other.api_key_of("host/ops").unwrap())]).await;
    let manifest = bench.connection("other", "host/ops").replace(&bench.conjur.url(), &other.url());
    bench.apply(&manifest.replace("conjur-login", "other-login")).await;
    other
}

#[test]
fn keys_of_another_server_are_not_overwritten() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let other = other_server(&bench).await;
        let moved = |secret: &str| {
            policy("p", &keys_in(secret), "- !host web\n").replace("{name: conjur}", "{name: other}")
        };
        bench.apply(&moved("roles")).await;
        let message = bench.says::<ConjurPolicy>("p", "InvalidSpec").await;
        assert!(message.contains("/roles keeps the keys of host/billing/web"), "{message}");
        assert!(!other.exists("host", "billing/web"), "it is refused before the load");
        bench.apply(&moved("others")).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web"]).await;
        let key = bench.data("others").await.unwrap().remove("host.billing_2fweb.api-key");
        assert!(key.is_some() && key == other.api_key_of("host/billing/web"));
        // Nor is an object that is made anew taken in: it knows nothing of where the first one loaded.
        super::removal::delete(&bench, "p").await;
        super::removal::gone(&bench, "p").await;
        let stored = bench.data("roles").await;
        // Whether it would make the same role anew, or another one beside it.
        let key = Sensitive::new(other.api_key_of("host/ops").unwrap());
        let credentials = Credentials::ApiKey { login: "host/ops".into(), api_key: key };
        let ops = Client::new(Config::new(other.url().parse().unwrap(), "demo", credentials)).unwrap();
        let branch = PolicyBranch::new("billing").unwrap();
        ops.load_policy(&branch, LoadMode::Replace, b"[]\n").await.unwrap();
        for document in ["- !host web\n", "- !host two\n"] {
            let inline = serde_json::to_string("- !host web\n").unwrap();
            let again = moved("roles").replace(&inline, &serde_json::to_string(document).unwrap());
            bench.apply(&again).await;
            let message = bench.says::<ConjurPolicy>("p", "InvalidSpec").await;
            assert!(message.contains("/roles keeps the keys of host/billing/web"), "{message}");
            let made = other.exists("host", "billing/web") || other.exists("host", "billing/two");
            assert!(!made, "{document}: it is refused before the load");
            assert!(bench.data("roles").await == stored, "{document}: the stored key is as it was");
            super::removal::delete(&bench, "p").await;
            super::removal::gone(&bench, "p").await;
        }
        other.stop().await;
    });
}

#[test]
fn keys_of_another_server_do_not_go_with_the_object() {
    test(|bench| async move {
        billing(&bench).await;
        let deletes = |secret: &str| super::removal::deletes(&keys_in(secret));
        bench.apply(&policy("p", &deletes("roles"), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let other = other_server(&bench).await;
        let moved =
            policy("p", &deletes("others"), "- !host web\n").replace("{name: conjur}", "{name: other}");
        bench.apply(&moved).await;
        testbed::wait_for("the load into the other server", super::SOON, || async {
            other.exists("host", "billing/web").then_some(())
        })
        .await
        .unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        super::removal::delete(&bench, "p").await;
        super::removal::gone(&bench, "p").await;
        assert!(!other.exists("host", "billing/web"), "made there last, it goes");
        assert!(bench.conjur.exists("host", "billing/web"));
        keys_work(&bench, "roles", &["web"]).await;
        bench.events("LeftInConjur", "/roles stays: its keys were made on another server").await;
        bench.events("LeftInConjur", "also loaded into another server").await;
        other.stop().await;
    });
}

#[test]
fn a_server_is_one_however_its_address_is_spelled() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", &super::removal::deletes(&keys_in("roles")), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        let respelled = bench.connection("conjur", "host/ops").replace("//127.0.0.1:", "//127.1:");
        assert!(respelled.contains("//127.1:"), "{respelled}");
        bench.apply(&respelled).await;
        bench.ready::<conjur_operator::api::ConjurConnection>("conjur").await;
        super::settled(&bench, "later").await;
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(version(&bench, "billing"), 1, "it is not loaded again");
        bench.keep_secret(bench.conjur.api_key_of("host/billing/web").unwrap());
        super::removal::delete(&bench, "p").await;
        super::removal::gone(&bench, "p").await;
        assert!(!bench.conjur.exists("host", "billing/web"), "what was made there is removed");
        testbed::wait_for("the Secret with the keys to go", super::SOON, || async {
            bench.data("roles").await.is_none().then_some(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_role_of_the_same_id_on_another_server_is_another_one() {
    test(|bench| async move {
        billing(&bench).await;
        let other = other_server(&bench).await;
        let manifest = policy("q", &keys_in("q-roles"), "- !host web\n");
        bench.apply(&manifest.replace("{name: conjur}", "{name: other}")).await;
        bench.ready::<ConjurPolicy>("q").await;
        bench.kubectl(&["delete", "conjurconnection", "other"]).await;

        let reset = conjur_dev::Effect::Reset;
        bench.conjur.fault(super::load_fault(1, conjur_dev::When::After, reset));
        bench.apply(&policy("p", &keys_in("p-roles"), "- !host old\n- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "p-roles", &["web"]).await;
        let theirs = bench.data("q-roles").await.unwrap().remove("host.billing_2fweb.api-key");
        assert!(theirs.is_some() && theirs == other.api_key_of("host/billing/web"));
        other.stop().await;
    });
}

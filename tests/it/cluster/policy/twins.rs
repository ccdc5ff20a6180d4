//! Two objects that ask for the same.

use conjur_dev::Point;
use conjur_operator::api::ConjurPolicy;

use super::super::{Bench, alone, test};
use super::{billing, held, keys_in, keys_work, old_host_is_untouched, policy, status};

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
async fn other_server(bench: &Bench) -> conjur_dev::Server {
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
        other.stop().await;
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

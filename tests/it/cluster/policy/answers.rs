//! Answers that are lost on the way, and outages.

use conjur_dev::{Effect, Fault, Kind, When};
use conjur_operator::api::{ConjurConnection, ConjurPolicy};

use super::super::{alone, test};
use super::{
    billing, hosts_document, keys_in, keys_work, load_fault, old_host_is_untouched, policy, version,
};

#[test]
fn a_lost_answer_loses_no_key() {
    for effect in [Effect::Reset, Effect::Truncate, Effect::Status { status: 502, retry_after: None }] {
        test(|bench| async move {
            billing(&bench).await;
            bench.conjur.fault(load_fault(1, When::After, effect));
            bench.apply(&policy("p", &keys_in("roles"), "- !host old\n- !host web\n- !host two\n")).await;
            bench.ready::<ConjurPolicy>("p").await;
            keys_work(&bench, "roles", &["web", "two"]).await;
            old_host_is_untouched(&bench);
            assert_eq!(version(&bench, "billing"), 1, "{effect:?}: what happened can be read");
            assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(1));
            for host in ["web", "two"] {
                bench
                    .events("KeyRotated", &format!("host/billing/{host} was lost before it was stored"))
                    .await;
            }
        });
    }
}

#[test]
fn a_lost_answer_loses_none_of_many_keys() {
    test(|bench| async move {
        billing(&bench).await;
        bench.conjur.fault(load_fault(1, When::After, Effect::Reset));
        let hosts: Vec<String> = (0..30).map(|i| format!("h{i}")).collect();
        bench.apply(&policy("p", &keys_in("roles"), &hosts_document(&hosts))).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &hosts.iter().map(String::as_str).collect::<Vec<_>>()).await;
        old_host_is_untouched(&bench);
        assert_eq!((version(&bench, "billing"), bench.conjur.count(Kind::Rotate)), (1, 30));
    });
}

#[test]
fn many_lost_answers_in_a_row_lose_no_key() {
    test(|bench| async move {
        billing(&bench).await;
        bench.conjur.fault(load_fault(1, When::Before, Effect::Reset));
        bench.conjur.fault(load_fault(1, When::After, Effect::Reset));
        // The rotation of a lost key may be lost again.
        bench.conjur.fault(Fault {
            method: Some("PUT".into()),
            path: "/authn/demo/api_key".into(),
            count: Some(1),
            when: When::After,
            effect: Effect::Truncate,
        });
        bench.apply(&policy("p", &keys_in("roles"), "- !host old\n- !host web\n- !host two\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web", "two"]).await;
        old_host_is_untouched(&bench);
        assert_eq!(version(&bench, "billing"), 1);
        assert_eq!(bench.conjur.count(Kind::Rotate), 3);
    });
}

#[test]
fn an_outage_is_waited_out() {
    alone(|bench, _operator| async move {
        billing(&bench).await;
        bench.conjur.stop().await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host old\n- !host web\n")).await;
        bench
            .until("waiting", "p", |p: &ConjurPolicy| {
                let conditions = p.status.clone().unwrap_or_default().conditions.unwrap_or_default();
                conditions.iter().any(|c| {
                    c.type_ == "Ready"
                        && c.status == "False"
                        && ["ConjurUnavailable", "ConnectionNotReady"].contains(&c.reason.as_str())
                })
            })
            .await;
        bench
            .until("not Ready", "conjur", |c: &ConjurConnection| {
                let conditions = c.status.clone().unwrap_or_default().conditions.unwrap_or_default();
                conditions.iter().any(|c| c.reason == "ConjurUnavailable")
            })
            .await;
        bench.conjur.resume().await.unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web"]).await;
        old_host_is_untouched(&bench);
        assert_eq!(version(&bench, "billing"), 1);
    });
}

#[test]
fn an_outage_during_a_load_loses_no_key() {
    test(|bench| async move {
        billing(&bench).await;
        let _gate = super::hold(&bench, conjur_dev::Point::BeforeCommit);
        bench.apply(&policy("p", &keys_in("roles"), "- !host old\n- !host web\n")).await;
        super::held(&bench, 1).await;
        bench.conjur.stop().await;
        let message = bench.says::<ConjurPolicy>("p", "ConjurUnavailable").await;
        assert!(message.contains("Whether the document was loaded is found out"), "{message}");
        bench.conjur.release_all();
        bench.conjur.resume().await.unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web"]).await;
        old_host_is_untouched(&bench);
        assert_eq!(version(&bench, "billing"), 1);
    });
}

//! Connections that use a Secret whose key a ConjurHost rotates go on through the rotation.

use std::time::Duration;

use conjur_dev::{Effect, Kind, When};
use conjur_operator::api::{ConjurConnection, ConjurHost, ConjurSecret, condition::find};
use futures::StreamExt;
use kube::{
    Api,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::json;
use testbed::{ApiPath, Loss, Operator, OperatorOptions, wait_for};

use super::{
    super::{
        Bench, SOON, Told, alone,
        setup::{put, secret},
        test,
    },
    ROTATE, annotate, host, rotated, status, strike, works,
};

const ROTATIONS: usize = 20;
const SECRETS: usize = 200;

/// The connection `bots` as a host whose key a ConjurHost keeps through the connection `conjur`, which owns it.
async fn bots(bench: &Bench) {
    bench.root("- !host ops\n- !policy\n  id: billing\n  owner: !host ops\n  body:\n  - !variable v\n").await;
    bench.connect("host/ops").await;
    put(bench, &host("bot", &json!({}))).await;
    bench.ready::<ConjurHost>("bot").await;
    bench
        .conjur
        .load("billing", "- !permit {role: !host bot, privileges: [read, execute], resource: !variable v}\n")
        .await
        .unwrap();
    let key = |key: &str| json!({ "name": "bot", "key": key });
    let connection = json!({
        "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurConnection", "metadata": { "name": "bots" },
        "spec": {
            "url": bench.conjur.url(), "account": "demo", "tokenRefreshInterval": "10s",
            "auth": { "apiKey": { "loginSecretRef": key("login"), "apiKeySecretRef": key("api-key") } },
        },
    });
    put(bench, &connection).await;
    bench.ready::<ConjurConnection>("bots").await;
}

/// Gathers whatever is ever not Ready of a kind, until it is dropped.
fn faults<K: Told + Send + Sync + 'static>(bench: &Bench) -> std::sync::Arc<std::sync::Mutex<Vec<String>>> {
    let found = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
    let (api, into) = (Api::<K>::namespaced(bench.client.clone(), &bench.namespace), found.clone());
    tokio::spawn(async move {
        loop {
            let Ok(stream) = api.watch(&WatchParams::default().timeout(250), "0").await else { return };
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                let Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
                let conditions = object.told().1;
                let bad = find(&conditions, "Ready").filter(|c| c.status != "True");
                let bad = bad.or_else(|| conditions.iter().find(|c| c.type_ != "Ready"));
                if let Some(bad) = bad {
                    into.lock().unwrap().push(format!(
                        "{}: {} {}",
                        object.meta().name.clone().unwrap_or_default(),
                        bad.reason,
                        bad.message
                    ));
                }
            }
        }
    });
    found
}

#[test]
fn a_connection_goes_on_through_twenty_rotations_without_one_failed_sync() {
    test(|bench| async move {
        bots(&bench).await;
        bench.set("billing/v");
        for nth in 0..SECRETS {
            let object = json!({
                "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": { "name": format!("s{nth}") },
                "spec": {
                    "connectionRef": { "name": "bots" }, "refreshInterval": "10s", "data": [{ "key": "v", "variable": "billing/v" }],
                },
            });
            put(&bench, &object).await;
        }
        for nth in 0..SECRETS {
            bench.ready::<ConjurSecret>(&format!("s{nth}")).await;
        }
        let (failed, unready) = (faults::<ConjurSecret>(&bench), faults::<ConjurConnection>(&bench));
        for nth in 0..ROTATIONS {
            // The answer comes late, so that renewals of the token fall between the rotation and its stored key.
            strike(&bench, ROTATE, 1, When::After, Effect::Latency { millis: 1500 });
            bench.set("billing/v");
            rotated(&bench, "bot", &nth.to_string()).await;
            works(&bench, "bot", "host/billing/bot").await;
        }
        let value = bench.set("billing/v");
        for nth in [0, SECRETS - 1] {
            bench.holds(&format!("s{nth}"), &[("v", &value)]).await;
        }
        assert_eq!(failed.lock().unwrap()[..], [""; 0], "syncs failed");
        assert_eq!(unready.lock().unwrap()[..], [""; 0], "the connection failed");
        assert!(
            bench.conjur.key_generation("host/billing/bot").unwrap() >= u64::try_from(ROTATIONS).unwrap()
        );
    });
}

#[test]
fn a_renewal_between_a_rotation_and_its_stored_key_does_not_discard_a_token_that_works() {
    test(|bench| async move {
        bots(&bench).await;
        let value = bench.set("billing/v");
        let object = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": { "name": "s" },
            "spec": { "connectionRef": { "name": "bots" }, "refreshInterval": "10s", "data": [{ "key": "v", "variable": "billing/v" }] },
        });
        put(&bench, &object).await;
        bench.holds("s", &[("v", &value)]).await;
        let (failed, unready) = (faults::<ConjurSecret>(&bench), faults::<ConjurConnection>(&bench));
        // Longer than the token may become old: at least one renewal is refused.
        strike(&bench, ROTATE, 1, When::After, Effect::Latency { millis: 25_000 });
        bench.conjur.clear_requests();
        annotate(&bench, "bot", "rotate-now", "x").await;
        wait_for("the rotation", SOON, || async {
            (bench.conjur.key_generation("host/billing/bot") == Some(1)).then_some(())
        })
        .await
        .unwrap();
        let refused = || {
            let asked = bench.conjur.requests();
            asked
                .iter()
                .any(|r| r.kind == Kind::Authenticate && r.path.contains("bot") && r.status == Some(401))
        };
        wait_for("a renewal that is refused", SOON, || async { refused().then_some(()) }).await.unwrap();
        let value = bench.set("billing/v");
        bench.holds("s", &[("v", &value)]).await;
        let handled = |h: &ConjurHost| status(h).last_handled_rotate_now.as_deref() == Some("x");
        bench.until("the rotation", "bot", handled).await;
        works(&bench, "bot", "host/billing/bot").await;
        let value = bench.set("billing/v");
        bench.holds("s", &[("v", &value)]).await;
        assert_eq!((failed.lock().unwrap().len(), unready.lock().unwrap().len()), (0, 0));
    });
}

/// The operator dies after a rotation of the host `bot`, before it stores the key: the stored one is dead.
async fn dies_after_a_rotation(bench: &Bench, operator: &Operator) {
    strike(bench, ROTATE, 1, When::After, Effect::Stall);
    annotate(bench, "bot", "rotate-now", "x").await;
    wait_for("the rotation", SOON, || async {
        (bench.conjur.key_generation("host/billing/bot") == Some(1)).then_some(())
    })
    .await
    .unwrap();
    operator.kill9().await.unwrap();
    bench.conjur.clear_faults();
}

#[test]
fn a_connection_whose_key_is_being_rotated_is_not_stalled_by_a_refused_login() {
    alone(|bench, mut operator| async move {
        bots(&bench).await;
        // No token is left, either.
        dies_after_a_rotation(&bench, &operator).await;
        // The next one takes long, too.
        strike(&bench, ROTATE, 1, When::After, Effect::Latency { millis: 4000 });
        operator.restart().await.unwrap();
        let told = bench.says::<ConjurConnection>("bots", "KeyRotating").await;
        assert!(told.contains("ConjurHost"), "{told}");
        let object = bench.api::<ConjurConnection>().get("bots").await.unwrap();
        assert!(object.told().1.iter().all(|c| c.type_ != "Stalled"), "{:?}", object.told().1);
        bench.ready::<ConjurConnection>("bots").await;
        works(&bench, "bot", "host/billing/bot").await;
    });
}

#[test]
fn the_key_that_a_connection_itself_uses_is_rotated_by_another_identity_that_owns_it() {
    test(|bench| async move {
        bench
            .root("- !host rotator\n- !policy\n  id: ops\n  owner: !host rotator\n  body:\n  - !host operator\n- !variable v\n- !permit {role: !host ops/operator, privileges: [read, execute], resource: !variable v}\n")
            .await;
        let value = bench.set("v");
        // The connection as it was set up by hand.
        let key = bench.conjur.api_key_of("host/ops/operator").unwrap();
        bench.keep_secret(key.clone());
        bench.put_secret("credentials", &[("login", "host/ops/operator"), ("api-key", &key)]).await;
        bench
            .apply(&bench.connection("conjur", "host/ops/operator").replace("conjur-login", "credentials"))
            .await;
        bench.ready::<ConjurConnection>("conjur").await;
        let object = json!({
            "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "metadata": { "name": "s" },
            "spec": { "connectionRef": { "name": "conjur" }, "data": [{ "key": "v", "variable": "v" }] },
        });
        put(&bench, &object).await;
        bench.holds("s", &[("v", &value)]).await;
        // The recipe of docs/conjurhost.md.
        let key = bench.conjur.api_key_of("host/rotator").unwrap();
        bench.keep_secret(key.clone());
        bench.put_secret("rotator", &[("api-key", &key)]).await;
        bench.apply(&bench.connection("rotator", "host/rotator").replace("conjur-login", "rotator")).await;
        bench.ready::<ConjurConnection>("rotator").await;
        let adopt =
            json!({ "metadata": { "annotations": { "conjur-operator.io/adopt": "ConjurHost/operator" } } });
        super::super::setup::edit(&bench, "credentials", adopt).await;
        let more = json!({
            "connectionRef": { "name": "rotator" }, "id": "ops/operator", "via": { "existing": {} }, "conflictPolicy": "Adopt",
            "rotation": { "interval": "720h" }, "target": { "name": "credentials" },
        });
        let unready = faults::<ConjurConnection>(&bench);
        put(&bench, &host("operator", &more)).await;
        bench.ready::<ConjurHost>("operator").await;
        works(&bench, "credentials", "host/ops/operator").await;
        assert_eq!(bench.conjur.key_generation("host/ops/operator"), Some(1));
        rotated(&bench, "operator", "x").await;
        works(&bench, "credentials", "host/ops/operator").await;
        let value = bench.set("v");
        super::super::setup::sync_now(&bench, "s", "x").await;
        bench.holds("s", &[("v", &value)]).await;
        tokio::time::timeout(Duration::from_secs(1), bench.ready::<ConjurConnection>("conjur"))
            .await
            .unwrap();
        assert_eq!(unready.lock().unwrap().len(), 0);
        assert!(secret(&bench, "credentials").await.metadata.owner_references.is_none());
    });
}

#[test]
fn a_wrong_key_that_no_one_rotates_stalls_its_connection() {
    test(|bench| async move {
        bots(&bench).await;
        let edit = json!({ "stringData": { "api-key": bench.secret_value("wrong") } });
        bench
            .api::<k8s_openapi::api::core::v1::Secret>()
            .patch("bot", &PatchParams::default(), &Patch::Merge(edit))
            .await
            .unwrap();
        bench.says::<ConjurConnection>("bots", "AuthenticationFailed").await;
        bench.says::<ConjurHost>("bot", "KeyInvalid").await;
        rotated(&bench, "bot", "mend").await;
        bench.ready::<ConjurConnection>("bots").await;
    });
}

#[test]
fn a_refused_login_is_no_verdict_before_it_is_known_who_rotates_keys() {
    alone(|bench, mut shared| async move {
        bots(&bench).await;
        dies_after_a_rotation(&bench, &shared).await;
        let verdicts = faults::<ConjurConnection>(&bench);
        // Another one starts, to which no ConjurHost is shown for a while.
        let way = ApiPath::start(bench.world.plane).await.unwrap();
        let of_hosts = |path: &str| path.split('?').next().is_some_and(|path| path.ends_with("/conjurhosts"));
        way.lose(move |method, path| (method == "GET" && of_hosts(path)).then_some(Loss::Request));
        let mut options = OperatorOptions::under(&bench.world.release);
        "by-a-way-without-hosts".clone_into(&mut options.name);
        "trace".clone_into(&mut options.log_level);
        options.way = Some(way.address());
        let other =
            Operator::spawn(env!("CARGO_BIN_EXE_conjur-operator"), bench.world.plane, options).await.unwrap();
        wait_for("hosts are asked for in vain", SOON, || async { (way.struck() >= 3).then_some(()) })
            .await
            .unwrap();
        way.lose_nothing();
        let handled = |h: &ConjurHost| status(h).last_handled_rotate_now.as_deref() == Some("x");
        bench.until("the rotation", "bot", handled).await;
        bench.ready::<ConjurConnection>("bots").await;
        works(&bench, "bot", "host/billing/bot").await;
        let wrong: Vec<String> =
            verdicts.lock().unwrap().iter().filter(|told| !told.contains("KeyRotating")).cloned().collect();
        assert_eq!(wrong[..], [""; 0], "a verdict that no one could know");
        other.terminate().await.unwrap();
        bench.no_secret_in(&other.log());
        shared.restart().await.unwrap();
    });
}

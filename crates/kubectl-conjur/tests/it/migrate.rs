//! `migrate`: Secrets go from an ExternalSecret to a ConjurSecret and back, and nobody who mounts them sees anything; with External
//! Secrets Operator's CRDs, and the real garbage collector.

mod watched;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use self::watched::Watched;
use crate::setup::{Bench, SOON, test};

/// A store and an ExternalSecret, and the Secret as External Secrets Operator leaves it.
async fn external_secret(bench: &Bench, name: &str, deletion_policy: &str, data: &[(&str, &str, &str)]) {
    let url = bench.conjur.url();
    let entries: String = data
        .iter()
        .map(|(key, variable, _)| format!("  - {{secretKey: {key}, remoteRef: {{key: apps/{variable}}}}}\n"))
        .collect();
    bench
        .apply(&format!(
            "apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {{name: store}}\nspec:\n  provider:\n    conjur:\n      url: {url}\n      auth: \
             {{apikey: {{account: demo, userRef: {{name: store-login, key: login}}, apiKeyRef: {{name: store-login, key: api-key}}}}}}\n---\n\
             apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {{name: {name}}}\nspec:\n  refreshInterval: 1h\n  secretStoreRef: \
             {{name: store, kind: SecretStore}}\n  target: {{name: {name}-credentials, creationPolicy: Owner, deletionPolicy: {deletion_policy}}}\n  data:\n{entries}"
        ))
        .await;
    let uid = bench.kubectl(&["get", "externalsecret", name, "-o", "jsonpath={.metadata.uid}"]).await;
    let values: String = data.iter().map(|(key, _, value)| format!("  {key}: {value}\n")).collect();
    bench
        .apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}-credentials\n  labels: {{reconcile.external-secrets.io/managed: \"true\"}}\n  annotations: \
             {{reconcile.external-secrets.io/data-hash: abc}}\n  ownerReferences:\n  - {{apiVersion: external-secrets.io/v1, kind: ExternalSecret, name: {name}, uid: \
             {uid}, controller: true, blockOwnerDeletion: true}}\ntype: Opaque\nstringData:\n{values}"
        ))
        .await;
}

async fn login(bench: &Bench) {
    let key = bench.conjur.api_key_of("host/ops").unwrap();
    bench
        .apply(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: store-login}}\nstringData: {{login: host/ops, api-key: {key}}}\n"))
        .await;
}

async fn data(bench: &Bench, name: &str) -> BTreeMap<String, Vec<u8>> {
    let api: Api<Secret> = Api::namespaced(bench.client().await, &bench.namespace);
    let data = api.get(name).await.unwrap().data.unwrap_or_default();
    data.into_iter().map(|(key, value)| (key, value.0)).collect()
}

#[test]
fn a_secret_is_handed_over_and_back_and_its_readers_see_nothing() {
    test(|bench| async move {
        bench.external_secrets_crds().await;
        bench.connected(&["a", "b"]).await;
        login(&bench).await;
        external_secret(
            &bench,
            "db",
            "Delete",
            &[("user", "a", "value-of-a"), ("password", "b", "value-of-b")],
        )
        .await;
        external_secret(&bench, "other", "Retain", &[("key", "a", "of-another-time")]).await;
        let before = data(&bench, "db-credentials").await;
        let watched = Watched::start(&bench, "db-credentials").await;
        let spared = Watched::start(&bench, "other-credentials").await;

        let printed = bench.plugin(&["migrate"]).await.ends(0);
        assert!(
            printed.out.contains("kind: ConjurSecret") && printed.out.contains("kind: ConjurConnection"),
            "{}",
            printed.out
        );
        assert_eq!(bench.plugin(&["migrate", "-o", "wide"]).await.ends(0).out, printed.out);
        let told = bench.plugin(&["migrate", "--apply"]).await.ends(1);
        let told = told.says("secret/db-credentials is written by cjs/db now");
        told.says("the values of key differ");
        bench.is("cjs/db", "Synced").await;
        let secret = [
            "get",
            "secret",
            "db-credentials",
            "-o",
            "jsonpath={.metadata.ownerReferences[*].kind} {.metadata.labels} {.metadata.annotations}",
        ];
        let marks = bench.kubectl(&secret).await;
        assert!(marks.starts_with("ConjurSecret ") && !marks.contains("external-secrets"), "{marks}");
        let left = bench.kubectl(&["get", "externalsecrets", "-o", "name"]).await;
        assert_eq!(left.trim(), "externalsecret.external-secrets.io/other");
        assert_eq!(data(&bench, "db-credentials").await, before);
        // Done is done.
        bench.plugin(&["migrate", "--apply"]).await.ends(1);

        let told = bench.plugin(&["migrate", "--undo"]).await.ends(0);
        told.says("secret/db-credentials is of ExternalSecret db again");
        let policy = ["get", "externalsecret", "db", "-o", "jsonpath={.spec.target.deletionPolicy}"];
        assert_eq!(bench.kubectl(&policy).await, "Delete", "as it was");
        let marks = bench.kubectl(&secret).await;
        assert!(!marks.contains("conjur-operator.io") && !marks.contains("ConjurSecret"), "{marks}");
        bench.plugin(&["migrate", "--undo"]).await.ends(0).says("No hand-over is written down");
        watched.saw_nothing();
        spared.saw_nothing();
    });
}

#[test]
fn a_hand_over_that_is_killed_anywhere_goes_on_and_loses_nothing() {
    test(|bench| async move {
        bench.external_secrets_crds().await;
        bench.connected(&["a", "b"]).await;
        login(&bench).await;
        external_secret(
            &bench,
            "db",
            "Delete",
            &[("user", "a", "value-of-a"), ("password", "b", "value-of-b")],
        )
        .await;
        let watched = Watched::start(&bench, "db-credentials").await;
        for undo in [false, true, false, true] {
            let flag = if undo { "--undo" } else { "--apply" };
            // Later and later, until it was over before.
            let mut after = Duration::from_millis(150);
            while !bench.plugin_killed(&["migrate", flag], after).await {
                after += Duration::from_millis(250);
                assert!(after < SOON, "{flag} never ends");
            }
            bench.plugin(&["migrate", flag]).await.ends(0);
            let left = bench.kubectl(&["get", "externalsecrets,conjursecrets", "-o", "name"]).await;
            let expected = if undo {
                "externalsecret.external-secrets.io/db"
            } else {
                "conjursecret.conjur-operator.io/db"
            };
            assert_eq!(left.trim(), expected);
        }
        watched.saw_nothing();
    });
}

/// What of a hand-over is left in the namespace.
async fn left(bench: &Bench) -> String {
    let kinds = "externalsecrets,conjursecrets";
    let mut left = bench.kubectl(&["get", kinds, "-o", "name"]).await;
    left += &bench.kubectl(&["get", "configmaps", "-l", "conjur-operator.io/migration", "-o", "name"]).await;
    left.split_whitespace().collect::<Vec<_>>().join(" ")
}

const BEFORE: &str = "externalsecret.external-secrets.io/db";
const AFTER: &str = "conjursecret.conjur-operator.io/db configmap/conjur-migration.db-credentials";

async fn database(bench: &Bench) {
    bench.external_secrets_crds().await;
    bench.connected(&["a", "b"]).await;
    login(bench).await;
    let data = [("user", "a", "value-of-a"), ("password", "b", "value-of-b")];
    external_secret(bench, "db", "Delete", &data).await;
}

async fn policy(bench: &Bench) -> String {
    let policy = ["get", "externalsecret", "db", "-o", "jsonpath={.spec.target.deletionPolicy}"];
    bench.kubectl(&policy).await
}

async fn marks(bench: &Bench) -> String {
    let path = "jsonpath={.metadata.ownerReferences[*].kind} {.metadata.labels} {.metadata.annotations}";
    bench.kubectl(&["get", "secret", "db-credentials", "-o", path]).await
}

#[test]
fn a_hand_over_that_is_killed_anywhere_is_taken_back() {
    test(|bench| async move {
        database(&bench).await;
        let watched = Watched::start(&bench, "db-credentials").await;
        let mut after = Duration::from_millis(150);
        loop {
            let was_over = bench.plugin_killed(&["migrate", "--apply"], after).await;
            bench.plugin(&["migrate", "--undo"]).await.ends(0);
            assert_eq!(left(&bench).await, BEFORE, "killed after {after:?}");
            assert_eq!(policy(&bench).await, "Delete", "killed after {after:?}");
            let marks = marks(&bench).await;
            assert!(!marks.contains("conjur-operator.io") && !marks.contains("ConjurSecret"), "{marks}");
            if was_over {
                break;
            }
            after += Duration::from_millis(400);
            assert!(after < SOON, "it never ends");
        }
        watched.saw_nothing();
    });
}

#[test]
fn an_external_secret_that_something_holds_is_waited_for_and_made_again() {
    test(|bench| async move {
        database(&bench).await;
        let watched = Watched::start(&bench, "db-credentials").await;
        let hold = |finalizers: &str| {
            let patch = format!(r#"{{"metadata": {{"finalizers": {finalizers}}}}}"#);
            let bench = &bench;
            async move { bench.kubectl(&["patch", "externalsecret", "db", "--type=merge", "-p", &patch]).await }
        };
        hold(r#"["example.com/hold"]"#).await;
        let told = bench.plugin(&["migrate", "--apply", "--timeout", "5s"]).await.ends(1);
        let told = told.says("example.com/hold").says("ExternalSecret db was deleted").says("--undo");
        assert!(!told.out.contains("stays as it was"), "{}", told.out);
        // It is there by name, and is not the end of it.
        let told = bench.plugin(&["migrate", "--undo", "--timeout", "3s"]).await.ends(1);
        told.says("still being deleted").says("example.com/hold");
        let told = bench.plugin(&["migrate", "--apply", "--timeout", "3s"]).await.ends(1);
        told.says("on its way back");
        hold("null").await;
        bench.plugin(&["migrate", "--undo"]).await.ends(0);
        assert_eq!(left(&bench).await, BEFORE);
        assert_eq!(policy(&bench).await, "Delete");
        watched.saw_nothing();
    });
}

#[test]
fn two_runs_at_once_lose_nothing() {
    test(|bench| async move {
        database(&bench).await;
        let watched = Watched::start(&bench, "db-credentials").await;
        let apply: &[&str] = &["migrate", "--apply"];
        for wait in [0, 300, 1500] {
            let late = async {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                bench.plugin(apply).await
            };
            let (one, other) = tokio::join!(bench.plugin(apply), late);
            assert!(one.code == 0 || other.code == 0 || wait < 1000, "{one:?}\n{other:?}");
            for ran in [one, other].into_iter().filter(|ran| ran.code != 0) {
                ran.ends(1).says("another run");
            }
            bench.plugin(apply).await.ends(0);
            assert_eq!(left(&bench).await, AFTER);
            // Both ways at once: one of them says that it is not alone, and the way back is not lost.
            let (_, _) = tokio::join!(bench.plugin(&["migrate", "--undo"]), bench.plugin(apply));
            bench.plugin(&["migrate", "--undo"]).await.ends(0);
            assert_eq!(left(&bench).await, BEFORE);
        }
        watched.saw_nothing();
    });
}

#[test]
fn what_is_another_s_is_refused_before_anything_is_touched() {
    test(|bench| async move {
        database(&bench).await;
        let before = bench.kubectl(&["get", "externalsecret", "db", "-o", "jsonpath={.metadata}"]).await;
        let refuses = |why: &'static str| {
            let (bench, before) = (&bench, &before);
            async move {
                bench.plugin(&["migrate", "--apply"]).await.ends(1).says("stays as it was").says(why);
                let path = "jsonpath={.metadata}";
                assert_eq!(&bench.kubectl(&["get", "externalsecret", "db", "-o", path]).await, before);
                bench.plugin(&["migrate", "--undo"]).await.ends(0);
            }
        };
        for name in ["db", "db-migration-trial"] {
            bench.secret(name, &[("other", "a")]).await;
            let there = ["get", "conjursecret", name, "-o", "jsonpath={.metadata.uid} {.spec}"];
            let theirs = bench.kubectl(&there).await;
            refuses("rename it").await;
            assert_eq!(bench.kubectl(&there).await, theirs, "{name} is as it was");
            bench.kubectl(&["delete", "conjursecret", name]).await;
        }
        // A trial that waits for a person is not waited for.
        bench.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: db-migration-trial}\n").await;
        let begun = std::time::Instant::now();
        refuses("ForeignSecret").await;
        assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
        bench.kubectl(&["delete", "secret", "db-migration-trial"]).await;
        let own = |owner: &str| {
            let patch = format!(r#"{{"metadata": {{"ownerReferences": [{owner}]}}}}"#);
            let bench = &bench;
            async move {
                bench.kubectl(&["patch", "secret", "db-credentials", "--type=merge", "-p", &patch]).await
            }
        };
        let uid =
            bench.kubectl(&["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.metadata.uid}"]).await;
        own(&format!(
            r#"{{"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "uid": "{uid}", "controller": true}}"#
        ))
        .await;
        refuses("ConfigMap kube-root-ca.crt").await;
        own("").await;
        let immutable = r#"{"immutable": true}"#;
        bench.kubectl(&["patch", "secret", "db-credentials", "--type=merge", "-p", immutable]).await;
        refuses("immutable").await;
        bench.kubectl(&["delete", "secret", "db-credentials"]).await;
        refuses("there is no such Secret").await;
    });
}

#[test]
fn a_secret_that_is_gone_meanwhile_is_made_by_whoever_is_to_write_it() {
    test(|bench| async move {
        database(&bench).await;
        let held = r#"{"metadata": {"finalizers": ["example.com/hold"]}}"#;
        bench.kubectl(&["patch", "externalsecret", "db", "--type=merge", "-p", held]).await;
        bench.plugin(&["migrate", "--apply", "--timeout", "5s"]).await.ends(1);
        bench.kubectl(&["delete", "secret", "db-credentials"]).await;
        let free = r#"{"metadata": {"finalizers": null}}"#;
        bench.kubectl(&["patch", "externalsecret", "db", "--type=merge", "-p", free]).await;
        bench.plugin(&["migrate", "--apply"]).await.ends(0);
        assert_eq!(data(&bench, "db-credentials").await.len(), 2);
        // Without the operator's own repair in between.
        let suspend = r#"{"spec": {"suspend": true}}"#;
        bench.kubectl(&["patch", "conjursecret", "db", "--type=merge", "-p", suspend]).await;
        let seen =
            ["wait", "conjursecret/db", "--for=jsonpath={.status.observedGeneration}=2", "--timeout=60s"];
        bench.kubectl(&seen).await;
        bench.kubectl(&["delete", "secret", "db-credentials"]).await;
        bench.plugin(&["migrate", "--undo"]).await.ends(0);
        assert_eq!(left(&bench).await, BEFORE);
    });
}

#[test]
fn undo_needs_neither_the_operator_nor_conjur() {
    test(|bench| async move {
        database(&bench).await;
        for patch in [
            r#"{"spec": {"suspend": true}}"#,
            r#"{"spec": {"refreshPolicy": "CreatedOnce"}}"#,
            // As where Conjur is down: it is not Ready, and its Secret stays owned.
            r#"{"spec": {"connectionRef": {"name": "gone"}}}"#,
        ] {
            bench.plugin(&["migrate", "--apply"]).await.ends(0);
            let watched = Watched::start(&bench, "db-credentials").await;
            bench.kubectl(&["patch", "conjursecret", "db", "--type=merge", "-p", patch]).await;
            bench.plugin(&["migrate", "--undo"]).await.ends(0);
            assert_eq!(left(&bench).await, BEFORE, "{patch}");
            let marks = marks(&bench).await;
            assert!(!marks.contains("ConjurSecret"), "{marks}");
            watched.saw_nothing();
        }
    });
}

#[test]
fn what_is_made_again_or_changed_is_seen() {
    test(|bench| async move {
        database(&bench).await;
        // Compared, and held up before it is let go of: the record is there.
        let held = r#"{"metadata": {"finalizers": ["example.com/hold"]}}"#;
        let free = r#"{"metadata": {"finalizers": null}}"#;
        bench.kubectl(&["patch", "externalsecret", "db", "--type=merge", "-p", held]).await;
        bench.plugin(&["migrate", "--apply", "--timeout", "5s"]).await.ends(1);
        bench.kubectl(&["patch", "externalsecret", "db", "--type=merge", "-p", free]).await;
        // Argo CD makes it again, with another key: the old form is not what it is handed over by.
        let data = [("user", "a", "value-of-a"), ("secret", "b", "value-of-b")];
        external_secret(&bench, "db", "Delete", &data).await;
        let told = bench.plugin(&["migrate", "--apply"]).await.ends(1);
        told.says("lose the keys password");
        let values = r#"{"stringData": {"secret": "value-of-b"}, "data": {"password": null}}"#;
        bench.kubectl(&["patch", "secret", "db-credentials", "--type=merge", "-p", values]).await;
        let watched = Watched::start(&bench, "db-credentials").await;
        bench.plugin(&["migrate", "--apply"]).await.ends(0);
        watched.saw_nothing();
        // And after it is done, too.
        let uid = bench.kubectl(&["get", "secret", "db-credentials", "-o", "jsonpath={.metadata.uid}"]).await;
        bench
            .apply(
                "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: db}\nspec:\n  secretStoreRef: {name: store}\n  \
                 target: {name: db-credentials}\n  data:\n  - {secretKey: user, remoteRef: {key: apps/a}}\n",
            )
            .await;
        let told = bench.plugin(&["migrate", "--apply"]).await.ends(1);
        told.says("Argo CD or Flux").says("--cascade=orphan");
        bench.kubectl(&["delete", "externalsecret", "db", "--cascade=orphan"]).await;
        let again =
            bench.kubectl(&["get", "secret", "db-credentials", "-o", "jsonpath={.metadata.uid}"]).await;
        assert_eq!(again, uid);
        bench.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: broken, labels: {conjur-operator.io/migration: \"true\"}}\ndata: {}\n").await;
        let told = bench.plugin(&["migrate", "--undo"]).await.ends(1);
        told.says("ConfigMap broken holds no hand-over").says("is of ExternalSecret db again");
    });
}

#[test]
fn what_may_not_be_seen_is_named() {
    test(|bench| async move {
        database(&bench).await;
        let user = format!("{}-viewer", bench.namespace);
        for (name, kinds) in [
            ("some", "externalsecrets.external-secrets.io,secretstores.external-secrets.io"),
            ("secrets", "secrets"),
        ] {
            bench.kubectl(&["create", "role", name, "--verb=list", &format!("--resource={kinds}")]).await;
        }
        let bind = |role: &'static str| {
            let (bench, user) = (&bench, format!("--user={user}"));
            async move { bench.kubectl(&["create", "rolebinding", role, &format!("--role={role}"), &user]).await }
        };
        bind("some").await;
        let migrate = ["--as", &user, "migrate"];
        let told = bench.plugin(&migrate).await.ends(0).says("not seen: Secret").says("not seen: Deployment");
        assert!(told.out.contains("kind: ConjurSecret"), "{}", told.out);
        let apply = ["--as", &user, "migrate", "--apply"];
        bench.plugin(&apply).await.ends(2).says("--apply needs the right to list each Secret");
        assert_eq!(left(&bench).await, BEFORE);
    });
}

/// The ways of `docs/migration.md` that `--apply` does not go.
#[test]
fn what_is_left_is_handed_over_by_hand() {
    test(|bench| async move {
        bench.connected(&["a"]).await;
        for (name, other) in [("alone", ""), ("shared", "  other: kept\n")] {
            bench
                .apply(&format!(
                    "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n  conjur-map: \"key: apps/a\"\n{other}"
                ))
                .await;
            // As the Secrets Provider writes.
            let patch = r#"{"data": {"key": "dmFsdWUtb2YtYQ=="}}"#;
            let former = ["patch", "secret", name, "--type=merge", "-p", patch, "--field-manager=former"];
            bench.kubectl(&former).await;
        }
        let printed = bench.plugin(&["migrate", "--connection", "cjc/conjur"]).await.ends(0);
        let uid = ["get", "secret", "alone", "-o", "jsonpath={.metadata.uid}"];
        let before = bench.kubectl(&uid).await;
        bench.kubectl(&["annotate", "secret", "alone", "conjur-operator.io/adopt=ConjurSecret/alone"]).await;
        bench.apply(&printed.out).await;
        for name in ["alone", "shared"] {
            bench.is(&format!("cjs/{name}"), "Synced").await;
        }
        assert_eq!(bench.kubectl(&uid).await, before);
        assert_eq!(data(&bench, "alone").await.into_keys().collect::<Vec<_>>(), ["key"]);
        let keys: Vec<_> = data(&bench, "shared").await.into_keys().collect();
        assert_eq!(keys, ["conjur-map", "key", "other"]);
        // Its former writer still has the key for its own, and the next value would be a conflict.
        let managers = "jsonpath={.metadata.managedFields[*].manager}";
        let managers = ["get", "secret", "shared", "--show-managed-fields", "-o", managers];
        let all = bench.kubectl(&managers).await;
        let at = all.split_whitespace().position(|manager| manager == "former").unwrap();
        let entry = format!("/metadata/managedFields/{at}");
        let patch = format!(
            r#"[{{"op": "test", "path": "{entry}/manager", "value": "former"}}, {{"op": "remove", "path": "{entry}"}}]"#
        );
        bench.kubectl(&["patch", "secret", "shared", "--type=json", "-p", &patch]).await;
        assert!(bench.conjur.set_variable("apps/a", b"next"));
        bench.plugin(&["sync", "cjs/shared"]).await.ends(0);
        assert_eq!(data(&bench, "shared").await["key"], b"next");
    });
}

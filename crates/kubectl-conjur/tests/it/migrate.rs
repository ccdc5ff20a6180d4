//! `migrate`: Secrets go from an ExternalSecret to a ConjurSecret and back, and nobody who mounts them sees anything; with External
//! Secrets Operator's CRDs, and the real garbage collector.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};

use crate::setup::{Bench, SOON, test};

/// What a Secret was in between: each state that was not as the first one.
struct Watched {
    odd: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    async fn start(bench: &Bench, name: &str) -> Self {
        let api: Api<Secret> = Api::namespaced(bench.client().await, &bench.namespace);
        let first = api.get(name).await.unwrap();
        let odd = Arc::new(Mutex::new(Vec::new()));
        let (seen, name) = (Arc::clone(&odd), name.to_owned());
        let task = tokio::spawn(async move {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let mut events = watcher(api, config).default_backoff().boxed();
            while let Ok(Some(event)) = events.try_next().await {
                let what = match event {
                    watcher::Event::Delete(_) => "deleted".to_owned(),
                    watcher::Event::Apply(now) | watcher::Event::InitApply(now) => {
                        let same = now.metadata.uid == first.metadata.uid
                            && now.data == first.data
                            && now.type_ == first.type_
                            && now.metadata.deletion_timestamp.is_none();
                        if same {
                            continue;
                        }
                        format!(
                            "{:?} of {:?}",
                            now.data.map(|data| data.into_keys().collect::<Vec<_>>()),
                            now.metadata
                        )
                    }
                    watcher::Event::Init | watcher::Event::InitDone => continue,
                };
                seen.lock().unwrap().push(what);
            }
        });
        Self { odd, task }
    }

    fn saw_nothing(self) {
        self.task.abort();
        let odd = self.odd.lock().unwrap();
        assert!(odd.is_empty(), "{odd:#?}");
    }
}

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

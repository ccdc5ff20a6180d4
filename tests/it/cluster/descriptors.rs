//! Many namespaces that each refer to things of their own: what they cost in connections to the API server.

use std::{collections::BTreeSet, process::Command};

use conjur_operator::api::{ConjurPolicy, ConjurSecret, condition::is_true};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use testbed::wait_for;

use super::{
    Bench, SOON, alone,
    setup::{LOGIN, connection, project, put, variables},
    template::{put_config_map, template_from},
};

const NAMESPACES: usize = 500;
const DESCRIPTORS: usize = 1_024;

/// The watches that the operator opened of a kind, since the audit log was as long as `before`.
fn watches(bench: &Bench, before: usize, resource: &str) -> BTreeSet<String> {
    let all = bench.world.plane.api_requests_by(&bench.world.release.user()).unwrap();
    let all = all.into_iter().skip(before).filter(|r| r.verb == "watch" && r.resource == resource);
    // Each is opened again from time to time, from another version.
    all.map(|r| r.uri.split('?').next().unwrap_or_default().to_owned()).collect()
}

fn requests(bench: &Bench) -> usize {
    bench.world.plane.api_requests_by(&bench.world.release.user()).unwrap().len()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

async fn in_namespaces<T: Future<Output = ()>>(bench: &Bench, each: impl Fn(Bench) -> T) {
    let of = |at: usize| Bench { namespace: format!("{}-{at}", bench.namespace), ..bench.clone() };
    stream::iter(0..NAMESPACES).for_each_concurrent(16, |at| each(of(at))).await;
}

#[test]
fn five_hundred_namespaces_with_sources_of_their_own_fit_into_1024_descriptors() {
    alone(|bench, mut operator| async move {
        let value = variables(&bench, &["a"]).await.remove(0);
        let key = bench.conjur.api_key_of(LOGIN).unwrap();
        let before = requests(&bench);
        operator.restart().await.unwrap();
        let pid = operator.pid().unwrap();
        let bound = format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}");
        assert!(
            Command::new("prlimit").args(["--pid", &pid.to_string(), &bound]).status().unwrap().success()
        );
        in_namespaces(&bench, |there| {
            let key = key.clone();
            async move {
                let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": there.namespace } });
                let namespaces = Api::<Namespace>::all(there.client.clone());
                let namespace = serde_json::from_value(namespace).unwrap();
                namespaces.create(&kube::api::PostParams::default(), &namespace).await.unwrap();
                there.put_secret("conjur-login", &[("api-key", &key)]).await;
                put_config_map(&there, "urls", &[("url", "x://{{ a }}")]).await;
                put(&there, &connection(&there, "conjur", &json!({}))).await;
                put(&there, &project("db", &[("a", "a")], &template_from("ConfigMap", "urls"))).await;
            }
        })
        .await;
        let mut most = 0;
        wait_for("all are Ready", 4 * SOON, || {
            most = most.max(descriptors(pid));
            let ours = format!("{}-", bench.namespace);
            let all = Api::<ConjurSecret>::all(bench.client.clone());
            async move {
                let all = all.list(&ListParams::default()).await.ok()?;
                let ready = all.iter().filter(|s| {
                    let conditions = s.status.as_ref().and_then(|status| status.conditions.as_deref());
                    s.namespace().is_some_and(|n| n.starts_with(&ours))
                        && is_true(conditions.unwrap_or_default(), "Ready")
                });
                (ready.count() == NAMESPACES).then_some(())
            }
        })
        .await
        .unwrap();
        assert!(most < DESCRIPTORS, "{most} descriptors");
        for (resource, paths) in [("configmaps", "/api/v1/configmaps"), ("secrets", "/api/v1/secrets")] {
            assert_eq!(watches(&bench, before, resource), BTreeSet::from([paths.to_owned()]));
        }
        // Each is watched all the same.
        for at in [0, NAMESPACES - 1] {
            let there = Bench { namespace: format!("{}-{at}", bench.namespace), ..bench.clone() };
            put_config_map(&there, "urls", &[("url", "y://{{ a }}")]).await;
            there.holds("db", &[("DATABASE_URL", &format!("y://{value}"))]).await;
        }
        in_namespaces(&bench, |there| async move {
            let namespaces = Api::<Namespace>::all(there.client.clone());
            for kind in ["ConjurSecret", "ConjurConnection"] {
                let all = super::setup::untyped(&there, kind);
                all.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
            }
            namespaces.delete(&there.namespace, &DeleteParams::default()).await.unwrap();
        })
        .await;
        // Its bound of descriptors goes with the process.
        operator.restart().await.unwrap();
    });
}

#[test]
fn sources_of_who_may_not_use_a_connection_are_not_looked_at() {
    alone(|bench, mut operator| async move {
        let before = requests(&bench);
        operator.restart().await.unwrap();
        let sources: Vec<Value> = (0..64)
            .map(|at| json!({ "kind": "Secret", "name": format!("missing-{at}"), "key": "k" }))
            .collect();
        for at in 0..20 {
            let spec = json!({
                "connectionRef": { "name": "none" }, "branch": "apps", "documentFrom": sources,
            });
            let metadata = json!({ "name": format!("p-{at}") });
            put(&bench, &json!({ "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurPolicy", "metadata": metadata, "spec": spec })).await;
        }
        for at in 0..20 {
            bench.says::<ConjurPolicy>(&format!("p-{at}"), "ConnectionNotFound").await;
        }
        put(&bench, &project("db", &[("a", "a")], &template_from("Secret", "missing"))).await;
        bench.says::<ConjurSecret>("db", "ConnectionNotFound").await;
        let all = bench.world.plane.api_requests_by(&bench.world.release.user()).unwrap();
        let read = all.into_iter().skip(before);
        let read: Vec<_> = read.filter(|r| r.verb == "get" && r.name.starts_with("missing")).collect();
        assert_eq!(read, []);
        assert!(watches(&bench, before, "secrets").len() <= 1);
    });
}

//! ConjurSecret: the target's type, its immutability, and when it is written again.

use conjur_operator::api::ConjurSecret;
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use testbed::wait_for;

use super::{
    Bench, SOON, alone,
    setup::{
        change, change_policy, connected, edit, eventually, fetches, project, put, secret, sync_now, synced,
    },
    test, version,
};

#[test]
fn a_type_gets_the_keys_it_needs_or_nothing_is_written() {
    test(|bench| async move {
        let values = connected(&bench, &["cert", "key", "config"]).await;
        let tls = json!({ "target": { "type": "kubernetes.io/tls" } });
        put(&bench, &project("db", &[("tls.crt", "cert")], &tls)).await;
        let message = bench.says::<ConjurSecret>("db", "InvalidSpec").await;
        assert!(message.contains("tls.key") && message.contains("kubernetes.io/tls"), "{message}");
        assert_eq!(bench.data("db").await, None);
        put(&bench, &project("db", &[("tls.crt", "cert"), ("tls.key", "key")], &tls)).await;
        bench.holds("db", &[("tls.crt", &values[0]), ("tls.key", &values[1])]).await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(secret(&bench, "db").await.type_.as_deref(), Some("kubernetes.io/tls"));

        // A value that the type does not take leaves the Secret as it is.
        let docker = json!({ "target": { "type": "kubernetes.io/dockerconfigjson" } });
        let good = format!(r#"{{"auths": {{"{}": {{}}}}}}"#, bench.secret_value("registry"));
        assert!(bench.conjur.set_variable("apps/config", good.as_bytes()));
        put(&bench, &project("pull", &[(".dockerconfigjson", "config")], &docker)).await;
        bench.holds("pull", &[(".dockerconfigjson", &good)]).await;
        bench.ready::<ConjurSecret>("pull").await;
        let before = secret(&bench, "pull").await;
        bench.set("apps/config");
        sync_now(&bench, "pull", "1").await;
        let message = bench.says::<ConjurSecret>("pull", "InvalidValue").await;
        assert!(message.contains(".dockerconfigjson is not a JSON object"), "{message}");
        assert_eq!(version(&secret(&bench, "pull").await), version(&before));
        assert!(bench.conjur.set_variable("apps/config", good.as_bytes()));
        sync_now(&bench, "pull", "2").await;
        bench.ready::<ConjurSecret>("pull").await;
    });
}

#[test]
fn other_types_get_the_keys_they_need_too() {
    test(|bench| async move {
        let value = connected(&bench, &["a", "json"]).await.remove(0);
        let json = format!("{{\"{}\": {{}}}}", bench.secret_value("registry"));
        assert!(bench.conjur.set_variable("apps/json", json.as_bytes()));
        for (name, key, variable, value) in [
            ("ssh-auth", "ssh-privatekey", "a", &value),
            ("dockercfg", ".dockercfg", "json", &json),
            ("basic-auth", "password", "a", &value),
        ] {
            let spec = json!({ "target": { "type": format!("kubernetes.io/{name}") } });
            put(&bench, &project(name, &[("wrong", variable)], &spec)).await;
            let message = bench.says::<ConjurSecret>(name, "InvalidSpec").await;
            assert!(message.contains(key), "{message}");
            assert_eq!(bench.data(name).await, None);
            put(&bench, &project(name, &[(key, variable)], &spec)).await;
            bench.holds(name, &[(key, value)]).await;
            bench.ready::<ConjurSecret>(name).await;
            let type_ = secret(&bench, name).await.type_;
            assert_eq!(type_, Some(format!("kubernetes.io/{name}")));
        }
        // One that grants credentials of the cluster is not merged into.
        let token = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "token" },
            "type": "bootstrap.kubernetes.io/token", "stringData": { "token-id": "abcdef" },
        });
        bench.apply(&token.to_string()).await;
        let before = secret(&bench, "token").await;
        put(&bench, &merging("token", "token", &[("a", "a")])).await;
        let message = bench.says::<ConjurSecret>("token", "ForeignSecret").await;
        assert!(message.contains("bootstrap.kubernetes.io/token"), "{message}");
        assert_eq!(secret(&bench, "token").await, before);
    });
}

#[test]
fn an_immutable_secret_is_made_anew_when_its_data_changes() {
    test(|bench| async move {
        bench.may_delete();
        let value = connected(&bench, &["a"]).await.remove(0);
        let sealed = json!({ "target": { "immutable": true } });
        put(&bench, &project("db", &[("a", "a")], &sealed)).await;
        bench.holds("db", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
        edit(&bench, "db", json!({ "metadata": { "labels": { "theirs": "kept" } } })).await;
        let first = secret(&bench, "db").await;
        assert_eq!(first.immutable, Some(true));
        // Nothing to do: not made anew.
        synced(&bench, "db", "1").await;
        assert_eq!(version(&secret(&bench, "db").await), version(&first));

        let value = bench.set("apps/a");
        synced(&bench, "db", "2").await;
        bench.holds("db", &[("a", &value)]).await;
        let second = secret(&bench, "db").await;
        assert_ne!(second.uid(), first.uid());
        assert_eq!(second.immutable, Some(true));
        assert_eq!(second.labels().get("theirs").map(String::as_str), Some("kept"));

        // A label does not cost the Secret.
        let labelled = json!({ "target": { "immutable": true, "labels": { "team": "x" } } });
        put(&bench, &project("db", &[("a", "a")], &labelled)).await;
        bench.ready::<ConjurSecret>("db").await;
        let third = secret(&bench, "db").await;
        assert_eq!(third.uid(), second.uid());
        assert_eq!(third.labels().get("team").map(String::as_str), Some("x"));

        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(secret(&bench, "db").await.immutable, None);
        bench.holds("db", &[("a", &value)]).await;
        put(&bench, &project("db", &[("a", "a")], &sealed)).await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(secret(&bench, "db").await.immutable, Some(true));
    });
}

#[test]
fn data_that_is_too_large_is_refused_naming_the_largest_keys() {
    test(|bench| async move {
        let value = connected(&bench, &["a", "large", "larger"]).await.remove(0);
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "db").await;
        assert!(bench.conjur.set_variable("apps/large", &vec![b'x'; 500_000]));
        assert!(bench.conjur.set_variable("apps/larger", &vec![b'x'; 600_000]));
        let data = [("a", "a"), ("large", "large"), ("larger", "larger")];
        put(&bench, &project("db", &data, &json!({}))).await;
        let message = bench.says::<ConjurSecret>("db", "SecretTooLarge").await;
        assert!(message.contains("larger (600000 bytes), large (500000 bytes)"), "{message}");
        assert_eq!(version(&secret(&bench, "db").await), version(&before));
        bench.holds("db", &[("a", &value)]).await;
    });
}

#[test]
fn a_secret_that_is_made_once_is_left_alone_while_it_is_there() {
    test(|bench| async move {
        let first = connected(&bench, &["a", "b"]).await.remove(0);
        let once = json!({ "refreshPolicy": "CreatedOnce", "refreshInterval": "10s" });
        put(&bench, &project("db", &[("a", "a")], &once)).await;
        bench.holds("db", &[("a", &first)]).await;
        bench.ready::<ConjurSecret>("db").await;
        let made = secret(&bench, "db").await;
        let second = bench.set("apps/a");
        let asked = fetches(&bench);
        // Neither a refresh that is asked for, nor another spec, nor an edit by hand.
        let object = synced(&bench, "db", "1").await;
        let message = super::setup::condition(&object, "Ready").unwrap().2;
        assert!(message.contains("CreatedOnce") && message.contains("delete it"), "{message}");
        put(&bench, &project("db", &[("a", "a"), ("b", "b")], &once)).await;
        bench.ready::<ConjurSecret>("db").await;
        assert_eq!(version(&secret(&bench, "db").await), version(&made));
        let edited = edit(&bench, "db", json!({ "stringData": { "c": "by hand" } })).await;
        synced(&bench, "db", "2").await;
        assert_eq!(version(&secret(&bench, "db").await), version(&edited));
        assert_eq!(fetches(&bench), asked, "Conjur was asked for nothing");

        bench.api::<Secret>().delete("db", &DeleteParams::default()).await.unwrap();
        let b = String::from_utf8(bench.conjur.variable("apps/b").unwrap()).unwrap();
        bench.holds("db", &[("a", &second), ("b", &b)]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}

#[test]
fn on_change_means_no_refresh_by_time() {
    test(|bench| async move {
        let values = connected(&bench, &["a", "b"]).await;
        let policy = json!({ "refreshPolicy": "OnChange", "refreshInterval": "10s" });
        put(&bench, &project("db", &[("a", "a")], &policy)).await;
        put(&bench, &project("periodic", &[("b", "b")], &json!({ "refreshInterval": "10s" }))).await;
        for name in ["db", "periodic"] {
            bench.ready::<ConjurSecret>(name).await;
        }
        let changed = bench.set("apps/a");
        let before = fetches(&bench);
        eventually("two refreshes of the other one", || fetches(&bench) > before + 1).await;
        bench.holds("db", &[("a", &values[0])]).await;
        // Drift is repaired with what Conjur holds now, and a refresh may be asked for.
        edit(&bench, "db", json!({ "stringData": { "a": "by hand" } })).await;
        bench.holds("db", &[("a", &changed)]).await;
        let changed = bench.set("apps/a");
        synced(&bench, "db", "1").await;
        bench.holds("db", &[("a", &changed)]).await;
        // So does a change of the object.
        let changed = bench.set("apps/a");
        change(&bench, "db", json!({ "spec": { "target": { "labels": { "x": "y" } } } })).await;
        bench.ready::<ConjurSecret>("db").await;
        bench.holds("db", &[("a", &changed)]).await;
    });
}

#[test]
fn an_object_needs_no_operator_to_go() {
    alone(|bench, mut operator| async move {
        connected(&bench, &["a"]).await;
        let policy = json!({ "target": { "creationPolicy": "Merge", "deletionPolicy": "Retain" } });
        bench.put_secret("merged", &[("theirs", "x")]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        put(&bench, &project("merged", &[("a", "a")], &policy)).await;
        for name in ["db", "merged"] {
            let object: ConjurSecret = bench.ready(name).await;
            assert_eq!(object.finalizers(), [] as [String; 0]);
            assert_eq!(secret(&bench, name).await.finalizers(), [] as [String; 0]);
        }
        operator.terminate().await.unwrap();
        let objects = bench.api::<ConjurSecret>();
        for name in ["db", "merged"] {
            objects.delete(name, &DeleteParams::default()).await.unwrap();
            wait_for("the object is gone", SOON, || async {
                objects.get_opt(name).await.unwrap().is_none().then_some(())
            })
            .await
            .unwrap();
        }
        wait_for("the Secret is gone", SOON, || async { bench.data("db").await.is_none().then_some(()) })
            .await
            .unwrap();
        operator.restart().await.unwrap();
    });
}

#[test]
fn a_namespace_full_of_objects_needs_no_operator_to_go() {
    alone(|bench, mut operator| async move {
        connected(&bench, &["a"]).await;
        let other = Bench { namespace: format!("{}-full", bench.namespace), ..bench.clone() };
        let meta = ObjectMeta { name: Some(other.namespace.clone()), ..ObjectMeta::default() };
        let namespaces = Api::<Namespace>::all(bench.client.clone());
        let full = Namespace { metadata: meta, ..Namespace::default() };
        namespaces.create(&PostParams::default(), &full).await.unwrap();
        other.connect(super::setup::LOGIN).await;
        for at in 0..5 {
            put(&other, &project(&format!("live-{at}"), &[("a", "a")], &json!({}))).await;
        }
        let suspended = json!({ "suspend": true });
        let rest: Vec<_> = (0..400)
            .map(|at| project(&format!("object-{at}"), &[("a", "a")], &suspended).to_string())
            .collect();
        other.apply(&rest.join("\n---\n")).await;
        for at in 0..5 {
            other.ready::<ConjurSecret>(&format!("live-{at}")).await;
        }
        operator.terminate().await.unwrap();
        namespaces.delete(&other.namespace, &DeleteParams::default()).await.unwrap();
        wait_for("the namespace is gone", 2 * SOON, || async {
            namespaces.get_opt(&other.namespace).await.unwrap().is_none().then_some(())
        })
        .await
        .unwrap();
        operator.restart().await.unwrap();
    });
}

#[test]
fn a_merged_secret_outlives_outages_and_deleted_variables() {
    test(|bench| async move {
        let value = connected(&bench, &["a"]).await.remove(0);
        bench.put_secret("theirs", &[("theirs", "x")]).await;
        put(&bench, &merging("db", "theirs", &[("a", "a")])).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = secret(&bench, "theirs").await;
        change_policy(&bench, "- !delete {record: !variable apps/a}\n").await;
        sync_now(&bench, "db", "1").await;
        bench.says::<ConjurSecret>("db", "VariableNotFound").await;
        assert_eq!(version(&secret(&bench, "theirs").await), version(&before));
        bench.conjur.stop().await;
        sync_now(&bench, "db", "2").await;
        bench.says::<ConjurSecret>("db", "ConnectionNotReady").await;
        assert_eq!(version(&secret(&bench, "theirs").await), version(&before));
        bench.conjur.resume().await.unwrap();
        bench.holds("theirs", &[("a", &value), ("theirs", "x")]).await;
    });
}

/// An object that merges `key: variable` entries into a Secret.
pub fn merging(name: &str, into: &str, data: &[(&str, &str)]) -> serde_json::Value {
    let target = json!({ "name": into, "creationPolicy": "Merge", "deletionPolicy": "Retain" });
    project(name, data, &json!({ "target": target }))
}

/// The same, over a Bench.
pub async fn merge(bench: &Bench, name: &str, into: &str, data: &[(&str, &str)]) {
    put(bench, &merging(name, into, data)).await;
}

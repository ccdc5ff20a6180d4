//! Manifests as people have them (`tests/migrate/*.yaml` of the repository), each with what is to come of it beside it
//! (`*.expected.yaml`). `MIGRATE_WRITE=1` writes these anew; read the difference.

use std::{fs, path::PathBuf};

use conjur_operator_api::{ClusterConjurConnection, ConjurConnection, ConjurPush, ConjurSecret};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::*;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/migrate")
}

fn cases() -> Vec<(String, Vec<Value>)> {
    let files = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut names: Vec<_> = files.map(|path| name(&path)).collect();
    names.sort();
    names
        .into_iter()
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .filter(|name| !name.ends_with(".expected"))
        .map(|name| {
            let text = fs::read_to_string(directory().join(format!("{name}.yaml"))).unwrap();
            let objects =
                serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, objects)
        })
        .collect()
}

/// What came of it, as the expected files have it.
#[derive(Serialize)]
struct Told {
    objects: Vec<Value>,
    takeovers: Vec<Takeover>,
    notes: Vec<String>,
}

#[test]
fn manifests_become_what_is_expected() {
    let cases = cases();
    assert!(cases.len() >= 12);
    for (name, objects) in cases {
        let Migration { objects, notes, takeovers } = migrate(&objects, &Options::default());
        let told = Told { objects, takeovers, notes: notes.iter().map(ToString::to_string).collect() };
        let file = directory().join(format!("{name}.expected.yaml"));
        if std::env::var_os("MIGRATE_WRITE").is_some() {
            fs::write(&file, serde_saphyr::to_string(&told).unwrap()).unwrap();
        }
        let expected: Value = serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let told = serde_json::to_value(&told).unwrap();
        for part in ["objects", "takeovers", "notes"] {
            let (told, expected) = (told[part].as_array().unwrap(), expected[part].as_array().unwrap());
            for (n, (told, expected)) in told.iter().zip(expected).enumerate() {
                assert_eq!(told, expected, "{name}, {part}[{n}]");
            }
            assert_eq!(told.len(), expected.len(), "{name}, {part}");
        }
    }
}

fn reads_back<K: Serialize + DeserializeOwned>(object: &Value) {
    let typed: K = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{object}: {error}"));
    let mut back = serde_json::to_value(&typed).unwrap();
    if back["status"].is_null() {
        back.as_object_mut().unwrap().remove("status");
    }
    assert_eq!(&back, object);
}

#[test]
fn each_object_is_of_this_api() {
    for (_, objects) in cases() {
        for object in migrate(&objects, &Options::default()).objects {
            match object["kind"].as_str().unwrap() {
                "ConjurConnection" => reads_back::<ConjurConnection>(&object),
                "ClusterConjurConnection" => reads_back::<ClusterConjurConnection>(&object),
                "ConjurSecret" => reads_back::<ConjurSecret>(&object),
                "ConjurPush" => reads_back::<ConjurPush>(&object),
                kind => panic!("{kind}"),
            }
            satisfies_rules(&object);
        }
    }
}

/// Rules of the schema that types don't say.
fn satisfies_rules(object: &Value) {
    let spec = &object["spec"];
    let target = &spec["target"];
    if target["creationPolicy"] == "Merge" {
        assert!(target["deletionPolicy"] == "Retain" && target["immutable"] != true, "{object}");
    }
    for source in spec["dataFrom"].as_array().into_iter().flatten() {
        assert!(source["keyFrom"].is_null() || !source["find"].is_null(), "{object}");
        assert!(source["find"].is_null() || source["find"] != serde_json::json!({}), "{object}");
    }
    let mut keys: Vec<_> =
        spec["data"].as_array().into_iter().flatten().map(|entry| entry["key"].clone()).collect();
    if object["kind"] == "ConjurSecret" {
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count, "{object}");
        assert!(!spec["data"].is_null() || !spec["dataFrom"].is_null(), "{object}");
    }
    if object["kind"] == "ClusterConjurConnection" {
        for rule in spec["access"].as_array().unwrap() {
            let namespaces = &rule["namespaces"];
            assert!(!namespaces["names"].is_null() || !namespaces["selector"].is_null(), "{object}");
        }
    }
    let text = object.to_string();
    assert!(!text.contains("not-a-key") && !text.contains("hunter"), "{object}");
}

/// Whatever is there, or in the wrong form, is noted or translated, and breaks nothing.
#[test]
fn odd_objects_are_noted() {
    for kind in ["ExternalSecret", "SecretStore", "ClusterSecretStore", "PushSecret"] {
        for spec in [
            Value::Null,
            serde_json::json!("text"),
            serde_json::json!({}),
            serde_json::json!({ "data": [1, null, { "match": 1, "remoteRef": [] }], "provider": 1, "secretStoreRef": 5 }),
            serde_json::json!({ "secretStoreRef": { "name": "s" }, "dataFrom": [{}], "target": [] }),
        ] {
            let object = serde_json::json!({
                "apiVersion": "external-secrets.io/v1", "kind": kind, "metadata": { "name": "odd" }, "spec": spec,
            });
            let migration = migrate(std::slice::from_ref(&object), &Options::default());
            assert!(migration.objects.is_empty() && !migration.notes.is_empty(), "{object}: {migration:?}");
        }
    }
    let migration = migrate(
        &[Value::Null, serde_json::json!([1]), serde_json::json!({ "kind": "List" })],
        &Options::default(),
    );
    assert!(migration.objects.is_empty() && migration.notes.is_empty());
}

#[test]
fn an_unknown_field_is_noted_wherever_it_stands() {
    let store = serde_json::json!({
        "apiVersion": "external-secrets.io/v1", "kind": "SecretStore", "metadata": { "name": "s" },
        "spec": { "provider": { "conjur": {
            "url": "https://conjur.example.com",
            "auth": { "apikey": { "account": "a", "userRef": { "name": "n", "key": "k" }, "apiKeyRef": { "name": "n", "key": "k" } } },
        } } },
    });
    let secret = serde_json::json!({
        "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": { "name": "e" },
        "spec": {
            "secretStoreRef": { "name": "s" }, "target": { "template": { "data": { "a": "b" }, "metadata": { "labels": {} } } },
            "data": [{ "secretKey": "k", "remoteRef": { "key": "v" } }],
            "dataFrom": [{ "find": { "name": { "regexp": "^a/" } }, "rewrite": [{ "regexp": { "source": "^a/", "target": "" } }] }],
        },
    });
    for (n, pointer) in [
        (0, "/spec"),
        (0, "/spec/provider"),
        (0, "/spec/provider/conjur"),
        (0, "/spec/provider/conjur/auth"),
        (0, "/spec/provider/conjur/auth/apikey"),
        (0, "/spec/provider/conjur/auth/apikey/userRef"),
        (1, "/spec"),
        (1, "/spec/secretStoreRef"),
        (1, "/spec/target"),
        (1, "/spec/target/template"),
        (1, "/spec/target/template/metadata"),
        (1, "/spec/data/0"),
        (1, "/spec/data/0/remoteRef"),
        (1, "/spec/dataFrom/0"),
        (1, "/spec/dataFrom/0/find"),
        (1, "/spec/dataFrom/0/find/name"),
        (1, "/spec/dataFrom/0/rewrite/0"),
        (1, "/spec/dataFrom/0/rewrite/0/regexp"),
    ] {
        let mut objects = [store.clone(), secret.clone()];
        objects[n].pointer_mut(pointer).unwrap()["surprise"] = serde_json::json!(1);
        let migration = migrate(&objects, &Options::default());
        assert!(!migration.is_blocked(), "{migration:?}");
        let noted = migration.notes.iter().any(|note| note.field.ends_with(".surprise"));
        assert!(noted, "{pointer}: {:?}", migration.notes);
    }
}

#[test]
fn a_connection_by_hand_stands_in_for_what_can_t_be_translated() {
    let secret = serde_json::json!({
        "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": { "name": "e", "namespace": "n" },
        "spec": { "secretStoreRef": { "name": "s" }, "data": [{ "secretKey": "k", "remoteRef": { "key": "v" } }] },
    });
    assert!(migrate(std::slice::from_ref(&secret), &Options::default()).is_blocked());
    let connection = Some(Connection { name: "conjur".into(), cluster: true });
    let migration = migrate(&[secret], &Options { connection });
    let reference = &migration.objects[0]["spec"]["connectionRef"];
    assert_eq!(*reference, serde_json::json!({ "name": "conjur", "kind": "ClusterConjurConnection" }));
    let takeover = &migration.takeovers[0];
    assert_eq!(takeover.former_external_secret().map(|(_, name)| name), Some("e"));
    assert_eq!(takeover.expected_keys, Some(["k".to_owned()].into()));
}

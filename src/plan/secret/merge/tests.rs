use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::FieldsV1};
use serde_json::json;

use super::*;
use crate::{
    plan::secret::{Desired, tests::me},
    sensitive::Sensitive,
};

fn desired(data: &[(&str, &str)]) -> Desired {
    Desired {
        name: "theirs".into(),
        labels: BTreeMap::from([("team".into(), "pay".into())]),
        data: data.iter().map(|(k, v)| ((*k).to_owned(), Sensitive::new(v.as_bytes().to_vec()))).collect(),
        ..Desired::default()
    }
}

/// A Secret with `theirs: x` of someone, and `a: 1` that the operator merged.
fn merged(change: impl FnOnce(&mut Secret)) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let fields = json!({
        "f:metadata": { "f:labels": { "f:team": {}, "f:conjur-operator.io/managed": {} } },
        "f:data": { "f:a": {} },
    });
    let mut secret = Secret {
        metadata: ObjectMeta {
            labels: Some(BTreeMap::from([
                ("team".into(), "pay".into()),
                (MANAGED_LABEL.into(), "true".into()),
            ])),
            managed_fields: Some(vec![ManagedFieldsEntry {
                manager: Some("conjur-operator/db".into()),
                operation: Some("Apply".into()),
                fields_v1: Some(FieldsV1(fields)),
                ..ManagedFieldsEntry::default()
            }]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("theirs".into(), bytes("x")), ("a".into(), bytes("1"))])),
        ..Secret::default()
    };
    change(&mut secret);
    secret
}

fn decided(desired: &Desired, existing: &Secret) -> Result<MergeStep, Reason> {
    decide(desired, Some(existing), None, &me()).map_err(|f| f.reason)
}

#[test]
fn what_is_merged_already_is_unchanged_whatever_else_is_there() {
    assert_eq!(decided(&desired(&[("a", "1")]), &merged(|_| ())), Ok(MergeStep::Unchanged));
    let more = merged(|s| drop(s.data.as_mut().unwrap().insert("more".into(), ByteString(vec![1]))));
    assert_eq!(decided(&desired(&[("a", "1")]), &more), Ok(MergeStep::Unchanged));
}

#[test]
fn a_difference_in_what_is_ours_is_applied() {
    for (want, there, data_differs) in [
        (desired(&[("a", "2")]), merged(|_| ()), true),
        (desired(&[("a", "1"), ("b", "2")]), merged(|_| ()), true),
        // One that is asked for no longer.
        (desired(&[("b", "2")]), merged(|_| ()), true),
        // One that someone wrote over: his now, and a conflict if it is another value.
        (desired(&[("a", "1")]), merged(|s| s.metadata.managed_fields = None), true),
        (desired(&[("a", "1")]), merged(|s| drop(s.metadata.labels.as_mut().unwrap().remove("team"))), false),
        (
            Desired { annotations: BTreeMap::from([("x".into(), "y".into())]), ..desired(&[("a", "1")]) },
            merged(|_| ()),
            false,
        ),
    ] {
        assert_eq!(decided(&want, &there), Ok(MergeStep::Apply { data_differs }));
    }
}

#[test]
fn a_key_that_was_applied_as_string_data_is_anothers_though_the_api_server_knows_no_owner() {
    let applied = |fields: serde_json::Value| {
        merged(|s| {
            s.metadata.managed_fields = Some(vec![ManagedFieldsEntry {
                manager: Some("helm".into()),
                operation: Some("Apply".into()),
                fields_v1: Some(FieldsV1(fields)),
                ..ManagedFieldsEntry::default()
            }]);
        })
    };
    let unowned = applied(json!({ "f:stringData": { "f:a": {} } }));
    let failure = decide(&desired(&[("a", "hunter2")]), Some(&unowned), None, &me()).unwrap_err();
    assert_eq!(failure.reason, Reason::FieldConflict);
    assert!(failure.message.contains("helm set data.a") && !failure.message.contains("hunter2"), "{failure}");
    // The same value may be shared; over what has an owner the API server decides.
    let differs = Ok(MergeStep::Apply { data_differs: true });
    assert_eq!(decided(&desired(&[("a", "1")]), &unowned), differs);
    assert_eq!(decided(&desired(&[("a", "2")]), &applied(json!({ "f:data": { "f:a": {} } }))), differs);
}

#[test]
fn what_cannot_be_merged_into_is_refused() {
    let owned = |kind: &str, version: &str, uid: &str| json!([{ "apiVersion": version, "kind": kind, "name": "x", "uid": uid, "controller": true }]);
    let owners = |value: serde_json::Value| serde_json::from_value(value).unwrap();
    let ours = "conjur-operator.io/v1alpha1";
    for (there, expected) in [
        (merged(|s| s.immutable = Some(true)), Err(Reason::ForeignSecret)),
        (
            merged(|s| s.type_ = Some("kubernetes.io/service-account-token".into())),
            Err(Reason::ForeignSecret),
        ),
        (
            merged(|s| s.metadata.owner_references = owners(owned("ConjurSecret", ours, "uid-2"))),
            Err(Reason::ForeignSecret),
        ),
        (
            merged(|s| {
                s.metadata.annotations =
                    Some(BTreeMap::from([(OWNER_ANNOTATION.into(), "ConjurPolicy/roles".into())]));
            }),
            Err(Reason::ForeignSecret),
        ),
        (
            merged(|s| {
                s.metadata.deletion_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
            }),
            Err(Reason::TargetTerminating),
        ),
        // Another controller's, as of Helm or of an ingress, may be merged into.
        (
            merged(|s| s.metadata.owner_references = owners(owned("Other", "example.com/v1", "x"))),
            Ok(MergeStep::Unchanged),
        ),
        // It was the operator's alone.
        (
            merged(|s| s.metadata.owner_references = owners(owned("ConjurSecret", ours, "uid-1"))),
            Ok(MergeStep::GiveUp),
        ),
    ] {
        assert_eq!(decided(&desired(&[("a", "1")]), &there), expected, "{:?}", there.metadata);
    }
    let failure = decide(&desired(&[("a", "1")]), Some(&merged(|_| ())), Some("kubernetes.io/tls"), &me());
    let message = failure.unwrap_err().message;
    assert!(message.contains("Opaque") && message.contains("kubernetes.io/tls"), "{message}");
    let absent = decide(&desired(&[("a", "1")]), None, None, &me()).unwrap_err();
    assert_eq!(absent.reason, Reason::TargetNotFound);
}

#[test]
fn together_with_the_keys_of_others_it_must_fit() {
    let large =
        |s: &mut Secret| drop(s.data.as_mut().unwrap().insert("large".into(), ByteString(vec![0; 1 << 20])));
    let failure = decide(&desired(&[("a", "2")]), Some(&merged(large)), None, &me()).unwrap_err();
    assert_eq!(failure.reason, Reason::SecretTooLarge);
    assert!(failure.message.contains("the largest of this object: a (under 64 KiB)"), "{failure}");
}

#[test]
fn what_is_given_up_keeps_its_data_and_names_us_no_more() {
    let there = merged(|s| {
        s.metadata.owner_references = serde_json::from_value(json!([
            { "apiVersion": "conjur-operator.io/v1alpha1", "kind": "ConjurSecret", "name": "db", "uid": "uid-1", "controller": true }
        ]))
        .unwrap();
        s.metadata.labels.as_mut().unwrap().insert(MANAGED_BY_LABEL.into(), MANAGER.into());
        s.metadata.annotations = Some(BTreeMap::from([(OWNER_ANNOTATION.into(), "ConjurSecret/db".into())]));
    });
    let left = given_up(&there, &me());
    assert_eq!(left.data, there.data);
    assert!(!is_written_for(&left.metadata, &me()));
    assert!(!left.metadata.labels.as_ref().unwrap().contains_key(MANAGED_BY_LABEL));
}

#[test]
fn each_object_has_a_manager_of_its_own_that_the_api_server_takes() {
    assert_eq!(manager(&me()), "conjur-operator/db");
    let long = |end: &str| manager(&Owner { name: "a".repeat(240) + end, ..me() });
    assert_eq!(long("x").len(), 128);
    assert_ne!(long("x"), long("y"));
}
